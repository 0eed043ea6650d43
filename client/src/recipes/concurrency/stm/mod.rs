//! Software transactional memory: transactions that are code.

mod error;
mod isolation;
mod state;
mod txn;

use std::{fmt, time::Duration};

use bytes::Bytes;
use etcd_watch_core::IntoBytes;

use crate::{
    CallError, Client,
    toolkit::{Pace, RuntimeGone, pause},
};

pub use error::StmError;
pub use isolation::Isolation;
pub use txn::StmTxn;

use state::{Flaw, State};

/// Between attempts. After a conflict somebody has come further, so the first may follow at once.
const PACE: Pace = Pace::new(Duration::ZERO, Duration::from_millis(10), Duration::from_secs(1));

/// Runs transactions that are code: a closure reads keys, decides, and says what to write; all of it is committed at
/// once, or the closure is run again, because another client has changed what it read. That is software transactional
/// memory, as in Go's `clientv3/concurrency`, with the same [levels of isolation](Isolation).
///
/// ```no_run
/// use etcd_watch_client::{BoxError, Client, concurrency::{Stm, StmTxn}};
///
/// async fn transfer(client: &Client, from: &str, to: &str, amount: u64) -> Result<(), BoxError> {
///     Stm::new(client)
///         .run(async |txn: StmTxn| {
///             let mut balances = [0; 2];
///             for (balance, key) in balances.iter_mut().zip([from, to]) {
///                 let value = txn.get(key).await?.unwrap_or_else(|| "0".into());
///                 *balance = std::str::from_utf8(&value)?.parse::<u64>()?;
///             }
///             let left = balances[0].checked_sub(amount).ok_or("there is not enough")?;
///             txn.put(from, left.to_string());
///             txn.put(to, (balances[1] + amount).to_string());
///             Ok::<_, BoxError>(())
///         })
///         .await?;
///     Ok(())
/// }
/// ```
///
/// # The closure
/// It is run once for each attempt, so it must do nothing but read and write by its [`StmTxn`]: other effects would take
/// place again with each attempt, or without a commit. What it uses of its surroundings it borrows and does not change.
/// If it returns an error the transaction is [aborted](StmError::Aborted). A transaction must fit into one of etcd's: at
/// most 128 keys that are read or written in all with [`Isolation::SerializableSnapshot`], with the other levels 128 that are
/// read and 128 that are written, unless the servers' `--max-txn-ops` says otherwise.
///
/// # Conflicts
/// After a conflict, what the attempt had read has been read again with the answer, and the closure runs again after a
/// pause that grows with each conflict. With the default limits that goes on for 30 s, then it is
/// [`StmError::Contended`].
///
/// # When the answer is lost
/// A commit whose answer was lost is not made again: [`StmError::MaybeCommitted`]. It would find what it read changed,
/// perhaps by its own first try, and then take place twice. Only who wrote it can tell, so write something that no other
/// transaction does, such as a random number in one of the values or under a key of its own. If that is found in the
/// store, the transaction was committed. If it is not found it may still come, for a few seconds: a server may execute a
/// request after its client has given it up. A transaction that only reads is not concerned.
///
/// Dropping the future of [`run`](Self::run) gives the transaction up; while it was being committed, it may be committed
/// all the same.
#[derive(Clone)]
#[must_use = "it does nothing unless a transaction is run"]
pub struct Stm {
    client: Client,
    isolation: Isolation,
    prefetch: Vec<Bytes>,
    max_attempts: u32,
    time_limit: Duration,
}

impl Stm {
    /// With every option at its default.
    pub fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            isolation: Isolation::default(),
            prefetch: Vec::new(),
            max_attempts: u32::MAX,
            time_limit: Duration::from_secs(30),
        }
    }

    /// How far transactions are kept apart. Default: [`Isolation::SerializableSnapshot`].
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Reads these keys with one request before each attempt, rather than each when it is asked for. Default: none.
    pub fn prefetch(mut self, keys: impl IntoIterator<Item = impl IntoBytes>) -> Self {
        self.prefetch = keys.into_iter().map(IntoBytes::into_bytes).collect();
        self
    }

    /// How often a transaction is tried; 0 counts as 1. Default: as often as there is time for.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// For how long a transaction is tried: no attempt begins after that. Default: 30 s.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Runs a transaction until it is committed, and returns what the closure returned when it was.
    ///
    /// # Errors
    /// The closure's own, too many conflicts, a commit that failed or whose answer was lost: see [`StmError`].
    pub async fn run<T, E, F>(
        &self,
        mut transaction: impl FnMut(StmTxn) -> F,
    ) -> Result<Committed<T>, StmError<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let runtime = self.client.runtime();
        let began = runtime.now();
        let mut backoff = self.client.backoff(PACE);
        let mut state = State::new(self.isolation);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let txn = StmTxn::new(&self.client, self.isolation, state);
            state = match self.attempt(txn, &mut transaction).await? {
                Attempt::Committed { value, revision } => return Ok(Committed { value, revision, attempts }),
                Attempt::Failed { next } => next,
            };
            tracing::debug!(name: "stm_conflicted", isolation = ?self.isolation, attempts, "a transaction conflicted with another");
            let (after, next_pause) = (runtime.now().since(began), backoff.next_pause());
            if attempts >= self.max_attempts || after.saturating_add(next_pause) >= self.time_limit {
                return Err(StmError::Contended { attempts, after });
            }
            pause(runtime, next_pause)
                .await
                .map_err(|RuntimeGone| StmError::Call(CallError::RuntimeGone { method: "Txn" }))?;
        }
    }

    async fn attempt<T, E, F>(
        &self,
        txn: StmTxn,
        transaction: &mut impl FnMut(StmTxn) -> F,
    ) -> Result<Attempt<T>, StmError<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let result = match txn.prefetch(&self.prefetch).await {
            Ok(()) => transaction(txn.share()).await.map_err(StmError::Aborted),
            Err(error) => Err(StmError::Call(error)),
        };
        let state = txn.finish();
        // Whatever the closure has made of it.
        match state.flaw() {
            Some(Flaw::Compacted) => return Ok(Attempt::Failed { next: State::new(self.isolation) }),
            Some(Flaw::NoRevision) => return Err(StmError::NoRevision),
            None => {}
        }
        let value = result?;
        match self.client.txn(state.request()).await {
            Ok(response) if response.succeeded() => {
                Ok(Attempt::Committed { value, revision: response.revision() })
            }
            Ok(refusal) => Ok(Attempt::Failed { next: state.after_conflict(refusal) }),
            Err(error) if error.may_have_executed() && state.has_writes() => {
                Err(StmError::MaybeCommitted(error))
            }
            Err(error) => Err(StmError::Call(error)),
        }
    }
}

/// What came of an attempt.
enum Attempt<T> {
    Committed { value: T, revision: i64 },
    Failed { next: State },
}

impl fmt::Debug for Stm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stm")
            .field("isolation", &self.isolation)
            .field("prefetch", &self.prefetch)
            .field("max_attempts", &self.max_attempts)
            .field("time_limit", &self.time_limit)
            .finish_non_exhaustive()
    }
}

/// A transaction that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed<T> {
    value: T,
    revision: i64,
    attempts: u32,
}

impl<T> Committed<T> {
    /// What the closure returned.
    #[must_use]
    pub fn value(&self) -> &T {
        &self.value
    }

    /// What the closure returned, by value.
    #[must_use]
    pub fn into_value(self) -> T {
        self.value
    }

    /// The store's revision when it was committed: the revision of its writes, if it wrote anything.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// How many attempts it took.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BoxError, ClientBuilder, testing::NoNetwork};

    #[test]
    fn a_transaction_can_be_run_on_a_task_of_its_own() {
        fn spawned(_: impl Future<Output = ()> + Send + 'static) {}
        let client = ClientBuilder::on(NoNetwork).endpoints(["http://127.0.0.1:1"]).connect_lazy();
        let stm = Stm::new(&client.expect("valid settings")).prefetch(["a"]);
        let key = "a".to_owned();
        let other = stm.clone();
        spawned(async move {
            let key = &key;
            let copied = stm.run(|txn| async move {
                let value = txn.get(key).await?.unwrap_or_default();
                txn.put("b", value);
                Ok::<_, BoxError>(())
            });
            drop(copied.await);
        });
        spawned(async move {
            let key = "a".to_owned();
            let deleted = other.run(async |txn: StmTxn| {
                txn.delete(&key);
                txn.mod_revision(&key).await
            });
            drop(deleted.await);
        });
    }
}

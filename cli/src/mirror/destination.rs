//! The etcd that is written to.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use etcd_watch_tokio::{
    CallError, Client, Code, Compare, Delete, Get, Header, KeyRange, OwnedKeyValue, Put, Refusal, Txn,
    TxnResponse, TxnResult,
};
use tokio::time::sleep;

use super::{batch::Changes, checkpoint::Checkpoint, mapping::behind};
use crate::{
    errors::{self, Flags},
    log,
};

/// Pauses between attempts, while the destination can't be reached.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often to try to get in between two transactions of another mirror before it is interrupted.
const POLITE_ATTEMPTS: u32 = 3;

/// How often to try it in all.
const ATTEMPTS: u32 = 20;

const CANT_WRITE: &str = "can't write to the destination";

/// How many keys to list at once.
const PAGE_KEYS: i64 = 1000;

/// The destination, as long as this mirror is the one that writes there.
///
/// Every transaction has the condition that the checkpoint is the one that this mirror wrote last. That keeps
/// apart mirrors that run at the same time, the leftovers of one that was killed, and repeated attempts at a
/// transaction whose answer was lost: only one can be executed, and the checkpoint tells which.
pub(super) struct Destination {
    client: Client,
    key: Bytes,
    /// The checkpoint, as it was written last.
    checkpoint: Checkpoint,
    /// The revision that the checkpoint has at the destination.
    mod_revision: i64,
    /// The revision there that created it: keys older than that were not written by this mirror.
    create_revision: i64,
    max_ops: usize,
    pub(super) transactions: u64,
}

/// A transaction that is not to be tried again as it is.
pub(super) enum Refused {
    /// It is too large for the server.
    TooLarge(CallError),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<Refused> for anyhow::Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooLarge(error) => {
                failed(&error, "too large for the destination: raise its --max-request-bytes and start again")
            }
            Refused::Other(error) => error,
        }
    }
}

impl Destination {
    /// Takes the destination over from whoever wrote there before. `begin` makes the checkpoint to go on from
    /// of the one that is there, or says what is wrong with it; it is also told the destination's cluster id.
    pub(super) async fn take_over(
        client: Client,
        key: Bytes,
        max_ops: usize,
        begin: impl AsyncFn(Option<Checkpoint>, u64) -> anyhow::Result<Checkpoint>,
    ) -> anyhow::Result<Self> {
        let writer = format!("{:016x}", fastrand::u64(..));
        for attempt in 0..ATTEMPTS {
            let found = retried(|| client.get(Get::key(key.clone()))).await;
            let found = found.map_err(|error| failed(&error, "can't read the destination"))?;
            let cluster_id = found.header().cluster_id;
            let before = found.first();
            let checkpoint = begin(before.map(decoded).transpose()?, cluster_id).await?;
            let checkpoint = Checkpoint { writer: writer.clone(), sequence: 0, ..checkpoint };
            let mut destination = Self {
                client: client.clone(),
                key: key.clone(),
                checkpoint: checkpoint.clone(),
                mod_revision: before.map_or(0, |kv| kv.mod_revision),
                create_revision: before.map_or(0, |kv| kv.create_revision),
                max_ops,
                transactions: 0,
            };
            if attempt == POLITE_ATTEMPTS {
                destination.interrupt().await?;
                continue;
            }
            // If another writer's transaction came in between, again.
            if let Outcome::Done = destination.transact(&Changes::default(), checkpoint).await? {
                return Ok(destination);
            }
        }
        bail!("the destination can't be taken over: other mirrors write there all the time")
    }

    /// Puts the checkpoint, whatever it is now: whoever writes all the time has no other pause to use. How far
    /// that had come is not known then, so it says that the keys are to be listed.
    async fn interrupt(&self) -> anyhow::Result<()> {
        let checkpoint = Checkpoint { is_exact: false, ..self.checkpoint.clone() };
        let put = Put::new(self.key.clone(), checkpoint.encode());
        let put = retried(|| self.client.put_with(put.clone())).await;
        put.map(drop).map_err(|error| failed(&error, CANT_WRITE))
    }

    /// Deletes the checkpoint if this mirror has only just created it, so that it is in nobody's way.
    pub(super) async fn withdraw(&self) {
        if self.create_revision != self.mod_revision {
            return;
        }
        let txn = Txn::new()
            .when(Compare::mod_revision(self.key.clone()).equals(self.mod_revision))
            .and_then(Delete::key(self.key.clone()));
        // If it stays, whoever is in its way is told its name.
        let _ = self.client.txn(txn).await;
    }

    pub(super) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    pub(super) fn checkpoint_key(&self) -> &Bytes {
        &self.key
    }

    /// Whether this mirror, or one before it with this checkpoint, may have written the key.
    pub(super) fn may_have_written(&self, kv: &OwnedKeyValue) -> bool {
        kv.mod_revision >= self.create_revision
    }

    /// How many changes fit into a transaction beside the checkpoint.
    pub(super) fn changes_per_transaction(&self) -> usize {
        self.max_ops - 1
    }

    /// Makes changes in one transaction, and moves the checkpoint with them. Goes on until it is known to have
    /// been executed; dropping the future leaves that open.
    pub(super) async fn write(
        &mut self,
        changes: &Changes,
        revision: i64,
        is_exact: bool,
    ) -> Result<(), Refused> {
        let sequence = self.checkpoint.sequence + 1;
        let checkpoint = Checkpoint { revision, is_exact, sequence, ..self.checkpoint.clone() };
        match self.transact(changes, checkpoint).await? {
            Outcome::Done => {
                self.transactions += 1;
                Ok(())
            }
            Outcome::Superseded(by) => {
                let by = by.map_or_else(|| "was deleted".to_owned(), |by| format!("is now {}'s", by.writer));
                let key = self.key.escape_ascii();
                let error = anyhow!(
                    "the checkpoint {key} {by}: another mirror writes here; let one run, or give each its own \
                     keys and --checkpoint"
                );
                Err(error.into())
            }
        }
    }

    async fn transact(&mut self, changes: &Changes, checkpoint: Checkpoint) -> Result<Outcome, Refused> {
        let txn = Txn::new()
            .when(Compare::mod_revision(self.key.clone()).equals(self.mod_revision))
            .and_then(Put::new(self.key.clone(), checkpoint.encode()))
            .or_else(Get::key(self.key.clone()));
        let txn = changes.add_to(txn, self.max_ops);
        let response = match retried(|| self.client.txn(txn.clone())).await {
            Ok(response) => response,
            Err(error) if is_too_large(&error) => return Err(Refused::TooLarge(error)),
            Err(error @ CallError::Refused { .. }) if error.to_string().contains("too many operations") => {
                let what = "a transaction is too long for the destination: lower --max-txn-ops";
                return Err(failed(&error, what).into());
            }
            Err(error) => return Err(failed(&error, CANT_WRITE).into()),
        };
        let (mod_revision, create_revision) = if response.succeeded() {
            (revision(response.header())?, None)
        } else {
            let found = found(response);
            let known = found.as_ref().and_then(|kv| Checkpoint::decode(&kv.value).ok());
            match (found, known) {
                // An earlier attempt had been executed after all.
                (Some(kv), Some(known)) if known.is_of(&checkpoint.writer, checkpoint.sequence) => {
                    (kv.mod_revision, Some(kv.create_revision))
                }
                (_, known) => return Ok(Outcome::Superseded(known)),
            }
        };
        if self.create_revision == 0 {
            self.create_revision = create_revision.unwrap_or(mod_revision);
        }
        self.mod_revision = mod_revision;
        self.checkpoint = checkpoint;
        Ok(Outcome::Done)
    }

    /// The pairs of a range, without the checkpoint.
    pub(super) async fn list(&self, range: KeyRange) -> anyhow::Result<Vec<OwnedKeyValue>> {
        let mut rest = range;
        let mut limit = PAGE_KEYS;
        let mut pairs = Vec::new();
        loop {
            let page = match retried(|| self.client.get(Get::new(rest.clone()).limit(limit))).await {
                Ok(page) => page,
                Err(error) if is_too_large(&error) && limit > 1 => {
                    limit /= 2;
                    continue;
                }
                Err(error) => return Err(failed(&error, "can't list keys at the destination")),
            };
            let more = page.has_more();
            let kvs = page.into_kvs();
            let last = kvs.last().map(|kv| behind(&kv.key));
            pairs.extend(kvs.into_iter().filter(|kv| kv.key != self.key));
            let (true, Some(next)) = (more, last) else { return Ok(pairs) };
            rest = match &rest.end()[..] {
                b"\0" => KeyRange::from_key(next),
                end => KeyRange::range(next, Bytes::copy_from_slice(end))?,
            };
        }
    }
}

enum Outcome {
    Done,
    /// The checkpoint is another's, or is no more.
    Superseded(Option<Checkpoint>),
}

fn decoded(kv: &OwnedKeyValue) -> anyhow::Result<Checkpoint> {
    let what = || format!("key {} at the destination is no checkpoint", kv.key.escape_ascii());
    Checkpoint::decode(&kv.value).with_context(what)
}

fn revision(header: Header) -> anyhow::Result<i64> {
    match header.revision {
        0 => bail!("the destination's answers have no header: use an endpoint that is etcd itself"),
        revision => Ok(revision),
    }
}

fn found(response: TxnResponse) -> Option<OwnedKeyValue> {
    match response.into_results().into_iter().next()? {
        TxnResult::Get(found) => found.into_first(),
        _ => None,
    }
}

fn is_too_large(error: &CallError) -> bool {
    match error {
        CallError::ResponseTooLarge { .. } => true,
        // By etcd's own limit, and by that of its gRPC, which has the same code as a full disk.
        CallError::Refused { code, message, .. } => {
            error.refusal() == Some(Refusal::RequestTooLarge)
                || (*code == Code::ResourceExhausted && message.contains("larger than max"))
        }
        _ => false,
    }
}

fn failed(error: &CallError, what: &'static str) -> anyhow::Error {
    anyhow!(errors::call(error, Flags::Destination)).context(what)
}

/// Makes a call until it is answered. Only for calls that may be executed twice.
async fn retried<T, F: Future<Output = Result<T, CallError>>>(
    mut call: impl FnMut() -> F,
) -> Result<T, CallError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match call().await {
            Err(error) if error.is_transient() => error,
            result => return result,
        };
        if pause == FIRST_PAUSE {
            let error = errors::call(&error, Flags::Destination);
            log::warning(format_args!("the destination: {error}; trying again"));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_failure_that_a_call_says_may_pass_is_waited_out() {
        let refused = |code, message: &str| {
            Err(CallError::Refused { method: "Txn", code, message: message.to_owned() })
        };
        let mut answers = vec![
            refused(Code::PermissionDenied, "etcdserver: permission denied"),
            refused(Code::Unknown, "etcdserver: too many requests"),
            Ok(7),
            refused(Code::FailedPrecondition, "etcdserver: rpc not supported for learner"),
        ];
        let mut next = || std::future::ready(answers.pop().expect("there is another"));
        assert_eq!(retried(&mut next).await, Ok(7));
        assert!(matches!(
            retried(&mut next).await,
            Err(CallError::Refused { code: Code::PermissionDenied, .. })
        ));
    }
}

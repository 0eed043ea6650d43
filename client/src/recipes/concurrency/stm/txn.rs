//! What the closure of a transaction works with.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use etcd_watch_core::{IntoBytes, OwnedKeyValue, Refusal};

use super::{
    isolation::Isolation,
    state::{How, State},
};
use crate::{CallError, Client, Get, Txn, TxnResponse, toolkit::lock};

/// How many keys are read with one request: servers take 128 operations in a transaction, unless they were set to take
/// fewer or more (`--max-txn-ops`).
const KEYS_PER_READ: usize = 128;

/// One attempt at a transaction: what the closure of [`Stm::run`](super::Stm::run) is given.
///
/// Its reads see its own writes. What it writes is kept here until it is committed, all at once; when the closure has
/// returned, it is too late for more. Keys may be read at the same time.
pub struct StmTxn(Arc<Shared>);

struct Shared {
    client: Client,
    isolation: Isolation,
    state: Mutex<State>,
}

impl StmTxn {
    pub(super) fn new(client: &Client, isolation: Isolation, state: State) -> Self {
        Self(Arc::new(Shared { client: client.clone(), isolation, state: Mutex::new(state) }))
    }

    /// For the closure, while [`Stm::run`](super::Stm::run) keeps the other.
    pub(super) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// What the attempt has come to. What the closure has left behind of it is of no consequence any more.
    pub(super) fn finish(self) -> State {
        mem::replace(&mut *self.state(), State::new(self.0.isolation))
    }

    /// The value of a key; `None` if it doesn't exist.
    ///
    /// # Errors
    /// The empty key, the server's refusal, or no answer in time.
    pub async fn get(&self, key: impl IntoBytes) -> Result<Option<Bytes>, CallError> {
        let key = key.into_bytes();
        let written = self.state().written(&key);
        match written {
            Some(value) => Ok(value),
            None => Ok(self.read(key).await?.map(|kv| kv.value)),
        }
    }

    /// The revision of a key's last change, as the transaction has read it, whatever it writes itself; 0 if the key
    /// doesn't exist. It is a read of the key. (`clientv3` has it as `Rev`.)
    ///
    /// # Errors
    /// The empty key, the server's refusal, or no answer in time.
    pub async fn mod_revision(&self, key: impl IntoBytes) -> Result<i64, CallError> {
        Ok(self.read(key.into_bytes()).await?.map_or(0, |kv| kv.mod_revision))
    }

    /// Reads keys with one request, or with one for each 128 of them, for [`get`](Self::get) to find them. A key counts
    /// as read only once `get` has asked for it.
    ///
    /// # Errors
    /// The empty key, the server's refusal, or no answer in time.
    pub async fn prefetch(&self, keys: impl IntoIterator<Item = impl IntoBytes>) -> Result<(), CallError> {
        let mut keys: Vec<Bytes> = keys.into_iter().map(IntoBytes::into_bytes).collect();
        keys.sort_unstable();
        keys.dedup();
        {
            let state = self.state();
            keys.retain(|key| !state.is_known(key));
        }
        for keys in keys.chunks(KEYS_PER_READ) {
            self.fetch(keys).await?;
        }
        Ok(())
    }

    /// Writes a key when the transaction is committed. A lease the key hung on is taken off.
    pub fn put(&self, key: impl IntoBytes, value: impl IntoBytes) {
        self.put_with_lease(key, value, 0);
    }

    /// Writes a key when the transaction is committed, and hangs it on a lease; 0 for none.
    pub fn put_with_lease(&self, key: impl IntoBytes, value: impl IntoBytes, lease: i64) {
        let (key, value) = (key.into_bytes(), value.into_bytes());
        self.state().put(key, value, lease);
    }

    /// Deletes a key when the transaction is committed.
    pub fn delete(&self, key: impl IntoBytes) {
        let key = key.into_bytes();
        self.state().delete(key);
    }

    async fn read(&self, key: Bytes) -> Result<Option<OwnedKeyValue>, CallError> {
        loop {
            let found = self.state().read(&key);
            match found {
                Some(found) => return Ok(found),
                None => self.fetch(std::slice::from_ref(&key)).await?,
            }
        }
    }

    /// Reads keys into what is prefetched.
    async fn fetch(&self, keys: &[Bytes]) -> Result<(), CallError> {
        loop {
            let how = self.state().how();
            let response = match self.ask(keys, how).await {
                Err(error) if how.serializable && error.refusal() == Some(Refusal::FutureRevision) => {
                    self.ask(keys, How { serializable: false, ..how }).await
                }
                result => result,
            };
            let response = response.inspect_err(|error| {
                if how.revision > 0 && error.refusal() == Some(Refusal::Compacted) {
                    self.state().compacted();
                }
            })?;
            if self.state().take_in(keys.to_vec(), how, response) {
                return Ok(());
            }
        }
    }

    async fn ask(&self, keys: &[Bytes], how: How) -> Result<TxnResponse, CallError> {
        let How { revision, serializable } = how;
        let get = |key: &Bytes| Get::key(key).revision(revision).serializable(serializable);
        let txn = keys.iter().map(get).fold(Txn::new(), Txn::and_then);
        self.0.client.txn(txn).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }
}

impl fmt::Debug for StmTxn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StmTxn").field("isolation", &self.0.isolation).finish_non_exhaustive()
    }
}

//! The client's calls for keys, transactions among them.

use etcd_watch_core::{Header, IntoBytes};

use crate::{
    CallError, Client, Compact, Conditional, Delete, DeleteResponse, Get, GetResponse, Put, PutResponse, Txn,
    TxnResponse,
    calls::conditional::{delete_if, put_if},
    transport::wire::header,
};

/// Every call is tried on one endpoint after the other until the builder's `request_timeout` is over, or the
/// [view](Client::with_options)'s; a write only while it surely was not executed, else it ends with [`CallError::MaybeExecuted`]. Dropping
/// a call's future gives it up; a write may then still be executed.
impl Client {
    /// Reads one key or a range: `client.get("name")`, `client.get(KeyRange::prefix("names/"))`, or with options
    /// `client.get(Get::prefix("names/").limit(10))`.
    ///
    /// # Errors
    /// The empty key, an invalid option, the server's refusal (a compacted revision, say), or no answer in time.
    pub async fn get(&self, get: impl Into<Get>) -> Result<GetResponse, CallError> {
        Ok(self.call(get.into().into_request("Range")?).await?.into())
    }

    /// Writes a key; with options: [`put_with`](Self::put_with).
    ///
    /// # Errors
    /// The empty key, the server's refusal, or an answer that didn't come.
    pub async fn put(&self, key: impl IntoBytes, value: impl IntoBytes) -> Result<PutResponse, CallError> {
        self.put_with(Put::new(key, value)).await
    }

    /// Writes a key, with options: `client.put_with(Put::new("name", "anna").lease(id))`.
    ///
    /// # Errors
    /// The empty key, an invalid option, the server's refusal, or an answer that didn't come.
    pub async fn put_with(&self, put: Put) -> Result<PutResponse, CallError> {
        Ok(self.call(put.into_request("Put")?).await?.into())
    }

    /// Deletes one key or a range: `client.delete("name")`, or with options
    /// `client.delete(Delete::key("name").prev_kv(true))`.
    ///
    /// # Errors
    /// The empty key, the server's refusal, or an answer that didn't come.
    pub async fn delete(&self, delete: impl Into<Delete>) -> Result<DeleteResponse, CallError> {
        Ok(self.call(delete.into().into_request("DeleteRange")?).await?.into())
    }

    /// Deletes every key with the prefix. The empty prefix is every key.
    ///
    /// # Errors
    /// The server's refusal, or an answer that didn't come.
    pub async fn delete_prefix(&self, prefix: impl IntoBytes) -> Result<DeleteResponse, CallError> {
        self.delete(Delete::prefix(prefix)).await
    }

    /// Throws away what was before a revision, `client.compact(revision)`: it can't be read or watched any more.
    ///
    /// # Errors
    /// A revision below 0, the server's refusal (compacted already, or in the future), or an answer that
    /// didn't come.
    pub async fn compact(&self, compact: impl Into<Compact>) -> Result<Header, CallError> {
        Ok(header(self.calls().call(compact.into().into_request()?).await?.header))
    }

    /// Runs a transaction. One that only reads is retried like a read. etcd answers one from the member's own store, which
    /// may lag, if all of its steps are serializable reads, and so also if it has no steps and only compares: give that one
    /// a linearizable read as a step.
    ///
    /// # Errors
    /// An empty key or an invalid option in it, the server's refusal, or an answer that didn't come.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResponse, CallError> {
        Ok(self.call(txn.into_request()?).await?.into())
    }
}

/// Writes of one key under a condition on it. Each is one transaction, and reads the key where the condition doesn't hold:
/// the user must be allowed to read and to write it.
///
/// # When the answer is lost
/// [`CallError::MaybeExecuted`] says that the write may or may not have been executed, and it may yet be: a server may
/// execute a request some seconds after its client has given it up. Read the key:
/// - If it has a value or a lease that only this call can have put, the write was executed. So give the value something
///   of this attempt alone, such as a random number, or hang the key on a lease of your own.
/// - For `update_if` and `delete_if`, make the same call again, with the same `mod_revision`: no two changes of a key have
///   the same one, so at most one of the calls is executed. `Done` means that the first was not, nor will be.
///   `Conflict` means that the first was executed or another client came before it: the pair that was found tells which.
/// - `create` may be made again in the same way, unless the key may be deleted in between: then both may be executed.
impl Client {
    /// Creates a key, unless it exists.
    ///
    /// ```no_run
    /// use etcd_watch_client::{Client, Conditional};
    ///
    /// # async fn program(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// match client.create("jobs/7/owner", "anna").await? {
    ///     Conditional::Done(put) => println!("it is ours since revision {}", put.revision()),
    ///     Conditional::Conflict(conflict) => println!("it is there: {:?}", conflict.found()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The empty key, the server's refusal, or an answer that didn't come.
    pub async fn create(
        &self,
        key: impl IntoBytes,
        value: impl IntoBytes,
    ) -> Result<Conditional<PutResponse>, CallError> {
        self.create_with(Put::new(key, value)).await
    }

    /// Creates a key, unless it exists, with options: `client.create_with(Put::new("name", "anna").lease(id))`.
    ///
    /// # Errors
    /// The empty key, an invalid option, the server's refusal, or an answer that didn't come.
    pub async fn create_with(&self, put: Put) -> Result<Conditional<PutResponse>, CallError> {
        Ok(Conditional::of_put(self.txn(put_if("create", put, 0)?).await?))
    }

    /// Gives a key another value, if it was last changed at `mod_revision`: if nobody else has changed it since it was
    /// read. 0 stands for a key that doesn't exist, which is then created. A lease the key hung on is taken off.
    ///
    /// ```no_run
    /// # use etcd_watch_client::Client;
    /// # async fn program(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut seen = client.get("motto").await?.into_first();
    /// loop {
    ///     let (old, mod_revision) = seen.map_or_else(Default::default, |kv| (kv.value, kv.mod_revision));
    ///     let new = [&old[..], b"!"].concat();
    ///     match client.update_if("motto", new, mod_revision).await?.conflict() {
    ///         None => break,
    ///         Some(conflict) => seen = conflict.into_found(),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The empty key, a revision below 0, the server's refusal, or an answer that didn't come.
    pub async fn update_if(
        &self,
        key: impl IntoBytes,
        value: impl IntoBytes,
        mod_revision: i64,
    ) -> Result<Conditional<PutResponse>, CallError> {
        self.update_if_with(Put::new(key, value), mod_revision).await
    }

    /// Puts a key with options, if it was last changed at `mod_revision`; 0 stands for a key that doesn't exist.
    ///
    /// # Errors
    /// The empty key, an invalid option, a revision below 0, the server's refusal, or an answer that didn't come.
    pub async fn update_if_with(
        &self,
        put: Put,
        mod_revision: i64,
    ) -> Result<Conditional<PutResponse>, CallError> {
        Ok(Conditional::of_put(self.txn(put_if("update_if", put, mod_revision)?).await?))
    }

    /// Deletes a key, if it was last changed at `mod_revision`.
    ///
    /// # Errors
    /// The empty key, a revision below 1 (no key has it), the server's refusal, or an answer that didn't come.
    pub async fn delete_if(
        &self,
        key: impl IntoBytes,
        mod_revision: i64,
    ) -> Result<Conditional<DeleteResponse>, CallError> {
        let txn = delete_if("delete_if", Delete::key(key).prev_kv(true), mod_revision)?;
        Ok(Conditional::of_delete(self.txn(txn).await?))
    }
}

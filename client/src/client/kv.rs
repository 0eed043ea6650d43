//! The client's calls for keys, transactions among them.

use etcd_watch_core::{Header, IntoBytes};

use crate::{
    CallError, Client, Compact, Delete, DeleteResponse, Get, GetResponse, Put, PutResponse, Txn, TxnResponse,
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

    /// Runs a transaction. One that only reads is retried like a read.
    ///
    /// # Errors
    /// An empty key or an invalid option in it, the server's refusal, or an answer that didn't come.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResponse, CallError> {
        Ok(self.call(txn.into_request()?).await?.into())
    }
}

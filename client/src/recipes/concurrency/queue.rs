//! The queue that the keys under a name are: entering it, looking ahead in it, leaving it. Transactions are those
//! of Go's `clientv3/concurrency`.

use bytes::Bytes;
use etcd_watch_core::{EventKind, Filters, KeyRange, OwnedKeyValue, WatchRequest};

use super::{
    ContendError,
    error::{can_start_over, not_watched},
    patience::{backoff, persist, start_over},
};
use crate::{CallError, Client, Compare, Delete, Get, Put, SortBy, SortOrder, Txn, TxnResult};

/// A contender's key, from its creation to its deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) key: Bytes,
    pub(super) create_revision: i64,
}

impl Claim {
    /// The condition that the key is there, and is this one.
    pub(super) fn exists(&self) -> Compare {
        Compare::create_revision(self.key.clone()).equals(self.create_revision)
    }

    fn is(&self, kv: &OwnedKeyValue) -> bool {
        self.key == kv.key && self.create_revision == kv.create_revision
    }
}

impl From<OwnedKeyValue> for Claim {
    fn from(kv: OwnedKeyValue) -> Self {
        Self { key: kv.key, create_revision: kv.create_revision }
    }
}

/// What came of entering a queue.
#[derive(Clone, Debug)]
pub(super) struct Entered {
    pub(super) claim: Claim,
    /// The store's revision then.
    pub(super) revision: i64,
    /// Whether it is the owner already.
    pub(super) is_first: bool,
    /// The value that the key had already.
    pub(super) found: Option<Bytes>,
}

/// Where a claim is in its queue.
#[derive(Debug)]
pub(super) enum Standing {
    First,
    Behind {
        next: Claim,
        /// The revision this was so at.
        at: i64,
    },
    Gone,
}

/// Enters the queue, or finds the key there already: doing it twice is doing it once.
pub(super) async fn enter(
    client: &Client,
    prefix: &Bytes,
    key: &Bytes,
    lease: i64,
    value: &Bytes,
) -> Result<Entered, CallError> {
    let first = || Get::prefix(prefix.clone()).sort(SortBy::CreateRevision, SortOrder::Ascending).limit(1);
    let txn = Txn::new()
        .when(Compare::missing(key.clone()))
        .and_then(Put::new(key.clone(), value.clone()).lease(lease))
        .and_then(first())
        .or_else(Get::key(key.clone()))
        .or_else(first());
    let response = client.txn(txn).await?;
    let revision = response.revision();
    // Either put, first; or found, first.
    let mut results = response.into_results().into_iter().map(first_of);
    let found = results.next().flatten();
    let first = results.next().flatten();
    let create_revision = found.as_ref().map_or(revision, |kv| kv.create_revision);
    let claim = Claim { key: key.clone(), create_revision };
    let is_first = first.is_some_and(|kv| claim.is(&kv));
    Ok(Entered { claim, revision, is_first, found: found.map(|kv| kv.value) })
}

/// Looks for the claim, and for the one right before it.
pub(super) async fn standing(client: &Client, prefix: &Bytes, claim: &Claim) -> Result<Standing, CallError> {
    let before = Get::prefix(prefix.clone())
        .max_create_revision(claim.create_revision - 1)
        .sort(SortBy::CreateRevision, SortOrder::Descending)
        .limit(1)
        .keys_only(true);
    // Both at one revision. It changes nothing, so it is repeated like any read.
    let txn = Txn::new().and_then(before).and_then(Get::key(claim.key.clone()).keys_only(true));
    let response = client.txn(txn).await?;
    let at = response.revision();
    let mut results = response.into_results().into_iter().map(first_of);
    let (before, own) = (results.next().flatten(), results.next().flatten());
    Ok(match (own, before) {
        (Some(own), None) if claim.is(&own) => Standing::First,
        (Some(own), Some(next)) if claim.is(&own) => Standing::Behind { next: next.into(), at },
        _ => Standing::Gone,
    })
}

/// Completes when the claim, which was there at revision `at`, is gone.
pub(super) async fn gone(client: &Client, claim: &Claim, mut at: i64) -> Result<(), ContendError> {
    let mut backoff = backoff(client);
    loop {
        let deletes = WatchRequest::new(KeyRange::key(claim.key.clone()))
            .start_revision(at + 1)
            .filters(Filters { no_put: true, no_delete: false });
        let closed = || CallError::Closed { method: "Watch" };
        let mut watch = client.watch(deletes).map_err(|error| not_watched(&error))?;
        let ended = loop {
            match watch.try_next().await {
                Ok(Some(response)) => {
                    if response.events().any(|event| event.kind() == EventKind::Delete) {
                        return Ok(());
                    }
                }
                Ok(None) => return Err(closed().into()),
                Err(ended) if can_start_over(ended.reason()) => break ended,
                Err(ended) => return Err(ended.into_reason().into()),
            }
        };
        drop(watch);
        start_over(client, &mut backoff, ended.reason()).await?;
        let read = || client.get(Get::key(claim.key.clone()).keys_only(true));
        let response = persist(client, read).await?;
        if !response.kvs().iter().any(|kv| claim.is(kv)) {
            return Ok(());
        }
        at = response.revision();
    }
}

/// Deletes the key if the condition holds; says whether it did.
pub(super) async fn remove(client: &Client, key: &Bytes, condition: Compare) -> Result<bool, CallError> {
    let txn = Txn::new().when(condition).and_then(Delete::key(key.clone()));
    Ok(client.txn(txn).await?.succeeded())
}

/// The first pair that a step has read.
fn first_of(result: TxnResult) -> Option<OwnedKeyValue> {
    match result {
        TxnResult::Get(get) => get.into_first(),
        _ => None,
    }
}

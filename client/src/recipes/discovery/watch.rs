//! The handle of a watch on a service's endpoints.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::{FusedStream, Stream};

use super::{
    changes::{Changes, UpdateKind},
    error::DiscoveryError,
    set::{EndpointChange, EndpointMap, Set},
};

/// A step of a service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointUpdate {
    kind: UpdateKind,
    revision: i64,
    changes: Vec<EndpointChange>,
    endpoints: Arc<EndpointMap>,
}

impl EndpointUpdate {
    /// What it tells.
    #[must_use]
    pub fn kind(&self) -> UpdateKind {
        self.kind
    }

    /// The revision whose state it leads to.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// What has changed since the update before.
    #[must_use]
    pub fn changes(&self) -> &[EndpointChange] {
        &self.changes
    }

    /// All endpoints there are after it. Free to clone; the map is copied only when the next change comes
    /// while somebody still holds this one.
    #[must_use]
    pub fn endpoints(&self) -> &Arc<EndpointMap> {
        &self.endpoints
    }
}

/// A running watch on a service's endpoints: a stream of [`EndpointUpdate`]s, the first of them the endpoints
/// there are.
///
/// It goes on through lost connections, compaction and restored stores, and while etcd can't be reached it
/// waits. It ends, with an error, when it is refused (a permission, a password), when the client is closed, or
/// by the deadlines for giving up, if any were given to the client.
///
/// It runs while it is polled: what isn't taken waits at the client, or at the server. Taking is cancel-safe.
/// Dropping the handle ends it.
#[must_use = "it does nothing unless it is polled"]
pub struct EndpointWatch {
    changes: Changes,
    set: Set,
}

impl fmt::Debug for EndpointWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointWatch").field("set", &self.set).finish_non_exhaustive()
    }
}

impl EndpointWatch {
    pub(super) fn new(changes: Changes, target: &str) -> Self {
        Self { changes, set: Set::new(target) }
    }

    /// The next update; `None` after the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<EndpointUpdate, DiscoveryError>> {
        poll_fn(|cx| self.poll_take(cx)).await
    }

    /// The next update; `Ok(None)` after the end. Cancel-safe.
    ///
    /// # Errors
    /// Why the watch ended, once.
    pub async fn try_next(&mut self) -> Result<Option<EndpointUpdate>, DiscoveryError> {
        self.next().await.transpose()
    }

    /// All endpoints after the last update taken; empty before the first.
    #[must_use]
    pub fn endpoints(&self) -> &Arc<EndpointMap> {
        self.set.endpoints()
    }

    /// How many values could not be decoded so far. Each is logged and told by an update too.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.set.undecodable()
    }

    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<EndpointUpdate, DiscoveryError>>> {
        loop {
            let batch = match ready!(self.changes.poll_next(cx)) {
                Some(Ok(batch)) => batch,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
            let set = &mut self.set;
            let changes = batch.changes.iter().filter_map(|(key, value)| set.apply(key, value.as_ref()));
            let changes = changes.collect::<Vec<_>>();
            // Keys put again as they were are no news, but that all was listed again is.
            if changes.is_empty() && batch.kind == UpdateKind::Changes {
                continue;
            }
            let endpoints = self.set.endpoints().clone();
            let update = EndpointUpdate { kind: batch.kind, revision: batch.revision, changes, endpoints };
            return Poll::Ready(Some(Ok(update)));
        }
    }
}

impl Stream for EndpointWatch {
    type Item = Result<EndpointUpdate, DiscoveryError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_take(cx)
    }
}

impl FusedStream for EndpointWatch {
    fn is_terminated(&self) -> bool {
        self.changes.has_ended()
    }
}

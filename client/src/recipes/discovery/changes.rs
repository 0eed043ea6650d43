//! Where the changes of a range come from: a mirror, whose lists are gathered here until they are complete.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use etcd_watch_core::{CloseReason, EventKind, KeyRange, MirrorEvent, MirrorRequest};
use futures_core::Stream;

use super::error::DiscoveryError;
use crate::{Client, Mirror};

/// What an update tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UpdateKind {
    /// What there was at the beginning; always the first.
    Snapshot,
    /// Changes as they were made, in order.
    Changes,
    /// How the endpoints differ now from what was told before, after the watch could not be resumed
    /// (compacted history, another or a restored store). What came and went in between is not told.
    Resync,
}

/// What has become of keys up to a revision; a key without a value is gone.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) kind: UpdateKind,
    pub(super) revision: i64,
    pub(super) changes: Vec<(Bytes, Option<Bytes>)>,
}

/// The state of a range first, then its changes, for as long as they can be had.
pub(super) struct Changes {
    /// `None` once it has ended.
    mirror: Option<Result<Mirror, DiscoveryError>>,
    /// What the lists under way have told, while there are some.
    listed: Option<Vec<(Bytes, Option<Bytes>)>>,
    is_first: bool,
}

impl Changes {
    pub(super) fn new(client: &Client, range: KeyRange) -> Self {
        // With an index, a list tells only what differs from what was told before.
        let mirror = client.mirror(MirrorRequest::new(range).keep_index(true)).map_err(DiscoveryError::from);
        Self { mirror: Some(mirror), listed: None, is_first: true }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.mirror.is_none()
    }

    /// The next batch; after an error, none. Cancel-safe.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Batch, DiscoveryError>>> {
        loop {
            let event = match &mut self.mirror {
                None => return Poll::Ready(None),
                Some(Err(error)) => Err(error.clone()),
                Some(Ok(mirror)) => match ready!(Pin::new(mirror).poll_next(cx)) {
                    Some(Ok(event)) => Ok(event),
                    Some(Err(error)) => Err(match error.reason() {
                        CloseReason::ShutDown => DiscoveryError::Closed,
                        CloseReason::RuntimeGone => DiscoveryError::RuntimeGone,
                        _ => error.into(),
                    }),
                    None => Err(DiscoveryError::Closed),
                },
            };
            match event.map(|event| self.told(event)) {
                Ok(None) => {}
                Ok(Some(batch)) => return Poll::Ready(Some(Ok(batch))),
                Err(error) => {
                    self.mirror = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn told(&mut self, event: MirrorEvent) -> Option<Batch> {
        match event {
            // What an interrupted list has told stays true, and this one goes on from there.
            MirrorEvent::Listing { .. } => {
                self.listed.get_or_insert_default();
                None
            }
            MirrorEvent::Snapshot(part) => {
                let listed = self.listed.get_or_insert_default();
                listed.extend(part.deletes().iter().map(|key| (key.clone(), None)));
                listed.extend(part.into_puts().map(|kv| (kv.key, Some(kv.value))));
                None
            }
            MirrorEvent::Synced { revision } => {
                let changes = self.listed.take()?;
                let first = mem::replace(&mut self.is_first, false);
                let kind = if first { UpdateKind::Snapshot } else { UpdateKind::Resync };
                Some(Batch { kind, revision, changes })
            }
            MirrorEvent::Changes(response) => {
                let change = |event: etcd_watch_core::Event<'_>| {
                    let value = (event.kind() == EventKind::Put).then(|| event.kv().value_bytes());
                    (event.kv().key_bytes(), value)
                };
                let changes = response.events().map(change).collect();
                Some(Batch { kind: UpdateKind::Changes, revision: response.revision(), changes })
            }
            // The stream ends with it; and what is to come is not for this release.
            _ => None,
        }
    }
}

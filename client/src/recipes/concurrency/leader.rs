//! Who leads: one look, or every change.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use etcd_watch_core::{EventKind, KeyRange, OwnedKeyValue, WatchRequest, WatchResponse};
use futures_core::Stream;
use futures_util::stream::{self, BoxStream, StreamExt};

use super::{
    ContendError, Name,
    error::{can_start_over, not_watched},
    patience::{backoff, persist, start_over},
};
use crate::{CallError, Client, Get, SortBy, SortOrder, Watch, toolkit::Backoff};

/// A leader, as seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leader {
    /// Its key.
    pub key: Bytes,
    /// What it leads with.
    pub value: Bytes,
    /// The revision that created the key: the leader's fencing token.
    pub create_revision: i64,
    /// The revision of the value.
    pub mod_revision: i64,
}

impl From<OwnedKeyValue> for Leader {
    fn from(kv: OwnedKeyValue) -> Self {
        let OwnedKeyValue { key, value, create_revision, mod_revision, .. } = kv;
        Self { key, value, create_revision, mod_revision }
    }
}

/// Who leads the election with this name; `None` if nobody does.
///
/// # Errors
/// The read failed.
pub async fn leader(client: &Client, name: &Name) -> Result<Option<Leader>, ContendError> {
    let first = Get::prefix(name.prefix()).sort(SortBy::CreateRevision, SortOrder::Ascending).limit(1);
    Ok(client.get(first).await?.into_first().map(Leader::from))
}

/// Follows who leads the election with this name, and with which value.
pub fn observe(client: &Client, name: &Name) -> Observe {
    Observe::new(client.clone(), name)
}

/// The leaders of an election: first who leads now, if anybody does, then every change of the leader or its value, in
/// order. Survives lost connections without a gap. Only where history was compacted meanwhile, it goes on with
/// who leads then. That nobody leads is not told.
///
/// Ends after an error: what can't go on for good. Taking is cancel-safe; not taking is backpressure.
#[must_use = "a stream does nothing unless it is polled"]
pub struct Observe {
    leaders: BoxStream<'static, Result<Leader, ContendError>>,
}

impl Observe {
    pub(super) fn new(client: Client, name: &Name) -> Self {
        let observer = Observer {
            backoff: backoff(&client),
            client,
            prefix: name.prefix(),
            watch: None,
            candidates: Candidates::default(),
            ended: false,
        };
        let next = |mut observer: Observer| async move {
            let next = observer.next().await?;
            Some((next, observer))
        };
        Self { leaders: stream::unfold(observer, next).boxed() }
    }

    /// The next leader, or the next value of the same; `None` after an error. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Leader, ContendError>> {
        self.leaders.next().await
    }
}

impl Stream for Observe {
    type Item = Result<Leader, ContendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.leaders.poll_next_unpin(cx)
    }
}

impl fmt::Debug for Observe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observe").finish_non_exhaustive()
    }
}

struct Observer {
    client: Client,
    prefix: Bytes,
    watch: Option<Watch>,
    candidates: Candidates,
    backoff: Backoff,
    ended: bool,
}

impl Observer {
    async fn next(&mut self) -> Option<Result<Leader, ContendError>> {
        while !self.ended {
            if let Some(leader) = self.candidates.news.pop_front() {
                return Some(Ok(leader));
            }
            if let Err(error) = self.step().await {
                self.ended = true;
                return Some(Err(error));
            }
        }
        None
    }

    async fn step(&mut self) -> Result<(), ContendError> {
        let closed = || CallError::Closed { method: "Watch" };
        let Some(watch) = &mut self.watch else {
            let list = || self.client.get(Get::prefix(self.prefix.clone()));
            let response = persist(&self.client, list).await?;
            let next = response.revision() + 1;
            self.candidates.replace(response.into_kvs());
            let request = WatchRequest::new(KeyRange::prefix(self.prefix.clone())).start_revision(next);
            self.watch = Some(self.client.watch(request).map_err(|error| not_watched(&error))?);
            return Ok(());
        };
        match watch.try_next().await {
            Ok(Some(response)) => {
                self.backoff.reset();
                self.candidates.apply(&response);
            }
            Ok(None) => return Err(closed().into()),
            Err(ended) if can_start_over(ended.reason()) => {
                self.watch = None;
                start_over(&self.client, &mut self.backoff, ended.reason()).await?;
            }
            Err(ended) => return Err(ended.into_reason().into()),
        }
        Ok(())
    }
}

/// Everybody in the queue, and what is to be told of its head.
#[derive(Debug, Default)]
struct Candidates {
    by_key: BTreeMap<Bytes, Leader>,
    told: Option<i64>,
    news: VecDeque<Leader>,
}

impl Candidates {
    fn replace(&mut self, kvs: Vec<OwnedKeyValue>) {
        self.by_key = kvs.into_iter().map(|kv| (kv.key.clone(), kv.into())).collect();
        self.look();
    }

    fn apply(&mut self, response: &WatchResponse) {
        let mut events = response.events().peekable();
        while let Some(event) = events.next() {
            let kv = event.kv();
            if event.kind() == EventKind::Delete {
                self.by_key.remove(event.key());
            } else {
                // Copied: a part of a received buffer would keep all of it alive for as long as somebody is
                // a candidate.
                let leader = Leader {
                    key: Bytes::copy_from_slice(kv.key()),
                    value: Bytes::copy_from_slice(kv.value()),
                    create_revision: kv.create_revision(),
                    mod_revision: kv.mod_revision(),
                };
                self.by_key.insert(leader.key.clone(), leader);
            }
            // Between the events of one revision there is no state of the store.
            if events.peek().is_none_or(|next| next.mod_revision() != event.mod_revision()) {
                self.look();
            }
        }
    }

    /// Tells of the head of the queue, if that is news. A value is told apart from others by its revision.
    fn look(&mut self) {
        let head = self.by_key.values().min_by_key(|candidate| candidate.create_revision);
        if let Some(head) = head
            && self.told != Some(head.mod_revision)
        {
            self.told = Some(head.mod_revision);
            self.news.push_back(head.clone());
        }
    }
}

//! Where changes of a range come from: a listing, a watch from there on, and when that can't go on, another
//! listing and what differs from what was known.

use std::{
    collections::BTreeSet,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use etcd_watch_core::{CloseReason, Code, EventKind, KeyRange, ResponseKind, WatchRequest, WatchResponse};
use futures_core::Stream;

use super::{
    error::{DiscoveryError, ends_for_good, is_final},
    retry::Retry,
    watch::UpdateKind,
};
use crate::{CallError, Client, Get, Runtime, Watch, WatchError};

/// Keys and values as they are at one revision.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) revision: i64,
    pub(super) pairs: Vec<(Bytes, Bytes)>,
}

/// What has become of keys up to a revision; a key without a value is gone.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) kind: UpdateKind,
    pub(super) revision: i64,
    pub(super) changes: Vec<(Bytes, Option<Bytes>)>,
}

/// The state of a range first, then its changes, for as long as they can be had.
pub(super) struct Changes<R: Runtime> {
    client: Client<R>,
    range: KeyRange,
    state: State,
    /// The keys there are, to find out after another listing which ones are gone; `None` before the first.
    known: Option<BTreeSet<Vec<u8>>>,
    retry: Retry,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

enum State {
    Listing(BoxFuture<Result<Listing, CallError>>),
    Pausing(BoxFuture<()>),
    Watching(Watch),
    Ended,
}

impl<R: Runtime> Changes<R> {
    pub(super) fn new(client: Client<R>, range: KeyRange) -> Self {
        let state = listing(&client, &range);
        Self { client, range, state, known: None, retry: Retry::default() }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// The next batch; after an error, none. Cancel-safe.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Batch, DiscoveryError>>> {
        loop {
            let step = match &mut self.state {
                State::Ended => return Poll::Ready(None),
                State::Pausing(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.state = listing(&self.client, &self.range);
                    continue;
                }
                State::Listing(listing) => match ready!(listing.as_mut().poll(cx)) {
                    Ok(listing) => self.listed(listing).map(Some),
                    Err(error) if is_final(&error) => Err(error.into()),
                    Err(error) => {
                        tracing::warn!(%error, "endpoints could not be listed, trying again");
                        self.pause();
                        continue;
                    }
                },
                State::Watching(watch) => match ready!(Pin::new(watch).poll_next(cx)) {
                    Some(Ok(response)) => Ok(self.received(&response)),
                    Some(Err(error)) => self.lost(error).map(|()| None),
                    None => Err(DiscoveryError::Closed),
                },
            };
            match step {
                Ok(None) => {}
                Ok(Some(batch)) => return Poll::Ready(Some(Ok(batch))),
                Err(error) => {
                    self.state = State::Ended;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn pause(&mut self) {
        let (runtime, pause) = (self.client.calls().runtime().clone(), self.retry.next());
        self.state = State::Pausing(Box::pin(async move { runtime.sleep(pause).await }));
    }

    /// Watches on from a listing; the listing, or how it differs from what was known.
    fn listed(&mut self, listing: Listing) -> Result<Batch, DiscoveryError> {
        // Created tells that it runs: whatever comes after that is a failure of its own.
        let request =
            WatchRequest::new(self.range.clone()).start_revision(listing.revision + 1).created_notify(true);
        self.state = State::Watching(self.client.watch(request)?);
        let keys = listing.pairs.iter().map(|(key, _)| key.to_vec()).collect::<BTreeSet<_>>();
        let before = self.known.replace(keys);
        let kind = if before.is_none() { UpdateKind::Snapshot } else { UpdateKind::Resync };
        let now = self.known.as_ref();
        let is_gone = |key: &Vec<u8>| !now.is_some_and(|now| now.contains(key));
        let gone = before.into_iter().flatten().filter(is_gone).map(|key| (key.into(), None));
        let there = listing.pairs.into_iter().map(|(key, value)| (key, Some(value)));
        Ok(Batch { kind, revision: listing.revision, changes: gone.chain(there).collect() })
    }

    fn received(&mut self, response: &WatchResponse) -> Option<Batch> {
        self.retry.reset();
        if response.kind() != ResponseKind::Events {
            return None;
        }
        let known = self.known.get_or_insert_default();
        let changes = response.events().map(|event| {
            let value = (event.kind() == EventKind::Put).then(|| event.kv().value_bytes());
            // Copies: a slice of the response would keep all of it.
            if value.is_some() {
                known.insert(event.key().to_vec());
            } else {
                known.remove(event.key());
            }
            (event.kv().key_bytes(), value)
        });
        let changes = changes.collect();
        Some(Batch { kind: UpdateKind::Changes, revision: response.revision(), changes })
    }

    /// The watch has ended. List again, unless that would end as it did.
    fn lost(&mut self, error: WatchError) -> Result<(), DiscoveryError> {
        let reason = error.reason();
        if *reason == CloseReason::ShutDown {
            return Err(DiscoveryError::Closed);
        }
        if ends_for_good(reason) {
            return Err(error.into());
        }
        tracing::info!(%reason, "endpoints are listed again");
        self.pause();
        Ok(())
    }
}

fn listing<R: Runtime>(client: &Client<R>, range: &KeyRange) -> State {
    let (client, range) = (client.clone(), range.clone());
    State::Listing(Box::pin(async move { list(&client, &range).await }))
}

/// Keys in one answer: few enough for an answer of moderate size, many enough for few round trips.
const PAGE_KEYS: i64 = 1_000;

/// How often a listing is begun anew because history went away under it.
const LISTINGS: usize = 5;

/// The range at one revision, in pages.
pub(super) async fn list<R: Runtime>(client: &Client<R>, range: &KeyRange) -> Result<Listing, CallError> {
    let mut listings = 1;
    loop {
        match list_once(client, range).await {
            // The revision of the first page was compacted meanwhile, or the store is another one now.
            Err(CallError::Refused { code: Code::OutOfRange, .. }) if listings < LISTINGS => listings += 1,
            result => return result,
        }
    }
}

async fn list_once<R: Runtime>(client: &Client<R>, range: &KeyRange) -> Result<Listing, CallError> {
    let mut listing = Listing { revision: 0, pairs: Vec::new() };
    let mut rest = range.clone();
    let mut limit = PAGE_KEYS;
    loop {
        let page = match client.get(Get::new(rest.clone()).limit(limit).revision(listing.revision)).await {
            Err(CallError::ResponseTooLarge { .. }) if limit > 1 => {
                limit = (limit / 8).max(1);
                continue;
            }
            page => page?,
        };
        if listing.revision == 0 {
            listing.revision = page.header.map_or(0, |header| header.revision);
        }
        listing.pairs.extend(page.kvs.into_iter().map(|kv| (kv.key, kv.value)));
        let Some((last, _)) = listing.pairs.last().filter(|_| page.more) else { return Ok(listing) };
        let next = [&last[..], b"\0"].concat();
        let Ok(next) = KeyRange::range(next, range.end().clone()) else { return Ok(listing) };
        rest = next;
    }
}

//! A mirror of a key range: the core's snapshot-then-watch machine, driven by whoever polls it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use etcd_watch_core::{
    Checkpoint, CloseReason, Delivery, EndpointHint, Failure, Instant, ListKey, ListProgress, ListRequest,
    Mirror as Machine, MirrorAction, MirrorEvent, MirrorRequest, Page, WatchConfig,
};
use futures_core::{FusedStream, Stream};

use crate::{
    Client, Endpoint, Health, Monitor, NeverReady, OpenError, Watch, WatchError,
    calls::lists::{ListAnswer, ListStream, Listed},
    cluster::pool::Pooled,
    health::Monitored,
    runtime::BoxFuture,
    watch::mirror_record::MirrorRecord,
};

/// A key range of the store, listed and then watched: a stream of [`MirrorEvent`]s, whose documentation is
/// what a consumer may rely on.
///
/// It survives what a [`Watch`] survives, and compaction, a restored backup and another store behind the same
/// address besides: it lists again then, and hands out the difference, deletes included. The list is read at one
/// revision, in pages that grow with what comes, or as a stream where the member can (etcd 3.7), with the failover of
/// reads.
///
/// It runs while it is polled; what isn't taken waits, within a page and the watch's budget. Taking is
/// cancel-safe. Dropping it ends everything, here and on the server.
///
/// ```no_run
/// use std::collections::BTreeMap;
/// use etcd_watch_client::{Client, KeyRange};
///
/// async fn follow(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
///     let mut mirror = client.mirror(KeyRange::prefix("services/"))?;
///     let mut services = BTreeMap::new();
///     while let Some(event) = mirror.try_next().await? {
///         for (key, value) in event.updates() {
///             match value {
///                 Some(value) => services.insert(key.to_vec(), value.to_vec()),
///                 None => services.remove(key),
///             };
///         }
///         if let Some(revision) = mirror.synced_revision() {
///             println!("this is the store at {revision}: {} services", services.len());
///         }
///     }
///     Ok(())
/// }
/// ```
#[must_use = "it does nothing unless it is polled"]
pub struct Mirror {
    client: Client,
    machine: Machine,
    listing: Option<Listing>,
    /// The connection that brought the last page.
    proven: Option<Pooled>,
    watch: Option<Watch>,
    timer: Option<(Instant, BoxFuture<'static, ()>)>,
    /// Completes when the client is closed.
    closed: BoxFuture<'static, ()>,
    last_endpoint: Option<Arc<Endpoint>>,
    /// An event that was taken from the machine, and waits until the request for the next page has left.
    held: Option<MirrorEvent>,
    /// What comes after the list.
    after: After,
    ended: bool,
    record: Recorded,
}

/// What is told of the mirror to those who monitor it, also when the mirror is gone.
struct Recorded(Arc<MirrorRecord>);

impl Drop for Recorded {
    fn drop(&mut self) {
        self.0.end(NeverReady::Closed);
    }
}

/// What comes after a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The keys are watched.
    Watch,
    /// Nothing does: whoever asked for the list drops the mirror once it is complete.
    Nothing,
}

/// A list under way.
struct Listing {
    list: ListKey,
    state: ListState,
}

enum ListState {
    /// It is to be asked for.
    New(BoxFuture<'static, Listed>),
    /// It was asked for.
    Asked(BoxFuture<'static, Listed>),
    /// A stream brings it, and the consumer has to take what has come.
    Held(Box<ListStream>),
    /// A message of the stream is waited for.
    Reading(BoxFuture<'static, (Box<ListStream>, Result<Page, Failure>)>),
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror")
            .field("synced_revision", &self.synced_revision())
            .field("watch", &self.watch)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Mirrors a key, a range, `client.mirror(KeyRange::prefix("names/"))`, or, with options, a [`MirrorRequest`]. Returns
    /// at once; what happens comes from the stream.
    ///
    /// # Errors
    /// A request that can't be served, a client that has been closed, or one whose runtime is gone.
    pub fn mirror(&self, request: impl Into<MirrorRequest>) -> Result<Mirror, OpenError> {
        Mirror::open(self, request.into(), &self.calls().pool.dialer.watch_config, After::Watch)
    }
}

impl Mirror {
    pub(crate) fn open(
        client: &Client,
        request: MirrorRequest,
        config: &WatchConfig,
        after: After,
    ) -> Result<Self, OpenError> {
        let calls = client.calls();
        calls.check_open()?;
        let request = request.more_metadata(calls.carried().metadata());
        let machine = Machine::new(config, request, calls.pool.dialer.seeds.next())
            .map_err(|misuse| calls.not_opened(misuse))?;
        let hub = client.hub().clone();
        let record = MirrorRecord::new(hub.clone(), machine.synced_revision());
        Ok(Self {
            client: client.clone(),
            machine,
            listing: None,
            proven: None,
            watch: None,
            timer: None,
            closed: Box::pin(async move { hub.ended().await }),
            last_endpoint: None,
            held: None,
            after,
            ended: false,
            record: Recorded(Arc::new(record)),
        })
    }

    /// The next event; `None` after the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<MirrorEvent, WatchError>> {
        std::future::poll_fn(|cx| self.poll_take(cx)).await
    }

    /// The next event; `Ok(None)` after the end. Cancel-safe.
    ///
    /// # Errors
    /// Why it can't go on, once.
    pub async fn try_next(&mut self) -> Result<Option<MirrorEvent>, WatchError> {
        self.next().await.transpose()
    }

    /// Asks the server how far the watch is: the answer comes as a [`Synced`](MirrorEvent::Synced), from
    /// servers whose answer can be trusted (see [`Watch::request_progress`]).
    pub fn request_progress(&mut self) {
        let now = self.now();
        self.machine.request_progress(now);
        self.perform();
    }

    /// Ends it, here and on the server: the stream ends without an error.
    pub fn cancel(&mut self) {
        let now = self.now();
        self.held = None;
        self.machine.cancel(now);
        self.perform();
    }

    /// How its connection to the cluster is doing: [`Health`] says what that means.
    #[must_use]
    pub fn health(&self) -> Health {
        self.record.0.health()
    }

    /// A handle to wait for changes of [`health`](Self::health), while this one is taken from. A mirror does something
    /// only while it is polled: until then it doesn't become ready.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor::new(self.record.0.clone())
    }

    /// The revision that the fold of what was taken is exactly at; `None` in the middle of a list.
    #[must_use]
    pub fn synced_revision(&self) -> Option<i64> {
        self.machine.synced_revision()
    }

    /// Where to go on after a restart of the program with the fold of what was taken, by
    /// [`MirrorRequest::resume`](etcd_watch_core::MirrorRequest::resume); `None` in the middle of a list.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.machine.checkpoint()
    }

    /// How far the list has come that is being handed out: for a progress bar. `None` while there is none.
    #[must_use]
    pub fn list_progress(&self) -> Option<ListProgress> {
        self.machine.list_progress()
    }

    fn now(&self) -> Instant {
        self.client.hub().now()
    }

    pub(crate) fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<MirrorEvent, WatchError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(event) = self.held.take() {
            return Poll::Ready(self.handed_out(event));
        }
        // A consumer that asks for the next event has dealt with the earlier ones.
        self.record.0.digested(self.machine.synced_revision());
        loop {
            self.perform();
            let now = self.now();
            if let Some(event) = self.machine.next(now) {
                // The next page is asked for before this one is looked at, so that the server works on it meanwhile.
                self.perform();
                if self.poll_request(cx) {
                    self.held = Some(event);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                return Poll::Ready(self.handed_out(event));
            }
            // A client that has ended makes no more calls, and where its runtime is gone timers ring at once: nothing is
            // to be tried again. A watch says so itself.
            if self.watch.is_none() && self.client.calls().end().is_some() {
                return Poll::Ready(self.give_up());
            }
            if !(self.poll_listing(cx) || self.poll_watch(cx) || self.poll_timer(cx)) {
                if self.watch.is_none() && self.closed.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(self.give_up());
                }
                return Poll::Pending;
            }
        }
    }

    fn give_up(&mut self) -> Option<Result<MirrorEvent, WatchError>> {
        self.ended = true;
        self.listing = None;
        let reason = self.why_ended();
        self.record.0.end(reason.clone().into());
        Some(Err(WatchError::of_mirror(reason)))
    }

    /// Why the client has ended.
    fn why_ended(&self) -> CloseReason {
        self.client.calls().end().map_or(CloseReason::ShutDown, CloseReason::from)
    }

    fn handed_out(&mut self, event: MirrorEvent) -> Option<Result<MirrorEvent, WatchError>> {
        self.record.0.synced(self.machine.synced_revision());
        match event {
            MirrorEvent::Closed(reason) => {
                self.ended = true;
                self.record.0.end(reason.clone().into());
                self.watch = None;
                (reason != CloseReason::Cancelled).then(|| Err(WatchError::of_mirror(reason)))
            }
            MirrorEvent::Listing { revision, ref reason } => {
                let range = self.machine.request().range().start();
                tracing::debug!(name: "mirror_listing", ?range, revision, %reason, "listing the keys of a mirror");
                Some(Ok(event))
            }
            event => Some(Ok(event)),
        }
    }

    /// Performs all actions there are.
    fn perform(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                MirrorAction::List { list, request } => self.list(list, request),
                MirrorAction::CloseList { list } => {
                    self.listing.take_if(|listing| listing.list == list);
                }
                MirrorAction::Watch(_) if self.after == After::Nothing => {}
                MirrorAction::Watch(request) => match self.client.watch(request) {
                    Ok(watch) => {
                        self.record.0.watching(watch.monitored());
                        self.watch = Some(watch);
                    }
                    // The request was checked with the mirror's: it is the client that has ended.
                    Err(_) => {
                        let (now, reason) = (self.now(), self.why_ended());
                        self.machine.handle_delivery(now, Delivery::Closed(reason));
                    }
                },
                MirrorAction::Cancel => self.unwatch(),
                MirrorAction::RequestProgress => {
                    // A watch that has ended says so by itself.
                    let _ = self.watch.as_ref().map(Watch::request_progress);
                }
            }
        }
    }

    fn unwatch(&mut self) {
        self.record.0.unwatched();
        self.watch = None;
    }

    fn list(&mut self, list: ListKey, mut request: ListRequest) {
        let avoid = match request.endpoint {
            EndpointHint::Any => None,
            EndpointHint::Another => self.last_endpoint.clone(),
        };
        let prefix = self.client.namespace();
        if !prefix.is_empty() {
            request.range = request.range.within(prefix);
        }
        let listed = self.client.calls().clone().list(request, avoid, self.proven.clone());
        self.listing = Some(Listing { list, state: ListState::New(Box::pin(listed)) });
    }

    /// Polls a list for the first time, if one was just asked for, and says whether one was.
    ///
    /// Another task, that of the connection, sends the request. An executor may run that task only after this one has
    /// returned, and whoever takes the page may be busy with it for long.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> bool {
        let is_new = matches!(self.listing, Some(Listing { state: ListState::New(_), .. }));
        self.poll_listing(cx);
        is_new
    }

    /// Goes on with the list; whether anything has come of it.
    fn poll_listing(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(Listing { list, state }) = self.listing.take() else { return false };
        let (state, has_news) = match state {
            ListState::New(mut listed) | ListState::Asked(mut listed) => match listed.as_mut().poll(cx) {
                Poll::Ready(listed) => (self.listed(list, listed), true),
                Poll::Pending => (Some(ListState::Asked(listed)), false),
            },
            ListState::Held(stream) if self.machine.wants_chunk(list) => {
                (Some(ListState::Reading(Box::pin(stream.next()))), true)
            }
            ListState::Held(stream) => (Some(ListState::Held(stream)), false),
            ListState::Reading(mut reading) => match reading.as_mut().poll(cx) {
                Poll::Ready((stream, chunk)) => {
                    let is_over = chunk.is_err();
                    self.note_part(None, chunk.as_ref().err());
                    let (now, chunk) = (self.now(), chunk.map(|chunk| self.left(chunk)));
                    self.machine.handle_chunk(now, list, chunk);
                    ((!is_over).then_some(ListState::Held(stream)), true)
                }
                Poll::Pending => (Some(ListState::Reading(reading)), false),
            },
        };
        self.listing = state.map(|state| Listing { list, state });
        has_news
    }

    /// Hands on the answer to a list; what is left to do for it.
    fn listed(&mut self, list: ListKey, listed: Listed) -> Option<ListState> {
        let Listed { at, answer } = listed;
        self.last_endpoint =
            at.as_ref().map(|at| at.endpoint().clone()).or_else(|| self.last_endpoint.take());
        let now = self.now();
        let failure = match &answer {
            ListAnswer::Stream(stream) => stream.as_ref().err(),
            ListAnswer::Page(page) => page.as_ref().err(),
        };
        self.note_part(at.as_ref(), failure);
        match answer {
            ListAnswer::Stream(Ok(stream)) => return Some(ListState::Held(stream)),
            ListAnswer::Stream(Err(failure)) => self.machine.handle_chunk(now, list, Err(failure)),
            ListAnswer::Page(page) => {
                self.proven = at.filter(|_| page.is_ok());
                let page = page.map(|page| self.left(page));
                self.machine.handle_page(now, list, page);
            }
        }
        None
    }

    /// Says how a part of a list went.
    fn note_part(&self, at: Option<&Pooled>, failure: Option<&Failure>) {
        match failure {
            Some(failure) => self.record.0.failed(Arc::new(failure.clone())),
            None => self.record.0.heard(at.map(Pooled::endpoint)),
        }
    }

    /// A page whose keys have left the namespace.
    fn left(&self, page: Page) -> Page {
        let prefix = self.client.namespace().len();
        Page { kvs: page.kvs.without_key_prefix(prefix), ..page }
    }

    fn poll_watch(&mut self, cx: &Context<'_>) -> bool {
        if !self.machine.wants_delivery() {
            return false;
        }
        let Some(watch) = &mut self.watch else { return false };
        let Poll::Ready(taken) = watch.poll_take(cx) else { return false };
        let delivery = match taken {
            Some(Ok(response)) => Delivery::Response(response),
            Some(Err(error)) => Delivery::Closed(error.into_reason()),
            None => Delivery::Closed(CloseReason::Cancelled),
        };
        if matches!(delivery, Delivery::Closed(_)) {
            self.unwatch();
        }
        let now = self.now();
        self.machine.handle_delivery(now, delivery);
        true
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(timeout) = self.machine.poll_timeout() else {
            self.timer = None;
            return false;
        };
        let now = self.now();
        if timeout > now {
            if self.timer.as_ref().is_none_or(|(at, _)| *at != timeout) {
                self.timer = Some((timeout, self.client.runtime().sleep(timeout.since(now))));
            }
            let rang = self.timer.as_mut().is_some_and(|(_, sleep)| sleep.as_mut().poll(cx).is_ready());
            if !rang {
                return false;
            }
        }
        self.timer = None;
        let now = self.now().max(timeout);
        self.machine.handle_timeout(now);
        true
    }
}

impl Stream for Mirror {
    type Item = Result<MirrorEvent, WatchError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_take(cx)
    }
}

impl FusedStream for Mirror {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

//! A mirror, a watcher, the driver between them, the stores behind them; and a consumer that folds what it
//! gets and compares.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use etcd_watch_core::{
    Action, CloseReason, Delivery, EventKind, Failure, Instant, KeyRange, ListKey, ListRequest, Mirror,
    MirrorAction, MirrorEvent, MirrorRequest, Opened, OwnedKeyValue, Page, ServerVersion, SnapshotPart,
    StreamKey, WatchConfig, WatchKey, WatchResponse, Watcher,
};
use prost::Message;

use crate::{
    server::Server,
    store::{State, Store},
};

/// How a page fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Connection,
    NoLeader,
    Token,
    NoHeader,
    /// The member is so many revisions behind.
    Late(i64),
}

impl Fault {
    fn failure(self, request: &ListRequest) -> Option<Failure> {
        match self {
            Self::Connection => Some(Failure::connection("refused")),
            Self::NoLeader => Some(Failure::status(14, "etcdserver: no leader")),
            Self::Token => {
                (!request.fresh_token).then(|| Failure::status(16, "etcdserver: invalid auth token"))
            }
            Self::NoHeader | Self::Late(_) => None,
        }
    }
}

/// A list that is read by a stream.
struct Stream {
    list: ListKey,
    request: ListRequest,
    /// Whether all pairs have been sent.
    is_done: bool,
}

/// What a world is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) page_bytes: usize,
    pub(crate) keeps_index: bool,
    /// The most keys of a response, and those of a message of a stream.
    pub(crate) server_page: usize,
    pub(crate) has_streams: bool,
}

pub(crate) struct World {
    config: WatchConfig,
    request: MirrorRequest,
    seed: u64,
    pub(crate) mirror: Mirror,
    pub(crate) watcher: Watcher,
    pub(crate) now: Instant,
    /// All there ever were, the present one last.
    stores: Vec<Store>,
    /// A restored store can be told from the one before only while it is behind it: so far it may be written.
    ceiling: i64,
    range: KeyRange,
    page_bytes: usize,
    keeps_index: bool,
    /// More keys in a response are too many.
    server_page: usize,
    asked: Option<(ListKey, ListRequest)>,
    /// Whether members have `RangeStream`.
    has_streams: bool,
    stream: Option<Stream>,
    /// The store that brought the last page: so far the driver's connection to it is good.
    connected: Option<usize>,
    /// The store that answered the list's first page.
    listed: usize,
    watch: Option<WatchKey>,
    opening: Vec<StreamKey>,
    servers: BTreeMap<StreamKey, Server>,
    fold: State,
    /// The store the fold is of.
    believed: usize,
    /// The revision of the list that is not complete.
    listing: Option<i64>,
    /// Where the last part of a list without an index ended; `None` inside for the end.
    listed_through: Option<Option<Bytes>>,
    /// Whether a list has to hand out every key.
    is_anew: bool,
    announced: i64,
    closed: Option<CloseReason>,
    pub(crate) log: Vec<String>,
}

impl World {
    pub(crate) fn new(config: &WatchConfig, request: MirrorRequest, plan: Plan, seed: u64) -> Self {
        let Plan { page_bytes, keeps_index, server_page, has_streams } = plan;
        let range = request.range().clone();
        let request = request.page_bytes(page_bytes).keep_index(keeps_index);
        let mut world = Self {
            config: config.clone(),
            seed,
            mirror: Mirror::new(config, request.clone(), seed).expect("a valid request"),
            request,
            watcher: Watcher::new(config.clone(), seed).expect("a valid configuration"),
            now: Instant::from_nanos(1),
            stores: vec![Store::new(0, 100)],
            ceiling: i64::MAX,
            range,
            page_bytes,
            keeps_index,
            server_page,
            asked: None,
            has_streams,
            stream: None,
            connected: None,
            listed: 0,
            watch: None,
            opening: Vec::new(),
            servers: BTreeMap::new(),
            fold: State::new(),
            believed: 0,
            listing: None,
            listed_through: None,
            is_anew: false,
            announced: 0,
            closed: None,
            log: Vec::new(),
        };
        world.settle();
        world
    }

    fn present(&self) -> &Store {
        self.stores.last().expect("there is always one")
    }

    /// Does what the two machines say, and holds them to what a driver relies on.
    pub(crate) fn settle(&mut self) {
        loop {
            assert!(self.log.len() < 100_000, "no end of actions");
            if let Some(action) = self.mirror.poll_action() {
                self.log.push(format!("{action:?}"));
                self.do_for_mirror(action);
            } else if let Some(action) = self.watcher.poll_action() {
                match action {
                    Action::Open { stream, .. } => self.opening.push(stream),
                    Action::Send { stream, request, .. } => {
                        self.servers.get_mut(&stream).expect("an open stream").inbox.push_back(request);
                    }
                    Action::Close { stream, .. } => {
                        self.servers.remove(&stream);
                        self.opening.retain(|&opening| opening != stream);
                    }
                    Action::Range { .. } => panic!("a mirror's watch knows where to start"),
                    Action::Deliver { .. } | Action::Overflowed { .. } => {}
                }
            } else {
                break;
            }
        }
        assert!(!self.mirror.has_actions());
        if self.mirror.has_events() {
            assert!(!self.mirror.wants_delivery() && self.asked.is_none(), "one thing at a time waits");
            assert!(self.stream.as_ref().is_none_or(|stream| !self.mirror.wants_chunk(stream.list)));
        } else if self.keeps_index && self.closed.is_none() {
            assert_eq!(self.mirror.index_keys(), self.fold.len(), "the index has the fold's keys");
        }
        assert!(self.keeps_index || self.mirror.index_keys() == 0);
    }

    fn do_for_mirror(&mut self, action: MirrorAction) {
        match action {
            MirrorAction::List { list, request } => {
                assert!(self.asked.is_none() && self.watch.is_none() && !self.mirror.has_events());
                assert!(self.stream.is_none() && request.limit > 0);
                assert!(request.revision != 0 || !request.may_stream, "the revision is pinned first");
                self.asked = Some((list, request));
            }
            MirrorAction::CloseList { list } => {
                let is_asked = self.asked.take_if(|(asked, _)| *asked == list).is_some();
                let is_streamed = self.stream.take_if(|stream| stream.list == list).is_some();
                assert!(is_asked || is_streamed, "there is a list to close");
            }
            MirrorAction::Watch(request) => {
                assert!(self.watch.is_none(), "one watch at a time");
                self.watch = Some(self.watcher.watch(self.now, request).expect("a valid request"));
            }
            MirrorAction::Cancel => {
                let watch = self.watch.take().expect("there is a watch to cancel");
                self.watcher.cancel(self.now, watch).expect("it has not ended");
            }
            MirrorAction::RequestProgress => {
                let watch = self.watch.expect("there is a watch to ask");
                self.watcher.request_progress(self.now, watch).expect("it has not ended");
            }
        }
    }

    pub(crate) fn write(&mut self, changes: &[(usize, bool)]) {
        if self.present().revision < self.ceiling {
            self.stores.last_mut().expect("there is always one").write(changes);
        }
    }

    pub(crate) fn compact(&mut self, back: i64) {
        let store = self.stores.last_mut().expect("there is always one");
        store.compacted = store.compacted.max(store.revision - back);
    }

    /// Another cluster answers at the endpoints.
    pub(crate) fn replace(&mut self, writes: &[(usize, bool)]) {
        let number = self.stores.len();
        let mut store = Store::new(number, 100 + number as u64);
        writes.iter().for_each(|&write| store.write(&[write]));
        self.ceiling = i64::MAX;
        self.stores.push(store);
        self.cut();
    }

    /// The store is restored from a backup, which is noticed if it is older than what was seen.
    pub(crate) fn restore(&mut self, back: i64) {
        let seen = self.announced.max(self.listing.unwrap_or(0));
        let revision = (seen - back).max(1);
        if self.believed + 1 != self.stores.len() || revision >= seen || revision > self.present().revision {
            return;
        }
        let store = self.present().restored(self.stores.len(), revision);
        self.ceiling = seen - 1;
        self.stores.push(store);
        self.cut();
    }

    /// The program is killed and started again. It has kept its fold and its checkpoint; in the middle of a list there
    /// is none, and a consumer would have undone what it folded of it.
    pub(crate) fn restart(&mut self) {
        let Some(checkpoint) = self.mirror.checkpoint().filter(|_| !self.keeps_index) else { return };
        assert_eq!(checkpoint.next_revision(), self.announced + 1);
        assert_eq!(checkpoint.cluster_id(), self.stores[self.believed].cluster_id);
        self.seed = self.seed.wrapping_add(1);
        let request = self.request.clone().resume(checkpoint);
        self.mirror = Mirror::new(&self.config, request, self.seed).expect("a valid request");
        self.watcher = Watcher::new(self.config.clone(), self.seed).expect("a valid configuration");
        (self.asked, self.stream, self.watch) = (None, None, None);
        self.opening.clear();
        self.servers.clear();
        self.log.push(format!("restarted at {checkpoint}"));
    }

    pub(crate) fn cut(&mut self) {
        for (stream, _) in std::mem::take(&mut self.servers) {
            self.watcher.handle_failed(self.now, stream, Failure::connection("reset by peer"));
        }
    }

    pub(crate) fn open(&mut self, ok: bool) -> bool {
        let Some(stream) = self.opening.pop() else { return false };
        if ok {
            self.servers.insert(stream, Server::default());
            let version = Some(ServerVersion::new(3, 5, 30));
            self.watcher.handle_opened(self.now, stream, Opened { version, authenticated: false });
        } else {
            self.watcher.handle_failed(self.now, stream, Failure::connection("refused"));
        }
        true
    }

    /// The servers handle what they were sent, and send what there is.
    pub(crate) fn serve(&mut self, revisions: i64, notify: bool) -> bool {
        let store = self.stores.last().expect("there is always one");
        let mut frames = Vec::new();
        for (&stream, server) in &mut self.servers {
            while !server.inbox.is_empty() {
                frames.extend(server.read(store).map(|frame| (stream, frame)));
            }
            frames.extend(server.emit(store, revisions).into_iter().map(|frame| (stream, frame)));
            if notify {
                frames.extend(server.notify(store).into_iter().map(|frame| (stream, frame)));
            }
        }
        let happened = !frames.is_empty();
        for (stream, frame) in frames {
            self.watcher.handle_frame(
                self.now,
                stream,
                etcd_watch_core::Frame::decode(frame.encode_to_vec().into()),
            );
        }
        happened
    }

    pub(crate) fn answer(&mut self, fault: Option<Fault>) -> bool {
        if let Some(stream) = self.stream.take() {
            return self.answer_by_stream(stream, fault);
        }
        let Some((list, request)) = self.asked.take() else { return false };
        let present = self.stores.len() - 1;
        if request.may_stream && self.has_streams && self.connected == Some(present) {
            self.stream = Some(Stream { list, request, is_done: false });
            return true;
        }
        let store = self.present();
        let mut page = match fault {
            // Another cluster has nothing that is older, and a page at one revision is never old.
            Some(Fault::Late(behind)) if request.revision == 0 && self.believed + 1 == self.stores.len() => {
                store.list_late(&request, behind)
            }
            Some(Fault::NoHeader) => store.list(&request).map(|page| Page { revision: 0, ..page }),
            Some(fault) if fault.failure(&request).is_some() => {
                Err(fault.failure(&request).expect("it has one"))
            }
            _ => store.list(&request),
        };
        if let Ok(answer) = &page
            && answer.kvs.len() > self.server_page
        {
            page = Err(Failure::ResponseTooLarge { bytes: answer.kvs.len(), limit: self.server_page });
        }
        if request.revision == 0 {
            self.listed = present;
        }
        self.connected = page.is_ok().then_some(present);
        self.mirror.handle_page(self.now, list, page);
        true
    }

    /// The next message of the stream, or its end.
    fn answer_by_stream(&mut self, mut stream: Stream, fault: Option<Fault>) -> bool {
        let list = stream.list;
        if !self.mirror.wants_chunk(list) {
            self.stream = Some(stream);
            return false;
        }
        let is_cut = self.connected != Some(self.stores.len() - 1);
        let failure = match fault {
            _ if is_cut => Some(Failure::connection("reset by peer")),
            Some(Fault::NoHeader) => Some(Failure::EndOfStream),
            Some(Fault::Late(_)) => Some(Failure::ResponseTooLarge { bytes: 9, limit: 8 }),
            Some(fault) => fault.failure(&stream.request),
            None => stream.is_done.then_some(Failure::EndOfStream),
        };
        let limit = self.server_page;
        let chunk = match failure {
            Some(failure) => Err(failure),
            None => self.present().list(&ListRequest { limit, ..stream.request.clone() }),
        };
        let Ok(page) = chunk else {
            self.connected = None;
            self.mirror.handle_chunk(self.now, list, chunk);
            return true;
        };
        stream.is_done = !page.more;
        let chunk = if page.more { Page { kvs: page.kvs, ..Page::default() } } else { page };
        if let Some(last) = chunk.kvs.last().filter(|_| !stream.is_done) {
            let start = [last.key(), b"\0"].concat();
            let range = KeyRange::range(start, stream.request.range.end().clone());
            stream.request.range = range.expect("there is more");
        }
        self.mirror.handle_chunk(self.now, list, Ok(chunk));
        self.stream = Some(stream);
        true
    }

    /// The driver takes from the watch what the mirror wants.
    pub(crate) fn feed(&mut self) -> bool {
        let Some(watch) = self.watch.filter(|_| self.mirror.wants_delivery()) else { return false };
        let Some(delivery) = self.watcher.next(self.now, watch) else { return false };
        if matches!(delivery, Delivery::Closed(_)) {
            self.watch = None;
        }
        self.mirror.handle_delivery(self.now, delivery);
        true
    }

    pub(crate) fn sleep(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.watcher.handle_timeout(self.now);
        self.mirror.handle_timeout(self.now);
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        [self.mirror.poll_timeout(), self.watcher.poll_timeout()].into_iter().flatten().min()
    }

    /// The consumer takes one event, folds it, and compares.
    pub(crate) fn take(&mut self) -> bool {
        let Some(event) = self.mirror.next(self.now) else { return false };
        self.log.push(format!("{event:?}"));
        assert!(self.closed.is_none(), "after the end: {event:?}");
        let synced = event.synced_revision();
        match event {
            MirrorEvent::Listing { revision, reason } => {
                self.believed = self.listed;
                if reason.is_other_store() {
                    (self.announced, self.is_anew) = (0, true);
                }
                if self.believed + 1 == self.stores.len() {
                    self.ceiling = i64::MAX;
                }
                assert!(revision >= self.announced, "a list at {revision} after {}", self.announced);
                self.listing = Some(revision);
                self.listed_through = None;
            }
            MirrorEvent::Snapshot(part) => self.fold_part(part),
            MirrorEvent::Synced { revision } => {
                assert_eq!(self.listing.take().unwrap_or(revision), revision, "a list is of one revision");
                let is_covered = matches!(self.listed_through.take(), None | Some(None));
                assert!(is_covered, "a list goes to the end of the range");
                self.is_anew = false;
                self.compare(revision);
            }
            MirrorEvent::Changes(response) => self.fold_changes(&response),
            MirrorEvent::Closed(reason) => self.closed = Some(reason),
            other => panic!("unheard of: {other:?}"),
        }
        if let Some(revision) = synced {
            assert_eq!(self.mirror.synced_revision(), Some(revision));
        }
        true
    }

    fn fold_part(&mut self, part: SnapshotPart) {
        let listing = self.listing.expect("parts come inside of brackets");
        let count = part.puts().len() + part.deletes().len();
        assert!(part.puts().iter().is_sorted_by(|a, b| a.key() < b.key()) && part.deletes().is_sorted());
        if self.keeps_index {
            assert!(count > 0, "a part without changes is left out");
            // Each change counts for 32 bytes beside its own, and all but the last come to less than what is wanted.
            let puts = part.puts().iter().map(|kv| kv.key().len() + kv.value().len() + 32);
            let sizes: Vec<usize> = puts.chain(part.deletes().iter().map(|key| key.len() + 32)).collect();
            let others = sizes.iter().sum::<usize>() - sizes.iter().max().expect("there are changes");
            assert!(others < self.page_bytes, "{} changes at once", sizes.len());
            for kv in part.puts() {
                let is_new = self.fold.get(kv.key()).is_none_or(|known| *known != kv.to_owned());
                assert!(self.is_anew || is_new, "{kv:?} is put and was there");
            }
            for key in part.deletes() {
                assert!(self.fold.remove(key).is_some(), "{key:?} is deleted and was not there");
            }
        } else {
            let (after, through) = part.span();
            let expected = self.listed_through.clone().unwrap_or(None);
            let expected = expected.as_deref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            assert_eq!(after, expected, "parts cover the range without a gap");
            self.listed_through = Some(match through {
                std::ops::Bound::Included(key) => Some(Bytes::copy_from_slice(key)),
                _ => None,
            });
            let known = self.fold.range::<[u8], _>(part.span()).map(|(key, _)| key);
            let gone: Vec<Bytes> = part.missing(known).cloned().collect();
            gone.iter().for_each(|key| drop(self.fold.remove(key)));
        }
        for kv in part.into_puts() {
            assert!(kv.mod_revision <= listing, "{kv:?} in a list at {listing}");
            self.fold.insert(kv.key.clone(), kv);
        }
    }

    fn fold_changes(&mut self, response: &WatchResponse) {
        assert!(self.listing.is_none(), "changes come outside of brackets");
        let revision = response.revision();
        assert!(revision > self.announced, "changes of {revision} after {}", self.announced);
        for event in response.events() {
            assert!(event.mod_revision() > self.announced, "{event:?} was in already");
            if event.kind() == EventKind::Delete {
                assert!(self.fold.remove(event.key()).is_some(), "{event:?}, which was not there");
                continue;
            }
            let kv = OwnedKeyValue {
                key: event.kv().key_bytes(),
                value: event.kv().value_bytes(),
                create_revision: event.create_revision(),
                mod_revision: event.mod_revision(),
                version: event.version(),
                lease: event.lease(),
            };
            self.fold.insert(kv.key.clone(), kv);
        }
        self.compare(revision);
    }

    /// The fold is exactly the store at this revision.
    fn compare(&mut self, revision: i64) {
        assert!(revision >= self.announced, "{revision} is announced after {}", self.announced);
        let store = &self.stores[self.believed];
        let expected = store.state(revision, &self.range);
        assert_eq!(Some(&self.fold), expected.as_ref(), "the fold against the store at {revision}");
        self.announced = revision;
    }

    fn is_caught_up(&self) -> bool {
        self.believed + 1 == self.stores.len()
            && self.listing.is_none()
            && self.announced == self.present().revision
    }

    /// Everything works as it should, until nothing more happens without time; whether anything did.
    pub(crate) fn flow(&mut self) -> bool {
        let mut happened = false;
        while self.answer(None) || self.open(true) || self.serve(3, false) || self.feed() || self.take() {
            self.settle();
            happened = true;
        }
        happened
    }

    /// Live: once faults stop, it comes to the store's revision in a bounded number of steps; then it is
    /// cancelled, and leaves nothing behind.
    pub(crate) fn finish(&mut self) {
        let mut has_asked = false;
        for round in 0.. {
            assert!(round < 300, "too long: {:#?}\n{:#?}", self.mirror, self.watcher);
            let happened = self.flow();
            if self.is_caught_up() {
                break;
            }
            if !happened && !has_asked {
                has_asked = true;
                self.mirror.request_progress(self.now);
                self.settle();
            } else if !happened {
                has_asked = false;
                let at = self.next_timeout().unwrap_or_else(|| panic!("stuck: {:#?}", self.mirror));
                self.sleep(at.since(self.now));
                self.settle();
            }
        }
        self.mirror.cancel(self.now);
        self.settle();
        while self.take() {}
        assert_eq!(self.closed, Some(CloseReason::Cancelled));
        assert!(self.mirror.is_closed() && self.mirror.poll_timeout().is_none() && !self.mirror.has_events());
        assert_eq!((self.watch, self.watcher.stats().watches, self.mirror.index_keys()), (None, 0, 0));
        self.serve(3, false);
        assert!(self.servers.values().all(|server| server.watch_count() == 0));
    }
}

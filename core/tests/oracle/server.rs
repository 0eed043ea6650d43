//! The server's end of one watch stream, with etcd's rules: `Created` and `canceled` take one way to the
//! wire and events and progress another, events wait for their `Created`, and what is still under way for
//! a watch that is over is never sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use etcd_watch_core::{CreateRequest, Opened, Request, ServerVersion};
use etcd_watch_proto::{etcdserverpb::WatchResponse as Frame, mvccpb::Event};
use prost::Message;

use crate::{
    store::{Store, View, revision_of},
    support::{canceled, compacted, created_at, header, progress, refused},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Manual progress replies wait for what they vouch for.
    Trusted,
    /// Manual progress replies overtake events.
    Untrusted,
    /// Chooses ids itself, knows neither fragments nor progress requests.
    Proxy,
}

impl Kind {
    pub(crate) fn opened(self) -> Opened {
        let version = match self {
            Self::Trusted => Some(ServerVersion::new(3, 5, 30)),
            Self::Untrusted => Some(ServerVersion::new(3, 4, 23)),
            Self::Proxy => None,
        };
        Opened { version, authenticated: true }
    }
}

struct ServerWatch {
    view: View,
    fragment: bool,
    /// The next revision to send.
    next: i64,
}

pub(crate) struct Server {
    kind: Kind,
    pub(crate) inbox: VecDeque<Request>,
    control: VecDeque<Frame>,
    data: VecDeque<Frame>,
    /// Watches whose `Created` has been sent, and no end.
    announced: BTreeSet<i64>,
    held: BTreeMap<i64, Vec<Frame>>,
    watches: BTreeMap<i64, ServerWatch>,
    /// Every id that was ever asked for on this stream.
    used: BTreeSet<i64>,
    next_id: i64,
    /// The stream's token has expired: as 3.4 does, it says that everyone is denied.
    pub(crate) is_expired: bool,
    /// The largest batch sent, by an upper bound of what it takes in the client's memory.
    pub(crate) largest: usize,
}

impl Server {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            inbox: VecDeque::new(),
            control: VecDeque::new(),
            data: VecDeque::new(),
            announced: BTreeSet::new(),
            held: BTreeMap::new(),
            watches: BTreeMap::new(),
            used: BTreeSet::new(),
            next_id: 0,
            is_expired: false,
            largest: 0,
        }
    }

    pub(crate) fn watch_count(&self) -> usize {
        self.watches.len()
    }

    pub(crate) fn has_words(&self) -> bool {
        !self.control.is_empty() || !self.data.is_empty()
    }

    /// Handles the oldest request.
    pub(crate) fn read(&mut self, store: &Store, place: usize) {
        match self.inbox.pop_front() {
            Some(Request::Create(create)) => self.create(store, create),
            Some(Request::Cancel { watch_id }) if self.watches.remove(&watch_id).is_some() => {
                let header = header(store.revision);
                self.control.push_back(Frame { header, ..canceled(watch_id, "") });
            }
            // A cancel of what isn't there is not answered.
            Some(Request::Cancel { .. }) => {}
            Some(Request::Progress) => self.reply(store, place),
            None => {}
        }
    }

    fn create(&mut self, store: &Store, create: CreateRequest) {
        let is_probe = create.is_probe();
        assert!(
            !is_probe || create.filters.no_put && create.filters.no_delete,
            "a probe's watch sees nothing"
        );
        let starts = is_probe || create.start_revision > 0;
        assert!(starts, "a watch without a start revision has no safe resume point");
        assert!(is_probe || create.progress_notify, "progress is always asked for");
        if self.is_expired {
            let header = header(store.revision);
            self.control.push_back(Frame { header, ..refused(-1, "etcdserver: permission denied") });
            return;
        }
        let id = if self.kind == Kind::Proxy || create.watch_id == 0 {
            self.next_id += 1;
            self.next_id - 1
        } else {
            assert!(self.used.insert(create.watch_id), "id {} was used before", create.watch_id);
            create.watch_id
        };
        let view = View { range: create.range, filters: create.filters, prev_kv: create.prev_kv };
        let fragment = create.fragment && self.kind != Kind::Proxy;
        let next = if is_probe { store.revision + 1 } else { create.start_revision };
        self.watches.insert(id, ServerWatch { view, fragment, next });
        self.control.push_back(created_at(id, store.revision));
    }

    fn reply(&mut self, store: &Store, place: usize) {
        let reply = progress(-1, store.revision);
        match self.kind {
            Kind::Trusted if self.watches.values().all(|watch| watch.next > store.revision) => {
                self.data.push_back(reply);
            }
            Kind::Untrusted => self.data.insert(place % (self.data.len() + 1), reply),
            Kind::Trusted | Kind::Proxy => {}
        }
    }

    fn id(&self, which: usize) -> Option<i64> {
        let count = self.watches.len();
        (count > 0).then(|| self.watches.keys().nth(which % count).copied()).flatten()
    }

    /// Sends a watch what it lacks, up to `revisions` of them, in fragments of `sizes`, each at a random
    /// `place` behind what its watch was sent before.
    pub(crate) fn emit(
        &mut self,
        store: &Store,
        which: usize,
        revisions: i64,
        sizes: &[usize],
        place: usize,
    ) -> bool {
        let Some(id) = self.id(which) else { return false };
        let Some(watch) = self.watches.get_mut(&id) else { return false };
        if watch.next > store.revision {
            return false;
        }
        if watch.next < store.compacted {
            self.watches.remove(&id);
            let header = header(store.revision);
            self.data.push_back(Frame { header, ..compacted(id, store.compacted) });
            return true;
        }
        let to = (watch.next + revisions - 1).min(store.revision);
        let events = store.seen(watch.next, to, &watch.view);
        watch.next = to + 1;
        let fragment = watch.fragment;
        self.send(store, id, events, if fragment { sizes } else { &[] }, place);
        true
    }

    /// Sends a watch once more what it has been sent: no etcd should, and some did.
    pub(crate) fn resend(&mut self, store: &Store, which: usize, revisions: i64) {
        let Some(id) = self.id(which) else { return };
        let Some(watch) = self.watches.get(&id) else { return };
        let events = store.seen((watch.next - revisions).max(1), watch.next - 1, &watch.view);
        self.send(store, id, events, &[], usize::MAX);
    }

    fn send(&mut self, store: &Store, id: i64, mut events: Vec<Event>, sizes: &[usize], place: usize) {
        let mut cost = 0;
        let mut sizes = sizes.iter();
        while !events.is_empty() {
            let size = sizes.next().map_or(events.len(), |&size| size.clamp(1, events.len()));
            let rest = events.split_off(size);
            let frame = Frame {
                header: header(store.revision),
                watch_id: id,
                fragment: !rest.is_empty(),
                events,
                ..Frame::default()
            };
            cost += frame.encoded_len() + frame.events.len() * 2 * 56 + 160;
            let barrier = self.data.iter().rposition(|sent| sent.watch_id == id || sent.watch_id == -1);
            let first = barrier.map_or(0, |at| at + 1);
            let at = first + place % (self.data.len() - first + 1);
            let at = if place == usize::MAX { self.data.len() } else { at };
            self.data.insert(at, frame);
            events = rest;
        }
        self.largest = self.largest.max(cost);
    }

    /// A periodic notification, which only a watch that lacks nothing gets.
    pub(crate) fn notify(&mut self, store: &Store, which: usize) {
        if let Some(id) = self.id(which)
            && self.watches.get(&id).is_some_and(|watch| watch.next > store.revision)
        {
            self.data.push_back(progress(id, store.revision));
        }
    }

    /// The client does not read on: what was to reach it next still is.
    pub(crate) fn take_back(&mut self, mut frames: VecDeque<Frame>) {
        self.announced.extend(frames.iter().map(|frame| frame.watch_id));
        frames.append(&mut self.data);
        self.data = frames;
    }

    /// What reaches the client next.
    pub(crate) fn transmit(&mut self, prefer_control: bool) -> Vec<Frame> {
        let use_control = !self.control.is_empty() && (prefer_control || self.data.is_empty());
        let next = if use_control { self.control.pop_front() } else { self.data.pop_front() };
        let Some(frame) = next else { return Vec::new() };
        let id = frame.watch_id;
        let mut sent = Vec::new();
        if use_control {
            if frame.created {
                self.announced.insert(id);
            }
            sent.push(frame);
            if self.announced.contains(&id) {
                sent.extend(self.held.remove(&id).unwrap_or_default());
            }
        } else if id == -1 || self.announced.contains(&id) {
            sent.push(frame);
        } else {
            self.held.entry(id).or_default().push(frame);
        }
        for frame in sent.iter().filter(|frame| frame.canceled) {
            self.announced.remove(&frame.watch_id);
        }
        debug_assert!(sent.iter().flat_map(|frame| &frame.events).all(|event| revision_of(event) > 0));
        sent
    }
}

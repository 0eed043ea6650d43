//! A server that says what a workload wants it to say, and the machine that it serves.

use bytes::Bytes;
use etcd_watch_core::{
    Action, Frame, Instant, KeyRange, Opened, Request, ServerVersion, StreamKey, WatchConfig, WatchKey,
    WatchRequest, Watcher,
};
use etcd_watch_proto::{
    etcdserverpb::{ResponseHeader, WatchResponse},
    mvccpb::{Event, KeyValue},
    prost::Message,
};

use crate::workload::CALLS;

/// What the keys of all events begin with.
const PREFIX: &str = "/registry/pods/";

/// The ids that etcd gives a cluster of one; like most, they take ten bytes each.
const CLUSTER_ID: u64 = 0xcdf8_1819_4e3a_8c32;
const MEMBER_ID: u64 = 0x8e9e_05c5_2164_694d;

/// A revision of the usual length.
pub(crate) const REVISION: i64 = 1_234_567;

/// A response for a watch, with puts of values of `value_bytes` at `revision` and those that follow it, as etcd
/// encodes it.
pub(crate) fn puts(watch_id: i64, revision: i64, events: u32, value_bytes: usize) -> Bytes {
    encode(revision + i64::from(events), with_puts(watch_id, revision, events, value_bytes))
}

/// The same without a header, as some proxies have it.
pub(crate) fn puts_without_header(watch_id: i64, revision: i64, events: u32, value_bytes: usize) -> Bytes {
    with_puts(watch_id, revision, events, value_bytes).encode_to_vec().into()
}

fn with_puts(watch_id: i64, revision: i64, events: u32, value_bytes: usize) -> WatchResponse {
    let put = |index: u32| {
        let revision = revision + i64::from(index);
        Event {
            kv: Some(KeyValue {
                key: format!("{PREFIX}{index:08}").into(),
                create_revision: (revision - 1000).max(1),
                mod_revision: revision,
                version: 3,
                value: vec![b'v'; value_bytes].into(),
                lease: 0,
            }),
            ..Event::default()
        }
    };
    WatchResponse { watch_id, events: (0..events).map(put).collect(), ..WatchResponse::default() }
}

fn encode(revision: i64, response: WatchResponse) -> Bytes {
    let header = ResponseHeader { cluster_id: CLUSTER_ID, member_id: MEMBER_ID, revision, raft_term: 7 };
    WatchResponse { header: Some(header), ..response }.encode_to_vec().into()
}

/// A watch that runs on the server.
#[derive(Clone, Copy)]
pub(crate) struct Running {
    pub(crate) watch: WatchKey,
    pub(crate) stream: StreamKey,
    id: i64,
}

/// A machine, and its server.
pub struct Machine {
    pub(crate) watcher: Watcher,
    pub(crate) now: Instant,
    pub(crate) running: Vec<Running>,
    revision: i64,
    turns: usize,
}

/// A machine with so many watches, all on one stream.
#[must_use]
pub fn of_watches(watches: usize) -> Machine {
    Machine::with(watches, watches + usize::try_from(2 * CALLS).unwrap_or(usize::MAX))
}

/// A machine with so many streams, of one watch each.
#[must_use]
pub fn of_streams(streams: usize) -> Machine {
    Machine::with(streams, 1)
}

impl Machine {
    /// A machine with `watches` running watches on streams of at most `per_stream`.
    fn with(watches: usize, per_stream: usize) -> Self {
        let config = WatchConfig::default().max_watches_per_stream(per_stream);
        let watcher = Watcher::new(config, 1).expect("a valid configuration");
        let now = Instant::from_nanos(1_000_000_000);
        let running = Vec::with_capacity(watches);
        let mut machine = Self { watcher, now, running, revision: REVISION, turns: 0 };
        (0..watches).for_each(|_| _ = machine.open());
        machine.answer_all();
        assert_eq!(machine.running.len(), watches, "every watch runs");
        machine
    }

    /// Opens a watch.
    pub(crate) fn open(&mut self) -> WatchKey {
        self.watcher.watch(self.now, request()).expect("a valid request")
    }

    /// Time passes.
    pub(crate) fn tick(&mut self) {
        self.now = Instant::from_nanos(self.now.as_nanos() + 1_000_000);
    }

    /// Another watch every time, from all over the table.
    pub(crate) fn any(&mut self) -> Running {
        self.turns += 7_919;
        self.running[self.turns % self.running.len()]
    }

    /// Some watch receives an event, after a while.
    pub(crate) fn receive(&mut self) -> Running {
        self.tick();
        let running = self.any();
        let event = self.event(running);
        self.watcher.handle_frame(self.now, running.stream, Ok(event));
        while self.watcher.poll_action().is_some() {}
        running
    }

    /// The next event for a watch, of 256 bytes.
    pub(crate) fn event(&mut self, of: Running) -> Frame {
        decode(self.event_bytes(of))
    }

    /// The same as it is received.
    pub(crate) fn event_bytes(&mut self, of: Running) -> Bytes {
        self.revision += 1;
        puts(of.id, self.revision, 1, 256)
    }

    /// A reply to a manual progress request.
    pub(crate) fn progress(&mut self) -> Frame {
        self.revision += 1;
        decode(encode(self.revision, WatchResponse { watch_id: -1, ..WatchResponse::default() }))
    }

    /// The answer to a create.
    pub(crate) fn created(&self, watch_id: i64) -> Frame {
        let response = WatchResponse { watch_id, created: true, ..WatchResponse::default() };
        decode(encode(self.revision, response))
    }

    /// Does all that the machine asks for, and answers its creates.
    pub(crate) fn answer_all(&mut self) {
        while let Some(action) = self.watcher.poll_action() {
            if let Some(created) = self.perform(action) {
                self.watcher.handle_frame(self.now, created.stream, Ok(self.created(created.id)));
            }
        }
    }

    /// Does what the machine asks for. A watch that it asks to create runs from then on, as soon as that is answered.
    pub(crate) fn perform(&mut self, action: Action) -> Option<Created> {
        match action {
            Action::Open { stream, .. } => {
                let version = Some(ServerVersion::new(3, 5, 30));
                self.watcher.handle_opened(self.now, stream, Opened { version, authenticated: false });
                None
            }
            Action::Send { stream, request: Request::Create(create), creates: Some(creates) } => {
                let id = create.watch_id;
                self.running.push(Running { watch: creates.watch, stream, id });
                Some(Created { stream, id })
            }
            _ => None,
        }
    }
}

/// A create that is to be answered.
#[derive(Clone, Copy)]
pub(crate) struct Created {
    pub(crate) stream: StreamKey,
    pub(crate) id: i64,
}

/// What every watch asks for.
pub(crate) fn request() -> WatchRequest {
    WatchRequest::new(KeyRange::prefix(PREFIX)).start_revision(REVISION)
}

fn decode(bytes: Bytes) -> Frame {
    Frame::decode(bytes).expect("a response as etcd encodes it")
}

//! What is to happen in a simulated world, all of it made up from one seed.

use std::time::Duration;

use etcd_watch_core::{Filters, KeyRange, Overflow, WatchConfig};

/// Keys that are written.
pub(super) const KEYS: [&str; 10] = ["a/0", "a/1", "a/2", "a/3", "b/0", "b/1", "b/2", "c", "d/0", "d/1"];

/// A key that no client may read or watch.
pub(super) const SECRET: &str = "SECRET";

/// A run: the world it begins in, and what happens there.
///
/// It is a list of steps, so that a failing run can be made shorter; what the network does in between (delays,
/// which of two frames comes first) follows from the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where all randomness comes from.
    pub seed: u64,
    /// The world.
    pub setup: Setup,
    /// What happens, and when.
    pub steps: Vec<(Duration, Step)>,
    /// A bug planted on purpose, to see whether it is found.
    pub planted: Option<Planted>,
}

/// How long and how busy runs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Simulated time with faults, before everything heals.
    pub duration: Duration,
    /// Mean time between two steps of any kind.
    pub pace: Duration,
}

impl Default for Settings {
    /// Two minutes with something happening every 250 ms.
    fn default() -> Self {
        Self { duration: Duration::from_secs(120), pace: Duration::from_millis(250) }
    }
}

/// A world before anything has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Members of the cluster.
    pub members: usize,
    /// Clients.
    pub clients: usize,
    /// What the members run.
    pub servers: Servers,
    /// Whether clients need tokens.
    pub auth: bool,
    /// Size from which members cut responses, in bytes.
    pub fragment_bytes: usize,
    /// Responses that a member holds for a reader.
    pub watch_queue: usize,
    /// Most revisions in a response of a watch that catches up.
    pub batch_revisions: usize,
    /// How often watches that are behind catch up; zero for at once.
    pub sync_interval: Duration,
    /// How often members tell of progress.
    pub progress_interval: Duration,
    /// A watch's budget, in bytes.
    pub buffer_bytes: usize,
    /// Most events handed over together.
    pub batch_events: usize,
    /// Most watches on one stream.
    pub watches_per_stream: usize,
    /// Streams over which watches are spread.
    pub streams: usize,
    /// Whether clients probe streams that are silent.
    pub probe: bool,
    /// How often clients ask for progress.
    pub progress_requests: Duration,
    /// The members before this one have `RangeStream`.
    pub streaming_members: usize,
}

impl Setup {
    /// The settings of a client's machine.
    pub(super) fn config(&self) -> WatchConfig {
        WatchConfig::default()
            .buffer_floor_bytes((self.buffer_bytes / 3).max(1))
            .buffer_bytes(self.buffer_bytes)
            .total_buffer_bytes(self.buffer_bytes * 4)
            .batch_events(self.batch_events)
            .max_watches_per_stream(self.watches_per_stream)
            .streams(self.streams)
            .probe(self.probe.then_some(Duration::from_secs(8)))
            .progress_interval(Some(self.progress_requests))
    }
}

/// What the members of a cluster run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Servers {
    /// 3.5.30.
    New,
    /// 3.4.23: progress replies overtake events.
    Old,
    /// 3.5.10: progress replies are in order, and may be left out.
    Quiet,
    /// Some of each.
    Mixed,
    /// etcd's gRPC proxy, in front of each member.
    Proxy,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A transaction.
    Write(Vec<Change>),
    /// History up to so many revisions ago is forgotten.
    Compact {
        /// How many.
        back: i64,
    },
    /// A client opens a watch.
    Watch(WatchPlan),
    /// A client mirrors a range.
    Mirror(MirrorPlan),
    /// A watch is cancelled; with `back_after`, its consumer comes back later and goes on where it was.
    Cancel {
        /// Which watch.
        watch: usize,
        /// When it is opened again.
        back_after: Option<Duration>,
    },
    /// A consumer asks for progress.
    RequestProgress {
        /// Which watch.
        watch: usize,
    },
    /// A consumer takes nothing for a while.
    Stall {
        /// Which watch.
        watch: usize,
        /// How long.
        lasts: Duration,
    },
    /// A connection breaks, and both ends notice.
    Cut {
        /// Which stream.
        link: usize,
    },
    /// A connection breaks, and neither end is told.
    HalfOpen {
        /// Which stream.
        link: usize,
    },
    /// A server sends bytes that are no message.
    Garbage {
        /// Which stream.
        link: usize,
    },
    /// A server ends a watch without a reason.
    ServerCancel {
        /// Which stream.
        link: usize,
        /// Which of its watches.
        watch: usize,
    },
    /// A proxy loses a watch, and tells nobody.
    LoseWatch {
        /// Which stream.
        link: usize,
        /// Which of its watches.
        watch: usize,
    },
    /// A client moves a stream to another member.
    Move {
        /// Which stream.
        link: usize,
    },
    /// Nothing passes between a client and a member for a while; what is under way is kept.
    BlackHole {
        /// Which client.
        client: usize,
        /// Which member.
        member: usize,
        /// How long.
        lasts: Duration,
    },
    /// A member stops, and starts again.
    Kill {
        /// Which member.
        member: usize,
        /// How long it is away.
        lasts: Duration,
    },
    /// A member stands still for a while.
    Freeze {
        /// Which member.
        member: usize,
        /// How long.
        lasts: Duration,
    },
    /// A member is cut off from the others.
    Isolate {
        /// Which member.
        member: usize,
        /// How long.
        lasts: Duration,
    },
    /// A member learns of writes late.
    Lag {
        /// Which member.
        member: usize,
        /// How long.
        lasts: Duration,
    },
    /// A backup of the store is made.
    Backup,
    /// The store is restored from the last backup, as the same cluster or as a new one.
    Restore {
        /// Whether the cluster gets another id.
        new_cluster: bool,
    },
    /// No token given out so far is good any more.
    ExpireTokens,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Puts a key.
    Put {
        /// Which key.
        key: usize,
        /// Size of the value, in bytes.
        bytes: usize,
    },
    /// Deletes a key.
    Delete {
        /// Which key.
        key: usize,
    },
    /// Deletes every key with a prefix.
    DeletePrefix(&'static str),
}

/// A watch that a client opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchPlan {
    /// Which client.
    pub client: usize,
    /// What it watches.
    pub range: RangePlan,
    /// So many revisions back; `None` for from now on.
    pub back: Option<i64>,
    /// Previous pairs are asked for.
    pub prev_kv: bool,
    /// What is left out.
    pub filters: Filters,
    /// Progress is asked for.
    pub progress_notify: bool,
    /// Word of its creation is asked for.
    pub created_notify: bool,
    /// Responses may be cut.
    pub fragment: bool,
    /// What happens when its consumer is too slow.
    pub overflow: Overflow,
    /// Whether its stream is to have a leader.
    pub require_leader: bool,
    /// How long its consumer takes over a response.
    pub pause: Duration,
}

/// A mirror that a client opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorPlan {
    /// Which client.
    pub client: usize,
    /// What it mirrors.
    pub range: RangePlan,
    /// The size of a page, in bytes; a pair has some 50.
    pub page_bytes: usize,
    /// Whether the machine keeps an index.
    pub keep_index: bool,
    /// How long its consumer takes over an event.
    pub pause: Duration,
}

/// A range of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangePlan {
    /// Every key but the secret one.
    All,
    /// Those under `a/`.
    Prefix,
    /// One key.
    Key,
    /// From `b/1` on.
    From,
    /// From `a/2` to `b/2`.
    Between,
    /// The one that nobody may watch.
    Secret,
}

impl RangePlan {
    pub(super) fn range(self) -> KeyRange {
        match self {
            Self::All => KeyRange::from_key("a"),
            Self::Prefix => KeyRange::prefix("a/"),
            Self::Key => KeyRange::key("c"),
            Self::From => KeyRange::from_key("b/1"),
            Self::Between => KeyRange::range("a/2", "b/2").expect("a range"),
            Self::Secret => KeyRange::key(SECRET),
        }
    }
}

/// A bug, put between the machine and the world on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    /// A watch is created again after the revision of the last header seen, rather than of the last event.
    ResumesAfterHeader,
    /// Progress replies of old members are believed.
    BelievesOldProgress,
    /// Fragments are handed on as if each were a whole response.
    SplitsFragments,
    /// Cancels are not sent.
    KeepsCancels,
    /// "Now" is read from whichever member answers, be it behind.
    ReadsStale,
    /// Nobody notices that a connection is half-open.
    NoKeepalive,
    /// Streams are read on although a watch wants to pause.
    ReadsOn,
    /// A mirror's consumer leaves out the deletes of a list.
    KeepsDeleted,
    /// A response is handed out a second time when its stream has been replaced.
    HandsOutAgain,
    /// Responses that waited are thrown away when a stream breaks.
    DropsQueued,
}

impl Planted {
    /// All there are.
    pub const ALL: [Self; 10] = [
        Self::ResumesAfterHeader,
        Self::BelievesOldProgress,
        Self::SplitsFragments,
        Self::KeepsCancels,
        Self::ReadsStale,
        Self::NoKeepalive,
        Self::ReadsOn,
        Self::KeepsDeleted,
        Self::HandsOutAgain,
        Self::DropsQueued,
    ];
}

//! What a small world is made of.

use std::time::Duration;

use etcd_watch_core::{KeyRange, Opened, Overflow, ServerVersion, WatchConfig, WatchRequest};

/// A world to search: who watches what, what is written, which server answers, and what may go wrong.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it is called in reports.
    pub name: String,
    /// The watches, in the order in which they get their keys in the machine.
    pub watches: Vec<WatchPlan>,
    /// The keys that each write puts, all in one transaction. The first makes revision 2.
    pub writes: Vec<Vec<&'static str>>,
    /// The server's manners.
    pub server: ServerPlan,
    /// What may go wrong, and how often.
    pub faults: Faults,
    /// How many periodic progress notifications the server sends.
    pub notifications: u8,
    /// How many progress notifications consumers ask for.
    pub asks: u8,
    /// How many times the machine may ask again for a progress notification that has not come.
    pub repeats: u8,
    /// When consumers take what they are told of.
    pub consumers: Consumers,
    /// What wrong behaviour is planted, for the search to find.
    pub bug: Option<Bug>,
    /// Judge by the events that consumers receive, not by bookmarks, nor by what the machine says of itself.
    pub is_blind: bool,
}

/// One watch of a [`Plan`].
#[derive(Clone, Debug)]
pub struct WatchPlan {
    /// What it watches.
    pub range: KeyRange,
    /// The revision it starts at; `None` for now.
    pub start: Option<i64>,
    /// It is opened at any time, rather than before everything else.
    pub is_late: bool,
    /// Its consumer wants progress notifications.
    pub progress_notify: bool,
}

/// How a server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerPlan {
    /// It takes the watch ids that its client chooses; otherwise it counts from 0.
    pub echoes_ids: bool,
    /// It cuts responses where it likes.
    pub fragments: bool,
    /// How it answers manual progress requests.
    pub progress: ManualProgress,
    /// Its `Created` tells no revision but the one that was asked for, as the gRPC proxy's does.
    pub synthetic_created: bool,
    /// The version that the driver hears of.
    pub version: Option<ServerVersion>,
}

/// How a server answers manual progress requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManualProgress {
    /// Behind the events on their way, or not at all while a watch is catching up.
    Ordered,
    /// At once: ahead of events.
    Overtaking,
    /// Never.
    Ignored,
}

impl ServerPlan {
    /// etcd 3.4.25, 3.5.8 and later.
    #[must_use]
    pub fn etcd() -> Self {
        Self {
            echoes_ids: true,
            fragments: true,
            progress: ManualProgress::Ordered,
            synthetic_created: false,
            version: Some(ServerVersion::new(3, 5, 30)),
        }
    }

    /// etcd before that: its manual progress replies overtake events.
    #[must_use]
    pub fn old_etcd() -> Self {
        let version = Some(ServerVersion::new(3, 4, 23));
        Self { progress: ManualProgress::Overtaking, version, ..Self::etcd() }
    }

    /// etcd's gRPC proxy: chooses ids, cuts nothing, knows no progress requests, and tells no version.
    #[must_use]
    pub fn proxy() -> Self {
        Self {
            echoes_ids: false,
            fragments: false,
            progress: ManualProgress::Ignored,
            synthetic_created: true,
            version: None,
        }
    }

    /// Like etcd but for the ids, which it chooses.
    #[must_use]
    pub fn numbering() -> Self {
        Self { echoes_ids: false, ..Self::etcd() }
    }

    pub(super) fn opened(&self) -> Opened {
        Opened { version: self.version, authenticated: false }
    }
}

/// What may go wrong: each kind so often, and all together no more than the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// All together.
    pub sum: u8,
    /// Connections that are cut, can't be opened, or are given up because nobody answers; reads that fail.
    pub cuts: u8,
    /// Responses sent in one more part.
    pub fragments: u8,
    /// Compactions, at any revision.
    pub compactions: u8,
    /// Watches cancelled by their consumer.
    pub cancels: u8,
}

impl Faults {
    /// Any `sum` faults.
    #[must_use]
    pub fn any(sum: u8) -> Self {
        Self { sum, cuts: sum, fragments: sum, compactions: sum, cancels: sum }
    }
}

/// When consumers take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumers {
    /// At once. Until a watch is cancelled or its buffer is full, taking changes nothing in the machine but
    /// its queue and counters, and nobody else looks at those: so a take that comes later commutes with
    /// everything up to the next take, and only batches differ.
    Prompt,
    /// At any time, one delivery at a time.
    AtAnyTime,
    /// The same, with no room for a second response: then this policy applies.
    Cramped(Overflow),
}

/// Wrong behaviour, to show that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The driver gives what a cut stream had left to say to its successor.
    StaleFrames,
    /// The driver loses a response, and nothing else.
    LostResponse,
    /// The driver does not send cancel requests.
    ForgottenCancels,
    /// The driver reads the current revision from a member that may be one revision behind.
    StaleReads,
    /// The consumer does not take until there is nothing left, but once each time it is told.
    SingleTakes,
    /// The server's periodic notifications don't wait for the events before them.
    EarlyNotifications,
}

impl Plan {
    /// Two watches from revision 2, on every key and on `b`; `a` is written, then `a` and `b` together, then
    /// `b`; nothing goes wrong.
    #[must_use]
    pub fn new(name: impl Into<String>, server: ServerPlan) -> Self {
        let watch = |range| WatchPlan { range, start: Some(2), is_late: false, progress_notify: true };
        Self {
            name: name.into(),
            watches: vec![watch(KeyRange::all()), watch(KeyRange::key("b"))],
            writes: vec![vec!["a"], vec!["a", "b"], vec!["b"]],
            server,
            faults: Faults::any(0),
            notifications: 0,
            asks: 0,
            repeats: 0,
            consumers: Consumers::Prompt,
            bug: None,
            is_blind: false,
        }
    }

    /// With these faults.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// With so many periodic notifications from the server, at any time.
    #[must_use]
    pub fn notifications(mut self, notifications: u8) -> Self {
        self.notifications = notifications;
        self
    }

    /// With consumers that ask for progress so many times, and a machine that may repeat the question once.
    #[must_use]
    pub fn asks(mut self, asks: u8) -> Self {
        (self.asks, self.repeats) = (asks, 1);
        self
    }

    /// With one watch that is opened at any time, from then on.
    #[must_use]
    pub fn from_now(mut self, watch: usize) -> Self {
        self.watches[watch].start = None;
        self.watches[watch].is_late = true;
        self
    }

    /// With consumers that are slower.
    #[must_use]
    pub fn consumers(mut self, consumers: Consumers) -> Self {
        self.consumers = consumers;
        self
    }

    /// With wrong behaviour.
    #[must_use]
    pub fn bug(mut self, bug: Bug) -> Self {
        self.bug = Some(bug);
        self
    }

    /// Every backoff is the same, so that jitter makes no two states of one; and it is shorter than what the
    /// machine otherwise waits for, so that nothing that may wait for ever comes before it.
    pub(super) fn config(&self) -> WatchConfig {
        let pause = Duration::from_millis(10);
        let config = WatchConfig::default().backoff(pause, pause, pause).progress_interval(None);
        match self.consumers {
            Consumers::Cramped(policy) => config.buffer_floor_bytes(1).buffer_bytes(1).overflow(policy),
            Consumers::Prompt | Consumers::AtAnyTime => config,
        }
    }

    pub(super) fn request(&self, watch: usize) -> WatchRequest {
        let plan = &self.watches[watch];
        WatchRequest::new(plan.range.clone())
            .start_revision(plan.start.unwrap_or(0))
            .progress_notify(plan.progress_notify)
    }
}

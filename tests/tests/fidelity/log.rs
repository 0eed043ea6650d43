//! What one side has said on one stream, sorted by what it is about.

use std::collections::BTreeMap;

use etcd_watch_proto::{etcdserverpb::WatchResponse, mvccpb::Event};

/// Stands for no watch in particular.
const NO_WATCH: i64 = -1;

/// What one side has said on one stream.
#[derive(Debug, Default)]
pub(crate) struct StreamLog {
    /// Replies to requests, in order. Which ones precede which events is not for a server to promise.
    pub(crate) control: Vec<String>,
    /// What those about creates and cancels come to.
    pub(crate) outcomes: Vec<Outcome>,
    /// The watches, in the order of their replies.
    pub(crate) watches: Vec<WatchLog>,
    /// Progress of the whole stream, if that comes in line with events.
    pub(crate) progress: Vec<StreamProgress>,
    /// Creates that were answered.
    pub(crate) creates_answered: usize,
    /// What no server may say.
    pub(crate) illegal: Vec<String>,
    /// Which watch an id stands for.
    current: BTreeMap<i64, usize>,
    /// Whether progress of the whole stream is a reply like others.
    overtaking: bool,
}

/// What a reply to a request comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created { id: i64, revision: i64 },
    Refused,
    Cancelled { id: i64 },
}

/// What one side has said about one watch.
#[derive(Debug, Default)]
pub(crate) struct WatchLog {
    pub(crate) batches: Vec<Batch>,
    /// Events so far.
    pub(crate) delivered: usize,
    pub(crate) notifications: Vec<Notification>,
    /// The compaction that ended it, as it was told.
    pub(crate) compacted: Option<String>,
}

/// One response, put together again if it was cut.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) revision: i64,
    pub(crate) events: Vec<Event>,
    /// How many events were in each part.
    pub(crate) parts: Vec<usize>,
    /// Whether a part is still to come.
    pub(crate) open: bool,
}

/// Progress of one watch, and how many events it had had by then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notification {
    pub(crate) revision: i64,
    pub(crate) delivered: usize,
}

/// Progress of a stream, and how many events each watch had had by then.
#[derive(Debug)]
pub(crate) struct StreamProgress {
    pub(crate) revision: i64,
    pub(crate) delivered: Vec<usize>,
}

impl StreamLog {
    pub(crate) fn new(overtaking: bool) -> Self {
        Self { overtaking, ..Self::default() }
    }

    /// The stream ended though nobody closed it.
    pub(crate) fn failed(&mut self, why: &str) {
        self.illegal.push(format!("the stream failed: {why}"));
    }

    pub(crate) fn absorb(&mut self, response: WatchResponse) {
        let revision = response.header.as_ref().map_or(-1, |header| header.revision);
        if response.created || (response.canceled && response.compact_revision == 0) {
            self.absorb_reply(response, revision);
        } else if response.watch_id == NO_WATCH {
            self.absorb_progress(&response, revision);
        } else {
            let told = describe(&response, revision);
            match self.current.get(&response.watch_id).map(|index| &mut self.watches[*index]) {
                Some(watch) => {
                    if let Err(why) = watch.absorb(response, revision) {
                        self.illegal.push(format!("{why}: {told}"));
                    }
                }
                None => self.illegal.push(format!("nobody has this id: {told}")),
            }
        }
    }

    fn absorb_reply(&mut self, response: WatchResponse, revision: i64) {
        self.control.push(describe(&response, revision));
        let id = response.watch_id;
        if response.created {
            self.creates_answered += 1;
        }
        self.outcomes.push(match (response.created, response.canceled) {
            (true, true) => Outcome::Refused,
            (true, false) => {
                self.current.insert(id, self.watches.len());
                self.watches.push(WatchLog::default());
                Outcome::Created { id, revision }
            }
            (false, _) => {
                self.current.remove(&id);
                Outcome::Cancelled { id }
            }
        });
    }

    fn absorb_progress(&mut self, response: &WatchResponse, revision: i64) {
        let told = describe(response, revision);
        if self.overtaking {
            self.control.push(told);
        } else {
            let delivered = self.watches.iter().map(|watch| watch.delivered).collect();
            self.progress.push(StreamProgress { revision, delivered });
            if !response.events.is_empty() || response.canceled || response.fragment {
                self.illegal.push(format!("for no watch: {told}"));
            }
        }
    }
}

impl WatchLog {
    fn absorb(&mut self, response: WatchResponse, revision: i64) -> Result<(), &'static str> {
        let open = self.batches.last().is_some_and(|batch| batch.open);
        if self.compacted.is_some() {
            return Err("after its end");
        }
        if response.compact_revision != 0 {
            self.compacted = Some(describe(&response, revision));
            return if open { Err("amid the parts of a batch") } else { Ok(()) };
        }
        let count = response.events.len();
        self.delivered += count;
        if count == 0 {
            self.notifications.push(Notification { revision, delivered: self.delivered });
            return if open { Err("amid the parts of a batch") } else { Ok(()) };
        }
        match self.batches.last_mut().filter(|batch| batch.open) {
            Some(batch) => {
                batch.parts.push(count);
                batch.events.extend(response.events);
                batch.open = response.fragment;
                if batch.revision != revision {
                    return Err("parts of a batch with different revisions");
                }
            }
            None => self.batches.push(Batch {
                revision,
                events: response.events,
                parts: vec![count],
                open: response.fragment,
            }),
        }
        Ok(())
    }
}

/// All of a response but its events.
fn describe(response: &WatchResponse, revision: i64) -> String {
    let mut told = format!("watch {} at {revision}:", response.watch_id);
    if response.created {
        told += " created";
    }
    if response.canceled {
        told += " cancelled";
    }
    if response.compact_revision != 0 {
        told += &format!(" compacted up to {}", response.compact_revision);
    }
    if !response.cancel_reason.is_empty() {
        told += &format!(" {:?}", response.cancel_reason);
    }
    if response.fragment {
        told += " part";
    }
    if !response.events.is_empty() {
        told += &format!(" {} events", response.events.len());
    }
    if !(response.created || response.canceled) && response.events.is_empty() {
        told += " progress";
    }
    told
}

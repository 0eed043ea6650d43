//! What happens, as a value that can be generated, shrunk, printed and written by hand.

use std::fmt;
use std::sync::Arc;

use etcd_watch_core::Overflow;

use super::Settings;
use super::settings::Keyspace;

/// What happens to a store, a network and a consumer, step by step. Running one is deterministic.
///
/// [`histories`](super::histories) makes them at random. A failure prints the shrunk one as Rust code: put it
/// together by [`new`](Self::new) for a regression test.
///
/// ```
/// use etcd_watch_testkit::lawful::{Change, History, Plan, Settings, Step};
///
/// let history = History::new(
///     &Settings::default(),
///     Plan::default(),
///     [Step::Write(vec![Change::Put { key: 0, value: 3 }]), Step::Flow, Step::Cut],
/// );
/// assert_eq!(history.steps().len(), 3);
/// ```
#[derive(Clone)]
pub struct History {
    pub(super) plan: Plan,
    pub(super) steps: Vec<Step>,
    pub(super) keyspace: Arc<Keyspace>,
}

impl History {
    /// A history written by hand. The settings tell the keys and values.
    #[must_use]
    pub fn new(settings: &Settings, plan: Plan, steps: impl IntoIterator<Item = Step>) -> Self {
        Self { plan, steps: steps.into_iter().collect(), keyspace: settings.keyspace.clone() }
    }

    /// How the two sides are set up.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What happens. After the last step everything works again, one more key is put, and all of it must
    /// arrive.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("plan", &self.plan).field("steps", &self.steps).finish()
    }
}

/// How the two sides of a history are set up. The default is calm: nothing is split, nothing overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Of the client's backoff.
    pub seed: u64,
    /// The size in bytes of a page of a mirror's list.
    pub page_bytes: usize,
    /// What the client does about a consumer that is too slow, unless its request says something else.
    pub overflow: Overflow,
    /// Bytes that may wait for the consumer; some 150 go for one event.
    pub buffer_bytes: usize,
    /// Events that are handed out together.
    pub batch_events: usize,
    /// Bytes that one revision may have, if it comes in parts.
    pub max_revision_bytes: usize,
    /// Responses that the server holds for the client before the watch falls behind.
    pub watch_queue: usize,
    /// Revisions in one response of a watch that catches up.
    pub batch_revisions: usize,
    /// Bytes from which a response is sent in parts.
    pub fragment_bytes: usize,
    /// Whether the server is so old that its manual progress can't be trusted.
    pub old_server: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 0,
            page_bytes: 8 << 20,
            overflow: Overflow::Replay,
            buffer_bytes: 1 << 20,
            batch_events: 4096,
            max_revision_bytes: 1 << 20,
            watch_queue: 128,
            batch_revisions: 1000,
            fragment_bytes: 1 << 20,
            old_server: false,
        }
    }
}

/// One thing that happens. Between steps nothing moves: what the server has for the client waits there, and
/// what the client has for the consumer too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A transaction: one revision.
    Write(Vec<Change>),
    /// All keys are deleted, in one revision.
    DeleteAll,
    /// A key is put on a lease, which nobody keeps alive.
    Lease {
        /// The key, by its number.
        key: usize,
        /// The value, by its number.
        value: u32,
        /// The time to live; 2 is the least.
        seconds: u32,
    },
    /// History is compacted up to so many revisions before the newest.
    Compact {
        /// How many.
        behind: i64,
    },
    /// The connection breaks. What was on its way is lost.
    Cut,
    /// The page that is asked for fails, or the connection that is being made.
    Refuse,
    /// The network carries so many things: a connection is made, a page comes, a response comes.
    Carry(u32),
    /// The consumer takes so many things.
    Take(u32),
    /// All of that goes on until there is no more.
    Flow,
    /// Time passes: leases end, servers report progress.
    Wait {
        /// How much.
        seconds: u32,
    },
    /// A mirror is asked to find out how far it is. For other watches nothing happens.
    AskProgress,
    /// The consumer's process stops and starts again.
    Restart,
    /// The consumer's process crashes at a [crash point](super::Crash::point). For mirrors nothing happens.
    Crash {
        /// How many crash points it passes before.
        points: u32,
    },
    /// Another cluster answers at the endpoints, with these changes, one revision each.
    Replace(Vec<Change>),
    /// The store is restored from a backup, with the same cluster id. A backup that is not older than what the
    /// consumer has seen can't be told from the store, so it is older.
    Restore {
        /// How many revisions older, at least 1.
        back: i64,
    },
}

impl Step {
    pub(super) fn keys_mut(&mut self) -> Vec<&mut usize> {
        match self {
            Self::Write(changes) | Self::Replace(changes) => {
                changes.iter_mut().map(Change::key_mut).collect()
            }
            Self::Lease { key, .. } => vec![key],
            _ => Vec::new(),
        }
    }
}

/// A change of one key in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is put.
    Put {
        /// The key, by its number in [`Settings::keys`].
        key: usize,
        /// The value, by the number that [`Settings::values`] is given.
        value: u32,
    },
    /// It is deleted.
    Delete {
        /// The key, by its number.
        key: usize,
    },
}

impl Change {
    pub(super) fn key(self) -> usize {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    fn key_mut(&mut self) -> &mut usize {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

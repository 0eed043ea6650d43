//! What a consumer got wrong, and the history that shows it.

use std::fmt;

use super::{History, code};

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// The consumer's own check failed.
    #[error("at revision {revision}: {message}{hint}")]
    Check {
        /// The revision of the store that it was compared with.
        revision: i64,
        /// What the check said.
        message: String,
        /// What is worth knowing besides; empty for nothing.
        hint: &'static str,
    },
    /// What the consumer shows while it is told of a mix is wrong.
    #[error("between two states of the store: {message}")]
    Between {
        /// What the check said.
        message: String,
    },
    /// The consumer panicked.
    #[error("the consumer panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// A [`Crash::point`](super::Crash::point) said that the process crashes, and the consumer went on.
    #[error("the consumer went on after a crash: return what `Crash::point` returns at once, with `?`")]
    OutlivedACrash,
    /// The consumer asked for a mirror or a watch that it can't have.
    #[error("the consumer's request can't be served: {message}")]
    Request {
        /// Why not.
        message: String,
    },
    /// The store was replaced or restored, and the consumer's watch went on as if nothing had happened.
    #[error(
        "another store answers, and nobody noticed: a watch begun at revision {start} knows nothing of the store \
         before unless its request says so (`WatchRequest::known_store`)"
    )]
    Unnoticed {
        /// Where the watch began.
        start: i64,
    },
    /// Nothing fails any more, and the consumer still does not come to the newest revision.
    #[error("it does not come to revision {newest}, only to {reached}: {message}")]
    Stalled {
        /// The store's revision.
        newest: i64,
        /// The consumer's.
        reached: i64,
        /// What it is at instead.
        message: String,
    },
    /// A revision was announced that the store has not come to. Not the consumer's fault: please report it.
    #[error("revision {revision} was announced, which the store never had{hint}")]
    NoSuchRevision {
        /// The revision.
        revision: i64,
        /// What is worth knowing besides; empty for nothing.
        hint: &'static str,
    },
}

/// A history that a consumer doesn't cope with, and what happened in it. `Display` and `Debug` both print
/// the whole transcript, so that an `expect` or a test's `?` shows it.
#[derive(Clone)]
pub struct Failure(Box<Inner>);

#[derive(Clone)]
struct Inner {
    history: History,
    broken: Broken,
    transcript: Vec<String>,
    origin: Option<Origin>,
}

/// Where a shrunk history comes from.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) seed: u64,
    /// How many histories were run up to this one, with it.
    pub(super) cases: u32,
    /// How many steps it had.
    pub(super) steps: usize,
}

impl Failure {
    pub(super) fn new(
        history: History,
        broken: Broken,
        transcript: Vec<String>,
        origin: Option<Origin>,
    ) -> Self {
        Self(Box::new(Inner { history, broken, transcript, origin }))
    }

    /// What went wrong at its end.
    #[must_use]
    pub fn broken(&self) -> &Broken {
        &self.0.broken
    }

    /// The history; a small one, if it was shrunk.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.0.history
    }

    /// What happened, a line each.
    #[must_use]
    pub fn transcript(&self) -> &[String] {
        &self.0.transcript
    }

    /// The seed of the history it was shrunk from, and how many histories it took to come to it; `None` for
    /// one that was given.
    #[must_use]
    pub fn found_by(&self) -> Option<(u64, u32)> {
        self.0.origin.map(|origin| (origin.seed, origin.cases))
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { history, broken, transcript, origin } = &*self.0;
        writeln!(f, "{broken}")?;
        writeln!(f)?;
        if let Some(Origin { seed, cases, steps }) = origin {
            let few = history.steps().len();
            writeln!(f, "history {cases}, of seed {seed}, shrunk from {steps} steps to {few}:")?;
        }
        for line in transcript {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "{:>8}  {broken}", "broken")?;
        writeln!(f)?;
        if let Some(Origin { seed, .. }) = origin {
            writeln!(f, "`settings.seed({seed}).cases(1)` tries only this one; as a test of its own:")?;
        }
        write!(f, "{}", code::of(history))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

//! A promise that was broken, and how it came to that.

use std::fmt;

/// What a search holds the machine and its driver to, in every state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Promise {
    /// What a consumer receives is history: in order, each event once, none missing, no revision split, none
    /// from before the start.
    History,
    /// A progress revision means that everything up to it was received.
    Bookmark,
    /// A watch from now starts after everything there was when it was opened, and before what comes then.
    Start,
    /// The revision to go on at is not past an event that was neither taken nor waits to be.
    Resume,
    /// A watch ends once, for a reason, and nothing comes after that.
    End,
    /// Requests go to open streams and say what the watch is; no id stands for two watches, and none is
    /// cancelled that is wanted.
    Requests,
    /// A server that keeps the rules is not accused of breaking them.
    Accusation,
    /// When nothing is left to happen, every watch that has not ended has everything.
    Live,
    /// When nothing is left to happen, the server has the watches that have not ended, each once; and when all
    /// have ended, nothing is left, on either side.
    Leak,
    /// No run goes on for ever.
    Ends,
    /// The machine does not panic.
    Panic,
}

/// A promise that a step broke.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub(super) promise: Promise,
    pub(super) what: String,
}

impl Broken {
    pub(super) fn new(promise: Promise, what: impl Into<String>) -> Self {
        Self { promise, what: what.into() }
    }
}

pub(super) fn ensure(holds: bool, promise: Promise, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken::new(promise, what())) }
}

/// A promise that was broken, with the shortest run that leads there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The plan's name.
    pub world: String,
    /// The promise.
    pub promise: Promise,
    /// What was seen.
    pub what: String,
    /// The run: each step, and after it what the machine said and what consumers took.
    pub transcript: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {:?} is broken: {}", self.world, self.promise, self.what)?;
        self.transcript.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl std::error::Error for Violation {}

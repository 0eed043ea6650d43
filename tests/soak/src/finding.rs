//! What a soak looks for: a promise that was broken.

use std::fmt;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which watch, mirror, cache or client it is about.
    pub who: String,
    /// What is wrong: the rule, and the revision and key where it was broken.
    pub what: String,
    /// What the store and the watch have around there.
    pub details: Vec<String>,
}

impl Finding {
    pub(crate) fn of(who: impl Into<String>, what: impl Into<String>) -> Self {
        Self { who: who.into(), what: what.into(), details: Vec::new() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.who, self.what)
    }
}

//! What histories contained.

use std::fmt;

macro_rules! sights {
    ($($(#[doc = $doc:literal])+ $name:ident = $told:literal,)+) => {
        /// Something that a consumer has to cope with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Sight {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Sight {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
        }

        impl fmt::Display for Sight {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $told,)+
                })
            }
        }
    };
}

sights! {
    /// A list after the first lacks keys that the consumer had.
    RemovedByList = "a list that removes keys",
    /// That, and the list was there because history was compacted past the watch: nobody ever told of the
    /// deletes.
    RemovedByCompactedList = "a list that removes keys whose deletes are compacted",
    /// A revision with events of several keys of the range.
    SeveralKeysAtOnce = "several keys in one revision",
    /// A response with events of several revisions.
    SeveralRevisionsAtOnce = "several revisions in one response",
    /// A key is created that the consumer has seen deleted.
    CreatedAgain = "a key deleted and created again",
    /// A list begins while another is under way.
    ListInList = "a list begun again before its end",
    /// History was compacted past the watch.
    Compacted = "a watch ended by compaction",
    /// The consumer was so slow that its watch ended.
    Lagged = "a watch ended because its consumer lagged",
    /// A revision was larger than the limit.
    TooLarge = "a watch ended by a revision that was too large",
    /// Another cluster answers.
    StoreChanged = "another cluster's store",
    /// The store was restored from a backup.
    StoreRegressed = "a store restored from a backup",
    /// A list has a lower revision than what was announced before it.
    RevisionsFell = "revisions that go down",
    /// It is told that there is nothing new.
    ProgressOnly = "progress without changes",
    /// A response whose header is ahead of its events.
    HeaderAhead = "a header ahead of its events",
    /// A response that came in parts.
    Fragments = "a response in fragments",
    /// A connection broke.
    Cut = "a broken connection",
    /// A key was deleted with its lease.
    LeaseEnded = "a key deleted with its lease",
    /// The consumer was stopped and started again.
    Restarted = "a restart of the consumer",
    /// The consumer crashed in the middle of something.
    Crashed = "a crash of the consumer",
    /// A consumer came again upon revisions that it had seen before a restart.
    SeenAgain = "revisions seen again after a restart",
}

/// How often what was seen, by consumers in histories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    histories: u32,
    counts: [u64; Sight::ALL.len()],
}

impl Coverage {
    /// How many histories were run.
    #[must_use]
    pub fn histories(&self) -> u32 {
        self.histories
    }

    /// How often something was seen.
    #[must_use]
    pub fn count(&self, sight: Sight) -> u64 {
        self.counts[sight as usize]
    }

    pub(super) fn of_one() -> Self {
        Self { histories: 1, ..Self::default() }
    }

    pub(super) fn saw(&mut self, sight: Sight) {
        self.counts[sight as usize] += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.counts.iter_mut().zip(other.counts).for_each(|(mine, other)| *mine += other);
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} histories", self.histories)?;
        for sight in Sight::ALL {
            write!(f, "\n{:>8} x {sight}", self.count(*sight))?;
        }
        Ok(())
    }
}

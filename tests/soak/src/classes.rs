//! The classes of watch: what they ask for, and how what they deliver is consumed.

use std::time::Duration;

use etcd_watch_client::{Filters, KeyRange, Overflow, StreamOptions, WatchRequest};
use etcd_watch_testkit::checks::Watched;
use fastrand::Rng;

use crate::keys::{GROUPS, KEYS, PREFIX, group, key};

/// A class of watch; each sees every mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    /// What the report calls it.
    pub(crate) name: &'static str,
    range: Range,
    /// Whether it begins in the past.
    pub(crate) is_from_revision: bool,
    prev_kv: bool,
    filters: Filters,
    progress: bool,
    fragment: bool,
    pub(crate) overflow: Overflow,
    pub(crate) pace: Pace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    Everything,
    Group,
    Key,
    /// The keys from one on.
    FromKey,
    /// A few keys in a row.
    Few,
}

/// How a consumer takes what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// At once.
    Eager,
    /// It rests after each response.
    Slow,
    /// Now and then it takes nothing for seconds.
    Stalling,
}

/// What a consumer that is not eager lets wait.
const SMALL_BUFFER: usize = 16 << 10;

const NO_FILTERS: Filters = Filters { no_put: false, no_delete: false };
const PLAIN: Class = Class {
    name: "everything, from now",
    range: Range::Everything,
    is_from_revision: false,
    prev_kv: false,
    filters: NO_FILTERS,
    progress: false,
    fragment: true,
    overflow: Overflow::Replay,
    pace: Pace::Eager,
};
const NO_PUT: Filters = Filters { no_put: true, no_delete: false };
const NO_DELETE: Filters = Filters { no_put: false, no_delete: true };

/// Every class there is. Small ranges come more than once: they are what most watches in the world are.
pub(crate) const CLASSES: [Class; 20] = [
    PLAIN,
    Class { name: "everything, from a revision", is_from_revision: true, prev_kv: true, ..PLAIN },
    Class { name: "a prefix, from now", range: Range::Group, progress: true, ..PLAIN },
    Class { name: "a prefix, from a revision", range: Range::Group, is_from_revision: true, ..PLAIN },
    Class { name: "a prefix, previous values", range: Range::Group, prev_kv: true, ..PLAIN },
    Class { name: "a prefix, no fragments", range: Range::Group, prev_kv: true, fragment: false, ..PLAIN },
    Class { name: "a key, from now", range: Range::Key, ..PLAIN },
    Class { name: "a key, from now", range: Range::Key, progress: true, ..PLAIN },
    Class {
        name: "a key, from a revision",
        range: Range::Key,
        is_from_revision: true,
        prev_kv: true,
        ..PLAIN
    },
    Class { name: "a key, from a revision", range: Range::Key, is_from_revision: true, ..PLAIN },
    Class { name: "a range", range: Range::Few, prev_kv: true, ..PLAIN },
    Class { name: "a range", range: Range::Few, is_from_revision: true, progress: true, ..PLAIN },
    Class { name: "from a key on", range: Range::FromKey, is_from_revision: true, ..PLAIN },
    Class { name: "deletes only", range: Range::Everything, filters: NO_PUT, prev_kv: true, ..PLAIN },
    Class { name: "puts only", range: Range::Group, filters: NO_DELETE, ..PLAIN },
    Class { name: "slow, replay", pace: Pace::Slow, prev_kv: true, ..PLAIN },
    Class { name: "stalling, replay", range: Range::Group, pace: Pace::Stalling, ..PLAIN },
    Class { name: "slow, pause", range: Range::Key, pace: Pace::Slow, overflow: Overflow::Pause, ..PLAIN },
    Class {
        name: "stalling, pause",
        range: Range::Few,
        pace: Pace::Stalling,
        overflow: Overflow::Pause,
        ..PLAIN
    },
    Class {
        name: "stalling, fail",
        range: Range::Group,
        pace: Pace::Stalling,
        overflow: Overflow::Fail,
        ..PLAIN
    },
];

/// What to watch: the request, and the same in the checker's terms. Where it begins is said later.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) request: WatchRequest,
    pub(crate) watched: Watched,
}

impl Class {
    /// A watch of the class, on keys by chance.
    pub(crate) fn ask(&self, random: &mut Rng) -> Ask {
        let range = self.range.choose(random);
        let watched = Watched {
            no_put: self.filters.no_put,
            no_delete: self.filters.no_delete,
            prev_kv: self.prev_kv,
            ..Watched::range(&range)
        };
        let mut request = WatchRequest::new(range)
            .created_notify(true)
            .prev_kv(self.prev_kv)
            .filters(self.filters)
            .progress_notify(self.progress)
            .fragment(self.fragment)
            .overflow(self.overflow);
        if self.pace != Pace::Eager {
            request = request.buffer_bytes(SMALL_BUFFER);
        }
        if self.overflow == Overflow::Pause {
            if random.bool() {
                request = request.own_stream(true);
            } else {
                // These share a stream, to show that they go on although they hold each other up. The metadata keeps
                // all others off it.
                let metadata = vec![("soak-pause".to_owned(), "shared".to_owned())];
                request = request.stream_options(StreamOptions { metadata, ..StreamOptions::default() });
            }
        }
        Ask { request, watched }
    }
}

impl Range {
    fn choose(self, random: &mut Rng) -> KeyRange {
        match self {
            Self::Everything => KeyRange::prefix(PREFIX),
            Self::Group => KeyRange::prefix(group(random.u32(..GROUPS))),
            Self::Key => KeyRange::key(key(random.u32(..KEYS))),
            Self::FromKey => KeyRange::from_key(key(random.u32(..KEYS))),
            Self::Few => {
                let first = random.u32(..KEYS - 9);
                KeyRange::range(key(first), key(first + 1 + random.u32(..9))).expect("the keys are in order")
            }
        }
    }
}

impl Pace {
    /// How long to rest after a response.
    pub(crate) fn rest(self, random: &mut Rng) -> Duration {
        match self {
            Self::Eager => Duration::ZERO,
            Self::Slow => Duration::from_millis(random.u64(50..200)),
            Self::Stalling if random.u32(..20) == 0 => Duration::from_millis(random.u64(2_000..12_000)),
            Self::Stalling => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_can_be_asked_for() {
        let mut random = Rng::with_seed(1);
        for class in CLASSES {
            for _ in 0..200 {
                assert_eq!(class.ask(&mut random).request.validate(), Ok(()), "{}", class.name);
            }
        }
    }

    #[test]
    fn keys_are_in_the_order_of_their_numbers() {
        let keys: Vec<String> = (0..KEYS).map(key).collect();
        assert!(keys.is_sorted());
    }
}

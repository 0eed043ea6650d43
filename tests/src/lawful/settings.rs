//! How many histories, and of what.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use etcd_watch_core::KeyRange;
use proptest::test_runner::{Config, RngSeed};

/// Makes the value that is put under a key, out of the key and a small number.
type MakeValue = dyn Fn(&str, u32) -> Bytes + Send + Sync;

/// How many histories to try, from which seed, and what happens in them.
///
/// ```
/// use etcd_watch_core::KeyRange;
/// use etcd_watch_testkit::lawful::Settings;
///
/// let settings = Settings::default()
///     .cases(1000)
///     .keys(KeyRange::prefix("backends/"), ["backends/a", "backends/b", "backends/c", "other"])
///     .values(|_, number| format!("10.0.0.{number}:80").into());
/// # let _ = settings;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Settings {
    pub(super) cases: u32,
    pub(super) seed: u64,
    pub(super) scenes: usize,
    pub(super) other_stores: bool,
    pub(super) restarts: bool,
    pub(super) keyspace: Arc<Keyspace>,
}

impl Default for Settings {
    /// 256 histories from a fixed seed; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` choose others.
    fn default() -> Self {
        let environment = Config::default();
        let is_set = |name| std::env::var_os(name).is_some();
        Self {
            cases: if is_set("PROPTEST_CASES") { environment.cases } else { 256 },
            seed: match environment.rng_seed {
                RngSeed::Fixed(seed) if is_set("PROPTEST_RNG_SEED") => seed,
                _ => 1,
            },
            scenes: 24,
            other_stores: true,
            restarts: true,
            keyspace: Arc::default(),
        }
    }
}

impl Settings {
    /// How many histories to try. Default: 256.
    pub fn cases(mut self, cases: u32) -> Self {
        self.cases = cases;
        self
    }

    /// How many histories it says to try.
    #[must_use]
    pub fn how_many(&self) -> u32 {
        self.cases
    }

    /// The first history's seed; those after it count up from there. Default: 1, so that every run tries the
    /// same.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The most scenes in a history, each of one to ten [steps](super::Step). Default: 24.
    pub fn scenes(mut self, scenes: usize) -> Self {
        self.scenes = scenes;
        self
    }

    /// Whether the store may be replaced by another cluster's, or restored from a backup, so that revisions
    /// start over. Default: yes. Without, a consumer doesn't need
    /// [`WatchRequest::known_store`](etcd_watch_core::WatchRequest::known_store).
    pub fn other_stores(mut self, on: bool) -> Self {
        self.other_stores = on;
        self
    }

    /// Whether the consumer's process is stopped and started again, or crashes. Default: yes.
    pub fn restarts(mut self, on: bool) -> Self {
        self.restarts = on;
        self
    }

    /// The range to follow, and the keys that are written, inside of the range and outside. Put those inside
    /// first: a history is shrunk towards the first key. Default: the prefix `k`, with `k0` to `k5`, `a` and
    /// `z`. A key named twice is written more often.
    ///
    /// # Panics
    /// If there is no key in the range.
    pub fn keys<K: Into<String>>(mut self, range: KeyRange, keys: impl IntoIterator<Item = K>) -> Self {
        let keyspace = Arc::make_mut(&mut self.keyspace);
        keyspace.keys = keys.into_iter().map(Into::into).collect();
        keyspace.range = range;
        let has_one = keyspace.keys.iter().any(|key| keyspace.range.contains(key.as_bytes()));
        assert!(has_one, "none of the keys is in the range: there would be nothing to see");
        self
    }

    /// What is put under a key, made of the key and a number from 0 to 7: equal numbers for values that are
    /// equal, across keys too. Default: the number in decimal.
    pub fn values(mut self, make: impl Fn(&str, u32) -> Bytes + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.keyspace).make_value = Arc::new(make);
        self
    }
}

/// Which keys and values there are.
#[derive(Clone)]
pub(super) struct Keyspace {
    pub(super) range: KeyRange,
    keys: Vec<String>,
    make_value: Arc<MakeValue>,
}

impl Keyspace {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn key(&self, which: usize) -> &str {
        &self.keys[which % self.keys.len()]
    }

    pub(super) fn first_in_range(&self) -> usize {
        self.keys.iter().position(|key| self.range.contains(key.as_bytes())).unwrap_or(0)
    }

    pub(super) fn value(&self, which: usize, number: u32) -> Bytes {
        (self.make_value)(self.key(which), number)
    }
}

impl Default for Keyspace {
    fn default() -> Self {
        Self {
            range: KeyRange::prefix("k"),
            keys: ["k0", "k1", "k2", "k3", "k4", "k5", "a", "z"].map(str::to_owned).to_vec(),
            make_value: Arc::new(|_, number| number.to_string().into()),
        }
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace")
            .field("range", &self.range)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

//! Histories at random.

use etcd_watch_core::Overflow;
use proptest::prelude::*;
use proptest::strategy::{NewTree, Union, ValueTree};
use proptest::test_runner::TestRunner;

use super::shrink::Shrinker;
use super::{Change, History, Plan, Settings, Step};

/// Random histories, for `proptest!`: they shrink to few and simple steps.
///
/// ```
/// use etcd_watch_core::MirrorEvent;
/// use etcd_watch_testkit::lawful::{self, MirrorConsumer, Settings, StoreAt};
/// use proptest::prelude::*;
///
/// /// The last revision it was told of.
/// #[derive(Default)]
/// struct Clock(i64);
///
/// impl MirrorConsumer for Clock {
///     fn handle(&mut self, event: MirrorEvent) {
///         self.0 = event.synced_revision().unwrap_or(self.0);
///     }
///
///     fn check(&self, store: &StoreAt) -> Result<(), String> {
///         if self.0 == store.revision() { Ok(()) } else { Err(format!("it shows {}", self.0)) }
///     }
/// }
///
/// proptest! {
///     # #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]
///     # /*
///     #[test]
///     # */
///     fn a_clock_shows_the_revision(history in lawful::histories(&Settings::default())) {
///         history.feed_mirror(Clock::default)?;
///     }
/// }
/// # a_clock_shows_the_revision();
/// ```
#[must_use]
pub fn histories(settings: &Settings) -> Histories {
    let (settings, scene) = (settings.clone(), scene(settings));
    Histories { parts: (plan(), prop::collection::vec(scene, 1..=settings.scenes.max(1))).boxed(), settings }
}

/// The strategy behind [`histories`].
#[derive(Clone, Debug)]
pub struct Histories {
    parts: BoxedStrategy<(Plan, Vec<Vec<Step>>)>,
    settings: Settings,
}

impl Strategy for Histories {
    type Tree = Shrinker;
    type Value = History;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        let (plan, scenes) = self.parts.new_tree(runner)?.current();
        Ok(Shrinker::new(History::new(&self.settings, plan, scenes.into_iter().flatten())))
    }
}

fn plan() -> impl Strategy<Value = Plan> {
    // A page of one pair, of two or of some, and of all.
    let page_bytes = prop_oneof![3 => (1..4_usize).prop_map(|pairs| pairs * 60), 1 => Just(8 << 20)];
    let overflow = prop_oneof![Just(Overflow::Replay), Just(Overflow::Pause), Just(Overflow::Fail)];
    let buffer_bytes = prop_oneof![1 => Just(1 << 20), 1 => Just(300), 1 => Just(1000)];
    let batch_events = prop_oneof![Just(1), Just(3), Just(4096)];
    let max_revision_bytes = prop_oneof![2 => Just(1 << 20), 1 => Just(200)];
    let server = (
        prop_oneof![Just(1_usize), Just(3), Just(128)],
        prop_oneof![Just(1_usize), Just(2), Just(1000)],
        prop_oneof![Just(1 << 20), Just(60_usize)],
        prop::bool::weighted(0.2),
    );
    let client = (any::<u64>(), page_bytes, overflow, buffer_bytes, batch_events, max_revision_bytes);
    (client, server).prop_map(|(client, server)| {
        let (seed, page_bytes, overflow, buffer_bytes, batch_events, max_revision_bytes) = client;
        let (watch_queue, batch_revisions, fragment_bytes, old_server) = server;
        Plan {
            seed,
            page_bytes,
            overflow,
            buffer_bytes,
            batch_events,
            max_revision_bytes,
            watch_queue,
            batch_revisions,
            fragment_bytes,
            old_server,
        }
    })
}

/// Some steps that belong together: most of the time one, now and then a story that single steps would
/// seldom come to.
fn scene(settings: &Settings) -> impl Strategy<Value = Vec<Step>> + use<> {
    let keys = settings.keyspace.len();
    let several = prop::collection::vec(change(keys), 2..6).prop_map(Step::Write);
    let lease =
        (0..keys, 0..8_u32, 2..40_u32).prop_map(|(key, value, seconds)| Step::Lease { key, value, seconds });
    let mut steps = vec![
        (16, write(keys).boxed()),
        (6, several.boxed()),
        (1, Just(Step::DeleteAll).boxed()),
        (2, lease.boxed()),
        (4, (0..4_i64).prop_map(|behind| Step::Compact { behind }).boxed()),
        (3, Just(Step::Cut).boxed()),
        (1, Just(Step::Refuse).boxed()),
        (10, (1..4_u32).prop_map(Step::Carry).boxed()),
        (10, (1..4_u32).prop_map(Step::Take).boxed()),
        (10, Just(Step::Flow).boxed()),
        (2, Just(Step::AskProgress).boxed()),
        (2, (1..60_u32).prop_map(|seconds| Step::Wait { seconds }).boxed()),
    ];
    if settings.restarts {
        steps.push((2, Just(Step::Restart).boxed()));
        steps.push((2, crash().boxed()));
    }
    if settings.other_stores {
        steps.push((1, prop::collection::vec(change(keys), 0..8).prop_map(Step::Replace).boxed()));
        steps.push((1, (1..6_i64).prop_map(|back| Step::Restore { back }).boxed()));
    }
    prop_oneof![
        60 => Union::new_weighted(steps).prop_map(|step| vec![step]),
        4 => outage(keys),
        4 => list_cut_short(keys),
        3 => falls_behind(keys, settings.restarts),
        3 => consumer_stalls(keys),
        2 => lease_ends(keys),
    ]
}

fn change(keys: usize) -> impl Strategy<Value = Change> {
    let put = (0..keys, 0..8_u32).prop_map(|(key, value)| Change::Put { key, value });
    prop_oneof![3 => put, 2 => (0..keys).prop_map(|key| Change::Delete { key })]
}

fn write(keys: usize) -> impl Strategy<Value = Step> {
    change(keys).prop_map(|change| Step::Write(vec![change]))
}

fn writes(keys: usize, most: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(write(keys), 1..=most)
}

fn crash() -> impl Strategy<Value = Step> {
    (0..3_u32).prop_map(|points| Step::Crash { points })
}

/// Nobody is connected while history happens and is forgotten.
fn outage(keys: usize) -> impl Strategy<Value = Vec<Step>> {
    (writes(keys, 5), 0..2_i64).prop_map(|(writes, behind)| {
        let end = [Step::Compact { behind }, Step::Flow];
        [Step::Cut].into_iter().chain(writes).chain(end).collect()
    })
}

/// A list is under way when its revision is compacted.
fn list_cut_short(keys: usize) -> impl Strategy<Value = Vec<Step>> {
    let puts = (0..8_u32).prop_map(move |value| (0..keys).map(|key| Change::Put { key, value }).collect());
    (puts, writes(keys, 3), 1..3_u32, 1..4_u32, writes(keys, 3)).prop_map(
        |(puts, first, carried, taken, second)| {
            let compact = || Step::Compact { behind: 0 };
            let start = [Step::Cut, Step::Write(puts)].into_iter().chain(first).chain([compact()]);
            // Up to the first page: the backoff, the stream, that the watch is created, that it is compacted.
            let list = [Step::Carry(4), Step::Take(1), Step::Carry(carried), Step::Take(taken)];
            start.chain(list).chain(second).chain([compact(), Step::Flow]).collect()
        },
    )
}

/// The consumer takes nothing while there is more and more for it.
fn consumer_stalls(keys: usize) -> impl Strategy<Value = Vec<Step>> {
    let several = prop::collection::vec(change(keys), 3..6).prop_map(Step::Write);
    let writes = prop::collection::vec(prop_oneof![2 => write(keys), 1 => several], 3..9);
    (writes, 1..3_u32).prop_map(|(writes, taken)| {
        [Step::Flow].into_iter().chain(writes).chain([Step::Carry(20), Step::Take(taken)]).collect()
    })
}

/// Nobody keeps a lease alive, with or without a connection.
fn lease_ends(keys: usize) -> impl Strategy<Value = Vec<Step>> {
    (0..keys, 0..8_u32, any::<bool>()).prop_map(|(key, value, is_cut)| {
        let lease = [Step::Lease { key, value, seconds: 5 }, Step::Flow];
        let cut = is_cut.then_some(Step::Cut);
        lease.into_iter().chain(cut).chain([Step::Wait { seconds: 10 }, Step::Flow]).collect()
    })
}

/// The consumer is stopped while its watch catches up.
fn falls_behind(keys: usize, restarts: bool) -> impl Strategy<Value = Vec<Step>> {
    let stop = prop_oneof![Just(Step::Restart), crash()];
    (writes(keys, 8), 2..5_u32, 1..3_u32, stop).prop_map(move |(writes, carried, taken, stop)| {
        let moves = [Step::Carry(carried), Step::Take(taken)];
        let stop = if restarts { [stop, Step::Flow] } else { [Step::Cut, Step::Flow] };
        [Step::Flow, Step::Cut].into_iter().chain(writes).chain(moves).chain(stop).collect()
    })
}

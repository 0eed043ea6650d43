//! The mirror: by hand, and against stores whose history is known, through random faults.

mod chaos;
mod failing;
mod hand;
mod listing;
mod resuming;
mod server;
mod store;
mod streaming;
#[path = "../support/mod.rs"]
mod support;
mod watching;
mod world;

use std::time::Duration;

use etcd_watch_core::{KeyRange, MirrorRequest, Overflow, WatchConfig};
use proptest::{prelude::*, test_runner::RngSeed};

use world::{Fault, Plan, World};

type Changes = Vec<(usize, bool)>;

#[derive(Clone, Debug)]
enum Step {
    Write(Changes),
    Compact(i64),
    Replace(Changes),
    Restore(i64),
    Cut,
    Open { ok: bool },
    Serve { revisions: i64, notify: bool },
    Answer(Option<Fault>),
    Feed,
    Take(usize),
    Flow,
    RequestProgress,
    Timeout,
    Sleep(u64),
    Restart,
}

fn changes(most: usize) -> impl Strategy<Value = Changes> {
    prop::collection::vec((0..store::KEYS.len(), prop::bool::weighted(0.4)), 1..most)
}

fn step() -> impl Strategy<Value = Step> {
    let fault = prop_oneof![
        Just(Fault::Connection),
        Just(Fault::NoLeader),
        Just(Fault::Token),
        Just(Fault::NoHeader),
        (1..8_i64).prop_map(Fault::Late),
    ];
    let serve = (1..4_i64, prop::bool::weighted(0.3));
    prop_oneof![
        20 => changes(4).prop_map(Step::Write),
        5 => (0..4_i64).prop_map(Step::Compact),
        1 => changes(12).prop_map(Step::Replace),
        1 => (1..6_i64).prop_map(Step::Restore),
        3 => Just(Step::Cut),
        8 => prop::bool::weighted(0.8).prop_map(|ok| Step::Open { ok }),
        20 => serve.prop_map(|(revisions, notify)| Step::Serve { revisions, notify }),
        20 => prop::option::weighted(0.2, fault).prop_map(Step::Answer),
        16 => Just(Step::Feed),
        20 => (1..5_usize).prop_map(Step::Take),
        3 => Just(Step::Flow),
        3 => Just(Step::RequestProgress),
        8 => Just(Step::Timeout),
        2 => (1..4000_u64).prop_map(Step::Sleep),
        2 => Just(Step::Restart),
    ]
}

#[derive(Clone, Debug)]
struct Script {
    seed: u64,
    range: usize,
    plan: Plan,
    budget: usize,
    fails: bool,
    first: Changes,
    steps: Vec<Step>,
}

fn script() -> impl Strategy<Value = Script> {
    let budget = prop_oneof![Just(600), Just(2000), Just(1 << 20)];
    let page_bytes = prop_oneof![1 => Just(1), 1 => 10..100_usize, 2 => Just(128 << 10), 1 => Just(8 << 20)];
    let pages = (page_bytes, prop_oneof![Just(1), Just(2), Just(100)], any::<bool>());
    let world = (any::<u64>(), 0..4_usize, pages, any::<bool>(), budget, any::<bool>());
    (world, changes(12), prop::collection::vec(step(), 1..200)).prop_map(|(world, first, steps)| {
        let (seed, range, (page_bytes, server_page, has_streams), keeps_index, budget, fails) = world;
        let plan = Plan { page_bytes, keeps_index, server_page, has_streams };
        Script { seed, range, plan, budget, fails, first, steps }
    })
}

fn apply(world: &mut World, step: &Step) {
    match step {
        Step::Write(changes) => world.write(changes),
        Step::Compact(back) => world.compact(*back),
        Step::Replace(changes) => world.replace(changes),
        Step::Restore(back) => world.restore(*back),
        Step::Cut => world.cut(),
        Step::Open { ok } => drop(world.open(*ok)),
        Step::Serve { revisions, notify } => drop(world.serve(*revisions, *notify)),
        Step::Answer(fault) => drop(world.answer(*fault)),
        Step::Feed => drop(world.feed()),
        Step::Take(count) => {
            for _ in 0..*count {
                world.take();
                world.settle();
            }
        }
        Step::Flow => drop(world.flow()),
        Step::RequestProgress => world.mirror.request_progress(world.now),
        Step::Timeout => {
            if let Some(at) = world.next_timeout() {
                world.sleep(at.since(world.now));
            }
        }
        Step::Sleep(millis) => world.sleep(Duration::from_millis(*millis)),
        Step::Restart => world.restart(),
    }
    world.settle();
}

/// Runs a script to its end; what the mirror said and handed out.
fn run(script: &Script) -> World {
    let range = match script.range {
        0 => KeyRange::all(),
        1 => KeyRange::key("k3"),
        2 => KeyRange::range("k1", "k5").expect("a range"),
        _ => KeyRange::prefix("k"),
    };
    let ms = Duration::from_millis;
    let config = WatchConfig::default()
        .buffer_bytes(script.budget)
        .buffer_floor_bytes((script.budget / 3).max(1))
        .batch_events(4)
        .lag_deadline(ms(1000))
        .backoff(ms(1), ms(10), ms(100));
    let overflow = if script.fails { Overflow::Fail } else { Overflow::Replay };
    let request = MirrorRequest::new(range).overflow(overflow);
    let mut world = World::new(&config, request, script.plan, script.seed);
    script.first.iter().for_each(|&(key, _)| world.write(&[(key, false)]));
    for step in &script.steps {
        apply(&mut world, step);
    }
    world.finish();
    world
}

/// The same cases in every run; `PROPTEST_RNG_SEED` and `PROPTEST_CASES` choose others.
fn config(cases: u32) -> ProptestConfig {
    let mut config =
        ProptestConfig { failure_persistence: None, max_shrink_time: 20_000, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(5);
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    config
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn the_fold_is_the_store_at_every_revision_announced_whatever_happens(script in script()) {
        run(&script);
    }
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn the_same_calls_give_the_same_actions_and_events(script in script()) {
        prop_assert_eq!(run(&script).log, run(&script).log);
    }
}

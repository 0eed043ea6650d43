//! Plans made up from a seed.

use std::time::Duration;

use etcd_watch_core::{Filters, Overflow};
use fastrand::Rng;

use super::plan::{Change, KEYS, MirrorPlan, Plan, RangePlan, Servers, Settings, Setup, Step, WatchPlan};

/// How many other steps there are for each watch that a proxy loses.
const STEPS_PER_LOSS: u32 = 50;

impl Plan {
    /// The plan of a seed: the same one every time.
    #[must_use]
    pub fn generate(seed: u64, settings: Settings) -> Self {
        // Neighbouring seeds are not to begin alike.
        let mut random = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x6574_6364);
        let setup = setup(&mut random);
        let mut steps = Vec::new();
        let mut at = Duration::ZERO;
        // Something to begin with.
        for _ in 0..4 {
            steps.push((at, Step::Write(changes(&mut random))));
        }
        for client in 0..setup.clients {
            for _ in 0..random.usize(1..4) {
                steps.push((at, Step::Watch(watch(&mut random, client))));
            }
            if random.bool() {
                steps.push((at, Step::Mirror(mirror(&mut random, client))));
            }
        }
        loop {
            at += exponential(&mut random, settings.pace);
            if at >= settings.duration {
                break;
            }
            steps.push((at, step(&mut random, &setup)));
        }
        if setup.servers == Servers::Proxy && setup.probe {
            // By randomness of their own: plans without them stay what they are.
            lose_watches(&mut Rng::with_seed(!seed), settings, &mut steps);
        }
        Self { seed, setup, steps, planted: None }
    }
}

/// A proxy loses a watch now and then, which only clients that probe notice.
fn lose_watches(random: &mut Rng, settings: Settings, steps: &mut Vec<(Duration, Step)>) {
    let mut at = Duration::ZERO;
    loop {
        at += exponential(random, settings.pace * STEPS_PER_LOSS);
        if at >= settings.duration {
            break;
        }
        steps.push((at, Step::LoseWatch { link: random.usize(0..64), watch: random.usize(0..16) }));
    }
    steps.sort_by_key(|(at, _)| *at);
}

fn setup(random: &mut Rng) -> Setup {
    let pick = |random: &mut Rng, from: &[usize]| from[random.usize(0..from.len())];
    let servers = [Servers::New, Servers::New, Servers::Old, Servers::Quiet, Servers::Mixed, Servers::Proxy];
    Setup {
        members: pick(random, &[1, 3, 3]),
        clients: random.usize(1..4),
        servers: servers[random.usize(0..servers.len())],
        auth: random.u8(0..3) == 0,
        fragment_bytes: pick(random, &[256, 1024, 1 << 20]),
        watch_queue: pick(random, &[2, 8, 128]),
        batch_revisions: pick(random, &[2, 10, 1000]),
        sync_interval: Duration::from_millis(pick(random, &[0, 0, 100]) as u64),
        progress_interval: Duration::from_secs(random.u64(3..60)),
        buffer_bytes: pick(random, &[2 << 10, 16 << 10, 1 << 20]),
        batch_events: pick(random, &[1, 3, 1000]),
        watches_per_stream: pick(random, &[2, 100, 100]),
        streams: pick(random, &[1, 1, 3]),
        probe: random.bool(),
        progress_requests: Duration::from_secs(random.u64(2..60)),
        streaming_members: random.usize(0..=3),
    }
}

/// Times between things that have nothing to do with each other.
fn exponential(random: &mut Rng, mean: Duration) -> Duration {
    mean.mul_f64((-(1.0 - random.f64()).ln()).min(20.0))
}

fn lasts(random: &mut Rng) -> Duration {
    // Most are over before anybody notices, some outlast every timeout.
    let millis = match random.u8(0..4) {
        0 => random.u64(1..100),
        1 | 2 => random.u64(100..6_000),
        _ => random.u64(6_000..40_000),
    };
    Duration::from_millis(millis)
}

fn changes(random: &mut Rng) -> Vec<Change> {
    let mut changes = Vec::new();
    if random.u8(0..12) == 0 {
        return vec![Change::DeletePrefix(["a/", "b/", "d/"][random.usize(0..3)])];
    }
    let mut keys: Vec<usize> = (0..KEYS.len()).collect();
    random.shuffle(&mut keys);
    let count = [1, 1, 1, 2, 4][random.usize(0..5)];
    for &key in &keys[..count] {
        changes.push(match random.u8(0..5) {
            0 => Change::Delete { key },
            1 => Change::Put { key, bytes: random.usize(200..2_000) },
            _ => Change::Put { key, bytes: random.usize(0..60) },
        });
    }
    changes
}

fn range(random: &mut Rng) -> RangePlan {
    const RANGES: [RangePlan; 7] = [
        RangePlan::All,
        RangePlan::All,
        RangePlan::Prefix,
        RangePlan::Key,
        RangePlan::From,
        RangePlan::Between,
        RangePlan::Prefix,
    ];
    if random.u8(0..24) == 0 { RangePlan::Secret } else { RANGES[random.usize(0..RANGES.len())] }
}

fn pause(random: &mut Rng) -> Duration {
    match random.u8(0..4) {
        0 => Duration::from_millis(random.u64(1..2_000)),
        _ => Duration::ZERO,
    }
}

fn watch(random: &mut Rng, client: usize) -> WatchPlan {
    let overflows = [Overflow::Replay, Overflow::Replay, Overflow::Pause, Overflow::Fail];
    WatchPlan {
        client,
        range: range(random),
        back: (random.u8(0..3) > 0).then(|| random.i64(-3..30)),
        prev_kv: random.u8(0..3) == 0,
        filters: Filters { no_put: random.u8(0..10) == 0, no_delete: false },
        progress_notify: random.u8(0..3) == 0,
        created_notify: random.bool(),
        fragment: random.u8(0..4) > 0,
        overflow: overflows[random.usize(0..overflows.len())],
        require_leader: random.u8(0..6) > 0,
        pause: pause(random),
    }
}

fn mirror(random: &mut Rng, client: usize) -> MirrorPlan {
    let range = match range(random) {
        RangePlan::Secret => RangePlan::All,
        range => range,
    };
    MirrorPlan {
        client,
        range,
        page_bytes: [1, 300, 128 << 10][random.usize(0..3)],
        keep_index: random.bool(),
        pause: pause(random),
    }
}

fn step(random: &mut Rng, setup: &Setup) -> Step {
    let client = random.usize(0..setup.clients);
    let member = random.usize(0..setup.members);
    let which = random.usize(0..64);
    match random.u8(0..100) {
        0..=54 => Step::Write(changes(random)),
        55..=57 => Step::Compact { back: random.i64(0..20) },
        58..=63 => Step::Watch(watch(random, client)),
        64 => Step::Mirror(mirror(random, client)),
        65..=68 => Step::Cancel { watch: which, back_after: random.bool().then(|| lasts(random)) },
        69..=71 => Step::RequestProgress { watch: which },
        72..=75 => Step::Stall { watch: which, lasts: lasts(random) },
        76..=80 => Step::Cut { link: which },
        81 | 82 => Step::HalfOpen { link: which },
        83 => Step::Garbage { link: which },
        84 => Step::ServerCancel { link: which, watch: random.usize(0..16) },
        85 => Step::Move { link: which },
        86 | 87 => Step::BlackHole { client, member, lasts: lasts(random) },
        88..=90 => Step::Kill { member, lasts: lasts(random) },
        91 | 92 => Step::Freeze { member, lasts: lasts(random) },
        93 | 94 => Step::Isolate { member, lasts: lasts(random) },
        95 | 96 => Step::Lag { member, lasts: lasts(random) },
        97 => Step::Backup,
        98 => Step::Restore { new_cluster: random.bool() },
        _ => Step::ExpireTokens,
    }
}

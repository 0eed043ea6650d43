//! Watches of the same keys agree on their history.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use etcd_watch_binaries::Version;
use etcd_watch_client::{
    BoxError, Client, Filters, KeyRange, Overflow, Recovery, StreamOptions, WatchRequest,
};
use etcd_watch_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, request_op::Request};
use etcd_watch_testkit::checks::{Change, Checker, Received, Verdict, WatchLog, Watched, agree};
use etcd_watch_testkit::model::ModelConfig;
use etcd_watch_testkit::sim::{Task, World};

use super::stage::{Site, Stage, lock};
use super::told::Told;
use super::truth;

/// After faults have stopped, each watch is at the store's revision within this time, if something is written now and then:
/// after a reconnect to a quiet store a watch begins beyond its revision, and etcd tells no progress on its stream.
const BOUND: Duration = Duration::from_secs(60);
/// How often a watch asks for progress then, if nothing else comes.
const ASKS_EVERY: Duration = Duration::from_secs(2);

/// What all watches of a world write their logs into.
#[derive(Clone, Default)]
struct Logs {
    /// By watch; one that could not go on where it was has several, of which the last goes on.
    logs: Arc<Mutex<Vec<WatchLog>>>,
    /// Whether faults have stopped.
    is_calm: Arc<AtomicBool>,
}

impl Logs {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<WatchLog>) -> T) -> T {
        work(&mut lock(&self.logs))
    }

    /// Another log; its place.
    fn begin(&self, name: &str, watched: &Watched, from: i64) -> usize {
        let log = match from {
            0 => WatchLog::from_now(name, watched.clone()),
            from => WatchLog::new(name, Watched { from, ..watched.clone() }),
        };
        self.with(|logs| {
            logs.push(log);
            logs.len() - 1
        })
    }

    /// Whether faults have stopped.
    fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }
}

/// A watch with options at random.
struct Plan {
    name: String,
    request: WatchRequest,
    watched: Watched,
    /// It is opened so much later.
    later: Duration,
    /// The consumer takes so long for a response while there are faults.
    takes: Duration,
}

fn plan(name: String, rng: &mut fastrand::Rng) -> Plan {
    let range = match rng.u8(..6) {
        0 => KeyRange::all(),
        1 => KeyRange::key("watched/3"),
        2 => KeyRange::from_key("watched/4"),
        3 => KeyRange::range("watched/2", "watched/6").unwrap_or_else(|_| KeyRange::all()),
        _ => KeyRange::prefix("watched/"),
    };
    let filters = Filters { no_put: rng.u8(..6) == 0, no_delete: rng.u8(..6) == 0 };
    let filters = if filters.no_put && filters.no_delete { Filters::default() } else { filters };
    let (prev_kv, pauses, shares) = (rng.bool(), rng.u8(..4) == 0, rng.bool());
    let overflow = match rng.bool() {
        _ if pauses => Overflow::Pause,
        true => Overflow::Replay,
        false => Overflow::Fail,
    };
    let mut request = WatchRequest::new(range.clone())
        .filters(filters)
        .prev_kv(prev_kv)
        .fragment(rng.bool())
        .created_notify(true)
        .progress_notify(true)
        .overflow(overflow)
        .own_stream(pauses || rng.u8(..4) == 0);
    if rng.bool() {
        request = request.buffer_bytes(rng.usize(1_000..20_000));
    }
    if !shares {
        let metadata = vec![("stream".to_owned(), "other".to_owned())];
        request = request.stream_options(StreamOptions { metadata, ..StreamOptions::default() });
    }
    let Filters { no_put, no_delete } = filters;
    let watched = Watched { no_put, no_delete, prev_kv, ..Watched::range(&range) };
    let later = Duration::from_millis(rng.u64(..30_000));
    let takes = Duration::from_millis(if rng.bool() { 0 } else { rng.u64(..300) });
    Plan { name, request, watched, later, takes }
}

/// Watches until the world ends, and goes on after every end that says how.
async fn follow(
    world: World,
    client: Client,
    plan: Plan,
    start: i64,
    logs: Logs,
    told: Told,
) -> Result<(), BoxError> {
    let Plan { name, request, watched, takes, .. } = plan;
    let (mut from, mut count, mut is_done) = (start, 0, false);
    let mut log = logs.begin(&name, &watched, from);
    loop {
        let mut watch = client.watch(request.clone().start_revision(from))?;
        let recovery = loop {
            let next = tokio::select! {
                biased;
                next = watch.next() => next,
                () = tokio::time::sleep(ASKS_EVERY) => {
                    if !logs.is_calm() {
                        continue;
                    }
                    watch.request_progress();
                    let stats = watch.stats();
                    world.note(format_args!("{name} waits in calm: {stats:?}, {:?}", watch.health()));
                    continue;
                }
            };
            match next.ok_or("a watch has ended without an error")? {
                Ok(response) => {
                    let responses = told.responses(Received::from(&response), count, &mut is_done);
                    logs.with(|logs| responses.into_iter().for_each(|told| logs[log].push(told)));
                    count += 1;
                    if !takes.is_zero() && !logs.is_calm() {
                        tokio::time::sleep(takes).await;
                    }
                }
                Err(error) => match error.recovery() {
                    Recovery::FixProgram | Recovery::FixCluster | Recovery::NewClient => {
                        return Err(error.into());
                    }
                    recovery => break recovery,
                },
            }
        };
        match recovery {
            Recovery::WatchAgain { from: next } => from = next.unwrap_or(0),
            // There is a gap: what comes after it is another watch's.
            _ => {
                logs.with(|logs| logs[log].end());
                (from, log) = (0, logs.begin(&name, &watched, 0));
            }
        }
    }
}

/// A transaction at the store: puts and deletes of a few keys, none twice.
fn write(world: &World, rng: &mut fastrand::Rng) {
    let mut keys: Vec<u8> = (b'0'..b'8').collect();
    rng.shuffle(&mut keys);
    keys.truncate(rng.usize(1..4));
    let op = |digit: u8| {
        let key = [b"watched/", &[digit][..]].concat().into();
        match rng.u8(..4) {
            0 => Request::RequestDeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() }),
            _ => {
                let value = vec![b'v'; rng.usize(..2000)].into();
                Request::RequestPut(PutRequest { key, value, ..PutRequest::default() })
            }
        }
    };
    truth::write(world.etcd(), keys.into_iter().map(op));
}

/// All members are of one version, chosen at random. They cut responses into fragments.
fn set_up(world: &World, rng: &mut fastrand::Rng) {
    const VERSIONS: [Version; 4] =
        [Version::new(3, 4, 40), Version::new(3, 5, 30), Version::new(3, 6, 16), Version::new(3, 7, 3)];
    let version = VERSIONS[rng.usize(..VERSIONS.len())];
    world.note(format_args!("etcd {version}"));
    world.etcd().with_model(|model| {
        let client_urls = model.config().client_urls.clone();
        let fragment_bytes = rng.usize(500..5000);
        *model.config_mut() = ModelConfig { client_urls, fragment_bytes, ..ModelConfig::like(version) };
    });
}

/// Watches on several hosts.
pub(super) struct Watches {
    pub(super) sites: Vec<Site>,
    pub(super) per_site: usize,
    /// The longest pause between two writes, in milliseconds.
    pub(super) pause: u64,
    /// Less than so many events that two watches have in common is too little to say that they agree.
    pub(super) least: usize,
    /// What is told of the first one.
    pub(super) told: Told,
}

/// Watches of the same and of overlapping ranges, on several hosts and streams and with options at random, are told of
/// the same history, and each is at the store's revision within a minute of calm.
pub(super) async fn watches_agree(stage: Stage, watches: Watches) -> Result<(), BoxError> {
    let Watches { sites, per_site, pause, least, told } = watches;
    let (world, mut rng, logs) = (stage.world(), stage.world().rng(), Logs::default());
    set_up(world, &mut rng);
    (0..30).for_each(|_| write(world, &mut rng));
    let count = sites.len() * per_site;
    let (mut tasks, mut told, mut told_at_the_end) = (Vec::new(), Some(told), Vec::new());
    for (site, number) in sites.iter().flat_map(|site| (0..per_site).map(move |number| (site, number))) {
        let plan = plan(format!("{}{number}", site.host.name()), &mut rng);
        told_at_the_end.push(format!("{}: {:?}", plan.name, plan.request));
        // Only the first one has the bug.
        let told = told.take().unwrap_or(Told::Truly);
        tasks.push(site.host.spawn(begin(world.clone(), site.client.clone(), plan, logs.clone(), told)));
    }
    while !stage.is_calm() {
        write(world, &mut rng);
        stage.pause(&mut rng, pause).await;
    }
    // Hosts that were asleep may open a watch that begins in the future only now.
    for _ in 0..50 {
        write(world, &mut rng);
        world.sleep(Duration::from_millis(50)).await;
    }
    let (calm, target) = (world.now(), world.etcd().revision());
    logs.is_calm.store(true, Ordering::Relaxed);
    let is_through = |logs: &mut Vec<WatchLog>| {
        let going_on = logs.iter().filter(|log| !log.has_ended()).count();
        going_on == count && logs.iter().all(|log| log.is_through(target))
    };
    while !logs.with(is_through) && world.now() < calm + BOUND {
        world.etcd().put("elsewhere", "");
        world.sleep(Duration::from_millis(500)).await;
    }
    told_at_the_end.iter().for_each(|plan| world.note(plan));
    world.note(format_args!("all watches took {:?} in calm", world.now().saturating_sub(calm)));
    tasks.iter().for_each(Task::abort);
    for task in tasks {
        // One that goes on has been aborted.
        task.await.transpose()?;
    }
    let logs = logs.with(std::mem::take);
    let going_on = logs.iter().filter(|log| !log.has_ended()).count();
    if going_on < count {
        return Err(format!("unknown whether watches agree: {going_on} have begun").into());
    }
    match agree(&logs, target) {
        Verdict::Agreed { events, .. } if events >= least => {}
        Verdict::Agreed { pairs, events } => {
            return Err(format!("too little in common: {events} events in {pairs} pairs").into());
        }
        verdict => return Err(verdict.to_string().into()),
    }
    hold_against_the_store(world, &logs)
}

/// Begins a watch at a revision at random, and follows it.
async fn begin(world: World, client: Client, plan: Plan, logs: Logs, told: Told) -> Result<(), BoxError> {
    let mut rng = world.rng();
    tokio::time::sleep(plan.later).await;
    let revision = world.etcd().revision();
    let start = match rng.u8(..4) {
        0 => 0,
        1 => 1,
        2 => rng.i64(1..=revision),
        // Not there yet.
        _ => revision + rng.i64(1..20),
    };
    follow(world, client, plan, start, logs, told).await
}

/// That they agree would say little if all were told the same wrong history.
fn hold_against_the_store(world: &World, logs: &[WatchLog]) -> Result<(), BoxError> {
    let history = world.etcd().history();
    let compacted = world.etcd().look(|model| model.compact_revision());
    for log in logs.iter().filter(|log| log.reached() > 0) {
        let mut checker = Checker::new(log.watched().clone());
        checker.compacted(compacted.unwrap_or(0));
        for response in log.received() {
            checker.response(&history[..], response.events.iter().map(Change::from), response.bookmark);
        }
        let through = log.reached().min(world.etcd().revision());
        checker
            .finish_through(&history[..], through)
            .map_err(|broken| format!("{}: {}", log.name(), broken[0]))?;
    }
    Ok(())
}

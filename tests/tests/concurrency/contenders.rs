//! A hundred contenders for one lock, some of which die, in every way there is.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use etcd_watch_client::{
    KeyRange, Put, Txn, WatchRequest,
    concurrency::{ContendError, MutexGuard, Session},
};
use etcd_watch_testkit::proxy::Cut;
use fastrand::Rng;
use tokio::task::JoinSet;

use crate::{
    runtime::On,
    world::{Remote, World, mutex, within},
};

const CONTENDERS: usize = 100;
/// How many share a client.
const PER_CLIENT: usize = 9;
const NAME: &str = "contended";
const LOG: &str = "log";
/// Of those that are not killed: long enough for a busy machine.
const TTL: Duration = Duration::from_secs(20);
/// Of those that are.
const SHORT_TTL: Duration = Duration::from_secs(2);

/// How a session is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kill {
    /// Its lease is revoked by somebody else.
    Revoke,
    /// Its client is closed without a word to the server, as if its process had died.
    Crash,
    /// Its network swallows everything for longer than the lease lasts.
    BlackHole,
}

struct Arena {
    world: World,
    shared: Vec<Remote>,
    /// Who believed last to hold the lock, and must have stopped believing when another does.
    holder: Mutex<Weak<MutexGuard>>,
    kills: [AtomicUsize; 3],
    killed_holders: AtomicUsize,
    /// Guarded writes that were refused because the key was gone.
    fenced: AtomicUsize,
    /// Sessions that were lost although nobody killed them: on a busy machine that may happen.
    unlucky: AtomicUsize,
}

pub(crate) async fn a_hundred_contenders_never_hold_it_at_once_and_all_get_it(world: World) {
    let seed = std::env::var("CONTENDERS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(1);
    println!("CONTENDERS_SEED={seed}");
    let started = Instant::now();
    let mut shared = Vec::new();
    for number in 0..CONTENDERS.div_ceil(PER_CLIENT) {
        shared.push(world.remote_on(runtime_of(number)).await);
    }
    let count = AtomicUsize::default;
    let arena = Arc::new(Arena {
        world,
        shared,
        holder: Mutex::default(),
        kills: [count(), count(), count()],
        killed_holders: count(),
        fenced: count(),
        unlucky: count(),
    });
    let mut rng = Rng::with_seed(seed);
    let mut contenders = JoinSet::new();
    for number in 0..CONTENDERS {
        let (arena, rng) = (arena.clone(), rng.fork());
        contenders.spawn(async move { contend(&arena, number, rng).await });
    }
    let cuts = tokio::spawn(cut_now_and_then(arena.clone(), rng));
    while let Some(ended) = contenders.join_next().await {
        ended.expect("no contender fails");
    }
    cuts.abort();
    let writes = check_log(&arena).await;
    // Whoever died has left nothing behind, at the latest when its lease was over.
    arena.world.queued(NAME, 0).await;
    let told = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let [revoked, crashed, swallowed] = arena.kills.each_ref().map(told);
    println!(
        "{CONTENDERS} contenders, {writes} writes in {:?}; {revoked} leases revoked, {crashed} clients crashed, \
         {swallowed} networks swallowed everything, {} of that to holders; {} late writes were fenced off, {} \
         sessions were lost for other reasons",
        started.elapsed(),
        told(&arena.killed_holders),
        told(&arena.fenced),
        told(&arena.unlucky),
    );
    assert!(revoked > 0 && crashed > 0 && swallowed > 0, "there were kills of every kind");
}

fn runtime_of(number: usize) -> On {
    [On::Tokio, On::Smol, On::AsyncStd][number % 3]
}

async fn cut_now_and_then(arena: Arc<Arena>, mut rng: Rng) {
    loop {
        tokio::time::sleep(Duration::from_millis(rng.u64(100..500))).await;
        let remote = &arena.shared[rng.usize(..arena.shared.len())];
        remote.proxy.cut_all(Cut::Reset);
    }
}

/// Until it has had its turn. A third is killed first.
async fn contend(arena: &Arena, number: usize, mut rng: Rng) {
    let kill = match number % 9 {
        0 => Some(Kill::Revoke),
        3 => Some(Kill::Crash),
        6 => Some(Kill::BlackHole),
        _ => None,
    };
    if let Some(kill) = kill {
        be_killed(arena, number, kill, &mut rng).await;
    }
    loop {
        let client = &arena.shared[number / PER_CLIENT].client;
        let session = Session::builder(client).ttl(TTL).open().await.expect("a session opens");
        match mutex(&session, NAME).lock().await {
            Ok(guard) => {
                let guard = Arc::new(guard);
                arena.announce(&guard, true);
                let in_time = arena.write(&guard, number).await;
                tokio::time::sleep(Duration::from_millis(rng.u64(..20))).await;
                arena.write(&guard, number).await;
                if let Some(guard) = Arc::into_inner(guard)
                    && let Err(error) = guard.unlock().await
                {
                    assert!(matches!(error, ContendError::Lost(_)), "{number}: {error}");
                }
                if in_time {
                    return;
                }
            }
            Err(error) => assert!(matches!(error, ContendError::Lost(_)), "{number}: {error}"),
        }
        arena.unlucky.fetch_add(1, Ordering::Relaxed);
    }
}

/// Contends, and holds what it gets, until it is killed; then writes once more, as one that doesn't know.
async fn be_killed(arena: &Arena, number: usize, kill: Kill, rng: &mut Rng) {
    let remote = arena.world.remote_on(runtime_of(rng.usize(..3))).await;
    let session = Session::builder(&remote.client).ttl(SHORT_TTL).open().await.expect("a session opens");
    let late = Duration::from_millis(rng.u64(..3000));
    // Most of them in the queue, the others as holders, who hold up everybody for the time of a lease.
    let holds = tokio::sync::Notify::new();
    let (until_held, after) = (rng.u8(..3) == 0, Duration::from_millis(rng.u64(..3000)));
    let killing = async {
        if until_held {
            tokio::select! {
                () = holds.notified() => tokio::time::sleep(after / 20).await,
                // A busy machine.
                _ = session.lost() => {}
            }
        } else {
            tokio::time::sleep(after).await;
        }
        arena.kills[kill as usize].fetch_add(1, Ordering::Relaxed);
        match kill {
            Kill::Revoke => {
                // It may be over without: a busy machine.
                let _ = arena.world.direct.lease_revoke(session.id()).await;
            }
            Kill::Crash => remote.client.close().await,
            Kill::BlackHole => {
                remote.proxy.black_hole();
                session.lost().await;
                tokio::time::sleep(SHORT_TTL).await;
                remote.proxy.restore();
            }
        }
    };
    let contending = async {
        let Ok(guard) = mutex(&session, NAME).lock().await else { return };
        holds.notify_one();
        let guard = Arc::new(guard);
        // Who loses its lease by somebody else's command can't know at once.
        arena.announce(&guard, kill != Kill::Revoke);
        arena.write(&guard, number).await;
        guard.lost().await;
        arena.killed_holders.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(late).await;
        if !arena.write(&guard, number).await {
            arena.fenced.fetch_add(1, Ordering::Relaxed);
        }
    };
    tokio::join!(killing, contending);
}

impl Arena {
    /// Nobody else may believe to hold the lock now.
    fn announce(&self, guard: &Arc<MutexGuard>, knows_of_its_loss: bool) {
        let mut holder = self.holder.lock().expect("no panic");
        if let Some(before) = holder.upgrade() {
            assert!(!before.is_held(), "two believe to hold it: {before:?} and {guard:?}");
            assert!(before.fencing_token() < guard.fencing_token());
        }
        *holder = if knows_of_its_loss { Arc::downgrade(guard) } else { Weak::new() };
    }

    /// Writes the token and the writer to the log, unless the lock has passed on.
    async fn write(&self, guard: &MutexGuard, number: usize) -> bool {
        let line = format!("{} {number}", guard.fencing_token());
        let txn = Txn::new().when(guard.is_owner()).and_then(Put::new(LOG, line));
        self.world.direct.txn(txn).await.expect("it is made").succeeded()
    }
}

/// Tokens never fall, each belongs to one contender, and every contender has written. Returns how many lines there
/// are.
async fn check_log(arena: &Arena) -> usize {
    let end = arena.world.put(LOG, "end").await;
    let request = WatchRequest::new(KeyRange::key(LOG)).start_revision(1);
    let mut watch = arena.world.direct.watch(request).expect("a lawful request");
    let mut lines = Vec::new();
    while watch.resume_revision().is_none_or(|resume| resume <= end) {
        let response = within(watch.try_next()).await.expect("it goes on").expect("it goes on");
        for event in response.events().filter(|event| event.mod_revision() < end) {
            let line = String::from_utf8(event.value().to_vec()).expect("text");
            let (token, number) = line.split_once(' ').expect("two numbers");
            let parsed: (i64, usize) =
                (token.parse().expect("a token"), number.parse().expect("a contender"));
            lines.push(parsed);
        }
    }
    for pair in lines.windows(2) {
        let [(token, number), (next_token, next_number)] = pair else { unreachable!("windows of two") };
        assert!(
            token < next_token || (token, number) == (next_token, next_number),
            "{pair:?}: ownership went back"
        );
    }
    let writers: BTreeSet<_> = lines.iter().map(|(_, number)| *number).collect();
    assert!(writers.into_iter().eq(0..CONTENDERS), "every contender has had its turn");
    lines.len()
}

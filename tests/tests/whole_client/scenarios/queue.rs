//! Dozens wait for a lock on hosts that are killed, suspended, starved and cut off: one holder at a time, first come,
//! first served, and everybody's turn comes.

use std::time::Duration;

use etcd_watch_client::concurrency::{Mutex, MutexGuard, Name, Session};
use etcd_watch_client::{
    BoxError, Client, Compare, EventKind, Get, KeyRange, Put, SortBy, SortOrder, Txn, WatchRequest,
};
use etcd_watch_testkit::sim::Host;

use super::stage::{Stage, up_to};
use super::trouble::{Running, open_session};
use super::truth::{Queue, keys};

/// How contenders go about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Contender {
    Sound,
    /// Takes the end of the claim before its own for its turn, without another look.
    WithoutLooking,
    /// Writes without the condition that it is the owner.
    Unconditional,
    /// Gives up after three seconds, and queues again.
    Impatient,
    /// Keeps the lock when it is done.
    Forgets,
}

/// What is held: the key, its token, and the guard of the client's own lock.
struct Held {
    token: i64,
    key: String,
    guard: Option<MutexGuard>,
}

impl Held {
    fn is_owner(&self) -> Compare {
        Compare::create_revision(self.key.clone()).equals(self.token)
    }

    fn is_held(&self, session: &Session) -> bool {
        self.guard.as_ref().map_or_else(|| !session.is_lost(), MutexGuard::is_held)
    }
}

/// The contenders of a process.
#[derive(Clone, Copy)]
pub(super) struct Contenders {
    pub(super) count: usize,
    /// The time to live of their sessions.
    pub(super) ttl: Duration,
    /// The longest pause between two turns, in milliseconds.
    pub(super) pause: u64,
    pub(super) how: Contender,
}

/// Contenders in a process of a host.
pub(super) fn contend(stage: &Stage, host: &Host, client: &Client, contenders: Contenders) -> Vec<Running> {
    let one = |_| host.spawn(take_turns(stage.clone(), host.clone(), client.clone(), contenders));
    (0..contenders.count).map(one).collect()
}

/// What has to be true once all contenders, whose sessions had this time to live, have come to their end. Less than `least`
/// holders is too few to say so.
pub(super) async fn check(stage: &Stage, ttl: Duration, least: usize) -> Result<(), BoxError> {
    // The last contenders leave. An entry whose answer was lost is removed too, or ends with its lease.
    stage.world().sleep(ttl + Duration::from_secs(15)).await;
    let etcd = stage.world().etcd();
    let queue = Queue::of(etcd, "lock/");
    queue.check_places_are_kept()?;
    let writes = queue.check_log(etcd, "lock-log")?;
    if let Some(left) = queue.places.iter().find(|place| place.deleted.is_none()) {
        return Err(format!("left behind: {:?}", left.key).into());
    }
    let holders = queue.places.iter().filter(|place| place.was_first).count();
    if holders.min(writes) < least {
        return Err(format!("hardly anybody ever had the lock: {holders} holders, {writes} writes").into());
    }
    Ok(())
}

async fn take_turns(
    stage: Stage,
    host: Host,
    client: Client,
    contenders: Contenders,
) -> Result<(), BoxError> {
    let Contenders { ttl, pause, how, .. } = contenders;
    let (world, mut rng) = (stage.world(), stage.world().rng());
    loop {
        let session = open_session(&host, &client, ttl).await;
        while let Some(held) = lock(&host, &session, how).await {
            let is_last = stage.is_calm();
            // A claim that was before this one never comes back, so one look is enough.
            let before = keys(world.etcd(), "lock/").into_iter().find(|kv| kv.create_revision < held.token);
            let holder = &held.key;
            assert!(before.is_none(), "{holder} holds the lock before its turn: {before:?} was before it");
            for _ in 0..rng.u8(1..3) {
                let believes = held.is_held(&session);
                let is_there =
                    keys(world.etcd(), &held.key).iter().any(|kv| kv.create_revision == held.token);
                assert!(is_there || !believes, "{holder} believes in a lock that it has lost");
                let write = Txn::new().and_then(Put::new("lock-log", held.token.to_string()));
                let write = if how == Contender::Unconditional { write } else { write.when(held.is_owner()) };
                // Refused once the lock is lost.
                let _ = client.txn(write).await;
                host.sleep(up_to(&mut rng, 1000)).await;
            }
            match held.guard {
                Some(guard) if how == Contender::Forgets => std::mem::forget(guard),
                Some(guard) => drop(guard.unlock().await),
                None => drop(client.delete(held.key).await),
            }
            if is_last {
                return Ok(());
            }
            host.sleep(up_to(&mut rng, pause)).await;
        }
    }
}

/// `None` once the session is lost.
async fn lock(host: &Host, session: &Session, how: Contender) -> Option<Held> {
    if how == Contender::WithoutLooking {
        return loop {
            match lock_by_hand(session).await {
                Ok(held) => break Some(held),
                Err(_) if session.is_lost() => break None,
                Err(_) => host.sleep(Duration::from_millis(500)).await,
            }
        };
    }
    let mutex = Mutex::new(session, Name::new("lock").expect("a lawful name"));
    let guard = if how == Contender::Impatient {
        loop {
            if let Some(guard) = mutex.lock_within(Duration::from_secs(3)).await.ok()? {
                break guard;
            }
        }
    } else {
        mutex.lock().await.ok()?
    };
    let key = String::from_utf8_lossy(guard.key()).into_owned();
    Some(Held { token: guard.fencing_token(), key, guard: Some(guard) })
}

/// A lock by the same keys, with the mistake that a claim in the middle of the queue may go without its turn.
async fn lock_by_hand(session: &Session) -> Result<Held, BoxError> {
    let (client, key) = (session.client(), format!("lock/{:x}", session.id()));
    let enter = Put::new(key.clone(), "").lease(session.id());
    client.txn(Txn::new().when(Compare::missing(key.clone())).and_then(enter)).await?;
    let own = client.get(Get::key(key.clone())).await?;
    let token = own.first().ok_or("it is gone")?.create_revision;
    let before = Get::prefix("lock/").max_create_revision(token - 1);
    let before = client.get(before.sort(SortBy::CreateRevision, SortOrder::Descending).limit(1)).await?;
    if let Some(kv) = before.first() {
        let request = WatchRequest::new(KeyRange::key(kv.key.clone())).start_revision(before.revision() + 1);
        let mut watch = client.watch(request)?;
        while let Some(response) = watch.try_next().await? {
            if response.events().any(|event| event.kind() == EventKind::Delete) {
                break;
            }
        }
    }
    Ok(Held { token, key, guard: None })
}

//! One leader in each term of its key, and observers that see every leader and every value.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use etcd_watch_client::concurrency::{Election, Leader, Name, Session, leader, observe};
use etcd_watch_client::{BoxError, Client, Put, Txn};
use etcd_watch_testkit::sim::{FaultKind, Host, World};

use super::soon;
use super::trouble::{on_the_way, stand_still, supervise, up_to};
use super::truth::{Queue, keys};

const TTL: Duration = Duration::from_secs(5);

/// How candidates and observers go about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Candidate {
    Sound,
    /// Proclaims by a plain put of the leader's key.
    PlainPut,
    /// Writes without the condition that it leads.
    Unconditional,
    /// Observers ask who leads, again and again.
    Polled,
}

/// Candidates lead in turn under a storm; observers on hosts that sleep follow them.
pub(super) async fn are_seen(world: World, lasts: Duration, how: Candidate) -> Result<(), BoxError> {
    let is_over = Arc::new(AtomicBool::new(false));
    let mut observers = Vec::new();
    for name in ["observer-0", "observer-1"] {
        let host = world.host(name);
        let client = host.client().connect_lazy()?;
        observers.push(host.spawn(follow(host.clone(), client, how)));
    }
    let mut hosts = Vec::new();
    for number in 0..4 {
        let host = world.host(&format!("host-{number}"));
        let started = (world.clone(), host.clone(), is_over.clone());
        let start = move |client: Client| {
            let (world, host, is_over) = &started;
            let one =
                |_| host.spawn(campaign(world.clone(), host.clone(), client.clone(), is_over.clone(), how));
            (0..2).map(one).collect()
        };
        hosts.push(tokio::spawn(supervise(world.clone(), host, is_over.clone(), 60, start)));
    }
    // Where history was compacted, an observer goes on with who leads then.
    world.faults(on_the_way().without(FaultKind::Compaction)).await;
    let (end, mut rng) = (world.now() + lasts, world.rng());
    while world.now() < end {
        world.sleep(up_to(&mut rng, 20_000)).await;
        let host = world.host(if rng.bool() { "observer-0" } else { "observer-1" });
        stand_still(&world, &host, &mut rng, 20_000).await;
    }
    world.calm().await;
    is_over.store(true, Ordering::Relaxed);
    for host in hosts {
        soon("everybody has led", host).await???;
    }
    world.sleep(TTL + Duration::from_secs(15)).await;
    world.etcd().put("elected/last", "last");
    let queue = Queue::of(world.etcd(), "elected/");
    queue.check_places_are_kept()?;
    if let Some(stray) = queue.firsts().find(|put| put.lease == 0 && put.key != "elected/last") {
        return Err(format!("a leader without a lease: {:?}", stray.key).into());
    }
    let writes = queue.check_log(world.etcd(), "log")?;
    let truth: Vec<_> = queue.firsts().map(|put| (put.create_revision, put.revision, &put.value)).collect();
    if writes < 5 || truth.len() < 10 {
        return Err(format!("hardly anybody ever led: {} terms, {writes} writes", truth.len()).into());
    }
    for observer in observers {
        let seen = soon("the last leader is seen", observer).await?.ok_or("an observer has died")??;
        let seen: Vec<_> =
            seen.iter().map(|leader| (leader.create_revision, leader.mod_revision, &leader.value)).collect();
        let missed = truth.len().saturating_sub(seen.len());
        // It begins with who leads at first.
        if seen[..] != truth[missed..] || missed > 3 {
            return Err(format!("an observer has missed a leader: {seen:?} of {truth:?}").into());
        }
    }
    Ok(())
}

async fn follow(host: Host, client: Client, how: Candidate) -> Result<Vec<Leader>, BoxError> {
    let (name, mut seen) = (Name::new("elected")?, Vec::<Leader>::new());
    let mut leaders = observe(&client, &name);
    while seen.last().is_none_or(|leader| leader.value != "last") {
        if how == Candidate::Polled {
            host.sleep(Duration::from_millis(200)).await;
            if let Ok(Some(leader)) = leader(&client, &name).await
                && seen.last() != Some(&leader)
            {
                seen.push(leader);
            }
        } else {
            seen.push(leaders.next().await.ok_or("it has ended")??);
        }
    }
    Ok(seen)
}

async fn campaign(
    world: World,
    host: Host,
    client: Client,
    is_over: Arc<AtomicBool>,
    how: Candidate,
) -> Result<(), BoxError> {
    let mut rng = world.rng();
    loop {
        let Ok(session) = Session::builder(&client).ttl(TTL).open().await else {
            host.sleep(Duration::from_millis(500)).await;
            continue;
        };
        let election = Election::new(&session, Name::new("elected")?);
        while let Ok(leadership) = election.campaign(rng.u32(..).to_string()).await {
            let is_last = is_over.load(Ordering::Relaxed);
            for _ in 0..rng.u8(1..4) {
                let (token, believes) = (leadership.fencing_token(), leadership.is_held());
                let candidates = keys(world.etcd(), "elected/");
                let first = candidates.iter().map(|kv| kv.create_revision).min();
                assert!(first == Some(token) || !believes, "two lead: {token} and {first:?}");
                let value = rng.u32(..).to_string();
                if how == Candidate::PlainPut {
                    let _ = client.put(leadership.key().clone(), value).await;
                } else {
                    let _ = leadership.proclaim(value).await;
                }
                let write = Txn::new().and_then(Put::new("log", token.to_string()));
                let is_owner = leadership.is_owner();
                let write = if how == Candidate::Unconditional { write } else { write.when(is_owner) };
                let _ = client.txn(write).await;
                host.sleep(up_to(&mut rng, 2000)).await;
            }
            let _ = leadership.resign().await;
            if is_last {
                return Ok(());
            }
            host.sleep(up_to(&mut rng, 2000)).await;
        }
    }
}

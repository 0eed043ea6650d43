//! One leader in each term of its key, and observers that see every leader and every value.

use std::time::Duration;

use bytes::Bytes;
use etcd_watch_client::concurrency::{Election, Leader, Name, leader, observe};
use etcd_watch_client::{BoxError, Client, Put, Txn};
use etcd_watch_testkit::sim::{Host, Task};

use super::stage::{Site, Stage, soon, up_to};
use super::trouble::{Running, open_session};
use super::truth::{Queue, keys};

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

/// An observer and what it has seen, once it has seen the last leader.
pub(super) type Observer = Task<Result<Vec<Leader>, BoxError>>;

/// An observer on each of these hosts.
pub(super) fn watch_from(sites: &[Site], how: Candidate) -> Vec<Observer> {
    let one = |Site { host, client }: &Site| host.spawn(follow(host.clone(), client.clone(), how));
    sites.iter().map(one).collect()
}

/// The candidates of a process.
#[derive(Clone, Copy)]
pub(super) struct Candidates {
    pub(super) count: usize,
    /// The time to live of their sessions.
    pub(super) ttl: Duration,
    /// The longest pause between two terms, in milliseconds.
    pub(super) pause: u64,
    pub(super) how: Candidate,
}

/// Candidates in a process of a host.
pub(super) fn stand(stage: &Stage, host: &Host, client: &Client, candidates: Candidates) -> Vec<Running> {
    let one = |_| host.spawn(campaign(stage.clone(), host.clone(), client.clone(), candidates));
    (0..candidates.count).map(one).collect()
}

/// What there has to be.
pub(super) struct Limits {
    /// The time to live of the candidates' sessions.
    pub(super) ttl: Duration,
    /// Fewer terms are too few to say that observers see each of them.
    pub(super) terms: usize,
    /// So many leaders may come before the first that an observer sees.
    pub(super) late: usize,
}

/// What has to be true once all candidates have come to their end.
pub(super) async fn check(stage: &Stage, observers: Vec<Observer>, limits: &Limits) -> Result<(), BoxError> {
    let etcd = stage.world().etcd();
    stage.world().sleep(limits.ttl + Duration::from_secs(15)).await;
    etcd.put("elected/last", "last");
    let queue = Queue::of(etcd, "elected/");
    queue.check_places_are_kept()?;
    if let Some((_, stray)) = queue.firsts().find(|(_, put)| put.lease == 0 && put.key != "elected/last") {
        return Err(format!("a leader without a lease: {:?}", stray.key).into());
    }
    let writes = queue.check_log(etcd, "election-log")?;
    let truth: Vec<(i64, Seen)> =
        queue.firsts().map(|(since, put)| (since, (put.create_revision, put.revision, &put.value))).collect();
    if truth.len().min(writes) < limits.terms {
        return Err(format!("hardly anybody ever led: {} terms, {writes} writes", truth.len()).into());
    }
    let compactions = etcd.look(|model| model.compactions().to_vec());
    for observer in observers {
        let seen = soon("the last leader is seen", observer).await?.ok_or("an observer has died")??;
        let seen: Vec<Seen> =
            seen.iter().map(|leader| (leader.create_revision, leader.mod_revision, &leader.value)).collect();
        check_seen(&seen, &truth, &compactions, limits.late)?;
    }
    Ok(())
}

/// A leader with a value: the key's create revision, its mod revision, and the value.
type Seen<'a> = (i64, i64, &'a Bytes);

/// An observer has seen every leader and every value, in order, after up to `late` that came before its first. It may have
/// missed some over a compaction: then it goes on with the leader of that moment. `truth` has all of them, each with the
/// revision since which it leads with that value.
fn check_seen(
    seen: &[Seen<'_>],
    truth: &[(i64, Seen<'_>)],
    compactions: &[i64],
    late: usize,
) -> Result<(), BoxError> {
    let missed =
        || format!("an observer has missed a leader: {seen:?} of {truth:?}, compacted at {compactions:?}");
    let (mut next, mut last_seen) = (0, None);
    for leader in seen {
        let found = truth[next..].iter().position(|(_, there)| there == leader);
        let at = next + found.ok_or_else(missed)?;
        let is_whole = match last_seen {
            // An observer begins with the leader of its first look.
            None => at <= late,
            Some(_) if at == next => true,
            // The watch was behind a compaction, and the new list has found this leader before the next one came.
            Some(revision) => {
                let until = truth.get(at + 1).map_or(i64::MAX, |(since, _)| *since);
                compactions.iter().any(|compaction| (revision + 1..until).contains(compaction))
            }
        };
        if !is_whole {
            return Err(missed().into());
        }
        (next, last_seen) = (at + 1, Some(leader.1));
    }
    if next == truth.len() { Ok(()) } else { Err(missed().into()) }
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

async fn campaign(stage: Stage, host: Host, client: Client, candidates: Candidates) -> Result<(), BoxError> {
    let Candidates { ttl, pause, how, .. } = candidates;
    let (world, mut rng) = (stage.world(), stage.world().rng());
    loop {
        let session = open_session(&host, &client, ttl).await;
        let election = Election::new(&session, Name::new("elected")?);
        while let Ok(leadership) = election.campaign(rng.u32(..).to_string()).await {
            let is_last = stage.is_calm();
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
                let write = Txn::new().and_then(Put::new("election-log", token.to_string()));
                let is_owner = leadership.is_owner();
                let write = if how == Candidate::Unconditional { write } else { write.when(is_owner) };
                let _ = client.txn(write).await;
                host.sleep(up_to(&mut rng, 2000)).await;
            }
            let _ = leadership.resign().await;
            if is_last {
                return Ok(());
            }
            host.sleep(up_to(&mut rng, pause)).await;
        }
    }
}

//! Sessions that contend for a lock and for an election, and observers of the election.

use std::{
    sync::{
        Arc, Mutex as StdMutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use etcd_watch_client::{
    BoxError, Client, Compare, Put, Txn,
    concurrency::{Election, Mutex, Name, Session, observe},
};
use fastrand::Rng;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    clients::NamedClient,
    finding::Finding,
    recorder::{Recorder, lock},
    sabotage::Saboteur,
    settings::Settings,
    soak::Epoch,
    turns::{ELECTION, ELECTION_LOG, Followed, LOCK, LOCK_LOG, Queue, Seen, Turns},
};

/// Shorter than the longest faults, so that sessions are lost.
const TTL: Duration = Duration::from_secs(5);
/// How many contend for the lock by each client.
const PER_CLIENT: usize = 2;
const RETRY: Duration = Duration::from_millis(300);
const INTERVAL: Duration = Duration::from_millis(20);
/// How long whoever has had its turn rests, at most, and how long it takes between two writes.
const REST: Duration = Duration::from_millis(1500);
const HOLD: Duration = Duration::from_millis(600);

/// Totals of the contenders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contended {
    /// How often a contender had the lock.
    pub locks: u64,
    /// How often a candidate led.
    pub terms: u64,
    /// Writes under the condition that the writer held the lock, or led, which were executed.
    pub writes: u64,
    /// Sessions that were lost.
    pub lost: u64,
    /// Leaders and values of leaders that observers were told of.
    pub seen: u64,
}

impl std::ops::AddAssign for Contended {
    fn add_assign(&mut self, other: Self) {
        self.locks += other.locks;
        self.terms += other.terms;
        self.writes += other.writes;
        self.lost += other.lost;
        self.seen += other.seen;
    }
}

/// All contenders and observers, while a store lasts.
pub(crate) struct Contenders {
    is_over: watch::Sender<bool>,
    contending: Vec<(String, JoinHandle<Result<(), BoxError>>)>,
    observers: Vec<Observer>,
    shared: Arc<Shared>,
}

/// What they have in common.
struct Shared {
    recorder: Arc<Recorder>,
    saboteur: Saboteur,
    lost: AtomicU64,
    findings: StdMutex<Vec<Finding>>,
}

/// One that is told of every leader.
struct Observer {
    name: String,
    seen: Arc<StdMutex<Vec<Seen>>>,
    observing: JoinHandle<()>,
    followed: Followed,
    told: u64,
}

/// One that contends.
struct Contender {
    name: String,
    client: Client,
    is_over: watch::Receiver<bool>,
    shared: Arc<Shared>,
    random: Rng,
}

/// Whose turn it is: what its client knows of it.
struct Turn<'a> {
    token: i64,
    is_owner: Compare,
    is_held: &'a (dyn Fn() -> bool + Sync),
    log: &'static str,
    queue: fn(&Turns) -> &Queue,
}

impl Contenders {
    pub(crate) fn start(
        clients: &[NamedClient],
        settings: &Settings,
        saboteur: &Saboteur,
        epoch: &Epoch,
    ) -> Self {
        let (is_over, over) = watch::channel(false);
        let recorder = epoch.recorder.clone();
        let shared = Arc::new(Shared {
            recorder,
            saboteur: saboteur.clone(),
            lost: AtomicU64::new(0),
            findings: StdMutex::default(),
        });
        let mut numbers = settings.seed..;
        let mut contender = |of: &NamedClient, what: &str| Contender {
            name: format!("{what} of {}", of.name),
            client: of.client.clone(),
            is_over: over.clone(),
            shared: shared.clone(),
            random: Rng::with_seed(numbers.next().unwrap_or_default()),
        };
        let mut contending = Vec::new();
        for client in clients {
            for _ in 0..PER_CLIENT {
                let contender = contender(client, "a contender");
                contending.push((contender.name.clone(), tokio::spawn(contender.contend())));
            }
            let candidate = contender(client, "a candidate");
            contending.push((candidate.name.clone(), tokio::spawn(candidate.stand())));
        }
        let observers = clients.iter().step_by(2).map(|client| Observer::start(client, &shared, epoch));
        let observers = observers.collect();
        Self { is_over, contending, observers, shared }
    }

    /// Looks for what was found broken by now.
    ///
    /// # Errors
    /// Every promise that was broken.
    pub(crate) fn look(&mut self) -> Result<(), Vec<Finding>> {
        let mut turns = self.shared.recorder.turns();
        let broken = turns.take_broken().into_iter().map(|broken| Finding::of("the contenders", broken));
        let mut findings: Vec<Finding> = broken.collect();
        findings.append(&mut lock(&self.shared.findings));
        for observer in &mut self.observers {
            findings.extend(observer.follow(&turns.election).err());
        }
        if findings.is_empty() { Ok(()) } else { Err(findings) }
    }

    /// Lets everybody have a last turn, which comes soon now that all is whole, and waits until observers have been told of
    /// it. What they have come to.
    ///
    /// # Errors
    /// Every promise that was broken.
    pub(crate) async fn finish(mut self, patience: Duration) -> Result<Contended, Vec<Finding>> {
        let _ = self.is_over.send_replace(true);
        let end = Instant::now() + patience;
        for (name, contending) in &mut self.contending {
            let left = end.saturating_duration_since(Instant::now());
            let what = match tokio::time::timeout(left, contending).await {
                Ok(Ok(Ok(()))) => continue,
                Ok(Ok(Err(error))) => format!("it can't go on: {error}"),
                Ok(Err(ended)) => format!("it has ended: {ended}"),
                Err(_) => format!("its turn has not come though all was whole for {patience:?}"),
            };
            return Err(vec![Finding::of(name.clone(), what)]);
        }
        loop {
            self.look()?;
            let late = {
                let turns = self.shared.recorder.turns();
                self.observers
                    .iter()
                    .find(|one| !turns.election.is_at_the_end(one.followed))
                    .map(Observer::late)
            };
            match late {
                None => return Ok(self.contended()),
                Some(late) if Instant::now() >= end => return Err(vec![late]),
                Some(_) => tokio::time::sleep(INTERVAL).await,
            }
        }
    }

    /// What they have come to so far.
    pub(crate) fn contended(&self) -> Contended {
        let turns = self.shared.recorder.turns();
        let (locks, terms) = (turns.lock.counts(), turns.election.counts());
        Contended {
            locks: locks.turns,
            terms: terms.turns,
            writes: locks.writes + terms.writes,
            lost: self.shared.lost.load(Ordering::Relaxed),
            seen: self.observers.iter().map(|observer| observer.told).sum(),
        }
    }
}

impl Drop for Contenders {
    fn drop(&mut self) {
        self.contending.iter().for_each(|(_, contending)| contending.abort());
    }
}

impl Contender {
    /// Has the lock again and again, with a new session whenever one is lost.
    async fn contend(mut self) -> Result<(), BoxError> {
        let name = Name::new(LOCK)?;
        loop {
            let session = self.session().await;
            if self.shared.saboteur.jumps_the_queue() {
                self.jump(&session).await?;
            }
            let mutex = Mutex::new(&session, name.clone());
            while let Ok(guard) = mutex.lock().await {
                let is_last = *self.is_over.borrow();
                let turn = Turn {
                    token: guard.fencing_token(),
                    is_owner: guard.is_owner(),
                    is_held: &|| guard.is_held(),
                    log: LOCK_LOG,
                    queue: |turns| &turns.lock,
                };
                if self.shared.saboteur.believes() {
                    self.believe(&session, &turn).await;
                }
                for _ in 0..self.random.u8(1..3) {
                    self.write(&turn).await;
                    self.rest(HOLD).await;
                }
                let token = turn.token;
                // It may be lost already, or the answer is.
                let _ = guard.unlock().await;
                if self.shared.saboteur.writes_without_condition() {
                    let _ = self.client.put(LOCK_LOG, token.to_string()).await;
                }
                if is_last {
                    let _ = session.close().await;
                    return Ok(());
                }
                self.rest(REST).await;
            }
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Leads again and again.
    async fn stand(mut self) -> Result<(), BoxError> {
        let name = Name::new(ELECTION)?;
        loop {
            let session = self.session().await;
            let election = Election::new(&session, name.clone());
            while let Ok(leadership) = election.campaign(self.random.u32(..).to_string()).await {
                let is_last = *self.is_over.borrow();
                let turn = Turn {
                    token: leadership.fencing_token(),
                    is_owner: leadership.is_owner(),
                    is_held: &|| leadership.is_held(),
                    log: ELECTION_LOG,
                    queue: |turns| &turns.election,
                };
                for _ in 0..self.random.u8(1..4) {
                    let _ = leadership.proclaim(self.random.u32(..).to_string()).await;
                    self.write(&turn).await;
                    self.rest(HOLD).await;
                }
                let _ = leadership.resign().await;
                if is_last {
                    let _ = session.close().await;
                    return Ok(());
                }
                self.rest(REST).await;
            }
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn session(&self) -> Session {
        loop {
            match Session::builder(&self.client).ttl(TTL).open().await {
                Ok(session) => return session,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Writes under the condition that it is its turn, and looks whether it believes in one that is over.
    async fn write(&self, turn: &Turn<'_>) {
        self.check_belief(turn);
        let put = Put::new(turn.log, turn.token.to_string());
        // Refused once its turn is over; an answer may be lost.
        let _ = self.client.txn(Txn::new().when(turn.is_owner.clone()).and_then(put)).await;
        self.check_belief(turn);
    }

    /// The client must have noticed the end of its lease before the key goes; nobody but the holder deletes the key otherwise.
    fn check_belief(&self, turn: &Turn<'_>) {
        let is_gone = (turn.queue)(&self.shared.recorder.turns()).is_gone(turn.token);
        if is_gone && (turn.is_held)() {
            let what = format!("it believes in its turn {}, and the key is gone", turn.token);
            lock(&self.shared.findings).push(Finding::of(self.name.clone(), what));
        }
    }

    /// Rests at random, but not once everybody has its last turn.
    async fn rest(&mut self, most: Duration) {
        let rest = most.mul_f64(self.random.f64());
        let over = self.is_over.wait_for(|&over| over);
        // Whether it has rested or was told.
        let _ = tokio::time::timeout(rest, over).await.is_ok();
    }

    /// Sabotage: writes by the condition that its key is there, though its turn has not come.
    async fn jump(&self, session: &Session) -> Result<(), BoxError> {
        let key = format!("{LOCK}/{:x}", session.id());
        let enter = Put::new(key.clone(), "").lease(session.id());
        let entered = self.client.txn(Txn::new().when(Compare::missing(key.clone())).and_then(enter)).await?;
        let token = entered.revision();
        let write = Put::new(LOCK_LOG, token.to_string());
        let is_there = Compare::create_revision(key).equals(token);
        self.client.txn(Txn::new().when(is_there).and_then(write)).await?;
        Ok(())
    }

    /// Sabotage: revokes the lease, and goes on as if it held the lock.
    async fn believe(&self, session: &Session, turn: &Turn<'_>) {
        let _ = self.client.lease_revoke(session.id()).await;
        let end = Instant::now() + TTL;
        while Instant::now() < end {
            self.check_belief(&Turn { is_held: &|| true, is_owner: turn.is_owner.clone(), ..*turn });
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

impl Observer {
    fn start(client: &NamedClient, shared: &Arc<Shared>, epoch: &Epoch) -> Self {
        let seen = Arc::new(StdMutex::new(Vec::new()));
        let name = format!("an observer of {}", client.name);
        let (client, clock) = (client.client.clone(), epoch.clock.clone());
        let (sink, shared, who) = (seen.clone(), shared.clone(), name.clone());
        let observing = tokio::spawn(async move {
            let ended = |why: String| lock(&shared.findings).push(Finding::of(who.clone(), why));
            let name = match Name::new(ELECTION) {
                Ok(name) => name,
                Err(error) => return ended(error.to_string()),
            };
            let mut leaders = observe(&client, &name);
            loop {
                match leaders.next().await {
                    Some(Ok(_)) if shared.saboteur.misses_a_leader() => {}
                    Some(Ok(leader)) => lock(&sink).push(Seen {
                        token: leader.create_revision,
                        mod_revision: leader.mod_revision,
                        value: Bytes::copy_from_slice(&leader.value),
                        compacted: clock.compacted(),
                    }),
                    Some(Err(error)) => return ended(format!("it has ended: {error}")),
                    None => return ended("it has ended without a reason".to_owned()),
                }
            }
        });
        Self { name, seen, observing, followed: Followed::default(), told: 0 }
    }

    /// Holds what it was told against what is known.
    fn follow(&mut self, queue: &Queue) -> Result<(), Finding> {
        let mut seen = lock(&self.seen);
        let mut known = 0;
        for one in seen.iter() {
            let is_known = queue.follow(&mut self.followed, one);
            if !is_known.map_err(|missed| Finding::of(self.name.clone(), missed))? {
                break;
            }
            known += 1;
        }
        seen.drain(..known);
        self.told += known as u64;
        Ok(())
    }

    fn late(&self) -> Finding {
        let waiting = lock(&self.seen).first().map_or_else(String::new, |one| format!(", but of {one:?}"));
        Finding::of(self.name.clone(), format!("it was not told of the last leader{waiting}"))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.observing.abort();
    }
}

//! One soak: a cluster, those who write, watch and break it, and epoch after epoch until time is up.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use etcd_watch_client::Client;
use etcd_watch_testkit::{harness::HarnessError, linearizable::Checked};
use tokio::{
    sync::{RwLock, mpsc, watch},
    task::JoinHandle,
    time::MissedTickBehavior,
};

use crate::{
    calls::Callers,
    clients::{self, NamedClient},
    clock::Clock,
    contenders::{Contended, Contenders},
    error::SoakError,
    faults::{Deck, Fault},
    finding::Finding,
    journal::Journal,
    observer::Surroundings,
    recorder::Recorder,
    replicas::{self, Replica},
    report::Report,
    rest::Peace,
    sabotage::Saboteur,
    samples::{self, Sample},
    settings::Settings,
    storm::{Chance, Over, Schedule, Storm},
    watches::Watches,
    world::{MEMBERS, World},
    writers::{Gate, Writers, Writes, write_mark},
};

/// How often everything is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a look may wait for the recorder; what it has not written down by then is looked at the next time.
const RECORDER_PATIENCE: Duration = Duration::from_secs(1);
/// How often there is a mark.
const MARK: Duration = Duration::from_secs(5);
/// So many revisions are kept at least, for watches that begin in the past.
const KEPT_REVISIONS: i64 = 3000;
/// One watch that goes wrong tends to go on so.
const MOST_FINDINGS: usize = 20;

/// Why a soak ends before its time.
pub(crate) enum Stop {
    /// It found what it looks for.
    Found(Vec<Finding>),
    /// It can't go on.
    Failed(SoakError),
}

impl From<Vec<Finding>> for Stop {
    fn from(findings: Vec<Finding>) -> Self {
        Self::Found(findings)
    }
}

impl From<Finding> for Stop {
    fn from(finding: Finding) -> Self {
        Self::Found(vec![finding])
    }
}

impl From<SoakError> for Stop {
    fn from(error: SoakError) -> Self {
        Self::Failed(error)
    }
}

impl From<HarnessError> for Stop {
    fn from(error: HarnessError) -> Self {
        Self::Failed(error.into())
    }
}

/// One soak.
pub(crate) struct Soak {
    pub(crate) settings: Arc<Settings>,
    pub(crate) start: Instant,
    pub(crate) journal: Journal,
    pub(crate) world: Arc<World>,
    pub(crate) clients: Vec<NamedClient>,
    pub(crate) direct: Client,
    pub(crate) gate: Gate,
    writers: Option<Writers>,
    writes: Writes,
    pub(crate) callers: Option<Callers>,
    pub(crate) calls: Checked,
    pub(crate) contenders: Option<Contenders>,
    pub(crate) contended: Contended,
    pub(crate) saboteur: Saboteur,
    pub(crate) watches: Watches,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) hurry: watch::Sender<bool>,
    pub(crate) restores: usize,
    /// Lists of replicas that are no more.
    pub(crate) lists: u64,
    samples: Vec<Sample>,
    compared: u64,
    recorder_connections: u64,
    /// Marks that not everything has come to yet, and when they were written.
    marks: VecDeque<(i64, Instant)>,
}

/// A store, from its first revision to a restore or to the end.
pub(crate) struct Epoch {
    pub(crate) clock: Arc<Clock>,
    pub(crate) recorder: Arc<Recorder>,
}

impl Soak {
    /// Starts the cluster and the clients; nobody writes or watches yet.
    pub(crate) async fn new(settings: Settings) -> Result<Self, SoakError> {
        let start = Instant::now();
        let journal = Journal::new(start)?;
        let settings = Arc::new(settings);
        let world = Arc::new(World::start(&settings).await?);
        journal.note(format!("{} serves at {:?}; seed {}", world.version, world.endpoints, settings.seed));
        for (fault, why) in &world.unavailable {
            journal.note(format!("{fault} is not to be had here: {why}"));
        }
        let clients = clients::clients(&world.link_endpoints(), MEMBERS)?;
        let direct = clients::direct(&world.endpoints)?;
        let (hurry, hurried) = watch::channel(false);
        let clock = Arc::new(Clock::default());
        let saboteur = Saboteur::new(settings.sabotage, settings.seed);
        let around = Surroundings {
            clock: clock.clone(),
            saboteur: saboteur.clone(),
            hurry: hurried,
            delivered: Arc::new(AtomicU64::new(0)),
        };
        let watches =
            Watches::new(clients.clone(), settings.watches, settings.seed, around, journal.clone(), start);
        Ok(Self {
            gate: Arc::new(RwLock::new(clock)),
            settings,
            start,
            journal,
            world,
            clients,
            direct,
            writers: None,
            writes: Writes::default(),
            callers: None,
            calls: Checked::default(),
            contenders: None,
            contended: Contended::default(),
            saboteur,
            watches,
            replicas: Vec::new(),
            hurry,
            restores: 0,
            lists: 0,
            samples: Vec::new(),
            compared: 0,
            recorder_connections: 0,
            marks: VecDeque::new(),
        })
    }

    /// All of it.
    pub(crate) async fn run(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Stop> {
        let mut chance = self.chance();
        self.replicas = replicas::open(&self.clients)?;
        // Nobody writes before the recorder has read where it begins.
        let mut peace = self.gate.clone().write_owned().await;
        self.writers = Some(Writers::start(
            &self.clients,
            &self.gate,
            self.settings.writes_per_second,
            self.settings.seed,
        ));
        self.callers = Some(Callers::start(&self.clients, &self.gate, &self.settings));
        loop {
            let recorder = Arc::new(Recorder::start(self.world.endpoints.clone()).await?);
            let clock = Arc::new(Clock::starting_at(recorder.recorded()));
            *peace = clock.clone();
            self.watches.begin(clock.clone());
            self.marks.clear();
            let _ = self.hurry.send_replace(false);
            drop(peace);
            let epoch = Epoch { clock, recorder };
            self.journal.note(format!("an epoch begins at revision {}", epoch.recorder.recorded()));
            self.contenders = Some(Contenders::start(&self.clients, &self.settings, &self.saboteur, &epoch));
            let gone_by = self.storm_and_rest(&epoch, chance, stop).await;
            self.recorder_connections += epoch.recorder.connections();
            let snapshot;
            (peace, chance, snapshot) = gone_by?;
            let Some(snapshot) = snapshot else { break };
            self.restore(&snapshot, epoch).await?;
            chance.schedule.restored(Instant::now() + self.settings.restore_every);
        }
        self.writes = self.writers.take().map(|writers| writers.counts()).unwrap_or_default();
        self.callers = None;
        drop(peace);
        self.leave_nothing_behind().await?;
        self.look_for_the_unused(&chance.schedule, stop)
    }

    /// The kinds of faults, and when they come.
    fn chance(&self) -> Chance {
        let now = Instant::now();
        let is_available = |fault: &Fault| !self.world.unavailable.contains_key(fault);
        let kinds: Vec<Fault> = self.settings.faults.iter().copied().filter(is_available).collect();
        let (end, restore) = (now + self.settings.duration, now + self.settings.restore_every);
        Chance {
            deck: Deck::new(self.settings.seed, kinds.iter().copied()),
            schedule: Schedule::new(end, restore, kinds),
        }
    }

    /// A kind of fault that was to be used and was not has shown nothing; but for runs that were told to end.
    fn look_for_the_unused(&self, schedule: &Schedule, stop: &watch::Receiver<bool>) -> Result<(), Stop> {
        if *stop.borrow() {
            return Ok(());
        }
        let unused =
            schedule.left().iter().map(|fault| Finding::of("the soak", format!("{fault} was not used")));
        let unused: Vec<Finding> = unused.collect();
        if unused.is_empty() { Ok(()) } else { Err(unused.into()) }
    }

    /// A storm, and the rest behind it; with a snapshot to go back to, if it is time for that.
    async fn storm_and_rest(
        &mut self,
        epoch: &Epoch,
        chance: Chance,
        stop: &watch::Receiver<bool>,
    ) -> Result<(Peace, Chance, Option<PathBuf>), Stop> {
        let (over, chance) = self.weather(epoch, chance, stop).await?;
        self.world.settle().await?;
        if let Some(contenders) = self.contenders.take() {
            self.contended += contenders.finish(self.settings.patience).await?;
        }
        let snapshot = if over == Over::Restore { Some(self.save(epoch).await?) } else { None };
        let peace = self.come_to_rest(epoch).await?;
        Ok((peace, chance, snapshot))
    }

    /// Lets a storm rage while everything is looked at.
    async fn weather(
        &mut self,
        epoch: &Epoch,
        mut chance: Chance,
        stop: &watch::Receiver<bool>,
    ) -> Result<(Over, Chance), Stop> {
        let storm = Storm {
            settings: self.settings.clone(),
            world: self.world.clone(),
            recorder: epoch.recorder.clone(),
            clock: epoch.clock.clone(),
            direct: self.direct.clone(),
            journal: self.journal.clone(),
        };
        let stop = stop.clone();
        let mut raging = Task(tokio::spawn(async move {
            let over = storm.rage(&mut chance, stop).await;
            over.map(|over| (over, chance))
        }));
        let (mut marks, _marking) = self.start_marks();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                over = &mut raging.0 => {
                    let over = over.map_err(|ended| SoakError::io("wait for the faults")(io::Error::other(ended)))?;
                    return Ok(over?);
                }
                Some(mark) = marks.recv() => self.marks.push_back(mark),
                _ = looks.tick() => {
                    self.sample();
                    self.look(epoch).await?;
                    self.watches.fill(&epoch.recorder.ledger())?;
                }
            }
        }
    }

    /// Marks, every now and then, as far as there is a majority to take them.
    fn start_marks(&self) -> (mpsc::Receiver<(i64, Instant)>, Task<()>) {
        let (sender, receiver) = mpsc::channel(8);
        let (gate, direct) = (self.gate.clone(), self.direct.clone());
        let marking = tokio::spawn(async move {
            loop {
                tokio::time::sleep(MARK).await;
                let clock = gate.read().await;
                if let Ok(revision) = write_mark(&direct, &clock).await
                    && sender.send((revision, Instant::now())).await.is_err()
                {
                    return;
                }
            }
        });
        (receiver, Task(marking))
    }

    pub(crate) fn sample(&mut self) {
        let server_watchers = self.world.server_watchers();
        let (at, delivered, rss) = (self.journal.elapsed(), self.watches.delivered(), samples::rss());
        self.samples.push(Sample { at, delivered, rss, server_watchers });
    }

    /// Checks everything that has come, as far as the recorder has written down what it should be.
    pub(crate) async fn look(&mut self, epoch: &Epoch) -> Result<(), Stop> {
        let samples = self.replicas.iter().map(Replica::sample).collect::<Result<Vec<_>, _>>()?;
        let furthest = samples.iter().flatten().map(|sample| sample.revision).max().unwrap_or(0);
        epoch.recorder.wait_for(furthest, RECORDER_PATIENCE).await;
        if let Some(reason) = epoch.recorder.trouble() {
            return Err(SoakError::Recorder { reason }.into());
        }
        if let Some(contenders) = &mut self.contenders {
            contenders.look()?;
        }
        let mut ledger = epoch.recorder.ledger();
        self.watches.check(&ledger)?;
        let mut states = BTreeMap::new();
        for (replica, sample) in self.replicas.iter().zip(&samples) {
            let Some(sample) = sample else { continue };
            let state = states.entry(sample.revision).or_insert_with(|| ledger.state_at(sample.revision));
            if let Some(state) = state {
                replica.compare(sample, state)?;
                self.compared += 1;
            }
        }
        let synced = samples.iter().flatten().map(|sample| sample.revision).min();
        let needless = [self.watches.next().map(|next| next - 1), synced].into_iter().flatten().min();
        if let Some(needless) = needless {
            let recorded = ledger.recorded();
            epoch.clock.settle(needless.min(recorded));
            ledger.forget_through(needless.min(recorded - KEPT_REVISIONS));
        }
        drop(ledger);
        self.look_for_the_lost(&samples)
    }

    /// Whatever has not come to a mark within a generous time hangs.
    fn look_for_the_lost(&mut self, samples: &[Option<replicas::Sample>]) -> Result<(), Stop> {
        while let Some(&(revision, at)) = self.marks.front() {
            let behind = self.watches.behind(revision, at);
            let lacks =
                |sample: &Option<replicas::Sample>| sample.as_ref().is_none_or(|one| one.revision < revision);
            let lost: Vec<&Replica> = self
                .replicas
                .iter()
                .zip(samples)
                .filter(|(_, sample)| lacks(sample))
                .map(|(one, _)| one)
                .collect();
            if !behind.is_empty() || !lost.is_empty() {
                if at.elapsed() <= self.settings.patience {
                    return Ok(());
                }
                let what = format!("it has not come to the mark at {revision} after {:?}", at.elapsed());
                let watches = behind.iter().map(|observer| observer.finding(what.clone()));
                let findings = watches.chain(lost.iter().map(|replica| replica.finding(what.clone())));
                return Err(findings.collect::<Vec<_>>().into());
            }
            self.marks.pop_front();
        }
        Ok(())
    }

    /// The report, whatever came of it.
    pub(crate) async fn report(self, stopped: Result<(), Stop>) -> Result<Report, SoakError> {
        let findings = match stopped {
            Ok(()) => Vec::new(),
            Err(Stop::Found(mut findings)) => {
                findings.truncate(MOST_FINDINGS);
                if findings.is_empty() {
                    findings.push(Finding::of("the soak", "it ended early, and nobody can say for what"));
                }
                findings
            }
            Err(Stop::Failed(error)) => {
                self.journal.note(format!("it can't go on: {error}"));
                let transcript = self.journal.keep();
                return Err(SoakError::CutShort { source: Box::new(error), transcript });
            }
        };
        let mut kept = Vec::new();
        if !findings.is_empty() {
            for finding in &findings {
                self.journal.note(format!("FOUND {finding}"));
                finding.details.iter().for_each(|detail| self.journal.note(format!("    {detail}")));
            }
            kept.push(self.journal.keep().display().to_string());
            kept.extend(self.world.keep().await);
        }
        let mut contended = self.contended;
        if let Some(contenders) = &self.contenders {
            contended += contenders.contended();
        }
        let stats = self.clients.iter().map(|client| (client.name, client.client.stats())).collect();
        Ok(Report {
            version: self.world.version.to_string(),
            settings: (*self.settings).clone(),
            lasted: self.start.elapsed(),
            faults: self.journal.faults(),
            writes: self.writers.as_ref().map_or(self.writes, Writers::counts),
            calls: self.calls,
            contended,
            unavailable: self.world.unavailable.clone(),
            watches: self.watches.counts(),
            delivered: self.watches.delivered(),
            lists: self.replicas_lists(),
            replicas_compared: self.compared,
            recorder_connections: self.recorder_connections,
            restores: self.restores,
            worst: self.watches.lags.worst(),
            lag_by_second: self.watches.lags.by_second(),
            stats,
            samples: self.samples,
            final_rss: findings.is_empty().then(samples::rss).flatten(),
            findings,
            kept,
        })
    }
}

/// A task that ends with whoever waits for it.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

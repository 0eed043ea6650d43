//! A case, and how it is run.

use std::env;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_watch_client::proto::mvccpb::Event;
use etcd_watch_client::{BoxError, KeyRange, OwnedEvent, Watch, WatchRequest};
use etcd_watch_testkit::sim::{Server, Sim, Socket, World};

use crate::ALLOCATOR;
use crate::log::{self, Lines};

/// What the peer does with a connection.
pub(crate) type Script = Arc<dyn Fn(Socket) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// For so long the peer is hostile, and so long the client may take to come right.
const MINUTE: Duration = Duration::from_secs(60);
/// The changes that the lawful store has.
const CHANGES: u8 = 5;

/// What becomes of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It goes on: it waits while the peer is alone, and is right as soon as a lawful member answers.
    GoesOn,
    /// It waits: nothing tells the peer from a lawful member that has nothing to say.
    Waits,
    /// It ends, with this variant of `CloseReason`.
    Ends(&'static str),
}

/// The most that a minute may take, and that may be held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) attempts: u64,
    /// Of level info and above.
    pub(crate) lines: u64,
    pub(crate) debug_lines: u64,
    /// How often tasks of the client are polled, in all.
    pub(crate) polls: u64,
    /// Of the peer, the network and the lawful member too.
    pub(crate) bytes: usize,
}

impl Bounds {
    pub(crate) const USUAL: Self =
        Self { attempts: 45, lines: 55, debug_lines: 250, polls: 2_500, bytes: 1 << 20 };
}

/// A peer that is no lawful etcd.
#[derive(Clone)]
pub(crate) struct Case {
    name: String,
    script: Script,
    alone: Then,
    /// Once a lawful member is in the peer's place.
    after: Then,
    beside: Then,
    is_believed: bool,
    bounds: Bounds,
}

impl Case {
    /// One that every watch survives, within the usual bounds.
    pub(crate) fn new<F, S>(name: impl Into<String>, script: F) -> Self
    where
        F: Fn(Socket) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        Self {
            name: name.into(),
            script: Arc::new(move |socket| Box::pin(script(socket))),
            alone: Then::GoesOn,
            after: Then::GoesOn,
            beside: Then::GoesOn,
            is_believed: false,
            bounds: Bounds::USUAL,
        }
    }

    /// Nothing tells the peer from a lawful member that has nothing to say: the watch stays with it.
    pub(crate) fn quiet(mut self) -> Self {
        self.beside = Then::Waits;
        self
    }

    /// What the peer makes up is delivered, or taken for progress: a lawful member of another history could say it. The
    /// bounds are all that is checked.
    pub(crate) fn believed(mut self) -> Self {
        self.is_believed = true;
        self
    }

    /// The watch ends for this reason while the peer is alone; with a lawful member beside it, it goes on.
    pub(crate) fn ends_alone(mut self, reason: &'static str) -> Self {
        self.alone = Then::Ends(reason);
        self
    }

    /// The watch ends for this reason once a lawful member answers.
    pub(crate) fn ends_after(mut self, reason: &'static str) -> Self {
        self.after = Then::Ends(reason);
        self
    }

    /// A watch ends for this reason, with a lawful member beside the peer too: what the peer says is final.
    pub(crate) fn ends(mut self, reason: &'static str) -> Self {
        self.alone = Then::Ends(reason);
        self.beside = Then::Ends(reason);
        self
    }

    /// Other bounds than the usual ones.
    pub(crate) fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }
}

/// What a minute took.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    attempts: u64,
    lines: Lines,
    polls: u64,
    bytes: usize,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempts, lines, polls, bytes } = self;
        write!(f, "{attempts} attempts, {} lines + {} debug, {polls} polls", lines.told, lines.debug)?;
        write!(f, ", {} KiB", bytes / 1024)
    }
}

impl Figures {
    /// What is over the bounds.
    fn over(&self, bounds: &Bounds) -> Vec<&'static str> {
        let all = [
            ("attempts", self.attempts > bounds.attempts),
            ("log lines", self.lines.told > bounds.lines),
            ("debug lines", self.lines.debug > bounds.debug_lines),
            ("polls", self.polls > bounds.polls),
            ("bytes", self.bytes > bounds.bytes),
        ];
        all.into_iter().filter_map(|(what, is_over)| is_over.then_some(what)).collect()
    }

    fn most(&self, other: &Self) -> Self {
        Self {
            attempts: self.attempts.max(other.attempts),
            lines: Lines {
                told: self.lines.told.max(other.lines.told),
                debug: self.lines.debug.max(other.lines.debug),
            },
            polls: self.polls.max(other.polls),
            bytes: self.bytes.max(other.bytes),
        }
    }
}

/// Memory is counted for the process: one test runs at a time.
pub(crate) fn alone_in_process() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs all cases of a table.
pub(crate) fn run_all(table: &[Case]) {
    let _running = alone_in_process();
    let only = env::var("HOSTILE_PEERS_ONLY").unwrap_or_default();
    let prints = env::var_os("HOSTILE_PEERS_FIGURES").is_some();
    let mut failures = Vec::new();
    let mut most = Figures::default();
    let mut count = 0;
    // A case that runs alone has the seed that it has among all.
    for (seed, case) in (1..).zip(table).filter(|(_, case)| case.name.contains(&only)) {
        count += 1;
        let figures = alone(case, seed).unwrap_or_else(|failure| {
            failures.push(failure);
            Figures::default()
        });
        if prints {
            println!("{}: {figures}", case.name);
        }
        most = most.most(&figures);
        if !case.is_believed
            && let Err(failure) = beside(case, seed)
        {
            failures.push(failure);
        }
    }
    println!("{count} of {} cases; at most {most} in a minute", table.len());
    assert!(failures.is_empty(), "{} runs failed:\n{}", failures.len(), failures.join("\n"));
}

/// The peer is hostile for a minute; then a lawful member is in its place.
fn alone(case: &Case, seed: u64) -> Result<Figures, String> {
    let mut figures = Figures::default();
    let found = &mut figures;
    log::begin();
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let report = world().run(seed, |world| async move {
        let is_lawful = Arc::new(AtomicBool::new(false));
        let server = listen(&world, case, &is_lawful);
        let client = world.client().endpoints([server.endpoint()]).connect_lazy()?;
        let mut watch = client.watch(request())?;
        let mut received = Vec::new();
        let ended = receive(&mut watch, &mut received, MINUTE).await;
        found.bytes = ALLOCATOR.peak_usage().saturating_sub(before);
        found.attempts = server.attempts();
        found.lines = log::lines();
        if case.is_believed {
            return Ok(());
        }
        hold(&world, &received)?;
        if !ends_as(case.alone, ended)? {
            is_lawful.store(true, Ordering::Release);
            server.crash();
            let ended = receive(&mut watch, &mut received, MINUTE).await;
            hold(&world, &received)?;
            if !ends_as(case.after, ended)? {
                come_right(&received)?;
            }
        }
        Ok(())
    });
    let report = report.map_err(|failure| format!("{}, alone: {failure}", case.name))?;
    figures.polls = report.counts.polls;
    match figures.over(&case.bounds)[..] {
        [] => Ok(figures),
        ref over => Err(format!("{}, alone: over its bounds in {over:?}: {figures}", case.name)),
    }
}

/// The peer is hostile, and a lawful member is there beside it.
fn beside(case: &Case, seed: u64) -> Result<(), String> {
    log::begin();
    let report = world().run(seed, |world| async move {
        let server = listen(&world, case, &Arc::default());
        let endpoints = [vec![server.endpoint()], world.etcd().endpoints()].concat();
        let client = world.client().endpoints(endpoints).connect_lazy()?;
        let mut watch = client.watch(request())?;
        let mut received = Vec::new();
        let ended = receive(&mut watch, &mut received, MINUTE).await;
        hold(&world, &received)?;
        if !ends_as(case.beside, ended)? {
            if case.beside == Then::Waits {
                return if received.is_empty() { Ok(()) } else { Err("it doesn't wait".into()) };
            }
            come_right(&received)?;
            if case.alone == Then::GoesOn {
                let read = client.get("k").await?;
                if read.first().map(|kv| kv.value.clone()) != Some(vec![CHANGES].into()) {
                    return Err(format!("read {read:?}").into());
                }
            }
        }
        Ok(())
    });
    report.map(|_| ()).map_err(|failure| format!("{}, beside a member: {failure}", case.name))
}

fn world() -> Sim {
    Sim::new().members(1)
}

fn request() -> WatchRequest {
    WatchRequest::new(KeyRange::prefix("k")).start_revision(1)
}

fn listen(world: &World, case: &Case, is_lawful: &Arc<AtomicBool>) -> Server {
    for change in 1..=CHANGES {
        world.etcd().put("k", vec![change]);
    }
    let (script, etcd, is_lawful) = (case.script.clone(), world.etcd().clone(), is_lawful.clone());
    world.listen(move |socket| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if is_lawful.load(Ordering::Acquire) { Box::pin(etcd.serve_on(socket)) } else { script(socket) }
    })
}

/// Takes what comes, for so long or until all of the history has come; how the watch ended, if it did.
async fn receive(watch: &mut Watch, received: &mut Vec<OwnedEvent>, time: Duration) -> Option<String> {
    let end = tokio::time::sleep(time);
    tokio::pin!(end);
    while received.len() < usize::from(CHANGES) {
        tokio::select! {
            biased;
            response = watch.try_next() => match response {
                Ok(Some(response)) => received.extend(response.events().map(|event| event.to_owned())),
                Ok(None) => return Some("without a reason".into()),
                Err(error) => return Some(format!("{:?}", error.reason())),
            },
            () = &mut end => break,
        }
    }
    None
}

/// Nothing was delivered but the history from its beginning on.
fn hold(world: &World, received: &[OwnedEvent]) -> Result<(), BoxError> {
    let history = world.etcd().history();
    let same = |(event, lawful): (&OwnedEvent, &Event)| {
        lawful.kv.as_ref().is_some_and(|kv| {
            (event.kv.mod_revision, &event.kv.key[..], &event.kv.value[..])
                == (kv.mod_revision, &kv.key[..], &kv.value[..])
        })
    };
    let is_lawful = received.len() <= history.len() && received.iter().zip(&history).all(same);
    if is_lawful { Ok(()) } else { Err(format!("was delivered: {received:?}").into()) }
}

/// Whether the watch has ended, and as it should.
fn ends_as(expected: Then, ended: Option<String>) -> Result<bool, BoxError> {
    match (expected, ended) {
        (Then::GoesOn | Then::Waits, None) => Ok(false),
        (Then::Ends(reason), Some(ended)) if ended.split([' ', '{']).next() == Some(reason) => Ok(true),
        (_, None) => Err("the watch did not end".into()),
        (_, Some(ended)) => Err(format!("the watch ended: {ended}").into()),
    }
}

fn come_right(received: &[OwnedEvent]) -> Result<(), BoxError> {
    if received.len() == usize::from(CHANGES) {
        return Ok(());
    }
    Err(format!("of {CHANGES} events {} came", received.len()).into())
}

//! One run, from the first write to the report.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use etcd_watch_testkit::{
    checks::Change,
    model::{HistoryEvent, ModelConfig},
    proxy::{Cut, FaultProxy},
    server::EmbeddedEtcd,
};
use etcd_watch_tokio::{Client, WatchConfig};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    chaos,
    consumer::{Consumer, Outcome, Position},
    report::{Report, Row, Tally},
    store::revision,
    view::{Line, Snapshot, View},
    watches::Kind,
    writers::Writers,
};
use crate::signals::{Signal, Stop};

/// A run lets connections break for as long as it was told to, or until a signal stops it, and then compares.
pub(super) async fn run(
    seconds: u64,
    seed: u64,
    stop: &mut Stop,
) -> anyhow::Result<(Report, Option<Signal>)> {
    let mut stage = Stage::set(seed).await?;
    writeln!(
        io::stdout(),
        "An etcd in this process, {} kinds of watch on it, and {seconds} s of broken connections (seed {seed}).\n",
        Kind::all().len(),
    )?;
    let writers = Writers::start(&stage.direct, seed);
    stage.open(false)?;
    let time = Duration::from_secs(seconds);
    let interrupted = stage.break_connections(time, seed, &writers, stop).await?;
    stage.proxy.restore();
    // What a black hole has swallowed stays dead otherwise.
    stage.proxy.cut_all(Cut::Reset);
    let writes = writers.stop().await.context("a writer failed")?;
    Ok((stage.finish(seed, writes).await?, interrupted))
}

/// Everything that takes part.
struct Stage {
    began: Instant,
    etcd: Arc<EmbeddedEtcd>,
    proxy: FaultProxy,
    /// The writers' client, past the proxy.
    direct: Client,
    /// The watches' client, through the proxy.
    client: Client,
    running: Vec<Running>,
    /// The store's last revision, once it is known.
    last: watch::Sender<Option<i64>>,
    view: View,
}

struct Running {
    kind: Kind,
    position: Arc<Position>,
    /// The store's revision when the watch was asked for.
    asked_at: i64,
    consumer: JoinHandle<Outcome>,
}

impl Stage {
    async fn set(seed: u64) -> anyhow::Result<Self> {
        let etcd =
            EmbeddedEtcd::start(ModelConfig::default()).await.context("can't start the embedded etcd")?;
        let proxy = FaultProxy::start(etcd.endpoint()).await.context("can't start the proxy")?;
        let direct = etcd_watch_tokio::connect([etcd.endpoint()]).await?;
        // Connections break all the time here: waiting for long would only make it less of a test.
        let config = WatchConfig::default().backoff(
            Duration::from_millis(10),
            Duration::from_millis(30),
            Duration::from_millis(300),
        );
        let client = etcd_watch_tokio::builder()
            .endpoints([proxy.endpoint()])
            .watch_config(config)
            .dial_timeout(Duration::from_secs(1))
            .seed(seed)
            .connect_lazy()?;
        Ok(Self {
            began: Instant::now(),
            etcd: Arc::new(etcd),
            proxy,
            direct,
            client,
            running: Vec::new(),
            last: watch::Sender::new(None),
            view: View::new(),
        })
    }

    /// Opens the watches that start at once, or those that start late.
    fn open(&mut self, late: bool) -> anyhow::Result<()> {
        for kind in Kind::all().into_iter().filter(|kind| kind.late == late) {
            let asked_at = revision(&self.etcd);
            let position = Arc::new(Position::default());
            let consumer = Consumer {
                watch: self.client.watch(kind.request())?,
                kind: kind.clone(),
                position: position.clone(),
                etcd: self.etcd.clone(),
                last: self.last.subscribe(),
            };
            let consumer = tokio::spawn(consumer.run());
            self.running.push(Running { kind, position, asked_at, consumer });
        }
        Ok(())
    }

    async fn break_connections(
        &mut self,
        time: Duration,
        seed: u64,
        writers: &Writers,
        stop: &mut Stop,
    ) -> anyhow::Result<Option<Signal>> {
        let (half, end) = (self.began + time / 2, self.began + time);
        let fault = Arc::new(Mutex::new("all is well".to_owned()));
        let said = fault.clone();
        let say = move |fault: chaos::Fault| {
            *said.lock().unwrap_or_else(PoisonError::into_inner) = fault.to_string();
        };
        let mut ticks = interval(self.view.interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut late = false;
        loop {
            let next = if late { end } else { half };
            let drawing = async {
                loop {
                    ticks.tick().await;
                    let fault = fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let snapshot =
                        snapshot(&self.running, &self.etcd, &self.proxy, &self.client, self.began.elapsed());
                    let snapshot = Snapshot { writes: writers.writes(), fault: &fault, ..snapshot };
                    if let Err(error) = self.view.draw(&snapshot) {
                        return error;
                    }
                }
            };
            tokio::select! {
                error = drawing => return Err(error.into()),
                () = chaos::rage(&self.proxy, seed.wrapping_add(u64::from(late)), say.clone()) => {}
                () = sleep_until(next) => {}
                signal = stop.asked() => return Ok(Some(signal)),
            }
            self.proxy.restore();
            self.proxy.cut_all(Cut::Reset);
            if late {
                return Ok(None);
            }
            self.open(true)?;
            late = true;
        }
    }

    /// Lets every watch catch up, and compares.
    async fn finish(mut self, seed: u64, writes: u64) -> anyhow::Result<Report> {
        let (elapsed, last) = (self.began.elapsed(), revision(&self.etcd));
        let snapshot = snapshot(&self.running, &self.etcd, &self.proxy, &self.client, elapsed);
        self.view.draw(&Snapshot { writes, phase: "catching up", fault: "all is well", ..snapshot })?;
        self.last.send_replace(Some(last));
        let history = self.etcd.with_model(|model| model.history().to_vec());
        let mut rows = Vec::new();
        for running in self.running {
            let Running { kind, asked_at, consumer, .. } = running;
            let outcome = consumer.await.context("a consumer failed")?;
            rows.push(row(&kind, asked_at, outcome, &history, last));
        }
        let stats = self.client.stats();
        self.client.close().await;
        Ok(Report {
            seed,
            elapsed,
            revision: last,
            writes,
            changes: history.len(),
            cuts: self.proxy.cuts(),
            reconnects: stats.reconnects,
            replays: stats.overflows,
            rows,
        })
    }
}

fn row(kind: &Kind, asked_at: i64, outcome: Outcome, history: &[Arc<HistoryEvent>], last: i64) -> Row {
    let mut problem = outcome.ended;
    // "Now" is after the watch was asked for, and before it was told of.
    if kind.is_from_now()
        && let Some((start, told_at)) = outcome.started
        && (start <= asked_at || start > told_at + 1)
    {
        problem = Some(format!(
            "it started at revision {start}; it was asked for at {asked_at} and told of at {told_at}"
        ));
    }
    let watched = outcome.checker.watched();
    let expected = history.iter().filter(|event| watched.expects(&Change::from(&***event))).count();
    let violations = outcome.checker.finish_through(history, last).err().unwrap_or_default();
    if let (None, Some(first)) = (&problem, violations.first()) {
        problem = Some(first.to_string());
    }
    let tally = Tally::of(expected as u64, outcome.received, &violations);
    Row { name: kind.name, tally, caught_up: outcome.caught_up, problem }
}

fn snapshot(
    running: &[Running],
    etcd: &EmbeddedEtcd,
    proxy: &FaultProxy,
    client: &Client,
    elapsed: Duration,
) -> Snapshot<'static> {
    let (revision, stats) = (revision(etcd), client.stats());
    let watches = running.iter().map(|running| Line {
        name: running.kind.name,
        events: running.position.events(),
        behind: (revision - running.position.revision()).max(0),
    });
    Snapshot {
        elapsed,
        phase: "breaking connections",
        revision,
        writes: 0,
        cuts: proxy.cuts(),
        reconnects: stats.reconnects,
        replays: stats.overflows,
        fault: "",
        watches: watches.collect(),
    }
}

//! A watch that is consumed in the background, and all it has delivered.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use etcd_watch_client::{Client, CloseReason, ResponseKind, Watch, WatchResponse};
use etcd_watch_proto::mvccpb::Event as WireEvent;
use etcd_watch_testkit::checks::{Received, Watched, check};
use tokio::task::JoinHandle;

use crate::kinds::Kind;

/// A watch that is consumed in the background, and all it has delivered.
pub(crate) struct Observer {
    /// Of which client, and what it watches.
    pub(crate) client: String,
    pub(crate) kind: &'static str,
    watched: Watched,
    log: Arc<Mutex<Log>>,
    consuming: JoinHandle<()>,
}

#[derive(Default)]
struct Log {
    /// What it has to see from, by its start or by what its `Created` said.
    from: i64,
    created: usize,
    received: Vec<Received>,
    /// When which revision came.
    arrivals: Vec<(i64, Instant)>,
    end: Option<(CloseReason, Instant)>,
}

impl Observer {
    /// Opens the watch, and consumes it on a task of tokio, whatever the client's runtime.
    pub(crate) fn open(name: &str, client: &Client, kind: Kind) -> Self {
        let watch = client.watch(kind.request).expect("a lawful request");
        let log = Arc::new(Mutex::new(Log { from: kind.watched.from, ..Log::default() }));
        let writing = log.clone();
        let consuming = tokio::spawn(async move {
            let mut watch = watch;
            loop {
                match watch.next().await {
                    Some(Ok(response)) => lock(&writing).response(&watch, &response),
                    Some(Err(error)) => {
                        lock(&writing).end = Some((error.into_reason(), Instant::now()));
                        assert!(watch.next().await.is_none(), "the end comes once, and last");
                        return;
                    }
                    None => panic!("nobody cancelled the watch"),
                }
                if let Some(rest) = kind.rest {
                    tokio::time::sleep(rest).await;
                }
            }
        });
        Self { client: name.to_owned(), kind: kind.name, watched: kind.watched, log, consuming }
    }

    /// Whether it runs on its server; a watch from now on has to see all that is written from then on.
    pub(crate) fn is_created(&self) -> bool {
        self.log().created > 0
    }

    /// The first revision it has to see, once it is created.
    pub(crate) fn from(&self) -> i64 {
        self.log().from
    }

    /// When a change of this revision, or a later one, had come.
    pub(crate) fn reached(&self, revision: i64) -> Option<Instant> {
        let log = self.log();
        let at = log.arrivals.partition_point(|&(arrived, _)| arrived < revision);
        log.arrivals.get(at).map(|&(_, at)| at)
    }

    /// The last revision that came.
    pub(crate) fn last(&self) -> i64 {
        self.log().arrivals.last().map_or(0, |&(revision, _)| revision)
    }

    /// The longest time between two events that came from one moment to another.
    pub(crate) fn longest_silence(&self, from: Instant, to: Instant) -> Duration {
        let log = self.log();
        let arrivals = log.arrivals.iter().map(|&(_, at)| at).filter(|at| (from..to).contains(at));
        let mut last = from;
        let mut longest = Duration::ZERO;
        for at in arrivals.chain([to]) {
            longest = longest.max(at.saturating_duration_since(last));
            last = at;
        }
        longest
    }

    /// Why it ended, and when.
    pub(crate) fn end(&self) -> Option<(CloseReason, Instant)> {
        self.log().end.clone()
    }

    /// Lets the watch go; what it has delivered stays.
    pub(crate) fn stop(&self) {
        self.consuming.abort();
    }

    /// Whether it consumes still: it has not ended, and nothing it received was absurd.
    pub(crate) fn is_well(&self) -> bool {
        self.end().is_some() || !self.consuming.is_finished()
    }

    /// Compares all that came with what had to come up to `through`.
    pub(crate) fn check(&self, history: &[WireEvent], through: i64) {
        let log = self.log();
        let watched = Watched { through, from: log.from, ..self.watched.clone() };
        if let Err(violations) = check(history, &watched, &log.received) {
            let list: Vec<String> = violations.iter().take(20).map(ToString::to_string).collect();
            let count = violations.len();
            panic!("{count} violations by {self}, {watched:?}, the first:\n{}", list.join("\n"));
        }
        assert_eq!(log.created, 1, "{self}: Created comes once");
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }
}

impl fmt::Display for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.log();
        let last = log.arrivals.last().map_or(0, |&(revision, _)| revision);
        write!(f, "{} of {}, at revision {last}", self.kind, self.client)?;
        log.end.as_ref().map_or(Ok(()), |(end, _)| write!(f, ", ended: {end}"))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.consuming.abort();
    }
}

/// An observer that found something absurd has said so already; what it wrote before is still of interest.
fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Log {
    fn response(&mut self, watch: &Watch, response: &WatchResponse) {
        assert_eq!(Some(response.resume_revision()), watch.resume_revision());
        match response.kind() {
            ResponseKind::Created => {
                assert!(self.received.is_empty(), "Created comes first");
                self.created += 1;
                if self.from == 0 {
                    self.from = response.resume_revision();
                }
            }
            ResponseKind::Progress => {}
            _ => assert!(!response.is_empty(), "a response with events has some"),
        }
        if let Some(last) = response.events().last() {
            self.arrivals.push((last.mod_revision(), Instant::now()));
        }
        self.received.push(Received::from(response));
    }
}

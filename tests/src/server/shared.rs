//! The model behind a lock, and who is to be woken when it has something.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Status;

use super::status::status;
use crate::model::{ModelError, ModelEtcd, ModelStream};

/// The model behind a lock, and who is to be woken when it has something.
#[derive(Debug)]
pub(super) struct Shared {
    model: Mutex<ModelEtcd>,
    /// Readers of watch streams.
    readers: Mutex<BTreeMap<ModelStream, Arc<Notify>>>,
    timer: Notify,
    epoch: Instant,
    /// While the member is stopped, its time stands still: no lease ends.
    stopped: AtomicBool,
    /// Whether there is no leader: nothing can be agreed on.
    is_leaderless: AtomicBool,
    /// How many KV requests are still to be turned away.
    turn_away: AtomicU64,
    pub(super) range_streams: Counters,
}

/// What was asked of `KV.RangeStream`.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) begun: AtomicU64,
    pub(super) chunks: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Shared {
    pub(super) fn new(model: ModelEtcd) -> Self {
        Self {
            model: Mutex::new(model),
            readers: Mutex::new(BTreeMap::new()),
            timer: Notify::new(),
            epoch: Instant::now(),
            stopped: AtomicBool::new(false),
            is_leaderless: AtomicBool::new(false),
            range_streams: Counters::default(),
            turn_away: AtomicU64::new(0),
        }
    }

    /// Turns the next so many KV requests away.
    pub(super) fn turn_away(&self, requests: u64) {
        self.turn_away.store(requests, Ordering::Relaxed);
    }

    /// Whether a KV request is served.
    ///
    /// # Errors
    /// What etcd says while it has no leader, or too much to apply.
    pub(super) fn admit(&self) -> Result<(), Status> {
        self.check_leader()?;
        let one_less = |left: u64| left.checked_sub(1);
        match self.turn_away.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
            Ok(_) => Err(Status::resource_exhausted("etcdserver: too many requests")),
            Err(_) => Ok(()),
        }
    }

    /// Whether there is a leader, without which nothing but a member's status is to be had.
    ///
    /// # Errors
    /// What etcd says while it has no leader.
    pub(super) fn check_leader(&self) -> Result<(), Status> {
        if self.is_leaderless.load(Ordering::Acquire) { Err(status(ModelError::NoLeader)) } else { Ok(()) }
    }

    /// Time as the model counts it.
    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Works on the model, after what was due, and wakes whoever that concerns.
    pub(super) fn with_model<T>(&self, work: impl FnOnce(&mut ModelEtcd) -> T) -> T {
        let mut model = lock(&self.model);
        let timeout = model.poll_timeout();
        let now = self.now();
        if !self.stopped.load(Ordering::Acquire) && timeout.is_some_and(|due| due <= now) {
            model.handle_timeout(now);
        }
        let result = work(&mut model);
        let mut ready = Vec::new();
        while let Some(stream) = model.poll_ready() {
            ready.push(stream);
        }
        if model.poll_timeout() != timeout {
            self.timer.notify_one();
        }
        drop(model);
        if !ready.is_empty() {
            let readers = lock(&self.readers);
            for reader in ready.iter().filter_map(|stream| readers.get(stream)) {
                reader.notify_one();
            }
        }
        result
    }

    /// Opens a watch stream and returns what tells its reader that there is something.
    pub(super) fn open_watch_stream(&self) -> (ModelStream, Arc<Notify>) {
        let stream = self.with_model(ModelEtcd::open_watch_stream);
        let reader = Arc::new(Notify::new());
        lock(&self.readers).insert(stream, Arc::clone(&reader));
        (stream, reader)
    }

    pub(super) fn close_watch_stream(&self, stream: ModelStream) {
        lock(&self.readers).remove(&stream);
        self.with_model(|model| model.close_watch_stream(stream));
    }

    /// The member stops: its watch streams are gone, and their readers find that out.
    pub(super) fn stop_member(&self) {
        self.stopped.store(true, Ordering::Release);
        self.with_model(ModelEtcd::close_watch_streams);
        for reader in lock(&self.readers).values() {
            reader.notify_one();
        }
    }

    #[cfg(feature = "sim")]
    pub(super) fn has_readers(&self) -> bool {
        !lock(&self.readers).is_empty()
    }

    /// A leader is lost, with the watch streams, or found.
    #[cfg(feature = "sim")]
    pub(super) fn set_leaderless(&self, is_leaderless: bool) {
        self.is_leaderless.store(is_leaderless, Ordering::Release);
        if is_leaderless {
            self.with_model(|model| model.fail_watch_streams(ModelError::NoLeader));
        }
    }

    /// The member starts again.
    pub(super) fn restart_member(&self) {
        self.with_model(|model| model.restart(self.now()));
        self.stopped.store(false, Ordering::Release);
        self.timer.notify_one();
    }

    /// Does what is due by time, for ever.
    pub(super) async fn run_timer(&self) {
        loop {
            let due = self.with_model(|model| model.poll_timeout());
            match due.filter(|_| !self.stopped.load(Ordering::Acquire)) {
                Some(due) => {
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep_until(self.epoch + due) => {}
                        () = self.timer.notified() => {}
                    }
                }
                None => self.timer.notified().await,
            }
        }
    }
}

/// A panic in a test's closure says enough; it needn't become a second one here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The model behind a lock, and who is to be woken when it has something.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_watch_proto::etcdserverpb::{MemberListResponse, StatusResponse};
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Status;

use super::follower::{Applier, Follower};
use super::status::status;
use crate::model::{Entry, ModelConfig, ModelError, ModelEtcd, ModelStream};

/// The model behind a lock, and who is to be woken when it has something.
#[derive(Debug)]
pub(super) struct Shared {
    model: Mutex<ModelEtcd>,
    /// Readers of watch streams.
    readers: Mutex<BTreeMap<ModelStream, Arc<Notify>>>,
    timer: Arc<Notify>,
    epoch: Instant,
    /// While the member is stopped, its time stands still: no lease ends.
    stopped: AtomicBool,
    /// Whether there is no leader: nothing can be agreed on.
    is_leaderless: AtomicBool,
    /// The leader's member id; 0 is this member itself.
    leader_id: AtomicU64,
    /// What it commits goes to them.
    followers: Mutex<Vec<Arc<Applier>>>,
    /// What makes it a follower, if it is one.
    follower: Option<Follower>,
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
            timer: Arc::default(),
            epoch: Instant::now(),
            stopped: AtomicBool::new(false),
            is_leaderless: AtomicBool::new(false),
            leader_id: AtomicU64::new(0),
            followers: Mutex::default(),
            follower: None,
            range_streams: Counters::default(),
            turn_away: AtomicU64::new(0),
        }
    }

    /// Another member, which applies what this one commits, each entry `slowest` later at most.
    pub(super) fn following(
        leader: &Arc<Self>,
        config: ModelConfig,
        slowest: Duration,
        rng: fastrand::Rng,
    ) -> Self {
        let timer = Arc::default();
        let (model, applier) = leader.with_model(|model| {
            model.lead();
            let model = model.follower(config);
            let member = model.member_list().members.swap_remove(0);
            let applier = Arc::new(Applier::new(member, Arc::clone(&timer), slowest, rng));
            lock(&leader.followers).push(Arc::clone(&applier));
            (model, applier)
        });
        let follower = Some(Follower { leader: Arc::clone(leader), applier });
        Self { epoch: leader.epoch, timer, follower, ..Self::new(model) }
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

    /// Writes: on a follower by its leader. It is answered once this member has done it, too.
    ///
    /// # Errors
    /// It is refused, or this member takes too long to apply it.
    pub(super) async fn write<T>(
        &self,
        write: impl FnOnce(&mut ModelEtcd) -> Result<T, ModelError>,
    ) -> Result<T, Status> {
        let Some(follower) = &self.follower else { return self.with_model(write).map_err(status) };
        let answer = follower.leader.with_model(|model| {
            // The answer is this member's.
            let leader_id = std::mem::replace(&mut model.config_mut().member_id, follower.applier.member.id);
            let answer = write(model);
            model.config_mut().member_id = leader_id;
            answer
        });
        follower.catch_up_in_time().await?;
        answer.map_err(status)
    }

    /// Waits until a linearizable read may be served: until this member has applied all that is committed by now.
    pub(super) async fn catch_up(&self) {
        if let Some(follower) = &self.follower {
            follower.catch_up().await;
        }
    }

    /// Works on the leader's model, which is this one's own if it doesn't follow.
    pub(super) fn with_leader<T>(&self, work: impl FnOnce(&mut ModelEtcd) -> T) -> T {
        let leader = self.follower.as_ref().map_or(self, |follower| &follower.leader);
        leader.with_model(work)
    }

    /// What the member tells of itself.
    pub(super) fn status(&self) -> StatusResponse {
        let raft_index = self.with_leader(|leader| leader.status().raft_index);
        let status = self.with_model(|model| model.status());
        let leader = match self.leader_id.load(Ordering::Acquire) {
            _ if self.is_leaderless.load(Ordering::Acquire) => 0,
            0 => status.leader,
            id => id,
        };
        StatusResponse { raft_index, leader, ..status }
    }

    /// All members: this one alone, unless there are followers.
    pub(super) fn member_list(&self) -> MemberListResponse {
        let mut list = self.with_model(|model| model.member_list());
        let leader = self.follower.as_ref().map_or(self, |follower| &follower.leader);
        let followers = lock(&leader.followers);
        if !followers.is_empty() {
            list.members = followers.iter().map(|follower| follower.member.clone()).collect();
        }
        list
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
        if !self.stopped.load(Ordering::Acquire) {
            if let Some(follower) = &self.follower {
                follower.applier.apply(now, &mut model);
            }
            if timeout.is_some_and(|due| due <= now) {
                model.handle_timeout(now);
            }
        }
        // Before `work`, which may copy the model for a follower, with these entries in it, or replace it, with its log.
        self.commit(now, &model.take_log());
        let result = work(&mut model);
        self.commit(now, &model.take_log());
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

    /// While the model is locked, so that followers learn of everything in order.
    fn commit(&self, now: Duration, entries: &[Entry]) {
        if !entries.is_empty() {
            lock(&self.followers).iter().for_each(|follower| follower.commit(now, entries));
        }
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

    /// Sets the leader's member id. Without one, watch streams end.
    #[cfg(feature = "sim")]
    pub(super) fn set_leader(&self, id: Option<u64>) {
        self.is_leaderless.store(id.is_none(), Ordering::Release);
        self.leader_id.store(id.unwrap_or(0), Ordering::Release);
        if id.is_none() {
            self.with_model(|model| model.fail_watch_streams(ModelError::NoLeader));
        }
    }

    /// What the member has to apply, if it is a follower.
    #[cfg(feature = "sim")]
    pub(super) fn applier(&self) -> Option<&Applier> {
        self.follower.as_ref().map(|follower| &*follower.applier)
    }

    /// A follower is given its leader's store as it is, in the place of its own.
    #[cfg(feature = "sim")]
    pub(super) fn copy_leader(&self) {
        let Some(follower) = &self.follower else { return };
        let config = self.with_model(|model| model.config().clone());
        let copy = follower.leader.with_model(|leader| {
            follower.applier.skip();
            leader.follower(config)
        });
        self.with_model(|model| *model = copy);
    }

    /// The member starts again.
    pub(super) fn restart_member(&self) {
        // A follower's leases and term are those of its leader.
        if self.follower.is_none() {
            self.with_model(|model| model.restart(self.now()));
        }
        self.stopped.store(false, Ordering::Release);
        self.timer.notify_one();
    }

    /// Does what is due by time, for ever.
    pub(super) async fn run_timer(&self) {
        loop {
            let due = self.with_model(|model| model.poll_timeout());
            let applies = self.follower.as_ref().and_then(|follower| follower.applier.next_due());
            match due.into_iter().chain(applies).min().filter(|_| !self.stopped.load(Ordering::Acquire)) {
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
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

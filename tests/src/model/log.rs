//! Members of one cluster: followers do what their leader has done.

use std::sync::Arc;

use super::config::ModelConfig;
use super::etcd::ModelEtcd;
use super::store::Change;

/// Something that a leader has done, for [`ModelEtcd::follow`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Entry(Arc<Step>);

#[derive(Debug)]
pub(super) enum Step {
    /// A write has made the changes of one revision.
    Write(Vec<Change>),
    /// History before a revision was forgotten.
    Compact(i64),
    /// A lease has begun.
    Grant { id: i64, ttl: i64 },
    /// A lease has ended; the changes delete its keys.
    Revoke { id: i64, changes: Vec<Change> },
}

/// What a member has done, unless it has no followers.
#[derive(Debug, Clone, Default)]
pub(super) struct Log(Option<Vec<Entry>>);

impl Log {
    pub(super) fn record(&mut self, step: impl FnOnce() -> Step) {
        if let Some(entries) = &mut self.0 {
            entries.push(Entry(Arc::new(step())));
        }
    }
}

/// A cluster.
///
/// ```
/// use etcd_watch_proto::etcdserverpb::PutRequest;
/// use etcd_watch_testkit::model::{ModelConfig, ModelEtcd};
///
/// let mut leader = ModelEtcd::new(ModelConfig::default());
/// leader.lead();
/// let mut follower = leader.follower(ModelConfig { member_id: 2, ..ModelConfig::default() });
/// leader.put(&PutRequest { key: "k".into(), ..PutRequest::default() })?;
/// assert_eq!((leader.revision(), follower.revision()), (2, 1));
/// for entry in leader.take_log() {
///     follower.follow(&entry);
/// }
/// assert_eq!(follower.history(), leader.history());
/// # Ok::<(), etcd_watch_testkit::model::ModelError>(())
/// ```
impl ModelEtcd {
    /// Keeps a log of what it does from now on, for followers.
    pub fn lead(&mut self) {
        self.log.0.get_or_insert_default();
    }

    /// What it has done since this was called last, in order. Empty if it does not [lead](Self::lead).
    pub fn take_log(&mut self) -> Vec<Entry> {
        self.log.0.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A follower that has done all that this member has done. Its leases end when those of its leader do.
    #[must_use]
    pub fn follower(&self, config: ModelConfig) -> Self {
        let mut follower = Self::new(config);
        (follower.store, follower.lessor, follower.now) = (self.store.clone(), self.lessor.clone(), self.now);
        follower.lessor.demote();
        follower
    }

    /// Does what the leader has done. Every entry of its log is to come once, in order.
    pub fn follow(&mut self, entry: &Entry) {
        match &*entry.0 {
            Step::Write(changes) => self.repeat(changes),
            // The leader was not refused any of these, so its followers aren't.
            Step::Compact(revision) => {
                let _compacted = self.store.compact(*revision, self.config.quirks.lose_deletes);
            }
            Step::Grant { id, ttl } => {
                let _granted = self.lessor.grant(*id, *ttl, self.now);
            }
            Step::Revoke { id, changes } => {
                let _keys = self.lessor.revoke(*id);
                self.repeat(changes);
            }
        }
    }

    fn repeat(&mut self, changes: &[Change]) {
        self.store.repeat(changes);
        self.tell(changes);
    }
}

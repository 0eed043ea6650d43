//! The model member.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest,
    LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    Member, MemberListResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader,
    StatusResponse, TxnRequest, TxnResponse, WatchRequest, WatchResponse,
};
use etcd_watch_proto::mvccpb::{Event, KeyValue, event::EventType};
use etcd_watch_proto::prost::Message;

use super::config::ModelConfig;
use super::error::ModelError;
use super::history::HistoryEvent;
use super::key_range::KeyRange;
use super::lease::{Lessor, MAX_TTL};
use super::log::{Log, Step};
use super::store::{Change, Store, WriteTxn};
use super::watch_service::{ModelStream, WatchService};
use super::watch_stream::{Context, WatchStream};
use super::{range, txn};

/// One etcd member that is a cluster by itself, in memory.
///
/// It does no I/O and reads no clock: what goes by time takes `now`, the time since an epoch of the caller's
/// choice. Time that goes backwards stands still. The same calls give the same answers, and a clone is a
/// backup to go back to.
///
/// Watch streams are read like this: [`poll_ready`](Self::poll_ready) names a stream once it has something;
/// then [`poll_watch_response`](Self::poll_watch_response) is to be called until it returns `None`, at the
/// reader's pace: what isn't taken waits in a queue of fixed length, and past that the stream's watches fall
/// behind and catch up from history later, as on a real server.
///
/// ```
/// use etcd_watch_proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest, watch_request};
/// use etcd_watch_testkit::model::{ModelConfig, ModelEtcd};
///
/// let mut etcd = ModelEtcd::new(ModelConfig::default());
/// let stream = etcd.open_watch_stream();
/// let create = WatchCreateRequest { key: "k".into(), watch_id: 7, ..Default::default() };
/// let union = watch_request::RequestUnion::CreateRequest(create);
/// etcd.handle_watch_request(stream, WatchRequest { request_union: Some(union) });
/// etcd.put(&PutRequest { key: "k".into(), value: "v".into(), ..Default::default() })?;
///
/// assert!(etcd.poll_watch_response(stream).expect("the reply").created);
/// let response = etcd.poll_watch_response(stream).expect("the event");
/// assert_eq!((response.watch_id, response.events.len()), (7, 1));
/// assert_eq!(etcd.poll_watch_response(stream), None);
/// # Ok::<(), etcd_watch_testkit::model::ModelError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ModelEtcd {
    pub(super) config: ModelConfig,
    pub(super) store: Store,
    pub(super) lessor: Lessor,
    watches: WatchService,
    pub(super) now: Duration,
    pub(super) log: Log,
}

/// Keys and values.
impl ModelEtcd {
    /// An empty store, at revision 1.
    #[must_use]
    pub fn new(config: ModelConfig) -> Self {
        Self {
            store: Store::new(),
            lessor: Lessor::new(config.min_lease_ttl),
            watches: WatchService::default(),
            now: Duration::ZERO,
            log: Log::default(),
            config,
        }
    }

    /// A store that is at a revision and has these pairs, as if it had been compacted there. The leases that they hang on
    /// exist, for a very long time.
    #[must_use]
    pub fn starting_at(config: ModelConfig, revision: i64, pairs: Vec<KeyValue>) -> Self {
        let mut etcd = Self { store: Store::starting_at(revision, pairs), ..Self::new(config) };
        for change in etcd.store.history() {
            if change.lease != 0 && !etcd.lessor.contains(change.lease) {
                // It is not there yet, and its time is not too long.
                let _granted = etcd.lessor.grant(change.lease, MAX_TTL, Duration::ZERO);
            }
        }
        etcd.lessor.follow(etcd.store.history());
        etcd
    }

    /// Does in one revision what another store did in one: puts and deletes these keys, whatever leases there are.
    pub fn apply(&mut self, events: &[Event]) {
        self.write(|txn| {
            for (event, kv) in events.iter().filter_map(|event| Some((event, event.kv.as_ref()?))) {
                match event.r#type() {
                    EventType::Put => drop(txn.put(&kv.key, kv.value.clone(), kv.lease)),
                    EventType::Delete => drop(txn.delete(&KeyRange::One(kv.key.clone()))),
                }
            }
        });
    }

    /// What the member is and how it behaves.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Changes what the member is or how it behaves, from now on.
    pub fn config_mut(&mut self) -> &mut ModelConfig {
        &mut self.config
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.store.revision()
    }

    /// Where history begins: the revision of the last compaction, if there was one.
    #[must_use]
    pub fn compact_revision(&self) -> Option<i64> {
        Some(self.store.compact_revision()).filter(|revision| *revision >= 0)
    }

    /// Every revision at which history was compacted, in order.
    #[must_use]
    pub fn compactions(&self) -> &[i64] {
        self.store.compactions()
    }

    /// Every change there ever was, in order, compacted ones too: what watches are checked against. Of a store that was
    /// [started at a revision](Self::starting_at), first the last change of each pair.
    #[must_use]
    pub fn history(&self) -> &[Arc<HistoryEvent>] {
        self.store.history()
    }

    /// Reads keys. Serializable or not makes no difference: there is only one member.
    ///
    /// # Errors
    ///
    /// An empty key, an unknown sort option, a revision that is compacted or in the future.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, ModelError> {
        range::check(request)?;
        let response =
            range::read(&self.store, self.store.revision(), self.config.quirks.bare_keys, request)?;
        Ok(RangeResponse { header: self.header(), ..response })
    }

    /// Puts a key.
    ///
    /// # Errors
    ///
    /// An empty key, a key to be kept in part that doesn't exist, an unknown lease, a request too large.
    pub fn put(&mut self, request: &PutRequest) -> Result<PutResponse, ModelError> {
        txn::check_put(request)?;
        self.check_size(request)?;
        txn::check_put_applies(&self.store, &self.lessor, request)?;
        let response = self.write(|txn| txn::apply_put(txn, request));
        Ok(PutResponse { header: self.header(), ..response })
    }

    /// Deletes keys.
    ///
    /// # Errors
    ///
    /// An empty key, a request too large.
    pub fn delete_range(&mut self, request: &DeleteRangeRequest) -> Result<DeleteRangeResponse, ModelError> {
        txn::check_delete(request)?;
        self.check_size(request)?;
        let response = self.write(|txn| txn::apply_delete(txn, request));
        Ok(DeleteRangeResponse { header: self.header(), ..response })
    }

    /// Does a transaction, wholly or not at all.
    ///
    /// # Errors
    ///
    /// Whatever its operations alone would be refused for; too many of them; one key put twice, or put and
    /// deleted.
    pub fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, ModelError> {
        txn::check_txn(request, self.config.max_txn_ops)?;
        self.check_size(request)?;
        let path = txn::decide(&self.store, &self.lessor, self.config.txn_checks, request)?;
        let bare_keys = self.config.quirks.bare_keys;
        let response = self.write(|txn| txn::apply(txn, bare_keys, &path))?;
        Ok(TxnResponse { header: self.header(), ..response })
    }

    /// Forgets the history before a revision.
    ///
    /// # Errors
    ///
    /// A revision that is compacted already or in the future.
    pub fn compact(&mut self, request: &CompactionRequest) -> Result<CompactionResponse, ModelError> {
        self.store.compact(request.revision, self.config.quirks.lose_deletes)?;
        self.log.record(|| Step::Compact(request.revision));
        Ok(CompactionResponse { header: self.header() })
    }

    pub(crate) fn header(&self) -> Option<ResponseHeader> {
        Some(self.config.header(self.store.revision()))
    }

    fn check_size(&self, request: &impl Message) -> Result<(), ModelError> {
        if request.encoded_len() > self.config.max_request_bytes {
            Err(ModelError::RequestTooLarge)
        } else {
            Ok(())
        }
    }

    /// The one way to write: leases and watches follow.
    fn write<T>(&mut self, write: impl FnOnce(&mut WriteTxn<'_>) -> T) -> T {
        let mut txn = self.store.begin();
        let result = write(&mut txn);
        let changes = txn.commit();
        self.tell(&changes);
        if !changes.is_empty() {
            self.log.record(|| Step::Write(changes));
        }
        result
    }

    /// Lets leases and watches follow the changes of a revision, if there are any.
    pub(super) fn tell(&mut self, changes: &[Change]) {
        if !changes.is_empty() {
            self.lessor.follow(changes);
            let context = Context { store: &self.store, config: &self.config };
            self.watches.notify(changes, context);
            self.watches.schedule(self.now, self.config.sync_interval);
        }
    }
}

/// Leases.
impl ModelEtcd {
    /// Begins a lease.
    ///
    /// # Errors
    ///
    /// An id that is taken, a time to live that is too long.
    pub fn lease_grant(
        &mut self,
        request: &LeaseGrantRequest,
        now: Duration,
    ) -> Result<LeaseGrantResponse, ModelError> {
        let now = self.advance(now);
        let (id, ttl) = self.lessor.grant(request.id, request.ttl, now)?;
        self.log.record(|| Step::Grant { id, ttl });
        Ok(LeaseGrantResponse { header: self.header(), id, ttl, error: String::new() })
    }

    /// Ends a lease and deletes its keys, all at one revision.
    ///
    /// # Errors
    ///
    /// There is no such lease.
    pub fn lease_revoke(&mut self, request: &LeaseRevokeRequest) -> Result<LeaseRevokeResponse, ModelError> {
        self.end_lease(request.id)?;
        Ok(LeaseRevokeResponse { header: self.header() })
    }

    /// Renews a lease; the answer's time to live is 0 if there is no such lease.
    pub fn lease_keep_alive(
        &mut self,
        request: &LeaseKeepAliveRequest,
        now: Duration,
    ) -> LeaseKeepAliveResponse {
        let now = self.advance(now);
        let ttl = self.lessor.keep_alive(request.id, now);
        LeaseKeepAliveResponse { header: self.header(), id: request.id, ttl }
    }

    /// Tells how long a lease has left; -1 if there is no such lease.
    pub fn lease_time_to_live(
        &mut self,
        request: &LeaseTimeToLiveRequest,
        now: Duration,
    ) -> LeaseTimeToLiveResponse {
        let now = self.advance(now);
        let header = self.header();
        match self.lessor.time_to_live(request.id, now) {
            None => LeaseTimeToLiveResponse { header, id: request.id, ttl: -1, ..Default::default() },
            Some((ttl, granted_ttl, keys)) => LeaseTimeToLiveResponse {
                header,
                id: request.id,
                ttl,
                granted_ttl,
                keys: if request.keys { keys.iter().cloned().collect() } else { Vec::new() },
            },
        }
    }

    /// Lists the leases.
    #[must_use]
    pub fn lease_leases(&self) -> LeaseLeasesResponse {
        let leases = self.lessor.ids().into_iter().map(|id| LeaseStatus { id }).collect();
        LeaseLeasesResponse { header: self.header(), leases }
    }

    fn end_lease(&mut self, id: i64) -> Result<(), ModelError> {
        let keys = self.lessor.revoke(id)?;
        let mut txn = self.store.begin();
        for key in keys {
            txn.delete(&KeyRange::One(key));
        }
        let changes = txn.commit();
        self.tell(&changes);
        self.log.record(|| Step::Revoke { id, changes });
        Ok(())
    }
}

/// The member itself.
impl ModelEtcd {
    /// What the member tells about itself.
    #[must_use]
    pub fn status(&self) -> StatusResponse {
        let index = u64::try_from(self.store.revision()).unwrap_or(0);
        StatusResponse {
            header: self.header(),
            version: self.config.version.clone(),
            leader: self.config.member_id,
            raft_index: index,
            raft_applied_index: index,
            raft_term: self.config.raft_term,
            ..StatusResponse::default()
        }
    }

    /// The members: this one.
    #[must_use]
    pub fn member_list(&self) -> MemberListResponse {
        let member = Member {
            id: self.config.member_id,
            name: self.config.name.clone(),
            client_urls: self.config.client_urls.clone(),
            ..Member::default()
        };
        // A list of members has no revision.
        MemberListResponse { header: Some(self.config.header(0)), members: vec![member] }
    }

    /// What stopping and starting a member does: streams are gone, data stays, leases get their full time
    /// again, and there is a new raft term.
    pub fn restart(&mut self, now: Duration) {
        let now = self.advance(now);
        self.watches.close_all();
        self.lessor.renew_all(now);
        self.config.raft_term += 1;
    }

    /// Does what is due by now: ends leases, reports progress, lets watches catch up.
    pub fn handle_timeout(&mut self, now: Duration) {
        let now = self.advance(now);
        while let Some(id) = self.lessor.expired(now) {
            if self.end_lease(id).is_err() {
                break;
            }
        }
        let context = Context { store: &self.store, config: &self.config };
        self.watches.handle_timeout(now, context);
        self.watches.schedule(now, self.config.sync_interval);
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do next, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.lessor.next_expiry().into_iter().chain(self.watches.next_timeout()).min()
    }

    fn advance(&mut self, now: Duration) -> Duration {
        self.now = self.now.max(now);
        self.now
    }
}

/// Watches.
impl ModelEtcd {
    /// Opens a watch stream.
    pub fn open_watch_stream(&mut self) -> ModelStream {
        self.watches.open(&self.config, self.now)
    }

    /// Closes a watch stream and ends its watches.
    pub fn close_watch_stream(&mut self, stream: ModelStream) {
        self.watches.close(stream);
    }

    /// Closes all watch streams, as a member that stops does.
    pub fn close_watch_streams(&mut self) {
        self.watches.close_all();
    }

    /// Whether the stream is open, be it to tell that it failed.
    #[must_use]
    pub fn has_watch_stream(&self, stream: ModelStream) -> bool {
        self.watches.get(stream).is_some()
    }

    /// The open streams, in the order they were opened.
    #[must_use]
    pub fn watch_streams(&self) -> Vec<ModelStream> {
        self.watches.streams().collect()
    }

    /// Whether a stream has room for the reply to one more request. A member reads no further request until
    /// it has; one handed in all the same is handled.
    #[must_use]
    pub fn wants_watch_request(&self, stream: ModelStream) -> bool {
        self.watches.get(stream).is_some_and(|open| open.wants_request(&self.config))
    }

    /// Handles what a client sent. Nothing happens on a stream that is closed or failed.
    pub fn handle_watch_request(&mut self, stream: ModelStream, request: WatchRequest) {
        let context = Context { store: &self.store, config: &self.config };
        self.watches.handle_request(stream, request, None, context);
        self.watches.schedule(self.now, self.config.sync_interval);
    }

    /// Refuses a watch that a client has asked for, with this reason. Other requests are handled.
    pub fn refuse_watch_request(&mut self, stream: ModelStream, request: WatchRequest, reason: &str) {
        let context = Context { store: &self.store, config: &self.config };
        self.watches.handle_request(stream, request, Some(reason), context);
        self.watches.schedule(self.now, self.config.sync_interval);
    }

    /// The next stream that has something for its reader. It isn't named again until something is added.
    pub fn poll_ready(&mut self) -> Option<ModelStream> {
        self.watches.poll_ready()
    }

    /// What goes to a stream's client next.
    pub fn poll_watch_response(&mut self, stream: ModelStream) -> Option<WatchResponse> {
        let context = Context { store: &self.store, config: &self.config };
        self.watches.poll_response(stream, context)
    }

    /// Why a stream is over, if it is: its client is to be told and the stream to be closed.
    #[must_use]
    pub fn watch_stream_failure(&self, stream: ModelStream) -> Option<ModelError> {
        self.watches.get(stream)?.failure()
    }

    /// Ends all watch streams, as a member that loses its leader does.
    pub fn fail_watch_streams(&mut self, error: ModelError) {
        self.watches.fail_all(error);
    }

    /// The ids of the watches on a stream, in ascending order.
    #[must_use]
    pub fn watch_ids(&self, stream: ModelStream) -> Vec<i64> {
        self.watches.get(stream).map_or_else(Vec::new, |open| open.ranges().map(|(id, _)| id).collect())
    }

    /// Ends one watch from the server's side. False if there is no such watch.
    pub fn cancel_watch(&mut self, stream: ModelStream, watch_id: i64, reason: &str) -> bool {
        let context = Context { store: &self.store, config: &self.config };
        self.watches.cancel(stream, watch_id, reason, context)
    }

    /// Loses a watch, as etcd's gRPC proxy does when another joins it with a token that has expired: the watch is held,
    /// gets nothing any more but what is on its way, and nobody is told. False if there is no such watch, or it was lost
    /// or compacted before.
    pub fn lose_watch(&mut self, stream: ModelStream, watch_id: i64) -> bool {
        self.watches.lose(stream, watch_id)
    }

    /// Whether a stream has such a watch, and it doesn't leave puts out.
    #[must_use]
    pub fn sees_puts(&self, stream: ModelStream, watch_id: i64) -> bool {
        self.watches.get(stream).is_some_and(|open| open.sees_puts(watch_id))
    }

    /// How many watches of a stream are held and lost.
    #[must_use]
    pub fn lost_watches(&self, stream: ModelStream) -> usize {
        self.watches.get(stream).map_or(0, WatchStream::lost_count)
    }

    /// Refuses, from now on, watches that touch a range, with a reason such as
    /// `etcdserver: permission denied`.
    pub fn deny_watches(&mut self, key: impl Into<Bytes>, range_end: impl Into<Bytes>, reason: &str) {
        self.watches.deny(KeyRange::new(&key.into(), &range_end.into()), reason);
    }

    /// Refuses no watches any more.
    pub fn allow_watches(&mut self) {
        self.watches.allow_all();
    }

    /// Watches that are held, on all streams, as etcd counts them: one ended by compaction is among them until its
    /// client cancels it, or its stream ends.
    #[must_use]
    pub fn watcher_count(&self) -> usize {
        self.watches.watcher_count()
    }

    /// Watches, on all streams, that still have to catch up with history.
    #[must_use]
    pub fn slow_watcher_count(&self) -> usize {
        self.watches.slow_watcher_count()
    }
}

//! A client whose calls are written down.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use etcd_watch_client::{CallError, Client, LeaseGrant};
use etcd_watch_core::Refusal;
use etcd_watch_proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseRevokeRequest, PutRequest, PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
    request_op, response_op,
};

use super::{
    history::{Answer, Operation, Outcome, Request, at},
    translate,
};

/// Writes down what clients ask and are told. Its clones are one recorder.
#[derive(Clone, Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    /// The time since an epoch.
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
    history: Mutex<Vec<Operation>>,
    clients: AtomicUsize,
    values: AtomicUsize,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clock: _, history, clients, values } = self;
        f.debug_struct("Shared")
            .field("history", history)
            .field("clients", clients)
            .field("values", values)
            .finish_non_exhaustive()
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// With an empty history, and the process's monotonic clock.
    #[must_use]
    pub fn new() -> Self {
        let epoch = Instant::now();
        Self::with_clock(move || epoch.elapsed())
    }

    /// With an empty history, and a clock that tells the time since an epoch and never goes back. All clients have to
    /// share it: in a simulated world it is the world's, and not a host's, which may stand still.
    #[must_use]
    pub fn with_clock(clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        let shared = Shared {
            clock: Box::new(clock),
            history: Mutex::default(),
            clients: AtomicUsize::new(0),
            values: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A client whose calls are written down. Give each task one of its own.
    #[must_use]
    pub fn client(&self, client: Client) -> RecordedClient {
        let number = self.shared.clients.fetch_add(1, Ordering::Relaxed);
        RecordedClient { number, client, recorder: self.clone() }
    }

    /// A value that nobody else puts, from 1 on.
    #[must_use]
    pub fn unique(&self) -> usize {
        self.shared.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What has been written down so far, in the order in which it was asked for. What has not ended is
    /// [unknown](Outcome::Unknown).
    #[must_use]
    pub fn history(&self) -> Vec<Operation> {
        self.lock().clone()
    }

    /// Forgets all operations, which must have ended, and goes on.
    pub fn clear(&self) {
        self.lock().clear();
    }

    pub(super) fn begin(&self, client: usize, request: Request) -> usize {
        let mut history = self.lock();
        let invoked = self.now();
        history.push(Operation { client, invoked, returned: None, request, outcome: Outcome::Unknown });
        history.len() - 1
    }

    pub(super) fn end(&self, operation: usize, outcome: Outcome) {
        let returned = self.now();
        let mut history = self.lock();
        let Some(operation) = history.get_mut(operation) else { return };
        operation.returned = (outcome != Outcome::Unknown).then_some(returned);
        operation.outcome = outcome;
    }

    fn now(&self) -> Duration {
        (self.shared.clock)()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.shared.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client whose calls are written down. A call whose future is dropped stays unknown.
#[derive(Clone, Debug)]
pub struct RecordedClient {
    number: usize,
    client: Client,
    recorder: Recorder,
}

/// The calls return what the client's own do, as etcd's messages.
///
/// # Errors
/// Those of the client's calls.
#[expect(clippy::missing_errors_doc, reason = "said once, for all of them")]
impl RecordedClient {
    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Who writes it down.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Writes down a request and what a call comes to that stands for it, which need not be the client's.
    pub async fn record<T>(
        &self,
        request: Request,
        call: impl Future<Output = Result<T, CallError>>,
        answer: impl FnOnce(&T) -> Answer,
    ) -> Result<T, CallError> {
        let operation = self.recorder.begin(self.number, request);
        let result = call.await;
        let outcome = match &result {
            Ok(done) => Outcome::Answered(answer(done)),
            Err(error) if error.may_have_executed() => Outcome::Unknown,
            Err(error) => Outcome::NotExecuted(refusal(error)),
        };
        self.recorder.end(operation, outcome);
        result
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// `Client::get`.
    pub async fn get(&self, range: RangeRequest) -> Result<RangeResponse, CallError> {
        let call = self.client.get(translate::get(&range));
        let call = async { Ok(translate::range_response(&call.await?)) };
        self.record(Request::Range(range), call, |range| Answer::Range(range.clone())).await
    }

    /// `Client::put_with`.
    pub async fn put(&self, put: PutRequest) -> Result<PutResponse, CallError> {
        let call = self.client.put_with(translate::put(&put));
        let call = async { Ok(translate::put_response(&call.await?)) };
        self.record(Request::Put(put), call, |put| Answer::Put(put.clone())).await
    }

    /// `Client::delete`.
    pub async fn delete(&self, delete: DeleteRangeRequest) -> Result<DeleteRangeResponse, CallError> {
        let call = self.client.delete(translate::delete(&delete));
        let call = async { Ok(translate::delete_response(&call.await?)) };
        self.record(Request::Delete(delete), call, |delete| Answer::Delete(delete.clone())).await
    }

    /// `Client::txn`.
    pub async fn txn(&self, txn: TxnRequest) -> Result<TxnResponse, CallError> {
        let call = self.client.txn(translate::txn(&txn));
        let call = async { Ok(translate::txn_response(&call.await?)) };
        self.record(Request::Txn(txn), call, |txn| Answer::Txn(txn.clone())).await
    }

    /// `Client::create_with`: the transaction that it stands for.
    pub async fn create(&self, put: PutRequest) -> Result<TxnResponse, CallError> {
        let call = self.client.create_with(translate::put(&put));
        self.put_if(put, 0, call).await
    }

    /// `Client::update_if_with`: the transaction that it stands for.
    pub async fn update_if(&self, put: PutRequest, mod_revision: i64) -> Result<TxnResponse, CallError> {
        let call = self.client.update_if_with(translate::put(&put), mod_revision);
        self.put_if(put, mod_revision, call).await
    }

    async fn put_if(
        &self,
        put: PutRequest,
        mod_revision: i64,
        call: impl Future<
            Output = Result<etcd_watch_client::Conditional<etcd_watch_client::PutResponse>, CallError>,
        >,
    ) -> Result<TxnResponse, CallError> {
        let key = put.key.clone();
        let request = translate::if_unchanged(&key, mod_revision, request_op::Request::RequestPut(put));
        let call = async {
            Ok(translate::conditional(&call.await?, |put| {
                (put.revision(), response_op::Response::ResponsePut(translate::put_response(put)))
            }))
        };
        self.record(Request::Txn(request), call, |txn| Answer::Txn(txn.clone())).await
    }

    /// `Client::delete_if`: the transaction that it stands for.
    pub async fn delete_if(&self, key: Bytes, mod_revision: i64) -> Result<TxnResponse, CallError> {
        let delete = DeleteRangeRequest { key: key.clone(), prev_kv: true, ..DeleteRangeRequest::default() };
        let write = request_op::Request::RequestDeleteRange(delete);
        let request = translate::if_unchanged(&key, mod_revision, write);
        let call = async {
            Ok(translate::conditional(&self.client.delete_if(key, mod_revision).await?, |delete| {
                let response = translate::delete_response(delete);
                (delete.revision(), response_op::Response::ResponseDeleteRange(response))
            }))
        };
        self.record(Request::Txn(request), call, |txn| Answer::Txn(txn.clone())).await
    }

    /// `Client::lease_grant`, with an id of the caller's choice; the time to live is in seconds.
    pub async fn grant(&self, id: i64, ttl: u32) -> Result<LeaseGrantResponse, CallError> {
        let grant = LeaseGrant::new(Duration::from_secs(ttl.into())).id(id);
        let call = async {
            let lease = self.client.lease_grant(grant).await?;
            let ttl = i64::try_from(lease.ttl().as_secs()).unwrap_or(i64::MAX);
            Ok(LeaseGrantResponse { id: lease.id(), ttl, ..LeaseGrantResponse::default() })
        };
        let request = Request::Grant(LeaseGrantRequest { id, ttl: ttl.into() });
        self.record(request, call, |grant| Answer::Grant(grant.clone())).await
    }

    /// `Client::lease_revoke`; the revision after it.
    pub async fn revoke(&self, id: i64) -> Result<i64, CallError> {
        let call = async { Ok(self.client.lease_revoke(id).await?.revision) };
        self.record(Request::Revoke(LeaseRevokeRequest { id }), call, |after| Answer::Revoke(*after)).await
    }

    /// `Client::lease_keep_alive_once`; how long it lasts, in seconds, or 0 if there is no such lease.
    pub async fn keep_alive_once(&self, id: i64) -> Result<i64, CallError> {
        let call = async {
            let lease = self.client.lease_keep_alive_once(id).await?;
            Ok(lease.map_or(0, |lease| i64::try_from(lease.ttl().as_secs()).unwrap_or(i64::MAX)))
        };
        let request = Request::KeepAlive(LeaseKeepAliveRequest { id });
        self.record(request, call, |ttl| Answer::KeepAlive(*ttl)).await
    }
}

/// The server's refusal, if the error is one. Others may have heard one on the way, which says nothing of their end.
fn refusal(error: &CallError) -> Option<Refusal> {
    matches!(error, CallError::Refused { .. }).then(|| error.refusal()).flatten()
}

/// A read answer without pairs, for what reads of caches are made of.
pub(super) fn range_answer(revision: i64, kvs: Vec<etcd_watch_proto::mvccpb::KeyValue>) -> Answer {
    let count = i64::try_from(kvs.len()).unwrap_or(i64::MAX);
    Answer::Range(RangeResponse { header: at(revision), kvs, more: false, count })
}

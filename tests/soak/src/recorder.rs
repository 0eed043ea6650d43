//! Who writes down what really happens: a watch of everything by the generated stubs, with nothing of our client in it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use etcd_watch_proto::{
    etcdserverpb::{
        RangeRequest, WatchCreateRequest, WatchRequest, kv_client::KvClient, watch_client::WatchClient,
        watch_request::RequestUnion,
    },
    mvccpb::Event,
};
use etcd_watch_testkit::linearizable::Truth;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use crate::{
    error::SoakError,
    keys::calls,
    ledger::{Ledger, State, Unsound},
    turns::Turns,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A frozen member is left after both of these.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
const READ_TIMEOUT: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_millis(100);
/// Every key there is, as a key and a range end.
const ALL: &[u8] = b"\0";

/// Writes down what happens from a revision on, past all proxies, at one member after the other.
pub(crate) struct Recorder {
    shared: Arc<Shared>,
    recording: JoinHandle<()>,
}

struct Shared {
    ledger: Mutex<Ledger>,
    /// What happened to the keys of calls, all of it.
    calls: Mutex<Truth>,
    turns: Mutex<Turns>,
    recorded: watch::Sender<i64>,
    /// Why it can't go on.
    trouble: Mutex<Option<String>>,
    connections: AtomicU64,
}

/// Why a member was left.
enum Left {
    /// Another one will do.
    ForNow,
    /// Nobody can make up for it.
    ForGood(String),
}

impl Recorder {
    /// Reads the store as it is, and goes on from there.
    pub(crate) async fn start(endpoints: Vec<String>) -> Result<Self, SoakError> {
        let (revision, state) = read_any(&endpoints).await?;
        let shared = Arc::new(Shared {
            calls: Mutex::new(Truth::starting_at(revision, state.values().cloned().collect(), calls())),
            turns: Mutex::new(Turns::starting_at(revision, &state)),
            ledger: Mutex::new(Ledger::starting_at(revision, state)),
            recorded: watch::Sender::new(revision),
            trouble: Mutex::new(None),
            connections: AtomicU64::new(0),
        });
        let recording = tokio::spawn(shared.clone().record(endpoints));
        Ok(Self { shared, recording })
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.shared.ledger)
    }

    /// What happened to the keys of calls since it began.
    pub(crate) fn calls(&self) -> Truth {
        lock(&self.shared.calls).clone()
    }

    /// Whose turn it was among those who contend, since it began.
    pub(crate) fn turns(&self) -> MutexGuard<'_, Turns> {
        lock(&self.shared.turns)
    }

    /// The revision up to which everything is written down.
    pub(crate) fn recorded(&self) -> i64 {
        *self.shared.recorded.borrow()
    }

    /// Waits until everything up to a revision is written down, or for so long; whether it is.
    pub(crate) async fn wait_for(&self, revision: i64, patience: Duration) -> bool {
        let mut recorded = self.shared.recorded.subscribe();
        let waited =
            tokio::time::timeout(patience, recorded.wait_for(|&recorded| recorded >= revision)).await;
        waited.is_ok_and(|found| found.is_ok())
    }

    /// Why it can't go on, if so.
    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.shared.trouble).clone()
    }

    /// How often it connected.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.recording.abort();
    }
}

impl Shared {
    async fn record(self: Arc<Self>, endpoints: Vec<String>) {
        for endpoint in endpoints.iter().cycle() {
            match self.follow(endpoint).await {
                Err(Left::ForGood(reason)) => {
                    *lock(&self.trouble) = Some(reason);
                    return;
                }
                Ok(()) | Err(Left::ForNow) => tokio::time::sleep(REST).await,
            }
        }
    }

    async fn follow(&self, endpoint: &str) -> Result<(), Left> {
        let for_now = |_: tonic::transport::Error| Left::ForNow;
        let channel = channel(endpoint).await.map_err(for_now)?;
        let create = WatchCreateRequest {
            key: ALL.into(),
            range_end: ALL.into(),
            start_revision: lock(&self.ledger).recorded() + 1,
            prev_kv: true,
            ..WatchCreateRequest::default()
        };
        let (requests, receiver) = mpsc::channel(1);
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        if requests.send(request).await.is_err() {
            return Ok(());
        }
        let mut request = tonic::Request::new(ReceiverStream::new(receiver));
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let status = |_: Status| Left::ForNow;
        let mut responses = client.watch(request).await.map_err(status)?.into_inner();
        self.connections.fetch_add(1, Ordering::Relaxed);
        while let Some(response) = responses.message().await.map_err(status)? {
            if response.compact_revision > 0 {
                let revision = response.compact_revision;
                return Err(Left::ForGood(format!(
                    "what it had to write down next is compacted up to {revision}"
                )));
            }
            if response.canceled {
                return Ok(());
            }
            self.write_down(response.events).map_err(|unsound| {
                Left::ForGood(format!("{endpoint} tells what can't have happened: {unsound}"))
            })?;
        }
        Ok(())
    }

    fn write_down(&self, events: Vec<Event>) -> Result<(), Unsound> {
        let mut ledger = lock(&self.ledger);
        lock(&self.calls).extend(&events);
        lock(&self.turns).record(&events);
        ledger.record(events)?;
        self.recorded.send_replace(ledger.recorded());
        Ok(())
    }
}

/// The store as it is, at the first member that answers; its revision.
pub(crate) async fn read_any(endpoints: &[String]) -> Result<(i64, State), SoakError> {
    let mut last = None;
    for endpoint in endpoints {
        match read(endpoint).await {
            Ok(read) => return Ok(read),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| SoakError::Recorder { reason: "there are no endpoints".to_owned() }))
}

async fn read(endpoint: &str) -> Result<(i64, State), SoakError> {
    let reach = |source| SoakError::Reach { endpoint: endpoint.to_owned(), source };
    let fail = |source| SoakError::Read { endpoint: endpoint.to_owned(), source };
    let mut client = KvClient::new(channel(endpoint).await.map_err(reach)?);
    let mut request = tonic::Request::new(RangeRequest {
        key: ALL.into(),
        range_end: ALL.into(),
        ..RangeRequest::default()
    });
    request.set_timeout(READ_TIMEOUT);
    let response = client.range(request).await.map_err(fail)?.into_inner();
    let revision = response.header.unwrap_or_default().revision;
    Ok((revision, response.kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect()))
}

async fn channel(endpoint: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    endpoint.connect().await
}

/// What a mutex protects, though whoever held it before may have panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

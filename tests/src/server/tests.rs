//! The embedded server, from outside: over gRPC, and by etcd's own command line.

mod calls;
mod command_line;
mod real_servers;

use std::time::Duration;

use etcd_watch_proto::etcdserverpb::watch_client::WatchClient;
use etcd_watch_proto::etcdserverpb::watch_request::RequestUnion;
use etcd_watch_proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

use super::EmbeddedEtcd;
use crate::model::{ModelConfig, ModelError};

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start() -> EmbeddedEtcd {
    start_with(ModelConfig::default()).await
}

async fn start_with(config: ModelConfig) -> EmbeddedEtcd {
    EmbeddedEtcd::start(config).await.expect("a free port")
}

fn connect(etcd: &EmbeddedEtcd) -> Channel {
    Endpoint::from_shared(etcd.endpoint()).expect("a URL").connect_lazy()
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() }
}

/// A watch stream as a client has it. The server's side opens with its first response.
struct ClientStream {
    requests: mpsc::Sender<WatchRequest>,
    opening: Option<JoinHandle<Result<Response<Streaming<WatchResponse>>, Status>>>,
    responses: Option<Streaming<WatchResponse>>,
}

impl ClientStream {
    fn open(channel: Channel) -> Self {
        let (requests, outbound) = mpsc::channel(100);
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let opening = tokio::spawn(async move { client.watch(ReceiverStream::new(outbound)).await });
        Self { requests, opening: Some(opening), responses: None }
    }

    async fn create(&self, request: WatchCreateRequest) {
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) };
        self.requests.send(request).await.expect("an open stream");
    }

    async fn next(&mut self) -> Result<WatchResponse, Status> {
        tokio::time::timeout(PATIENCE, async {
            if let Some(opening) = self.opening.take() {
                self.responses = Some(opening.await.expect("no panic")?.into_inner());
            }
            let responses = self.responses.as_mut().expect("an open stream");
            responses.message().await.map(|response| response.expect("not the end"))
        })
        .await
        .expect("in time")
    }

    /// Says no more. The responses go on.
    fn finish(&mut self) {
        self.requests = mpsc::channel(1).0;
    }
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "never: {what}");
}

#[test]
fn errors_have_the_codes_and_texts_of_etcd() {
    use tonic::Code;
    for (error, code, text) in [
        (ModelError::EmptyKey, Code::InvalidArgument, "etcdserver: key is not provided"),
        (ModelError::Compacted, Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
        (
            ModelError::FutureRevision,
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (ModelError::LeaseNotFound, Code::NotFound, "etcdserver: requested lease not found"),
        (ModelError::LeaseExists, Code::FailedPrecondition, "etcdserver: lease already exists"),
        (ModelError::DuplicateKey, Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
        (ModelError::NoLeader, Code::Unavailable, "etcdserver: no leader"),
    ] {
        let status = super::status::status(error);
        assert_eq!((status.code(), status.message()), (code, text));
    }
}

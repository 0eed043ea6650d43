//! What really happened: every change of the store, by the generated client and nothing of ours around it.

use std::time::Duration;

use etcd_watch_proto::{
    etcdserverpb::{
        WatchCreateRequest, WatchRequest, watch_client::WatchClient, watch_request::RequestUnion,
    },
    mvccpb::Event,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

const DEADLINE: Duration = Duration::from_secs(20);

/// Every change from the first on to this revision.
pub(crate) async fn read(endpoint: String, through: i64) -> Vec<Event> {
    timeout(DEADLINE, watch(endpoint, through)).await.expect("the history is read in time")
}

async fn watch(endpoint: String, through: i64) -> Vec<Event> {
    let create = WatchCreateRequest {
        key: b"\0"[..].into(),
        range_end: b"\0"[..].into(),
        start_revision: 1,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let (requests, receiver) = mpsc::channel(1);
    requests.send(request).await.expect("there is room");
    let channel = Endpoint::from_shared(endpoint).expect("an endpoint").connect().await.expect("it serves");
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut responses =
        client.watch(ReceiverStream::new(receiver)).await.expect("the stream opens").into_inner();
    let mut history: Vec<Event> = Vec::new();
    while history.last().is_none_or(|event| revision_of(event) < through) {
        let response = responses.message().await.expect("the stream goes on").expect("it does not end");
        assert!(!response.canceled, "all of the history is there: {response:?}");
        history.extend(response.events);
    }
    history
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().expect("events have keys").mod_revision
}

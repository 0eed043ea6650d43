//! Lawful answers of a scripted peer, by the store of the world's cluster.

use std::io;

use etcd_watch_client::proto::etcdserverpb::watch_request::RequestUnion;
use etcd_watch_client::proto::etcdserverpb::{
    RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use etcd_watch_client::proto::mvccpb::Event;
use etcd_watch_testkit::model::RangeStream;
use etcd_watch_testkit::sim::Etcd;

use crate::grpc::{Call, header, message};

/// How often the key `k` is put.
pub(crate) const CHANGES: u8 = 5;

/// Puts the key `k`, each time with the number of the change as its value.
pub(crate) fn put_changes(etcd: &Etcd) {
    for change in 1..=CHANGES {
        etcd.put("k", vec![change]);
    }
}

/// Answers as a member does. Of the calls it has those that change nothing.
pub(crate) async fn answer(mut call: Call, etcd: &Etcd) -> io::Result<()> {
    match &*call.method {
        "Range" => {
            let Some(request) = call.next::<RangeRequest>().await else { return Ok(()) };
            match range(etcd, &request) {
                Some(page) => call.answer(&page).await,
                None => future_revision(call).await,
            }
        }
        "Watch" => watch(call, etcd).await,
        "Status" => call.answer(&etcd.look(|model| model.status())).await,
        "MemberList" => call.answer(&etcd.look(|model| model.member_list())).await,
        method => {
            let text = format!("unknown method {method}");
            call.refuse(12, &text)
        }
    }
}

/// Refuses a read of a revision that the store has not come to.
pub(crate) async fn future_revision(mut call: Call) -> io::Result<()> {
    call.end(11, "etcdserver: mvcc: required revision is a future revision").await
}

/// A page, unless the store has not come to its revision.
pub(crate) fn range(etcd: &Etcd, request: &RangeRequest) -> Option<RangeResponse> {
    etcd.look(|model| model.range(request)).ok()
}

/// The messages of a stream, unless the store has not come to its revision.
pub(crate) fn range_stream(etcd: &Etcd, request: &RangeRequest) -> Option<Vec<RangeResponse>> {
    let mut stream = RangeStream::new(request.clone());
    std::iter::from_fn(|| etcd.with_model(|model| stream.next(model))).collect::<Result<_, _>>().ok()
}

/// A watch stream that has what is in the store, and then is silent.
async fn watch(mut call: Call, etcd: &Etcd) -> io::Result<()> {
    while let Some(request) = call.next::<WatchRequest>().await {
        let Some(RequestUnion::CreateRequest(create)) = request.request_union else { continue };
        let response = WatchResponse {
            header: Some(header(etcd.revision())),
            watch_id: create.watch_id,
            ..Default::default()
        };
        call.send(message(&WatchResponse { created: true, ..response.clone() })).await?;
        let events = missed(etcd, &create);
        if !events.is_empty() {
            call.send(message(&WatchResponse { events, ..response })).await?;
        }
    }
    call.stay().await
}

/// What the store's history has for a watch.
fn missed(etcd: &Etcd, create: &WatchCreateRequest) -> Vec<Event> {
    let is_from = |event: &Event| {
        event
            .kv
            .as_ref()
            .is_some_and(|kv| create.start_revision > 0 && kv.mod_revision >= create.start_revision)
    };
    etcd.history().into_iter().filter(is_from).collect()
}

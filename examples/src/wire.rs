//! The machine's requests as etcd's messages and as HTTP/2 heads, and back.

use bytes::Bytes;
use etcd_watch_core::{Code, CreateRequest, Failure, KeyRange, Opened, RangeDone, Request, StreamOptions};
use etcd_watch_proto::etcdserverpb::{
    RangeRequest, RangeResponse, StatusResponse, WatchCancelRequest, WatchCreateRequest,
    WatchProgressRequest, WatchRequest, watch_create_request::FilterType, watch_request::RequestUnion,
};
use prost::Message;

/// The method a watch stream is opened by.
pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// The method that tells a member's version.
pub const STATUS: &str = "/etcdserverpb.Maintenance/Status";
/// The method that reads keys.
pub const RANGE: &str = "/etcdserverpb.KV/Range";

/// The head of a gRPC request.
///
/// # Errors
/// When the metadata can't be sent.
pub fn head(
    authority: &str,
    method: &'static str,
    options: &StreamOptions,
) -> Result<http::Request<()>, Failure> {
    let mut head = http::Request::post(format!("http://{authority}{method}"))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    // A member answers for its version whether it has a leader or not.
    if options.require_leader && method != STATUS {
        head = head.header("hasleader", "true");
    }
    for (name, value) in &options.metadata {
        head = head.header(name, value);
    }
    // Only the name of what is wrong: values may be secret.
    head.body(()).map_err(|error| Failure::invalid_request(format!("metadata: {error}")))
}

/// What goes out for [`Action::Send`](etcd_watch_core::Action::Send).
#[must_use]
pub fn watch_request(request: Request) -> WatchRequest {
    let union = match request {
        Request::Create(create) => RequestUnion::CreateRequest(create_request(create)),
        Request::Cancel { watch_id } => RequestUnion::CancelRequest(WatchCancelRequest { watch_id }),
        Request::Progress => RequestUnion::ProgressRequest(WatchProgressRequest {}),
    };
    WatchRequest { request_union: Some(union) }
}

fn create_request(create: CreateRequest) -> WatchCreateRequest {
    let no_put = create.filters.no_put.then_some(FilterType::Noput.into());
    let no_delete = create.filters.no_delete.then_some(FilterType::Nodelete.into());
    WatchCreateRequest {
        key: create.range.start().clone(),
        range_end: create.range.end().clone(),
        start_revision: create.start_revision,
        progress_notify: create.progress_notify,
        filters: no_put.into_iter().chain(no_delete).collect(),
        prev_kv: create.prev_kv,
        watch_id: create.watch_id,
        fragment: create.fragment,
    }
}

/// What goes out for [`Action::Range`](etcd_watch_core::Action::Range): only the header of the answer
/// matters, so as little as possible is read, but by way of the leader.
#[must_use]
pub fn range_request(keys: &KeyRange) -> RangeRequest {
    RangeRequest {
        key: keys.start().clone(),
        range_end: keys.end().clone(),
        limit: 1,
        count_only: true,
        ..RangeRequest::default()
    }
}

/// The store's revision, out of a range response.
///
/// # Errors
/// When it is none.
pub fn range_done(reply: Bytes) -> Result<RangeDone, Failure> {
    let reply = RangeResponse::decode(reply)
        .map_err(|error| Failure::status(Code::Internal, format!("a range response: {error}")))?;
    let header = reply.header.unwrap_or_default();
    Ok(RangeDone { revision: header.revision, cluster_id: header.cluster_id })
}

/// The member's version, out of a status response. A member that won't say is believed less, that is all.
#[must_use]
pub fn opened(reply: Bytes) -> Opened {
    let version = StatusResponse::decode(reply).ok().and_then(|status| status.version.parse().ok());
    Opened { version, ..Opened::default() }
}

#[cfg(test)]
mod tests {
    use etcd_watch_core::Filters;

    use super::*;

    #[test]
    fn a_create_request_keeps_every_field() {
        let create = CreateRequest {
            range: KeyRange::prefix("a"),
            start_revision: 5,
            progress_notify: true,
            filters: Filters { no_put: true, no_delete: true },
            prev_kv: true,
            watch_id: 9,
            fragment: true,
        };
        let expected = WatchCreateRequest {
            key: "a".into(),
            range_end: "b".into(),
            start_revision: 5,
            progress_notify: true,
            filters: vec![FilterType::Noput.into(), FilterType::Nodelete.into()],
            prev_kv: true,
            watch_id: 9,
            fragment: true,
        };
        let union = watch_request(Request::Create(create)).request_union;
        assert_eq!(union, Some(RequestUnion::CreateRequest(expected)));
    }

    #[test]
    fn a_head_asks_for_a_leader_and_carries_metadata() {
        let options =
            StreamOptions { metadata: vec![("x-tenant".into(), "blue".into())], ..Default::default() };
        let watch = head("host:1", WATCH, &options).unwrap();
        assert_eq!(watch.headers()["hasleader"], "true");
        assert_eq!(watch.headers()["x-tenant"], "blue");
        assert_eq!(watch.uri().authority().unwrap(), "host:1");
        assert!(!head("host:1", STATUS, &options).unwrap().headers().contains_key("hasleader"));
    }
}

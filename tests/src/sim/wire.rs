//! The core's requests as etcd's messages.

use etcd_watch_core::{CreateRequest, ListRequest, Page, PageKv, Request};
use etcd_watch_proto::etcdserverpb::{
    RangeRequest, RangeResponse, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
    watch_create_request::FilterType, watch_request::RequestUnion,
};

pub(super) fn watch_request(request: Request) -> WatchRequest {
    let union = match request {
        Request::Create(create) => RequestUnion::CreateRequest(create_request(create)),
        Request::Cancel { watch_id } => RequestUnion::CancelRequest(WatchCancelRequest { watch_id }),
        Request::Progress => RequestUnion::ProgressRequest(WatchProgressRequest {}),
    };
    WatchRequest { request_union: Some(union) }
}

fn create_request(create: CreateRequest) -> WatchCreateRequest {
    let no_put = create.filters.no_put.then_some(FilterType::Noput);
    let no_delete = create.filters.no_delete.then_some(FilterType::Nodelete);
    WatchCreateRequest {
        key: create.range.start().clone(),
        range_end: create.range.end().clone(),
        start_revision: create.start_revision,
        progress_notify: create.progress_notify,
        filters: no_put.into_iter().chain(no_delete).map(i32::from).collect(),
        prev_kv: create.prev_kv,
        watch_id: create.watch_id,
        fragment: create.fragment,
    }
}

pub(super) fn list_request(request: &ListRequest) -> RangeRequest {
    RangeRequest {
        key: request.range.start().clone(),
        range_end: request.range.end().clone(),
        revision: request.revision,
        limit: i64::try_from(request.limit).unwrap_or(i64::MAX),
        keys_only: request.keys_only,
        ..RangeRequest::default()
    }
}

pub(super) fn page(response: RangeResponse) -> Page {
    let header = response.header.unwrap_or_default();
    let pair = |kv: etcd_watch_proto::mvccpb::KeyValue| PageKv {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    };
    Page {
        revision: header.revision,
        cluster_id: header.cluster_id,
        more: response.more,
        kvs: response.kvs.into_iter().map(pair).collect(),
    }
}

//! Lines: type, key, value.

use etcd_watch_tokio::{
    EventKind, ResponseKind, WatchResponse,
    proto::etcdserverpb::{DeleteRangeResponse, PutResponse, RangeResponse},
};

use super::{Pair, Show, line, quote};

pub(super) fn watch(out: &mut Vec<u8>, response: &WatchResponse, hex: bool) {
    if response.kind() == ResponseKind::Progress {
        line!(out, "progress notify: {}", response.revision());
    }
    events(out, response, hex);
}

pub(super) fn events(out: &mut Vec<u8>, response: &WatchResponse, hex: bool) {
    for event in response.events() {
        let deleted = event.kind() == EventKind::Delete;
        out.extend_from_slice(if deleted { b"DELETE\n" } else { b"PUT\n" });
        if let Some(prev) = event.prev() {
            pair(out, prev.into(), hex);
        }
        pair(out, event.kv().into(), hex);
    }
}

pub(super) fn get(out: &mut Vec<u8>, response: &RangeResponse, show: Show, hex: bool) {
    for kv in &response.kvs {
        if show == Show::Values {
            bytes(out, &kv.value, hex);
        } else {
            pair(out, kv.into(), hex);
        }
    }
    if show == Show::Count {
        line!(out, "{}", response.count);
    }
}

pub(super) fn put(out: &mut Vec<u8>, response: &PutResponse, hex: bool) {
    out.extend_from_slice(b"OK\n");
    response.prev_kv.iter().for_each(|kv| pair(out, kv.into(), hex));
}

pub(super) fn delete(out: &mut Vec<u8>, response: &DeleteRangeResponse, hex: bool) {
    line!(out, "{}", response.deleted);
    response.prev_kvs.iter().for_each(|kv| pair(out, kv.into(), hex));
}

pub(super) fn pair(out: &mut Vec<u8>, kv: Pair<'_>, hex: bool) {
    bytes(out, kv.key, hex);
    bytes(out, kv.value, hex);
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8], hex: bool) {
    if hex {
        out.extend_from_slice(quote::hex(bytes).as_bytes());
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'\n');
}

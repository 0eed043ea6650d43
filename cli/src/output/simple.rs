//! Lines: type, key, value.

use etcd_watch_tokio::{DeleteResponse, EventKind, GetResponse, PutResponse, ResponseKind, WatchResponse};

use super::{Bytes, Pair, Show, escape, line, quote};

pub(super) fn watch(out: &mut Vec<u8>, response: &WatchResponse, style: Bytes) {
    if response.kind() == ResponseKind::Progress {
        line!(out, "progress notify: {}", response.revision());
    }
    events(out, response, style);
}

pub(super) fn events(out: &mut Vec<u8>, response: &WatchResponse, style: Bytes) {
    for event in response.events() {
        let deleted = event.kind() == EventKind::Delete;
        out.extend_from_slice(if deleted { b"DELETE\n" } else { b"PUT\n" });
        if let Some(prev) = event.prev() {
            pair(out, prev.into(), style);
        }
        pair(out, event.kv().into(), style);
    }
}

pub(super) fn get(out: &mut Vec<u8>, response: &GetResponse, show: Show, style: Bytes) {
    for kv in response.kvs() {
        if show == Show::Values {
            value(out, &kv.value, style);
        } else {
            pair(out, kv.into(), style);
        }
    }
    if show == Show::Count {
        line!(out, "{}", response.count());
    }
}

pub(super) fn put(out: &mut Vec<u8>, response: &PutResponse, style: Bytes) {
    out.extend_from_slice(b"OK\n");
    response.prev().into_iter().for_each(|kv| pair(out, kv.into(), style));
}

pub(super) fn delete(out: &mut Vec<u8>, response: &DeleteResponse, style: Bytes) {
    line!(out, "{}", response.deleted());
    response.prevs().iter().for_each(|kv| pair(out, kv.into(), style));
}

pub(super) fn pair(out: &mut Vec<u8>, kv: Pair<'_>, style: Bytes) {
    match style {
        // A line end in a key would look like the end of the key, so only those of values stay.
        Bytes::Escaped => line!(out, "{}", escape::line(kv.key)),
        Bytes::Raw | Bytes::Hex => value(out, kv.key, style),
    }
    value(out, kv.value, style);
}

fn value(out: &mut Vec<u8>, value: &[u8], style: Bytes) {
    match style {
        Bytes::Raw => out.extend_from_slice(value),
        Bytes::Escaped => out.extend_from_slice(escape::lines(value).as_bytes()),
        Bytes::Hex => out.extend_from_slice(quote::hex(value).as_bytes()),
    }
    out.push(b'\n');
}

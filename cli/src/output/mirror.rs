//! The events of a mirror.

use etcd_watch_tokio::{EventKind, ListReason, MirrorEvent, SnapshotPart, WatchResponse};

use super::{Bytes, Pair, json::Object, line, simple::pair};

pub(super) fn simple(out: &mut Vec<u8>, event: &MirrorEvent, style: Bytes) {
    match event {
        MirrorEvent::Listing { revision, reason } => line!(out, "listing: {revision} ({reason})"),
        MirrorEvent::Snapshot(part) => {
            for key in part.deletes() {
                out.extend_from_slice(b"DELETE\n");
                pair(out, gone(key), style);
            }
            for kv in part.puts() {
                out.extend_from_slice(b"SNAPSHOT\n");
                pair(out, kv.into(), style);
            }
        }
        MirrorEvent::Synced { revision } => line!(out, "synced: {revision}"),
        MirrorEvent::Changes(response) => super::simple::events(out, response, style),
        _ => {}
    }
}

/// Events as objects; the keys of a list don't say its revision themselves.
pub(super) fn json(out: &mut Vec<u8>, event: &MirrorEvent, listed_at: i64) {
    match event {
        MirrorEvent::Listing { revision, reason } => listing(out, *revision, reason),
        MirrorEvent::Snapshot(part) => snapshot(out, part, listed_at),
        MirrorEvent::Synced { revision } => {
            let mut object = Object::of_type(out, "synced");
            object.number("revision", (*revision).into());
            object.close_line();
        }
        MirrorEvent::Changes(response) => changes(out, response),
        _ => {}
    }
}

fn listing(out: &mut Vec<u8>, revision: i64, reason: &ListReason) {
    let mut object = Object::of_type(out, "listing");
    object.number("revision", revision.into());
    object.text("reason", &reason.to_string());
    object.close_line();
}

fn snapshot(out: &mut Vec<u8>, part: &SnapshotPart, listed_at: i64) {
    for key in part.deletes() {
        delete(out, listed_at, key);
    }
    for kv in part.puts() {
        put(out, "snapshot", listed_at, kv.into());
    }
}

fn changes(out: &mut Vec<u8>, response: &WatchResponse) {
    for event in response.events() {
        if event.kind() == EventKind::Delete {
            delete(out, event.mod_revision(), event.key());
        } else {
            put(out, "put", event.mod_revision(), event.kv().into());
        }
    }
}

fn put(out: &mut Vec<u8>, kind: &str, revision: i64, kv: Pair<'_>) {
    let mut object = Object::of_type(out, kind);
    object.number("revision", revision.into());
    object.bytes("key", kv.key);
    object.bytes("value", kv.value);
    object.number("create_revision", kv.create_revision.into());
    object.number("mod_revision", kv.mod_revision.into());
    object.number("version", kv.version.into());
    object.number("lease", kv.lease.into());
    object.close_line();
}

fn delete(out: &mut Vec<u8>, revision: i64, key: &[u8]) {
    let mut object = Object::of_type(out, "delete");
    object.number("revision", revision.into());
    object.bytes("key", key);
    object.close_line();
}

fn gone(key: &[u8]) -> Pair<'_> {
    Pair { key, value: &[], create_revision: 0, mod_revision: 0, version: 0, lease: 0 }
}

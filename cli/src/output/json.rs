//! One object a line, as Go marshals the responses: bytes in base64, fields that are zero left out.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use etcd_watch_tokio::{DeleteResponse, Event, EventKind, GetResponse, Header, PutResponse, WatchResponse};

use super::{Pair, escape};

pub(super) fn watch(out: &mut Vec<u8>, response: &WatchResponse) {
    events(out, response.header(), response.events());
}

/// A response with these events alone.
pub(super) fn events<'a>(out: &mut Vec<u8>, of_response: Header, events: impl Iterator<Item = Event<'a>>) {
    out.extend_from_slice(b"{\"Header\":");
    header(out, of_response);
    out.extend_from_slice(b",\"Events\":");
    list(out, events, |out, event| {
        let mut object = Object::open(out);
        object.number("type", i128::from(event.kind() == EventKind::Delete));
        pair(object.field("kv"), event.kv().into());
        if let Some(prev) = event.prev() {
            pair(object.field("prev_kv"), prev.into());
        }
        object.close();
    });
    out.extend_from_slice(b",\"CompactRevision\":0,\"Canceled\":false,\"Created\":false}\n");
}

pub(super) fn compacted(out: &mut Vec<u8>, last: Header, compact_revision: i64) {
    out.extend_from_slice(b"{\"Header\":");
    // The server's own says no revision here.
    let mut end = last;
    end.revision = 0;
    header(out, end);
    let rest = format!(
        ",\"Events\":[],\"CompactRevision\":{compact_revision},\"Canceled\":true,\"Created\":false}}\n"
    );
    out.extend_from_slice(rest.as_bytes());
}

pub(super) fn get(out: &mut Vec<u8>, response: &GetResponse) {
    let mut object = Object::open(out);
    header(object.field("header"), response.header());
    if !response.kvs().is_empty() {
        list(object.field("kvs"), response.kvs().iter(), |out, kv| pair(out, kv.into()));
    }
    if response.has_more() {
        object.field("more").extend_from_slice(b"true");
    }
    object.number("count", response.count().into());
    object.close_line();
}

pub(super) fn put(out: &mut Vec<u8>, response: &PutResponse) {
    let mut object = Object::open(out);
    header(object.field("header"), response.header());
    if let Some(prev) = response.prev() {
        pair(object.field("prev_kv"), prev.into());
    }
    object.close_line();
}

pub(super) fn delete(out: &mut Vec<u8>, response: &DeleteResponse) {
    let mut object = Object::open(out);
    header(object.field("header"), response.header());
    object.number("deleted", response.deleted().into());
    if !response.prevs().is_empty() {
        list(object.field("prev_kvs"), response.prevs().iter(), |out, kv| pair(out, kv.into()));
    }
    object.close_line();
}

fn header(out: &mut Vec<u8>, header: Header) {
    let mut object = Object::open(out);
    object.number("cluster_id", header.cluster_id.into());
    object.number("member_id", header.member_id.into());
    object.number("revision", header.revision.into());
    object.number("raft_term", header.raft_term.into());
    object.close();
}

fn pair(out: &mut Vec<u8>, kv: Pair<'_>) {
    let mut object = Object::open(out);
    object.bytes("key", kv.key);
    object.number("create_revision", kv.create_revision.into());
    object.number("mod_revision", kv.mod_revision.into());
    object.number("version", kv.version.into());
    object.bytes("value", kv.value);
    object.number("lease", kv.lease.into());
    object.close();
}

fn list<T>(out: &mut Vec<u8>, items: impl Iterator<Item = T>, mut item: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (index, value) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        item(out, value);
    }
    out.push(b']');
}

/// An object being written.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// An object whose first field is its type.
    pub(super) fn of_type(out: &'a mut Vec<u8>, kind: &str) -> Self {
        let mut object = Self::open(out);
        object.text("type", kind);
        object
    }

    /// Where to write the field's value.
    fn field(&mut self, name: &str) -> &mut Vec<u8> {
        let comma = if self.empty { "" } else { "," };
        self.empty = false;
        self.out.extend_from_slice(format!("{comma}\"{name}\":").as_bytes());
        self.out
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        let text = escape::json(&serde_json::Value::from(text).to_string());
        self.field(name).extend_from_slice(text.as_bytes());
    }

    pub(super) fn number(&mut self, name: &str, value: i128) {
        if value != 0 {
            self.field(name).extend_from_slice(value.to_string().as_bytes());
        }
    }

    pub(super) fn bytes(&mut self, name: &str, value: &[u8]) {
        if !value.is_empty() {
            let text = STANDARD.encode(value);
            let out = self.field(name);
            out.push(b'"');
            out.extend_from_slice(text.as_bytes());
            out.push(b'"');
        }
    }

    fn close(self) {
        self.out.push(b'}');
    }

    pub(super) fn close_line(self) {
        self.out.extend_from_slice(b"}\n");
    }
}

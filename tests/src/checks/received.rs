//! What the client hands out, in the checker's terms.

use etcd_watch_core::{Event, EventKind, KeyValue, WatchResponse};
use etcd_watch_proto::mvccpb::{Event as WireEvent, KeyValue as WireKeyValue, event::EventType};

use super::Received;

impl From<&WatchResponse> for Received {
    /// Where to resume is a bookmark in all responses.
    fn from(response: &WatchResponse) -> Self {
        Self { events: response.events().map(wire_event).collect(), bookmark: Some(response.revision()) }
    }
}

/// An event as etcd sends it.
#[must_use]
pub fn wire_event(event: Event<'_>) -> WireEvent {
    let kind = match event.kind() {
        EventKind::Delete => EventType::Delete,
        _ => EventType::Put,
    };
    WireEvent { r#type: kind.into(), kv: Some(pair(event.kv())), prev_kv: event.prev().map(pair) }
}

fn pair(kv: KeyValue<'_>) -> WireKeyValue {
    WireKeyValue {
        key: kv.key_bytes(),
        create_revision: kv.create_revision(),
        mod_revision: kv.mod_revision(),
        version: kv.version(),
        value: kv.value_bytes(),
        lease: kv.lease(),
    }
}

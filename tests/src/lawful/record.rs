//! What happened in one run: counted always, written down if asked for.

use etcd_watch_core::{Event, EventKind, MirrorEvent, OwnedKeyValue, ResponseKind, WatchResponse};

use super::settings::Keyspace;
use super::store_at::show;
use super::{Change, Coverage, Sight, Step, StoreAt};

pub(super) struct Record {
    pub(super) coverage: Coverage,
    lines: Option<Vec<String>>,
}

impl Record {
    pub(super) fn new(is_written: bool) -> Self {
        Self { coverage: Coverage::of_one(), lines: is_written.then(Vec::new) }
    }

    pub(super) fn saw(&mut self, sight: Sight) {
        self.coverage.saw(sight);
    }

    /// Somebody does something.
    pub(super) fn note(&mut self, who: &str, what: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{who:>8}  {}", what()));
        }
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

/// A write, as the transcript has it.
pub(super) fn write(keyspace: &Keyspace, step: &Step) -> String {
    match step {
        Step::Write(changes) => {
            let told: Vec<String> = changes.iter().map(|change| of_change(keyspace, *change)).collect();
            told.join(", ")
        }
        Step::Lease { key, value, seconds } => {
            let put = of_change(keyspace, Change::Put { key: *key, value: *value });
            format!("{put} on a lease of {seconds} s")
        }
        _ => "delete all keys".to_owned(),
    }
}

fn of_change(keyspace: &Keyspace, change: Change) -> String {
    match change {
        Change::Put { key, value } => {
            format!("put {} = {}", show(keyspace.key(key).as_bytes()), show(&keyspace.value(key, value)))
        }
        Change::Delete { key } => format!("delete {}", show(keyspace.key(key).as_bytes())),
    }
}

/// What a mirror hands out.
pub(super) fn mirror_event(event: &MirrorEvent) -> String {
    match event {
        MirrorEvent::Listing { revision, reason } => format!("Listing at revision {revision}: {reason}"),
        MirrorEvent::Snapshot(part) => {
            let puts = part.puts().iter().map(|kv| format!("put {}", pair(&kv.to_owned())));
            let deletes = part.deletes().iter().map(|key| format!("delete {}", show(key)));
            let told: Vec<String> = puts.chain(deletes).collect();
            format!("Snapshot: {}", or_nothing(&told))
        }
        MirrorEvent::Synced { revision } => format!("Synced at revision {revision}"),
        MirrorEvent::Changes(changes) => format!("Changes: {}", response(changes)),
        MirrorEvent::Closed(reason) => format!("Closed: {reason}"),
        other => format!("{other:?}"),
    }
}

pub(super) fn response(response: &WatchResponse) -> String {
    let told: Vec<String> = response.events().map(event).collect();
    let kind = match response.kind() {
        ResponseKind::Progress => "progress".to_owned(),
        ResponseKind::Created => "created".to_owned(),
        _ => or_nothing(&told),
    };
    let header = response.header().revision;
    let ahead = if header > response.revision() { format!(", header at {header}") } else { String::new() };
    format!("{kind} (up to revision {}{ahead})", response.revision())
}

fn event(event: Event<'_>) -> String {
    let (key, revision) = (show(event.key()), event.mod_revision());
    match event.kind() {
        EventKind::Delete => format!("delete {key} @{revision}"),
        _ => format!("put {key} = {} @{revision}", show(event.value())),
    }
}

/// What a store has.
pub(super) fn contents(store: &StoreAt) -> String {
    let told: Vec<String> = store.pairs().values().map(pair).collect();
    format!("revision {}: {}", store.revision(), or_nothing(&told))
}

fn pair(kv: &OwnedKeyValue) -> String {
    format!("{} = {} @{}", show(&kv.key), show(&kv.value), kv.mod_revision)
}

fn or_nothing(told: &[String]) -> String {
    if told.is_empty() { "nothing".to_owned() } else { told.join(", ") }
}

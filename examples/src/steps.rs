//! What happens in the demonstration of each program.

use Step::{Delete, EndLeases, Kill, Pause, Put, Start, Type};

/// One thing that happens in a demonstration.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A key is put. `{address}` in the value is replaced by the address of the embedded etcd.
    Put(&'static str, &'static str),
    /// A key is deleted.
    Delete(&'static str),
    /// Every lease is revoked, as if the network had been down for longer than the leases last.
    EndLeases,
    /// The program reads a line.
    Type(&'static str),
    /// Nothing.
    Pause,
    /// The program is killed.
    Kill,
    /// The program is started again.
    Start,
}

const CHECKPOINT: &[Step] = &[
    Put("orders/1", "tea"),
    Kill,
    Put("orders/2", "milk, while the program is down"),
    Start,
    Put("orders/3", "cake"),
];

const CACHED_LOOKUP: &[Step] =
    &[Type("ann"), Put("users/ann", "admin"), Type("ann"), Put("users/ann", "guest"), Type("ann")];

const LEADER_ONLY: &[Step] = &[Pause, Pause, EndLeases, Pause, Pause, Pause];

const CONFIG_RELOAD: &[Step] = &[
    Put("app/settings", r#"{"workers": 4, "greeting": "hello"}"#),
    Put("app/settings", r#"{"workers": "many"}"#),
    Put("app/settings", r#"{"workers": 8, "greeting": "hi"}"#),
];

const DISCOVERY_CHANNEL: &[Step] = &[
    Put("services/status/1", r#"{"Op": 0, "Addr": "{address}", "Metadata": null}"#),
    Pause,
    Pause,
    Delete("services/status/1"),
    Pause,
];

const SQLITE_REPLICA: &[Step] = &[
    Put("products/1", "tea"),
    Kill,
    Put("products/2", "milk, while the program is down"),
    Delete("products/1"),
    Start,
    Put("products/3", "cake"),
];

/// The demonstration of the program with this name.
pub(crate) fn of(program: &str) -> Option<&'static [Step]> {
    match program.trim_end_matches("-smol") {
        "checkpoint" => Some(CHECKPOINT),
        "cached-lookup" => Some(CACHED_LOOKUP),
        "leader-only" => Some(LEADER_ONLY),
        "config-reload" => Some(CONFIG_RELOAD),
        "discovery-channel" => Some(DISCOVERY_CHANNEL),
        "etcd-watch-sqlite-replica" => Some(SQLITE_REPLICA),
        _ => None,
    }
}

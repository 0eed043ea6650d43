//! What happens in the demonstration of each program.

use Step::{Delete, EndLeases, Get, Hold, Kill, Put, Release, Start, Type, Until};

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
    /// The program prints a line that begins so; it is waited for.
    Until(&'static str),
    /// The page whose URL is the first line of the program is asked for, until the program has answered so.
    Get(&'static str),
    /// etcd is cut off from now on: nothing that is sent arrives.
    Hold,
    /// What was sent arrives, and all else too.
    Release,
    /// The program is killed.
    Kill,
    /// The program is started again.
    Start,
}

const CHECKPOINT: &[Step] = &[
    Put("orders/1", "tea"),
    Until("everything before 3@"),
    Kill,
    Put("orders/2", "milk, while the program is down"),
    Start,
    Until("everything before 4@"),
    Put("orders/3", "cake"),
    Until("everything before 5@"),
];

const CACHED_LOOKUP: &[Step] = &[
    Type("ann"),
    Until("ann: unknown"),
    // The program doesn't say when it has heard of a change: the time between two steps has to do.
    Put("users/ann", "admin"),
    Type("ann"),
    Until("ann: admin"),
    Put("users/ann", "guest"),
    Type("ann"),
    Until("ann: guest"),
];

const LEADER_ONLY: &[Step] = &[Until("working: 3"), EndLeases, Until("stopped working"), Until("working: 3")];

// It ends by itself.
const TRANSFER: &[Step] = &[];

const CONFIG_RELOAD: &[Step] = &[
    Put("app/settings", r#"{"workers": 4, "greeting": "hello"}"#),
    Until("4 workers"),
    Put("app/settings", r#"{"workers": "many"}"#),
    Until("still"),
    Put("app/settings", r#"{"workers": 8, "greeting": "hi"}"#),
    Until("8 workers"),
];

const READINESS: &[Step] =
    &[Get("200 OK: 0 users"), Put("users/ann", "admin"), Hold, Get("503"), Release, Get("200 OK: 1 users")];

const DISCOVERY_CHANNEL: &[Step] = &[
    Put("services/status/1", r#"{"Op": 0, "Addr": "{address}", "Metadata": null}"#),
    Until("version"),
    Delete("services/status/1"),
    Until("endpoints: {}"),
];

const SQLITE_REPLICA: &[Step] = &[
    Put("products/1", "tea"),
    Until("everything before 3@"),
    Kill,
    Put("products/2", "milk, while the program is down"),
    Delete("products/1"),
    Start,
    Put("products/3", "cake"),
    Until("everything before 6@"),
];

/// The demonstration of the program with this name.
pub(crate) fn of(program: &str) -> Option<&'static [Step]> {
    match program.trim_end_matches("-smol") {
        "checkpoint" => Some(CHECKPOINT),
        "cached-lookup" => Some(CACHED_LOOKUP),
        "leader-only" => Some(LEADER_ONLY),
        "transfer" => Some(TRANSFER),
        "config-reload" => Some(CONFIG_RELOAD),
        "readiness" => Some(READINESS),
        "discovery-channel" => Some(DISCOVERY_CHANNEL),
        "etcd-watch-sqlite-replica" => Some(SQLITE_REPLICA),
        _ => None,
    }
}

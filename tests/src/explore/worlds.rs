//! The worlds that are searched.

use etcd_watch_core::Overflow;

use super::plan::{Consumers, Faults, Plan, ServerPlan};

/// The servers, by name.
fn servers() -> [(&'static str, ServerPlan); 4] {
    [
        ("etcd", ServerPlan::etcd()),
        ("old etcd", ServerPlan::old_etcd()),
        ("proxy", ServerPlan::proxy()),
        ("numbering etcd", ServerPlan::numbering()),
    ]
}

/// Worlds whose search takes seconds even without optimization: one fault, or none beside what is counted.
#[must_use]
pub fn small_worlds() -> Vec<Plan> {
    let mut worlds = Vec::new();
    for (name, server) in servers() {
        let plan = |what: &str| Plan::new(format!("{name}, {what}"), server);
        worlds.push(plan("both from a revision, one fault").faults(Faults::any(1)));
        worlds.push(plan("the key from now, no fault").from_now(1));
        worlds.push(plan("notifications, no fault").notifications(1));
        worlds.push(plan("asking, no fault").asks(1));
        worlds.push(plan("slow consumers, no fault").consumers(Consumers::AtAnyTime));
        for policy in [Overflow::Replay, Overflow::Pause, Overflow::Fail] {
            let what = format!("cramped consumers, {policy:?}, no fault");
            worlds.push(plan(&what).consumers(Consumers::Cramped(policy)));
        }
    }
    let etcd = Plan::new("etcd, the key from now, one fault", ServerPlan::etcd());
    worlds.push(etcd.from_now(1).faults(Faults::any(1)));
    worlds
}

/// All worlds, with two faults.
#[must_use]
pub fn all_worlds() -> Vec<Plan> {
    worlds(2)
}

fn worlds(faults: u8) -> Vec<Plan> {
    let mut worlds = Vec::new();
    for (name, server) in servers() {
        let plan = |what: &str| Plan::new(format!("{name}, {what}"), server).faults(Faults::any(faults));
        worlds.push(plan("both from a revision"));
        worlds.push(plan("both from a revision, notifications").notifications(1));
        worlds.push(plan("both from a revision, asking").asks(1));
        worlds.push(plan("the prefix from now").from_now(0));
        worlds.push(plan("the key from now").from_now(1));
        worlds.push(plan("the key from now, notifications").from_now(1).notifications(1));
        worlds.push(plan("the key from now, asking").from_now(1).asks(1));
        worlds.push(plan("slow consumers").consumers(Consumers::AtAnyTime));
        for policy in [Overflow::Replay, Overflow::Pause, Overflow::Fail] {
            let what = format!("cramped consumers, {policy:?}");
            worlds.push(plan(&what).consumers(Consumers::Cramped(policy)));
        }
    }
    worlds
}

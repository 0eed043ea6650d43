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
    let plan = |(name, server): (&str, ServerPlan), what: &str| Plan::new(format!("{name}, {what}"), server);
    let [etcd, old_etcd, ..] = servers();
    let mut worlds: Vec<Plan> = servers()
        .into_iter()
        .map(|server| plan(server, "both from a revision, one fault").faults(Faults::any(1)))
        .collect();
    worlds.push(plan(etcd, "the prefix from now, no fault").from_now(0));
    worlds.push(plan(etcd, "the key from now, no fault").from_now(1));
    worlds.push(plan(etcd, "notifications, no fault").notifications(1));
    worlds.push(plan(old_etcd, "asking, no fault").asks(1));
    worlds.push(plan(etcd, "slow consumers, no fault").consumers(Consumers::AtAnyTime));
    for policy in [Overflow::Replay, Overflow::Pause, Overflow::Fail] {
        let what = format!("one cramped consumer, {policy:?}, no fault");
        let mut plan = plan(etcd, &what).consumers(Consumers::Cramped(policy));
        plan.watches.truncate(1);
        worlds.push(plan);
    }
    worlds
}

/// All worlds: two faults; one where consumers ask for progress, or have so little room that watches come and
/// go all the time.
#[must_use]
pub fn all_worlds() -> Vec<Plan> {
    let mut worlds = Vec::new();
    for (name, server) in servers() {
        let plan = |what: &str, faults| {
            let count = if faults == 1 { "one fault" } else { "two faults" };
            Plan::new(format!("{name}, {what}, {count}"), server).faults(Faults::any(faults))
        };
        worlds.push(plan("both from a revision", 2));
        worlds.push(plan("the prefix from now", 2).from_now(0));
        worlds.push(plan("the key from now", 2).from_now(1));
        worlds.push(plan("notifications", 2).notifications(1));
        worlds.push(plan("asking", 1).asks(1));
        worlds.push(plan("slow consumers", 2).consumers(Consumers::AtAnyTime));
        for policy in [Overflow::Replay, Overflow::Pause, Overflow::Fail] {
            let what = format!("cramped consumers, {policy:?}");
            worlds.push(plan(&what, 1).consumers(Consumers::Cramped(policy)));
        }
    }
    worlds
}

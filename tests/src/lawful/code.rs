//! Histories as Rust code, to be pasted into a test.

use super::{Change, History, Plan, Step};

pub(super) fn of(history: &History) -> String {
    let steps: String = history.steps().iter().map(|step| format!("    {},\n", of_step(step))).collect();
    format!("History::new(&settings, {}, [\n{steps}])", of_plan(history.plan()))
}

fn of_step(step: &Step) -> String {
    match step {
        Step::Write(changes) => format!("Step::Write(vec![{}])", of_changes(changes)),
        Step::Replace(changes) => format!("Step::Replace(vec![{}])", of_changes(changes)),
        other => format!("Step::{other:?}"),
    }
}

fn of_changes(changes: &[Change]) -> String {
    let each: Vec<String> = changes.iter().map(|change| format!("Change::{change:?}")).collect();
    each.join(", ")
}

/// What is not as in the calm one.
fn of_plan(plan: &Plan) -> String {
    type Field = (&'static str, fn(&Plan) -> String);
    const FIELDS: [Field; 10] = [
        ("seed", |plan| plan.seed.to_string()),
        ("page_bytes", |plan| plan.page_bytes.to_string()),
        ("overflow", |plan| format!("Overflow::{:?}", plan.overflow)),
        ("buffer_bytes", |plan| plan.buffer_bytes.to_string()),
        ("batch_events", |plan| plan.batch_events.to_string()),
        ("max_revision_bytes", |plan| plan.max_revision_bytes.to_string()),
        ("watch_queue", |plan| plan.watch_queue.to_string()),
        ("batch_revisions", |plan| plan.batch_revisions.to_string()),
        ("fragment_bytes", |plan| plan.fragment_bytes.to_string()),
        ("old_server", |plan| plan.old_server.to_string()),
    ];
    let calm = Plan::default();
    let differs = FIELDS.iter().filter(|(_, field)| field(plan) != field(&calm));
    let told: String = differs.map(|(name, field)| format!("{name}: {}, ", field(plan))).collect();
    if told.is_empty() { "Plan::default()".to_owned() } else { format!("Plan {{ {told}..Plan::default() }}") }
}

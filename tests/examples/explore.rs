//! Searches every state of every small world, one line for each. Worlds can be chosen by a part of their name.
#![allow(clippy::print_stdout)]

use etcd_watch_testkit::explore::{Violation, all_worlds, explore, small_worlds};

fn main() -> Result<(), Box<Violation>> {
    let mut chosen: Vec<String> = std::env::args().skip(1).collect();
    let is_small = chosen.iter().any(|part| part == "--small");
    chosen.retain(|part| part != "--small");
    let mut worlds = if is_small { small_worlds() } else { all_worlds() };
    worlds.retain(|plan| chosen.is_empty() || chosen.iter().any(|part| plan.name.contains(part.as_str())));
    let (mut states, mut transitions) = (0, 0);
    for plan in &worlds {
        let report = explore(plan).inspect_err(|violation| println!("{violation}"))?;
        println!("{report}");
        states += report.states;
        transitions += report.transitions;
    }
    println!("{} worlds: {states} states, {transitions} transitions", worlds.len());
    Ok(())
}

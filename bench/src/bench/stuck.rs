//! One consumer that takes nothing, among others that do.

use anyhow::Result;
use etcd_watch_bench::median;

use crate::{
    Effort,
    programs::{Load, Program, Programs, Run},
    results::{Results, Table},
};

/// Consumers that take.
const OTHERS: u64 = 3;

/// Events for each watch, 100 in a response.
const EVENTS: u64 = 2_000_000;
const EVENTS_OF_RESPONSE: u64 = 100;

/// Measures the same load with and without the stuck consumer, in turns.
pub(crate) fn measure(programs: &Programs, effort: Effort, results: &mut Results) -> Result<()> {
    let load = |stuck: u64| {
        let watches = OTHERS + stuck;
        let responses = watches * EVENTS / EVENTS_OF_RESPONSE;
        Load { watches, stuck, ..Load::new(EVENTS_OF_RESPONSE, 256, responses) }
    };
    let mut table = Table::new("stuck", ["consumers", "events/s of those that take", "memory"]);
    let [mut without, mut with] = [Vec::new(), Vec::new()];
    for _ in 0..effort.rounds {
        without.push(programs.run(Program::Tokio, &load(0))?);
        with.push(programs.run(Program::Tokio, &load(1))?);
    }
    let memory = |run: &Run| run.client.peak_rss as f64 / f64::from(1 << 20);
    for (name, runs) in [("3 that take", &without), ("3 that take, and a stuck one", &with)] {
        table.row([
            name.to_owned(),
            format!("{:.0}", median(runs.iter().map(Run::speed))),
            format!("{:.1} MiB", median(runs.iter().map(memory))),
        ]);
    }
    let pairs = || with.iter().zip(&without);
    results.set("stuck/mib", median(pairs().map(|(with, without)| memory(with) - memory(without))));
    results.set("stuck/speed", median(pairs().map(|(with, without)| with.speed() / without.speed())));
    results.add(table);
    Ok(())
}

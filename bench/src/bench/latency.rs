//! The time from sending an event to taking it.

use anyhow::{Context, Result};
use etcd_watch_bench::{median, meter::Latency};

use crate::{
    Effort,
    programs::{Load, Program, Programs},
    results::{Results, Table},
};

/// Events a second, one in a response.
const RATES: [u64; 2] = [1_000, 20_000];

/// The programs that tell it.
const PROGRAMS: [Program; 3] = [Program::Raw, Program::Tokio, Program::Smol];

/// Measures every program at every rate, in turns.
pub(crate) fn measure(programs: &Programs, effort: Effort, results: &mut Results) -> Result<()> {
    let seconds = if effort.is_quick { 1 } else { 5 };
    let mut table = Table::new("latency", ["events/s", "client", "p50", "p99", "p99.9"]);
    for rate in RATES {
        let load = Load { rate: Some(rate), ..Load::new(1, 256, rate * seconds) };
        let mut measured = PROGRAMS.map(|_| Vec::new());
        for turns in effort.turns(PROGRAMS.len()) {
            for index in turns {
                let run = programs.run(PROGRAMS[index], &load)?;
                measured[index].push(run.client.latency.context("the values carry the time")?);
            }
        }
        for (program, runs) in PROGRAMS.into_iter().zip(&measured) {
            let cell = |figure: fn(&Latency) -> f64| format!("{:.1} us", median(runs.iter().map(figure)));
            table.row([
                rate.to_string(),
                program.name().to_owned(),
                cell(|run| run.p50),
                cell(|run| run.p99),
                cell(|run| run.p999),
            ]);
        }
        // The worse of the two runtimes, against tonic in the same round.
        let [raw, tokio, smol] = &measured;
        let over = |compare: fn(&Latency, &Latency) -> f64| {
            let of = |ours: &[Latency]| median(ours.iter().zip(raw).map(|(ours, raw)| compare(ours, raw)));
            of(tokio).max(of(smol))
        };
        results.set(format!("latency/{rate}/p50"), over(|ours, raw| ours.p50 - raw.p50));
        results.set(format!("latency/{rate}/p99"), over(|ours, raw| ours.p99 / raw.p99));
    }
    results.add(table);
    Ok(())
}

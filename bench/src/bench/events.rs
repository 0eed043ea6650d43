//! Processor time of an event in the client.

use anyhow::{Result, ensure};
use etcd_watch_bench::median;

use crate::{
    Effort,
    programs::{Load, Program, Programs, Run},
    results::{Results, Table},
};

/// Events of a response, bytes of a value, and responses that take tonic about a second.
const SIZES: [(u64, u64, u64); 8] = [
    (1, 32, 600_000),
    (1, 256, 600_000),
    (10, 256, 200_000),
    (100, 32, 40_000),
    (100, 256, 25_000),
    (1_000, 256, 2_500),
    (10, 4_096, 40_000),
    (1, 65_536, 40_000),
];

/// How many watches there are, when it is their number that differs.
const WATCHES: [u64; 4] = [1, 100, 10_000, 100_000];

/// etcd's Go client opens one after the other.
const MOST_OF_GO: u64 = 10_000;

/// The responses of a quick run are so many times fewer.
const QUICK: u64 = 4;

/// Programs that depend on a second thread, which they share a processor with here, are left out of quick runs.
const LONG_ONLY: [Program; 2] = [Program::TokioMulti, Program::SmolGlobal];

/// Measures one watch with responses of several sizes, and then small responses of many watches.
pub(crate) fn measure(
    programs: &Programs,
    effort: Effort,
    only: Option<&str>,
    results: &mut Results,
) -> Result<()> {
    let mut table = table_of("events", "events x value");
    for (events, value, responses) in SIZES {
        let name = format!("{events} x {value} B");
        if only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let load = Load::new(events, value, scaled(responses, effort));
        for measured in rounds(programs, effort, &load, |_| true)? {
            measured.row(&name, "events", &mut table, results);
        }
    }
    ensure!(!table.rows.is_empty(), "no workload has {:?} in its name", only.unwrap_or_default());
    results.add(table);
    if only.is_none() {
        many(programs, effort, results)?;
    }
    Ok(())
}

/// An empty table of clients, whose first column has this title.
fn table_of(name: &'static str, first: &str) -> Table {
    let of_a_client =
        ["client", "CPU of an event", "x tonic + prost", "events/s", "busy", "server busy", "memory"];
    let [a, b, c, d, e, f, g] = of_a_client;
    Table::new(name, [first, a, b, c, d, e, f, g])
}

fn many(programs: &Programs, effort: Effort, results: &mut Results) -> Result<()> {
    let mut table = table_of("watches", "watches");
    let mut ours = Vec::new();
    for watches in WATCHES {
        let load = Load { watches, ..Load::new(1, 256, scaled(600_000, effort)) };
        let fits = |program| !matches!(program, Program::Go | Program::EtcdClient) || watches <= MOST_OF_GO;
        for measured in rounds(programs, effort, &load, fits)? {
            measured.row(&watches.to_string(), "watches", &mut table, results);
            if measured.program == Program::Tokio {
                ours.push(median(measured.runs.iter().map(Run::nanos)));
            }
        }
    }
    results.add(table);
    if let [one, .., most] = ours[..] {
        results.set("watches/growth", most / one);
    }
    Ok(())
}

/// A quick run has fewer responses.
fn scaled(responses: u64, effort: Effort) -> u64 {
    if effort.is_quick { responses / QUICK } else { responses }
}

/// The runs of one program, and what each took beside tonic in the same round.
struct Measured {
    program: Program,
    runs: Vec<Run>,
    ratios: Vec<f64>,
}

/// Has all programs that fit take a load, in turns.
fn rounds(
    programs: &Programs,
    effort: Effort,
    load: &Load,
    fits: impl Fn(Program) -> bool,
) -> Result<Vec<Measured>> {
    let is_left_out = |program| !fits(program) || (effort.is_quick && LONG_ONLY.contains(&program));
    let mut measured: Vec<Measured> = programs
        .present()
        .filter(|&program| !is_left_out(program))
        .map(|program| Measured { program, runs: Vec::new(), ratios: Vec::new() })
        .collect();
    // Each watch gets as many as the others.
    let responses = load.responses.next_multiple_of(load.watches);
    let load = Load { responses, ..load.clone() };
    for turns in effort.turns(measured.len()) {
        for index in turns {
            let program = &mut measured[index];
            program.runs.push(programs.run(program.program, &load)?);
        }
        let raw = measured.iter().find(|program| program.program == Program::Raw);
        let raw = raw.and_then(|raw| raw.runs.last()).map_or(f64::NAN, Run::nanos);
        for program in &mut measured {
            program.ratios.extend(program.runs.last().map(|run| run.nanos() / raw));
        }
    }
    Ok(measured)
}

impl Measured {
    fn row(&self, workload: &str, figures: &str, table: &mut Table, results: &mut Results) {
        let of = |figure: fn(&Run) -> f64| median(self.runs.iter().map(figure));
        let ratio = median(self.ratios.iter().copied());
        let name = self.program.name();
        results.set(format!("{figures}/{workload}/{name}"), ratio);
        results.set(format!("{figures}/{workload}/{name}/ns"), of(Run::nanos));
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        table.row([
            workload.to_owned(),
            name.to_owned(),
            format!("{:.0} ns", of(Run::nanos)),
            format!("{ratio:.2}"),
            format!("{:.0}", of(Run::speed)),
            percent(of(|run| run.client.cpu_seconds / run.client.wall_seconds)),
            percent(of(|run| run.server.cpu_seconds / run.server.wall_seconds)),
            format!("{:.1} MiB", of(|run| run.client.peak_rss as f64) / f64::from(1 << 20)),
        ]);
    }
}

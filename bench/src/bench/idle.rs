//! What watches take that nothing happens to.

use std::process::Command;

use anyhow::Result;
use etcd_watch_bench::process::Process;
use serde::Deserialize;

use crate::{
    programs::{CLIENT, Load, Program, Programs},
    results::{Results, Table},
};

const WATCHES: [u64; 2] = [10_000, 100_000];

/// What the program `client` tells.
#[derive(Deserialize)]
struct Idle {
    rss_before: u64,
    rss_after: u64,
    stats_seconds: f64,
    watch_stats_seconds: f64,
}

/// What the program `scrape` tells.
#[derive(Deserialize)]
struct Scrape {
    seconds: f64,
}

/// On one thread each.
const CLIENTS: [Program; 2] = [Program::Tokio, Program::Smol];

/// Measures each number of watches once: memory doesn't differ from run to run.
pub(crate) fn measure(programs: &Programs, results: &mut Results) -> Result<()> {
    let head = ["watches", "client", "memory of each", "stats", "watch_stats", "scrape"];
    let mut table = Table::new("idle", head);
    for watches in WATCHES {
        for client in CLIENTS {
            let idle = of_client(programs, client, watches)?;
            let each = idle.rss_after.saturating_sub(idle.rss_before) as f64 / watches as f64;
            // The program that scrapes is on tokio.
            let scrape = if client == Program::Tokio { scrape(programs, watches)? } else { None };
            let millis = |seconds: f64| format!("{:.3} ms", seconds * 1e3);
            table.row([
                watches.to_string(),
                client.name().to_owned(),
                format!("{each:.0} B"),
                millis(idle.stats_seconds),
                millis(idle.watch_stats_seconds),
                scrape.map_or_else(String::new, millis),
            ]);
            // The last ones are those of the budgets.
            results.set(format!("idle/bytes/{}", client.name()), each);
            if let Some(seconds) = scrape {
                results.set("idle/scrape", seconds * 1e3);
            }
        }
    }
    results.add(table);
    Ok(())
}

/// What a client tells of so many watches.
fn of_client(programs: &Programs, client: Program, watches: u64) -> Result<Idle> {
    // No responses: the watches are created, and that is all.
    let load = Load { watches, ..Load::new(1, 256, 0) };
    let (_server, endpoint) = programs.serve(&load)?;
    let mut command = programs.task("idle", client, &endpoint, watches)?;
    Process::start(&mut command, Some(CLIENT))?.end()
}

/// The seconds that a scrape of the metrics takes.
fn scrape(programs: &Programs, watches: u64) -> Result<Option<f64>> {
    let Some(program) = &programs.scrape else { return Ok(None) };
    let load = Load { watches, ..Load::new(1, 256, 0) };
    let (_server, endpoint) = programs.serve(&load)?;
    let mut command = Command::new(program);
    command.args([endpoint, watches.to_string()]);
    let scrape: Scrape = Process::start(&mut command, Some(CLIENT))?.end()?;
    Ok(Some(scrape.seconds))
}

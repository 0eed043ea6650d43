//! How long it takes until many watches of a real etcd run: at first, and again after the connection was lost.

use std::time::Duration;

use anyhow::Result;
use etcd_watch_bench::{median, process::Process};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion, binaries::Version},
    proxy::{Cut, FaultProxy},
};
use serde::Deserialize;
use tokio::runtime::Runtime;

use crate::{
    Effort,
    programs::{CLIENT, Program, Programs},
    results::{Results, Table},
};

const WATCHES: u64 = 10_000;

/// Before the keys of the watches that are created, and the one key of those that resume.
const PREFIX: &str = "bench/";
const KEY: &str = "bench/changed";

/// Until every client knows that its connection is lost.
const OUTAGE: Duration = Duration::from_millis(100);

/// What the clients tell.
#[derive(Deserialize)]
struct Took {
    seconds: f64,
}

/// Measures creations by all, and resumptions by those that do resume, in turns.
pub(crate) fn measure(
    programs: &Programs,
    effort: Effort,
    etcd: Version,
    results: &mut Results,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let server = EtcdServer::builder(EtcdVersion::Exact(etcd)).flag("log-level", "error").start()?;
    let endpoint = server.endpoint();
    let opening = Opening { programs, runtime, endpoint };
    let mut table = Table::new("opening", ["10,000 watches", "client", "seconds"]);
    let creating = [Program::Raw, Program::Tokio, Program::Smol, Program::Go];
    let created = opening.rounds(effort, &creating, &mut table, "created", Opening::create)?;
    let resuming = [Program::Tokio, Program::Smol, Program::Go];
    let resumed = opening.rounds(effort, &resuming, &mut table, "resumed, first to last", Opening::resume)?;
    // The worse of the two runtimes, against the other program in the same round.
    let ratio = |ours: [usize; 2], other: usize, measured: &[Vec<f64>]| {
        let of = |ours: usize| {
            median(measured[ours].iter().zip(&measured[other]).map(|(ours, other)| ours / other))
        };
        of(ours[0]).max(of(ours[1]))
    };
    results.set("create/ratio", ratio([1, 2], 0, &created));
    if !resumed[2].is_empty() {
        results.set("resume/ratio", ratio([0, 1], 2, &resumed));
    }
    results.add(table);
    Ok(())
}

struct Opening<'a> {
    programs: &'a Programs,
    runtime: Runtime,
    endpoint: String,
}

impl Opening<'_> {
    /// The seconds that each program took in each round.
    fn rounds(
        &self,
        effort: Effort,
        programs: &[Program],
        table: &mut Table,
        what: &str,
        run: fn(&Self, Program) -> Result<f64>,
    ) -> Result<Vec<Vec<f64>>> {
        let mut measured = vec![Vec::new(); programs.len()];
        let is_present = |program: Program| self.programs.present().any(|present| present == program);
        for turns in effort.turns(programs.len()) {
            for index in turns {
                if is_present(programs[index]) {
                    measured[index].push(run(self, programs[index])?);
                }
            }
        }
        for (program, seconds) in programs.iter().zip(&measured) {
            if !seconds.is_empty() {
                let seconds = format!("{:.3}", median(seconds.iter().copied()));
                table.row([what.to_owned(), program.name().to_owned(), seconds]);
            }
        }
        Ok(measured)
    }

    fn create(&self, program: Program) -> Result<f64> {
        let mut command = self.command("create", program, &self.endpoint, PREFIX)?;
        let took: Took = Process::start(&mut command, Some(CLIENT))?.end()?;
        Ok(took.seconds)
    }

    fn resume(&self, program: Program) -> Result<f64> {
        let proxy = self.runtime.block_on(FaultProxy::start(self.endpoint.clone()))?;
        let mut command = self.command("resume", program, &proxy.endpoint(), KEY)?;
        let mut client = Process::start(&mut command, Some(CLIENT))?;
        // It says that it is ready.
        client.line()?;
        self.runtime.block_on(async {
            let etcd = etcd_watch_tokio::connect([&self.endpoint]).await?;
            proxy.refuse();
            proxy.cut_all(Cut::Reset);
            tokio::time::sleep(OUTAGE).await;
            etcd.put(KEY, "changed").await?;
            proxy.restore();
            anyhow::Ok(())
        })?;
        let took: Took = client.end()?;
        Ok(took.seconds)
    }

    fn command(
        &self,
        task: &str,
        program: Program,
        endpoint: &str,
        key: &str,
    ) -> Result<std::process::Command> {
        let watches = WATCHES.to_string();
        match program {
            Program::Go => self.programs.go(endpoint, &[task, key, &watches]),
            program => self.programs.task(task, program, endpoint, WATCHES),
        }
    }
}

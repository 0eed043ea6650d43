//! The programs that are compared.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use etcd_watch_bench::{
    PREFIX,
    meter::{Figures, Served},
    process::{Process, beside},
};

/// The processor of the client, and that of the server.
pub(crate) const CLIENT: usize = 0;
pub(crate) const SERVER: usize = 1;

/// What takes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// tonic and prost by hand: what all others are compared with.
    Raw,
    /// HTTP/2 alone.
    Transport,
    Tokio,
    TokioMulti,
    Smol,
    SmolGlobal,
    /// The crate etcd-client.
    EtcdClient,
    /// etcd's own client, in Go.
    Go,
}

impl Program {
    pub(crate) const ALL: [Self; 8] = [
        Self::Raw,
        Self::Transport,
        Self::Tokio,
        Self::TokioMulti,
        Self::Smol,
        Self::SmolGlobal,
        Self::EtcdClient,
        Self::Go,
    ];

    /// In the tables, and in the names of figures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "tonic + prost",
            Self::Transport => "HTTP/2 alone",
            Self::Tokio => "etcd-watch-tokio, one thread",
            Self::TokioMulti => "etcd-watch-tokio",
            Self::Smol => "etcd-watch-smol, one thread",
            Self::SmolGlobal => "etcd-watch-smol",
            Self::EtcdClient => "etcd-client",
            Self::Go => "clientv3",
        }
    }

    /// What the program `client` calls it.
    fn with(self) -> Option<&'static str> {
        Some(match self {
            Self::Raw => "raw",
            Self::Transport => "transport",
            Self::Tokio => "tokio",
            Self::TokioMulti => "tokio-multi",
            Self::Smol => "smol",
            Self::SmolGlobal => "smol-global",
            Self::EtcdClient | Self::Go => return None,
        })
    }
}

/// Where they are.
pub(crate) struct Programs {
    client: PathBuf,
    replay: PathBuf,
    interop: Option<PathBuf>,
    etcd_client: Option<PathBuf>,
    pub(crate) scrape: Option<PathBuf>,
}

/// What a server is to send, and a client to take.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Events of a response.
    pub(crate) events: u64,
    /// Bytes of a value.
    pub(crate) value: u64,
    pub(crate) watches: u64,
    pub(crate) responses: u64,
    /// Events a second.
    pub(crate) rate: Option<u64>,
    /// So many of the watches are not taken from.
    pub(crate) stuck: u64,
}

impl Load {
    /// Responses for all events, as fast as they are taken.
    pub(crate) fn new(events: u64, value: u64, responses: u64) -> Self {
        Self { events, value, watches: 1, responses, rate: None, stuck: 0 }
    }

    /// What the consumers that take get at least.
    pub(crate) fn expected(&self) -> u64 {
        self.events * (self.responses / self.watches) * (self.watches - self.stuck)
    }
}

/// A run: what the client tells of it, and the server.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) client: Figures,
    pub(crate) server: Served,
}

impl Run {
    /// Processor time of an event in the client, in nanoseconds.
    pub(crate) fn nanos(&self) -> f64 {
        self.client.cpu_seconds / self.client.events as f64 * 1e9
    }

    /// Events a second.
    pub(crate) fn speed(&self) -> f64 {
        self.client.events as f64 / self.client.wall_seconds
    }
}

impl Programs {
    /// The bench's own beside this one, the others where they are said to be.
    pub(crate) fn find(
        interop: Option<PathBuf>,
        etcd_client: Option<PathBuf>,
        scrape: Option<PathBuf>,
    ) -> Result<Self> {
        Ok(Self { client: beside("client")?, replay: beside("replay")?, interop, etcd_client, scrape })
    }

    /// Those that are there.
    pub(crate) fn present(&self) -> impl Iterator<Item = Program> {
        Program::ALL.into_iter().filter(|program| match program {
            Program::EtcdClient => self.etcd_client.is_some(),
            Program::Go => self.interop.is_some(),
            _ => true,
        })
    }

    /// A task of the bench's own client.
    pub(crate) fn task(&self, task: &str, with: Program, endpoint: &str, watches: u64) -> Result<Command> {
        let with = with.with().context("not a way of the bench's own client")?;
        let mut command = Command::new(&self.client);
        command.args([task, "--with", with, "--endpoint", endpoint, "--watches", &watches.to_string()]);
        Ok(command)
    }

    /// A task of etcd's Go client.
    pub(crate) fn go(&self, endpoint: &str, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(self.interop.as_deref().context("the Go client is missing")?);
        command.args(["--endpoint", endpoint]).args(words);
        Ok(command)
    }

    /// A server that sends a load, on a processor of its own, and its address.
    pub(crate) fn serve(&self, load: &Load) -> Result<(Process, String)> {
        let Load { events, value, watches, responses, .. } = *load;
        let mut command = Command::new(&self.replay);
        for (name, count) in
            [("--events", events), ("--value", value), ("--watches", watches), ("--responses", responses)]
        {
            command.arg(name).arg(count.to_string());
        }
        if let Some(rate) = load.rate {
            command.arg("--rate").arg(rate.to_string());
        }
        let mut server = Process::start(&mut command, Some(SERVER))?;
        let endpoint = server.line()?;
        Ok((server, endpoint))
    }

    /// Has a program take a load from a server.
    pub(crate) fn run(&self, program: Program, load: &Load) -> Result<Run> {
        let (server, endpoint) = self.serve(load)?;
        let mut command = self.taker(program, load, &endpoint)?;
        let client: Figures = Process::start(&mut command, Some(CLIENT))?.end()?;
        let run = Run { client, server: server.end()? };
        run.check(load).with_context(|| format!("{} with {load:?}", program.name()))?;
        Ok(run)
    }

    fn taker(&self, program: Program, load: &Load, endpoint: &str) -> Result<Command> {
        let [watches, expected] = [load.watches, load.expected()].map(|count| count.to_string());
        Ok(match program {
            Program::Go => self.go(endpoint, &["take", PREFIX, &watches, &expected])?,
            Program::EtcdClient => {
                let path =
                    self.etcd_client.as_deref().context("the program around etcd-client is missing")?;
                let mut command = Command::new(path);
                command.args([endpoint, PREFIX, &watches, &expected]);
                command
            }
            _ => {
                let mut command = self.task("events", program, endpoint, load.watches)?;
                command.args(["--events", &expected, "--events-per-response", &load.events.to_string()]);
                command.args(["--stuck", &load.stuck.to_string()]);
                if load.rate.is_some() {
                    command.arg("--stamped");
                }
                command
            }
        })
    }
}

impl Run {
    /// Fails unless the client has taken what the server has sent.
    fn check(&self, load: &Load) -> Result<()> {
        let Self { client, server } = self;
        ensure!(
            client.events >= load.expected(),
            "{} events were taken of {}",
            client.events,
            load.expected()
        );
        if load.stuck == 0 {
            // Of a watch that was created again the server may have sent some twice.
            let expected = (load.expected(), server.last_revision);
            let taken = (client.events, client.last_revision.unwrap_or(server.last_revision));
            ensure!(expected == taken, "events and revision expected: {expected:?}, taken: {taken:?}");
        }
        Ok(())
    }
}

//! One list, and what it took.

use std::{fmt, path::Path, process::Command, str::FromStr, time::Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use etcd_watch_bench::usage;
use etcd_watch_tokio::{KeyRange, MirrorEvent, cache::CacheRequest};

use crate::cpu;

/// What a list took: time and processor time in seconds, and the most memory that its process had, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    pub(super) keys: usize,
    pub(super) seconds: f64,
    pub(super) peak_kib: usize,
    pub(super) client_cpu: f64,
    pub(super) server_cpu: f64,
}

impl Measured {
    /// By a process of this program.
    pub(super) fn by_child(how: How, endpoint: &str, prefix: &str) -> Result<Self> {
        let how = how.to_possible_value().context("it has a name")?;
        let arguments = ["--child", how.get_name(), "--endpoint", endpoint, "--prefix", prefix];
        Self::said_by(Command::new(std::env::current_exe()?).args(arguments))
    }

    /// By etcd's Go client.
    pub(super) fn by_go(interop: &Path, endpoint: &str, prefix: &str) -> Result<Self> {
        Self::said_by(Command::new(interop).args(["--endpoint", endpoint, "list", prefix]))
    }

    fn said_by(command: &mut Command) -> Result<Self> {
        let before = cpu::of_children()?;
        let output = command.output().with_context(|| format!("can't run {command:?}"))?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said: Self = String::from_utf8(output.stdout)?.trim().parse()?;
        Ok(Self { client_cpu: cpu::of_children()? - before, ..said })
    }

    /// The lesser of each.
    pub(super) fn least(self, other: Self) -> Self {
        Self {
            keys: self.keys,
            seconds: self.seconds.min(other.seconds),
            peak_kib: self.peak_kib.min(other.peak_kib),
            client_cpu: self.client_cpu.min(other.client_cpu),
            server_cpu: self.server_cpu.min(other.server_cpu),
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.6} {}", self.keys, self.seconds, self.peak_kib)
    }
}

impl FromStr for Measured {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [keys, seconds, peak_kib] = words[..] else { bail!("{line:?} is not what a list took") };
        let (keys, seconds, peak_kib) = (keys.parse()?, seconds.parse()?, peak_kib.parse()?);
        Ok(Self { keys, seconds, peak_kib, ..Self::default() })
    }
}

/// What a range is listed by.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum How {
    Mirror,
    Cache,
}

impl How {
    /// Lists the keys under a prefix.
    pub(super) async fn list(self, endpoint: &str, prefix: &str) -> Result<Measured> {
        let client = etcd_watch_tokio::connect([endpoint]).await?;
        let range = KeyRange::prefix(prefix.to_owned());
        // As with the Go client, the connection is there before the time begins.
        client.get("warm").await?;
        let begun = Instant::now();
        let (keys, seconds, kept) = match self {
            Self::Mirror => {
                let mut mirror = client.mirror(range)?;
                let mut keys = 0;
                while let Some(event) = mirror.try_next().await? {
                    match event {
                        MirrorEvent::Snapshot(part) => keys += part.puts().len(),
                        MirrorEvent::Synced { .. } => break,
                        _ => {}
                    }
                }
                (keys, begun.elapsed(), None)
            }
            Self::Cache => {
                let cache = client.cache(CacheRequest::new(range))?;
                let keys = cache.ready().await?.len();
                (keys, begun.elapsed(), Some(cache))
            }
        };
        let seconds = seconds.as_secs_f64();
        let measured = Measured {
            keys,
            seconds,
            peak_kib: usize::try_from(usage::peak_rss()? >> 10)?,
            ..Measured::default()
        };
        drop(kept);
        Ok(measured)
    }
}

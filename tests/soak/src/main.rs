//! `cargo xtask soak`: hours on a real cluster under fire. See the library.

#![cfg(unix)]
// A command line speaks to its user on standard output.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use clap::Parser;
use etcd_watch_soak::{Fault, Report, Sabotage, Settings, run};
use etcd_watch_testkit::harness::{EtcdVersion, binaries::Version};
use tokio::sync::watch;

/// Puts watches, mirrors and caches on a real cluster under fire, and checks everything they deliver.
///
/// Ends with status 0 only if no promise was broken. Ctrl-C ends it early, with a report; a second one at once.
#[derive(Parser)]
#[command(name = "soak")]
struct Arguments {
    /// For how long; longer if by then not every kind of fault has been used.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The server: 3.5.30, 3.4.23, or any other that is on this machine.
    #[arg(long, default_value = "3.5.30")]
    version: Version,
    /// Decides what is written, watched and broken.
    #[arg(long)]
    seed: Option<u64>,
    /// How many watches there are at any time.
    #[arg(long)]
    watches: Option<usize>,
    /// How many writes a second, about.
    #[arg(long)]
    writes: Option<u32>,
    /// After how many minutes all members go back to a snapshot again. Default: 4.
    #[arg(long, value_name = "MINUTES")]
    restore_every: Option<f64>,
    /// Only these kinds of faults, by the names that the report has for them, with commas between them.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = fault)]
    faults: Option<Vec<Fault>>,
    /// Few watches and writes, and short faults.
    #[arg(long)]
    light: bool,
    /// Stay in the network and with the mounts of this machine, without the faults that need others.
    #[arg(long)]
    not_apart: bool,
    /// It is in a network and with mounts of its own.
    #[arg(long, hide = true)]
    apart: bool,
    /// Write the plot to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write the report to this file, too.
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Break a promise on purpose: `drop-event` loses one event in 5000, `forget-call` leaves out one call in 500,
    /// `miss-leader` one leader in 50; contenders `write-unfenced`, `jump-queue` or `believe`.
    #[arg(long, hide = true, value_parser = sabotage)]
    sabotage: Option<Sabotage>,
}

fn sabotage(text: &str) -> Result<Sabotage, String> {
    match text {
        "drop-event" => Ok(Sabotage::DropEvent(5000)),
        "forget-call" => Ok(Sabotage::ForgetCall(500)),
        "miss-leader" => Ok(Sabotage::MissLeader(50)),
        "write-unfenced" => Ok(Sabotage::WriteUnfenced),
        "jump-queue" => Ok(Sabotage::JumpQueue),
        "believe" => Ok(Sabotage::Believe),
        _ => Err("there is no such sabotage".to_owned()),
    }
}

fn fault(text: &str) -> Result<Fault, String> {
    let named = Fault::ALL.into_iter().find(|fault| fault.to_string() == text);
    named.ok_or_else(|| format!("there are {}", Fault::ALL.map(|fault| fault.to_string()).join(",")))
}

impl Arguments {
    fn settings(&self) -> Settings {
        let minutes = |minutes: f64| Duration::try_from_secs_f64(minutes * 60.0).unwrap_or_default();
        let duration = minutes(self.minutes);
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
        let mut settings = Settings::new(EtcdVersion::Exact(self.version), duration, seed);
        if self.light {
            settings = settings.light();
        }
        settings.faults = self.faults.clone().unwrap_or(settings.faults);
        settings.is_apart = self.apart;
        settings.watches = self.watches.unwrap_or(settings.watches);
        settings.writes_per_second = self.writes.unwrap_or(settings.writes_per_second);
        settings.restore_every = self.restore_every.map_or(settings.restore_every, minutes);
        settings.sabotage = self.sabotage;
        settings
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.apart {
        // It is down in a new network.
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        if !up.is_ok_and(|status| status.success()) {
            eprintln!("error: can't use a network of its own: `ip link set lo up` failed");
            return ExitCode::from(2);
        }
    } else if !arguments.not_apart {
        go_apart();
    }
    soak(&arguments)
}

/// Becomes the same program in a network and with mounts of its own, if this user may have them: packets can be lost and
/// disks mounted there, and nobody else is concerned. All of it is gone with the last of its processes.
fn go_apart() {
    let as_root = ["--net", "--mount"];
    let as_user = ["--map-root-user", "--net", "--mount"];
    for flags in [&as_root[..], &as_user[..]] {
        let tried = Command::new("unshare").args(flags).args(["ip", "link", "set", "lo", "up"]).output();
        if tried.is_ok_and(|tried| tried.status.success())
            && let Ok(program) = env::current_exe()
        {
            let mut apart = Command::new("unshare");
            let error =
                apart.args(flags).arg("--").arg(program).arg("--apart").args(env::args_os().skip(1)).exec();
            eprintln!("can't run `unshare`: {error}");
            return;
        }
    }
}

#[tokio::main]
async fn soak(arguments: &Arguments) -> ExitCode {
    let settings = arguments.settings();
    println!("etcd {}, {} minutes, seed {}", arguments.version, arguments.minutes, settings.seed);
    match run(settings, interrupted()).await {
        Ok(report) => told(arguments, &report),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Becomes true with the first Ctrl-C; the second one ends the program.
fn interrupted() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if sender.send_replace(true) {
                std::process::exit(130);
            }
            println!("ending early: everything comes to rest and is compared; once more to end at once");
        }
    });
    receiver
}

fn told(arguments: &Arguments, report: &Report) -> ExitCode {
    println!("{report}");
    let text = arguments.text.as_ref().map(|path| (path, format!("{report}\n")));
    let svg = arguments.svg.as_ref().map(|path| (path, report.svg()));
    for (path, content) in text.into_iter().chain(svg) {
        if let Err(error) = fs::write(path, content) {
            eprintln!("error: can't write {}: {error}", path.display());
            return ExitCode::from(2);
        }
    }
    if report.is_flawless() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

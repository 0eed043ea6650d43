//! Standard error: the log, warnings, and the error at the end. What servers say is escaped on its way there.

use std::{
    env, fmt,
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use tracing::Metadata;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{args::Command, output::escape};

/// Events about connections. The error of a command that doesn't get a connection tells the same.
const CONNECTIONS: [&str; 2] = ["endpoint_failed", "stream_replaced"];

/// Events whose news is the error that the command ends with.
const ERRORS: [&str; 3] = ["claim_lost", "lease_lost", "session_lost"];

/// Whether the command is under way: connected, and not at its end. Before and after, what becomes of its
/// connections is told by the error that it ends with, if at all.
static UNDER_WAY: AtomicBool = AtomicBool::new(false);

/// Warnings go to standard error; `RUST_LOG` asks for more. The demo breaks connections on purpose, so its
/// default is not to talk about that.
pub(crate) fn start(command: &Command) {
    let asked_for = env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let level = if command.breaks_connections() { "error" } else { "warn" };
    let filter = asked_for.as_ref().and_then(|filter| EnvFilter::try_new(filter).ok());
    let log = StandardError { all: asked_for.is_some(), goes_on: command.goes_on() };
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new(level)))
        // Escape sequences of the log's own would be escaped like those of others.
        .with_ansi(false)
        .with_writer(log)
        .init();
}

/// From now on warnings about connections are shown, if the command goes on for long.
pub(crate) fn connected() {
    UNDER_WAY.store(true, Ordering::Relaxed);
}

/// From now on they are not: the command connects, or it ends, and its connections with it.
pub(crate) fn connecting_or_ending() {
    UNDER_WAY.store(false, Ordering::Relaxed);
}

/// Writes a warning.
pub(crate) fn warning(text: impl fmt::Display) {
    line("warning", text);
}

/// Writes the error that the command ends with.
pub(crate) fn error(text: impl fmt::Display) {
    line("error", text);
}

fn line(kind: &str, text: impl fmt::Display) {
    // With standard error gone there is nobody to tell.
    let _ = writeln!(io::stderr(), "{kind}: {}", escape::text(&text.to_string()));
}

/// Where the log goes.
struct StandardError {
    /// The user has chosen what to see.
    all: bool,
    /// The command goes on for long.
    goes_on: bool,
}

impl StandardError {
    fn shows(&self, event: &Metadata<'_>) -> bool {
        let (name, under_way) = (event.name(), UNDER_WAY.load(Ordering::Relaxed));
        self.all || !ERRORS.contains(&name) && (self.goes_on && under_way || !CONNECTIONS.contains(&name))
    }
}

impl<'a> MakeWriter<'a> for StandardError {
    type Writer = Escaped;

    fn make_writer(&'a self) -> Escaped {
        Escaped { shown: true }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Escaped {
        Escaped { shown: self.shows(event) }
    }
}

/// Takes a whole line at a time, as the log writes them.
struct Escaped {
    shown: bool,
}

impl Write for Escaped {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.shown {
            let text = escape::text(String::from_utf8_lossy(line).trim_end_matches('\n')) + "\n";
            // With standard error gone there is nobody to tell.
            let _ = io::stderr().write_all(text.as_bytes());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! What is shown while it happens.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    time::Duration,
};

/// How things stand.
pub(super) struct Snapshot<'a> {
    pub(super) elapsed: Duration,
    pub(super) phase: &'a str,
    pub(super) revision: i64,
    pub(super) writes: u64,
    pub(super) cuts: u64,
    pub(super) reconnects: u64,
    pub(super) replays: u64,
    pub(super) fault: &'a str,
    pub(super) watches: Vec<Line>,
}

/// How a watch stands.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) events: u64,
    /// Revisions between it and the store.
    pub(super) behind: i64,
}

/// Redraws a few lines in place on a terminal; adds a line now and then elsewhere.
pub(super) struct View {
    terminal: bool,
    drawn: usize,
}

impl View {
    pub(super) fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), drawn: 0 }
    }

    /// How often to draw.
    pub(super) fn interval(&self) -> Duration {
        if self.terminal { Duration::from_millis(150) } else { Duration::from_secs(1) }
    }

    pub(super) fn draw(&mut self, snapshot: &Snapshot<'_>) -> io::Result<()> {
        let text = if self.terminal { snapshot.panel() } else { snapshot.line() };
        let mut out = String::new();
        if self.terminal && self.drawn > 0 {
            // Writing to a string doesn't fail.
            let _ = write!(out, "\x1b[{}A", self.drawn);
        }
        self.drawn = text.lines().count();
        let clear = if self.terminal { "\x1b[K" } else { "" };
        for line in text.lines() {
            // Nor here.
            let _ = writeln!(out, "{line}{clear}");
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(out.as_bytes())?;
        stdout.flush()
    }
}

/// Events behind which a bar is full.
const FULL_BAR: i64 = 1000;
const BAR: usize = 20;

impl Snapshot<'_> {
    fn line(&self) -> String {
        let events: u64 = self.watches.iter().map(|watch| watch.events).sum();
        let slowest = self.watches.iter().max_by_key(|watch| watch.behind);
        let slowest =
            slowest.map_or_else(String::new, |watch| format!("; {} {} behind", watch.name, watch.behind));
        format!(
            "{:5.1}s {}: revision {}, {events} events delivered, {} cuts, {} reconnects, {} replays; {}{slowest}",
            self.elapsed.as_secs_f64(),
            self.phase,
            self.revision,
            self.cuts,
            self.reconnects,
            self.replays,
            self.fault,
        )
    }

    fn panel(&self) -> String {
        let mut panel = format!(
            "{:5.1} s  {}  revision {}  writes {}\n         cuts {}  reconnects {}  replays {}  now: {}\n\n",
            self.elapsed.as_secs_f64(),
            self.phase,
            self.revision,
            self.writes,
            self.cuts,
            self.reconnects,
            self.replays,
            self.fault,
        );
        for watch in &self.watches {
            let filled =
                usize::try_from(watch.behind.clamp(0, FULL_BAR)).unwrap_or(0) * BAR / FULL_BAR as usize;
            let bar = format!("{}{}", "#".repeat(filled), ".".repeat(BAR - filled));
            // Writing to a string doesn't fail.
            let _ = writeln!(
                panel,
                "  {:<16} {:>8} events  {bar} {:>6} behind",
                watch.name, watch.events, watch.behind
            );
        }
        panel
    }
}

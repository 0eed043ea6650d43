//! What happened in runs.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use etcd_watch_core::Stats;

/// What happened, in one run or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs.
    pub runs: u64,
    /// Simulated time, of all clients together.
    pub client_time: Duration,
    /// Simulated time from each watch's or mirror's beginning to its end, of all of them together.
    pub watch_time: Duration,
    /// Things that happened one after the other.
    pub turns: u64,
    /// Transactions.
    pub writes: u64,
    /// Watches opened by consumers.
    pub watches: u64,
    /// Mirrors opened.
    pub mirrors: u64,
    /// Consumers that came back where they had left.
    pub returns: u64,
    /// Frames that reached a client.
    pub frames: u64,
    /// Responses that consumers took.
    pub responses: u64,
    /// Events in them, each compared with the history.
    pub events: u64,
    /// Times that a mirror's fold was compared with the store.
    pub folds: u64,
    /// Times that a mirror listed.
    pub lists: u64,
    /// Times that it did because the store was another one.
    pub other_stores: u64,
    /// Streams that were lost or given up.
    pub reconnects: u64,
    /// Watches created anew on another stream.
    pub recreates: u64,
    /// Watches that were found to be lost by a proxy.
    pub deaf: u64,
    /// Events that came again, and were dropped.
    pub stale_events: u64,
    /// Events that came below a progress revision.
    pub overtaken_events: u64,
    /// Times that a buffer was full.
    pub overflows: u64,
    /// Faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// How watches ended, by reason.
    pub ends: BTreeMap<String, u64>,
}

impl Counts {
    pub(super) fn absorb(&mut self, stats: &Stats) {
        self.recreates += stats.recreates;
        self.deaf += stats.deaf;
        self.stale_events += stats.stale_events;
        self.overtaken_events += stats.overtaken_events;
    }

    /// Faults of all kinds.
    #[must_use]
    pub fn all_faults(&self) -> u64 {
        self.faults.values().sum()
    }
}

impl AddAssign<&Self> for Counts {
    fn add_assign(&mut self, other: &Self) {
        self.client_time += other.client_time;
        self.watch_time += other.watch_time;
        for (mine, others) in [
            (&mut self.runs, other.runs),
            (&mut self.turns, other.turns),
            (&mut self.writes, other.writes),
            (&mut self.watches, other.watches),
            (&mut self.mirrors, other.mirrors),
            (&mut self.returns, other.returns),
            (&mut self.frames, other.frames),
            (&mut self.responses, other.responses),
            (&mut self.events, other.events),
            (&mut self.folds, other.folds),
            (&mut self.lists, other.lists),
            (&mut self.other_stores, other.other_stores),
            (&mut self.reconnects, other.reconnects),
            (&mut self.recreates, other.recreates),
            (&mut self.deaf, other.deaf),
            (&mut self.stale_events, other.stale_events),
            (&mut self.overtaken_events, other.overtaken_events),
            (&mut self.overflows, other.overflows),
        ] {
            *mine += others;
        }
        for (fault, times) in &other.faults {
            *self.faults.entry(fault).or_default() += times;
        }
        for (end, times) in &other.ends {
            *self.ends.entry(end.clone()).or_default() += times;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = |time: Duration| time.as_secs_f64() / 3600.0;
        writeln!(
            f,
            "{} runs, {:.2} client-hours, {:.2} watch-hours, {} turns",
            self.runs,
            hours(self.client_time),
            hours(self.watch_time),
            self.turns
        )?;
        writeln!(
            f,
            "{} watches and {} mirrors, {} writes, {} frames, {} responses, {} events compared, {} folds compared",
            self.watches, self.mirrors, self.writes, self.frames, self.responses, self.events, self.folds
        )?;
        writeln!(
            f,
            "{} streams lost or given up, {} of them for a deaf watch, {} watches re-created, {} came back, \
             {} lists ({} of another store)",
            self.reconnects, self.deaf, self.recreates, self.returns, self.lists, self.other_stores
        )?;
        writeln!(
            f,
            "{} overflows, {} events that came again, {} below a progress revision",
            self.overflows, self.stale_events, self.overtaken_events
        )?;
        let list = |of: &mut dyn Iterator<Item = (String, u64)>| {
            of.map(|(what, times)| format!("{what} {times}")).collect::<Vec<_>>().join(", ")
        };
        let faults = list(&mut self.faults.iter().map(|(what, times)| ((*what).to_owned(), *times)));
        writeln!(f, "{} faults: {faults}", self.all_faults())?;
        write!(f, "ends: {}", list(&mut self.ends.iter().map(|(what, times)| (what.clone(), *times))))
    }
}

//! What came of a soak.

use std::{collections::BTreeMap, fmt, time::Duration};

use etcd_watch_client::Stats;
use etcd_watch_testkit::linearizable::Checked;

use crate::{
    chart,
    contenders::Contended,
    faults::{Done, Fault},
    finding::Finding,
    lags::Worst,
    samples::Sample,
    settings::Settings,
    watches::Counts,
    writers::Writes,
};

/// What came of a soak. Its text is for people, [`svg`](Report::svg) is the plot.
#[derive(Clone, Debug)]
pub struct Report {
    /// The server's version.
    pub version: String,
    /// What was asked for.
    pub settings: Settings,
    /// How long it took, from the start of the cluster.
    pub lasted: Duration,
    /// The faults, in the order in which they were over.
    pub faults: Vec<Done>,
    /// What was written.
    pub writes: Writes,
    /// What was called and checked, beside what was written.
    pub calls: Checked,
    /// What sessions that contended have come to.
    pub contended: Contended,
    /// The kinds of faults that could not be had, and why.
    pub unavailable: BTreeMap<Fault, String>,
    /// What was watched and checked.
    pub watches: Counts,
    /// Events delivered to consumers of watches.
    pub delivered: u64,
    /// How often mirrors and caches listed their keys again.
    pub lists: u64,
    /// How often a mirror or a cache was compared with the store, key by key.
    pub replicas_compared: u64,
    /// How often the recorder connected.
    pub recorder_connections: u64,
    /// How often all members went back to a snapshot.
    pub restores: usize,
    /// The worst delivery of each class of watch.
    pub worst: Vec<(&'static str, Worst)>,
    /// The worst delivery to an eager consumer in each second, since the soak began, that had any.
    pub lag_by_second: Vec<(u64, Duration)>,
    /// What each client counted.
    pub stats: Vec<(&'static str, Stats)>,
    /// What was seen each second.
    pub samples: Vec<Sample>,
    /// The process's memory when all watches were gone, in bytes; `None` if it didn't come to that.
    pub final_rss: Option<u64>,
    /// The promises that were broken.
    pub findings: Vec<Finding>,
    /// The transcript and the members' directories, which are kept if there are findings.
    pub kept: Vec<String>,
}

const MIB: f64 = 1024.0 * 1024.0;

impl Report {
    /// Whether no promise was broken.
    #[must_use]
    pub fn is_flawless(&self) -> bool {
        self.findings.is_empty()
    }

    /// How often each kind of fault was done that was wanted and could be had.
    #[must_use]
    pub fn faults_by_kind(&self) -> BTreeMap<Fault, usize> {
        let wanted = self.settings.faults.iter().filter(|fault| !self.unavailable.contains_key(fault));
        let mut kinds: BTreeMap<Fault, usize> = wanted.map(|&fault| (fault, 0)).collect();
        for done in &self.faults {
            *kinds.entry(done.fault).or_default() += 1;
        }
        kinds
    }

    /// Events, the worst delivery, memory and watchers over time, with every fault, as an SVG document.
    #[must_use]
    pub fn svg(&self) -> String {
        chart::draw(self)
    }

    fn sum(&self, counter: impl Fn(&Stats) -> u64) -> u64 {
        self.stats.iter().map(|(_, stats)| counter(stats)).sum()
    }

    fn memory(&self) -> String {
        let known: Vec<(Duration, u64)> =
            self.samples.iter().filter_map(|sample| Some((sample.at, sample.rss?))).collect();
        let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / MIB);
        let Some(&(_, most)) = known.iter().max_by_key(|(_, rss)| rss) else { return "not known".to_owned() };
        // The first part has everything growing to its size.
        let at = |part: f64| {
            let moment = self.lasted.mul_f64(part);
            known.iter().find(|(at, _)| *at >= moment).or_else(|| known.last()).map_or(0, |&(_, rss)| rss)
        };
        let last = self.final_rss.map_or_else(String::new, |rss| format!(", {} without watches", mib(rss)));
        format!(
            "{} after a quarter of the time, {} after half, {} after three quarters, {} at most{last}",
            mib(at(0.25)),
            mib(at(0.5)),
            mib(at(0.75)),
            mib(most)
        )
    }

    fn server_watchers(&self) -> String {
        let known: Vec<u64> = self.samples.iter().filter_map(|sample| sample.server_watchers).collect();
        let (most, last) = (known.iter().max(), known.last());
        match (most, last) {
            (Some(most), Some(last)) => format!("{most} at most, {last} in the end"),
            _ => "not known".to_owned(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = self.settings.seed;
        writeln!(f, "etcd {}, seed {seed}, {:.0} s", self.version, self.lasted.as_secs_f64())?;
        let Writes { made, unsure, failed } = self.writes;
        writeln!(f, "writes        {made} made, {unsure} maybe, {failed} not")?;
        let calls = self.calls;
        writeln!(
            f,
            "calls         {}: {} wrote, {} read, {} were not executed; {} maybe, of which {} were; {} leases ran out",
            calls.operations,
            calls.writes,
            calls.reads,
            calls.not_executed,
            calls.unknown,
            calls.executed,
            calls.expired
        )?;
        let Contended { locks, terms, writes, lost, seen } = self.contended;
        writeln!(
            f,
            "turns         {locks} of a lock, {terms} of leaders, {writes} writes in them; {lost} sessions lost; \
             {seen} leaders and values seen"
        )?;
        let counts = self.watches;
        let rate = self.delivered as f64 / self.lasted.as_secs_f64().max(1.0);
        writeln!(
            f,
            "events        {} delivered, {} of them checked, {rate:.0} a second",
            self.delivered, counts.events
        )?;
        writeln!(
            f,
            "watches       {} opened, {} at a time; ended by compaction {}, by lag {}, by a restore {}",
            counts.opened, self.settings.watches, counts.compacted, counts.lagged, counts.restored
        )?;
        writeln!(
            f,
            "streams       {} opened, {} reconnects, {} watches created again, {} overflows",
            self.sum(|stats| stats.opens),
            self.sum(|stats| stats.reconnects),
            self.sum(|stats| stats.recreates),
            self.sum(|stats| stats.overflows)
        )?;
        writeln!(
            f,
            "copies        mirrors and caches compared {} times, listed again {} times",
            self.replicas_compared, self.lists
        )?;
        writeln!(
            f,
            "previous      {} pairs had been compacted away, {} were missing right after a watch was created",
            counts.compacted_pairs, counts.early_pairs
        )?;
        writeln!(f, "dropped       {} events that came again", self.sum(|stats| stats.stale_events))?;
        writeln!(f, "memory        {}", self.memory())?;
        writeln!(f, "on servers    {} watchers", self.server_watchers())?;
        writeln!(f, "recorder      {} connections", self.recorder_connections)?;
        let kinds: Vec<String> =
            self.faults_by_kind().into_iter().map(|(fault, count)| format!("{fault} {count}")).collect();
        writeln!(f, "faults        {} in all: {}", self.faults.len(), kinds.join(", "))?;
        for (fault, why) in &self.unavailable {
            writeln!(f, "NOT USED      {fault}, which is not to be had here: {why}")?;
        }
        writeln!(f, "\n{:<28} {:>12} {:>12} {:>12}", "class of watch", "deliveries", "worst lag", "at")?;
        for (class, worst) in &self.worst {
            let (lag, at) = (worst.lag.as_secs_f64(), worst.at.as_secs_f64());
            writeln!(f, "{class:<28} {:>12} {lag:>10.3} s {at:>10.1} s", worst.deliveries)?;
        }
        writeln!(f)?;
        if self.is_flawless() {
            return write!(f, "Nothing was lost, repeated, reordered or split, and nothing hung.");
        }
        for finding in &self.findings {
            writeln!(f, "BROKEN: {finding}")?;
        }
        writeln!(f, "The seed was {seed}. Kept, to be looked at:")?;
        write!(f, "{}", self.kept.join("\n"))
    }
}

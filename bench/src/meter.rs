//! What a client has taken, and what that has cost its process.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::usage;

/// What a client's process tells of its run, as a line of JSON.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Figures {
    /// Events that were taken.
    pub events: u64,
    /// The revision of the last; `None` from a client that doesn't decode.
    pub last_revision: Option<i64>,
    /// Bytes of their keys and values; for a client that doesn't decode, of all data.
    pub bytes: u64,
    /// Processor time of the process, from the first response to the last event.
    pub cpu_seconds: f64,
    /// Time from the first response to the last event.
    pub wall_seconds: f64,
    /// The most memory that the process has had, in bytes.
    pub peak_rss: u64,
    /// From sending to taking, if the values carry the time of sending.
    pub latency: Option<Latency>,
}

/// What a server's process tells of its run, as a line of JSON.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Served {
    /// Responses that were sent.
    pub responses: u64,
    /// Events in them.
    pub events: u64,
    /// The revision of the last.
    pub last_revision: i64,
    /// Watches that the client has cancelled and created again.
    pub recreated: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Processor time of the process, from the first response to the last.
    pub cpu_seconds: f64,
    /// Time from the first response to the last.
    pub wall_seconds: f64,
}

/// From sending to taking, in microseconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Latency {
    /// Half of the events took at most so long.
    pub p50: f64,
    /// 99 % of the events took at most so long.
    pub p99: f64,
    /// 99.9 % of the events took at most so long.
    pub p999: f64,
}

/// Counts what a client takes.
#[derive(Debug)]
pub struct Meter {
    expected: u64,
    begun: Option<(Instant, Duration)>,
    events: u64,
    bytes: u64,
    last_revision: Option<i64>,
    /// In nanoseconds.
    latencies: Option<Vec<u64>>,
}

impl Meter {
    /// For so many events; `is_stamped` says that their values carry the time of sending.
    #[must_use]
    pub fn new(expected: u64, is_stamped: bool) -> Self {
        let latencies = is_stamped.then(Vec::new);
        Self { expected, begun: None, events: 0, bytes: 0, last_revision: None, latencies }
    }

    /// A response is there: with the first, time begins.
    pub fn response(&mut self) {
        self.begun.get_or_insert_with(|| (Instant::now(), usage::cpu()));
    }

    /// An event has been taken.
    pub fn event(&mut self, key: &[u8], value: &[u8], revision: i64) {
        self.events += 1;
        self.bytes += (key.len() + value.len()) as u64;
        self.last_revision = self.last_revision.max(Some(revision));
        if let Some(latencies) = &mut self.latencies
            && let Some(stamp) = value.first_chunk()
        {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            latencies.push((now.as_nanos() as u64).saturating_sub(u64::from_le_bytes(*stamp)));
        }
    }

    /// Data has been taken and not been decoded: so many events and bytes.
    pub fn undecoded(&mut self, events: u64, bytes: u64) {
        self.events += events;
        self.bytes += bytes;
    }

    /// Whether all events have been taken that were expected.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.events >= self.expected
    }

    /// What it all has cost, up to now.
    ///
    /// # Errors
    /// The system doesn't tell.
    pub fn figures(&mut self) -> Result<Figures> {
        let (start, cpu) = self.begun.unwrap_or_else(|| (Instant::now(), usage::cpu()));
        let cpu_seconds = (usage::cpu() - cpu).as_secs_f64();
        let wall_seconds = start.elapsed().as_secs_f64();
        let latency = self.latencies.as_mut().and_then(|latencies| Latency::of(latencies));
        Ok(Figures {
            events: self.events,
            last_revision: self.last_revision,
            bytes: self.bytes,
            cpu_seconds,
            wall_seconds,
            peak_rss: usage::peak_rss()?,
            latency,
        })
    }
}

impl Latency {
    fn of(nanos: &mut [u64]) -> Option<Self> {
        nanos.sort_unstable();
        let at = |share: f64| {
            let index = (nanos.len() as f64 * share).ceil() as usize;
            Some(*nanos.get(index.saturating_sub(1))? as f64 / 1000.0)
        };
        Some(Self { p50: at(0.5)?, p99: at(0.99)?, p999: at(0.999)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_smallest_that_enough_events_reach() {
        let mut nanos: Vec<u64> = (1..=1000).rev().map(|micros| micros * 1000).collect();
        let latency = Latency::of(&mut nanos).expect("there are some");
        assert_eq!([latency.p50, latency.p99, latency.p999], [500.0, 990.0, 999.0]);
        assert!(Latency::of(&mut []).is_none());
    }

    #[test]
    fn the_last_revision_is_the_highest_whatever_the_order() {
        let mut meter = Meter::new(3, false);
        meter.response();
        for revision in [5, 9, 7] {
            assert!(!meter.is_done());
            meter.event(b"key", b"value", revision);
        }
        assert!(meter.is_done());
        let figures = meter.figures().expect("Linux tells");
        assert_eq!((figures.events, figures.bytes, figures.last_revision), (3, 24, Some(9)));
    }
}

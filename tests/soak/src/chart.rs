//! The plot: what a soak did over time, and below it what was done to the cluster.

use std::time::Duration;

use crate::{
    faults::{Fault, Target},
    report::Report,
    svg::{Anchor, Svg},
};

const WIDTH: f64 = 1200.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 94.0;
const PANEL: f64 = 130.0;
const GAP: f64 = 46.0;
const ROW: f64 = 17.0;
const BOTTOM: f64 = 64.0;
/// No more points than this on a line: more can't be told apart.
const MOST_POINTS: usize = 500;

const GRID: &str = "#e4e4e4";
const AXIS: &str = "#555";
const RESTORE: &str = "#7a3fb0";

/// How values become heights.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    /// From 0 up to this.
    Linear(f64),
    /// From one power of ten to another.
    Powers(i32, i32),
}

struct Panel<'a> {
    title: &'a str,
    color: &'a str,
    scale: Scale,
    unit: fn(f64) -> String,
    /// Seconds and values.
    points: Vec<(f64, f64)>,
    /// Points for themselves rather than a line.
    is_scattered: bool,
}

/// Where seconds lie.
#[derive(Clone, Copy)]
struct Times {
    end: f64,
}

impl Times {
    fn x(self, seconds: f64) -> f64 {
        LEFT + (seconds / self.end).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }
}

pub(crate) fn draw(report: &Report) -> String {
    let times = Times { end: report.lasted.as_secs_f64().max(1.0) };
    let panels = panels(report);
    let rows_top = TOP + panels.len() as f64 * (PANEL + GAP);
    let rows_bottom = rows_top + report.faults_by_kind().len() as f64 * ROW;
    let mut svg = Svg::new(WIDTH, rows_bottom + BOTTOM);
    heading(&mut svg, report);
    for restore in report.faults.iter().filter(|done| done.fault == Fault::Restore) {
        let (from, to) = (times.x(restore.from.as_secs_f64()), times.x(restore.to.as_secs_f64()));
        svg.rectangle((from, TOP), ((to - from).max(2.0), rows_bottom - TOP), RESTORE, 0.1);
    }
    for (number, panel) in panels.iter().enumerate() {
        panel.draw(&mut svg, times, TOP + number as f64 * (PANEL + GAP));
    }
    fault_rows(&mut svg, report, times, rows_top);
    time_axis(&mut svg, times, rows_bottom);
    svg.finish()
}

fn heading(svg: &mut Svg, report: &Report) {
    let minutes = report.lasted.as_secs_f64() / 60.0;
    let title = format!("{minutes:.1} minutes on three members of etcd {} under fire", report.version);
    svg.text((LEFT, 28.0), Anchor::Start, 19.0, &title);
    let broken = report.findings.len();
    let result =
        if broken == 0 { "no promise broken".to_owned() } else { format!("{broken} PROMISES BROKEN") };
    let line = format!(
        "seed {}: {} watches at a time, {} events checked, {} faults; {result}",
        report.settings.seed,
        report.settings.watches,
        grouped(report.watches.events),
        report.faults.len()
    );
    svg.text((LEFT, 50.0), Anchor::Start, 13.0, &line);
}

/// A number with a space between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join("\u{2009}")
}

fn panels(report: &Report) -> Vec<Panel<'_>> {
    let samples = &report.samples;
    let rates = samples.windows(2).filter_map(|pair| {
        let [before, after] = pair else { return None };
        let seconds = (after.at - before.at).as_secs_f64();
        let events = after.delivered.saturating_sub(before.delivered) as f64;
        (seconds > 0.0).then(|| (after.at.as_secs_f64(), events / seconds))
    });
    let rates =
        condense(&rates.collect::<Vec<_>>(), |values| values.iter().sum::<f64>() / values.len() as f64);
    let lags: Vec<(f64, f64)> =
        report.lag_by_second.iter().map(|&(second, lag)| (second as f64 + 0.5, milliseconds(lag))).collect();
    let lags = condense(&lags, |values| values.iter().copied().fold(0.0, f64::max));
    let memory = samples.iter().filter_map(|one| Some((one.at.as_secs_f64(), one.rss? as f64 / 1048576.0)));
    let memory = condense(&memory.collect::<Vec<_>>(), last);
    let watchers = samples.iter().filter_map(|one| Some((one.at.as_secs_f64(), one.server_watchers? as f64)));
    let watchers = condense(&watchers.collect::<Vec<_>>(), last);
    let linear = |points: &[(f64, f64)]| Scale::Linear(points.iter().map(|&(_, y)| y).fold(1.0, f64::max));
    vec![
        Panel {
            title: "Events delivered to consumers of watches, per second",
            color: "#1f6fb4",
            scale: linear(&rates),
            unit: |value| format!("{value} /s"),
            points: rates,
            is_scattered: false,
        },
        Panel {
            title: "Worst delivery in each second: from a write's acknowledgement to an eager consumer (log scale)",
            color: "#c2411c",
            scale: Scale::Powers(0, 5),
            unit: |value| {
                if value < 1000.0 { format!("{value} ms") } else { format!("{} s", value / 1000.0) }
            },
            points: lags,
            is_scattered: true,
        },
        Panel {
            title: "Memory of the process: all clients, the checker and its history",
            color: "#2b8a3e",
            scale: linear(&memory),
            unit: |value| format!("{value} MiB"),
            points: memory,
            is_scattered: false,
        },
        Panel {
            title: "Watches on the servers, while all members can be asked",
            color: "#555577",
            scale: linear(&watchers),
            unit: |value| format!("{value}"),
            points: watchers,
            is_scattered: false,
        },
    ]
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn last(values: &[f64]) -> f64 {
    values.last().copied().unwrap_or(0.0)
}

/// Makes one point of several, where there are more than can be told apart.
fn condense(points: &[(f64, f64)], value: fn(&[f64]) -> f64) -> Vec<(f64, f64)> {
    let count = points.len().div_ceil(MOST_POINTS).max(1);
    let condensed = points.chunks(count).map(|chunk| {
        let values: Vec<f64> = chunk.iter().map(|&(_, value)| value).collect();
        (chunk[chunk.len() / 2].0, value(&values))
    });
    condensed.collect()
}

impl Panel<'_> {
    fn draw(&self, svg: &mut Svg, times: Times, top: f64) {
        let bottom = top + PANEL;
        svg.text((LEFT, top - 8.0), Anchor::Start, 13.0, self.title);
        for tick in self.scale.ticks() {
            let y = bottom - self.scale.part(tick) * PANEL;
            svg.line((LEFT, y), (WIDTH - RIGHT, y), GRID, 1.0);
            svg.text((LEFT - 8.0, y + 4.0), Anchor::End, 11.0, &(self.unit)(tick));
        }
        for x in times.ticks().map(|tick| times.x(tick)) {
            svg.line((x, top), (x, bottom), GRID, 1.0);
        }
        svg.line((LEFT, top), (LEFT, bottom), AXIS, 1.0);
        svg.line((LEFT, bottom), (WIDTH - RIGHT, bottom), AXIS, 1.0);
        let points: Vec<(f64, f64)> =
            self.points.iter().map(|&(x, y)| (times.x(x), bottom - self.scale.part(y) * PANEL)).collect();
        if self.is_scattered {
            points.iter().for_each(|&(x, y)| svg.rectangle((x - 1.5, y - 1.5), (3.0, 3.0), self.color, 0.9));
        } else {
            svg.curve(&points, self.color);
        }
    }
}

impl Scale {
    /// How far up a value lies, from 0 to 1.
    fn part(self, value: f64) -> f64 {
        let part = match self {
            Self::Linear(_) => value / self.ticks().last().copied().unwrap_or(1.0),
            Self::Powers(low, high) => {
                (value.max(f64::MIN_POSITIVE).log10() - f64::from(low)) / f64::from(high - low)
            }
        };
        part.clamp(0.0, 1.0)
    }

    fn ticks(self) -> Vec<f64> {
        match self {
            Self::Linear(most) => {
                let step = round_step(most / 4.0);
                let count = (most / step).ceil().max(1.0) as u32;
                (0..=count).map(|number| f64::from(number) * step).collect()
            }
            Self::Powers(low, high) => (low..=high).map(|power| 10f64.powi(power)).collect(),
        }
    }
}

/// 1, 2 or 5 times a power of ten, at least as large.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(f64::MIN_POSITIVE).log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|times| times * power).find(|&step| step >= least).unwrap_or(10.0 * power)
}

impl Times {
    fn is_long(self) -> bool {
        self.end > 300.0
    }

    /// In seconds.
    fn ticks(self) -> impl Iterator<Item = f64> {
        let unit = if self.is_long() { 60.0 } else { 1.0 };
        let step = round_step(self.end / unit / 15.0).max(1.0) * unit;
        (0u32..).map(move |number| f64::from(number) * step).take_while(move |&tick| tick <= self.end)
    }
}

fn time_axis(svg: &mut Svg, times: Times, bottom: f64) {
    svg.line((LEFT, bottom), (WIDTH - RIGHT, bottom), AXIS, 1.0);
    for tick in times.ticks() {
        let x = times.x(tick);
        svg.line((x, bottom), (x, bottom + 5.0), AXIS, 1.0);
        let shown = if times.is_long() { tick / 60.0 } else { tick };
        svg.text((x, bottom + 19.0), Anchor::Middle, 11.0, &format!("{shown}"));
    }
    let unit = if times.is_long() { "minutes" } else { "seconds" };
    svg.text((WIDTH / 2.0, bottom + 38.0), Anchor::Middle, 12.0, &format!("{unit} since the soak began"));
    let mut x = LEFT;
    for (target, what) in [
        (Target::Member, "a member"),
        (Target::Link, "the way from clients to members"),
        (Target::Store, "the store (restores also shaded)"),
    ] {
        svg.rectangle((x, bottom + 48.0), (12.0, 8.0), color(target), 0.9);
        svg.text((x + 17.0, bottom + 56.0), Anchor::Start, 11.0, what);
        x += 40.0 + 6.2 * what.len() as f64;
    }
}

fn color(target: Target) -> &'static str {
    match target {
        Target::Member => "#c92a2a",
        Target::Link => "#e8890c",
        Target::Store => RESTORE,
    }
}

fn fault_rows(svg: &mut Svg, report: &Report, times: Times, top: f64) {
    svg.text(
        (LEFT, top - 8.0),
        Anchor::Start,
        13.0,
        "Faults, from their beginning until all was whole again",
    );
    for (number, (fault, count)) in report.faults_by_kind().into_iter().enumerate() {
        let y = top + number as f64 * ROW;
        svg.line((LEFT, y + ROW), (WIDTH - RIGHT, y + ROW), GRID, 1.0);
        svg.text((LEFT - 8.0, y + ROW - 5.0), Anchor::End, 11.0, &format!("{fault} ({count})"));
        for done in report.faults.iter().filter(|done| done.fault == fault) {
            let (from, to) = (times.x(done.from.as_secs_f64()), times.x(done.to.as_secs_f64()));
            svg.rectangle((from, y + 3.0), ((to - from).max(2.0), ROW - 6.0), color(fault.target()), 0.9);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_over_the_largest_value() {
        assert_eq!(Scale::Linear(900.0).ticks(), [0.0, 500.0, 1000.0]);
        assert_eq!(Scale::Linear(1000.0).ticks(), [0.0, 500.0, 1000.0]);
        assert_eq!(Scale::Linear(75.0).ticks(), [0.0, 20.0, 40.0, 60.0, 80.0]);
        assert_eq!(Scale::Powers(0, 2).ticks(), [1.0, 10.0, 100.0]);
        assert_eq!((Scale::Linear(75.0).part(40.0), Scale::Powers(0, 2).part(10.0)), (0.5, 0.5));
    }

    #[test]
    fn what_lies_beyond_a_scale_is_drawn_at_its_edge() {
        assert_eq!((Scale::Powers(0, 2).part(0.0), Scale::Powers(0, 2).part(1e9)), (0.0, 1.0));
        assert_eq!(Times { end: 10.0 }.x(11.0), WIDTH - RIGHT);
    }

    #[test]
    fn large_numbers_are_easy_to_read() {
        assert_eq!(grouped(12_345_678).replace('\u{2009}', " "), "12 345 678");
        assert_eq!(grouped(0), "0");
    }

    #[test]
    fn many_points_are_made_few_and_the_worst_stays() {
        let points: Vec<(f64, f64)> = (0..5000).map(|n| (f64::from(n), f64::from(n % 1000))).collect();
        let condensed = condense(&points, |values| values.iter().copied().fold(0.0, f64::max));
        assert!(condensed.len() <= MOST_POINTS);
        assert_eq!(condensed.iter().map(|&(_, y)| y).fold(0.0, f64::max), 999.0);
    }
}

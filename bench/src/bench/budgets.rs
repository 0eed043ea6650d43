//! What the watches may cost: the goals that the figures are held to.

use crate::results::{Results, Table};

/// A goal.
struct Budget {
    name: &'static str,
    /// The name of the figure.
    figure: &'static str,
    bound: Bound,
    unit: &'static str,
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

const fn at_most(name: &'static str, figure: &'static str, bound: f64, unit: &'static str) -> Budget {
    Budget { name, figure, bound: Bound::AtMost(bound), unit }
}

const fn at_least(name: &'static str, figure: &'static str, bound: f64, unit: &'static str) -> Budget {
    Budget { name, figure, bound: Bound::AtLeast(bound), unit }
}

const BUDGETS: &[Budget] = &[
    at_most(
        "CPU, 100 x 256 B, tokio",
        "events/100 x 256 B/etcd-watch-tokio, one thread",
        0.60,
        "x tonic + prost",
    ),
    at_most(
        "CPU, 100 x 256 B, smol",
        "events/100 x 256 B/etcd-watch-smol, one thread",
        0.60,
        "x tonic + prost",
    ),
    at_most(
        "CPU, 100 x 32 B, tokio",
        "events/100 x 32 B/etcd-watch-tokio, one thread",
        0.35,
        "x tonic + prost",
    ),
    at_most(
        "CPU, 100 x 32 B, smol",
        "events/100 x 32 B/etcd-watch-smol, one thread",
        0.35,
        "x tonic + prost",
    ),
    at_most(
        "CPU, 1 x 256 B, tokio",
        "events/1 x 256 B/etcd-watch-tokio, one thread",
        0.85,
        "x tonic + prost",
    ),
    at_most("CPU, 1 x 256 B, smol", "events/1 x 256 B/etcd-watch-smol, one thread", 0.85, "x tonic + prost"),
    at_most("a frame with 100,000 watches", "watches/growth", 1.5, "x one watch"),
    at_most("creation of 10,000 watches", "create/ratio", 1.1, "x pipelined by hand"),
    at_most("resume of 10,000 watches", "resume/ratio", 0.1, "x clientv3"),
    // A watch's buffer has 16 MiB. 8 MB more are allowed.
    at_most("memory of a stuck consumer", "stuck/mib", 16.0 + 8e6 / 1_048_576.0, "MiB"),
    at_least("speed beside a stuck consumer", "stuck/speed", 0.95, "x without"),
    at_most("latency at 1,000 events/s, p50", "latency/1000/p50", 10.0, "us over tonic + prost"),
    at_most("latency at 1,000 events/s, p99", "latency/1000/p99", 1.10, "x tonic + prost"),
    at_most("latency at 20,000 events/s, p50", "latency/20000/p50", 10.0, "us over tonic + prost"),
    at_most("latency at 20,000 events/s, p99", "latency/20000/p99", 1.10, "x tonic + prost"),
    at_most("an idle watch of 100,000, tokio", "idle/bytes/etcd-watch-tokio, one thread", 512.0, "B"),
    at_most("an idle watch of 100,000, smol", "idle/bytes/etcd-watch-smol, one thread", 512.0, "B"),
    at_most("a scrape with 100,000 watches", "idle/scrape", 1.0, "ms"),
];

impl Budget {
    fn is_met(&self, figure: f64) -> bool {
        match self.bound {
            Bound::AtMost(bound) => figure <= bound,
            Bound::AtLeast(bound) => figure >= bound,
        }
    }

    fn told(&self) -> String {
        let (word, bound) = match self.bound {
            Bound::AtMost(bound) => ("at most", bound),
            Bound::AtLeast(bound) => ("at least", bound),
        };
        format!("{word} {} {}", number(bound), self.unit)
    }
}

fn number(figure: f64) -> String {
    if figure >= 100.0 { format!("{figure:.0}") } else { format!("{figure:.2}") }
}

/// Every goal with its verdict. A goal that was not measured is listed only if everything was to be measured.
pub(crate) fn table(results: &Results, is_whole: bool) -> Table {
    let mut table = Table::new("budgets", ["budget", "bound", "measured", ""]);
    for budget in BUDGETS {
        let (measured, verdict) = match results.get(budget.figure) {
            None if !is_whole => continue,
            None => ("not measured".to_owned(), ""),
            Some(figure) if budget.is_met(figure) => (number(figure), "met"),
            Some(figure) => (number(figure), "**not met**"),
        };
        table.row([budget.name.to_owned(), budget.told(), measured, verdict.to_owned()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(figures: &[(&str, f64)]) -> Vec<String> {
        let mut results = Results::default();
        figures.iter().for_each(|&(name, figure)| results.set(name, figure));
        table(&results, true)
            .rows
            .into_iter()
            .map(|row| row[3].clone())
            .filter(|verdict| !verdict.is_empty())
            .collect()
    }

    #[test]
    fn a_budget_is_met_up_to_its_bound() {
        assert_eq!(verdicts(&[("create/ratio", 1.1)]), ["met"]);
        assert_eq!(verdicts(&[("create/ratio", 1.11)]), ["**not met**"]);
        assert_eq!(verdicts(&[("stuck/speed", 0.95)]), ["met"]);
        assert_eq!(verdicts(&[("stuck/speed", 0.94)]), ["**not met**"]);
        assert_eq!(verdicts(&[("stuck/speed", f64::NAN)]), ["**not met**"]);
    }

    #[test]
    fn what_is_not_measured_is_neither_met_nor_not() {
        assert!(verdicts(&[]).is_empty());
        let results = Results::default();
        assert_eq!(table(&results, true).rows.len(), BUDGETS.len());
        assert!(table(&results, false).rows.is_empty());
    }
}

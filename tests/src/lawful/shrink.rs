//! Making a history that fails shorter and simpler.

use etcd_watch_core::Overflow;
use proptest::strategy::ValueTree;

use super::{Change, History, Plan, Step};

/// Histories that are this short are worth a look at every two of their steps.
const PAIRS_BELOW: usize = 12;

/// A history on its way to a small one: steps are left out, in runs and then one by one, and what is left is
/// made simpler, over and over until nothing more can be.
#[derive(Clone, Debug)]
pub struct Shrinker {
    /// The smallest so far that fails.
    best: History,
    /// The one to try.
    current: History,
    pass: Pass,
    /// How far the pass has come.
    at: usize,
    /// Whether anything has become smaller since the first pass was last begun.
    has_improved: bool,
    is_tried: bool,
}

#[derive(Clone, Copy, Debug)]
enum Pass {
    /// So many steps at once are left out, the last ones first.
    Remove(usize),
    Simplify,
}

impl Shrinker {
    pub(super) fn new(history: History) -> Self {
        let pass = Pass::first(&history);
        Self { best: history.clone(), current: history, pass, at: 0, has_improved: false, is_tried: false }
    }

    fn next(&mut self) -> bool {
        loop {
            match self.pass {
                Pass::Remove(count) => {
                    let end = self.best.steps.len().saturating_sub(self.at);
                    if end > 0 {
                        self.current = self.best.clone();
                        self.current.steps.drain(end.saturating_sub(count)..end);
                        return true;
                    }
                    self.pass = if count > 1 { Pass::Remove(count / 2) } else { Pass::Simplify };
                }
                Pass::Simplify => {
                    if let Some(simpler) = simpler(&self.best).nth(self.at) {
                        self.current = simpler;
                        return true;
                    }
                    if !std::mem::take(&mut self.has_improved) {
                        self.current = self.best.clone();
                        return false;
                    }
                    self.pass = Pass::first(&self.best);
                }
            }
            self.at = 0;
        }
    }
}

impl Pass {
    fn first(history: &History) -> Self {
        Self::Remove((history.steps.len() / 2).max(1))
    }
}

impl ValueTree for Shrinker {
    type Value = History;

    fn current(&self) -> History {
        self.current.clone()
    }

    fn simplify(&mut self) -> bool {
        if std::mem::replace(&mut self.is_tried, true) {
            self.best = self.current.clone();
            self.has_improved = true;
        }
        self.next()
    }

    fn complicate(&mut self) -> bool {
        self.at += match self.pass {
            Pass::Remove(count) => count,
            Pass::Simplify => 1,
        };
        self.next()
    }
}

/// Everything that is a little simpler. There is no way in a circle: each change makes something smaller, or
/// puts a plainer kind of step in a step's place.
fn simpler(history: &History) -> impl Iterator<Item = History> {
    let plans = simpler_plans(history.plan).map(|plan| History { plan, ..history.clone() });
    plans.chain(with_a_simpler_step(history)).chain(renamed(history)).chain(pairs(history))
}

fn with_a_simpler_step(history: &History) -> impl Iterator<Item = History> {
    history.steps.iter().enumerate().flat_map(move |(index, step)| {
        simpler_steps(step).into_iter().map(move |step| {
            let mut simpler = history.clone();
            simpler.steps[index] = step;
            simpler
        })
    })
}

/// One step less and another left out or made simpler, where either alone would not do: a write and its delete,
/// a write and the count of those before a crash.
fn pairs(history: &History) -> impl Iterator<Item = History> {
    let steps = if history.steps.len() <= PAIRS_BELOW { history.steps.len() } else { 0 };
    (0..steps).flat_map(move |index| {
        let mut shorter = history.clone();
        shorter.steps.remove(index);
        let twice = (index..shorter.steps.len()).map(|other| {
            let mut shorter = shorter.clone();
            shorter.steps.remove(other);
            shorter
        });
        twice.chain(with_a_simpler_step(&shorter)).collect::<Vec<_>>()
    })
}

/// With one key less, or a later one called by an earlier one's name.
fn renamed(history: &History) -> impl Iterator<Item = History> {
    let keys = history.keyspace.len();
    let pairs = (1..keys).flat_map(|from| (0..from).map(move |to| (from, to)));
    pairs.filter_map(move |(from, to)| {
        let mut simpler = history.clone();
        let mut has_changed = false;
        for key in simpler.steps.iter_mut().flat_map(Step::keys_mut).filter(|key| **key == from) {
            *key = to;
            has_changed = true;
        }
        has_changed.then_some(simpler)
    })
}

fn simpler_plans(plan: Plan) -> impl Iterator<Item = Plan> {
    let calm = Plan::default();
    let each = [
        Plan { seed: calm.seed, ..plan },
        Plan { page_bytes: calm.page_bytes, ..plan },
        Plan { overflow: calm.overflow, ..plan },
        Plan {
            overflow: if plan.overflow == Overflow::Fail { Overflow::Pause } else { plan.overflow },
            ..plan
        },
        Plan { buffer_bytes: calm.buffer_bytes, ..plan },
        Plan { batch_events: calm.batch_events, ..plan },
        Plan { max_revision_bytes: calm.max_revision_bytes, ..plan },
        Plan { watch_queue: calm.watch_queue, ..plan },
        Plan { batch_revisions: calm.batch_revisions, ..plan },
        Plan { fragment_bytes: calm.fragment_bytes, ..plan },
        Plan { old_server: calm.old_server, ..plan },
    ];
    [calm].into_iter().chain(each).filter(move |simpler| *simpler != plan)
}

fn simpler_steps(step: &Step) -> Vec<Step> {
    let less = |count: u32| {
        [1, count / 2, count.saturating_sub(1)].into_iter().filter(move |&less| (1..count).contains(&less))
    };
    match *step {
        Step::Write(ref changes) => {
            simpler_changes(changes).filter(|changes| !changes.is_empty()).map(Step::Write).collect()
        }
        Step::Replace(ref changes) => simpler_changes(changes).map(Step::Replace).collect(),
        Step::Lease { key, value, seconds } => {
            let put = Step::Write(vec![Change::Put { key, value }]);
            let shorter = less(seconds).map(|seconds| Step::Lease { key, value, seconds });
            [put].into_iter().chain(shorter).collect()
        }
        Step::Compact { behind } if behind > 0 => vec![Step::Compact { behind: 0 }],
        Step::Restore { back } if back > 1 => vec![Step::Restore { back: 1 }],
        Step::Wait { seconds } => less(seconds).map(|seconds| Step::Wait { seconds }).collect(),
        Step::Carry(count) => [Step::Flow].into_iter().chain(less(count).map(Step::Carry)).collect(),
        Step::Take(count) => [Step::Flow].into_iter().chain(less(count).map(Step::Take)).collect(),
        Step::Crash { points } => {
            let sooner = (points > 0).then(|| Step::Crash { points: points - 1 });
            [Step::Restart].into_iter().chain(sooner).collect()
        }
        Step::Compact { .. }
        | Step::Restore { .. }
        | Step::DeleteAll
        | Step::Cut
        | Step::Refuse
        | Step::Flow
        | Step::AskProgress
        | Step::Restart => Vec::new(),
    }
}

fn simpler_changes(changes: &[Change]) -> impl Iterator<Item = Vec<Change>> {
    let fewer = (0..changes.len()).map(|index| [&changes[..index], &changes[index + 1..]].concat());
    let simpler = changes.iter().enumerate().flat_map(move |(index, &change)| {
        simpler_change(change).into_iter().map(move |change| {
            let mut simpler = changes.to_vec();
            simpler[index] = change;
            simpler
        })
    });
    fewer.chain(simpler)
}

fn simpler_change(change: Change) -> Vec<Change> {
    match change {
        Change::Put { key, value } => {
            let smaller =
                |number: u32| (0..number).next().into_iter().chain((number > 1).then(|| number - 1));
            let keys = (0..key).map(|key| Change::Put { key, value });
            keys.chain(smaller(value).map(|value| Change::Put { key, value })).collect()
        }
        Change::Delete { key } => (0..key).map(|key| Change::Delete { key }).collect(),
    }
}

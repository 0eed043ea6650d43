//! The replay: every operation is held against the store as it was at the operation's revision.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd_watch_core::Refusal;
use etcd_watch_proto::mvccpb::{Event, KeyValue, event::EventType};

use super::{
    Rule, Violation,
    checked::Checked,
    claims::Claims,
    history::{Answer, Demand, Operation, Outcome, Request},
    leases::Leases,
    order::Seen,
    spec::{State, reads_the_past},
    truth::Truth,
    unclaimed::{Maker, Unclaimed, assign},
};
use crate::model::{ModelConfig, ModelEtcd};

/// Holds what clients saw against what really happened, on a server that is like this model. The truth has to reach
/// past the last answer.
///
/// # Errors
/// Every rule that was broken, each time it was.
pub fn check(history: &[Operation], truth: &Truth, config: &ModelConfig) -> Result<Checked, Vec<Violation>> {
    let (claims, violations) = Claims::of(history, truth);
    let checked = Checked { operations: history.len(), unverified: claims.too_old, ..Checked::default() };
    let mut owners: BTreeMap<Bytes, Vec<usize>> = BTreeMap::new();
    for (number, operation) in history.iter().enumerate() {
        operation.values().into_iter().for_each(|value| owners.entry(value).or_default().push(number));
    }
    let mut checker = Checker {
        history,
        truth,
        config,
        seen: Seen::of(history, truth.base()),
        leases: Leases::of(history, truth),
        claims,
        owners,
        unclaimed: Vec::new(),
        violations,
        checked,
    };
    checker.replay();
    checker.explain();
    checker.hold_against_time();
    checker.finish()
}

/// A check under way.
pub(super) struct Checker<'a> {
    pub(super) history: &'a [Operation],
    truth: &'a Truth,
    pub(super) config: &'a ModelConfig,
    pub(super) seen: Seen,
    pub(super) leases: Leases<'a>,
    claims: Claims,
    /// Who would put which value.
    pub(super) owners: BTreeMap<Bytes, Vec<usize>>,
    unclaimed: Vec<Unclaimed>,
    violations: Vec<Violation>,
    checked: Checked,
}

impl Checker<'_> {
    fn broken(&mut self, rule: Rule, operation: Option<usize>, revision: i64, what: impl Into<String>) {
        self.violations.push(Violation { rule, operation, revision, what: what.into() });
    }

    /// Goes through the revisions in their order.
    fn replay(&mut self) {
        let truth = self.truth;
        if let Some(found) = truth.gap() {
            let what = format!("revision {found} came after {}", truth.through());
            self.broken(Rule::Truth, None, found, what);
        }
        let mut state = State::new(truth.base(), truth.pairs());
        let mut store = ModelEtcd::starting_at(self.config.clone(), truth.base(), truth.pairs().to_vec());
        self.hold_readers(&state, &store);
        for (revision, events) in truth.revisions() {
            self.hold_writer(revision, &state, events);
            let known = store.history().len();
            match events {
                [] => store.apply(&[others(truth.key_of_others())]),
                events => store.apply(events),
            }
            let fits = store.history()[known..].iter().map(|change| change.to_event());
            if store.revision() != revision || (!events.is_empty() && !fits.eq(events.iter().cloned())) {
                self.broken(Rule::Truth, None, revision, "the changes don't fit what was there before");
                return;
            }
            state.apply(events);
            self.hold_readers(&state, &store);
        }
    }

    /// Whoever made a revision has to have done exactly this, and to say so.
    fn hold_writer(&mut self, revision: i64, before: &State, events: &[Event]) {
        let history = self.history;
        let revoke = |claims: &Claims| {
            claims.readers(revision).iter().copied().find(|number| match &history[*number].request {
                Request::Revoke(revoke) => before.is_end_of(revoke.id, events),
                _ => false,
            })
        };
        if let Some(number) = self.claims.writer(revision) {
            self.compare_write(number, revision, before, events);
        } else if let Some(number) = revoke(&self.claims) {
            self.claims.promote(number, revision);
            self.compare_write(number, revision, before, events);
        } else if !events.is_empty() {
            let unclaimed = self.makers(revision, before, events);
            self.unclaimed.push(unclaimed);
        }
    }

    fn compare_write(&mut self, number: usize, revision: i64, before: &State, events: &[Event]) {
        let Operation { request, outcome, .. } = &self.history[number];
        self.checked.writes += 1;
        let past = reads_the_past(request);
        match before.make(request, self.config) {
            _ if past => self.checked.unverified += 1,
            Err(error) => {
                self.broken(Rule::Effect, Some(number), revision, format!("it would be refused: {error}"));
            }
            Ok(done) if done.events != events => {
                let what = format!("it would make {:?}, and {events:?} was made", done.events);
                self.broken(Rule::Effect, Some(number), revision, what);
            }
            Ok(done) => {
                if let Outcome::Answered(answer) = outcome
                    && answer.clone().bare() != done.answer
                {
                    let what = format!("{answer:?} was answered, and right is {:?}", done.answer);
                    self.broken(Rule::Answer, Some(number), revision, what);
                }
            }
        }
    }

    /// Whoever has seen a state without changing it has to have seen exactly this.
    fn hold_readers(&mut self, state: &State, store: &ModelEtcd) {
        let revision = state.revision;
        for number in self.claims.readers(revision).to_vec() {
            let Operation { request, outcome, .. } = &self.history[number];
            let Outcome::Answered(answer) = outcome else { continue };
            self.checked.reads += 1;
            let right = match request {
                Request::Range(range) | Request::Cached(range, _) => store.range(range).map(Answer::Range),
                Request::Revoke(revoke) => {
                    self.leases.ended(revoke.id, revision);
                    if state.attached(revoke.id).next().is_some() {
                        let what = format!("lease {:x} was ended, and its keys are there", revoke.id);
                        self.broken(Rule::Lease, Some(number), revision, what);
                    }
                    continue;
                }
                request if reads_the_past(request) => {
                    self.checked.unverified += 1;
                    continue;
                }
                // What it would change it would answer, and so not be here.
                request => state.make(request, self.config).map(|done| done.answer),
            };
            match right.map(Answer::bare) {
                Ok(right) if right == answer.clone().bare() => {}
                right => {
                    let what = format!("{answer:?} was answered, and right is {right:?}");
                    self.broken(Rule::Answer, Some(number), revision, what);
                }
            }
        }
    }

    /// Finds out who made what nobody claims.
    fn explain(&mut self) {
        let (made, wrong) = assign(&self.unclaimed);
        self.violations.extend(wrong);
        for (maker, revision) in made {
            match maker {
                Maker::Operation(number) => {
                    self.checked.executed += 1;
                    self.claims.resolve(number, revision);
                }
                Maker::Lease(lease) => {
                    self.checked.expired += 1;
                    self.leases.ended(lease, revision);
                }
            }
        }
        for (revision, number) in self.claims.writers() {
            if let Request::Revoke(revoke) = &self.history[number].request {
                self.leases.ended(revoke.id, revision);
            }
        }
        self.violations.extend(self.leases.check(self.truth, &self.claims, &self.seen));
    }

    /// The order of the revisions has to be one that real time allows.
    fn hold_against_time(&mut self) {
        let told = |by: Option<usize>| by.map_or_else(String::new, |by| format!(", by operation {by}"));
        let mut broken = Vec::new();
        for (revision, number) in self.claims.writers() {
            let floor = self.seen.before(self.history[number].invoked);
            if floor.revision >= revision {
                let (seen, by) = (floor.revision, told(floor.by));
                let what = format!("revision {seen} had been seen{by} before this one was asked for");
                broken.push((Rule::Causal, number, revision, what));
            }
        }
        for (revision, number) in self.claims.all_readers() {
            let operation = &self.history[number];
            let invoked = operation.invoked;
            let before = match &operation.request {
                Request::Cached(_, Demand::AtLeast(least)) => {
                    if revision < *least {
                        let what = format!("it was to be at revision {least} at least");
                        broken.push((Rule::Current, number, revision, what));
                    }
                    continue;
                }
                Request::Cached(_, Demand::Current) => invoked,
                Request::Cached(_, Demand::Within(limit)) => invoked.saturating_sub(*limit),
                _ if operation.is_linearizable() => invoked,
                _ => continue,
            };
            let floor = self.seen.before(before);
            if revision < floor.revision {
                let (seen, by) = (floor.revision, told(floor.by));
                let what = format!("revision {seen} had been seen{by} before it was asked for");
                broken.push((Rule::Current, number, revision, what));
            }
        }
        for (number, operation) in self.history.iter().enumerate() {
            if let (Request::Range(range), Outcome::NotExecuted(Some(Refusal::FutureRevision))) =
                (&operation.request, &operation.outcome)
            {
                let floor = self.seen.before(operation.invoked);
                if operation.is_linearizable() && range.revision <= floor.revision {
                    let what = format!("revision {} is in the past{}", range.revision, told(floor.by));
                    broken.push((Rule::Refusal, number, floor.revision, what));
                }
            }
        }
        for (rule, number, revision, what) in broken {
            self.broken(rule, Some(number), revision, what);
        }
    }

    fn finish(mut self) -> Result<Checked, Vec<Violation>> {
        for operation in self.history {
            match operation.outcome {
                Outcome::Unknown => self.checked.unknown += 1,
                Outcome::NotExecuted(_) => self.checked.not_executed += 1,
                Outcome::Answered(_) => {}
            }
        }
        if self.violations.is_empty() { Ok(self.checked) } else { Err(self.violations) }
    }
}

/// What stands for a change outside of the scope.
fn others(key: Bytes) -> Event {
    let kv = KeyValue { key, ..KeyValue::default() };
    Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv: None }
}

//! Who made the revisions that nobody claims.

use std::collections::{BTreeMap, BTreeSet};

use etcd_watch_proto::mvccpb::Event;

use super::{Rule, Violation, checker::Checker, history::Outcome, spec::State, truth::values};

/// Who may have made a revision that nobody claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Maker {
    /// An operation that may have been executed.
    Operation(usize),
    /// A lease that ran out.
    Lease(i64),
}

/// A revision that nobody claims.
#[derive(Debug)]
pub(super) struct Unclaimed {
    pub(super) revision: i64,
    /// Who may have made it, as far as that can be told from this revision alone.
    pub(super) makers: Vec<Maker>,
    /// What is wrong if nobody has.
    pub(super) blame: Violation,
}

impl Checker<'_> {
    /// Who may have made a revision that nobody claims, and what is wrong if nobody has.
    pub(super) fn makers(&self, revision: i64, before: &State, events: &[Event]) -> Unclaimed {
        let history = self.history;
        let suspects = self.suspects(events);
        let does_it = |number: usize| {
            let made = before.make(&history[number].request, self.config);
            made.is_ok_and(|done| done.events == events)
        };
        let is_earlier = |number: usize| self.seen.before(history[number].invoked).revision < revision;
        let is_open = |number: &usize| history[*number].outcome == Outcome::Unknown;
        let open = suspects.iter().copied().filter(is_open);
        let mut makers: Vec<Maker> =
            open.filter(|number| is_earlier(*number) && does_it(*number)).map(Maker::Operation).collect();
        let broken = |rule, operation, what: String| Violation { rule, operation, revision, what };
        let mut blame = broken(Rule::Unasked, None, format!("nobody has asked for {events:?}"));
        if let Some(lease) = self.leases.ends(before, events) {
            if self.leases.ends_early(lease, revision, &self.seen) {
                let what = format!("the keys of lease {lease:x} were deleted before its time was over");
                blame = broken(Rule::Lease, None, what);
            } else {
                makers.push(Maker::Lease(lease));
            }
        }
        if makers.is_empty() && blame.rule == Rule::Unasked {
            let by_value = values(events).any(|value| self.owners.contains_key(value));
            let told =
                suspects.into_iter().filter(|number| by_value || is_earlier(*number) && does_it(*number));
            let guilty = told.filter_map(|number| {
                let (rule, what) = self.guilt(number, revision, is_earlier(number), by_value)?;
                Some(broken(rule, Some(number), what))
            });
            // That it was made twice is said of each that is like it: what an error says is more.
            blame = guilty.min_by_key(|one| one.rule == Rule::Once).unwrap_or(blame);
        }
        Unclaimed { revision, makers, blame }
    }

    /// Whoever would put these values; or else, whoever may write.
    fn suspects(&self, events: &[Event]) -> Vec<usize> {
        let owners = values(events).filter_map(|value| self.owners.get(value)).flatten().copied();
        let owners: Vec<usize> = owners.collect();
        if !owners.is_empty() {
            return owners;
        }
        (0..self.history.len()).filter(|number| self.history[*number].request.may_write()).collect()
    }

    /// What is wrong if an operation has made a revision that it can't have made.
    fn guilt(
        &self,
        number: usize,
        revision: i64,
        is_earlier: bool,
        by_value: bool,
    ) -> Option<(Rule, String)> {
        let operation = &self.history[number];
        match operation.outcome {
            Outcome::Unknown if !is_earlier => {
                Some((Rule::Causal, "it was seen before it was asked for".into()))
            }
            Outcome::Unknown => {
                Some((Rule::Effect, "it puts this value, and would change something else".into()))
            }
            Outcome::NotExecuted(_) => {
                Some((Rule::NotExecuted, "its error says that it was not executed, and it was".into()))
            }
            Outcome::Answered(_) => {
                let made = operation.revision()?;
                let is_possible = by_value || made >= revision;
                is_possible
                    .then(|| (Rule::Once, format!("it was made here, too, and says that it made {made}")))
            }
        }
    }
}

/// Gives each revision a maker of its own, as far as there are enough: a maximum matching, by augmenting paths. Returns
/// who made which, and what is wrong with the others.
pub(super) fn assign(unclaimed: &[Unclaimed]) -> (BTreeMap<Maker, i64>, Vec<Violation>) {
    let mut made: BTreeMap<Maker, usize> = BTreeMap::new();
    for place in 0..unclaimed.len() {
        augment(unclaimed, place, &mut made, &mut BTreeSet::new());
    }
    let matched: BTreeSet<usize> = made.values().copied().collect();
    let left = (0..unclaimed.len()).filter(|place| !matched.contains(place)).map(|place| {
        let Unclaimed { revision, makers, blame } = &unclaimed[place];
        let others = makers.iter().find_map(|maker| Some((maker, *made.get(maker)?)));
        match others {
            // Whoever may have made it has made another one.
            Some((Maker::Operation(operation), other)) => Violation {
                rule: Rule::Once,
                operation: Some(*operation),
                revision: *revision,
                what: format!("it has made revision {}, too", unclaimed[other].revision),
            },
            _ => blame.clone(),
        }
    });
    let left = left.collect();
    (made.into_iter().map(|(maker, place)| (maker, unclaimed[place].revision)).collect(), left)
}

/// Finds a maker for one revision, and others for those that have to give theirs up.
fn augment(
    unclaimed: &[Unclaimed],
    place: usize,
    made: &mut BTreeMap<Maker, usize>,
    tried: &mut BTreeSet<Maker>,
) -> bool {
    for maker in &unclaimed[place].makers {
        if !tried.insert(*maker) {
            continue;
        }
        let holder = made.get(maker).copied();
        if holder.is_none_or(|holder| augment(unclaimed, holder, made, tried)) {
            made.insert(*maker, place);
            return true;
        }
    }
    false
}

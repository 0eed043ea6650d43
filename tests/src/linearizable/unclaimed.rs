//! Who made the revisions that nobody claims.

use std::collections::{BTreeMap, BTreeSet};

use super::{Rule, Violation};

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

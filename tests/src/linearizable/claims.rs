//! Which operation claims which revision.

use std::collections::BTreeMap;

use super::{Rule, Violation, history::Operation, truth::Truth};

/// Which operation says that it has made a revision, and which ones say that they have seen one.
#[derive(Debug, Default)]
pub(super) struct Claims {
    writers: BTreeMap<i64, usize>,
    readers: BTreeMap<i64, Vec<usize>>,
    /// Operations whose revision is older than what the truth begins with.
    pub(super) too_old: usize,
}

impl Claims {
    /// Whatever claims a revision that isn't there, or that another one has, is violated against.
    pub(super) fn of(history: &[Operation], truth: &Truth) -> (Self, Vec<Violation>) {
        let (mut claims, mut violations) = (Self::default(), Vec::new());
        for (number, operation) in history.iter().enumerate() {
            let Some(revision) = operation.revision() else { continue };
            let mut broken = |rule, what| {
                violations.push(Violation { rule, operation: Some(number), revision, what });
            };
            let through = truth.through();
            if !operation.has_written() {
                if revision > through {
                    broken(Rule::Causal, format!("it has seen a revision past the last one, {through}"));
                } else if revision < truth.base() {
                    claims.too_old += 1;
                } else {
                    claims.readers.entry(revision).or_default().push(number);
                }
            } else if revision > through || revision <= truth.base() {
                broken(Rule::Lost, "it was acknowledged, and there is no such revision".to_owned());
            } else if let Some(other) = claims.writers.get(&revision) {
                broken(Rule::Once, format!("operation {other} has made this revision, too"));
            } else {
                claims.writers.insert(revision, number);
            }
        }
        (claims, violations)
    }

    /// Who says that it has made a revision.
    pub(super) fn writer(&self, revision: i64) -> Option<usize> {
        self.writers.get(&revision).copied()
    }

    /// It turns out that an operation that has seen a revision has made it.
    pub(super) fn promote(&mut self, operation: usize, revision: i64) {
        if let Some(readers) = self.readers.get_mut(&revision) {
            readers.retain(|reader| *reader != operation);
        }
        self.writers.insert(revision, operation);
    }

    /// It turns out that an operation of which its client knows nothing has made a revision.
    pub(super) fn resolve(&mut self, operation: usize, revision: i64) {
        self.writers.insert(revision, operation);
    }

    /// Who says that it has seen a revision and made none.
    pub(super) fn readers(&self, revision: i64) -> &[usize] {
        self.readers.get(&revision).map_or(&[], Vec::as_slice)
    }

    /// All who have made a revision.
    pub(super) fn writers(&self) -> impl Iterator<Item = (i64, usize)> {
        self.writers.iter().map(|(revision, operation)| (*revision, *operation))
    }

    /// All who have seen a revision and made none.
    pub(super) fn all_readers(&self) -> impl Iterator<Item = (i64, usize)> {
        let each = |(revision, readers): (&i64, &Vec<usize>)| {
            let revision = *revision;
            readers.clone().into_iter().map(move |reader| (revision, reader))
        };
        self.readers.iter().flat_map(each)
    }
}

//! Files and the arrows between them.

use std::collections::{BTreeMap, BTreeSet};

/// Which file uses which.
#[derive(Debug, Default)]
pub(super) struct Graph {
    uses: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    pub(super) fn add(&mut self, from: &str, to: &str) {
        if from != to {
            self.uses.entry(from.to_owned()).or_default().insert(to.to_owned());
        }
    }

    pub(super) fn arrows(&self) -> impl Iterator<Item = (&str, &str)> {
        self.uses.iter().flat_map(|(from, uses)| uses.iter().map(move |to| (from.as_str(), to.as_str())))
    }

    /// The largest sets of files in which each leads to each other.
    pub(super) fn circles(&self) -> Vec<Vec<&str>> {
        let reach: BTreeMap<&str, BTreeSet<&str>> =
            self.uses.keys().map(|from| (from.as_str(), self.reachable(from))).collect();
        let leads = |from: &str, to: &str| reach.get(from).is_some_and(|files| files.contains(to));
        let mut circles: Vec<Vec<&str>> = Vec::new();
        for &file in reach.keys().filter(|file| leads(file, file)) {
            if circles.iter().any(|circle| circle.contains(&file)) {
                continue;
            }
            circles.push(
                reach.keys().copied().filter(|other| leads(file, other) && leads(other, file)).collect(),
            );
        }
        circles
    }

    /// What a file leads to; itself only by a circle.
    fn reachable(&self, from: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut open = vec![from];
        while let Some(file) = open.pop() {
            for to in self.uses.get(file).into_iter().flatten() {
                if found.insert(to.as_str()) {
                    open.push(to);
                }
            }
        }
        found
    }
}

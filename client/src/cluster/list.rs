//! The endpoints that are tried, and in which order.
//!
//! An endpoint is *given* by the application, *in use* (given, or taken from the member list), or both. One that was
//! given and is not in use is a last resort: it is tried while none of those in use is up. What is known to be up may hang
//! all the same, so a last resort comes after all endpoints in use even then. It also comes after an endpoint that is
//! avoided: that endpoint is up, and has only refused one call.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use etcd_watch_core::Instant;

use crate::{AttemptError, Endpoint};

/// How often at most an endpoint that stays down is warned of.
const WARN_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct List {
    /// Never empty. An endpoint that fails goes to the back.
    entries: Vec<Entry>,
    /// How often the application has given endpoints.
    generation: u64,
}

#[derive(Debug)]
struct Entry {
    endpoint: Arc<Endpoint>,
    is_given: bool,
    is_in_use: bool,
    standing: Standing,
    /// When it was last warned of.
    warned: Option<Instant>,
    /// How the last connection to it failed, or the last call on one, if it has not answered since.
    failure: Option<AttemptError>,
}

/// The endpoints that the application gave, and when.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    generation: u64,
}

/// Whether an endpoint is up, and whether a warning has said so if not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Up,
    /// Down, and a warning was logged for it.
    Down,
    /// Down, and no warning was logged for it.
    DownUnsaid,
}

/// What a member list has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Synced {
    /// These endpoints are in use already.
    Same,
    /// Others are in use from now on.
    Changed,
    /// None of the member list's endpoints is up: those in use stay.
    NoneUp,
    /// The application has given other endpoints meanwhile: they stay.
    Outdated,
}

/// The order in which endpoints are tried; among equals that of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Up,
    LastResort,
    Down,
}

impl Entry {
    fn new(endpoint: Arc<Endpoint>, is_given: bool) -> Self {
        Self { endpoint, is_given, is_in_use: true, standing: Standing::Up, warned: None, failure: None }
    }

    fn is_down(&self) -> bool {
        self.standing != Standing::Up
    }

    fn rank(&self) -> Rank {
        match (self.is_down(), self.is_in_use) {
            (true, _) => Rank::Down,
            (false, true) => Rank::Up,
            (false, false) => Rank::LastResort,
        }
    }
}

impl List {
    /// `all` must not be empty; the builder sees to that. An endpoint given twice counts once.
    pub(super) fn new(all: Vec<Endpoint>) -> Self {
        let mut list = Self { entries: Vec::new(), generation: 0 };
        list.give(all);
        list
    }

    /// The application gives other endpoints: they are the only ones from now on. What is known of those that stay is
    /// kept. Whether others are in use than before. An empty list changes nothing.
    pub(super) fn give(&mut self, all: Vec<Endpoint>) -> bool {
        if all.is_empty() {
            return false;
        }
        self.generation += 1;
        let before: HashSet<_> = self.in_use().cloned().collect();
        let mut known: HashMap<_, _> = self.take_entries();
        let mut seen = HashSet::with_capacity(all.len());
        for endpoint in all {
            if seen.insert(endpoint.clone()) {
                let entry = match known.remove(&endpoint) {
                    Some(entry) => Entry { is_given: true, is_in_use: true, ..entry },
                    None => Entry::new(Arc::new(endpoint), true),
                };
                self.entries.push(entry);
            }
        }
        self.entries.sort_by_key(Entry::rank);
        before.len() != self.entries.len() || self.in_use().any(|endpoint| !before.contains(endpoint))
    }

    /// The member list has these endpoints, and those of them that are new and `answered` may be used.
    pub(super) fn sync(
        &mut self,
        given: &Given,
        listed: &[Arc<Endpoint>],
        answered: &HashSet<Arc<Endpoint>>,
    ) -> Synced {
        if given.generation != self.generation {
            return Synced::Outdated;
        }
        let listed: HashSet<&Arc<Endpoint>> = listed.iter().collect();
        let is_up = |entry: &Entry| entry.is_in_use && !entry.is_down() && listed.contains(&entry.endpoint);
        if answered.is_empty() && !self.entries.iter().any(is_up) {
            return Synced::NoneUp;
        }
        let mut joining: HashSet<&Arc<Endpoint>> = answered.iter().collect();
        let mut changed = false;
        for entry in &mut self.entries {
            let joins = joining.remove(&entry.endpoint);
            let stays = joins || (entry.is_in_use && listed.contains(&entry.endpoint));
            changed |= stays != entry.is_in_use;
            entry.is_in_use = stays;
        }
        changed |= !joining.is_empty();
        // In the order of their names, so that the order doesn't depend on a hash.
        let mut joining: Vec<&Arc<Endpoint>> = joining.into_iter().collect();
        joining.sort_by_cached_key(|endpoint| endpoint.to_string());
        self.entries.extend(joining.into_iter().map(|endpoint| Entry::new(endpoint.clone(), false)));
        self.entries.retain(|entry| entry.is_given || entry.is_in_use);
        if changed { Synced::Changed } else { Synced::Same }
    }

    fn take_entries(&mut self) -> HashMap<Endpoint, Entry> {
        let entries = self.entries.drain(..);
        entries.map(|entry| (Endpoint::clone(&entry.endpoint), entry)).collect()
    }

    fn in_use(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.entries.iter().filter(|entry| entry.is_in_use).map(|entry| &entry.endpoint)
    }

    fn entry(&self, endpoint: &Endpoint) -> Option<&Entry> {
        self.entries.iter().find(|entry| *entry.endpoint == *endpoint)
    }

    /// Whether an endpoint in use is not known to be down.
    pub(super) fn is_any_up(&self) -> bool {
        self.entries.iter().any(|entry| entry.rank() == Rank::Up)
    }

    /// How many endpoints there are, those of last resort counted.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn given(&self) -> Given {
        let given = self.entries.iter().filter(|entry| entry.is_given);
        Given { endpoints: given.map(|entry| entry.endpoint.clone()).collect(), generation: self.generation }
    }

    /// What is tried now, best first: the endpoints in use, and those of last resort while none of the former is up.
    pub(super) fn tried(&self) -> Vec<Arc<Endpoint>> {
        let none_up = !self.is_any_up();
        let mut tried: Vec<&Entry> = self.entries.iter().filter(|entry| entry.is_in_use || none_up).collect();
        tried.sort_by_key(|entry| entry.rank());
        tried.into_iter().map(|entry| entry.endpoint.clone()).collect()
    }

    /// Those of the endpoints that a member list may bring back or bring in: not in use, or down.
    pub(super) fn untried<'e>(&self, listed: &'e [Arc<Endpoint>]) -> Vec<&'e Arc<Endpoint>> {
        let up: HashSet<&Arc<Endpoint>> = self
            .entries
            .iter()
            .filter(|entry| entry.rank() == Rank::Up)
            .map(|entry| &entry.endpoint)
            .collect();
        listed.iter().filter(|endpoint| !up.contains(endpoint)).collect()
    }

    /// The endpoint as it is in the list, in use or not.
    pub(super) fn known(&self, endpoint: &Endpoint) -> Option<Arc<Endpoint>> {
        self.entry(endpoint).map(|entry| entry.endpoint.clone())
    }

    /// Whether the endpoint may be used now.
    pub(super) fn contains(&self, endpoint: &Endpoint) -> bool {
        self.entry(endpoint).is_some_and(|entry| entry.is_in_use || !self.is_any_up())
    }

    /// Whether there is another endpoint that is not known to be down.
    pub(super) fn another_is_up(&self, endpoint: &Endpoint) -> bool {
        self.entries.iter().any(|other| *other.endpoint != *endpoint && !other.is_down())
    }

    /// Whether another endpoint is tried now.
    pub(super) fn has_other_than(&self, endpoint: &Endpoint) -> bool {
        self.tried().iter().any(|other| **other != *endpoint)
    }

    /// The endpoints in the order in which a call is to try them: the best first, `avoid` last of those in use.
    pub(super) fn candidates(&self, avoid: Option<&Endpoint>) -> Vec<Arc<Endpoint>> {
        self.in_order(avoid, |_| 0)
    }

    /// The same for a watch stream: of the best endpoints, the one with the fewest streams comes first.
    pub(super) fn candidates_for_stream(
        &self,
        avoid: Option<&Endpoint>,
        streams: &HashMap<Arc<Endpoint>, usize>,
    ) -> Vec<Arc<Endpoint>> {
        // Where all are down, the one that failed first.
        let on = |entry: &Entry| {
            if entry.is_down() { 0 } else { streams.get(&entry.endpoint).copied().unwrap_or(0) }
        };
        self.in_order(avoid, on)
    }

    fn in_order(&self, avoid: Option<&Endpoint>, load: impl Fn(&Entry) -> usize) -> Vec<Arc<Endpoint>> {
        let any_up = self.is_any_up();
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by_key(|entry| {
            let is_last_resort = any_up && !entry.is_in_use;
            (is_last_resort, Some(&*entry.endpoint) == avoid, entry.rank(), load(entry))
        });
        entries.into_iter().map(|entry| entry.endpoint.clone()).collect()
    }

    /// How it failed last, if it has not answered since.
    pub(super) fn last_failure(&self, endpoint: &Endpoint) -> Option<AttemptError> {
        self.entry(endpoint)?.failure.clone()
    }

    /// Keeps in mind how it failed.
    pub(super) fn note(&mut self, endpoint: &Endpoint, failure: AttemptError) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| *entry.endpoint == *endpoint) {
            entry.failure = Some(failure);
        }
    }

    /// Another was connected to sooner: it goes to the back.
    pub(super) fn overtaken(&mut self, endpoint: &Endpoint) {
        self.move_back(endpoint);
    }

    /// Takes the endpoint for one that is down, and moves it to the back.
    fn move_back(&mut self, endpoint: &Endpoint) -> Option<&mut Entry> {
        let at = self.entries.iter().position(|entry| *entry.endpoint == *endpoint)?;
        self.entries[at..].rotate_left(1);
        let entry = self.entries.last_mut()?;
        if !entry.is_down() {
            entry.standing = Standing::DownUnsaid;
        }
        Some(entry)
    }

    /// Which of the streams, given the endpoint each is on, are to move so that the numbers of streams on the endpoints
    /// that are up differ by one at most. They move to where
    /// [`candidates_for_stream`](Self::candidates_for_stream) says.
    pub(super) fn misplaced(&self, streams: &[Arc<Endpoint>]) -> Vec<usize> {
        let best = self.entries.iter().map(Entry::rank).min().filter(|&rank| rank != Rank::Down);
        let up = self.entries.iter().filter(|entry| Some(entry.rank()) == best);
        // In the list's order, so that equal lists give equal answers.
        let mut on: Vec<Vec<usize>> = Vec::new();
        let places: HashMap<&Endpoint, usize> =
            up.enumerate().map(|(at, entry)| (&*entry.endpoint, at)).collect();
        on.resize_with(places.len(), Vec::new);
        let mut misplaced = Vec::new();
        if on.is_empty() {
            return misplaced;
        }
        for (at, endpoint) in streams.iter().enumerate() {
            match places.get(&**endpoint) {
                Some(&place) => on[place].push(at),
                None => misplaced.push(at),
            }
        }
        let least = streams.len() / on.len();
        let mut with_one_more = streams.len() % on.len();
        // Those with the most keep the one more.
        on.sort_by_key(|streams| std::cmp::Reverse(streams.len()));
        for streams in &mut on {
            let fair = least + usize::from(with_one_more > 0);
            with_one_more = with_one_more.saturating_sub(1);
            misplaced.extend(streams.drain(fair.min(streams.len())..));
        }
        misplaced
    }

    /// Moves the endpoint to the back; whether it is time to warn of it (again). Of one that is not in the list any
    /// more it never is.
    pub(super) fn failed(&mut self, endpoint: &Endpoint, now: Instant) -> bool {
        let Some(entry) = self.move_back(endpoint) else { return false };
        let due = entry.warned.is_none_or(|warned| now.since(warned) >= WARN_EVERY);
        if due {
            entry.warned = Some(now);
            entry.standing = Standing::Down;
        }
        due
    }

    /// The endpoint is up; what it was before.
    pub(super) fn answered(&mut self, endpoint: &Endpoint) -> Standing {
        let entry = self.entries.iter_mut().find(|entry| *entry.endpoint == *endpoint);
        let Some(entry) = entry else { return Standing::Up };
        entry.failure = None;
        std::mem::replace(&mut entry.standing, Standing::Up)
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;

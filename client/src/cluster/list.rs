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
    is_down: bool,
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
    fn given(endpoint: Endpoint) -> Self {
        Self {
            endpoint: Arc::new(endpoint),
            is_given: true,
            is_in_use: true,
            is_down: false,
            warned: None,
            failure: None,
        }
    }

    fn rank(&self) -> Rank {
        match (self.is_down, self.is_in_use) {
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
                    None => Entry::given(endpoint),
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
        let is_up = |entry: &Entry| entry.is_in_use && !entry.is_down && listed.contains(&entry.endpoint);
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
        self.entries.extend(joining.into_iter().map(|endpoint| Entry {
            endpoint: endpoint.clone(),
            is_given: false,
            is_in_use: true,
            is_down: false,
            warned: None,
            failure: None,
        }));
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

    /// Whether the endpoint may be used now.
    pub(super) fn contains(&self, endpoint: &Endpoint) -> bool {
        self.entry(endpoint).is_some_and(|entry| entry.is_in_use || !self.is_any_up())
    }

    /// Whether there is another endpoint that is not known to be down.
    pub(super) fn another_is_up(&self, endpoint: &Endpoint) -> bool {
        self.entries.iter().any(|other| *other.endpoint != *endpoint && !other.is_down)
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
            if entry.is_down { 0 } else { streams.get(&entry.endpoint).copied().unwrap_or(0) }
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
        entry.is_down = true;
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
        }
        due
    }

    /// The endpoint is up; whether it was down.
    pub(super) fn answered(&mut self, endpoint: &Endpoint) -> bool {
        let entry = self.entries.iter_mut().find(|entry| *entry.endpoint == *endpoint);
        entry.is_some_and(|entry| {
            entry.failure = None;
            std::mem::take(&mut entry.is_down)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16) -> Arc<Endpoint> {
        Arc::new(format!("host:{port}").parse().unwrap())
    }

    fn list(ports: impl IntoIterator<Item = u16>) -> List {
        List::new(ports.into_iter().map(|port| Endpoint::clone(&endpoint(port))).collect())
    }

    fn fail(list: &mut List, port: u16) {
        list.failed(&endpoint(port), Instant::ZERO);
    }

    fn port(endpoint: &Endpoint) -> u16 {
        match endpoint.address() {
            crate::Address::Tcp { port, .. } => port,
            crate::Address::Unix { .. } => 0,
        }
    }

    fn tried(list: &List) -> Vec<u16> {
        list.tried().iter().map(|endpoint| port(endpoint)).collect()
    }

    fn pick(list: &List, avoid: Option<u16>) -> u16 {
        port(&list.candidates(avoid.map(endpoint).as_deref())[0])
    }

    fn order(list: &List, avoid: Option<u16>) -> Vec<u16> {
        let candidates = list.candidates(avoid.map(endpoint).as_deref());
        candidates.iter().map(|endpoint| port(endpoint)).collect()
    }

    fn sync(list: &mut List, listed: &[u16], answered: &[u16]) -> Synced {
        let listed: Vec<_> = listed.iter().copied().map(endpoint).collect();
        let answered = answered.iter().copied().map(endpoint).collect();
        let given = list.given();
        list.sync(&given, &listed, &answered)
    }

    #[test]
    fn the_first_is_preferred_until_it_fails() {
        let mut list = list(1..=3);
        for expected in [1, 2, 3, 1, 2] {
            assert_eq!(pick(&list, None), expected);
            fail(&mut list, expected);
        }
    }

    #[test]
    fn a_failure_reported_twice_does_not_move_the_others() {
        let mut list = list(1..=3);
        fail(&mut list, 1);
        fail(&mut list, 1);
        assert_eq!(pick(&list, None), 2);
        assert_eq!(pick(&list, Some(2)), 3);
    }

    #[test]
    fn another_is_another_if_there_is_one() {
        let three = list(1..=3);
        assert_eq!(pick(&three, Some(1)), 2);
        assert_eq!(pick(&three, Some(3)), 1);
        assert_eq!(pick(&list([1]), Some(1)), 1);
    }

    #[test]
    fn an_endpoint_that_stays_down_is_warned_of_every_ten_seconds() {
        let mut list = list(1..=2);
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        let warned: Vec<_> =
            [0, 1, 9, 10, 11, 20].map(|seconds| list.failed(&endpoint(1), at(seconds))).into();
        assert_eq!(warned, [true, false, false, true, false, true]);
        assert!(list.failed(&endpoint(2), at(11)), "each has its own");
        assert!(list.answered(&endpoint(1)));
        assert!(!list.failed(&endpoint(1), at(21)), "one that comes and goes is no news either");
        assert!(!list.failed(&endpoint(3), at(21)), "it is not in the list");
    }

    #[test]
    fn an_endpoint_given_twice_counts_once() {
        let same = ["host:1", "http://host:1/", "host:2"];
        assert_eq!(List::new(same.iter().map(|text| text.parse().unwrap()).collect()).len(), 2);
    }

    #[test]
    fn other_endpoints_that_are_given_replace_all_and_keep_what_is_known() {
        let mut list = list(1..=2);
        fail(&mut list, 1);
        let give = |list: &mut List, ports: &[u16]| {
            list.give(ports.iter().map(|&port| Endpoint::clone(&endpoint(port))).collect())
        };
        assert!(!give(&mut list, &[2, 1]), "the order of the list is the client's");
        assert!(give(&mut list, &[1, 3]));
        assert_eq!(tried(&list), [3, 1], "the one that is down comes last");
        assert!(!list.contains(&endpoint(2)) && list.len() == 2, "it is forgotten");
        assert!(!give(&mut list, &[]));
        assert_eq!(list.len(), 2);
    }

    #[test]
    fn streams_go_where_the_fewest_are_and_not_where_it_is_down() {
        let mut list = list(1..=3);
        let streams = |counts: [usize; 3]| (1..).map(endpoint).zip(counts).collect::<HashMap<_, _>>();
        let pick = |list: &List, avoid: Option<u16>, counts| {
            port(&list.candidates_for_stream(avoid.map(endpoint).as_deref(), &streams(counts))[0])
        };
        assert_eq!(pick(&list, None, [0, 0, 0]), 1);
        assert_eq!(pick(&list, None, [1, 1, 0]), 3);
        fail(&mut list, 3);
        assert_eq!(pick(&list, None, [1, 1, 0]), 1);
        assert_eq!(pick(&list, Some(1), [1, 1, 0]), 2);
        fail(&mut list, 1);
        assert!(list.another_is_up(&endpoint(1)) && !list.another_is_up(&endpoint(2)));
        fail(&mut list, 2);
        assert_eq!(pick(&list, None, [1, 1, 0]), 3, "it failed first");
        assert_eq!(pick(&list, None, [1, 1, 2]), 3, "it failed first");
    }

    #[test]
    fn streams_are_spread_over_the_endpoints_that_are_up() {
        let mut list = list(1..=3);
        let misplaced =
            |list: &List, on: &[u16]| list.misplaced(&on.iter().copied().map(endpoint).collect::<Vec<_>>());
        assert_eq!(misplaced(&list, &[1]), [0; 0]);
        assert_eq!(misplaced(&list, &[1, 1, 1]).len(), 2);
        assert_eq!(misplaced(&list, &[1, 2, 3, 3]), [0; 0]);
        assert_eq!(misplaced(&list, &[1, 1, 1, 1, 2]), [2, 3]);
        fail(&mut list, 3);
        assert_eq!(misplaced(&list, &[1, 2, 3]), [2], "nothing stays where it is down");
        assert_eq!(misplaced(&list, &[1, 1]), [1]);
        fail(&mut list, 1);
        fail(&mut list, 2);
        assert_eq!(misplaced(&list, &[1, 1, 1]), [0; 0], "there is nowhere to go");
    }

    #[test]
    fn a_new_endpoint_takes_part_once_it_has_answered() {
        let mut list = list([1]);
        assert_eq!(sync(&mut list, &[1, 2, 3], &[3]), Synced::Changed);
        assert_eq!(tried(&list), [1, 3]);
        assert_eq!(sync(&mut list, &[1, 2, 3], &[]), Synced::Same);
        assert_eq!(sync(&mut list, &[1, 2, 3], &[2]), Synced::Changed);
        assert_eq!(tried(&list), [1, 3, 2]);
    }

    #[test]
    fn a_list_nobody_answers_at_replaces_nothing() {
        let mut list = list([1, 2]);
        assert_eq!(sync(&mut list, &[3, 4], &[]), Synced::NoneUp);
        assert_eq!(tried(&list), [1, 2]);
        fail(&mut list, 1);
        assert_eq!(sync(&mut list, &[1, 3], &[]), Synced::NoneUp, "the one that stays is down");
        assert_eq!(tried(&list), [2, 1]);
        assert_eq!(list.len(), 2, "and nothing of it is kept");
    }

    #[test]
    fn the_given_endpoints_are_the_last_resort() {
        let mut list = list([1]);
        assert_eq!(sync(&mut list, &[2, 3], &[2, 3]), Synced::Changed);
        assert_eq!(tried(&list), [2, 3]);
        assert!(!list.contains(&endpoint(1)));
        assert_eq!(pick(&list, Some(2)), 3);
        assert!(list.has_other_than(&endpoint(2)));
        fail(&mut list, 2);
        assert_eq!(order(&list, Some(3)), [2, 3, 1], "the one in use that is up comes before it");
        assert_eq!(sync(&mut list, &[3], &[]), Synced::Changed);
        assert_eq!(order(&list, Some(3)), [3, 1]);
        assert!(!list.has_other_than(&endpoint(3)), "it is the only one in use");
        assert_eq!(order(&list, None), [3, 1]);
        assert_eq!(sync(&mut list, &[2, 3], &[2]), Synced::Changed);
        fail(&mut list, 2);
        fail(&mut list, 3);
        assert_eq!((pick(&list, None), tried(&list)), (1, vec![1, 2, 3]));
        assert!(list.contains(&endpoint(1)));
        assert_eq!(list.misplaced(&[endpoint(2), endpoint(1)]), [0]);
        fail(&mut list, 1);
        assert_eq!((pick(&list, None), tried(&list)), (2, vec![2, 3, 1]));
        assert!(list.answered(&endpoint(3)));
        assert_eq!((pick(&list, None), tried(&list)), (3, vec![3, 2]));
        assert_eq!(list.misplaced(&[endpoint(3), endpoint(1)]), [1]);
        // They may be listed again.
        assert_eq!(sync(&mut list, &[1, 3], &[1]), Synced::Changed);
        assert_eq!(list.len(), 2);
    }

    #[test]
    fn a_member_list_from_before_other_endpoints_were_given_changes_nothing() {
        let mut list = list([1]);
        let given = list.given();
        list.give(vec![Endpoint::clone(&endpoint(2))]);
        let listed = [endpoint(3)];
        assert_eq!(list.sync(&given, &listed, &listed.iter().cloned().collect()), Synced::Outdated);
        assert_eq!(tried(&list), [2]);
    }

    #[test]
    fn endpoints_that_have_left_are_forgotten() {
        let mut list = list([1]);
        for round in 0..1_000_u16 {
            let (old, new) = (2 + round, 3 + round);
            assert_eq!(sync(&mut list, &[old, new], &[old, new]), Synced::Changed);
            assert!(list.len() <= 3, "{}", list.len());
        }
    }

    #[test]
    fn one_that_was_overtaken_is_tried_last_until_it_is_up() {
        let mut list = list([1, 2, 3]);
        list.overtaken(&endpoint(1));
        assert_eq!(order(&list, None), [2, 3, 1]);
        assert_eq!(order(&list, Some(2)), [3, 1, 2]);
        let streams = HashMap::from([(endpoint(2), 1), (endpoint(3), 1)]);
        assert_eq!(port(&list.candidates_for_stream(None, &streams)[0]), 2, "no stream goes to it");
        assert!(list.answered(&endpoint(1)));
        assert_eq!(port(&list.candidates_for_stream(None, &streams)[0]), 1);
    }
}

//! The endpoints of a cluster, in the order they are to be tried.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Arc, Mutex},
    time::Duration,
};

use etcd_watch_core::Instant;

use crate::{AttemptError, Endpoint, sync::lock};

/// An endpoint's number: its place among all that the list ever had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EndpointId(usize);

/// How often at most an endpoint that stays down is warned of.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// The list, shared by the watch streams and the calls: what one of them finds out about an endpoint
/// helps the others.
#[derive(Debug)]
pub(crate) struct Endpoints(Mutex<List>);

#[derive(Debug)]
struct List {
    /// Every endpoint there ever was: ids stay what they are when the list changes.
    known: Vec<Known>,
    /// The list, best first: the application's order, but an endpoint that failed goes to the back. Never
    /// empty.
    preference: Vec<EndpointId>,
}

#[derive(Debug)]
struct Known {
    endpoint: Arc<Endpoint>,
    down: bool,
    warned: Option<Instant>,
    /// How the last connection to it failed, or the last call on one, if it has not answered since.
    failure: Option<AttemptError>,
}

impl List {
    fn id_of(&mut self, endpoint: Endpoint) -> EndpointId {
        let at = self.known.iter().position(|known| *known.endpoint == endpoint).unwrap_or_else(|| {
            self.known.push(Known { endpoint: Arc::new(endpoint), down: false, warned: None, failure: None });
            self.known.len() - 1
        });
        EndpointId(at)
    }

    fn to_the_back(&mut self, id: EndpointId) {
        if let Some(at) = self.preference.iter().position(|&other| other == id) {
            self.preference[at..].rotate_left(1);
        }
    }

    /// Moves the endpoint to the back; whether it is time to warn of it (again).
    fn failed(&mut self, id: EndpointId, now: Instant) -> bool {
        self.to_the_back(id);
        let known = &mut self.known[id.0];
        known.down = true;
        let due = known.warned.is_none_or(|warned| now.since(warned) >= WARN_EVERY);
        if due {
            known.warned = Some(now);
        }
        due
    }
}

impl Endpoints {
    /// `all` must not be empty; the builder sees to that. An endpoint given twice counts once.
    pub(crate) fn new(all: Vec<Endpoint>) -> Self {
        let endpoints = Self(Mutex::new(List { known: Vec::new(), preference: Vec::new() }));
        endpoints.replace(all);
        endpoints
    }

    /// Another list; what is known of endpoints that stay is kept. Whether it is another list. An empty one
    /// changes nothing.
    pub(crate) fn replace(&self, all: Vec<Endpoint>) -> bool {
        let mut list = lock(&self.0);
        let mut ids = Vec::with_capacity(all.len());
        for endpoint in all {
            let id = list.id_of(endpoint);
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let same = ids.len() == list.preference.len() && ids.iter().all(|id| list.preference.contains(id));
        if ids.is_empty() || same {
            return false;
        }
        ids.sort_by_key(|id| list.known[id.0].down);
        list.preference = ids;
        true
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.0).preference.len()
    }

    pub(crate) fn get(&self, id: EndpointId) -> Arc<Endpoint> {
        lock(&self.0).known[id.0].endpoint.clone()
    }

    /// The list, best first.
    pub(crate) fn list(&self) -> Vec<EndpointId> {
        lock(&self.0).preference.clone()
    }

    /// The list's endpoints, best first.
    pub(crate) fn all(&self) -> Vec<Arc<Endpoint>> {
        let list = lock(&self.0);
        list.preference.iter().map(|id| list.known[id.0].endpoint.clone()).collect()
    }

    pub(crate) fn contains(&self, id: EndpointId) -> bool {
        lock(&self.0).preference.contains(&id)
    }

    /// Whether there is another endpoint that is not known to be down.
    pub(crate) fn another_is_up(&self, id: EndpointId) -> bool {
        let list = lock(&self.0);
        list.preference.iter().any(|&other| other != id && !list.known[other.0].down)
    }

    /// The endpoints in the order in which a call is to try them: the best first, `avoid` last.
    pub(crate) fn candidates(&self, avoid: Option<EndpointId>) -> Vec<EndpointId> {
        let mut candidates = self.list();
        candidates.sort_by_key(|&id| Some(id) == avoid);
        candidates
    }

    /// The same for a watch stream: before all others those that are not known to be down, the one with the fewest
    /// streams first.
    pub(crate) fn candidates_for_stream(
        &self,
        avoid: Option<EndpointId>,
        streams: &BTreeMap<EndpointId, usize>,
    ) -> Vec<EndpointId> {
        let list = lock(&self.0);
        let mut candidates = list.preference.clone();
        candidates.sort_by_key(|id| {
            let down = list.known[id.0].down;
            let crowd = if down { 0 } else { streams.get(id).copied().unwrap_or(0) };
            (Some(*id) == avoid, down, crowd)
        });
        candidates
    }

    /// Which of the streams, given the endpoint each is on, are to move so that all endpoints that are up have
    /// as many, but for one. They move to where [`candidates_for_stream`](Self::candidates_for_stream) says.
    pub(crate) fn misplaced(&self, streams: &[EndpointId]) -> Vec<usize> {
        let list = lock(&self.0);
        let up = list.preference.iter().filter(|id| !list.known[id.0].down);
        let mut on: BTreeMap<EndpointId, Vec<usize>> = up.map(|&id| (id, Vec::new())).collect();
        let mut misplaced = Vec::new();
        if on.is_empty() {
            return misplaced;
        }
        for (at, id) in streams.iter().enumerate() {
            on.get_mut(id).unwrap_or(&mut misplaced).push(at);
        }
        let least = streams.len() / on.len();
        let mut with_one_more = streams.len() % on.len();
        // Those with the most keep the one more.
        let mut on: Vec<Vec<usize>> = on.into_values().collect();
        on.sort_by_key(|streams| std::cmp::Reverse(streams.len()));
        for streams in &mut on {
            let fair = least + usize::from(with_one_more > 0);
            with_one_more = with_one_more.saturating_sub(1);
            misplaced.extend(streams.drain(fair.min(streams.len())..));
        }
        misplaced
    }

    /// The endpoint can't be reached, or its member is of no use: it goes to the back.
    pub(crate) fn failed(&self, id: EndpointId, now: Instant, why: &dyn Display) {
        let warn = lock(&self.0).failed(id, now);
        let endpoint = self.get(id);
        if warn {
            tracing::warn!(name: "endpoint_failed", %endpoint, reason = %why, "etcd endpoint failed; trying on");
        } else {
            tracing::debug!(name: "endpoint_failed_again", %endpoint, reason = %why, "etcd endpoint failed again");
        }
    }

    /// How it failed last, if it has not answered since.
    pub(crate) fn last_failure(&self, id: EndpointId) -> Option<AttemptError> {
        lock(&self.0).known[id.0].failure.clone()
    }

    /// Keeps in mind how it failed.
    pub(crate) fn note(&self, id: EndpointId, failure: &AttemptError) {
        let failure = Some(failure.clone());
        let previous = std::mem::replace(&mut lock(&self.0).known[id.0].failure, failure);
        drop(previous);
    }

    /// Another endpoint was connected to sooner: it goes to the back, until it is known whether it is slow or hangs.
    pub(crate) fn overtaken(&self, id: EndpointId) {
        let mut list = lock(&self.0);
        list.to_the_back(id);
        list.known[id.0].down = true;
    }

    /// An endpoint that was overtaken is up all the same.
    pub(crate) fn came_up(&self, id: EndpointId) {
        lock(&self.0).known[id.0].down = false;
    }

    /// The endpoint answered.
    pub(crate) fn answered(&self, id: EndpointId) {
        let (was_down, failure) = {
            let known = &mut lock(&self.0).known[id.0];
            (std::mem::take(&mut known.down), known.failure.take())
        };
        drop(failure);
        if was_down {
            tracing::info!(name: "endpoint_answers", endpoint = %self.get(id), "etcd endpoint answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use etcd_watch_core::Failure;

    use super::*;

    fn endpoints(count: u16) -> Endpoints {
        Endpoints::new((1..=count).map(|port| format!("host:{port}").parse().unwrap()).collect())
    }

    fn fail(endpoints: &Endpoints, id: usize) {
        endpoints.failed(EndpointId(id), Instant::ZERO, &Failure::EndOfStream);
    }

    fn first(endpoints: &Endpoints, avoid: Option<EndpointId>) -> EndpointId {
        endpoints.candidates(avoid)[0]
    }

    fn first_for_stream(
        endpoints: &Endpoints,
        avoid: Option<EndpointId>,
        streams: &BTreeMap<EndpointId, usize>,
    ) -> EndpointId {
        endpoints.candidates_for_stream(avoid, streams)[0]
    }

    #[test]
    fn the_first_is_preferred_until_it_fails() {
        let endpoints = endpoints(3);
        assert_eq!(first(&endpoints, None), EndpointId(0));
        fail(&endpoints, 0);
        assert_eq!(first(&endpoints, None), EndpointId(1));
        fail(&endpoints, 1);
        assert_eq!(first(&endpoints, None), EndpointId(2));
        fail(&endpoints, 2);
        assert_eq!(first(&endpoints, None), EndpointId(0));
    }

    #[test]
    fn a_failure_reported_twice_does_not_move_the_others() {
        let endpoints = endpoints(3);
        fail(&endpoints, 0);
        fail(&endpoints, 0);
        assert_eq!(first(&endpoints, None), EndpointId(1));
        assert_eq!(first(&endpoints, Some(EndpointId(1))), EndpointId(2));
    }

    #[test]
    fn one_that_was_overtaken_is_tried_last_and_gets_no_streams_until_it_is_up() {
        let endpoints = endpoints(3);
        endpoints.overtaken(EndpointId(0));
        assert_eq!(endpoints.candidates(None), [1, 2, 0].map(EndpointId));
        let streams = BTreeMap::from([(EndpointId(1), 1), (EndpointId(2), 1)]);
        assert_eq!(endpoints.candidates_for_stream(None, &streams), [1, 2, 0].map(EndpointId));
        assert_eq!(endpoints.candidates(Some(EndpointId(1))), [2, 0, 1].map(EndpointId));
        endpoints.came_up(EndpointId(0));
        assert_eq!(endpoints.candidates_for_stream(None, &streams)[0], EndpointId(0));
    }

    #[test]
    fn another_is_another_if_there_is_one() {
        let three = endpoints(3);
        assert_eq!(first(&three, Some(EndpointId(0))), EndpointId(1));
        assert_eq!(first(&three, Some(EndpointId(2))), EndpointId(0));
        assert_eq!(first(&endpoints(1), Some(EndpointId(0))), EndpointId(0));
    }

    #[test]
    fn an_endpoint_that_stays_down_is_warned_of_every_ten_seconds() {
        let endpoints = endpoints(2);
        let failed = |id, seconds| {
            let now = Instant::ZERO + Duration::from_secs(seconds);
            lock(&endpoints.0).failed(EndpointId(id), now)
        };
        let warned: Vec<_> = [0, 1, 9, 10, 11, 20].map(|seconds| failed(0, seconds)).into();
        assert_eq!(warned, [true, false, false, true, false, true]);
        assert!(failed(1, 11), "each has its own");
        endpoints.answered(EndpointId(0));
        assert!(!failed(0, 21), "one that comes and goes is no news either");
    }

    #[test]
    fn an_endpoint_given_twice_counts_once() {
        let same = ["host:1", "http://host:1/", "host:2"];
        let endpoints = Endpoints::new(same.iter().map(|text| text.parse().unwrap()).collect());
        assert_eq!(endpoints.len(), 2);
    }

    #[test]
    fn a_new_list_keeps_what_is_known_of_the_old() {
        let endpoints = endpoints(2);
        fail(&endpoints, 0);
        let parse =
            |ports: &[u16]| ports.iter().map(|port| format!("host:{port}").parse().unwrap()).collect();
        assert!(!endpoints.replace(parse(&[2, 1])), "the order of the list is the client's");
        assert!(endpoints.replace(parse(&[1, 3])));
        assert_eq!(endpoints.list(), [EndpointId(2), EndpointId(0)], "the one that is down comes last");
        assert!(!endpoints.contains(EndpointId(1)));
        assert_eq!(endpoints.get(EndpointId(1)).to_string(), "http://host:2", "what uses it may name it");
        assert!(!endpoints.replace(Vec::new()));
        assert_eq!(endpoints.len(), 2);
    }

    #[test]
    fn streams_go_where_the_fewest_are_and_not_where_it_is_down() {
        let endpoints = endpoints(3);
        let streams = |counts: &[usize]| (0..).map(EndpointId).zip(counts.iter().copied()).collect();
        assert_eq!(first_for_stream(&endpoints, None, &streams(&[0, 0, 0])), EndpointId(0));
        assert_eq!(first_for_stream(&endpoints, None, &streams(&[1, 1, 0])), EndpointId(2));
        fail(&endpoints, 2);
        assert_eq!(first_for_stream(&endpoints, None, &streams(&[1, 1, 0])), EndpointId(0));
        assert_eq!(first_for_stream(&endpoints, Some(EndpointId(0)), &streams(&[1, 1, 0])), EndpointId(1));
        fail(&endpoints, 0);
        assert!(endpoints.another_is_up(EndpointId(0)) && !endpoints.another_is_up(EndpointId(1)));
        fail(&endpoints, 1);
        assert_eq!(
            first_for_stream(&endpoints, None, &streams(&[1, 1, 0])),
            EndpointId(2),
            "it failed first"
        );
    }

    #[test]
    fn streams_are_spread_over_the_endpoints_that_are_up() {
        let endpoints = endpoints(3);
        let misplaced = |on: &[usize]| {
            let on: Vec<_> = on.iter().map(|&id| EndpointId(id)).collect();
            endpoints.misplaced(&on)
        };
        assert_eq!(misplaced(&[0]), [0; 0]);
        assert_eq!(misplaced(&[0, 0, 0]).len(), 2);
        assert_eq!(misplaced(&[0, 1, 2, 2]), [0; 0]);
        assert_eq!(misplaced(&[0, 0, 0, 0, 1]), [2, 3]);
        fail(&endpoints, 2);
        assert_eq!(misplaced(&[0, 1, 2]), [2], "nothing stays where it is down");
        assert_eq!(misplaced(&[0, 0]), [1]);
        fail(&endpoints, 0);
        fail(&endpoints, 1);
        assert_eq!(misplaced(&[0, 0, 0]), [0; 0], "there is nowhere to go");
    }
}

//! The endpoints of a cluster, in the order they are to be tried.

use std::{sync::Mutex, time::Duration};

use etcd_watch_core::{Failure, Instant};

use crate::{Endpoint, sync::lock};

/// An endpoint's place in the list the application gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndpointId(usize);

/// How often at most an endpoint that stays down is warned of.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// The list, shared by the watch streams and the calls: what one of them finds out about an endpoint
/// helps the others.
#[derive(Debug)]
pub(crate) struct Endpoints {
    all: Vec<Endpoint>,
    order: Mutex<Order>,
}

#[derive(Debug)]
struct Order {
    /// Best first: the application's order, but an endpoint that failed goes to the back.
    preference: Vec<EndpointId>,
    health: Vec<Health>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Health {
    down: bool,
    warned: Option<Instant>,
}

impl Order {
    /// Moves the endpoint to the back; whether it is time to warn of it (again).
    fn failed(&mut self, id: EndpointId, now: Instant) -> bool {
        if let Some(at) = self.preference.iter().position(|&other| other == id) {
            self.preference[at..].rotate_left(1);
        }
        let health = &mut self.health[id.0];
        health.down = true;
        let due = health.warned.is_none_or(|warned| now.since(warned) >= WARN_EVERY);
        if due {
            health.warned = Some(now);
        }
        due
    }
}

impl Endpoints {
    /// `all` must not be empty; the builder sees to that. An endpoint given twice counts once.
    pub(crate) fn new(all: Vec<Endpoint>) -> Self {
        let mut unique: Vec<Endpoint> = Vec::with_capacity(all.len());
        for endpoint in all {
            if !unique.contains(&endpoint) {
                unique.push(endpoint);
            }
        }
        let preference = (0..unique.len()).map(EndpointId).collect();
        let health = vec![Health::default(); unique.len()];
        Self { all: unique, order: Mutex::new(Order { preference, health }) }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn get(&self, id: EndpointId) -> &Endpoint {
        &self.all[id.0]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.all.iter()
    }

    /// The best endpoint; another one than `avoid`, if there is another.
    pub(crate) fn pick(&self, avoid: Option<EndpointId>) -> EndpointId {
        let order = lock(&self.order);
        let other = order.preference.iter().find(|&&id| Some(id) != avoid);
        *other.unwrap_or(&order.preference[0])
    }

    /// The endpoint can't be reached, or its member is of no use: it goes to the back.
    pub(crate) fn failed(&self, id: EndpointId, now: Instant, failure: &Failure) {
        let warn = lock(&self.order).failed(id, now);
        let endpoint = self.get(id);
        if warn {
            tracing::warn!(%endpoint, reason = %failure, "etcd endpoint failed; trying on");
        } else {
            tracing::debug!(%endpoint, reason = %failure, "etcd endpoint failed again");
        }
    }

    /// The endpoint answered.
    pub(crate) fn answered(&self, id: EndpointId) {
        let was_down = std::mem::take(&mut lock(&self.order).health[id.0].down);
        if was_down {
            tracing::info!(endpoint = %self.get(id), "etcd endpoint answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: u16) -> Endpoints {
        Endpoints::new((1..=count).map(|port| format!("host:{port}").parse().unwrap()).collect())
    }

    fn fail(endpoints: &Endpoints, id: usize) {
        endpoints.failed(EndpointId(id), Instant::ZERO, &Failure::EndOfStream);
    }

    #[test]
    fn the_first_is_preferred_until_it_fails() {
        let endpoints = endpoints(3);
        assert_eq!(endpoints.pick(None), EndpointId(0));
        fail(&endpoints, 0);
        assert_eq!(endpoints.pick(None), EndpointId(1));
        fail(&endpoints, 1);
        assert_eq!(endpoints.pick(None), EndpointId(2));
        fail(&endpoints, 2);
        assert_eq!(endpoints.pick(None), EndpointId(0));
    }

    #[test]
    fn a_failure_reported_twice_does_not_move_the_others() {
        let endpoints = endpoints(3);
        fail(&endpoints, 0);
        fail(&endpoints, 0);
        assert_eq!(endpoints.pick(None), EndpointId(1));
        assert_eq!(endpoints.pick(Some(EndpointId(1))), EndpointId(2));
    }

    #[test]
    fn another_is_another_if_there_is_one() {
        let three = endpoints(3);
        assert_eq!(three.pick(Some(EndpointId(0))), EndpointId(1));
        assert_eq!(three.pick(Some(EndpointId(2))), EndpointId(0));
        assert_eq!(endpoints(1).pick(Some(EndpointId(0))), EndpointId(0));
    }

    #[test]
    fn an_endpoint_that_stays_down_is_warned_of_every_ten_seconds() {
        let endpoints = endpoints(2);
        let failed = |id, seconds| {
            let now = Instant::ZERO + Duration::from_secs(seconds);
            lock(&endpoints.order).failed(EndpointId(id), now)
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
}

//! The endpoints of a cluster, as the watch streams and the calls share them.

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    sync::{Arc, Mutex},
};

use etcd_watch_core::Instant;

use super::{
    list::{Given, List, Standing, Synced},
    member_list::News,
};
use crate::{AttemptError, Endpoint, sync::lock};

/// The list, shared by the watch streams and the calls: what one of them finds out about an endpoint
/// helps the others.
#[derive(Debug)]
pub(crate) struct Endpoints {
    list: Mutex<List>,
    /// What was logged last of what is left out of the member list.
    left_out: News,
}

impl Endpoints {
    /// `all` must not be empty; the builder sees to that. An endpoint given twice counts once.
    pub(crate) fn new(all: Vec<Endpoint>) -> Self {
        Self { list: Mutex::new(List::new(all)), left_out: News::default() }
    }

    /// The application gives other endpoints. Whether others are in use than before.
    pub(crate) fn give(&self, all: Vec<Endpoint>) -> bool {
        let changed = lock(&self.list).give(all);
        if changed {
            self.tell_change();
        }
        changed
    }

    /// The member list has these endpoints; those that are new may be used as far as they `answered`.
    pub(crate) fn sync(
        &self,
        given: &Given,
        listed: &[Arc<Endpoint>],
        answered: &HashSet<Arc<Endpoint>>,
    ) -> Synced {
        let synced = lock(&self.list).sync(given, listed, answered);
        if synced == Synced::Changed {
            self.tell_change();
        }
        synced
    }

    fn tell_change(&self) {
        let names: Vec<String> = self.tried().iter().map(ToString::to_string).collect();
        tracing::info!(name: "endpoints_changed", endpoints = %names.join(","), "using other etcd endpoints");
    }

    pub(crate) fn left_out(&self) -> &News {
        &self.left_out
    }

    pub(crate) fn given(&self) -> Given {
        lock(&self.list).given()
    }

    /// The endpoints that the application gave: in its order, until one fails.
    pub(crate) fn all_given(&self) -> Vec<Arc<Endpoint>> {
        self.given().endpoints
    }

    /// Those of the endpoints that are not in use, or are down.
    pub(crate) fn untried(&self, listed: &[Arc<Endpoint>]) -> Vec<Arc<Endpoint>> {
        lock(&self.list).untried(listed).into_iter().cloned().collect()
    }

    /// Whether an endpoint in use is not known to be down.
    pub(crate) fn is_any_up(&self) -> bool {
        lock(&self.list).is_any_up()
    }

    /// How many endpoints may be tried, one after the other: with those of last resort.
    pub(crate) fn len(&self) -> usize {
        lock(&self.list).len()
    }

    /// The endpoints that are tried now, best first.
    pub(crate) fn tried(&self) -> Vec<Arc<Endpoint>> {
        lock(&self.list).tried()
    }

    /// The endpoint as it is in the list, in use or not.
    pub(crate) fn known(&self, endpoint: &Endpoint) -> Option<Arc<Endpoint>> {
        lock(&self.list).known(endpoint)
    }

    /// Whether the endpoint may be used now.
    pub(crate) fn contains(&self, endpoint: &Endpoint) -> bool {
        lock(&self.list).contains(endpoint)
    }

    /// Whether there is another endpoint that is not known to be down.
    pub(crate) fn another_is_up(&self, endpoint: &Endpoint) -> bool {
        lock(&self.list).another_is_up(endpoint)
    }

    /// Whether another endpoint is tried now.
    pub(crate) fn has_other_than(&self, endpoint: &Endpoint) -> bool {
        lock(&self.list).has_other_than(endpoint)
    }

    /// The endpoints in the order in which a call is to try them: the best first, `avoid` last of those in use.
    pub(crate) fn candidates(&self, avoid: Option<&Endpoint>) -> Vec<Arc<Endpoint>> {
        lock(&self.list).candidates(avoid)
    }

    /// The same for a watch stream: of the best endpoints, the one with the fewest streams comes first.
    pub(crate) fn candidates_for_stream(
        &self,
        avoid: Option<&Endpoint>,
        streams: &HashMap<Arc<Endpoint>, usize>,
    ) -> Vec<Arc<Endpoint>> {
        lock(&self.list).candidates_for_stream(avoid, streams)
    }

    /// How it failed last, if it has not answered since.
    pub(crate) fn last_failure(&self, endpoint: &Endpoint) -> Option<AttemptError> {
        lock(&self.list).last_failure(endpoint)
    }

    /// Keeps in mind how it failed.
    pub(crate) fn note(&self, endpoint: &Endpoint, failure: &AttemptError) {
        lock(&self.list).note(endpoint, failure.clone());
    }

    /// Another endpoint was connected to sooner: it goes to the back, until it is known whether it is slow or hangs.
    pub(crate) fn overtaken(&self, endpoint: &Endpoint) {
        lock(&self.list).overtaken(endpoint);
    }

    /// An endpoint that was overtaken is up all the same.
    pub(crate) fn came_up(&self, endpoint: &Endpoint) {
        lock(&self.list).answered(endpoint);
    }

    /// Which of the streams, given the endpoint each is on, are to move so that the numbers of streams on the endpoints
    /// that are up differ by one at most.
    pub(crate) fn misplaced(&self, streams: &[Arc<Endpoint>]) -> Vec<usize> {
        lock(&self.list).misplaced(streams)
    }

    /// The endpoint can't be reached, or its member is of no use: it goes to the back.
    pub(crate) fn failed(&self, endpoint: &Endpoint, now: Instant, why: &dyn Display) {
        let warn = lock(&self.list).failed(endpoint, now);
        if warn {
            tracing::warn!(name: "endpoint_failed", %endpoint, reason = %why, "etcd endpoint failed; trying on");
        } else {
            tracing::debug!(name: "endpoint_failed_again", %endpoint, reason = %why, "etcd endpoint failed again");
        }
    }

    /// The endpoint answered.
    pub(crate) fn answered(&self, endpoint: &Endpoint) {
        let before = lock(&self.list).answered(endpoint);
        match before {
            Standing::Up => {}
            Standing::Down => {
                tracing::info!(name: "endpoint_answers", %endpoint, "etcd endpoint answers again");
            }
            Standing::DownUnsaid => {
                tracing::debug!(name: "endpoint_answers_again", %endpoint, "etcd endpoint answers again");
            }
        }
    }
}

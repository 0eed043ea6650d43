//! The labels of calls' metrics, made once for each method, end and endpoint.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use metrics::{Key, Label, SharedString};

use super::outcome::Outcome;
use crate::{Address, Endpoint, sync::lock};

pub(super) const DURATION: &str = "rpc_client_call_duration_seconds";
pub(super) const ATTEMPTS: &str = "etcd_watch_call_attempts_total";
pub(super) const RETRIES: &str = "etcd_watch_call_retries_total";

/// The metrics of a call that is over, with their labels.
#[derive(Debug)]
pub(super) struct Attributes {
    pub(super) duration: Key,
    pub(super) counts: Arc<Counts>,
}

/// The metrics of a method, with their labels.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) attempts: Key,
    pub(super) retries: Key,
}

/// A method, and how a call of it ended.
type MethodAndOutcome = (&'static str, Outcome);

/// The labels that one client has needed. A call like one before it, at one of the client's endpoints, allocates nothing
/// for its labels.
///
/// There is a limited number of methods and of outcomes. When labels of another endpoint are made, those of endpoints that
/// nobody has any more are dropped.
pub(super) struct AttributeSets {
    client: SharedString,
    sets: Mutex<Sets>,
}

#[derive(Default)]
struct Sets {
    methods: HashMap<&'static str, Arc<Counts>>,
    /// Of calls that have reached no endpoint.
    nowhere: HashMap<MethodAndOutcome, Arc<Attributes>>,
    endpoints: Vec<OfEndpoint>,
}

/// The labels of calls that went to one endpoint.
struct OfEndpoint {
    endpoint: Arc<Endpoint>,
    ends: HashMap<MethodAndOutcome, Arc<Attributes>>,
}

impl AttributeSets {
    pub(super) fn new(client: SharedString) -> Self {
        Self { client, sets: Mutex::default() }
    }

    /// The labels of a call of this method that ended so at this endpoint.
    pub(super) fn of(
        &self,
        method: &'static str,
        outcome: Outcome,
        endpoint: Option<&Arc<Endpoint>>,
    ) -> Arc<Attributes> {
        let mut sets = lock(&self.sets);
        let Sets { methods, nowhere, endpoints } = &mut *sets;
        let ends = endpoint.map_or(nowhere, |endpoint| of_endpoint(endpoints, endpoint));
        let attributes = ends.entry((method, outcome)).or_insert_with(|| {
            let counts = methods.entry(method).or_insert_with(|| Arc::new(self.counts(method)));
            let duration = self.duration(method, outcome, endpoint.map(|endpoint| &**endpoint));
            Arc::new(Attributes { duration, counts: counts.clone() })
        });
        attributes.clone()
    }

    fn duration(&self, method: &'static str, outcome: Outcome, endpoint: Option<&Endpoint>) -> Key {
        let mut labels = vec![
            label(&self.client),
            Label::new("rpc_system_name", "grpc"),
            Label::new("rpc_method", method),
            Label::new("rpc_status_code", outcome.status()),
        ];
        labels.extend(outcome.error_type().map(|error| Label::new("error_type", error)));
        labels.extend(endpoint.into_iter().flat_map(server));
        Key::from_parts(DURATION, labels)
    }

    fn counts(&self, method: &'static str) -> Counts {
        let key = |name| Key::from_parts(name, vec![label(&self.client), Label::new("rpc_method", method)]);
        Counts { attempts: key(ATTEMPTS), retries: key(RETRIES) }
    }
}

/// The labels of the calls at this endpoint.
fn of_endpoint<'a>(
    endpoints: &'a mut Vec<OfEndpoint>,
    endpoint: &Arc<Endpoint>,
) -> &'a mut HashMap<MethodAndOutcome, Arc<Attributes>> {
    let is_same = |known: &OfEndpoint| Arc::ptr_eq(&known.endpoint, endpoint);
    // An equal endpoint that was parsed again.
    let is_equal = |known: &OfEndpoint| known.endpoint == *endpoint;
    let known = endpoints.iter().position(is_same).or_else(|| endpoints.iter().position(is_equal));
    let place = known.unwrap_or_else(|| {
        endpoints.retain(|known| Arc::strong_count(&known.endpoint) > 1);
        endpoints.push(OfEndpoint { endpoint: endpoint.clone(), ends: HashMap::new() });
        endpoints.len() - 1
    });
    &mut endpoints[place].ends
}

pub(super) fn label(client: &SharedString) -> Label {
    Label::new("client", client.clone())
}

/// Where a call went.
fn server(endpoint: &Endpoint) -> Vec<Label> {
    match endpoint.address() {
        Address::Tcp { host, port } => {
            vec![Label::new("server_address", host.to_owned()), Label::new("server_port", port.to_string())]
        }
        Address::Unix { path } => vec![Label::new("server_address", path.display().to_string())],
    }
}

#[cfg(test)]
mod tests {
    use etcd_watch_core::Code;

    use super::*;

    const METHOD: &str = "etcdserverpb.KV/Put";

    fn sets() -> AttributeSets {
        AttributeSets::new("mine".into())
    }

    fn endpoint(url: &str) -> Arc<Endpoint> {
        Arc::new(url.parse().expect("an endpoint"))
    }

    /// Name and value of each label, in their order.
    fn labels(key: &Key) -> Vec<(&str, &str)> {
        key.labels().map(|label| (label.key(), label.value())).collect()
    }

    #[test]
    fn labels_say_who_called_what_how_it_ended_and_where() {
        let sets = sets();
        let of_call = [("client", "mine"), ("rpc_system_name", "grpc"), ("rpc_method", METHOD)];
        let ok = ("rpc_status_code", "OK");
        let tcp = [("server_address", "::1"), ("server_port", "2379")];
        let refused = [("rpc_status_code", "NOT_FOUND"), ("error_type", "NOT_FOUND")];
        for (outcome, at, expected) in [
            (Outcome::OK, Some("http://[::1]:2379"), [&of_call[..], &[ok], &tcp[..]].concat()),
            (
                Outcome::OK,
                Some("unix:///etcd"),
                [&of_call[..], &[ok], &[("server_address", "/etcd")]].concat(),
            ),
            (Outcome::answered(Code::NotFound), None, [&of_call[..], &refused[..]].concat()),
        ] {
            let attributes = sets.of(METHOD, outcome, at.map(endpoint).as_ref());
            assert_eq!((attributes.duration.name(), labels(&attributes.duration)), (DURATION, expected));
            let counts = &attributes.counts;
            assert_eq!((counts.attempts.name(), counts.retries.name()), (ATTEMPTS, RETRIES));
            for key in [&counts.attempts, &counts.retries] {
                assert_eq!(labels(key), [of_call[0], of_call[2]]);
            }
        }
    }

    #[test]
    fn a_call_like_one_before_it_gets_the_same_labels_and_no_new_ones() {
        let sets = sets();
        let at = endpoint("http://a:1");
        let at_equal = endpoint("http://a:1");
        for at in [None, Some(&at)] {
            let first = sets.of(METHOD, Outcome::OK, at);
            assert!(Arc::ptr_eq(&first, &sets.of(METHOD, Outcome::OK, at)));
            let equal = at.map(|_| &at_equal);
            assert!(Arc::ptr_eq(&first, &sets.of(METHOD, Outcome::OK, equal)));
            let late = sets.of(METHOD, Outcome::TIMED_OUT, at);
            assert_ne!(first.duration, late.duration);
            assert!(Arc::ptr_eq(&first.counts, &late.counts), "they say nothing of its end");
        }
    }

    #[test]
    fn labels_of_endpoints_that_are_gone_are_dropped() {
        let sets = sets();
        let kept = endpoint("http://kept:1");
        let labels_of_kept = sets.of(METHOD, Outcome::OK, Some(&kept));
        for number in 1..=100 {
            sets.of(METHOD, Outcome::OK, Some(&endpoint(&format!("http://gone:{number}"))));
        }
        assert_eq!(lock(&sets.sets).endpoints.len(), 2, "the one that is there, and the last");
        assert!(Arc::ptr_eq(&labels_of_kept, &sets.of(METHOD, Outcome::OK, Some(&kept))));
    }
}

//! A name's addresses, in the order in which they are to be tried.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use crate::sync::lock;

/// A name and a port.
type Name = (String, u16);

/// Of how many names something is remembered: far more than a cluster has.
const NAMES: usize = 1_024;

/// The addresses that failed, by name: of a name with several, those are tried last.
#[derive(Debug, Default)]
pub(super) struct Addresses(Mutex<BTreeMap<Name, Vec<SocketAddr>>>);

impl Addresses {
    /// Moves what failed to the end, and what failed latest to the very end. Addresses that the name doesn't have any
    /// more are forgotten.
    fn sort(&self, name: &Name, resolved: &mut [SocketAddr]) {
        let mut all = lock(&self.0);
        let Some(failed) = all.get_mut(name) else { return };
        failed.retain(|address| resolved.contains(address));
        resolved.sort_by_key(|address| failed.iter().position(|each| each == address));
        if failed.is_empty() {
            all.remove(name);
        }
    }

    fn failed(&self, name: &Name, address: SocketAddr) {
        let mut all = lock(&self.0);
        // Names come and go with the member list, and one that is gone is never resolved again.
        if all.len() >= NAMES && !all.contains_key(name) {
            all.pop_first();
        }
        let failed = all.entry(name.clone()).or_default();
        failed.retain(|each| *each != address);
        failed.push(address);
    }

    fn came_up(&self, name: &Name, address: SocketAddr) {
        let mut all = lock(&self.0);
        let Some(failed) = all.get_mut(name) else { return };
        failed.retain(|each| *each != address);
        if failed.is_empty() {
            all.remove(name);
        }
    }
}

/// Lets the versions of IP take turns, beginning with that of the first address (RFC 8305, section 4): where one of them
/// leads nowhere, only every other attempt is in vain.
fn take_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut turns = Vec::with_capacity(addresses.len());
    let begins_with_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (ones, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == begins_with_ipv6);
    let mut others = others.into_iter();
    for one in ones {
        turns.push(one);
        turns.extend(others.next());
    }
    turns.extend(others);
    turns
}

/// A name that is being connected to.
#[derive(Clone, Debug)]
pub(super) struct Named {
    addresses: Arc<Addresses>,
    name: Name,
}

impl Named {
    pub(super) fn new(addresses: Arc<Addresses>, host: &str, port: u16) -> Self {
        Self { addresses, name: (host.to_owned(), port) }
    }

    /// The ways to what the name has been resolved to, best first, each once.
    pub(super) fn routes(&self, resolved: Vec<SocketAddr>) -> Vec<Route> {
        let mut resolved = take_turns(resolved);
        self.addresses.sort(&self.name, &mut resolved);
        let mut routes: Vec<Route> = Vec::with_capacity(resolved.len());
        for address in resolved {
            if !routes.iter().any(|route| route.address == address) {
                routes.push(Route { named: self.clone(), address });
            }
        }
        routes
    }
}

/// One address of a name.
#[derive(Clone, Debug)]
pub(super) struct Route {
    named: Named,
    address: SocketAddr,
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address && self.named.name == other.named.name
    }
}

impl Route {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// It can't be used: the next connection to the name tries the others first.
    pub(super) fn failed(&self) {
        self.named.addresses.failed(&self.named.name, self.address);
    }

    /// There is a connection.
    pub(super) fn came_up(&self) {
        self.named.addresses.came_up(&self.named.name, self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(last: &[u8]) -> Vec<SocketAddr> {
        last.iter().map(|&last| ([10, 0, 0, last], 1).into()).collect()
    }

    #[test]
    fn an_address_that_failed_is_tried_last_until_it_comes_up() {
        let named = Named::new(Arc::default(), "etcd", 1);
        let order = |resolved: &[u8]| -> Vec<u8> {
            let routes = named.routes(addresses(resolved));
            routes.iter().map(|route| route.address.to_string().as_bytes()[7] - b'0').collect()
        };
        let route = |last: u8| named.routes(addresses(&[last])).remove(0);
        assert_eq!(order(&[1, 2, 3, 1]), [1, 2, 3]);
        let [one, two] = [1, 2].map(route);
        one.failed();
        assert_eq!(order(&[1, 2, 3]), [2, 3, 1]);
        two.failed();
        assert_eq!(order(&[1, 2, 3]), [3, 1, 2], "what failed latest comes last");
        one.came_up();
        assert_eq!(order(&[1, 2, 3]), [1, 3, 2]);
        assert_eq!(order(&[1, 3]), [1, 3]);
        assert_eq!(order(&[1, 2, 3]), [1, 2, 3], "an address that comes back is a new one");
        let other = Named { name: ("other".into(), 1), ..named.clone() };
        one.failed();
        assert_eq!(other.routes(addresses(&[1, 2]))[0].address, addresses(&[1])[0]);
    }

    #[test]
    fn the_versions_of_ip_take_turns_and_the_resolvers_first_is_first() {
        let named = Named::new(Arc::default(), "etcd", 1);
        let order = |resolved: &[&str]| -> Vec<String> {
            let resolved = resolved.iter().map(|address| format!("{address}:1").parse().unwrap()).collect();
            named.routes(resolved).iter().map(|route| route.address.ip().to_string()).collect()
        };
        let (six, four) = (["[fd00::1]", "[fd00::2]", "[fd00::3]"], ["10.0.0.1", "10.0.0.2"]);
        let turns = ["fd00::1", "10.0.0.1", "fd00::2", "10.0.0.2", "fd00::3"];
        assert_eq!(order(&[&six[..], &four].concat()), turns);
        let turns = ["10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2", "fd00::3"];
        assert_eq!(order(&[&four[..], &six].concat()), turns);
        assert_eq!(order(&six), ["fd00::1", "fd00::2", "fd00::3"]);
        let failed: SocketAddr = "10.0.0.1:1".parse().unwrap();
        named.routes(vec![failed]).remove(0).failed();
        let turns = ["fd00::1", "fd00::2", "10.0.0.2", "fd00::3", "10.0.0.1"];
        assert_eq!(order(&[&six[..], &four].concat()), turns, "what failed comes last all the same");
    }

    #[test]
    fn names_that_are_never_looked_up_again_are_forgotten() {
        let known: Arc<Addresses> = Arc::default();
        for host in 0..2 * NAMES {
            let named = Named::new(known.clone(), &format!("pod-{host:05}"), 1);
            named.routes(addresses(&[1])).remove(0).failed();
        }
        assert_eq!(lock(&known.0).len(), NAMES);
        let last = Named::new(known.clone(), &format!("pod-{:05}", 2 * NAMES - 1), 1);
        last.routes(addresses(&[1])).remove(0).came_up();
        assert_eq!(lock(&known.0).len(), NAMES - 1, "one whose addresses are up is not remembered");
    }
}

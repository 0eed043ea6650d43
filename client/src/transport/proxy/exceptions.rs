//! The hosts that are connected to without the proxy: what `NO_PROXY` says, as Go reads it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::endpoint::{address_of, port_of};

/// A list of hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Exceptions(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Everything,
    Network(IpNet),
    Address {
        address: IpAddr,
        port: Option<u16>,
    },
    Domain {
        /// Lower case, without a dot before it.
        name: String,
        /// The hosts in the domain, but not the one that is named as the domain is.
        only_below: bool,
        port: Option<u16>,
    },
}

impl Exceptions {
    /// Reads a list. An entry of no other form counts as the name of a host, so every list can be read.
    pub(super) fn parse(list: &str) -> Self {
        let entries = list.split(|c: char| c == ',' || c.is_whitespace());
        Self(entries.filter_map(|entry| Rule::parse(&entry.to_ascii_lowercase())).collect())
    }

    /// Whether the host is one of them.
    pub(super) fn cover(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = address_of(&host);
        self.0.iter().any(|rule| rule.covers(&host, address, port))
    }
}

impl Rule {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::Everything);
        }
        if let Ok(network) = entry.parse() {
            return Some(Self::Network(network));
        }
        let (host, port) = match entry.rsplit_once(':') {
            // An address of version 6 without brackets has no port.
            Some((host, _)) if host.contains(':') && !host.ends_with(']') => (entry, None),
            Some((host, port)) => match port_of(port) {
                Ok(port) => (host, Some(port)),
                Err(_) => (entry, None),
            },
            None => (entry, None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Self::Address { address: address.to_canonical(), port });
        }
        let host = host.trim_end_matches('.');
        let below = host.strip_prefix("*.").or_else(|| host.strip_prefix('.'));
        let name = below.unwrap_or(host);
        (!name.is_empty()).then(|| Self::Domain { name: name.into(), only_below: below.is_some(), port })
    }

    fn covers(&self, host: &str, host_address: Option<IpAddr>, host_port: u16) -> bool {
        let is_port = |port: &Option<u16>| port.is_none_or(|port| port == host_port);
        match self {
            Self::Everything => true,
            Self::Network(network) => host_address.is_some_and(|address| network.contains(&address)),
            Self::Address { address, port } => host_address == Some(*address) && is_port(port),
            Self::Domain { name, only_below, port } => {
                let is_it = match host.strip_suffix(&**name) {
                    Some("") => !only_below,
                    Some(below) => below.ends_with('.'),
                    None => false,
                };
                is_it && is_port(port)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(list: &str, host: &str) -> bool {
        Exceptions::parse(list).cover(host, 2379)
    }

    #[test]
    fn a_domain_is_excepted_with_all_hosts_in_it() {
        for list in
            ["example.com", "EXAMPLE.com", "other, example.com", "other example.com.", "example.com:2379"]
        {
            assert!(covers(list, "example.com") && covers(list, "etcd.Example.com."), "{list}");
            assert!(!covers(list, "badexample.com") && !covers(list, "com"), "{list}");
        }
        for list in [".example.com", "*.example.com"] {
            assert!(covers(list, "etcd.example.com") && !covers(list, "example.com"), "{list}");
        }
        assert!(!covers("example.com:80", "example.com"), "another port");
        assert!(covers("example.com:http", "example.com:http"), "what is no port is part of the name");
    }

    #[test]
    fn addresses_and_networks_are_excepted_where_the_endpoint_names_the_address() {
        for (list, host) in [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1:2379", "10.0.0.1"),
            ("10.0.0.1", "::ffff:10.0.0.1"),
            ("10.0.0.0/8", "10.200.0.1"),
            ("fd00::/8", "fd00::1"),
            ("fd00::1", "fd00:0::1"),
            ("[fd00::1]:2379", "fd00::1"),
            ("fe80::/10", "fe80::1%eth0"),
            ("*", "anything"),
        ] {
            assert!(covers(list, host), "{list} {host}");
        }
        for (list, host) in [
            ("10.0.0.1", "10.0.0.11"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("[fd00::1]:80", "fd00::1"),
            ("10.0.0.0/8", "11.0.0.1"),
            ("10.0.0.0/8", "etcd.example"),
            ("", "etcd.example"),
            (" ,, ., *.", "etcd.example"),
        ] {
            assert!(!covers(list, host), "{list} {host}");
        }
    }
}

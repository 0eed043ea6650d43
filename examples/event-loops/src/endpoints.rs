//! Which endpoint is next.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, ToSocketAddrs},
};

use etcd_watch_core::{EndpointHint, StreamId};

/// A member's client address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`, as it goes into `:authority`.
    pub authority: String,
    /// Where to connect to.
    pub address: SocketAddr,
}

/// The endpoints, the best first: one that fails goes to the back.
#[derive(Debug)]
pub struct Endpoints {
    preference: Vec<Endpoint>,
    /// The last one used, by stream; reads are under `None`.
    last: BTreeMap<Option<StreamId>, Endpoint>,
}

impl Endpoints {
    /// Takes `host:port` or `http://host:port`, comma-separated. Names are resolved here, once and for
    /// all, and blocking: do it in a thread if yours may change or take long.
    ///
    /// # Errors
    /// When a name has no address.
    pub fn resolve(list: &str) -> io::Result<Self> {
        let mut preference = Vec::new();
        for endpoint in list.split(',') {
            let authority = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/');
            let address = authority.to_socket_addrs().and_then(|mut addresses| {
                addresses.next().ok_or_else(|| io::Error::other("the name has no address"))
            });
            let address = address
                .map_err(|error| io::Error::new(error.kind(), format!("endpoint {endpoint}: {error}")))?;
            preference.push(Endpoint { authority: authority.to_owned(), address });
        }
        Ok(Self { preference, last: BTreeMap::new() })
    }

    /// The endpoint for a stream's next connection, or with `None` for a read.
    pub fn pick(&mut self, stream: Option<StreamId>, hint: EndpointHint) -> Endpoint {
        let avoided = match hint {
            EndpointHint::Any => None,
            EndpointHint::Another => self.last.get(&stream),
        };
        let other = self.preference.iter().find(|&endpoint| Some(endpoint) != avoided);
        // Where there is only one, "another" is the same.
        let picked = other.unwrap_or(&self.preference[0]).clone();
        self.last.insert(stream, picked.clone());
        picked
    }

    /// The endpoint's connection failed: the others are tried before it.
    pub fn failed(&mut self, endpoint: &Endpoint) {
        if let Some(at) = self.preference.iter().position(|other| other == endpoint) {
            self.preference[at..].rotate_left(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use etcd_watch_core::{Action, Instant, KeyRange, WatchConfig, WatchRequest, Watcher};

    use super::*;

    /// A machine's first stream.
    fn stream() -> StreamId {
        let mut machine = Watcher::new(WatchConfig::default(), 1).unwrap();
        let request = WatchRequest::new(KeyRange::all()).start_revision(1);
        machine.watch(Instant::ZERO, request).unwrap();
        match machine.poll_action() {
            Some(Action::Open { stream, .. }) => stream.stream(),
            other => panic!("a stream is opened first: {other:?}"),
        }
    }

    #[test]
    fn another_is_another_where_there_is_one_and_the_failed_go_to_the_back() {
        let mut two = Endpoints::resolve("http://127.0.0.1:1/,127.0.0.1:2").unwrap();
        let first = two.pick(Some(stream()), EndpointHint::Any);
        assert_eq!(first.authority, "127.0.0.1:1");
        assert_ne!(two.pick(Some(stream()), EndpointHint::Another), first);
        assert_eq!(two.pick(None, EndpointHint::Any), first, "streams and reads remember apart");
        two.failed(&first);
        assert_ne!(two.pick(None, EndpointHint::Any), first);

        let mut one = Endpoints::resolve("127.0.0.1:1").unwrap();
        assert_eq!(one.pick(None, EndpointHint::Any), one.pick(None, EndpointHint::Another));
    }
}

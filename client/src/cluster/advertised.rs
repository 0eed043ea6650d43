//! Which of the addresses that members advertise a client accepts.

use std::sync::Arc;

use crate::endpoint::Accepted;
use crate::{Endpoint, EndpointError};

/// Which of the addresses in the member list a client accepts, for `ClientBuilder::accept_advertised`.
///
/// A server must not be able to steer a client to where its application never wanted it to go. So the endpoints that
/// were given decide, by default:
///
/// | given | accepted |
/// |---|---|
/// | an endpoint with TLS (`https`, `unixs`), whatever is beside it | only endpoints with TLS |
/// | only endpoints without TLS | those without, and, if the client has TLS settings, those with TLS |
/// | only TCP (`http`, `https`) | no unix sockets |
/// | only unix sockets (`unix`, `unixs`) | no TCP |
///
/// Loopback and unspecified addresses (`localhost`, `127.0.0.1`, `0.0.0.0`, `[::]`) are accepted only if one of the
/// given endpoints is on this machine, too. What is accepted has to answer, and as a member of the same cluster, before
/// it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Advertised {
    plain_text: bool,
    unix: bool,
    tcp: bool,
}

impl Advertised {
    /// Addresses like those given, see above. The default.
    pub const fn like_given() -> Self {
        Self { plain_text: false, unix: false, tcp: false }
    }

    /// Also endpoints without TLS where one with TLS was given: keys, values, passwords and tokens then go over the network in plain text,
    /// to whoever answers there. A client with TLS settings (`ClientBuilder::tls`) never does that.
    pub const fn or_plain_text(mut self) -> Self {
        self.plain_text = true;
        self
    }

    /// Also unix sockets where none was given.
    pub const fn or_unix(mut self) -> Self {
        self.unix = true;
        self
    }

    /// Also TCP where only unix sockets were given.
    pub const fn or_tcp(mut self) -> Self {
        self.tcp = true;
        self
    }
}

/// What a client accepts beside the endpoints that it was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    accepted: Accepted,
    plain_text: bool,
    tcp: bool,
    unix: bool,
    local: bool,
}

impl Policy {
    pub(crate) fn new(accepted: Accepted, wanted: Advertised, given: &[Arc<Endpoint>]) -> Self {
        let any = |is: fn(&Endpoint) -> bool| given.iter().any(|endpoint| is(endpoint));
        Self {
            accepted,
            plain_text: (wanted.plain_text && accepted != Accepted::TlsOnly)
                || !any(|endpoint| endpoint.scheme().has_tls()),
            tcp: wanted.tcp || any(|endpoint| !endpoint.is_unix()),
            unix: wanted.unix || any(Endpoint::is_unix),
            local: any(Endpoint::is_local),
        }
    }

    /// Reads an advertised URL.
    ///
    /// # Errors
    /// One that can't be used, or is not accepted.
    pub(crate) fn read(&self, url: &str) -> Result<Endpoint, EndpointError> {
        let endpoint = self.accepted.read(url)?;
        if let Some(reason) = self.refusal(&endpoint) {
            return Err(EndpointError::NotLikeGiven { endpoint: endpoint.to_string(), reason });
        }
        self.accepted.check(endpoint)
    }

    fn refusal(&self, endpoint: &Endpoint) -> Option<&'static str> {
        match () {
            () if !self.plain_text && !endpoint.scheme().has_tls() => Some("it is without TLS"),
            () if !self.unix && endpoint.is_unix() => Some("it is a unix socket"),
            () if !self.tcp && !endpoint.is_unix() => Some("it is no unix socket"),
            () if !self.local && !endpoint.is_unix() && endpoint.is_local() => {
                Some("it is this machine's own address")
            }
            () => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "http://member:2379";
    const SECURE: &str = "https://member:2379";
    const SOCKET: &str = "unix:///any/socket";
    const SECURE_SOCKET: &str = "unixs:///any/socket";

    /// Which of the four a client accepts; a socket that is accepted is then looked for.
    fn accepts(accepted: Accepted, wanted: Advertised, given: &[&str]) -> [bool; 4] {
        let given: Vec<_> = given.iter().map(|text| Arc::new(text.parse().unwrap())).collect();
        let policy = Policy::new(accepted, wanted, &given);
        [PLAIN, SECURE, SOCKET, SECURE_SOCKET].map(|url| match policy.read(url) {
            Ok(_) | Err(EndpointError::NoSocket { .. }) => true,
            Err(
                EndpointError::NotLikeGiven { .. }
                | EndpointError::NoTls { .. }
                | EndpointError::NotTls { .. },
            ) => false,
            Err(error) => panic!("{error}"),
        })
    }

    #[test]
    fn what_was_given_decides_what_is_accepted() {
        let like_given = Advertised::like_given();
        for (accepted, given, expected) in [
            (Accepted::Any, &["https://host:1"][..], [false, true, false, false]),
            (Accepted::Any, &["https://host:1", "http://host:1"], [false, true, false, false]),
            (Accepted::Any, &["https://host:1", "unix:///a"], [false, true, false, true]),
            (Accepted::Any, &["http://host:1", "unixs:///a"], [false, true, false, true]),
            (Accepted::TlsOnly, &["https://host:1"], [false, true, false, false]),
            (Accepted::TlsOnly, &["https://host:1", "unix:///a"], [false, true, false, true]),
            (Accepted::TlsOnly, &["unix:///a"], [false, false, true, true]),
            (Accepted::PlainOnly, &["http://host:1"], [true, false, false, false]),
            (Accepted::Any, &["http://host:1"], [true, true, false, false]),
            (Accepted::PlainOnly, &["unix:///a"], [false, false, true, false]),
            (Accepted::Any, &["unixs:///a"], [false, false, false, true]),
            (Accepted::PlainOnly, &["unix:///a", "http://host:1"], [true, false, true, false]),
        ] {
            assert_eq!(accepts(accepted, like_given, given), expected, "{accepted:?} {given:?}");
        }
    }

    #[test]
    fn more_is_accepted_if_an_option_says_so_by_name() {
        let like_given = Advertised::like_given();
        let secure = |wanted| accepts(Accepted::Any, wanted, &["https://host:1"]);
        assert_eq!(secure(like_given.or_plain_text()), [true, true, false, false]);
        assert_eq!(secure(like_given.or_unix()), [false, true, false, true]);
        assert_eq!(secure(like_given.or_plain_text().or_unix()), [true, true, true, true]);
        assert_eq!(secure(like_given.or_tcp()), [false, true, false, false]);
        let settings = accepts(Accepted::TlsOnly, like_given.or_plain_text().or_unix(), &["https://host:1"]);
        assert_eq!(settings, [false, true, false, true], "TLS settings leave no way around TLS");
        let socket = |wanted| accepts(Accepted::PlainOnly, wanted, &["unix:///a"]);
        assert_eq!(socket(like_given.or_tcp()), [true, false, true, false]);
    }

    #[test]
    fn this_machines_own_addresses_are_accepted_only_if_one_was_given() {
        let read = |given: &str, url: &str| {
            let given = [Arc::new(given.parse().unwrap())];
            Policy::new(Accepted::Any, Advertised::like_given(), &given).read(url)
        };
        let local = [
            "http://localhost:2379",
            "http://LOCALHOST.:2379",
            "http://127.0.0.2:2379",
            "http://0.0.0.0:2379",
            "http://[::]:2379",
            "http://[::1]:2379",
            "http://[::ffff:127.0.0.1]:2379",
            "http://127.1:2379",
            "http://2130706433:2379",
            "http://0x7f000001:2379",
        ];
        for url in local {
            assert!(matches!(read(PLAIN, url), Err(EndpointError::NotLikeGiven { .. })), "{url}");
            assert!(read("http://localhost:2379", url).is_ok(), "{url}");
        }
        assert!(read("http://localhost:2379", PLAIN).is_ok());
    }
}

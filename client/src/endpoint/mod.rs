//! Where a member listens.

mod accepted;
mod authority;
mod error;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use etcd_watch_core::printable;
use http::Uri;

use authority::{HAS_USER, host_and_port, is_number};

pub(crate) use accepted::Accepted;
pub(crate) use authority::{NO_PORT, address_of, port_of, without_user};
pub use error::EndpointError;

/// How to talk to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS over TCP.
    Https,
    /// A unix socket, without TLS.
    Unix,
    /// TLS over a unix socket.
    Unixs,
}

impl Scheme {
    /// Its name in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Unix => "unix",
            Self::Unixs => "unixs",
        }
    }

    /// Whether TLS is talked.
    pub(crate) const fn has_tls(self) -> bool {
        match self {
            Self::Https | Self::Unixs => true,
            Self::Http | Self::Unix => false,
        }
    }
}

/// What a connection is made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a runtime that can't connect to one of them must not compile")]
pub enum Address<'a> {
    /// A TCP port.
    Tcp {
        /// Host name or IP address; a version 6 address without its brackets, with its zone as in
        /// `fe80::1%eth0`.
        host: &'a str,
        /// The port.
        port: u16,
    },
    /// A unix socket.
    Unix {
        /// Where it is.
        path: &'a Path,
    },
}

/// An address clients of a member connect to: `http://host:port`, `https://host:port`,
/// `unix:///absolute/path` or `unix:relative/path`, or `unixs` for a unix socket with TLS. `host:port`
/// alone is `https` for a client that was given TLS settings, else `http`. The scheme of a unix socket alone says
/// whether there is TLS on it: `unix` is plain also where TLS settings were given, since it is on no network.
///
/// etcd's own form of a unix socket, `unix://localhost:12345`, is the relative path `localhost:12345`. An
/// IPv6 address is in brackets, and its zone in either of the usual forms: `[fe80::1%25eth0]:2379` (RFC
/// 6874) or `[fe80::1%eth0]:2379` (Go).
///
/// ```
/// use etcd_watch_client::{Endpoint, EndpointError};
///
/// let endpoint: Endpoint = "127.0.0.1:2379".parse().unwrap();
/// assert_eq!(endpoint.to_string(), "http://127.0.0.1:2379");
/// assert!(matches!("http://etcd".parse::<Endpoint>(), Err(EndpointError::Malformed { .. })));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: Scheme,
    place: Place,
    uri: Uri,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Endpoint {
    /// Reads an endpoint; one without a scheme gets this one.
    ///
    /// # Errors
    /// As when parsing.
    pub fn parse_or(text: &str, default: Scheme) -> Result<Self, EndpointError> {
        let text = text.trim();
        let malformed = |reason| EndpointError::Malformed { endpoint: without_user(text), reason };
        if text.is_empty() {
            return Err(malformed("it is empty"));
        }
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if rest.starts_with("//") => (scheme, &rest[2..]),
            Some((scheme @ ("unix" | "unixs"), path)) => (scheme, path),
            _ => (default.as_str(), text),
        };
        let known = [Scheme::Http, Scheme::Https, Scheme::Unix, Scheme::Unixs];
        let scheme = match known.into_iter().find(|known| scheme.eq_ignore_ascii_case(known.as_str())) {
            Some(scheme) => scheme,
            // What was taken for the scheme may be a password.
            None if text.contains('@') => return Err(malformed(HAS_USER)),
            None => {
                let (endpoint, scheme) = (without_user(text), scheme.into());
                return Err(EndpointError::UnsupportedScheme { endpoint, scheme });
            }
        };
        match scheme {
            Scheme::Unix | Scheme::Unixs => Self::unix(scheme, rest, text.contains("://")),
            Scheme::Http | Scheme::Https => Self::tcp(scheme, rest),
        }
        .map_err(malformed)
    }

    /// A socket at a path, which is written where a URL has host and port, or has neither.
    fn unix(scheme: Scheme, path: &str, is_url: bool) -> Result<Self, &'static str> {
        if path.is_empty() {
            return Err("write unix:///absolute/path or unix:relative/path");
        }
        let host = path.split('/').next().filter(|_| is_url);
        if host.is_some_and(|host| host.contains('@')) {
            return Err(HAS_USER);
        }
        // A path is no authority; gRPC over a unix socket names this one.
        let uri = if scheme.has_tls() { "https://localhost/" } else { "http://localhost/" };
        let uri = Uri::from_static(uri);
        Ok(Self { scheme, place: Place::Unix(path.into()), uri })
    }

    /// A host and a port.
    fn tcp(scheme: Scheme, authority: &str) -> Result<Self, &'static str> {
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = host_and_port(authority)?;
        // A zone has a meaning on this machine only: requests leave it out (RFC 6874, section 4).
        let authority = match host.split_once('%') {
            Some((address, _)) => format!("[{address}]:{port}"),
            None => authority.to_owned(),
        };
        let uri = Uri::builder().scheme(scheme.as_str()).authority(authority).path_and_query("/").build();
        let uri = uri.map_err(|_| "its host is not valid")?;
        Ok(Self { scheme, place: Place::Tcp { host, port }, uri })
    }

    /// How to talk to it.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// What to connect to.
    #[must_use]
    pub fn address(&self) -> Address<'_> {
        match &self.place {
            Place::Tcp { host, port } => Address::Tcp { host, port: *port },
            Place::Unix(path) => Address::Unix { path },
        }
    }

    /// Scheme and authority, as requests name them.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether it is a unix socket.
    pub(crate) fn is_unix(&self) -> bool {
        matches!(self.place, Place::Unix(_))
    }

    /// Whether it is on this machine, by its name alone: a unix socket, or a loopback or unspecified address.
    pub(crate) fn is_local(&self) -> bool {
        let host = match &self.place {
            Place::Unix(_) => return true,
            Place::Tcp { host, .. } => host.trim_end_matches('.'),
        };
        match address_of(host) {
            Some(address) => address.is_loopback() || address.is_unspecified(),
            None => {
                let host = host.to_ascii_lowercase();
                host == "localhost" || host.ends_with(".localhost") || is_number(&host)
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.as_str();
        match &self.place {
            Place::Tcp { host, port } if host.contains(':') => {
                write!(f, "{scheme}://[{}]:{port}", host.replace('%', "%25"))
            }
            Place::Tcp { host, port } => write!(f, "{scheme}://{host}:{port}"),
            Place::Unix(path) => {
                let separator = if path.is_absolute() { "://" } else { ":" };
                write!(f, "{scheme}{separator}{}", printable(path.display().to_string()))
            }
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Self::parse_or(text, Scheme::Http)
    }
}

/// The endpoint's URL, as [`ClientBuilder::endpoints`](crate::ClientBuilder::endpoints) takes it.
impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl From<&Endpoint> for String {
    fn from(endpoint: &Endpoint) -> Self {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    #[test]
    fn host_and_port_with_or_without_the_scheme() {
        for text in ["http://etcd-0.local:2379", "etcd-0.local:2379", "HTTP://etcd-0.local:2379/"] {
            let endpoint = parsed(text);
            assert_eq!(endpoint.address(), Address::Tcp { host: "etcd-0.local", port: 2379 }, "{text}");
            assert_eq!(endpoint.to_string(), "http://etcd-0.local:2379", "{text}");
        }
    }

    #[test]
    fn an_ipv6_address_goes_in_brackets() {
        let endpoint = parsed("[::1]:2379");
        assert_eq!(endpoint.address(), Address::Tcp { host: "::1", port: 2379 });
        assert_eq!(endpoint.to_string(), "http://[::1]:2379");
        assert_eq!(endpoint.uri().to_string(), "http://[::1]:2379/");
        assert!(matches!("::1:2379".parse::<Endpoint>(), Err(EndpointError::Malformed { .. })));
        assert!("[nonsense]:2379".parse::<Endpoint>().is_err());
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        let bad = [
            "",
            " ",
            "localhost",
            "http://",
            "http://localhost",
            ":2379",
            "host:0",
            "host:99999",
            "host:+1",
            "host:x",
            "http://host:2379/path",
            "http://host:2379?query",
            "bad host:2379",
            "host[0]:2379",
            "http://host[::1]:2379",
            "host]:2379",
        ];
        for text in bad {
            assert!(matches!(text.parse::<Endpoint>(), Err(EndpointError::Malformed { .. })), "{text:?}");
        }
    }

    #[test]
    fn unix_sockets_are_paths() {
        for (text, path) in [("unix:///run/etcd.sock", "/run/etcd.sock"), ("unix:etcd.sock", "etcd.sock")] {
            let endpoint = parsed(text);
            assert_eq!(endpoint.address(), Address::Unix { path: Path::new(path) });
            assert_eq!(endpoint.to_string(), text);
        }
        for text in ["unix:", "unix://"] {
            assert!(matches!(text.parse::<Endpoint>(), Err(EndpointError::Malformed { .. })), "{text:?}");
        }
    }

    /// etcd makes a socket of this name in the directory that it runs in, and advertises the URL.
    #[test]
    fn a_unix_url_with_a_host_is_a_relative_path() {
        for (text, path) in [
            ("unix://localhost:12345", "localhost:12345"),
            ("unix://etcd.sock", "etcd.sock"),
            ("UNIX://run/etcd.sock:1", "run/etcd.sock:1"),
            ("unix://run/a://b", "run/a://b"),
        ] {
            let endpoint = parsed(text);
            assert_eq!(endpoint.address(), Address::Unix { path: Path::new(path) }, "{text}");
            assert_eq!(endpoint.to_string(), format!("unix:{path}"));
            assert_eq!(parsed(&endpoint.to_string()), endpoint);
        }
    }

    #[test]
    fn a_unix_socket_may_have_tls() {
        for (text, path) in [
            ("unixs:///run/etcd.sock", "/run/etcd.sock"),
            ("unixs://localhost:12345", "localhost:12345"),
            ("unixs:run/etcd.sock", "run/etcd.sock"),
        ] {
            let endpoint = parsed(text);
            assert_eq!(endpoint.scheme(), Scheme::Unixs, "{text}");
            assert_eq!(endpoint.address(), Address::Unix { path: Path::new(path) }, "{text}");
            assert_eq!(parsed(&endpoint.to_string()), endpoint);
            assert_eq!(endpoint.uri().scheme_str(), Some("https"));
        }
        let refused = |accepted: Accepted, text| accepted.parse(text).unwrap_err();
        let no_tls = refused(Accepted::PlainOnly, "unixs:none.sock");
        assert!(matches!(no_tls, EndpointError::NoTls { .. }), "{no_tls}");
        for text in ["unix:none.sock", "unixs:none.sock"] {
            let nowhere = refused(Accepted::TlsOnly, text);
            assert!(
                matches!(nowhere, EndpointError::NoSocket { .. }),
                "only the socket is missing: {nowhere}"
            );
        }
        let plain = refused(Accepted::TlsOnly, "http://host:1");
        assert!(matches!(plain, EndpointError::NotTls { .. }), "{plain}");
    }

    #[test]
    fn a_zone_is_part_of_an_address_and_of_no_request() {
        for (text, host, written) in [
            ("http://[fe80::1%25eth0]:2379", "fe80::1%eth0", "http://[fe80::1%25eth0]:2379"),
            ("http://[fe80::1%eth0]:2379", "fe80::1%eth0", "http://[fe80::1%25eth0]:2379"),
            ("[fe80::1%2]:2379", "fe80::1%2", "http://[fe80::1%252]:2379"),
            ("[fe80::1%25]:2379", "fe80::1%25", "http://[fe80::1%2525]:2379"),
            ("https://[fe80::1%25br-0.1]:2379/", "fe80::1%br-0.1", "https://[fe80::1%25br-0.1]:2379"),
        ] {
            let endpoint = parsed(text);
            assert_eq!(endpoint.address(), Address::Tcp { host, port: 2379 }, "{text}");
            assert_eq!(endpoint.to_string(), written, "{text}");
            assert_eq!(endpoint.uri().host(), Some("[fe80::1]"), "{text}");
            assert_eq!(parsed(written), endpoint);
        }
        for text in
            ["[fe80::1%]:2379", "[fe80::1%a b]:2379", "[%eth0]:2379", "[host%eth0]:2379", "host%25:2379"]
        {
            assert!(matches!(text.parse::<Endpoint>(), Err(EndpointError::Malformed { .. })), "{text:?}");
        }
    }

    #[test]
    fn a_scheme_left_out_is_the_one_asked_for() {
        let secure = |text| Endpoint::parse_or(text, Scheme::Https).unwrap().to_string();
        assert_eq!(secure("host:2379"), "https://host:2379");
        assert_eq!(secure("http://host:2379"), "http://host:2379");
        assert_eq!(parsed("HTTPS://host:2379").scheme(), Scheme::Https);
    }

    #[test]
    fn other_schemes_are_told_apart_from_nonsense() {
        for text in ["unixt:///run/etcd.sock", "ftp://host:21"] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(matches!(error, EndpointError::UnsupportedScheme { .. }), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_password_in_an_endpoint_is_not_repeated() {
        for text in [
            "http://root:secret@host:2379",
            "root:secret@host:2379",
            "root:secret@http://host:2379",
            "root:secret://word@host:2379",
            "http://root:secret://word@host:2379",
            "unix://root:secret@host:2379",
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
            assert!(error.to_string().contains("user name"), "{error}");
        }
    }
}

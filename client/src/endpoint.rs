//! Where a member listens.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    path::{Path, PathBuf},
    str::FromStr,
};

use etcd_watch_core::printable;
use http::Uri;

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

/// Whether a resolver may take the host for an address in an unusual form, such as `127.1` or `0x7f000001`: nobody can
/// tell whose that is.
fn is_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    last.starts_with("0x") || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
}

const HAS_USER: &str = "it has a user name; give user and password apart from it";

fn host_and_port(authority: &str) -> Result<(String, u16), &'static str> {
    if authority.contains('@') {
        return Err(HAS_USER);
    }
    if authority.contains(['/', '?', '#']) {
        return Err("it has a path; give scheme, host and port only");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").ok_or("write [address]:port")?,
        None => authority.rsplit_once(':').ok_or("it has no port; add it (etcd's is 2379 by default)")?,
    };
    let v6 = authority.starts_with('[');
    if host.is_empty() {
        return Err("it has no host");
    }
    if !v6 && host.contains(':') {
        return Err("write an IPv6 address in brackets: [address]:port");
    }
    if !v6 && host.contains(['[', ']']) {
        return Err("its host has brackets, and only an IPv6 address is written in them: [address]:port");
    }
    if !v6 && host.contains('%') {
        return Err("its host is not valid");
    }
    let host = if v6 { v6_address(host)? } else { host.to_owned() };
    Ok((host, port_of(port)?))
}

pub(crate) const NO_PORT: &str = "its port is no number from 1 to 65535";

/// Reads a port.
pub(crate) fn port_of(text: &str) -> Result<u16, &'static str> {
    // A sign is no part of a port.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port: &u16| digits && port > 0).ok_or(NO_PORT)
}

/// The address that a host is, if it is one. A zone is this machine's word for a network card, and no part of the
/// address.
pub(crate) fn address_of(host: &str) -> Option<IpAddr> {
    let address: IpAddr = host.split('%').next()?.parse().ok()?;
    Some(address.to_canonical())
}

/// An IPv6 address, with its zone after a `%` if it has one.
fn v6_address(text: &str) -> Result<String, &'static str> {
    let (address, zone) = match text.split_once('%') {
        // `%25` is a `%` in a URL; `%25` with nothing after it is zone 25.
        Some((address, zone)) => {
            (address, Some(zone.strip_prefix("25").filter(|zone| !zone.is_empty()).unwrap_or(zone)))
        }
        None => (text, None),
    };
    if address.parse::<Ipv6Addr>().is_err() {
        return Err("what is in the brackets is no IPv6 address");
    }
    let Some(zone) = zone else { return Ok(address.to_owned()) };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if zone.is_empty() || !zone.bytes().all(is_plain) {
        return Err("its zone is not valid: write [address%25zone]:port");
    }
    Ok(format!("{address}%{zone}"))
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

/// Which endpoints a client can use: whether it has TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(any(test, feature = "tls")), expect(dead_code, reason = "two of them are about TLS"))]
pub(crate) enum Accepted {
    /// TLS settings were given: nothing is to go over a network without.
    TlsOnly,
    /// TLS is there for those endpoints that name it.
    Any,
    /// There is no TLS.
    PlainOnly,
}

impl Accepted {
    /// Reads an endpoint, and checks that it can be used.
    pub(crate) fn parse(self, text: &str) -> Result<Endpoint, EndpointError> {
        self.check(self.read(text)?)
    }

    /// Reads an endpoint that may be one that can't be used.
    pub(super) fn read(self, text: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::parse_or(text, if self == Self::TlsOnly { Scheme::Https } else { Scheme::Http })
    }

    /// The endpoint, if it can be used.
    pub(super) fn check(self, endpoint: Endpoint) -> Result<Endpoint, EndpointError> {
        match (self, endpoint.scheme()) {
            (Self::PlainOnly, scheme) if scheme.has_tls() => {
                Err(EndpointError::NoTls { endpoint: endpoint.to_string() })
            }
            // A unix socket is on no network, so it may be beside endpoints with TLS.
            (Self::TlsOnly, Scheme::Http) => Err(EndpointError::NotTls { endpoint: endpoint.to_string() }),
            _ => endpoint.with_socket(),
        }
    }
}

impl Endpoint {
    /// The endpoint, if there is a socket where it says that there is one.
    fn with_socket(self) -> Result<Self, EndpointError> {
        let Address::Unix { path } = self.address() else { return Ok(self) };
        match is_socket(path) {
            Ok(()) => Ok(self),
            Err(problem) => {
                Err(EndpointError::NoSocket { endpoint: self.to_string(), path: path.into(), problem })
            }
        }
    }
}

#[cfg(unix)]
fn is_socket(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt;
    match path.metadata() {
        Ok(metadata) if metadata.file_type().is_socket() => Ok(()),
        Ok(_) => Err("what is there is no socket".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(not(unix))]
fn is_socket(_: &Path) -> Result<(), String> {
    Err("this system has no unix sockets".into())
}

/// The text is no endpoint that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The text is no endpoint at all.
    #[error("endpoint {endpoint:?} is malformed: {reason}")]
    Malformed {
        /// The text, without a password it may have held.
        endpoint: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The scheme is none of `http`, `https`, `unix` and `unixs`.
    #[error("endpoint {endpoint:?}: scheme {scheme:?} is not supported: use http, https, unix or unixs")]
    UnsupportedScheme {
        /// The text, without a password it may have held.
        endpoint: String,
        /// Its scheme.
        scheme: String,
    },
    /// There is no such unix socket.
    #[error("endpoint {endpoint}: no socket at {}: {problem}; is the server running, and does it listen there?", printable(.path.display().to_string()))]
    NoSocket {
        /// The endpoint.
        endpoint: String,
        /// The path.
        path: PathBuf,
        /// What was found there.
        problem: String,
    },
    /// The endpoint says `https` or `unixs`, and the client has no TLS: the crate was built without it, or the endpoint
    /// came up later and the client was built without TLS settings.
    #[error(
        "endpoint {endpoint}: the client has no TLS: enable the feature tls-ring or tls-aws-lc, and set tls"
    )]
    NoTls {
        /// The endpoint.
        endpoint: String,
    },
    /// TLS settings were given, and the endpoint is `http`.
    #[error(
        "endpoint {endpoint} would be talked to over the network without TLS, and tls was set: write https://, or leave tls out"
    )]
    NotTls {
        /// The endpoint.
        endpoint: String,
    },
    /// A member advertises an address that is not like the endpoints that the client was given, see
    /// [`Advertised`](crate::Advertised).
    #[error("endpoint {endpoint} is not like those given: {reason}")]
    NotLikeGiven {
        /// The endpoint.
        endpoint: String,
        /// What is different.
        reason: &'static str,
    },
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

/// The text with what stands before an `@` left out: it may hold a password.
pub(crate) fn without_user(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((user, rest)) => {
            let scheme = user.split_once("://").map_or("", |(scheme, _)| scheme);
            let is_one = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let scheme = if is_one { scheme } else { "" };
            let separator = if scheme.is_empty() { "" } else { "://" };
            format!("{scheme}{separator}...@{rest}")
        }
        None => text.into(),
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

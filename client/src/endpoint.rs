//! Where a member listens.

use std::{fmt, str::FromStr};

use http::Uri;

/// How to talk to an endpoint. TLS and unix sockets come with a later release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// Plain TCP.
    Http,
}

impl Scheme {
    /// Its name in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
        }
    }
}

/// An address clients of a member connect to: `http://host:port`, or `host:port` for the same.
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
    host: String,
    port: u16,
    uri: Uri,
}

impl Endpoint {
    /// How to talk to it.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host name or IP address; a version 6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Scheme and authority, as requests name them.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brackets = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}://{}{}{}:{}", self.scheme.as_str(), brackets.0, self.host, brackets.1, self.port)
    }
}

/// The text is no endpoint this release can use.
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
    /// The scheme is not `http`.
    #[error(
        "endpoint {endpoint:?}: scheme {scheme:?} is not supported: use http (https and unix sockets come with a later release)"
    )]
    UnsupportedScheme {
        /// The text, without a password it may have held.
        endpoint: String,
        /// Its scheme.
        scheme: String,
    },
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let text = text.trim();
        let malformed = |reason| EndpointError::Malformed { endpoint: without_user(text), reason };
        if text.is_empty() {
            return Err(malformed("it is empty"));
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => match text.split_once(':') {
                Some((scheme @ ("unix" | "unixs"), rest)) => (scheme, rest),
                _ => ("http", text),
            },
        };
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(EndpointError::UnsupportedScheme {
                endpoint: without_user(text),
                scheme: scheme.into(),
            });
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return Err(malformed("it has a user name; give user and password apart from it"));
        }
        if authority.contains(['/', '?', '#']) {
            return Err(malformed("it has a path; give scheme, host and port only"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => rest.split_once("]:").ok_or_else(|| malformed("write [address]:port"))?,
            None => authority
                .rsplit_once(':')
                .ok_or_else(|| malformed("it has no port; add it (etcd's is 2379 by default)"))?,
        };
        let v6 = authority.starts_with('[');
        if host.is_empty() {
            return Err(malformed("it has no host"));
        }
        if !v6 && host.contains(':') {
            return Err(malformed("write an IPv6 address in brackets: [address]:port"));
        }
        if v6 && host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(malformed("what is in the brackets is no IPv6 address"));
        }
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|&port: &u16| digits && port > 0);
        let port = port.ok_or_else(|| malformed("its port is no number from 1 to 65535"))?;
        let uri = Uri::builder().scheme("http").authority(authority).path_and_query("/").build();
        let uri = uri.map_err(|_| malformed("its host is not valid"))?;
        Ok(Self { scheme: Scheme::Http, host: host.into(), port, uri })
    }
}

/// The text with what stands before an `@` left out: it may hold a password.
fn without_user(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((user, rest)) => {
            let scheme = user.split_once("://").map_or("", |(scheme, _)| scheme);
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
            assert_eq!((endpoint.host(), endpoint.port()), ("etcd-0.local", 2379), "{text}");
            assert_eq!(endpoint.to_string(), "http://etcd-0.local:2379", "{text}");
        }
    }

    #[test]
    fn an_ipv6_address_goes_in_brackets() {
        let endpoint = parsed("[::1]:2379");
        assert_eq!((endpoint.host(), endpoint.port()), ("::1", 2379));
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
        ];
        for text in bad {
            assert!(matches!(text.parse::<Endpoint>(), Err(EndpointError::Malformed { .. })), "{text:?}");
        }
    }

    #[test]
    fn schemes_to_come_are_told_apart_from_nonsense() {
        for text in ["https://host:2379", "unix:///run/etcd.sock", "unix:/run/etcd.sock", "ftp://host:21"] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(matches!(error, EndpointError::UnsupportedScheme { .. }), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_password_in_an_endpoint_is_not_repeated() {
        let error = "http://root:secret@host:2379".parse::<Endpoint>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
}

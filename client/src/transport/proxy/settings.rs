//! What an application says about a proxy, and what the environment says if the application says nothing.

use std::{ffi::OsString, fmt};

use super::{ProxyError, exceptions::Exceptions, via::Via};
use crate::{Address, Endpoint, endpoint::without_user};

/// The variables that name a proxy; the first that is set, and not to nothing, counts. gRPC in Go goes by the first two,
/// with TLS and without.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// An HTTP proxy, by which a client connects to its members: [`ClientBuilder::proxy`](crate::ClientBuilder::proxy).
///
/// The client asks it for a tunnel (`CONNECT host:port`), and TLS and HTTP/2 are spoken through that with the member
/// itself. The proxy looks the names of members up. Its URL is `http://host:port` or `http://user:password@host:port`;
/// in user and password `%40` stands for `@`, and so on. User and password are never shown or logged, but go to the
/// proxy in plain text.
///
/// ```
/// use etcd_watch_client::Proxy;
///
/// let proxy = Proxy::new("http://proxy.example:3128").except("10.0.0.0/8, .internal");
/// # let _ = proxy;
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct Proxy {
    url: String,
    except: String,
}

impl Proxy {
    /// The proxy with this URL, for every endpoint but unix sockets. It is also used for endpoints on this machine; a proxy
    /// that the environment names is not. The URL is checked when the client is built.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), except: String::new() }
    }

    /// Endpoints that are connected to without the proxy, in the form of `NO_PROXY`: a list of hosts, domains, addresses
    /// and networks, separated by commas. `example.com` is the host and all hosts in that domain, `.example.com` only the
    /// latter, `10.0.0.0/8` endpoints whose address is written so, and `*` everything. A port may follow a host or an
    /// address. Default: none. `NO_PROXY` itself is not heeded.
    pub fn except(mut self, hosts: impl Into<String>) -> Self {
        self.except = hosts.into();
        self
    }
}

impl From<&str> for Proxy {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl From<String> for Proxy {
    fn from(url: String) -> Self {
        Self::new(url)
    }
}

impl fmt::Debug for Proxy {
    /// Without the user.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("url", &without_user(&self.url)).field("except", &self.except).finish()
    }
}

/// Whether a client connects by a proxy.
#[derive(Clone, Debug, Default)]
pub(crate) enum Proxying {
    /// As the environment says.
    #[default]
    Environment,
    By(Proxy),
    Never,
}

impl Proxying {
    /// The proxy, and what goes around it. A bad URL from the application is an error here. A bad URL from the environment
    /// is an error only when an endpoint needs the proxy.
    pub(crate) fn detour(
        &self,
        variable: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Option<Detour>, ProxyError> {
        let value = |name| {
            let value = variable(name)?.to_string_lossy().trim().to_owned();
            (!value.is_empty()).then_some((name, value))
        };
        match self {
            Self::Never => Ok(None),
            Self::By(proxy) => {
                let via = Via::parse("proxy", &proxy.url)?;
                let exceptions = Exceptions::parse(&proxy.except);
                Ok(Some(Detour { via: Ok(via), exceptions, spares_local: false }))
            }
            Self::Environment => Ok(VARIABLES.into_iter().find_map(value).map(|(name, url)| {
                let exceptions = EXCEPTIONS.into_iter().find_map(value);
                let exceptions = exceptions.map(|(_, hosts)| Exceptions::parse(&hosts)).unwrap_or_default();
                Detour { via: Via::parse(name, &url), exceptions, spares_local: true }
            })),
        }
    }
}

/// A proxy, and which endpoints are connected to without it.
#[derive(Clone, Debug)]
pub(crate) struct Detour {
    via: Result<Via, ProxyError>,
    exceptions: Exceptions,
    /// Whether endpoints on this machine are connected to without it.
    spares_local: bool,
}

impl Detour {
    /// The proxy to connect to the endpoint by, if it is to be connected to by one.
    ///
    /// # Errors
    /// The proxy can't be used.
    pub(in super::super) fn of(&self, endpoint: &Endpoint) -> Result<Option<&Via>, &ProxyError> {
        let Address::Tcp { host, port } = endpoint.address() else { return Ok(None) };
        if (self.spares_local && endpoint.is_local()) || self.exceptions.cover(host, port) {
            return Ok(None);
        }
        self.via.as_ref().map(Some)
    }

    /// Whether the endpoint can be connected to.
    ///
    /// # Errors
    /// It needs the proxy, and that can't be used.
    pub(crate) fn check(&self, endpoint: &Endpoint) -> Result<(), ProxyError> {
        self.of(endpoint).map(|_| ()).map_err(Clone::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By which proxy an environment sends an endpoint.
    fn by(variables: &[(&str, &str)], endpoint: &str) -> Option<String> {
        let value = |name: &str| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.into())
        };
        let detour = Proxying::Environment.detour(value).unwrap()?;
        detour.of(&endpoint.parse().unwrap()).unwrap().map(ToString::to_string)
    }

    #[test]
    fn the_environment_names_the_proxy() {
        let one = |name| by(&[(name, "http://p:1")], "http://etcd:2379");
        for name in VARIABLES {
            assert_eq!(one(name), Some(format!("the proxy p:1 ({name})")));
        }
        assert_eq!(one("HTTP_PROXY"), None, "that is for requests over HTTP, and gRPC doesn't heed it");
        assert_eq!(
            by(&[("HTTPS_PROXY", "p:1")], "https://etcd:2379").as_deref(),
            Some("the proxy p:1 (HTTPS_PROXY)")
        );
        let first = [("ALL_PROXY", "all:1"), ("https_proxy", "https:1"), ("HTTPS_PROXY", " ")];
        assert_eq!(by(&first, "http://etcd:2379").as_deref(), Some("the proxy https:1 (https_proxy)"));
        assert_eq!(by(&[("HTTPS_PROXY", "")], "http://etcd:2379"), None, "set to nothing is not set");
    }

    #[test]
    fn this_machine_and_exceptions_need_no_proxy() {
        let proxy = ("HTTPS_PROXY", "p:1");
        for endpoint in [
            "unix:etcd.sock",
            "http://localhost:2379",
            "https://127.0.0.1:2379",
            "http://[::1]:2379",
            "http://[::1%25lo]:2379",
        ] {
            assert_eq!(by(&[proxy], endpoint), None, "{endpoint}");
        }
        for name in EXCEPTIONS {
            assert_eq!(by(&[proxy, (name, "internal")], "http://etcd.internal:2379"), None);
            assert!(by(&[proxy, (name, "internal")], "http://etcd.example:2379").is_some());
        }
        let both = [proxy, ("NO_PROXY", ""), ("no_proxy", "*")];
        assert_eq!(by(&both, "http://etcd.example:2379"), None, "set to nothing is not set");
    }

    #[test]
    fn a_proxy_of_the_applications_own_is_for_all_but_its_exceptions_and_unix_sockets() {
        let proxy = Proxying::By(Proxy::new("p:1").except("10.0.0.0/8"));
        let environment = |_| Some("*".into());
        let detour = proxy.detour(environment).unwrap().unwrap();
        let is_by_proxy = |endpoint: &str| detour.of(&endpoint.parse().unwrap()).unwrap().is_some();
        assert!(is_by_proxy("http://localhost:2379") && is_by_proxy("http://etcd:2379"));
        assert!(!is_by_proxy("http://10.1.1.1:2379") && !is_by_proxy("unix:etcd.sock"));
        let refused = Proxying::By("http://".into()).detour(environment).unwrap_err();
        assert!(matches!(refused, ProxyError::Malformed { option: "proxy", .. }), "{refused}");
        assert!(Proxying::Never.detour(|_| Some("p:1".into())).unwrap().is_none());
    }

    #[test]
    fn a_bad_variable_hurts_only_endpoints_that_need_the_proxy() {
        let variables = |name: &str| (name == "ALL_PROXY").then(|| "socks5://127.0.0.1:1080".into());
        let detour = Proxying::Environment.detour(variables).unwrap().unwrap();
        assert!(detour.check(&"http://127.0.0.1:2379".parse().unwrap()).is_ok());
        let error = detour.check(&"http://etcd:2379".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("ALL_PROXY") && error.contains("socks5"), "{error}");
    }

    #[test]
    fn a_password_is_not_shown() {
        let shown = format!("{:?}", Proxying::By("http://alice:s3cret@proxy:3128".into()));
        assert!(!shown.contains("s3cret") && !shown.contains("alice"), "{shown}");
    }
}

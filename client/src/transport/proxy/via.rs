//! A proxy whose URL has been checked.

use std::{fmt, net::Ipv6Addr};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderValue;
use percent_encoding::percent_decode_str;

use super::ProxyError;
use crate::endpoint::{self, without_user};

/// The port of a URL that has none: that of HTTP, as in Go's `net/http`. (curl takes 1080.)
const DEFAULT_PORT: u16 = 80;

/// An HTTP proxy. Its text names it, without its user.
#[derive(Clone, Debug)]
pub(in super::super) struct Via {
    host: String,
    port: u16,
    /// Marked as sensitive, so that it shows nowhere.
    credentials: Option<HeaderValue>,
    /// The option or the variable that it comes from.
    option: &'static str,
}

impl Via {
    /// Reads the URL that an option or a variable has.
    pub(super) fn parse(option: &'static str, url: &str) -> Result<Self, ProxyError> {
        let url = url.trim();
        let proxy = || without_user(url);
        let malformed = |reason| ProxyError::Malformed { option, proxy: proxy(), reason };
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        if !scheme.eq_ignore_ascii_case("http") {
            // What was taken for the scheme may be a user and a password.
            let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
            let scheme = if scheme.bytes().all(is_scheme) { scheme } else { "?" };
            return Err(ProxyError::UnsupportedScheme { option, proxy: proxy(), scheme: scheme.into() });
        }
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (host, port) = host_and_port(authority).map_err(malformed)?;
        let credentials = user.map(basic).transpose().map_err(malformed)?;
        Ok(Self { host, port, credentials, option })
    }

    /// Its name or address; one of version 6 without brackets.
    pub(in super::super) fn host(&self) -> &str {
        &self.host
    }

    pub(in super::super) fn port(&self) -> u16 {
        self.port
    }

    /// What is sent as `Proxy-Authorization`.
    pub(super) fn credentials(&self) -> Option<&HeaderValue> {
        self.credentials.as_ref()
    }

    /// The option or the variable that it comes from.
    pub(super) fn option(&self) -> &'static str {
        self.option
    }

    /// Host and port as in a URL.
    pub(super) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {} ({})", self.authority(), self.option)
    }
}

fn host_and_port(authority: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("its address lacks a closing bracket")?;
            if host.parse::<Ipv6Addr>().is_err() {
                return Err("what is in the brackets is no IPv6 address");
            }
            let port =
                if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(endpoint::NO_PORT)?) };
            (host, port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_name) {
        return Err("its host is not valid");
    }
    let port = match port {
        Some(port) => endpoint::port_of(port)?,
        None => DEFAULT_PORT,
    };
    Ok((host.to_owned(), port))
}

/// HTTP's basic authentication (RFC 7617) with the user and the password of a URL.
fn basic(user: &str) -> Result<HeaderValue, &'static str> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut plain = zeroize::Zeroizing::new(Vec::new());
    plain.extend(percent_decode_str(name));
    if plain.contains(&b':') {
        return Err("its user name has a colon in it, which HTTP can't say");
    }
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    let text = zeroize::Zeroizing::new(format!("Basic {}", STANDARD.encode(&*plain)));
    let mut value = HeaderValue::from_str(&text).map_err(|_| "its user can't be sent")?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Via {
        Via::parse("proxy", url).unwrap()
    }

    #[test]
    fn a_url_has_a_host_and_may_have_a_scheme_a_port_and_a_user() {
        for (url, host, port) in [
            ("http://proxy.example:3128", "proxy.example", 3128),
            ("HTTP://proxy.example:3128/", "proxy.example", 3128),
            (" proxy.example:3128 ", "proxy.example", 3128),
            ("http://proxy.example", "proxy.example", 80),
            ("http://[fd00::1]:3128", "fd00::1", 3128),
            ("http://[fd00::1]", "fd00::1", 80),
            ("http://user:pass@proxy.example:3128", "proxy.example", 3128),
            ("user:p@ss@proxy.example:3128", "proxy.example", 3128),
        ] {
            let via = parsed(url);
            assert_eq!((via.host(), via.port()), (host, port), "{url}");
            assert_eq!(via.credentials().is_some(), url.contains("pass") || url.contains("p@ss"), "{url}");
        }
        assert_eq!(parsed("http://[fd00::1]:3128").to_string(), "the proxy [fd00::1]:3128 (proxy)");
    }

    #[test]
    fn what_stands_for_other_characters_in_a_url_is_decoded() {
        let sent = |url| parsed(url).credentials().unwrap().to_str().unwrap().to_owned();
        assert_eq!(sent("http://Aladdin:open%20sesame@proxy:1"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(
            sent("http://Aladdin:open sesame@proxy:1"),
            sent("http://Al%61ddin:open%20sesame@proxy:1")
        );
        assert_eq!(sent("http://a:b:c@proxy:1"), "Basic YTpiOmM=", "a password may have a colon in it");
        assert_eq!(sent("http://a@proxy:1"), "Basic YTo=");
    }

    #[test]
    fn what_is_no_proxy_is_refused_by_name_and_shows_no_password() {
        for url in [
            "http://",
            "http://:3128",
            "http://proxy:0",
            "http://proxy:+80",
            "http://proxy:port",
            "http://proxy:99999",
            "http://[fd00::1",
            "http://[proxy]:1",
            "http://[fd00::1]1",
            "http://a:s3cret@proxy:x",
            "http://a%3Ab:s3cret@proxy:1",
            "http://bad proxy:1",
        ] {
            let error = Via::parse("HTTPS_PROXY", url).unwrap_err();
            assert!(matches!(error, ProxyError::Malformed { option: "HTTPS_PROXY", .. }), "{url}: {error}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
        for url in [
            "socks5://a:s3cret@proxy:1080",
            "https://a:s3cret@proxy:1",
            "a:s3cret@x://proxy:1",
            "a:s3cret://x@proxy:1",
        ] {
            let error = Via::parse("ALL_PROXY", url).unwrap_err();
            assert!(matches!(error, ProxyError::UnsupportedScheme { .. }), "{url}: {error}");
            assert!(error.to_string().contains("http://host:port"), "{error}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let via = parsed("http://alice:s3cret@proxy:3128");
        let shown = format!("{via} {via:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("alice") && !shown.contains("Basic"), "{shown}");
    }
}

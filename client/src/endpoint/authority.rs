//! The authority of an endpoint's URL: its host and its port.

use std::net::{IpAddr, Ipv6Addr};

pub(super) const HAS_USER: &str = "it has a user name; give user and password apart from it";

pub(super) fn host_and_port(authority: &str) -> Result<(String, u16), &'static str> {
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

/// Whether a resolver may take the host for an address in an unusual form, such as `127.1` or `0x7f000001`: nobody can
/// tell whose that is.
pub(super) fn is_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    last.starts_with("0x") || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
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

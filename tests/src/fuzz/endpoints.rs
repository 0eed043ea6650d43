//! What users and other programs write down: endpoints, keys in namespaces, the JSON of discovery and of
//! configurations.
//!
//! Input: a byte for which of these, then the text, or texts behind their lengths.

use bytes::Bytes;
use etcd_watch_client::config::json_tree;
use etcd_watch_client::{Address, Endpoint, Scheme, fuzzing};
use etcd_watch_core::KeyRange;

use super::input::{Input, write_bytes};

const ENDPOINT: u8 = 0;
const SECRET: u8 = 1;
const DISCOVERY: u8 = 2;
const CONFIGURATION: u8 = 3;
const RANGE: u8 = 4;
const REQUEST: u8 = 5;
const KINDS: u8 = 6;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte() % KINDS;
    match kind {
        ENDPOINT => endpoint(&String::from_utf8_lossy(input.rest())),
        SECRET => {
            let before = String::from_utf8_lossy(input.bytes());
            secret(&before, &String::from_utf8_lossy(input.rest()));
        }
        DISCOVERY => discovery(input.rest()),
        CONFIGURATION => configuration(&mut input),
        RANGE => range(&mut input),
        _ => request(&mut input),
    }
}

/// What is read is written so that it is read as the same, and names the same host to TCP and to HTTP.
fn endpoint(text: &str) {
    for default in [Scheme::Http, Scheme::Https, Scheme::Unix, Scheme::Unixs] {
        let Ok(endpoint) = Endpoint::parse_or(text, default) else { continue };
        let written = endpoint.to_string();
        let again = Endpoint::parse_or(&written, Scheme::Http).expect("it was an endpoint before");
        // Control characters are shown escaped, so that they can't forge a line of a log.
        if text.chars().any(char::is_control) {
            assert!(!written.chars().any(char::is_control), "{written:?}");
            assert_eq!(again.scheme(), endpoint.scheme(), "{written:?}");
        } else {
            assert_eq!(
                (again.scheme(), again.address()),
                (endpoint.scheme(), endpoint.address()),
                "{written:?}"
            );
        }
        if let Address::Tcp { host, port } = endpoint.address() {
            let uri = endpoint.uri();
            assert_eq!(uri.port_u16(), Some(port));
            let host_in_uri = uri.host().expect("it has one");
            let address = host_in_uri.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            // A zone is for this machine, and in no request.
            let (host, zone) = host.split_once('%').map_or((host, None), |(host, zone)| (host, Some(zone)));
            assert_eq!(address.unwrap_or(host_in_uri), host);
            assert!(zone.is_none() || address.is_some(), "{written:?}");
            assert!(!host.contains(['[', ']']), "{host:?}");
            assert_eq!(uri.scheme_str(), Some(endpoint.scheme().as_str()));
        }
    }
}

/// A password is in no message, wherever it stands.
fn secret(before: &str, after: &str) {
    const PASSWORD: &str = "pa55w0rd";
    for scheme in ["http://", ""] {
        let text = format!("{scheme}user:{before}{PASSWORD}@{after}");
        let error = text.parse::<Endpoint>().expect_err("user names are refused");
        assert!(!error.to_string().contains(PASSWORD), "{error}");
        assert!(!format!("{error:?}").contains(PASSWORD), "{error:?}");
    }
}

fn discovery(value: &[u8]) {
    let Ok(endpoint) = fuzzing::decode_service_endpoint(value) else { return };
    let written = fuzzing::encode_service_endpoint(&endpoint);
    assert_eq!(fuzzing::decode_service_endpoint(&written), Ok(endpoint), "{written:?}");
}

/// Every key of a tree that is decoded is found where its levels lead.
fn configuration(input: &mut Input<'_>) {
    let mut keys: Vec<(&[u8], &[u8])> = Vec::new();
    while !input.is_empty() && keys.len() < 32 {
        keys.push((input.bytes(), input.bytes()));
    }
    let tree = fuzzing::tree(keys.iter().map(|(key, value)| (key.to_vec().into(), value.to_vec().into())));
    let Ok(decoded) = json_tree::<serde_json::Value>(&tree) else { return };
    for (key, value) in tree.iter() {
        let path = std::str::from_utf8(key).expect("it was decoded");
        let found = path.split('/').try_fold(&decoded, |object, level| object.get(level));
        let found = found.expect("the key is there");
        let value: serde_json::Value = serde_json::from_slice(value).expect("it was decoded");
        assert!(*found == value || (found.is_object() && value.is_object()), "{path}: {found} of {value}");
    }
}

fn any_range(input: &mut Input<'_>) -> KeyRange {
    let key = Bytes::copy_from_slice(input.bytes());
    match input.byte() % 4 {
        // The empty key is none: requests for it are refused.
        0 if key.is_empty() => KeyRange::all(),
        0 => KeyRange::key(key),
        1 => KeyRange::prefix(key),
        2 => KeyRange::from_key(key),
        _ => KeyRange::range(key, input.bytes().to_vec()).unwrap_or_else(|_| KeyRange::all()),
    }
}

/// A range under a prefix has exactly the keys it has, under that prefix.
fn range(input: &mut Input<'_>) {
    let range = any_range(input);
    let (outer, inner) = (input.bytes(), input.bytes());
    let nested = range.within(inner).within(outer);
    assert_eq!(nested, range.within(&[outer, inner].concat()));
    let within = range.within(outer);
    let key = input.bytes();
    if !key.is_empty() {
        let prefixed = [outer, key].concat();
        assert_eq!(within.contains(&prefixed), range.contains(key), "{within:?} of {range:?}");
    }
    if !key.starts_with(outer) {
        assert!(!within.contains(key), "{within:?} has {key:?}, which is outside of {outer:?}");
    }
    if let Ok(again) = KeyRange::range(within.start().clone(), within.end().clone()) {
        assert_eq!(again, within);
    } else {
        assert!(within.end().is_empty());
    }
}

/// A request in a namespace, however wrong, touches no key outside of it.
fn request(input: &mut Input<'_>) {
    let (prefix, key, end, probe) = (input.bytes(), input.bytes(), input.bytes(), input.bytes());
    let Some((first, end)) = fuzzing::in_namespace(prefix, key.to_vec().into(), end.to_vec().into()) else {
        return assert!(prefix.is_empty());
    };
    let is_touched = match &end[..] {
        b"" => probe == &first[..],
        b"\0" => probe >= &first[..],
        end => probe >= &first[..] && probe < end,
    };
    assert!(!is_touched || probe.starts_with(prefix), "{first:?} to {end:?} is not under {prefix:?}");
}

/// Texts of every kind to begin from.
pub(super) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let text = |kind: u8, text: &str| [&[kind], text.as_bytes()].concat();
    let texts = |kind: u8, texts: &[&[u8]]| {
        let mut bytes = vec![kind];
        texts.iter().for_each(|text| write_bytes(&mut bytes, text));
        bytes
    };
    // A range as `any_range` reads it has a byte between its keys.
    let range = |key: &[u8], how: u8, rest: &[&[u8]]| {
        let mut bytes = texts(RANGE, &[key]);
        bytes.push(how);
        rest.iter().for_each(|text| write_bytes(&mut bytes, text));
        bytes
    };
    vec![
        ("host-and-port", text(ENDPOINT, "127.0.0.1:2379")),
        ("http", text(ENDPOINT, "http://etcd.example:2379/")),
        ("https-v6", text(ENDPOINT, "HTTPS://[::1]:02379")),
        ("v6-zone", text(ENDPOINT, "http://[fe80::1%25eth0]:2379")),
        ("v6-bare", text(ENDPOINT, "::1:2379")),
        ("unix-absolute", text(ENDPOINT, "unix:///run/etcd.sock")),
        ("v6-zone-of-go", text(ENDPOINT, "[fe80::1%eth0]:2379")),
        ("unix-relative", text(ENDPOINT, "unix:etcd.sock:0")),
        ("unix-with-tls", text(ENDPOINT, "unixs:///run/etcd.sock")),
        ("unix-with-host", text(ENDPOINT, "unix://localhost:12345")),
        ("with-path", text(ENDPOINT, "http://etcd:2379/v3?x#y")),
        ("no-port", text(ENDPOINT, "http://etcd")),
        ("spaces", text(ENDPOINT, " \tetcd:1 ")),
        ("no-scheme", text(ENDPOINT, "dns://etcd:2379")),
        ("password", text(SECRET, "\0etcd:2379")),
        ("password-with-at-signs", text(SECRET, "\x02@:@etcd:2379/@")),
        ("password-before-the-scheme", text(SECRET, "\0http://etcd:2379")),
        ("password-with-a-scheme", text(SECRET, "\x03://etcd:2379")),
        ("service", text(DISCOVERY, r#"{"Op":0,"Addr":"10.0.0.1:80","Metadata":{"w":[1,-2.5e3,"\u00fc"]}}"#)),
        ("service-lower-case", text(DISCOVERY, r#" {"addr":"a","METADATA":null,"Extra":[[]],"Op":1} "#)),
        ("service-number", text(DISCOVERY, r#"{"Addr":"a","Metadata":18446744073709551616}"#)),
        ("service-no-address", text(DISCOVERY, r#"{"Addr":80}"#)),
        ("tree", texts(CONFIGURATION, &[b"db/host", b"\"a\"", b"db/port", b"5432", b"on", b"true"])),
        ("tree-object", texts(CONFIGURATION, &[b"a", b"{\"b\":1}", b"a/b", b"2", b"a/c/d", b"null"])),
        ("tree-conflict", texts(CONFIGURATION, &[b"a", b"1", b"a/b", b"2"])),
        ("tree-empty-level", texts(CONFIGURATION, &[b"a//b", b"1", b"/", b"2", b"", b"3"])),
        ("one-key", range(b"k", 0, &[b"n/", b"m/", b"k"])),
        ("prefix", range(b"k\xff", 1, &[b"\xff", b"\xff\xff", b"k\xffx"])),
        ("from-key", range(b"", 2, &[b"n/", b"", b"n0"])),
        ("from-to", range(b"a", 3, &[b"b", b"n", b"\xff", b"az"])),
        ("request", texts(REQUEST, &[b"n/", b"a", b"b", b"n/a"])),
        ("request-inverted", texts(REQUEST, &[b"n/", b"b", b"a", b"a"])),
        ("request-open", texts(REQUEST, &[b"\xff", b"", b"\0", b"\xff\xff"])),
    ]
}

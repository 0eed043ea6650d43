//! The client that the flags ask for.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use etcd_watch_tokio::{Client, Config, Keepalive, KeyRange, RequestError};

use crate::args::{Global, Keys};

/// What gRPC in Go, and so etcdctl, makes of anything shorter.
const SHORTEST_KEEPALIVE: Duration = Duration::from_secs(10);

/// Connects, and returns once an endpoint has answered.
pub(crate) async fn connect(global: &Global, watch: Config) -> anyhow::Result<Client> {
    for variable in Global::ignored() {
        writeln!(io::stderr(), "warning: {variable} is ignored: this release has no TLS and no users")?;
    }
    let attempts = u32::try_from(global.endpoints.len()).unwrap_or(u32::MAX);
    let keepalive = (!global.keepalive_time.is_zero()).then(|| Keepalive {
        interval: global.keepalive_time.max(SHORTEST_KEEPALIVE),
        timeout: global.keepalive_timeout,
    });
    let mut builder = Client::builder()
        .endpoints(global.endpoints.iter().map(|endpoint| endpoint.trim()))
        .watch_config(watch)
        .dial_timeout(global.dial_timeout)
        .request_timeout(global.command_timeout)
        .keepalive(keepalive);
    if !global.dial_timeout.is_zero() {
        builder = builder.connect_timeout(global.dial_timeout.saturating_mul(attempts));
    }
    builder.connect().await.context("can't connect")
}

/// The keys meant. As in etcdctl, the empty key is every key where several may be meant.
pub(crate) fn range(keys: &Keys) -> Result<KeyRange, RequestError> {
    let key = bytes(&keys.key);
    match &keys.range_end {
        Some(end) => KeyRange::range(key, bytes(end)),
        None if keys.prefix => Ok(KeyRange::prefix(key)),
        None if keys.from_key => Ok(KeyRange::from_key(key)),
        None => Ok(KeyRange::key(key)),
    }
}

/// An argument's bytes, which need not be UTF-8.
pub(crate) fn bytes(argument: &OsStr) -> Bytes {
    OsString::from(argument).into_encoded_bytes().into()
}

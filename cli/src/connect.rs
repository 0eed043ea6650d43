//! The client that the flags ask for.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use etcd_watch_tokio::{Client, Config, Keepalive, KeyRange, RequestError, Tls};

use crate::args::{Global, Keys, Secret};

/// What gRPC in Go, and so etcdctl, makes of anything shorter.
const SHORTEST_KEEPALIVE: Duration = Duration::from_secs(10);

/// Connects, and returns once an endpoint has answered.
pub(crate) async fn connect(global: &Global, watch: Config) -> anyhow::Result<Client> {
    for (variable, instead) in Global::ignored() {
        writeln!(io::stderr(), "warning: {variable} is ignored: {instead}")?;
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
    if let Some(tls) = tls(global)? {
        builder = builder.tls(tls);
    }
    if let Some((name, password)) = user(global)? {
        builder = builder.user(name, password);
    }
    if !global.dial_timeout.is_zero() {
        builder = builder.connect_timeout(global.dial_timeout.saturating_mul(attempts));
    }
    builder.connect().await.context("can't connect")
}

/// The TLS settings asked for, if any were.
fn tls(global: &Global) -> anyhow::Result<Option<Tls>> {
    let mut tls = Tls::new();
    match (&global.cert, &global.key) {
        (Some(certificate), Some(key)) => tls = tls.identity_files(certificate, key),
        (None, None) => {}
        (Some(_), None) => bail!("--cert is given without --key: give the certificate's key, too"),
        (None, Some(_)) => bail!("--key is given without --cert: give the key's certificate, too"),
    }
    if let Some(file) = &global.cacert {
        tls = tls.ca_file(file);
    }
    if let Some(name) = &global.tls_server_name {
        tls = tls.server_name(name);
    }
    let asked_for = global.cert.is_some() || global.cacert.is_some() || global.tls_server_name.is_some();
    Ok(asked_for.then_some(tls))
}

/// Name and password of the user, if there is to be one. A password that isn't given is asked for.
fn user(global: &Global) -> anyhow::Result<Option<(String, String)>> {
    let Some(Secret(user)) = &global.user else {
        if global.password.is_some() {
            bail!("--password is given without --user: say whose it is");
        }
        return Ok(None);
    };
    if let Some(Secret(password)) = &global.password {
        return Ok(Some((user.clone(), password.clone())));
    }
    if let Some((name, password)) = user.split_once(':') {
        return Ok(Some((name.into(), password.into())));
    }
    let password = rpassword::prompt_password("Password: ");
    let password = password.context("no password: give it with ETCDCTL_PASSWORD or --user NAME:PASSWORD")?;
    Ok(Some((user.clone(), password)))
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

//! The client that the flags ask for.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use etcd_watch_tokio::{Client, Config, Keepalive, KeyRange, RequestError, Tls};

use crate::args::{Global, Keys, Secret};

/// What gRPC in Go, and so etcdctl, makes of anything shorter.
const SHORTEST_KEEPALIVE: Duration = Duration::from_secs(10);

/// Where an etcd is, and how it is talked to.
pub(crate) struct Access<'a> {
    /// What its flags begin with, for messages.
    pub(crate) flags: &'static str,
    pub(crate) endpoints: &'a [String],
    pub(crate) cacert: Option<&'a Path>,
    pub(crate) cert: Option<&'a Path>,
    pub(crate) key: Option<&'a Path>,
    pub(crate) tls_server_name: Option<&'a str>,
    pub(crate) user: Option<&'a Secret>,
    pub(crate) password: Option<&'a Secret>,
}

impl<'a> Access<'a> {
    /// What the flags of every command say.
    fn of(global: &'a Global) -> Self {
        Self {
            flags: "--",
            endpoints: &global.endpoints,
            cacert: global.cacert.as_deref(),
            cert: global.cert.as_deref(),
            key: global.key.as_deref(),
            tls_server_name: global.tls_server_name.as_deref(),
            user: global.user.as_ref(),
            password: global.password.as_ref(),
        }
    }

    /// The TLS settings asked for, if any were.
    fn tls(&self) -> anyhow::Result<Option<Tls>> {
        let flags = self.flags;
        let mut tls = Tls::new();
        match (self.cert, self.key) {
            (Some(certificate), Some(key)) => tls = tls.identity_files(certificate, key),
            (None, None) => {}
            (Some(_), None) => {
                bail!("{flags}cert is given without {flags}key: give the certificate's key, too")
            }
            (None, Some(_)) => {
                bail!("{flags}key is given without {flags}cert: give the key's certificate, too")
            }
        }
        if let Some(file) = self.cacert {
            tls = tls.ca_file(file);
        }
        if let Some(name) = self.tls_server_name {
            tls = tls.server_name(name);
        }
        let asked_for = self.cert.is_some() || self.cacert.is_some() || self.tls_server_name.is_some();
        Ok(asked_for.then_some(tls))
    }

    /// Name and password of the user, if there is to be one. A password that isn't given is asked for.
    fn user(&self) -> anyhow::Result<Option<(String, String)>> {
        let flags = self.flags;
        let Some(Secret(user)) = self.user else {
            if self.password.is_some() {
                bail!("{flags}password is given without {flags}user: say whose it is");
            }
            return Ok(None);
        };
        if let Some(Secret(password)) = self.password {
            return Ok(Some((user.clone(), password.clone())));
        }
        if let Some((name, password)) = user.split_once(':') {
            return Ok(Some((name.into(), password.into())));
        }
        let what = if flags == "--" { "Password" } else { "Password at the destination" };
        let password = rpassword::prompt_password(format!("{what}: "));
        let variable = if flags == "--" { "ETCDCTL_PASSWORD" } else { "ETCDCTL_DEST_PASSWORD" };
        let password = password
            .with_context(|| format!("no password: give it with {variable} or {flags}user NAME:PASSWORD"))?;
        Ok(Some((user.clone(), password)))
    }
}

/// Connects, and returns once an endpoint has answered.
pub(crate) async fn connect(global: &Global, watch: Config) -> anyhow::Result<Client> {
    for (variable, instead) in Global::ignored() {
        writeln!(io::stderr(), "warning: {variable} is ignored: {instead}")?;
    }
    connect_to(&Access::of(global), global, watch).await.context("can't connect")
}

/// The same to another etcd than the one that the flags of every command are about; their times apply.
pub(crate) async fn connect_to(access: &Access<'_>, times: &Global, watch: Config) -> anyhow::Result<Client> {
    let attempts = u32::try_from(access.endpoints.len()).unwrap_or(u32::MAX);
    let keepalive = (!times.keepalive_time.is_zero()).then(|| Keepalive {
        interval: times.keepalive_time.max(SHORTEST_KEEPALIVE),
        timeout: times.keepalive_timeout,
    });
    let mut builder = etcd_watch_tokio::builder()
        .endpoints(access.endpoints.iter().map(|endpoint| endpoint.trim()))
        .watch_config(watch)
        .dial_timeout(times.dial_timeout)
        .request_timeout(times.command_timeout)
        .keepalive(keepalive);
    if let Some(tls) = access.tls()? {
        builder = builder.tls(tls);
    }
    if let Some((name, password)) = access.user()? {
        builder = builder.user(name, password);
    }
    if !times.dial_timeout.is_zero() {
        builder = builder.connect_timeout(times.dial_timeout.saturating_mul(attempts));
    }
    Ok(builder.connect().await?)
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

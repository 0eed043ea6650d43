//! The client that the flags ask for.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use etcd_watch_tokio::{
    Client, Endpoint, Keepalive, KeyRange, Scheme, Tls, WatchConfig, concurrency::Session,
};
use tokio::time::timeout;

use crate::{
    args::{Global, Keys, Secret},
    errors::{self, Flags},
    log,
};

/// What gRPC in Go, and so etcdctl, makes of anything shorter.
const SHORTEST_KEEPALIVE: Duration = Duration::from_secs(10);

/// How long the server may take to hear that a client or a session is gone.
const GOODBYE: Duration = Duration::from_secs(1);

/// Where an etcd is, and how it is talked to.
pub(crate) struct Access<'a> {
    /// Its flags, for messages.
    pub(crate) flags: Flags,
    pub(crate) endpoints: &'a [String],
    pub(crate) cacert: Option<&'a Path>,
    pub(crate) cert: Option<&'a Path>,
    pub(crate) key: Option<&'a Path>,
    pub(crate) tls_server_name: Option<&'a str>,
    pub(crate) log_tls_keys: bool,
    pub(crate) user: Option<&'a Secret>,
    pub(crate) password: Option<&'a Secret>,
}

impl<'a> Access<'a> {
    /// What the flags of every command say.
    fn of(global: &'a Global) -> Self {
        Self {
            flags: Flags::Main,
            endpoints: &global.endpoints,
            cacert: global.cacert.as_deref(),
            cert: global.cert.as_deref(),
            key: global.key.as_deref(),
            tls_server_name: global.tls_server_name.as_deref(),
            log_tls_keys: global.log_tls_keys,
            user: global.user.as_ref(),
            password: global.password.as_ref(),
        }
    }

    /// The TLS settings asked for, if any were.
    fn tls(&self) -> anyhow::Result<Option<Tls>> {
        let flags = self.flags.prefix();
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
        if self.log_tls_keys {
            tls = tls.key_log_from_env();
        }
        let asked_for = self.cert.is_some()
            || self.cacert.is_some()
            || self.tls_server_name.is_some()
            || (self.log_tls_keys && (self.flags == Flags::Main || self.names_tls()));
        Ok(asked_for.then_some(tls))
    }

    /// Whether an endpoint says that it is to be talked to over TLS.
    fn names_tls(&self) -> bool {
        let endpoints = self.endpoints.iter().filter_map(|endpoint| endpoint.parse::<Endpoint>().ok());
        endpoints.into_iter().any(|endpoint| matches!(endpoint.scheme(), Scheme::Https | Scheme::Unixs))
    }

    /// Name and password of the user, if there is to be one. A password that isn't given is asked for.
    fn user(&self) -> anyhow::Result<Option<(String, String)>> {
        let flags = self.flags.prefix();
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
        let (what, variable) = match self.flags {
            Flags::Main => ("Password", "ETCDCTL_PASSWORD"),
            Flags::Destination => ("Password at the destination", "ETCDCTL_DEST_PASSWORD"),
        };
        let password = rpassword::prompt_password(format!("{what}: "));
        let password = password
            .with_context(|| format!("no password: give it with {variable} or {flags}user NAME:PASSWORD"))?;
        Ok(Some((user.clone(), password)))
    }
}

/// Connects, and returns once an endpoint has answered.
pub(crate) async fn connect(global: &Global, watch: WatchConfig) -> anyhow::Result<Client> {
    for (variable, instead) in Global::ignored() {
        log::warning(format_args!("{variable} is ignored: {instead}"));
    }
    connect_to(&Access::of(global), global, watch).await.context("can't connect")
}

/// The same to another etcd than the one that the flags of every command are about; their times and their proxy
/// apply.
pub(crate) async fn connect_to(
    access: &Access<'_>,
    times: &Global,
    watch: WatchConfig,
) -> anyhow::Result<Client> {
    log::connecting_or_ending();
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
    if times.no_proxy {
        builder = builder.no_proxy();
    }
    if let Some(Secret(proxy)) = &times.proxy {
        builder = builder.proxy(&**proxy);
    }
    if let Some(tls) = access.tls()? {
        builder = builder.tls(tls);
    }
    if let Some((name, password)) = access.user()? {
        builder = builder.user(name, password);
    }
    if !times.dial_timeout.is_zero() {
        builder = builder.connect_timeout(times.dial_timeout.saturating_mul(attempts));
    }
    let client = builder.connect().await.map_err(|error| anyhow!(errors::start(&error, access.flags)))?;
    log::connected();
    Ok(client)
}

/// Closes a client before the process ends, so that nothing of it is interrupted: its streams are reset, which
/// cancels its watches on the server.
pub(crate) async fn close(client: &Client) {
    // Without an answer in time they end with the connection.
    let _ = timeout(GOODBYE, client.close()).await;
}

/// Ends a session, whose keys go with it.
pub(crate) async fn close_session(session: &Session) {
    // A lease that can't be revoked in time ends by itself.
    let _ = timeout(GOODBYE, session.close()).await;
}

/// The keys meant. As in etcdctl, the empty key stands for every key with `--prefix` and `--from-key` only.
///
/// # Errors
/// No key can be meant.
pub(crate) fn range(keys: &Keys) -> anyhow::Result<KeyRange> {
    let key = bytes(&keys.key);
    if keys.prefix {
        return Ok(KeyRange::prefix(key));
    }
    if keys.from_key {
        return Ok(KeyRange::from_key(key));
    }
    if key.is_empty() {
        bail!("the key is empty: give a key, or name every key with --prefix \"\" or --from-key \"\"");
    }
    let Some(end) = &keys.range_end else { return Ok(KeyRange::key(key)) };
    let end = bytes(end);
    KeyRange::range(key.clone(), end.clone()).map_err(|_| {
        let (key, end) = (key.escape_ascii(), end.escape_ascii());
        anyhow!(
            "no key is from {key} up to {end}: RANGE_END must be above KEY, and is left out where one key is meant"
        )
    })
}

/// The one key meant.
///
/// # Errors
/// It is empty, which etcd doesn't allow.
pub(crate) fn key(argument: &OsStr) -> anyhow::Result<Bytes> {
    let key = bytes(argument);
    if key.is_empty() {
        bail!("the key is empty: give a key");
    }
    Ok(key)
}

/// An argument's bytes, which need not be UTF-8.
pub(crate) fn bytes(argument: &OsStr) -> Bytes {
    OsString::from(argument).into_encoded_bytes().into()
}

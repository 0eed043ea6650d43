//! What a member is to be like, before it exists.

use std::{fmt::Display, fs, path::Path, time::Duration};

use etcd_watch_binaries::{EtcdBinary, Version};

use super::{
    EtcdServer, EtcdVersion, HarnessError,
    ports::Ports,
    process::Log,
    server::{Member, Membership, go_duration},
    tls::ServerTls,
    tokens::JwtKey,
};

/// What a server is to be like; made by [`EtcdServer::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is started before `start`"]
pub struct EtcdServerBuilder {
    version: EtcdVersion,
    flags: Vec<(String, String)>,
    progress_notify_interval: Option<Duration>,
    ready_within: Duration,
    tls: Option<ServerTls>,
    has_unix_socket: bool,
    has_ipv6: bool,
    jwt: Option<(JwtKey, Duration)>,
}

impl EtcdServerBuilder {
    pub(super) fn new(version: EtcdVersion) -> Self {
        Self {
            version,
            flags: Vec::new(),
            progress_notify_interval: None,
            ready_within: Duration::from_secs(30),
            tls: None,
            has_unix_socket: false,
            has_ipv6: false,
            jwt: None,
        }
    }

    /// Any flag of `etcd`, without its dashes: `.flag("max-txn-ops", 1024)`. The last value of a flag counts.
    pub fn flag(mut self, name: &str, value: impl Display) -> Self {
        self.flags.push((name.trim_start_matches('-').to_owned(), value.to_string()));
        self
    }

    /// How often a synced watch that asked for it hears of the store's progress. Default: 10 minutes, etcd's own.
    pub fn progress_notify_interval(mut self, interval: Duration) -> Self {
        self.progress_notify_interval = Some(interval);
        self
    }

    /// The largest request that is accepted, in bytes; fragments are cut 512 KiB above it. Default: 1.5 MiB,
    /// etcd's own.
    pub fn max_request_bytes(self, bytes: usize) -> Self {
        self.flag("max-request-bytes", bytes)
    }

    /// Compacts history older than this, over and over. Default: never.
    pub fn auto_compaction(self, retention: Duration) -> Self {
        self.flag("auto-compaction-mode", "periodic")
            .flag("auto-compaction-retention", go_duration(retention))
    }

    /// After how many transactions a snapshot is written to disk. Default: 100,000, etcd's own.
    pub fn snapshot_count(self, transactions: u64) -> Self {
        self.flag("snapshot-count", transactions)
    }

    /// Serves clients over TLS only. The peer port, `/health` and `/metrics` stay plain. Default: no TLS.
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Listens on a unix socket too, without TLS; [`endpoint`](EtcdServer::endpoint) is its path then. The TCP
    /// address stays, and is the one the member list tells. Default: no.
    pub fn unix_socket(mut self) -> Self {
        self.has_unix_socket = true;
        self
    }

    /// Listens on `[::1]` too, at the port of [`address`](EtcdServer::address). Default: no.
    pub fn ipv6(mut self) -> Self {
        self.has_ipv6 = true;
        self
    }

    /// How long a token lives after its last use, rounded up to whole seconds, if authentication is on. etcd looks
    /// for expired ones once a second, so one can live a second longer. Default: 5 minutes, etcd's own.
    ///
    /// They are kept in memory, but a restarted server can know them again: see [`EtcdServer::flush`].
    pub fn simple_token_ttl(self, ttl: Duration) -> Self {
        self.flag("auth-token-ttl", ttl.as_millis().div_ceil(1000))
    }

    /// Tokens are signed (JWT, ES256) with a key of this builder's own instead of kept by the server: they outlive a
    /// restart, and die `ttl` after they were issued, used or not, and with any change of users, roles and
    /// permissions. Whole seconds: the signature counts no finer.
    ///
    /// # Panics
    /// If the system has no random numbers.
    pub fn jwt(mut self, ttl: Duration) -> Self {
        self.jwt = Some((JwtKey::generate(), ttl));
        self
    }

    /// How long the server may take to serve before its start is an error. Default: 30 s, for machines that are
    /// busy with other tests; it takes half a second where they aren't.
    pub fn ready_within(mut self, deadline: Duration) -> Self {
        self.ready_within = deadline;
        self
    }

    /// Starts the server and waits, blocking the thread, until it serves.
    ///
    /// # Errors
    /// If there is no such server on this machine, or it ends or doesn't serve in time, with the end of its log.
    pub fn start(self) -> Result<EtcdServer, HarnessError> {
        let ports = Ports::free().map_err(HarnessError::io("find free ports"))?;
        let mut server = self.build(ports, None)?;
        server.restart()?;
        Ok(server)
    }

    /// The same without blocking the thread, for tests on a single-threaded runtime.
    ///
    /// # Errors
    /// As [`start`](EtcdServerBuilder::start).
    pub async fn start_async(self) -> Result<EtcdServer, HarnessError> {
        let ports = Ports::free().map_err(HarnessError::io("find free ports"))?;
        let mut server = self.build(ports, None)?;
        server.restart_async().await?;
        Ok(server)
    }

    /// A server that has everything but a process.
    pub(super) fn build(
        self,
        ports: Ports,
        membership: Option<Membership>,
    ) -> Result<EtcdServer, HarnessError> {
        let binary = self.version.find()?;
        let temporary = tempfile::Builder::new().prefix("etcd-watch-").tempdir();
        let directory = temporary.map_err(HarnessError::io("make a directory for a server"))?;
        let mut flags = self.standing_flags(&binary, directory.path())?;
        flags.extend(self.flags);
        Ok(EtcdServer::new(
            Member {
                binary,
                flags,
                progress_notify_interval: self.progress_notify_interval,
                tls: self.tls,
                has_unix_socket: self.has_unix_socket,
                has_ipv6: self.has_ipv6,
                membership,
                ready_within: self.ready_within,
                launcher: Vec::new(),
            },
            ports,
            Log::new(directory.path().join("etcd.log")),
            directory,
        ))
    }

    /// What comes before the flags of the test, which win. Writes the files that flags name.
    fn standing_flags(
        &self,
        binary: &EtcdBinary,
        directory: &Path,
    ) -> Result<Vec<(String, String)>, HarnessError> {
        // Cheap hashes: tests don't guard their passwords.
        let mut flags = vec![("bcrypt-cost".to_owned(), "4".to_owned())];
        if binary.version >= Version::new(3, 5, 0) {
            // Tests kill the process, never the machine, and that leaves the system's own buffers alone.
            flags.push(("unsafe-no-fsync".to_owned(), "true".to_owned()));
        }
        if let Some(tls) = &self.tls {
            flags.extend(tls.install(directory)?);
        }
        if let Some((key, ttl)) = &self.jwt {
            let (private, public) = (directory.join("jwt.key"), directory.join("jwt.pub"));
            fs::write(&private, &key.private_pem).map_err(HarnessError::io("write the key for tokens"))?;
            fs::write(&public, &key.public_pem).map_err(HarnessError::io("write the key for tokens"))?;
            let (private, public, ttl) = (private.display(), public.display(), go_duration(*ttl));
            let value = format!("jwt,sign-method=ES256,priv-key={private},pub-key={public},ttl={ttl}");
            flags.push(("auth-token".to_owned(), value));
        }
        Ok(flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_shows_no_key() {
        let ca = crate::certificates::TestCa::new();
        let tls = ServerTls::new(&ca.server(["127.0.0.1"])).require_client_certificates(&ca);
        let builder = EtcdServer::builder(EtcdVersion::V3_5).tls(tls).jwt(Duration::from_secs(1));
        let (key, _) = builder.jwt.as_ref().expect("it was asked for");
        let secret = key.private_pem.lines().nth(1).expect("a key has a body");
        let shown = format!("{builder:?}");
        assert!(!shown.contains(secret) && !shown.contains("PRIVATE"), "{shown}");
    }
}

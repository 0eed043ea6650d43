//! What a scenario is given.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_watch_client::ClientBuilder;
use tokio::task::JoinHandle;

use super::core::{Core, lock};
use super::etcd::Etcd;
use super::host::Host;
use super::link::Link;
use super::server::Server;
use super::socket::Socket;
use super::storm::{Faults, Storm};

/// A simulated world: a cluster, hosts and a network, in virtual time. Cheap to clone.
///
/// The scenario that is given it, and what it spawns by `tokio::spawn`, is on no host: it sees everything and is hit by
/// no fault. Code under test belongs on a [`Host`].
#[derive(Clone)]
pub struct World {
    core: Arc<Core>,
    etcd: Etcd,
    storm: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl World {
    pub(super) fn new(core: Arc<Core>, etcd: Etcd) -> Self {
        Self { core, etcd, storm: Arc::default() }
    }

    /// The run's seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.core.seed
    }

    /// Virtual time since the beginning of the run.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.core.now()
    }

    /// Waits in virtual time.
    pub fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + use<> {
        tokio::time::sleep(time)
    }

    /// A source of random numbers that follows from the seed; another one with each call.
    #[must_use]
    pub fn rng(&self) -> fastrand::Rng {
        self.core.rng()
    }

    /// The cluster.
    #[must_use]
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// The host with this name: a new one if there is none yet.
    #[must_use]
    pub fn host(&self, name: &str) -> Host {
        Host::named(&self.core, &self.etcd, name)
    }

    /// A client of all members on the host `client`.
    pub fn client(&self) -> ClientBuilder {
        self.host("client").client()
    }

    /// The network between a host and a member.
    ///
    /// # Panics
    /// There is no such member.
    #[must_use]
    pub fn link(&self, host: &Host, member: usize) -> Link {
        assert!(member < self.etcd.members(), "there is no member {member}");
        Link::between(&self.core, host.name(), member)
    }

    /// A server beside the cluster, of the scenario's own: `serve` has every connection that a host opens to its
    /// [endpoint](Server::endpoint), and needn't speak HTTP/2. It runs on no host; a panic in it fails the run. Faults
    /// that come by themselves don't hit it.
    ///
    /// ```
    /// use etcd_watch_testkit::sim;
    /// use std::time::Duration;
    /// use tokio::io::AsyncWriteExt;
    ///
    /// let report = sim::run(7, |world| async move {
    ///     let garbage = world.listen(|mut socket| async move {
    ///         let _gone = socket.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await;
    ///     });
    ///     let endpoints = [vec![garbage.endpoint()], world.etcd().endpoints()].concat();
    ///     let client = world.client().endpoints(endpoints).connect().await?;
    ///     client.put("k", "v").await?;
    ///     Ok(())
    /// });
    /// report.unwrap_or_else(|failure| panic!("{failure}"));
    /// ```
    pub fn listen<F, S>(&self, serve: F) -> Server
    where
        F: Fn(Socket) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        Server::new(&self.core, serve)
    }

    /// Lets faults come by themselves, in the place of those that came before, until [`calm`](Self::calm). Each fault
    /// hits one of the hosts that exist at its moment.
    pub async fn faults(&self, faults: Faults) {
        self.end_storm().await;
        let storm = Storm::new(&self.core, &self.etcd, faults);
        *lock(&self.storm) = Some(self.core.handle.spawn(storm.run()));
    }

    /// Ends the faults that [`faults`](Self::faults) has brought. Half-open connections stay so.
    pub async fn calm(&self) {
        self.end_storm().await;
        for link in lock(&self.core.links).values() {
            link.spare();
        }
        self.core.note("world", format_args!("is calm"));
    }

    async fn end_storm(&self) {
        let storm = lock(&self.storm).take();
        if let Some(storm) = storm {
            storm.abort();
            // With the task, its faults have ended.
            let _aborted = storm.await;
        }
    }

    /// Adds a line to the transcript, which a failure shows the end of.
    pub fn note(&self, what: impl fmt::Display) {
        self.core.note("--", format_args!("{what}"));
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("seed", &self.core.seed).finish_non_exhaustive()
    }
}

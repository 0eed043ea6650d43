//! An etcd to test against, in the process: a gRPC server around [`ModelEtcd`].
//!
//! It speaks enough of etcd's API for clients, and for `etcdctl`: KV, Watch, Lease, the status of the
//! member and the list of members, and `Authenticate`, if it has users; with followers it is one member of several.

mod follower;
mod guard;
#[cfg(feature = "sim")]
mod http2;
mod kv;
mod lease;
mod member;
#[cfg(feature = "sim")]
mod orders;
mod replies;
mod shared;
mod status;
mod users;
mod watch;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcd_watch_proto::etcdserverpb::auth_server::AuthServer;
use etcd_watch_proto::etcdserverpb::cluster_server::ClusterServer;
use etcd_watch_proto::etcdserverpb::kv_server::KvServer;
use etcd_watch_proto::etcdserverpb::lease_server::LeaseServer;
use etcd_watch_proto::etcdserverpb::maintenance_server::MaintenanceServer;
use etcd_watch_proto::etcdserverpb::watch_server::WatchServer;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tonic::service::{Routes, interceptor::InterceptedService};

use crate::model::{ModelConfig, ModelEtcd};
use guard::Guard;
use shared::Shared;

#[cfg(feature = "sim")]
pub(crate) use orders::Orders;
#[cfg(feature = "sim")]
pub(crate) use shared::lock;
pub use users::Users;

/// How much larger than the largest request a message may be.
const OVERHEAD_BYTES: usize = 512 * 1024;

/// An etcd to test against, in the process, on a loopback port.
///
/// It can be stopped, which cuts every connection as a crash does, and restarted on the same port with its
/// data kept. Dropping it stops it.
///
/// ```
/// # tokio::runtime::Runtime::new().expect("starts").block_on(async {
/// use etcd_watch_testkit::model::ModelConfig;
/// use etcd_watch_testkit::server::EmbeddedEtcd;
///
/// let mut etcd = EmbeddedEtcd::start(ModelConfig::default()).await?;
/// let endpoint = etcd.endpoint();
/// etcd.stop().await;
/// etcd.restart().await?;
/// assert_eq!(etcd.endpoint(), endpoint);
/// # Ok::<(), std::io::Error>(())
/// # }).expect("restarts");
/// ```
#[derive(Debug)]
pub struct EmbeddedEtcd {
    shared: Arc<Shared>,
    guard: Arc<Guard>,
    address: SocketAddr,
    server: Option<JoinHandle<()>>,
}

/// What was asked of `KV.RangeStream`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RangeStreams {
    /// Streams that were begun.
    pub begun: u64,
    /// Chunks that left.
    pub chunks: u64,
    /// Streams that were refused, since etcd of that version has none.
    pub refused: u64,
}

impl EmbeddedEtcd {
    /// Starts an empty one on a free port of 127.0.0.1. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// No port can be listened on.
    pub async fn start(config: ModelConfig) -> io::Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ModelEtcd::new(config)).await
    }

    /// Starts one with the data of a model, on an address of choice; port 0 is any that is free.
    ///
    /// # Errors
    ///
    /// The address can't be listened on.
    pub async fn start_on(address: SocketAddr, mut model: ModelEtcd) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let urls = &mut model.config_mut().client_urls;
        if urls.is_empty() {
            urls.push(format!("http://{address}"));
        }
        let (shared, guard) = (Arc::new(Shared::new(model)), Arc::new(Guard::new()));
        let mut etcd = Self { shared, guard, address, server: None };
        etcd.serve(listener);
        Ok(etcd)
    }

    /// One that listens nowhere: it serves the connections that it is given, see
    /// [`serve_on`](Self::serve_on). Its timer runs on the tokio runtime that this is called on. Its member list has the
    /// URLs of the model.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn unbound(model: ModelEtcd) -> Self {
        Self::unbound_to(Shared::new(model), Arc::new(Guard::new()))
    }

    /// Another member of a cluster that this one leads, with this configuration; it listens nowhere either. It applies
    /// what the leader does, each change `slowest` later at most; how much later is random. Its writes are done by the
    /// leader and answered when the member has applied them; a linearizable read waits until the member has applied what
    /// the leader has done by then; a serializable read and a watch have what the member has applied. Leases are the
    /// leader's. [`with_model`](Self::with_model) is for looking at it only.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().expect("starts").block_on(async {
    /// use etcd_watch_proto::etcdserverpb::PutRequest;
    /// use etcd_watch_testkit::model::{ModelConfig, ModelEtcd};
    /// use etcd_watch_testkit::server::EmbeddedEtcd;
    /// use std::time::Duration;
    ///
    /// let leader = EmbeddedEtcd::unbound(ModelEtcd::new(ModelConfig::default()));
    /// let config = ModelConfig { member_id: 2, ..ModelConfig::default() };
    /// let follower = leader.follower(config, Duration::ZERO, fastrand::Rng::with_seed(7));
    /// let put = PutRequest { key: "k".into(), ..PutRequest::default() };
    /// leader.with_model(|model| model.put(&put)).expect("a lawful put");
    /// assert_eq!(follower.with_model(|model| model.revision()), 2);
    /// # });
    /// ```
    #[must_use]
    pub fn follower(&self, config: ModelConfig, slowest: Duration, rng: fastrand::Rng) -> Self {
        Self::unbound_to(Shared::following(&self.shared, config, slowest, rng), self.guard.clone())
    }

    fn unbound_to(shared: Shared, guard: Arc<Guard>) -> Self {
        let shared = Arc::new(shared);
        let timer = Arc::clone(&shared);
        let server = Some(tokio::spawn(async move { timer.run_timer().await }));
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Self { shared, guard, address, server }
    }

    /// From now on lets nobody in but these users, if there are any.
    pub fn set_users(&self, users: Users) {
        self.guard.set_users(users);
    }

    /// A member forgets all tokens, or all members do.
    #[cfg(feature = "sim")]
    pub(crate) fn forget_tokens(&self, member: Option<usize>) {
        self.guard.forget_tokens(member);
    }

    /// Serves one connection, until it ends: one of a simulated network, say.
    pub fn serve_on<S>(&self, socket: S) -> impl Future<Output = ()> + use<S>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        serve_connection(socket, routes(&self.shared, &self.guard))
    }

    /// Serves one connection, with the faults that `orders` asks for.
    #[cfg(feature = "sim")]
    pub(crate) fn serve_by<S>(
        &self,
        socket: S,
        orders: &Arc<Orders>,
    ) -> impl Future<Output = ()> + Send + use<S>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        http2::serve(socket, routes(&self.shared, &self.guard), orders.clone())
    }

    /// Ends the watch streams, and lets the store's time stand still until [`resume`](Self::resume): for one that is
    /// unbound.
    #[cfg(feature = "sim")]
    pub(crate) fn halt(&self) {
        self.shared.stop_member();
    }

    /// Goes on after [`halt`](Self::halt), as a member does that was restarted.
    #[cfg(feature = "sim")]
    pub(crate) fn resume(&self) {
        self.shared.restart_member();
    }

    /// Whether some watch stream is still being served.
    #[cfg(feature = "sim")]
    pub(crate) fn has_readers(&self) -> bool {
        self.shared.has_readers()
    }

    /// From now on there is a leader with this id, or none: then watch streams end and KV and lease requests are refused.
    #[cfg(feature = "sim")]
    pub(crate) fn set_leader(&self, id: Option<u64>) {
        self.shared.set_leader(id);
    }

    /// Begins (`true`) or ends (`false`) one fault that keeps a follower from applying anything. It applies again when all
    /// of them have ended.
    #[cfg(feature = "sim")]
    pub(crate) fn set_lagging(&self, lags: bool) {
        match self.shared.applier() {
            Some(applier) if lags => applier.lag(),
            Some(applier) => applier.go_on(),
            None => {}
        }
    }

    /// Gives a follower the store that its leader has now, as if it had never had another.
    #[cfg(feature = "sim")]
    pub(crate) fn copy_leader(&self) {
        self.shared.copy_leader();
    }

    /// How many tokens were made.
    #[cfg(feature = "sim")]
    pub(crate) fn logins(&self) -> u64 {
        self.guard.logins()
    }

    /// Where clients reach it, such as `http://127.0.0.1:40123`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it serves.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.server.is_some()
    }

    /// Works on the model, whether it serves or not. What that changes reaches clients as if one of them had
    /// done it. Don't block: everything else waits.
    pub fn with_model<T>(&self, work: impl FnOnce(&mut ModelEtcd) -> T) -> T {
        self.shared.with_model(work)
    }

    /// Answers the next so many KV requests with "too many requests", as etcd does while it has too much to apply.
    pub fn turn_away(&self, requests: u64) {
        self.shared.turn_away(requests);
    }

    /// What clients have asked of `KV.RangeStream` so far.
    #[must_use]
    pub fn range_streams(&self) -> RangeStreams {
        let counters = &self.shared.range_streams;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RangeStreams {
            begun: read(&counters.begun),
            chunks: read(&counters.chunks),
            refused: read(&counters.refused),
        }
    }

    /// Cuts every connection and refuses new ones. The data stays. Does nothing if it is stopped.
    pub async fn stop(&mut self) {
        let Some(server) = self.server.take() else { return };
        server.abort();
        // The port is free once the task is gone.
        let _aborted = server.await;
        self.shared.stop_member();
    }

    /// Serves again on the same port, with the data kept; stops first if need be. Leases get their full time
    /// again.
    ///
    /// # Errors
    ///
    /// Somebody else has taken the port meanwhile.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.stop().await;
        let listener = TcpListener::bind(self.address).await?;
        self.shared.restart_member();
        self.serve(listener);
        Ok(())
    }

    fn serve(&mut self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        let routes = routes(&shared, &self.guard);
        self.server = Some(tokio::spawn(async move {
            tokio::select! {
                biased;
                () = accept(listener, routes) => {}
                () = shared.run_timer() => {}
            }
        }));
    }
}

impl Drop for EmbeddedEtcd {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

/// Accepts connections for ever; they end with it.
async fn accept(listener: TcpListener, routes: Routes) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    // Small responses aren't to wait for company.
                    let _best_effort = socket.set_nodelay(true);
                    connections.spawn(serve_connection(socket, routes.clone()));
                }
                // Out of file descriptors, say: others may be closed soon.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, routes: Routes) {
    let mut http = Builder::new(TokioExecutor::new());
    // As many streams at once as a client likes, as in etcd.
    http.max_concurrent_streams(u32::MAX);
    // etcd sends none either, and its bytes would tell one run of a simulation from another.
    http.auto_date_header(false);
    // How a connection ends says nothing that a test would want to know from here.
    let _ended = http.serve_connection(TokioIo::new(socket), TowerToHyperService::new(routes)).await;
}

fn routes(shared: &Arc<Shared>, guard: &Arc<Guard>) -> Routes {
    let limit = shared.with_model(|model| model.config().max_request_bytes) + OVERHEAD_BYTES;
    let kv = KvServer::new(kv::KvService(Arc::clone(shared))).max_decoding_message_size(limit);
    let watch = WatchServer::new(watch::WatchService(Arc::clone(shared)));
    let auth = guard::AuthService { shared: Arc::clone(shared), guard: Arc::clone(guard) };
    let introduce = {
        let guard = Arc::clone(guard);
        move |request| Ok(guard.introduce(request))
    };
    let admit = {
        let guard = Arc::clone(guard);
        move |request| guard.admit(request)
    };
    Routes::new(InterceptedService::new(kv, introduce.clone()))
        .add_service(InterceptedService::new(watch, introduce))
        .add_service(LeaseServer::with_interceptor(lease::LeaseService(Arc::clone(shared)), admit.clone()))
        .add_service(MaintenanceServer::with_interceptor(
            member::MaintenanceService(Arc::clone(shared)),
            admit.clone(),
        ))
        .add_service(ClusterServer::with_interceptor(member::ClusterService(Arc::clone(shared)), admit))
        .add_service(AuthServer::new(auth))
        .prepare()
}

//! Building a client.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | every setting, with its default |
//! | `check` | which values a setting may have |
//! | `start` | makes the parts of a client and starts them |

mod check;
mod start;

use std::{
    fmt::{self, Debug},
    future::Future,
    io,
    sync::Arc,
    time::Duration,
};

use etcd_watch_core::WatchConfig;

use crate::{
    Endpoint, Io, Keepalive, NoRuntime, Proxy, Runtime,
    auth::Credentials,
    cluster::advertised::Advertised,
    transport::{custom::CustomConnector, options::ConnectOptions, proxy::Proxying},
    upkeep::Upkeep,
};

/// Every setting of a client. Nothing is checked or done before [`connect`](Self::connect) or
/// [`connect_lazy`](Self::connect_lazy).
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    runtime: Where,
    endpoints: Vec<String>,
    watch: WatchConfig,
    dial_timeout: Duration,
    connect_timeout: Duration,
    request_timeout: Duration,
    connection: ConnectOptions,
    proxying: Proxying,
    max_message_bytes: usize,
    seed: Option<u64>,
    user: Option<Credentials>,
    token: Option<Credentials>,
    upkeep: Upkeep,
    advertised: Advertised,
    warn_slow_every: Option<Duration>,
    trace_calls: bool,
    #[cfg(feature = "metrics")]
    name: String,
    #[cfg(feature = "tls")]
    tls: Option<crate::Tls>,
}

/// The runtime a client is to be on.
#[derive(Clone)]
enum Where {
    Given(Arc<dyn Runtime>),
    /// The one that the client is started on.
    Ambient(Arc<dyn Fn() -> Result<Arc<dyn Runtime>, NoRuntime> + Send + Sync>),
}

impl Where {
    fn find(&self) -> Result<Arc<dyn Runtime>, NoRuntime> {
        match self {
            Self::Given(runtime) => Ok(runtime.clone()),
            Self::Ambient(find) => find(),
        }
    }
}

impl Debug for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(runtime) => runtime.fmt(f),
            Self::Ambient(_) => f.write_str("the one it is started on"),
        }
    }
}

impl ClientBuilder {
    /// A client on this runtime.
    pub fn on(runtime: impl Runtime) -> Self {
        Self::new(Where::Given(Arc::new(runtime)))
    }

    /// A client on the runtime that `find` finds when the client is started: the one that the caller is on then.
    /// `etcd_watch_tokio::builder` is this.
    pub fn on_ambient<R: Runtime>(find: impl Fn() -> Result<R, NoRuntime> + Send + Sync + 'static) -> Self {
        Self::new(Where::Ambient(Arc::new(move || Ok(Arc::new(find()?)))))
    }

    fn new(runtime: Where) -> Self {
        Self {
            runtime,
            endpoints: Vec::new(),
            watch: WatchConfig::default(),
            dial_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            connection: ConnectOptions::default(),
            proxying: Proxying::default(),
            max_message_bytes: 512 << 20,
            seed: None,
            user: None,
            token: None,
            upkeep: Upkeep::default(),
            advertised: Advertised::like_given(),
            warn_slow_every: Some(Duration::from_secs(30)),
            trace_calls: false,
            #[cfg(feature = "metrics")]
            name: "etcd".into(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The members' addresses, best first: `http://host:port`, `https://host:port` or `unix:///path`;
    /// `host:port` is `https` if `tls` is set, else `http`. At least one; several let the client
    /// go on when a member is lost. One that fails goes to the back. If others are taken from the member list later
    /// ([`sync_endpoints_every`](Self::sync_endpoints_every)), these are the last resort.
    pub fn endpoints<E: Into<String>>(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        self.endpoints = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// TLS settings, for endpoints that are `https` or `unixs`. An `http` endpoint beside them is refused; a `unix` socket
    /// is not, and has no TLS, since it is on no network. Default: for `https` endpoints the system's roots, see
    /// [`Tls`](crate::Tls).
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Connects to members by this HTTP proxy: a URL, or a [`Proxy`] with exceptions.
    ///
    /// Default: what the environment says. The proxy is the one in `HTTPS_PROXY`, as with gRPC in Go, or else in
    /// `ALL_PROXY`, which Go doesn't read; for endpoints with TLS and without, but not for those that `NO_PROXY` names,
    /// this machine's own addresses and unix sockets. `HTTP_PROXY` is not heeded. The variables are read when the client
    /// is built.
    ///
    /// ```
    /// # fn example(builder: etcd_watch_client::ClientBuilder) {
    /// let builder = builder.endpoints(["https://etcd.example:2379"]).proxy("http://proxy.example:3128");
    /// # }
    /// ```
    pub fn proxy(mut self, proxy: impl Into<Proxy>) -> Self {
        self.proxying = Proxying::By(proxy.into());
        self
    }

    /// Connects to members without a proxy, whatever the environment says.
    pub fn no_proxy(mut self) -> Self {
        self.proxying = Proxying::Never;
        self
    }

    /// Connects to members by this function, instead of by the runtime's sockets: through a VPN or a tunnel of the
    /// application's own, or within a simulated network. It is given the endpoint, and returns a connected socket:
    /// anything with hyper's `Read` and `Write`, such as `hyper_util::rt::TokioIo` around a socket of tokio's traits, or
    /// `smol_hyper::rt::FuturesIo` around one of `futures`'.
    ///
    /// TLS, for endpoints that are `https` or `unixs`, and HTTP/2 are the client's own: they are spoken over that socket,
    /// and [`dial_timeout`](Self::dial_timeout) holds. The function is called for every connection, in a task of the
    /// client's runtime. Names are not looked up before it is called, and no proxy is used.
    ///
    /// ```
    /// # fn example(builder: etcd_watch_client::ClientBuilder) {
    /// use std::io;
    ///
    /// use etcd_watch_client::Address;
    /// use smol_hyper::rt::FuturesIo;
    ///
    /// // All members are reached by one gateway, which is told the member's name first.
    /// let builder = builder.endpoints(["http://etcd-0.internal:2379"]).connector(|endpoint| async move {
    ///     let Address::Tcp { host, port } = endpoint.address() else {
    ///         return Err(io::ErrorKind::Unsupported.into());
    ///     };
    ///     let mut socket = smol::net::TcpStream::connect("gateway.example:7000").await?;
    ///     smol::io::AsyncWriteExt::write_all(&mut socket, format!("{host}:{port}\n").as_bytes()).await?;
    ///     Ok(FuturesIo::new(socket))
    /// });
    /// # }
    /// ```
    pub fn connector<F, C, I>(mut self, connect: F) -> Self
    where
        F: Fn(Endpoint) -> C + Send + Sync + 'static,
        C: Future<Output = io::Result<I>> + Send + 'static,
        I: Io,
    {
        self.connection.connector = Some(CustomConnector::new(connect));
        self
    }

    /// The user, for a cluster with authentication: the client gets an auth token for it, and another when that
    /// is not accepted any more. Where authentication is off, the client goes on without. Default: no user.
    ///
    /// Name and password are sent as they are: use `https` endpoints. The password is kept, but never shown
    /// or logged. Others can be given to the running client: [`Client::set_credentials`](crate::Client::set_credentials).
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some(Credentials::user(name, password));
        self
    }

    /// An auth token that was made elsewhere, in the place of a [`user`](Self::user), as `Token` of clientv3's `Config`:
    /// a JWT that is signed by the key that etcd's `--auth-token jwt` names, say. Every call and every watch stream
    /// carries it, as the header `token`. Where authentication is off, etcd doesn't look at it. Default: none.
    ///
    /// Tokens expire, and a JWT of etcd's is refused after any change of a user or role. The client can't get another
    /// one: give it the next with [`Client::set_credentials`](crate::Client::set_credentials) in time. After a refusal calls end with
    /// [`CallError::TokenRefused`](crate::CallError::TokenRefused) at once. Watches and mirrors wait for other credentials
    /// and go on with them; if none come they try the token again every few seconds, and end after about half a
    /// minute with [`CloseReason::TokenRefused`](crate::CloseReason::TokenRefused).
    ///
    /// The token is never shown or logged. It is sent as it is: use `https` endpoints.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Credentials::token(token));
        self
    }

    /// The settings of the watches: buffers, batches, backoff, deadlines.
    pub fn watch_config(mut self, config: WatchConfig) -> Self {
        self.watch = config;
        self
    }

    /// How long one attempt to connect to one endpoint may take. Default: 5 s, for a path on which a
    /// packet or two are lost. From 1 ms to 365 days, as all
    /// times here.
    pub fn dial_timeout(mut self, timeout: Duration) -> Self {
        self.dial_timeout = timeout;
        self
    }

    /// How long [`connect`](Self::connect) waits for a member to answer. Default: 10 s: twice the dial timeout, so
    /// that an endpoint that hangs is named as one. [`connect_lazy`](Self::connect_lazy) doesn't wait at all.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a call (KV, Lease) may take, all attempts together. Default: 10 s, twice what a cluster
    /// needs to elect a new leader with etcd's default timings.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// HTTP/2 pings while a watch or a call is open, so that a dead connection is noticed; `None` for
    /// none. Default: every 10 s, answered within 5 s. At least 5 s apart, or servers close the connection; one that wants
    /// them further apart is pinged less often, which is logged as `pings_too_frequent`.
    pub fn keepalive(mut self, keepalive: Option<Keepalive>) -> Self {
        self.connection.keepalive = keepalive;
        self
    }

    /// HTTP/2's flow-control window of a stream, in bytes, from 65,535 to 134,217,727. Default: 2 MiB: enough for 1 Gbit/s at
    /// 16 ms, and a bound on what is received of a call or a watch stream ahead of being read. The window of a connection
    /// is 16 times that of a stream.
    pub fn http2_window(mut self, bytes: u32) -> Self {
        self.connection.stream_window = bytes;
        self
    }

    /// The largest message to accept, in bytes. Default: 512 MiB: a member that catches a watch up sends
    /// up to 1,000 revisions at once, which without fragments (old servers, proxies) are one message.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Reads the member list from the cluster this often, give or take a tenth, and uses the members' client URLs from
    /// then on, see [`Client::sync_endpoints`](crate::Client::sync_endpoints). Default: never.
    pub fn sync_endpoints_every(mut self, interval: Duration) -> Self {
        self.upkeep.sync_every(interval);
        self
    }

    /// Looks the endpoints up by DNS SRV records this often, give or take a tenth, and uses those that are found from then
    /// on, as by [`Client::set_endpoints`](crate::Client::set_endpoints). A lookup that fails changes nothing, and is logged. Default: never. The first
    /// lookup is the application's, see [`SrvLookup`](crate::SrvLookup): a client needs endpoints to begin with.
    #[cfg(feature = "dns-srv")]
    pub fn srv_lookup_every(mut self, lookup: crate::SrvLookup, interval: Duration) -> Self {
        self.upkeep.look_up_every(lookup, interval);
        self
    }

    /// Which addresses of the member list are accepted. Default: those like the endpoints given, see [`Advertised`].
    pub fn accept_advertised(mut self, advertised: Advertised) -> Self {
        self.advertised = advertised;
        self
    }

    /// Spreads the watch streams over the members this often, give or take a tenth, see [`Client::spread_watches`](crate::Client::spread_watches).
    /// Default: never.
    pub fn spread_watches_every(mut self, interval: Duration) -> Self {
        self.upkeep.spread_every(interval);
        self
    }

    /// How often at most each watch whose consumer is too slow is warned of in the log; `None` for never.
    /// Default: every 30 s.
    pub fn warn_slow_every(mut self, interval: Option<Duration>) -> Self {
        self.warn_slow_every = interval;
        self
    }

    /// Gives each call a span of `tracing`: `etcd_watch.call`, at the level info. Its fields are the attributes of
    /// OpenTelemetry's conventions for clients of gRPC (semantic conventions 1.45.0), and `etcd_watch.attempts`. Keys,
    /// values, names of users, passwords and tokens are in none of them. [The list](crate#spans). Default: no spans, which
    /// costs nothing.
    pub fn trace_calls(mut self, on: bool) -> Self {
        self.trace_calls = on;
        self
    }

    /// What the label `client` of this client's metrics says. Default: `etcd`; give each its own where a
    /// process has several.
    #[cfg(feature = "metrics")]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The seed of the backoff's jitter. Default: random. With a fixed one clients back off in step: it
    /// is for tests.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }
}

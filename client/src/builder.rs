//! Building a client.

use std::{
    env,
    fmt::{self, Debug},
    future::Future,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    sync::Arc,
    time::Duration,
};

use etcd_watch_core::{WatchConfig, Watcher};

use crate::{
    BuildError, Client, Endpoint, Io, Keepalive, NoRuntime, Proxy, Runtime, StartError,
    auth::{self, Authenticator, Credentials},
    calls::{
        attempts::Calls,
        limits::{LONGEST, SHORTEST},
        telemetry::Telemetry,
    },
    cluster::endpoints::Endpoints,
    cluster::{advertised::Advertised, dialer::Dialer, pool::Pool, pulse::Pulse},
    endpoint::Accepted,
    runtime::Seeds,
    start,
    transport::{
        connector::Connector,
        custom::CustomConnector,
        options::ConnectOptions,
        proxy::{Detour, Proxying},
    },
    upkeep::Upkeep,
    watch::driver::Driver,
    watch::hub::Hub,
    watch::log::SlowConsumers,
};

/// HTTP/2's window before anyone says otherwise, and the largest there is (RFC 9113, section 6.9).
const MIN_WINDOW: u32 = 65_535;
const MAX_WINDOW: u32 = (1 << 31) - 1;

const SECOND: Duration = Duration::from_secs(1);

/// etcd closes connections that ping more often.
const MIN_KEEPALIVE: Duration = Duration::from_secs(5);

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
    /// or logged. Others can be given to the running client: [`Client::set_credentials`].
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some(Credentials::user(name, password));
        self
    }

    /// An auth token that was made elsewhere, in the place of a [`user`](Self::user), as `Token` of clientv3's `Config`:
    /// a JWT that is signed by the key that etcd's `--auth-token jwt` names, say. Every call and every watch stream
    /// carries it, as the header `token`. Where authentication is off, etcd doesn't look at it. Default: none.
    ///
    /// Tokens expire, and a JWT of etcd's is refused after any change of a user or role. The client can't get another
    /// one: give it the next with [`Client::set_credentials`] in time. After a refusal calls end with
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

    /// HTTP/2 flow-control windows of a stream and of a connection, in bytes. Default: 2 MiB and 4 MiB:
    /// enough for 1 Gbit/s at 16 ms, and a bound on what is received ahead of being read.
    pub fn http2_windows(mut self, stream: u32, connection: u32) -> Self {
        self.connection.stream_window = stream;
        self.connection.connection_window = connection;
        self
    }

    /// The largest message to accept, in bytes. Default: 512 MiB: a member that catches a watch up sends
    /// up to 1,000 revisions at once, which without fragments (old servers, proxies) are one message.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Reads the member list from the cluster this often, give or take a tenth, and uses the members' client URLs from
    /// then on, see [`Client::sync_endpoints`]. Default: never.
    pub fn sync_endpoints_every(mut self, interval: Duration) -> Self {
        self.upkeep.sync_every(interval);
        self
    }

    /// Looks the endpoints up by DNS SRV records this often, give or take a tenth, and uses those that are found from then
    /// on, as by [`Client::set_endpoints`]. A lookup that fails changes nothing, and is logged. Default: never. The first
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

    /// Spreads the watch streams over the members this often, give or take a tenth, see [`Client::spread_watches`].
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

    fn validate(&self) -> Result<Vec<Endpoint>, BuildError> {
        if self.endpoints.is_empty() {
            return Err(BuildError::NoEndpoints);
        }
        let endpoints =
            self.endpoints.iter().map(|text| self.accepted().parse(text)).collect::<Result<Vec<_>, _>>()?;
        self.watch.validate()?;
        if self.user.is_some() && self.token.is_some() {
            return Err(BuildError::UserAndToken);
        }
        self.user.iter().chain(&self.token).try_for_each(Credentials::check)?;
        let durations = [
            ("dial_timeout", Some(self.dial_timeout)),
            ("connect_timeout", Some(self.connect_timeout)),
            ("request_timeout", Some(self.request_timeout)),
            ("keepalive timeout", self.connection.keepalive.map(|keepalive| keepalive.timeout)),
            ("warn_slow_every", self.warn_slow_every),
        ];
        for (field, value) in durations.into_iter().filter_map(|(field, value)| Some((field, value?))) {
            check(field, value, (SHORTEST..=LONGEST).contains(&value), "from 1 ms to 365 days")?;
        }
        if let Some(Keepalive { interval, .. }) = self.connection.keepalive {
            let allowed = "from 5 s to 365 days: servers close connections that ping more often";
            check("keepalive interval", interval, (MIN_KEEPALIVE..=LONGEST).contains(&interval), allowed)?;
        }
        for (field, every) in self.upkeep.intervals() {
            let allowed = "from 1 s to 365 days: members are asked each time";
            check(field, every, (SECOND..=LONGEST).contains(&every), allowed)?;
        }
        let (stream, connection) = (self.connection.stream_window, self.connection.connection_window);
        let window = MIN_WINDOW..=MAX_WINDOW;
        let allowed = "from 65535 to 2147483647";
        check("http2_windows stream", stream, window.contains(&stream), allowed)?;
        check("http2_windows connection", connection, window.contains(&connection), allowed)?;
        let allowed = "at least the stream's window";
        check("http2_windows connection", connection, connection >= stream, allowed)?;
        let bytes = self.max_message_bytes;
        let allowed = "from 1 to 4294967295, which is the most that gRPC can say";
        check("max_message_bytes", bytes, (1..=u32::MAX as usize).contains(&bytes), allowed)?;
        Ok(endpoints)
    }

    /// Returns the proxy, if there is one, and checks that it can be used for every endpoint that needs it.
    fn proxy_for(&self, endpoints: &[Endpoint]) -> Result<Option<Detour>, BuildError> {
        if self.connection.connector.is_some() {
            return match self.proxying {
                Proxying::By(_) => Err(BuildError::ProxyAndConnector),
                Proxying::Environment | Proxying::Never => Ok(None),
            };
        }
        let Some(detour) = self.proxying.detour(env::var_os)? else { return Ok(None) };
        endpoints.iter().try_for_each(|endpoint| detour.check(endpoint))?;
        Ok(Some(detour))
    }

    /// What endpoints may be.
    fn accepted(&self) -> Accepted {
        #[cfg(feature = "tls")]
        return if self.tls.is_some() { Accepted::TlsOnly } else { Accepted::Any };
        #[cfg(not(feature = "tls"))]
        Accepted::PlainOnly
    }

    /// Checks the settings and starts the client. It doesn't wait for anything: connections are made
    /// when there is something to use them for, and the client goes on trying for as long as it lives. For an
    /// application that is to start whether the cluster is there or not.
    ///
    /// # Errors
    /// Names the setting that can't be used.
    pub fn connect_lazy(mut self) -> Result<Client, BuildError> {
        let endpoints = self.validate()?;
        self.connection.proxy = self.proxy_for(&endpoints)?;
        let runtime = self.runtime.find()?;
        #[cfg(feature = "tls")]
        let accepted = {
            let secure = endpoints.iter().any(|endpoint| endpoint.scheme().has_tls());
            let accepted = self.accepted();
            let tls = self.tls.take().or_else(|| secure.then(crate::Tls::new));
            self.connection.tls = tls.map(crate::transport::tls::TlsConnector::new).transpose()?;
            // Without an endpoint that needs them the system's roots are not read.
            if self.connection.tls.is_some() { accepted } else { Accepted::PlainOnly }
        };
        #[cfg(not(feature = "tls"))]
        let accepted = self.accepted();
        let seed = self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        let seeds = Seeds::new(seed);
        let machine = Watcher::new(self.watch.clone(), seeds.next())?;
        let dialer = Arc::new(Dialer {
            connector: Connector::new(runtime.clone(), self.connection, self.dial_timeout),
            endpoints: Endpoints::new(endpoints),
            accepted,
            advertised: self.advertised,
            watch_config: self.watch,
            max_message_bytes: self.max_message_bytes,
            auth: Authenticator::new(self.user.or(self.token), seeds.backoff(auth::PACE)),
            seeds,
            pulse: Arc::new(Pulse::new(runtime.now())),
        });
        let telemetry = Telemetry::new(
            self.trace_calls,
            #[cfg(feature = "metrics")]
            &self.name,
        );
        let calls = Calls::new(Pool::new(dialer), self.request_timeout, telemetry);
        let clock = runtime.clone();
        let hub = Arc::new(Hub::new(machine, move || clock.now()));
        let slow = SlowConsumers::new(self.warn_slow_every);
        runtime.run(Driver::new(hub.clone(), calls.clone(), slow));
        #[cfg(feature = "metrics")]
        runtime.run(crate::watch::metrics::export(calls.clone(), hub.clone()));
        if self.upkeep.is_wanted() {
            runtime.run(self.upkeep.run(calls.clone(), hub.clone()));
        }
        Ok(Client::new(hub, calls))
    }

    /// Checks the settings, starts the client and returns when a member has answered, to the user if there is one.
    ///
    /// It fails at once where trying again changes nothing: a wrong password, a refused token, no user where the cluster wants one,
    /// TLS that is refused at every endpoint. If every endpoint turns the client away (the connection is refused, the
    /// name is unknown, or the server hangs up without a word, as one does that wants TLS and isn't offered it), it
    /// tries again once, half a second later. All else is tried until
    /// [`connect_timeout`](Self::connect_timeout) is over. To start before the cluster does, use
    /// [`connect_lazy`](Self::connect_lazy).
    ///
    /// # Errors
    /// A setting that can't be used; or why no member has answered, for every endpoint.
    pub async fn connect(self) -> Result<Client, StartError> {
        let within = self.connect_timeout;
        let client = self.connect_lazy()?;
        // In a box: it holds whole handshakes.
        Box::pin(start::answered(client.calls(), within)).await?;
        Ok(client)
    }
}

fn check(
    field: &'static str,
    value: impl Debug,
    in_range: bool,
    allowed: &'static str,
) -> Result<(), BuildError> {
    if in_range {
        return Ok(());
    }
    Err(BuildError::OutOfRange { field, value: format!("{value:?}"), allowed })
}

#[cfg(test)]
mod tests {
    use etcd_watch_core::ConfigError;

    use super::*;
    use crate::testing::NoNetwork;

    fn builder() -> ClientBuilder {
        ClientBuilder::on(NoNetwork).endpoints(["host:1"])
    }

    fn refused(builder: ClientBuilder) -> &'static str {
        match builder.validate() {
            Err(BuildError::OutOfRange { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_valid() {
        assert!(builder().validate().is_ok());
        assert!(builder().keepalive(None).validate().is_ok());
    }

    #[test]
    fn connections_are_pinged_by_default_and_less_often_than_servers_forbid() {
        let keepalive = builder().connection.keepalive.expect("keepalive is on");
        assert_eq!(keepalive, Keepalive::default());
        // etcd closes connections that are pinged more often (`--grpc-keepalive-min-time`).
        assert!(keepalive.interval > Duration::from_secs(5), "{keepalive:?}");
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        let pings = |interval, timeout| builder().keepalive(Some(Keepalive { interval, timeout }));
        for bad in [Duration::ZERO, Duration::MAX] {
            assert_eq!(refused(builder().dial_timeout(bad)), "dial_timeout");
            assert_eq!(refused(builder().connect_timeout(bad)), "connect_timeout");
            assert_eq!(refused(builder().request_timeout(bad)), "request_timeout");
            assert_eq!(refused(pings(bad, SECOND)), "keepalive interval");
            assert_eq!(refused(pings(MIN_KEEPALIVE, bad)), "keepalive timeout");
            assert_eq!(refused(builder().sync_endpoints_every(bad)), "sync_endpoints_every");
            assert_eq!(refused(builder().spread_watches_every(bad)), "spread_watches_every");
            assert_eq!(refused(builder().warn_slow_every(Some(bad))), "warn_slow_every");
        }
        assert_eq!(refused(pings(MIN_KEEPALIVE - SHORTEST, SECOND)), "keepalive interval");
        assert!(pings(LONGEST, LONGEST).validate().is_ok());
        for bad in [0, MIN_WINDOW - 1, MAX_WINDOW + 1] {
            assert_eq!(refused(builder().http2_windows(bad, 1 << 20)), "http2_windows stream");
            assert_eq!(refused(builder().http2_windows(MIN_WINDOW, bad)), "http2_windows connection");
        }
        assert_eq!(refused(builder().http2_windows(1 << 20, 1 << 19)), "http2_windows connection");
        for bad in [0, usize::MAX] {
            assert_eq!(refused(builder().max_message_bytes(bad)), "max_message_bytes");
        }
        assert_eq!(refused(builder().user("", "password")), "user");
        assert_eq!(refused(builder().token("two\nlines")), "token");
        let short = Duration::from_millis(999);
        assert_eq!(refused(builder().sync_endpoints_every(short)), "sync_endpoints_every");
        assert_eq!(refused(builder().spread_watches_every(short)), "spread_watches_every");
    }

    #[test]
    fn a_client_has_a_user_or_a_token() {
        assert!(builder().user("alice", "password").validate().is_ok());
        assert!(builder().token("token").validate().is_ok());
        let both = builder().user("alice", "password").token("token");
        assert_eq!(both.validate(), Err(BuildError::UserAndToken));
        let shown = format!("{both:?}");
        assert!(!shown.contains("\"password\"") && !shown.contains("\"token\""), "{shown}");
    }

    #[test]
    fn endpoints_and_watch_settings_are_checked_too() {
        let none = builder().endpoints(Vec::<String>::new());
        assert_eq!(none.validate(), Err(BuildError::NoEndpoints));
        assert!(matches!(builder().endpoints([""]).validate(), Err(BuildError::Endpoint(_))));
        let config = builder().watch_config(WatchConfig::default().buffer_bytes(0));
        assert!(matches!(config.validate(), Err(BuildError::Watch(ConfigError::OutOfRange { .. }))));
    }
}

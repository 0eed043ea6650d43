//! A server with users behind a fault proxy, and a watch that writes down what it receives.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use etcd_watch_client::{
    Client, ClientBuilder, CloseReason, KeyRange, ResponseKind, Watch, WatchConfig, WatchRequest,
};
use etcd_watch_proto::etcdserverpb::{AuthenticateRequest, auth_client::AuthClient};
use etcd_watch_testkit::{
    harness::{Auth, EtcdServer, EtcdServerBuilder, Keys},
    proxy::{Cut, FaultProxy},
};
use tokio::time::timeout;

use crate::runtime::On;

/// For any one thing a scenario waits for: much longer than it takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const PASSWORD: &str = "password-of-alice";
const ROOT_PASSWORD: &str = "password-of-root";

/// Revision, key and value of a put.
pub(crate) type Change = (i64, String, String);

/// The server that a scenario is to start, and what its clients run on.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) server: EtcdServerBuilder,
    pub(crate) on: On,
}

/// One server. Alice may read and write `a/`, by her role `team`.
pub(crate) struct World {
    pub(crate) server: EtcdServer,
    /// Between the server and the clients under test.
    pub(crate) proxy: FaultProxy,
    pub(crate) auth: Auth,
    /// Past the proxy, to write with.
    pub(crate) root: Client,
    on: On,
    changes: Mutex<Vec<Change>>,
}

impl World {
    /// Authentication is on.
    pub(crate) async fn start(Setup { server, on }: Setup) -> Self {
        let server = server.start_async().await.expect("etcd starts");
        let etcdctl = server.etcdctl().expect("it has an etcdctl");
        let auth = Auth::enable(&etcdctl, ROOT_PASSWORD).await.expect("authentication is turned on");
        let added = auth.add_user_in_role("alice", PASSWORD, "team", Keys::Prefix("a/"));
        added.await.expect("alice is added");
        let proxy = FaultProxy::start(server.endpoint()).await.expect("the proxy starts");
        let root = on.builder().endpoints([server.endpoint()]);
        let root = root.user("root", ROOT_PASSWORD).connect_lazy().expect("valid settings");
        Self { server, proxy, auth, root, on, changes: Mutex::default() }
    }

    /// Alice's client, by way of the proxy.
    pub(crate) fn alice(&self) -> Client {
        self.builder().user("alice", PASSWORD).connect_lazy().expect("valid settings")
    }

    pub(crate) fn builder(&self) -> ClientBuilder {
        let quick = WatchConfig::default().backoff(
            Duration::from_millis(5),
            Duration::from_millis(10),
            Duration::from_millis(200),
        );
        let builder = self.on.builder();
        builder.endpoints([self.proxy.endpoint()]).watch_config(quick)
    }

    /// Root's client, by way of the proxy.
    pub(crate) fn on_root(&self) -> Client {
        self.builder().user("root", ROOT_PASSWORD).connect_lazy().expect("valid settings")
    }

    /// A token that the server makes for a user.
    pub(crate) async fn token_of(&self, name: &str, password: &str) -> String {
        let endpoint = tonic::transport::Endpoint::from_shared(self.server.endpoint()).expect("an endpoint");
        let mut client = AuthClient::new(endpoint.connect().await.expect("it serves"));
        let request = AuthenticateRequest { name: name.into(), password: password.into() };
        client.authenticate(request).await.expect("the password is right").into_inner().token
    }

    /// The keys and values that are written, but for what clients other than root's have not noted.
    pub(crate) fn store(&self, prefix: &str) -> BTreeMap<String, String> {
        let written = self.written(prefix, 0).into_iter();
        written.map(|(_, key, value)| (key, value)).collect()
    }

    /// Root writes.
    pub(crate) async fn put(&self, key: &str, value: &str) -> i64 {
        let answer = self.root.put(key.to_owned(), value.to_owned()).await.expect("it is put");
        let revision = answer.revision();
        self.changes.lock().expect("no panic").push((revision, key.into(), value.into()));
        revision
    }

    /// Somebody else has written.
    pub(crate) fn note_other(&self, key: &str, value: &str, revision: i64) {
        self.changes.lock().expect("no panic").push((revision, key.into(), value.into()));
    }

    pub(crate) fn cut(&self) {
        assert!(self.proxy.cut_all(Cut::Reset) > 0, "there was a connection to cut");
    }

    /// How often the server was asked to check a password since its start.
    pub(crate) fn password_checks(&self) -> u64 {
        password_checks(&self.server)
    }

    /// All that was written to the keys from this revision on.
    pub(crate) fn written(&self, prefix: &str, from: i64) -> Vec<Change> {
        let changes = self.changes.lock().expect("no panic");
        changes
            .iter()
            .filter(|(revision, key, _)| *revision >= from && key.starts_with(prefix))
            .cloned()
            .collect()
    }
}

/// How often a server was asked to check a password since its start.
pub(crate) fn password_checks(server: &EtcdServer) -> u64 {
    server.calls_begun("Authenticate").expect("etcd counts its calls")
}

/// A watch from now on, and all it has delivered.
pub(crate) struct Observer {
    watch: Watch,
    prefix: String,
    from: i64,
    received: Vec<Change>,
    pub(crate) progress: i64,
}

impl Observer {
    /// Opens a watch from this revision on, 0 for now.
    pub(crate) fn open(client: &Client, prefix: &str, from: i64) -> Self {
        let request = WatchRequest::new(KeyRange::prefix(prefix.to_owned()))
            .start_revision(from)
            .created_notify(true)
            .progress_notify(true);
        let watch = client.watch(request).expect("a lawful request");
        Self { watch, prefix: prefix.into(), from, received: Vec::new(), progress: 0 }
    }

    /// Opens a watch from now on, and waits until it runs.
    pub(crate) async fn running(client: &Client, prefix: &str) -> Self {
        let mut observer = Self::open(client, prefix, 0);
        observer.step().await.expect("it is created");
        observer.from = observer.watch.resume_revision().expect("it runs");
        observer
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Takes the next response.
    pub(crate) async fn step(&mut self) -> Result<(), CloseReason> {
        let response = timeout(DEADLINE, self.watch.next()).await.unwrap_or_else(|_| {
            panic!("nothing came for {DEADLINE:?}; received so far: {:?}", self.received)
        });
        let response = response.expect("the watch goes on, or says why not");
        let response = response.map_err(|error| error.into_reason())?;
        if response.kind() == ResponseKind::Progress {
            self.progress = response.revision();
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.received.extend(
            response.events().map(|event| (event.mod_revision(), text(event.key()), text(event.value()))),
        );
        Ok(())
    }

    /// Takes responses until an event of this revision has come; all that was written has come by then, in
    /// order and once.
    pub(crate) async fn check_through(&mut self, world: &World, revision: i64) {
        let mut written = world.written(&self.prefix, self.from);
        written.retain(|(written, ..)| *written <= revision);
        self.check(&written).await;
    }

    /// Takes responses until the last of these changes has come; they are what has come by then, in order and
    /// once.
    pub(crate) async fn check(&mut self, written: &[Change]) {
        let (revision, ..) = written.last().expect("something was written");
        while self.received.last().is_none_or(|(last, ..)| last < revision) {
            if let Err(reason) = self.step().await {
                panic!("the watch ended: {reason}");
            }
        }
        assert_eq!(self.received, written);
    }

    /// Takes responses until the watch ends, and returns why.
    pub(crate) async fn end(&mut self) -> CloseReason {
        loop {
            if let Err(reason) = self.step().await {
                return reason;
            }
        }
    }
}

/// Waits until the time has come.
pub(crate) async fn sleep_until(time: Instant) {
    tokio::time::sleep_until(time.into()).await;
}

//! Neither passwords nor tokens are shown: not in logs, however much is logged, nor by `Debug` or `Display`.
//!
//! A test of its own: what is logged anywhere in the process is captured.

#![cfg(unix)]

use std::{
    fmt::{Debug, Display},
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use etcd_watch_proto::etcdserverpb::{AuthenticateRequest, auth_client::AuthClient};
use etcd_watch_testkit::{
    harness::{Auth, EtcdServer, EtcdVersion, Keys},
    proxy::{Cut, FaultProxy},
};
use etcd_watch_tokio::{CallOptions, ClientBuilder, Credentials, Get, KeyRange, WatchConfig, WatchRequest};
use tokio::time::timeout;
use tracing_subscriber::fmt::MakeWriter;

const PASSWORD: &str = "pass-phrase-of-alice";
const WRONG: &str = "phrase-that-is-wrong";
const TENANT: &str = "tenant-that-is-secret";
const DEADLINE: Duration = Duration::from_secs(60);

/// All that was logged or formatted.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Vec<u8>>>);

impl Shown {
    fn debug(&self, value: impl Debug) {
        writeln!(&*self, "{value:?} {value:#?}").expect("memory");
    }

    fn error(&self, value: impl Debug + Display) {
        writeln!(&*self, "{value} {value:?}").expect("memory");
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned()
    }
}

impl Write for &Shown {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Shown {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_passwords_nor_tokens_are_shown() {
    let shown = Shown::default();
    let logs = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(shown.clone());
    tracing::subscriber::set_global_default(logs.finish()).expect("the only one");

    let server = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
    let etcdctl = server.etcdctl().expect("it has an etcdctl");
    let auth = Auth::enable(&etcdctl, "root").await.expect("authentication is turned on");
    let added = auth.add_user_in_role("alice", PASSWORD, "team", Keys::Prefix("a/"));
    added.await.expect("alice is added");
    let proxy = FaultProxy::start(server.endpoint()).await.expect("the proxy starts");

    let builder = || {
        let quick = Duration::from_millis(5);
        let config = WatchConfig::default().backoff(quick, quick, Duration::from_millis(100));
        etcd_watch_tokio::builder().endpoints([proxy.endpoint()]).watch_config(config)
    };
    use_it(&shown, builder().user("alice", PASSWORD), &proxy, &auth).await;
    be_refused(&shown, builder().user("alice", WRONG).connect_timeout(DEADLINE)).await;
    let token = token_of(&server).await;
    use_given(&shown, builder().token(token.clone()), &token, &auth).await;

    let text = shown.text();
    assert!(text.contains("got an auth token") && text.contains("alice"), "it is logged at all");
    assert!(text.contains("password and token go over the network in plain text"), "it is warned of");
    assert!(text.contains("token_refused") || text.contains("refuses the auth token"), "it is told");
    for secret in [PASSWORD, WRONG, TENANT, &token, "pass-phrase", "that-is-wrong"] {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "a secret was shown");
    }
    // Simple tokens are 16 letters, a dot and a number; none like that was shown either.
    let is_token = |word: &str| {
        word.split_once('.').is_some_and(|(letters, number)| {
            letters.len() == 16
                && letters.bytes().all(|byte| byte.is_ascii_alphabetic())
                && !number.is_empty()
                && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    assert!(is_token(&token), "{token}");
    let word = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').find(|word| is_token(word));
    assert_eq!(word, None, "what looks like a token was shown");
}

/// Everything a client does with a right password.
async fn use_it(shown: &Shown, builder: ClientBuilder, proxy: &FaultProxy, auth: &Auth) {
    shown.debug(&builder);
    let client = builder.connect_lazy().expect("valid settings");
    let request = WatchRequest::new(KeyRange::prefix("a/")).start_revision(1);
    let mut watch = client.watch(request).expect("a lawful request");
    let lease = client.lease_grant(Duration::from_secs(60)).await.expect("it is granted");
    let keeper = lease.keep_alive();
    shown.debug((&client, &watch, &keeper));
    client.put("a/1", "x").await.expect("it is put");
    let denied = client.get(Get::key("b/1")).await.expect_err("it is not hers");
    shown.error(denied);
    let handle = client.auth();
    shown.error(handle.user_add("bob", PASSWORD).await.expect_err("only root may"));
    shown.error(handle.user_change_password("alice", PASSWORD).await.expect_err("only root may"));
    shown.debug((&handle, client.maintenance(), client.cluster()));
    let mut denied = client.watch(KeyRange::prefix("b/")).expect("a lawful request");
    let end = timeout(DEADLINE, denied.try_next()).await.expect("in time");
    shown.error(end.expect_err("it is not hers"));
    assert!(proxy.cut_all(Cut::Reset) > 0);
    // Makes the token useless: another is fetched, for the call and for the stream.
    auth.change_password("alice", PASSWORD).await.expect("it is set again");
    let written = client.put("a/1", "y").await.expect("it is put");
    let written = written.revision();
    let mut last = 0;
    while last < written {
        let response = timeout(DEADLINE, watch.try_next()).await.expect("in time").expect("it goes on");
        let response = response.expect("it has no end");
        last = response.events().last().map_or(last, |event| event.mod_revision());
        shown.debug(response);
    }
    shown.debug((&client, &watch));
    client.close().await;
}

/// Everything a client does with a token that it was given, until it is refused; and with options that are secret.
async fn use_given(shown: &Shown, builder: ClientBuilder, token: &str, auth: &Auth) {
    shown.debug(&builder);
    let client = builder.connect().await.expect("the token is good");
    let options = CallOptions::new().metadata("x-tenant", TENANT).token(token);
    shown.debug(&options);
    let view = client.with_options(options).expect("they are valid");
    let request = WatchRequest::new(KeyRange::prefix("a/")).start_revision(1);
    let request = request.more_metadata([("x-zone".into(), TENANT.into())]);
    shown.debug(&request);
    let mut watch = view.watch(request).expect("a lawful request");
    view.put("a/1", "z").await.expect("it is put");
    shown.debug(timeout(DEADLINE, watch.try_next()).await.expect("in time").expect("it goes on"));
    shown.error(view.with_options(CallOptions::new().metadata("bad", "two\nlines")).expect_err("it is none"));
    shown.error(view.with_options(CallOptions::new().token(format!("{token}\n"))).expect_err("it is none"));
    shown.error(client.set_credentials(Credentials::token(format!("{token}\n"))).expect_err("it is none"));
    let credentials = Credentials::user("alice", PASSWORD);
    shown.debug((&credentials, Credentials::token(token)));
    // Makes the token useless.
    auth.change_password("alice", PASSWORD).await.expect("it is set again");
    for client in [&client, &view] {
        shown.error(client.get("a/1").await.expect_err("it is refused"));
    }
    client.set_credentials(credentials).expect("they are valid");
    client.get("a/1").await.expect("with the password");
    shown.debug((&client, &view, &watch));
    client.close().await;
}

async fn be_refused(shown: &Shown, builder: ClientBuilder) {
    shown.debug(&builder);
    shown.error(builder.clone().connect().await.expect_err("the password is wrong"));
    let client = builder.connect_lazy().expect("valid settings");
    shown.error(client.put("a/1", "x").await.expect_err("the password is wrong"));
    let mut watch = client.watch(KeyRange::prefix("a/")).expect("a lawful request");
    let end = timeout(DEADLINE, watch.try_next()).await.expect("in time");
    shown.error(end.expect_err("the password is wrong"));
    shown.debug((&client, &watch));
}

/// A token of alice's, to know what they look like.
async fn token_of(server: &EtcdServer) -> String {
    let endpoint = tonic::transport::Endpoint::from_shared(server.endpoint()).expect("an endpoint");
    let mut client = AuthClient::new(endpoint.connect().await.expect("it serves"));
    let request = AuthenticateRequest { name: "alice".into(), password: PASSWORD.into() };
    client.authenticate(request).await.expect("the password is right").into_inner().token
}

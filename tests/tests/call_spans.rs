//! Spans of calls: one for each, with the attributes of OpenTelemetry's conventions, and nothing secret in them.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use etcd_watch_proto::etcdserverpb::{AuthenticateRequest, auth_client::AuthClient};
use etcd_watch_testkit::{
    harness::{Auth, EtcdServer, EtcdVersion, Keys, wait_until},
    proxy::{Cut, FaultProxy},
};
use etcd_watch_tokio::{ClientBuilder, Get, KeyRange, MirrorRequest};
use tracing::{Subscriber, field::Visit, span};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt, registry::LookupSpan};

const DEADLINE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "pass-phrase-of-alice";
const KEY: &str = "a/key-to-keep-quiet";
const VALUE: &str = "value-to-keep-quiet";

type Fields = BTreeMap<&'static str, String>;

/// The spans of calls that have ended, and those that are open.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    open: BTreeMap<u64, Fields>,
    /// In the order in which they ended.
    ended: Vec<Fields>,
    /// The span that each event was in, if it was one of a call.
    events_in: Vec<&'static str>,
}

struct Recorder<'a>(&'a mut Fields);

impl Visit for Recorder<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, _: Context<'_, S>) {
        if attributes.metadata().name() == "etcd_watch.call" {
            let mut fields = Fields::new();
            attributes.record(&mut Recorder(&mut fields));
            self.0.lock().expect("no panic").open.insert(id.into_u64(), fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        if let Some(fields) = self.0.lock().expect("no panic").open.get_mut(&id.into_u64()) {
            values.record(&mut Recorder(fields));
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        if context.event_span(event).is_some_and(|span| span.name() == "etcd_watch.call") {
            self.0.lock().expect("no panic").events_in.push(event.metadata().name());
        }
    }

    fn on_close(&self, id: span::Id, _: Context<'_, S>) {
        let mut seen = self.0.lock().expect("no panic");
        if let Some(fields) = seen.open.remove(&id.into_u64()) {
            seen.ended.push(fields);
        }
    }
}

impl Spans {
    /// The spans that have ended since the last time.
    fn ended(&self) -> Vec<Fields> {
        std::mem::take(&mut self.0.lock().expect("no panic").ended)
    }

    /// The one that has.
    fn one(&self) -> Fields {
        let mut ended = self.ended();
        assert_eq!(ended.len(), 1, "one call, one span: {ended:?}");
        ended.remove(0)
    }
}

fn builder(endpoint: String) -> ClientBuilder {
    etcd_watch_tokio::builder().endpoints([endpoint]).user("alice", PASSWORD)
}

/// etcd with a user who may use what is below `a/`.
async fn server() -> EtcdServer {
    let server = EtcdServer::builder(EtcdVersion::V3_7).start_async().await.expect("etcd starts");
    let etcdctl = server.etcdctl().expect("it has an etcdctl");
    let auth = Auth::enable(&etcdctl, "root").await.expect("authentication is turned on");
    let added = auth.add_user_in_role("alice", PASSWORD, "team", Keys::Prefix("a/"));
    added.await.expect("alice is added");
    server
}

/// A token of alice's: what one looks like.
async fn token_of(server: &EtcdServer) -> String {
    let endpoint = tonic::transport::Endpoint::from_shared(server.endpoint()).expect("an endpoint");
    let mut client = AuthClient::new(endpoint.connect().await.expect("it serves"));
    let request = AuthenticateRequest { name: "alice".into(), password: PASSWORD.into() };
    client.authenticate(request).await.expect("the password is right").into_inner().token
}

#[tokio::test]
async fn each_call_has_one_span_with_the_attributes_of_the_conventions_and_nothing_secret() {
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()));
    let server = server().await;
    let proxy = FaultProxy::start(server.endpoint()).await.expect("it starts");

    let silent = builder(proxy.endpoint()).connect().await.expect("etcd answers");
    silent.put(KEY, VALUE).await.expect("it is hers");
    assert_eq!(spans.ended(), Vec::new(), "there are none unless they are asked for");
    silent.close().await;

    let client = builder(proxy.endpoint()).trace_calls(true).connect().await.expect("etcd answers");
    spans.ended();
    let mut all = Vec::new();
    client.put(KEY, VALUE).await.expect("it is hers");
    let put = spans.one();
    let port = proxy.address().port().to_string();
    let expected = [
        ("etcd_watch.attempts", "1"),
        ("otel.kind", "client"),
        ("otel.name", "etcdserverpb.KV/Put"),
        ("rpc.method", "etcdserverpb.KV/Put"),
        ("rpc.status_code", "OK"),
        ("rpc.system.name", "grpc"),
        ("server.address", "127.0.0.1"),
        ("server.port", &port),
    ];
    assert_eq!(put, expected.map(|(name, value)| (name, value.to_owned())).into());
    all.push(put);

    // The server's refusal names the status twice, as the conventions ask.
    client.get(Get::key(KEY.replace("a/", "b/"))).await.expect_err("it is not hers");
    let denied = spans.one();
    for (field, value) in [
        ("rpc.method", "etcdserverpb.KV/Range"),
        ("rpc.status_code", "PERMISSION_DENIED"),
        ("error.type", "PERMISSION_DENIED"),
        ("otel.status_code", "ERROR"),
    ] {
        assert_eq!(denied[field], value, "{denied:?}");
    }
    all.push(denied);

    // Tried again within the one span, in which the log says why.
    proxy.hold();
    let read = tokio::spawn({
        let client = client.clone();
        async move { client.get(KEY).await }
    });
    wait_until("it is under way", DEADLINE, || !spans.0.lock().expect("no panic").open.is_empty()).await;
    proxy.cut_all(Cut::Reset);
    proxy.release();
    read.await.expect("no panic").expect("it is read");
    let again = spans.one();
    let attempts: u32 = again["etcd_watch.attempts"].parse().expect("a number");
    assert!(attempts >= 2 && again["rpc.status_code"] == "OK", "{again:?}");
    assert!(spans.0.lock().expect("no panic").events_in.contains(&"calls_connected"));
    all.push(again);

    // What is made of calls has their spans: a list by a page and then by a stream, and a lease that is kept.
    for index in 0..40 {
        client.put(format!("a/{KEY}/{index}"), VALUE).await.expect("it is hers");
    }
    spans.ended();
    let request = MirrorRequest::new(KeyRange::prefix("a/")).page_bytes(300);
    let mut mirror = client.mirror(request).expect("a lawful request");
    while mirror.try_next().await.expect("it goes on").is_some_and(|event| event.synced_revision().is_none())
    {
    }
    let lists = spans.ended();
    let methods: Vec<&str> = lists.iter().map(|fields| &fields["rpc.method"][..]).collect();
    assert_eq!(methods.first(), Some(&"etcdserverpb.KV/Range"), "{methods:?}");
    assert!(methods.contains(&"etcdserverpb.KV/RangeStream"), "{methods:?}");
    assert!(lists.iter().all(|fields| fields["rpc.status_code"] == "OK"), "{lists:?}");
    all.extend(lists);
    drop(mirror);
    let lease = client.lease_grant(Duration::from_secs(60)).await.expect("it is granted");
    all.push(spans.one());
    let keeper = lease.keep_alive();
    wait_until("it is renewed", DEADLINE, || !spans.0.lock().expect("no panic").ended.is_empty()).await;
    let renewed = spans.one();
    assert_eq!(renewed["rpc.method"], "etcdserverpb.Lease/LeaseKeepAlive", "{renewed:?}");
    assert_eq!((&renewed["rpc.status_code"][..], &renewed["server.port"]), ("OK", &port), "{renewed:?}");
    all.push(renewed);
    drop(keeper);

    // Nobody is there any more: no endpoint, a word of ours.
    proxy.refuse();
    proxy.cut_all(Cut::Reset);
    let dropped = tokio::time::timeout(Duration::from_millis(100), client.get(KEY)).await;
    assert!(dropped.is_err(), "it goes on trying");
    let given_up = spans.one();
    assert_eq!((&given_up["error.type"][..], &given_up["rpc.status_code"][..]), ("given_up", "CANCELLED"));
    all.push(given_up);

    let token = token_of(&server).await;
    let text = format!("{all:?}");
    for secret in [KEY, VALUE, "quiet", PASSWORD, "pass-phrase", "alice", &token] {
        assert!(!text.contains(secret), "{secret} is in a span");
    }
    // Simple tokens are 16 letters, a dot and a number.
    let is_token = |word: &str| {
        word.split_once('.').is_some_and(|(letters, number)| {
            letters.len() == 16 && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    assert!(is_token(&token), "{token}");
    assert!(!text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').any(is_token), "{text}");
}

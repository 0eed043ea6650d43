//! What operators see: log events with stable names and fields, statistics, metrics.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use etcd_watch_testkit::{
    harness::wait_until,
    model::ModelConfig,
    proxy::{Cut, FaultProxy},
    server::EmbeddedEtcd,
};
use etcd_watch_tokio::{
    Client, KeyRange, Overflow, Watch, WatchConfig, WatchRequest, WatchState, WatchStats,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tracing::{Level, Subscriber, field::Visit, span};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt, registry::LookupSpan};

const DEADLINE: Duration = Duration::from_secs(60);

/// An event of the log.
#[derive(Clone, Debug)]
struct Logged {
    name: &'static str,
    level: Level,
    fields: BTreeMap<&'static str, String>,
    /// Of the span it happened in.
    span: Option<&'static str>,
}

/// Everything this crate has logged.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<Logged>>>);

impl Log {
    fn all(&self) -> Vec<Logged> {
        self.0.lock().expect("no panic").clone()
    }

    fn named(&self, name: &str) -> Vec<Logged> {
        self.all().into_iter().filter(|event| event.name == name).collect()
    }
}

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        if !metadata.target().starts_with("etcd_watch_client") {
            return;
        }
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        let span = context.event_span(event).map(|span| span.name());
        let logged = Logged { name: metadata.name(), level: *metadata.level(), fields, span };
        self.0.lock().expect("no panic").push(logged);
    }

    fn on_new_span(&self, _: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {}
}

/// A watch that has been created.
async fn watch(client: &Client, request: WatchRequest) -> Watch {
    let watch = client.watch(request).expect("it is opened");
    let is_active = || watch.stats().is_some_and(|stats| stats.state == WatchState::Active);
    wait_until("the watch is created", DEADLINE, is_active).await;
    watch
}

async fn take(watch: &mut Watch) -> usize {
    let next = tokio::time::timeout(DEADLINE, watch.next()).await.expect("in time");
    next.expect("it goes on").expect("it does not end").events().count()
}

#[derive(Debug, PartialEq)]
enum Metric {
    Counter(u64),
    Gauge(f64),
}

fn metrics(snapshotter: &Snapshotter) -> BTreeMap<String, Metric> {
    let snapshot = snapshotter.snapshot().into_vec().into_iter();
    let metrics = snapshot.filter_map(|(key, _, description, value)| {
        let client = key.key().labels().any(|label| (label.key(), label.value()) == ("client", "mine"));
        assert!(client && description.is_some(), "{key:?}");
        let value = match value {
            DebugValue::Counter(value) => Metric::Counter(value),
            DebugValue::Gauge(value) => Metric::Gauge(value.into_inner()),
            DebugValue::Histogram(_) => return None,
        };
        Some((key.key().name().to_owned(), value))
    });
    metrics.collect()
}

/// The sources of the client, where all events are.
fn sources(directory: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(directory).expect("it is there") {
        let path = entry.expect("it is read").path();
        if path.is_dir() {
            texts.extend(sources(&path));
        } else {
            texts.push(fs::read_to_string(path).expect("it is text"));
        }
    }
    texts
}

#[test]
fn every_event_has_a_name_and_the_documentation_lists_it() {
    let texts = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../client/src"));
    let documentation: Vec<&str> =
        texts.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with("//!")).collect();
    let documentation = documentation.join("\n");
    let mut names = Vec::new();
    for text in &texts {
        for level in ["error", "warn", "info", "debug", "trace"] {
            for (at, call) in text.match_indices(&format!("tracing::{level}!(")) {
                let arguments = text[at + call.len()..].trim_start();
                let name = arguments.strip_prefix("name: \"").and_then(|rest| rest.split_once('"'));
                let Some((name, _)) = name else { panic!("it has no name: {}", &arguments[..60]) };
                assert!(documentation.contains(&format!("`{name}`")), "{name} is not in the documentation");
                names.push(name);
            }
        }
    }
    assert!(names.contains(&"watch_slow") && names.contains(&"endpoint_failed"), "{names:?}");
}

/// One test, since what is logged and counted anywhere in the process is captured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_operators_see() {
    let log = Log::default();
    let subscriber = tracing_subscriber::registry().with(log.clone());
    tracing::subscriber::set_global_default(subscriber).expect("there is no other");
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().expect("there is no other");

    let server = EmbeddedEtcd::start(ModelConfig::default()).await.expect("it starts");
    let proxy = FaultProxy::start(server.endpoint()).await.expect("it starts");
    let config = WatchConfig::default().backoff(
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(50),
    );
    let builder = etcd_watch_tokio::builder().endpoints([proxy.endpoint()]).watch_config(config).name("mine");
    let client =
        builder.warn_slow_every(Some(Duration::from_secs(3600))).connect_lazy().expect("valid settings");
    let direct = etcd_watch_tokio::builder()
        .endpoints([server.endpoint()])
        .name("mine")
        .connect_lazy()
        .expect("valid settings");
    let put = async |key: &'static str, bytes: usize| {
        direct.put(key, vec![b'v'; bytes]).await.expect("it is put");
    };

    // Created, cut, resumed.
    let mut quick = watch(&client, WatchRequest::new(KeyRange::key("k")).start_revision(1)).await;
    put("k", 1).await;
    assert_eq!(take(&mut quick).await, 1);
    let stats: WatchStats = quick.stats().expect("it is open");
    assert_eq!((stats.lag, stats.events, stats.taken_revision), (0, 1, 2), "{stats:?}");
    proxy.cut_all(Cut::Reset);
    put("k", 1).await;
    assert_eq!(take(&mut quick).await, 1);
    assert_eq!(quick.stats().expect("it is open").recreates, 1);

    let key = format!("{:?}", quick.key());
    let created = log.named("watch_created");
    let resumed = log.named("watch_resumed");
    assert_eq!((created.len(), resumed.len()), (1, 1));
    assert_eq!((&created[0].fields["watch"], &created[0].fields["revision"]), (&key, &"1".to_owned()));
    assert_eq!((&resumed[0].fields["watch"], &resumed[0].fields["revision"]), (&key, &"3".to_owned()));
    let lost = log.named("stream_lost");
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!(lost[0].level, Level::INFO);
    assert_eq!(lost[0].fields["endpoint"], proxy.endpoint());
    assert_eq!(lost[0].fields["stream"], created[0].fields["stream"]);
    assert!(lost[0].fields["backoff"].contains("ms"), "{lost:?}");
    assert!(lost[0].fields["reason"].contains("reset"), "{lost:?}");
    assert_eq!(log.named("stream_opened").len(), 2);
    assert_eq!(log.named("stream_opened")[0].span, Some("etcd_watch.stream"));

    // A consumer that is too slow, over and over: one warning that names it.
    let request = WatchRequest::new(KeyRange::prefix("s/")).start_revision(1);
    let mut slow = watch(&client, request.overflow(Overflow::Replay).buffer_bytes(16 << 10)).await;
    for round in 1..=3 {
        for _ in 0..8 {
            put("s/1", 8 << 10).await;
        }
        let overflows = || slow.stats().map_or(0, |stats| stats.overflows);
        wait_until("its buffer is full", DEADLINE, || overflows() >= round).await;
        let stats = slow.stats().expect("it is open");
        assert!(stats.lag > 0 && stats.queued_events > 0 && stats.queued_bytes > 8 << 10, "{stats:?}");
        let all = client.watch_stats();
        assert!(all.contains(&(slow.key(), stats)), "{all:?}");
        let mut taken = slow.stats().map_or(0, |stats| stats.events);
        while taken < 8 * u64::from(round) {
            taken += take(&mut slow).await as u64;
        }
    }
    let warnings: Vec<_> = log.all().into_iter().filter(|event| event.level == Level::WARN).collect();
    let names: Vec<_> = warnings.iter().map(|event| event.name).collect();
    assert_eq!(names.iter().filter(|&&name| name == "watch_slow").count(), 1, "{warnings:?}");
    let warning = &log.named("watch_slow")[0].fields;
    assert_eq!(warning["watch"], format!("{:?}", slow.key()));
    assert!(warning["range"].contains("s/") && warning.contains_key("queued_bytes"), "{warning:?}");
    assert!(log.named("watch_slow_again").len() >= 2);

    // What is counted comes out as metrics.
    let last = client.stats();
    let mut exported = BTreeMap::new();
    let mut is_exported = || {
        // A counter's snapshot is what came since the last one.
        for (name, metric) in metrics(&snapshotter) {
            let sum = match (exported.remove(&name), metric) {
                (Some(Metric::Counter(before)), Metric::Counter(more)) => Metric::Counter(before + more),
                (_, metric) => metric,
            };
            exported.insert(name, sum);
        }
        exported.get("etcd_watch_events_total") == Some(&Metric::Counter(last.events))
            && exported.get("etcd_watch_responses_total") == Some(&Metric::Counter(last.responses))
    };
    wait_until("the metrics say what the statistics say", DEADLINE, &mut is_exported).await;
    assert_eq!(exported["etcd_watch_recreates_total"], Metric::Counter(last.recreates));
    assert_eq!(exported["etcd_watch_cancels_total"], Metric::Counter(last.cancels));
    assert!(last.cancels > 0, "what overflows is taken off the server");
    assert_eq!(exported["etcd_watch_overflows_total"], Metric::Counter(last.overflows));
    assert_eq!(exported["etcd_watch_reconnects_total"], Metric::Counter(1));
    assert!(matches!(exported["etcd_watch_watches"], Metric::Gauge(_)));
    assert!(matches!(exported["etcd_watch_max_lag_revisions"], Metric::Gauge(_)));

    // The end of a watch is told, too.
    drop(slow);
    client.close().await;
    assert!(quick.next().await.expect("the reason").is_err());
    let ended = log.named("watch_ended");
    assert_eq!((ended.len(), &ended[0].fields["watch"]), (1, &key));
}

//! Values that don't decode are warned of in the log, and counted by the metrics.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use etcd_watch_testkit::{harness::wait_until, model::ModelConfig, server::EmbeddedEtcd};
use etcd_watch_tokio::{
    Put,
    config::Config,
    discovery::{Discovery, ServiceEndpoint},
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tracing::{Level, Subscriber, field::Visit};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt};

const DEADLINE: Duration = Duration::from_secs(30);

/// Every warning of this crate: its name or its text.
#[derive(Clone, Debug, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    fn like(&self, what: &str) -> usize {
        self.0.lock().expect("no panic").iter().filter(|warning| warning.contains(what)).count()
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!(" {}={value:?}", field.name()));
    }
}

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() == Level::WARN && metadata.target().starts_with("etcd_watch_client") {
            let mut text = Text(metadata.name().to_owned());
            event.record(&mut text);
            self.0.lock().expect("no panic").push(text.0);
        }
    }
}

/// The counters that count for what is labelled so; a snapshot of them is what came since the last.
#[derive(Default)]
struct Counted(BTreeMap<(String, String), u64>);

impl Counted {
    fn add(&mut self, snapshotter: &Snapshotter) {
        for (key, _, description, value) in snapshotter.snapshot().into_vec() {
            let label = key.key().labels().next().map(|label| label.value().to_owned()).unwrap_or_default();
            if let DebugValue::Counter(value) = value {
                assert!(description.is_some(), "{key:?}");
                *self.0.entry((key.key().name().to_owned(), label)).or_default() += value;
            }
        }
    }

    fn of(&self, name: &str, label: &str) -> Option<u64> {
        self.0.get(&(name.to_owned(), label.to_owned())).copied()
    }
}

/// One test, since what is logged and counted anywhere in the process is captured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_decode_is_told_and_counted() {
    let warnings = Warnings::default();
    let subscriber = tracing_subscriber::registry().with(warnings.clone());
    tracing::subscriber::set_global_default(subscriber).expect("there is no other");
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().expect("there is no other");
    let mut counted = Counted::default();

    let server = EmbeddedEtcd::start(ModelConfig::default()).await.expect("it starts");
    let client = etcd_watch_tokio::builder().endpoints([server.endpoint()]).build().expect("valid settings");
    let put = async |key: &'static str, value: &'static str| {
        client.put(Put::new(key, value)).await.expect("it is put");
    };

    // A configuration.
    let number = |value: &[u8]| String::from_utf8_lossy(value).parse::<u32>();
    let limit = Config::value(&client, "limit", number).expect("it is followed");
    limit.ready().await.expect("it goes on");
    counted.add(&snapshotter);
    assert_eq!(counted.of("etcd_watch_config_decode_errors_total", "limit"), Some(0));
    for (value, errors) in [("1", 0), ("many", 1), ("2", 1), ("more", 2)] {
        put("limit", value).await;
        let followed =
            || limit.decode_errors() == errors && limit.error().is_some() == value.parse::<u32>().is_err();
        wait_until("it is followed", DEADLINE, followed).await;
    }
    counted.add(&snapshotter);
    assert_eq!(counted.of("etcd_watch_config_decode_errors_total", "limit"), Some(2));
    assert_eq!(warnings.like("config_undecodable"), 2, "{warnings:?}");

    // Endpoints, in a watch and in a list.
    let billing = Discovery::new(&client, "billing").expect("a target");
    let mut watch = billing.watch();
    watch.try_next().await.expect("it goes on");
    put("billing/one", "nonsense").await;
    billing.add("two", ServiceEndpoint::new("10.0.0.2:80")).await.expect("it is added");
    while !watch.endpoints().contains_key("two") {
        watch.try_next().await.expect("it goes on");
    }
    counted.add(&snapshotter);
    assert_eq!((watch.undecodable(), warnings.like("endpoint=\"one\"")), (1, 1), "{warnings:?}");
    assert_eq!(counted.of("etcd_watch_discovery_undecodable_total", "billing"), Some(1));
    let listed = billing.list().await.expect("it is listed");
    assert_eq!((listed.undecodable.len(), warnings.like("endpoint=\"one\"")), (1, 2), "{warnings:?}");
    counted.add(&snapshotter);
    assert_eq!(counted.of("etcd_watch_discovery_undecodable_total", "billing"), Some(2));
}

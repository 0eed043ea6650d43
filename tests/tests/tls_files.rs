//! What the log says of TLS files that change and can't be used.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use etcd_watch_testkit::certificates::TestCa;
use etcd_watch_tokio::{Client, Get, Tls};
use tokio::net::TcpListener;
use tracing::{Level, Subscriber};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt};

/// For any one thing a test waits for.
const DEADLINE: Duration = Duration::from_secs(60);

/// Names and levels of all events about TLS files.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<(&'static str, Level)>>>);

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.name().starts_with("tls_files_unusable") {
            self.0.lock().expect("no panic").push((metadata.name(), *metadata.level()));
        }
    }
}

/// Connects in vain, at least twice and until so much is logged of it; what was logged.
async fn attempt(client: &Client, log: &Log, events: usize) -> Vec<(&'static str, Level)> {
    let logged = || log.0.lock().expect("no panic");
    let mut attempts = 0;
    let attempting = async {
        while attempts < 2 || logged().len() < events {
            client.get(Get::key("k")).await.expect_err("nobody answers");
            attempts += 1;
        }
    };
    tokio::time::timeout(DEADLINE, attempting).await.expect("it is logged in time");
    std::mem::take(&mut *logged())
}

/// Accepts connections, and hangs up.
async fn hangs_up() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    port
}

/// One test, since what is logged anywhere in the process is captured.
#[tokio::test]
async fn files_that_can_not_be_used_are_warned_of_once_for_each_reason() {
    const AGAIN: (&str, Level) = ("tls_files_unusable_again", Level::DEBUG);
    const NEWS: (&str, Level) = ("tls_files_unusable", Level::WARN);
    let log = Log::default();
    let subscriber = tracing_subscriber::registry().with(log.clone());
    tracing::subscriber::set_global_default(subscriber).expect("there is no other");

    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ca.pem");
    let write = |path: &Path, text: &str| fs::write(path, text).expect("it is written");
    write(&path, TestCa::new().pem());
    let endpoint = format!("https://127.0.0.1:{}", hangs_up().await);
    let client = etcd_watch_tokio::builder()
        .endpoints([endpoint])
        .tls(Tls::new().ca_file(&path))
        .request_timeout(Duration::from_millis(200))
        .build()
        .expect("valid settings");
    assert_eq!(attempt(&client, &log, 0).await, [], "the files are as they were");

    write(&path, "half a file");
    let logged = attempt(&client, &log, 3).await;
    assert_eq!(logged[0], NEWS);
    assert!(logged[1..].iter().all(|event| *event == AGAIN), "{logged:?}");

    fs::remove_file(&path).expect("it was there");
    let logged = attempt(&client, &log, 3).await;
    assert_eq!(logged[0], NEWS, "another reason");
    assert!(logged[1..].iter().all(|event| *event == AGAIN), "{logged:?}");

    write(&path, TestCa::new().pem());
    assert_eq!(attempt(&client, &log, 0).await, [], "they can be used");
    let aside = directory.path().join("aside.pem");
    for _ in 0..2 {
        fs::rename(&path, &aside).expect("it was there");
        assert_eq!(attempt(&client, &log, 1).await[0], NEWS, "they could be used in between");
        fs::rename(&aside, &path).expect("it was there");
        assert_eq!(attempt(&client, &log, 0).await, [], "they are as they were when they could be used");
    }
}

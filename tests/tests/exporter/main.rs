//! Metrics: the names in the documentation, the dashboard and the alert rules are those that an exporter serves, and their
//! values are what has happened.

mod expression;
mod scenario;
mod served;

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use etcd_watch_testkit::{
    harness::wait_until,
    proxy::{Cut, FaultProxy},
};
use etcd_watch_tokio::{
    Get,
    concurrency::{Mutex, Name, Session},
};
use scenario::{client, everything, exporter, server, soon, until};
use served::{Metrics, documented, family, samples, served};

const DEADLINE: Duration = Duration::from_secs(60);

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The expressions of the dashboard.
fn dashboard() -> Vec<String> {
    let dashboard: serde_json::Value =
        serde_json::from_str(&document("grafana/etcd-watch.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions = targets.map(|target| target["expr"].as_str().expect("an expression").to_owned());
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let variables =
        variables.iter().filter_map(|variable| Some(variable["query"]["query"].as_str()?.to_owned()));
    expressions.chain(variables).collect()
}

/// The expressions of the alert rules.
fn rules() -> Vec<String> {
    let text = document("prometheus/etcd-watch.rules.yaml");
    let expressions = text.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let expressions: Vec<String> = expressions.map(str::to_owned).collect();
    assert_eq!(
        expressions.len(),
        text.matches("- alert: ").count(),
        "each alert has its expression in one line"
    );
    expressions
}

/// What an expression names that is not served; nothing if all is.
fn unknown(expression: &str, metrics: &Metrics) -> Vec<String> {
    let named = expression::named(expression).unwrap_or_else(|error| panic!("{error}: {expression}"));
    let mut unknown = Vec::new();
    let mut labels = BTreeSet::new();
    let is_variable = expression.starts_with("label_values(");
    for (series, selected) in named.series {
        if is_variable && labels.contains(&series) {
            continue;
        }
        match family(metrics, &series) {
            Some(name) => {
                let of = &metrics[&name].labels;
                unknown.extend(
                    selected.iter().filter(|&label| !of.contains(label)).map(|l| format!("{series}: {l}")),
                );
                labels.extend(of.iter().cloned());
            }
            None => unknown.push(series.clone()),
        }
        if series.ends_with("_bucket") {
            labels.insert("le".to_owned());
        }
    }
    unknown.extend(named.groups.into_iter().filter(|label| !labels.contains(label)));
    unknown
}

#[tokio::test]
async fn everything_that_is_served_is_documented_and_everything_that_is_shown_is_served() {
    let (recorder, handle) = exporter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let text = everything(&handle).await.expect("it goes well");
    let served = served(&text);

    let documented = documented(&document("metrics.md"));
    assert!(documented.len() > 40, "{documented:?}");
    for (name, metric) in &documented {
        assert_eq!(served.get(name), Some(metric), "{name} is served as it is documented");
    }
    let names: BTreeSet<&String> = documented.iter().map(|(name, _)| name).collect();
    assert_eq!(served.keys().collect::<BTreeSet<_>>(), names, "everything that is served is documented");
    assert_eq!(names.len(), documented.len(), "once each");

    let (dashboard, rules) = (dashboard(), rules());
    assert!(dashboard.len() > 20 && rules.len() > 5);
    for expression in dashboard.iter().chain(&rules) {
        assert_eq!(unknown(expression, &served), Vec::<String>::new(), "{expression}");
    }
    for wrong in ["etcd_watch_wotches", "etcd_watch_watches{cache=\"a\"}", "sum by (x) (etcd_watch_watches)"]
    {
        assert_ne!(unknown(wrong, &served), Vec::<String>::new(), "{wrong}");
    }
}

/// The sum of a series' samples that have these labels.
fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let samples = samples(text).into_iter().filter(|sample| sample.name == name);
    let is_of = |sample: &served::Sample| {
        labels.iter().all(|&(label, value)| sample.labels.get(label).is_some_and(|is| is == value))
    };
    samples.filter(is_of).map(|sample| sample.value).sum()
}

const CALLS: &str = "rpc_client_call_duration_seconds_count";

#[tokio::test]
async fn a_call_is_measured_once_with_its_method_its_end_and_its_attempts() {
    let (recorder, handle) = exporter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let server = server().await;
    let proxy = FaultProxy::start(server.endpoint()).await.expect("it starts");
    let client = client(proxy.endpoint()).await;
    let port = proxy.address().port().to_string();
    client.put("k", "v").await.expect("it is put");
    client.get(Get::key("k").revision(1 << 40)).await.expect_err("it is in the future");
    let text = handle.render();
    let put = [
        ("client", "mine"),
        ("rpc_system_name", "grpc"),
        ("rpc_method", "etcdserverpb.KV/Put"),
        ("rpc_status_code", "OK"),
        ("server_address", "127.0.0.1"),
        ("server_port", &port),
    ];
    assert_eq!(sum(&text, CALLS, &put), 1.0, "{text}");
    let sample = samples(&text)
        .into_iter()
        .find(|sample| sample.labels.get("rpc_method").is_some_and(|m| m == put[2].1));
    assert!(!sample.expect("it is there").labels.contains_key("error_type"), "{text}");
    let refused = [("rpc_method", "etcdserverpb.KV/Range"), ("rpc_status_code", "OUT_OF_RANGE")];
    assert_eq!(sum(&text, CALLS, &[&refused[..], &[("error_type", "OUT_OF_RANGE")]].concat()), 1.0, "{text}");

    // A read whose connection is cut is tried again: one call, two attempts or more.
    let before = sum(&text, "etcd_watch_call_attempts_total", &[("rpc_method", "etcdserverpb.KV/Range")]);
    proxy.hold();
    let read = tokio::spawn({
        let client = client.clone();
        async move { client.get("k").await }
    });
    until(&handle, "it is under way", |text| sum(text, "etcd_watch_calls_in_flight", &[]) == 1.0).await;
    proxy.cut_all(Cut::Reset);
    proxy.release();
    soon(read).await.expect("no panic").expect("it is read");
    let text = handle.render();
    assert_eq!(sum(&text, "etcd_watch_calls_in_flight", &[]), 0.0, "{text}");
    let range = [("rpc_method", "etcdserverpb.KV/Range")];
    let retries = sum(&text, "etcd_watch_call_retries_total", &range);
    assert!(retries >= 1.0, "{text}");
    assert_eq!(sum(&text, "etcd_watch_call_attempts_total", &range) - before, 1.0 + retries, "{text}");

    // One that nobody waits for any longer is told as such.
    proxy.hold();
    let dropped = tokio::time::timeout(Duration::from_millis(20), client.get("k")).await;
    assert!(dropped.is_err(), "nothing is answered");
    let given_up = [("error_type", "given_up"), ("rpc_status_code", "CANCELLED")];
    let text = handle.render();
    assert_eq!(
        (sum(&text, CALLS, &given_up), sum(&text, "etcd_watch_calls_in_flight", &[])),
        (1.0, 0.0),
        "{text}"
    );
    proxy.release();
}

#[tokio::test]
async fn locks_sessions_and_leases_are_counted_while_they_are_there_and_when_they_are_lost() {
    let (recorder, handle) = exporter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let server = server().await;
    let client = client(server.endpoint()).await;
    let value = |name: &str| sum(&handle.render(), name, &[("client", "mine")]);
    let name = Name::new("lock").expect("a name");
    let (first, second) =
        (Session::open(&client).await.expect("open"), Session::open(&client).await.expect("open"));
    assert_eq!((value("etcd_watch_sessions"), value("etcd_watch_leases_kept")), (2.0, 2.0));

    let held = Mutex::new(&first, name.clone()).lock().await.expect("it is free");
    assert_eq!((value("etcd_watch_locks_held"), value("etcd_watch_locks_waiting")), (1.0, 0.0));
    let waiting = tokio::spawn({
        let mutex = Mutex::new(&second, name.clone());
        async move { mutex.lock().await }
    });
    wait_until("the second waits", DEADLINE, || value("etcd_watch_locks_waiting") == 1.0).await;
    held.unlock().await.expect("it was held");
    let held = soon(waiting).await.expect("no panic").expect("it is free");
    assert_eq!((value("etcd_watch_locks_held"), value("etcd_watch_locks_waiting")), (1.0, 0.0));
    assert_eq!(value("etcd_watch_lock_acquire_duration_seconds_count"), 2.0);

    // The server ends the lease of the one who holds the lock.
    client.lease_revoke(second.id()).await.expect("it is revoked");
    soon(held.lost()).await;
    let is_lost = || value("etcd_watch_locks_lost_total") == 1.0 && value("etcd_watch_locks_held") == 0.0;
    wait_until("the loss of the lock is counted", DEADLINE, is_lost).await;
    soon(second.lost()).await;
    assert_eq!((value("etcd_watch_sessions"), value("etcd_watch_sessions_lost_total")), (1.0, 1.0));

    // A closed session is no loss; a lease that is kept by itself is lost when the server says so.
    first.close().await.expect("it is closed");
    assert_eq!((value("etcd_watch_sessions"), value("etcd_watch_sessions_lost_total")), (0.0, 1.0));
    let lease = client.lease_grant(Duration::from_secs(60)).await.expect("it is granted");
    let keeper = lease.keep_alive();
    wait_until("it is renewed", DEADLINE, || value("etcd_watch_lease_renewals_total") >= 3.0).await;
    drop(keeper);
    client.lease_revoke(lease.id()).await.expect("it is revoked");
    let keeper = lease.keep_alive();
    soon(keeper.lost()).await;
    let not_found = [("reason", "not_found")];
    let lost = || sum(&handle.render(), "etcd_watch_leases_lost_total", &not_found);
    wait_until("the loss of the lease is counted", DEADLINE, || lost() == 1.0).await;
    drop(keeper);
    drop(second);
    wait_until("no lease is kept", DEADLINE, || value("etcd_watch_leases_kept") == 0.0).await;
    assert_eq!(value("etcd_watch_lease_renewal_failures_total"), 0.0);
}

#[tokio::test]
async fn a_stream_that_is_lost_is_seen_and_a_renewal_that_fails_is_counted() {
    let (recorder, handle) = exporter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let server = server().await;
    let proxy = FaultProxy::start(server.endpoint()).await.expect("it starts");
    let client = client(proxy.endpoint()).await;
    let watch = client.watch("k").expect("a lawful request");
    let streams = |text: &str| {
        (
            sum(text, "etcd_watch_watches", &[]),
            sum(text, "etcd_watch_streams", &[]),
            sum(text, "etcd_watch_open_streams", &[]),
        )
    };
    until(&handle, "the stream is open", |text| streams(text) == (1.0, 1.0, 1.0)).await;
    proxy.refuse();
    proxy.cut_all(Cut::Reset);
    until(&handle, "the stream is lost", |text| streams(text) == (1.0, 1.0, 0.0)).await;
    let keeper = client.lease_keep_alive(1, Duration::from_secs(600)).expect("a time");
    let failures = |text: &str| sum(text, "etcd_watch_lease_renewal_failures_total", &[]);
    until(&handle, "a renewal fails", |text| failures(text) >= 1.0).await;
    proxy.restore();
    until(&handle, "the stream is open again", |text| streams(text) == (1.0, 1.0, 1.0)).await;
    drop((watch, keeper));
}

//! Manual progress replies of etcd 3.4.23, which come ahead of events (etcd#15220): a client that believes
//! them loses events at the next cut. Ours does not, on either count.

#![allow(clippy::print_stdout, reason = "what the run measured is worth reading")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use etcd_watch_core::{Action, Opened, Request, ServerVersion, WatchConfig, WatchKey, Watcher};
use etcd_watch_proto::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest as WireRequest, WatchResponse as WireResponse,
    watch_client::WatchClient, watch_request::RequestUnion,
};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion},
    proxy::{Cut, FaultProxy},
};
use etcd_watch_tokio::{Client, KeyRange, WatchRequest};
use prost::Message;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

const WRITERS: usize = 8;
const KEYS: usize = 100;
const EVERY: Duration = Duration::from_micros(300);

/// Writers that go on until they are told to stop.
struct Writers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Writers {
    fn start(client: &Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let (client, stop) = (client.clone(), stop.clone());
            tasks.spawn(async move {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    let key = format!("p/{writer}/{}", count % KEYS);
                    client.put(key, count.to_string()).await.expect("it is put");
                    count += 1;
                }
            });
        }
        Self { stop, tasks }
    }

    async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(done) = self.tasks.join_next().await {
            done.expect("the writer writes");
        }
    }
}

/// What raw streams of the server said while progress was asked for all the time: that of the first stream on which
/// an event came at or below an earlier reply.
async fn record_until_overtaken(server: &EtcdServer) -> Vec<WireResponse> {
    loop {
        if let Some(recorded) = record(server).await {
            return recorded;
        }
    }
}

/// How many responses of a stream are looked at. It is in the first ones, which bring the watch up to the present,
/// that replies are most likely to be early.
const RECORDED: usize = 2_000;

/// Everything a raw stream said, if its last response has an event at or below an earlier reply.
async fn record(server: &EtcdServer) -> Option<Vec<WireResponse>> {
    let (requests, receiver) = mpsc::channel(64);
    let create = WatchCreateRequest {
        key: "p/".into(),
        range_end: "p0".into(),
        start_revision: 1,
        ..WatchCreateRequest::default()
    };
    requests
        .send(WireRequest { request_union: Some(RequestUnion::CreateRequest(create)) })
        .await
        .expect("the stream takes requests");
    let channel = tonic::transport::Endpoint::from_shared(server.endpoint())
        .expect("an endpoint")
        .connect()
        .await
        .expect("etcd serves");
    let mut responses = WatchClient::new(channel)
        .watch(ReceiverStream::new(receiver))
        .await
        .expect("etcd opens the stream")
        .into_inner();
    let asking = tokio::spawn(async move {
        let mut tick = tokio::time::interval(EVERY);
        loop {
            tick.tick().await;
            let request = RequestUnion::ProgressRequest(WatchProgressRequest {});
            if requests.send(WireRequest { request_union: Some(request) }).await.is_err() {
                return;
            }
        }
    });
    let mut recorded = Vec::new();
    let mut overtaken = false;
    let (mut created, mut announced) = (0, 0);
    while recorded.len() < RECORDED {
        let response = responses.message().await.expect("the stream goes on").expect("it does not end");
        let revision = response.header.as_ref().expect("etcd sends headers").revision;
        if response.created {
            created = revision;
        } else if response.watch_id == -1 && response.events.is_empty() && revision > created {
            // One that is not past the watch's beginning may have been on its way before: nobody believes that.
            announced = announced.max(revision);
        }
        let first = response.events.first().and_then(|event| event.kv.as_ref()).map(|kv| kv.mod_revision);
        overtaken = first.is_some_and(|first| first <= announced);
        recorded.push(response);
        if overtaken {
            break;
        }
    }
    asking.abort();
    overtaken.then_some(recorded)
}

/// Feeds the recording, but for its last response, to the machine; returns where it would resume if the
/// connection were cut just then.
fn resume_revision_before_the_last(recorded: &[WireResponse], believed: ServerVersion) -> i64 {
    let now = etcd_watch_core::Instant::ZERO;
    let mut watcher = Watcher::new(WatchConfig::default(), 1).expect("valid");
    let request = WatchRequest::new(KeyRange::prefix("p/")).start_revision(1);
    let watch: WatchKey = watcher.watch(now, request).expect("lawful");
    let Some(Action::Open { stream, .. }) = watcher.poll_action() else { panic!("it opens a stream") };
    watcher.handle_opened(now, stream, Opened { version: Some(believed), ..Opened::default() });
    let Some(Action::Send { request: Request::Create(create), .. }) = watcher.poll_action() else {
        panic!("it creates the watch")
    };
    for response in &recorded[..recorded.len() - 1] {
        // A reply is believed only if it was asked for.
        watcher.request_progress(now, watch).expect("the watch is open");
        let mut response = response.clone();
        if response.watch_id != -1 {
            response.watch_id = create.watch_id;
        }
        watcher.handle_frame(now, stream, etcd_watch_core::Frame::decode(response.encode_to_vec().into()));
        while watcher.poll_action().is_some() {}
        while watcher.next(now, watch).is_some() {}
    }
    assert_eq!(watcher.stats().misbehaved, 0, "the recording is lawful");
    watcher.resume_revision(watch).expect("the watch is open")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn believing_the_progress_of_3_4_23_would_lose_events_at_a_cut() {
    let server = EtcdServer::builder(EtcdVersion::V3_4).start_async().await.expect("etcd starts");
    assert!(!ServerVersion::new(3, 4, 23).orders_manual_progress());
    let client = etcd_watch_tokio::connect([server.endpoint()]).await.expect("a client");
    let writers = Writers::start(&client);
    let recorded = timeout(Duration::from_secs(240), record_until_overtaken(&server))
        .await
        .expect("within four minutes a reply overtakes an event");
    writers.stop().await;
    let last = recorded.last().expect("there are responses");
    let first_event = last.events[0].kv.as_ref().expect("events have keys").mod_revision;
    println!(
        "after {} responses revision {first_event} came below an earlier progress reply",
        recorded.len()
    );

    let credulous = resume_revision_before_the_last(&recorded, ServerVersion::new(3, 5, 30));
    assert!(credulous > first_event, "resuming at {credulous} loses revision {first_event}");
    let ours = resume_revision_before_the_last(&recorded, ServerVersion::new(3, 4, 23));
    assert!(ours <= first_event, "resuming at {ours} loses nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hammering_for_progress_while_the_connection_is_cut_loses_nothing_on_3_4_23() {
    const CUTS: u64 = 15;
    let server = EtcdServer::builder(EtcdVersion::V3_4).start_async().await.expect("etcd starts");
    let proxy = FaultProxy::start(server.endpoint()).await.expect("the proxy starts");
    let direct = etcd_watch_tokio::connect([server.endpoint()]).await.expect("a client");
    let cut_off = etcd_watch_tokio::connect([proxy.endpoint()]).await.expect("a client");
    let mut watch =
        cut_off.watch(WatchRequest::new(KeyRange::prefix("p/")).start_revision(1)).expect("a lawful request");

    let writers = Writers::start(&direct);
    let mut received: Vec<(i64, Vec<u8>)> = Vec::new();
    let mut tick = tokio::time::interval(EVERY);
    let mut cut = tokio::time::interval(Duration::from_millis(200));
    let deadline = Instant::now() + Duration::from_secs(120);
    while proxy.cuts() < CUTS {
        assert!(Instant::now() < deadline, "{} of {CUTS} cuts", proxy.cuts());
        tokio::select! {
            response = watch.try_next() => {
                let response = response.expect("the watch goes on").expect("it has a response");
                received.extend(response.events().map(|event| (event.mod_revision(), event.key().to_vec())));
            }
            _ = tick.tick() => watch.request_progress(),
            _ = cut.tick() => { proxy.cut_all(Cut::Reset); }
        }
    }
    writers.stop().await;
    let end = direct.put("p/end", "").await.expect("it is put");
    let end = end.revision();
    let rest = async {
        while received.last().is_none_or(|&(revision, _)| revision < end) {
            let response = watch.try_next().await.expect("the watch goes on").expect("it has a response");
            received.extend(response.events().map(|event| (event.mod_revision(), event.key().to_vec())));
        }
    };
    timeout(Duration::from_secs(60), rest).await.expect("the watch catches up");

    let stats = cut_off.stats();
    println!("{} events through {} cuts; {stats:?}", received.len(), proxy.cuts());
    // Every write was a put of one key in a revision of its own, and nobody else writes.
    let revisions: Vec<i64> = received.iter().map(|&(revision, _)| revision).collect();
    assert_eq!(revisions, (2..=end).collect::<Vec<_>>(), "each revision exactly once, in order");
    let store = direct.get(etcd_watch_tokio::Get::prefix("p/")).await.expect("it is read");
    let last: BTreeMap<Vec<u8>, i64> = received.into_iter().map(|(revision, key)| (key, revision)).collect();
    for kv in store.kvs() {
        assert_eq!(last.get(&kv.key[..]), Some(&kv.mod_revision));
    }
    assert!(stats.untrusted_progress > 0, "replies came, and were not believed: {stats:?}");
    assert_eq!(stats.overtaken_events, 0, "no progress was believed that an event then gave the lie");
}

//! Calls, as clients saw them, are what one store can have answered.

use std::time::Duration;

use etcd_watch_client::cache::CacheRequest;
use etcd_watch_client::{BoxError, CallError, Client, KeyRange, Put, PutResponse};
use etcd_watch_proto::etcdserverpb::{PutRequest, PutResponse as WirePut, RangeRequest, ResponseHeader};
use etcd_watch_testkit::linearizable::{
    Answer, Checked, Kinds, RecordedClient, Recorder, Request, Truth, Workload, check,
};
use etcd_watch_testkit::sim::{Faults, World};

use super::soon;

const HOSTS: [&str; 3] = ["a", "b", "c"];
/// Calls at a time on each host, beside its puts.
const WORKLOADS: usize = 2;
const CALLS: u32 = 80;
const PUTS: u32 = 40;
/// The keys: few, so that operations meet.
const PREFIX: &str = "k/";
const KEYS: u32 = 5;
/// Many faults last longer: some calls are answered late, and the client gives others up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// A read of a cache has no time limit of its own.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a client makes its puts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "bugs are planted by the tests, and not by the example that runs the scenarios")]
pub(crate) enum Puts {
    /// As they are.
    AsTheyAre,
    /// Again, if they may have been executed.
    Repeated,
    /// It tells that they were not executed, if they may have been.
    Denied,
}

async fn put(client: &Client, put: Put, puts: Puts) -> Result<PutResponse, CallError> {
    match client.put_with(put.clone()).await {
        Err(error) if error.may_have_executed() && puts == Puts::Repeated => client.put_with(put).await,
        Err(error) if error.may_have_executed() && puts == Puts::Denied => {
            Err(CallError::Timeout { method: "Put", after: REQUEST_TIMEOUT, last: None })
        }
        answer => answer,
    }
}

async fn recorded_put(recorded: &RecordedClient, key: u32, puts: Puts) {
    let key = format!("{PREFIX}{key}");
    let value = format!("v{}", recorded.recorder().unique());
    let request =
        PutRequest { key: key.clone().into(), value: value.clone().into(), ..PutRequest::default() };
    let made = async {
        let put = put(recorded.client(), Put::new(key, value), puts).await?;
        let header = Some(ResponseHeader { revision: put.revision(), ..ResponseHeader::default() });
        Ok(WirePut { header, prev_kv: None })
    };
    // What comes of it is written down.
    let _answer = recorded.record(Request::Put(request), made, |put| Answer::Put(put.clone())).await;
}

/// Hosts make calls at random and read caches under a storm; each call is written down. In calm every host reads the
/// store once more. All of it is held against the store's history.
pub(crate) async fn calls_are_those_of_one_store(world: World, puts: Puts) -> Result<(), BoxError> {
    let clock = world.clone();
    let recorder = Recorder::with_clock(move || clock.now());
    let hosts = HOSTS.map(|name| world.host(name));
    let kinds = Kinds { leases: true, renewals: true, past: true, given_up: 25 };
    world.faults(Faults::all().every(Duration::from_secs(1))).await;
    let (mut tasks, mut clients) = (Vec::new(), Vec::new());
    for host in &hosts {
        let client = host.client().request_timeout(REQUEST_TIMEOUT).connect_lazy()?;
        let cache = client.cache(CacheRequest::new(KeyRange::prefix(PREFIX)))?;
        for _ in 0..WORKLOADS {
            let mut rng = world.rng();
            let recorded = recorder.client(client.clone());
            let mut workload = Workload::new(recorded, PREFIX, KEYS, kinds, rng.u64(..));
            let cache = cache.clone();
            tasks.push(host.spawn(async move {
                for _ in 0..CALLS {
                    let _gone_by = tokio::time::timeout(PATIENCE, workload.step(Some(&cache))).await;
                    tokio::time::sleep(Duration::from_millis(rng.u64(..500))).await;
                }
            }));
        }
        let (recorded, mut rng) = (recorder.client(client), world.rng());
        clients.push(recorded.clone());
        tasks.push(host.spawn(async move {
            for _ in 0..PUTS {
                recorded_put(&recorded, rng.u32(..KEYS), puts).await;
                tokio::time::sleep(Duration::from_millis(rng.u64(..1000))).await;
            }
        }));
    }
    world.sleep(Duration::from_secs(60)).await;
    world.calm().await;
    for task in tasks {
        soon("the end of the calls", task).await?.ok_or("a host's calls have died")?;
    }
    for (host, client) in hosts.iter().zip(clients) {
        let all = KeyRange::prefix(PREFIX);
        let read = RangeRequest {
            key: all.start().clone(),
            range_end: all.end().clone(),
            ..RangeRequest::default()
        };
        // The first ones may go out on a connection that is half-open.
        let reading = host.spawn(async move { while client.get(read.clone()).await.is_err() {} });
        soon("a read in calm", reading).await?.ok_or("a host's read has died")?;
    }
    hold_against_the_store(&world, &recorder)
}

fn hold_against_the_store(world: &World, recorder: &Recorder) -> Result<(), BoxError> {
    let mut truth = Truth::of_all();
    truth.extend(&world.etcd().history());
    let config = world.etcd().with_model(|model| model.config().clone());
    let history = recorder.history();
    let checked: Checked = check(&history, &truth, &config).map_err(|violations| {
        let violation = &violations[0];
        let whose = violation.operation.map_or_else(String::new, |number| format!(": {:?}", history[number]));
        format!("{} rules of calls were broken; the first: {violation}{whose}", violations.len())
    })?;
    world.note(format_args!("{checked:?}"));
    if checked.writes < 50 || checked.reads < 50 || checked.unverified > 0 {
        return Err(format!("too little was checked: {checked:?}").into());
    }
    Ok(())
}

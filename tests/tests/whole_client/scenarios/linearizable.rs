//! Calls, as clients saw them, are what one store can have answered.

use std::time::Duration;

use etcd_watch_client::cache::{Cache, CacheRequest};
use etcd_watch_client::{BoxError, CallError, Client, KeyRange, Put, PutResponse};
use etcd_watch_proto::etcdserverpb::{PutRequest, PutResponse as WirePut, ResponseHeader};
use etcd_watch_testkit::linearizable::{
    Answer, Checked, Kinds, RecordedClient, Recorder, Request, Truth, Workload, check, range_request,
};
use etcd_watch_testkit::sim::World;

use super::stage::{Site, Stage, soon};

/// The keys: few, so that operations meet.
const PREFIX: &str = "calls/";
const KEYS: u32 = 5;
/// What a put that is denied tells of its time.
const DENIED_AFTER: Duration = Duration::from_secs(3);
/// A read of a cache has no time limit of its own.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a client makes its puts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Puts {
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
            Err(CallError::Timeout { method: "Put", after: DENIED_AFTER, last: None })
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

/// Calls on several hosts.
pub(super) struct Calls {
    pub(super) sites: Vec<Site>,
    /// How many tasks of a host make calls of all kinds, beside one that puts.
    pub(super) per_site: usize,
    /// The longest pause of a task between two calls, in milliseconds.
    pub(super) pause: u64,
    /// Less than so many reads, or so many writes, is too little to say that they are one store's.
    pub(super) least: usize,
    pub(super) puts: Puts,
}

/// Hosts make calls at random and read caches; each call is written down. In calm every host reads the store once more.
/// All of it is held against the store's history. The clients have to give calls up after a few seconds: many faults last
/// longer, so some calls are answered late.
pub(super) async fn calls_are_those_of_one_store(stage: Stage, calls: Calls) -> Result<(), BoxError> {
    let Calls { sites, per_site, pause, least, puts } = calls;
    let clock = stage.world().clone();
    let recorder = Recorder::with_clock(move || clock.now());
    let mut tasks = Vec::new();
    for Site { host, client } in &sites {
        let cache = client.cache(CacheRequest::new(KeyRange::prefix(PREFIX)))?;
        for _ in 0..per_site {
            let recorded = recorder.client(client.clone());
            tasks.push(host.spawn(call(stage.clone(), recorded, cache.clone(), pause)));
        }
        tasks.push(host.spawn(put_all_the_time(stage.clone(), recorder.client(client.clone()), pause, puts)));
    }
    stage.calm().await;
    for task in tasks {
        soon("the end of the calls", task).await?.ok_or("a host's calls have died")?;
    }
    for Site { host, client } in sites {
        let (client, read) = (recorder.client(client), range_request(&KeyRange::prefix(PREFIX)));
        // The first ones may go out on a connection that is half-open.
        let reading = host.spawn(async move { while client.get(read.clone()).await.is_err() {} });
        soon("a read in calm", reading).await?.ok_or("a host's read has died")?;
    }
    hold_against_the_store(stage.world(), &recorder, least)
}

async fn call(stage: Stage, recorded: RecordedClient, cache: Cache, pause: u64) {
    let mut rng = stage.world().rng();
    let kinds = Kinds { leases: true, renewals: true, past: true, bare_reads: true, given_up: 25 };
    let mut workload = Workload::new(recorded, PREFIX, KEYS, kinds, rng.u64(..));
    while !stage.is_calm() {
        let _gone_by = tokio::time::timeout(PATIENCE, workload.step(Some(&cache))).await;
        stage.pause(&mut rng, pause).await;
    }
}

async fn put_all_the_time(stage: Stage, recorded: RecordedClient, pause: u64, puts: Puts) {
    let mut rng = stage.world().rng();
    while !stage.is_calm() {
        recorded_put(&recorded, rng.u32(..KEYS), puts).await;
        stage.pause(&mut rng, 2 * pause).await;
    }
}

fn hold_against_the_store(world: &World, recorder: &Recorder, least: usize) -> Result<(), BoxError> {
    let mut truth = Truth::starting_at(1, Vec::new(), KeyRange::prefix(PREFIX));
    truth.extend(&world.etcd().history());
    let config = world.etcd().look(|model| model.config().clone());
    let history = recorder.history();
    let checked: Checked = check(&history, &truth, &config).map_err(|violations| {
        let violation = &violations[0];
        let whose = violation.operation.map_or_else(String::new, |number| format!(": {:?}", history[number]));
        format!("{} rules of calls were broken; the first: {violation}{whose}", violations.len())
    })?;
    world.note(format_args!("{checked:?}"));
    if checked.writes < least || checked.reads < least || checked.unverified > 0 {
        return Err(format!("too little was checked: {checked:?}").into());
    }
    Ok(())
}

//! Clients that break a promise are found out.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use etcd_watch_client::{CallError, Client, Put};
use etcd_watch_proto::etcdserverpb::{
    PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader, TxnRequest,
};
use etcd_watch_testkit::{
    linearizable::{Answer, Demand, RecordedClient, Recorder, Request, Rule, range_response},
    proxy::Cut,
    server::EmbeddedEtcd,
};
use tokio::time::timeout;

use crate::{
    runtime::On,
    world::{DEADLINE, Kind, Run, World, client},
};

async fn rules(run: &Run<'_>) -> Vec<Rule> {
    let broken = timeout(DEADLINE, run.try_check()).await.expect("it is read in time");
    broken.err().unwrap_or_default().into_iter().map(|violation| violation.rule).collect()
}

fn put_request(value: &str) -> PutRequest {
    PutRequest { key: "k/0".into(), value: value.to_owned().into(), ..PutRequest::default() }
}

fn get_request() -> RangeRequest {
    RangeRequest { key: "k/0".into(), ..RangeRequest::default() }
}

/// A put by a call that is made in the place of the client's.
async fn put_by(
    recorded: &RecordedClient,
    value: &str,
    call: impl AsyncFnOnce(&Client, Put) -> Result<etcd_watch_client::PutResponse, CallError>,
) -> Result<PutResponse, CallError> {
    let made = async {
        let put = call(recorded.client(), Put::new("k/0", value.to_owned())).await?;
        let header = Some(ResponseHeader { revision: put.revision(), ..ResponseHeader::default() });
        Ok(PutResponse { header, prev_kv: None })
    };
    recorded.record(Request::Put(put_request(value)), made, |put| Answer::Put(put.clone())).await
}

/// A world whose first put has been made, so that there is a connection, and the next answer is cut.
async fn before_a_lost_answer(world: &World) -> (Run<'_>, RecordedClient) {
    let run = world.run_of(Recorder::new());
    let recorded = run.client(client(On::Tokio, &world.link_endpoints()));
    recorded.put(put_request("first")).await.expect("it is put");
    world.links[0].cut_next_after_bytes(0, Cut::Reset);
    (run, recorded)
}

#[tokio::test]
async fn a_put_whose_answer_was_lost_is_open_and_was_made() {
    let world = World::start(Kind::Model).await;
    let (run, recorded) = before_a_lost_answer(&world).await;
    let lost = recorded.put(put_request("second")).await;
    assert!(matches!(lost, Err(CallError::MaybeExecuted { .. })), "{lost:?}");
    let checked = run.check().await;
    assert_eq!((checked.writes, checked.unknown, checked.executed), (1, 1, 1));
}

#[tokio::test]
async fn a_client_that_makes_a_put_again_that_may_have_been_executed_is_found_out() {
    let world = World::start(Kind::Model).await;
    let (run, recorded) = before_a_lost_answer(&world).await;
    let again = async |client: &Client, put: Put| match client.put_with(put.clone()).await {
        Err(error) if error.may_have_executed() => client.put_with(put).await,
        answer => answer,
    };
    put_by(&recorded, "second", again).await.expect("it is put");
    assert_eq!(rules(&run).await, [Rule::Once]);
}

#[tokio::test]
async fn a_client_that_takes_a_lost_answer_for_a_refusal_is_found_out() {
    let world = World::start(Kind::Model).await;
    let (run, recorded) = before_a_lost_answer(&world).await;
    let denies = async |client: &Client, put: Put| {
        let after = Duration::from_secs(1);
        let surely = |_| CallError::Timeout { method: "Put", after, last: None };
        client.put_with(put).await.map_err(surely)
    };
    put_by(&recorded, "second", denies).await.expect_err("its answer is lost");
    assert_eq!(rules(&run).await, [Rule::NotExecuted]);
}

#[tokio::test]
async fn a_client_that_acknowledges_what_was_not_written_is_found_out() {
    let world = World::start(Kind::Model).await;
    let run = world.run_of(Recorder::new());
    let recorded = run.client(client(On::Tokio, &world.link_endpoints()));
    recorded.put(put_request("first")).await.expect("it is put");
    let lies = async |client: &Client, _: Put| client.put("elsewhere", "").await;
    put_by(&recorded, "second", lies).await.expect("something is put");
    assert_eq!(rules(&run).await, [Rule::Effect]);
}

/// A member that lags: it is as the other one was, and stays so.
async fn lagging(world: &World) -> EmbeddedEtcd {
    let behind = world.model().with_model(|model| model.clone());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let member = EmbeddedEtcd::start_on(address, behind).await.expect("it starts");
    member.with_model(|model| model.config_mut().member_id += 1);
    member
}

#[tokio::test]
async fn a_read_of_a_member_that_lags_is_found_out_unless_it_is_serializable() {
    let world = World::start(Kind::Model).await;
    let run = world.run_of(Recorder::new());
    let recorded = run.client(client(On::Tokio, &world.link_endpoints()));
    recorded.put(put_request("first")).await.expect("it is put");
    let member = lagging(&world).await;
    recorded.put(put_request("second")).await.expect("it is put");
    let behind = client(On::Tokio, &[member.endpoint()]);

    let behind = run.client(behind);
    behind.get(RangeRequest { serializable: true, ..get_request() }).await.expect("it is read");
    // A transaction that does nothing is answered by the member alone, too.
    behind.txn(TxnRequest::default()).await.expect("it is made");
    assert_eq!(rules(&run).await, []);

    // A client that forgets to ask for a linearizable read.
    let read = async {
        let read = behind.client().get(etcd_watch_client::Get::key("k/0").serializable(true)).await?;
        Ok(range_response(&read))
    };
    let answer = |read: &RangeResponse| Answer::Range(read.clone());
    behind.record(Request::Range(get_request()), read, answer).await.expect("it is read");
    assert_eq!(rules(&run).await, [Rule::Current]);
}

#[tokio::test]
async fn a_cache_that_is_behind_is_found_out_where_it_is_to_be_current() {
    let world = World::start(Kind::Model).await;
    let run = world.run_of(Recorder::new());
    let recorded = run.client(client(On::Tokio, &world.link_endpoints()));
    recorded.put(put_request("first")).await.expect("it is put");
    let member = lagging(&world).await;
    let behind = client(On::Tokio, &[member.endpoint()]);
    let cache = behind.cache(etcd_watch_client::KeyRange::prefix("k/")).expect("it is made");
    timeout(DEADLINE, cache.ready()).await.expect("in time").expect("it has a state");
    let second = recorded.put(put_request("second")).await.expect("it is put");
    let second = second.header.expect("it has one").revision;
    recorded.snapshot(&cache).await.expect("it has a state");
    assert_eq!(rules(&run).await, []);
    let mut found = 0;
    // Each of these takes the last state for what it was to wait for.
    for demand in [Demand::Current, Demand::AtLeast(second), Demand::Within(Duration::ZERO)] {
        recorded.cached(&cache, demand, async { Ok(cache.snapshot()) }).await.expect("it has a state");
        found += 1;
        assert_eq!(rules(&run).await, vec![Rule::Current; found], "{demand:?}");
    }
}

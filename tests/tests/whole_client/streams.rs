//! What members do wrong on HTTP/2's streams.

use std::time::Duration;

use etcd_watch_client::{BoxError, CallOptions, KeyRange, Watch, WatchRequest};
use etcd_watch_testkit::sim::{FaultKind, Faults, Report, Sim, World};

use crate::well;

const SECOND: Duration = Duration::from_secs(1);

/// A run with one member that ends well.
fn alone<S: Future<Output = Result<(), BoxError>>>(seed: u64, scenario: impl FnOnce(World) -> S) -> Report {
    Sim::new().members(1).run(seed, scenario).unwrap_or_else(|failure| panic!("{failure}"))
}

/// The value of the next event.
async fn next(watch: &mut Watch) -> Result<Vec<u8>, BoxError> {
    let response = watch.try_next().await?.ok_or("the watch has ended")?;
    Ok(response.events().next().ok_or("no event")?.value().to_vec())
}

fn values(world: &World, key: &str) -> Vec<Vec<u8>> {
    let history = world.etcd().history();
    let kvs = history.into_iter().filter_map(|event| event.kv).filter(|kv| kv.key == key);
    kvs.map(|kv| kv.value.to_vec()).collect()
}

#[test]
fn a_watch_misses_nothing_when_its_stream_is_reset() {
    for code in (0_u32..14).filter(|code| *code != 7) {
        alone(u64::from(code), |world| async move {
            let client = world.client().connect().await?;
            let mut watch = client.watch(WatchRequest::new(KeyRange::prefix("k")).start_revision(1))?;
            let link = world.link(&world.host("client"), 0);
            for round in 0..10_u8 {
                world.etcd().put("k", vec![round]);
                assert_eq!(next(&mut watch).await?, [round]);
                if round % 2 == 0 { link.reset_streams(code) } else { link.reset_stream(0, code) }
            }
            assert!(client.stats().reconnects > 0, "the watch's stream was reset");
            Ok(())
        });
    }
}

#[test]
fn a_call_whose_answer_is_lost_may_have_been_executed() {
    alone(1, |world| async move {
        let client = world.client().connect().await?;
        client.put("k", "before").await?;
        world.link(&world.host("client"), 0).lose_answers(1);
        let error = client.put("k", "lost").await.expect_err("its answer is lost");
        assert!(error.may_have_executed(), "{error}");
        assert_eq!(values(&world, "k"), [&b"before"[..], b"lost"]);
        // A read is made again.
        world.link(&world.host("client"), 0).lose_answers(1);
        assert_eq!(client.get("k").await?.kvs()[0].value, "lost");
        Ok(())
    });
}

#[test]
fn a_call_that_is_refused_by_its_stream_is_made_again() {
    let report = alone(1, |world| async move {
        let client = world.client().connect().await?;
        client.put("k", "0").await?;
        for calls in 1..4 {
            world.link(&world.host("client"), 0).refuse_calls(calls);
            client.put("k", calls.to_string()).await?;
        }
        assert_eq!(values(&world, "k"), [b"0", b"1", b"2", b"3"]);
        Ok(())
    });
    assert!(report.counts.connections <= 2, "{report}");
}

#[test]
fn a_window_that_is_withheld_holds_up_what_is_sent_and_no_more() {
    let report = alone(1, |world| async move {
        let client = world.client().request_timeout(60 * SECOND).connect().await?;
        let mut watch = client.watch(WatchRequest::new(KeyRange::key("k")).start_revision(1))?;
        client.put("k", "before").await?;
        assert_eq!(next(&mut watch).await?, b"before");
        let link = world.link(&world.host("client"), 0);
        let (first, second) = (link.stall(), link.stall());
        tokio::spawn(first.lasting(5 * SECOND));
        tokio::spawn(second.lasting(20 * SECOND));
        world.sleep(SECOND / 10).await;
        let putting = world.host("client").spawn({
            let client = client.clone();
            async move { client.put("k", "stalled").await.map(|_| ()) }
        });
        // What the member sends arrives.
        world.etcd().put("k", "told");
        assert_eq!(next(&mut watch).await?, b"told");
        let began = world.now();
        assert_eq!(next(&mut watch).await?, b"stalled");
        let took = world.now() - began;
        assert!((19 * SECOND..21 * SECOND).contains(&took), "{took:?}");
        putting.await.ok_or("it has died")??;
        client.put("k", "after").await?;
        Ok(())
    });
    // Pings are answered.
    assert!(report.counts.connections <= 2, "{report}");
}

#[test]
fn a_call_that_a_withheld_window_holds_up_ends_in_its_time() {
    alone(2, |world| async move {
        let client = world.client().connect().await?;
        client.put("k", "before").await?;
        let stall = world.link(&world.host("client"), 0).stall();
        world.sleep(SECOND / 10).await;
        let hasty = client.with_options(CallOptions::new().timeout(2 * SECOND))?;
        let began = world.now();
        hasty.put("k", "stalled").await.expect_err("there is no room for it");
        assert!(world.now() - began <= 2 * SECOND + SECOND / 10, "{:?}", world.now() - began);
        drop(stall);
        client.put("k", "after").await?;
        assert_eq!(values(&world, "k").last().map(Vec::as_slice), Some(&b"after"[..]));
        Ok(())
    });
}

#[test]
fn goaway_with_an_error_ends_the_connection_and_no_watch() {
    for code in 0..14 {
        well(u64::from(code), |world| async move {
            let client = world.client().connect().await?;
            let mut watch = client.watch(WatchRequest::new(KeyRange::prefix("k")).start_revision(1))?;
            for round in 0..5_u8 {
                world.etcd().put("k", vec![round]);
                assert_eq!(next(&mut watch).await?, [round]);
                (0..3).for_each(|member| world.etcd().go_away(member, code));
            }
            assert!(client.stats().reconnects > 0, "its connections have ended");
            Ok(())
        });
    }
}

/// Each kind of fault is one that the storm brings, and that is seen to happen.
#[test]
fn a_storm_brings_every_fault_of_streams() {
    for (kind, told) in [
        (FaultKind::Reset, "reset with code"),
        (FaultKind::RefusedCalls, "refuses"),
        (FaultKind::LostAnswers, "to be lost"),
        (FaultKind::Stall, "windows are withheld"),
        (FaultKind::GoAway, "sends GOAWAY with code"),
    ] {
        let failure = Sim::new().run(1, |world| async move {
            let _client = world.client().connect().await?;
            world.faults(Faults::only([kind])).await;
            world.sleep(30 * SECOND).await;
            world.calm().await;
            Err("the transcript".into())
        });
        let text = failure.expect_err("it fails").to_string();
        assert!(text.matches(told).count() >= 2, "{kind:?}: {text}");
    }
}

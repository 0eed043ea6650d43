//! Clusters that let nobody in but their users.

use std::time::Duration;

use etcd_watch_client::concurrency::Session;
use etcd_watch_client::{BoxError, CallError, CloseReason, Code, KeyRange, Put, Txn, WatchRequest};
use etcd_watch_testkit::sim::{FaultKind, Faults, Report, Sim, Users, World};

use crate::scenarios::sim;
use crate::{LASTS, named, seeds, well};

const SECOND: Duration = Duration::from_secs(1);

/// Alice may have the keys of `a/`. Tokens last for ten seconds.
fn run<S: Future<Output = Result<(), BoxError>>>(seed: u64, scenario: impl FnOnce(World) -> S) -> Report {
    let users = Users::new().user("root", "secret").user_of("alice", "password", "a/").token_ttl(10 * SECOND);
    Sim::new().users(users).run(seed, scenario).unwrap_or_else(|failure| panic!("{failure}"))
}

fn is_denied(error: &CallError) -> bool {
    matches!(error, CallError::Refused { code: Code::PermissionDenied, .. })
}

#[test]
fn a_user_has_its_own_keys_and_no_others() {
    run(1, |world| async move {
        let alice = world.client().user("alice", "password").connect().await?;
        world.etcd().put("b/1", "v");
        alice.put("a/1", "v").await?;
        assert_eq!(alice.get(KeyRange::prefix("a/")).await?.kvs().len(), 1);
        alice.delete(KeyRange::prefix("a/")).await?;
        alice.txn(Txn::new().and_then(Put::new("a/1", "v"))).await?;
        for error in [
            alice.put("b/1", "v").await.expect_err("another's key"),
            alice.get("b/1").await.expect_err("another's key"),
            alice.get(KeyRange::from_key("a/")).await.expect_err("others' keys"),
            alice.get(KeyRange::prefix("a")).await.expect_err("others' keys"),
            alice.delete(KeyRange::all()).await.expect_err("others' keys"),
            alice.txn(Txn::new().and_then(Put::new("b/1", "v"))).await.expect_err("another's key"),
        ] {
            assert!(is_denied(&error), "{error}");
        }
        let mut watch = alice.watch(KeyRange::prefix("b/"))?;
        let ended = watch.try_next().await.expect_err("others' keys");
        assert!(matches!(ended.reason(), CloseReason::PermissionDenied { .. }), "{ended}");
        // The first user's.
        world.client().connect().await?.get("b/1").await?;
        Ok(())
    });
}

#[test]
fn nobody_else_is_let_in() {
    run(2, |world| async move {
        let mallory = world.client().user("alice", "wrong").connect_lazy()?;
        let error = mallory.put("a/1", "v").await.expect_err("the password is wrong");
        assert!(error.to_string().contains("authentication failed"), "{error}");
        let forged = etcd_watch_client::Credentials::token("alice.999");
        mallory.set_credentials(forged)?;
        let error = mallory.put("a/1", "v").await.expect_err("there is no such token");
        assert!(error.to_string().contains("invalid auth token"), "{error}");
        assert!(world.etcd().history().is_empty());
        Ok(())
    });
}

#[test]
fn a_token_lasts_while_it_is_used_and_is_replaced_after_that() {
    let users = Users::new().user("root", "secret").token_ttl(10 * SECOND);
    let report = Sim::new().users(users).members(1).run(3, |world| async move {
        let client = world.client().connect().await?;
        let mut watch = client.watch(WatchRequest::new(KeyRange::key("k")).start_revision(1))?;
        for round in 1..=10_u8 {
            client.put("k", vec![round]).await?;
            let response = watch.try_next().await?.ok_or("it has ended")?;
            assert_eq!(response.events().next().expect("the put").value(), [round]);
            world.sleep(5 * SECOND).await;
        }
        assert_eq!(world.etcd().logins(), 1, "it was used every five seconds");
        world.sleep(6 * SECOND).await;
        client.put("k", "expired").await?;
        assert_eq!(world.etcd().logins(), 2);
        world.etcd().expire_tokens();
        client.put("k", "forgotten").await?;
        assert_eq!(world.etcd().logins(), 3);
        assert_eq!(client.get("k").await?.kvs()[0].version, 12, "each is put once");
        Ok(())
    });
    report.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Each member counts for itself, as etcd's do.
#[test]
fn a_token_expires_at_a_member_that_does_not_see_it() {
    run(6, |world| async move {
        let all = world.etcd().endpoints();
        let client = world.client().endpoints([all[0].clone()]).connect().await?;
        for _ in 0..4 {
            client.get("k").await?;
            world.sleep(5 * SECOND).await;
        }
        assert_eq!(world.etcd().logins(), 1);
        client.set_endpoints([all[1].clone()])?;
        client.get("k").await?;
        assert_eq!(world.etcd().logins(), 2);
        Ok(())
    });
}

#[test]
fn a_session_outlives_its_token() {
    run(4, |world| async move {
        let client = world.client().connect().await?;
        let session = Session::builder(&client).ttl(30 * SECOND).open().await?;
        let began = world.now();
        while world.now() < began + 300 * SECOND {
            world.etcd().expire_tokens();
            world.sleep(7 * SECOND).await;
            assert!(!session.is_lost(), "{:?}", world.now());
        }
        assert!(world.etcd().logins() > 20, "{}", world.etcd().logins());
        Ok(())
    });
}

#[test]
fn a_storm_expires_tokens_where_there_are_users_and_only_there() {
    let storm = |world: World| async move {
        world.client().connect().await?.get("k").await?;
        world.faults(Faults::only([FaultKind::TokenExpiry])).await;
        world.sleep(60 * SECOND).await;
        Ok(())
    };
    assert!(run(5, storm).counts.faults > 5);
    assert_eq!(well(5, storm).counts.faults, 0);
}

fn hold(name: &str, count: u64) {
    let users = Users::new().user("root", "secret").token_ttl(5 * SECOND);
    let scenario = named(name);
    match sim().users(users).run_seeds(seeds(count), |world| scenario(world, LASTS)) {
        Ok(report) => println!("{name} with users: {report}"),
        Err(failure) => panic!("{name} with users: {failure}"),
    }
}

#[test]
fn a_watch_receives_exactly_the_stores_history_as_its_tokens_expire() {
    hold("watch", 5);
}

#[test]
fn a_put_tells_whether_it_was_executed_as_its_tokens_expire() {
    hold("calls", 5);
}

#[test]
fn a_session_is_told_of_its_loss_in_time_as_its_tokens_expire() {
    hold("session", 2);
}

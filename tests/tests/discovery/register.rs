//! Registrations, and what is done to them.

use std::time::Duration;

use etcd_watch_client::{
    CallError, Client, Delete, Get, LeaseLost,
    discovery::{Discovery, DiscoveryError, LossReason, Registration, RegistrationState, ServiceEndpoint},
};
use etcd_watch_testkit::{
    harness::{Access, Auth, Keys, RestoreAs, wait_until},
    proxy::Cut,
};

use crate::{
    runtime::On,
    world::{Backend, DEADLINE, TARGET, World, key, next, soon, until_addresses},
};

/// Renewed every few seconds, and not lost to a machine that is busy for as long.
const TTL: Duration = Duration::from_secs(20);

/// Of leases that are seen to end.
const SHORT_TTL: Duration = Duration::from_secs(8);

fn at(addr: &str) -> ServiceEndpoint {
    ServiceEndpoint::new(addr)
}

async fn register(service: &Discovery, addr: &str) -> Registration {
    register_for(TTL, service, addr).await
}

async fn register_for(ttl: Duration, service: &Discovery, addr: &str) -> Registration {
    let registration = service.register_with_ttl("a", at(addr), ttl).expect("it can be registered");
    soon("it is registered", registration.registered()).await.expect("it is registered");
    registration
}

fn lease(registration: &Registration) -> i64 {
    match registration.state() {
        RegistrationState::Registered { lease, .. } => lease,
        other => panic!("it is {other:?}"),
    }
}

fn is_registered(registration: &Registration) -> bool {
    matches!(registration.state(), RegistrationState::Registered { .. })
}

/// Waits for another state, and then until it is registered again.
async fn lost_and_found(registration: &Registration, before: &RegistrationState) {
    soon("it is lost", registration.changed(before)).await;
    soon("it is registered again", registration.registered()).await.expect("it is registered");
}

async fn ttl(client: &Client, lease: i64) -> Option<Duration> {
    client.lease_time_to_live(lease).await.expect("etcd answers").map(|status| status.remaining)
}

/// Waits until etcd has renewed the lease.
async fn renewed(client: &Client, lease: i64) {
    let grown = async {
        let mut before = ttl(client, lease).await;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = ttl(client, lease).await;
            if now > before {
                return;
            }
            before = now;
        }
    };
    soon("the lease is renewed", grown).await;
}

pub(crate) async fn an_endpoint_is_there_until_it_is_deregistered(world: World) {
    let (service, client) = (world.service(), world.direct());
    let mut watch = world.direct_service().watch();
    next(&mut watch).await;
    let registration = register(&service, "1").await;
    assert_eq!(registration.key(), format!("{TARGET}/a"));
    until_addresses(&mut watch, &["1"]).await;
    let lease = lease(&registration);
    let value = r#"{"Op":0,"Addr":"1","Metadata":null}"#;
    assert_eq!(key(&client, "a").await, Some((lease, value.to_owned())));
    renewed(&client, lease).await;
    assert_eq!((registration.losses(), registration.failure()), (0, None));
    soon("it is deregistered", registration.deregister()).await.expect("it is deregistered");
    assert_eq!(key(&client, "a").await, None);
    assert_eq!(ttl(&client, lease).await, None);
    until_addresses(&mut watch, &[]).await;
}

pub(crate) async fn dropping_a_registration_deregisters(world: World) {
    let mut watch = world.direct_service().watch();
    let service = world.service();
    // Long enough that nobody waits for its end.
    let registration = service.register_with_ttl("a", at("1"), Duration::from_secs(600));
    let registration = registration.expect("it can be registered");
    drop(service);
    until_addresses(&mut watch, &["1"]).await;
    drop(registration);
    until_addresses(&mut watch, &[]).await;
}

pub(crate) async fn an_updated_endpoint_is_put_under_the_same_lease(world: World) {
    let (service, client) = (world.service(), world.direct());
    let registration = register(&service, "1").await;
    let before = lease(&registration);
    soon("it is updated", registration.update(at("2").metadata(true))).await.expect("it is updated");
    let value = r#"{"Op":0,"Addr":"2","Metadata":true}"#;
    assert_eq!(key(&client, "a").await, Some((before, value.to_owned())));
    assert_eq!((lease(&registration), registration.losses()), (before, 0));
    let refused = registration.update(at("")).await.expect_err("it has no address");
    assert!(matches!(refused, DiscoveryError::InvalidArgument { field: "addr", .. }), "{refused}");
    // What etcd refuses for its size is said too, and what was there stays.
    let large = registration.update(at("3").metadata("x".repeat(1_700_000)));
    let refused = soon("it is refused", large).await.expect_err("it is too large");
    assert!(matches!(refused, DiscoveryError::Call(CallError::Refused { .. })), "{refused}");
    assert_eq!(key(&client, "a").await, Some((before, value.to_owned())));
    soon("it is updated", registration.update(at("4"))).await.expect("it is updated");
    assert_eq!((lease(&registration), registration.failure()), (before, None));
}

pub(crate) async fn a_revoked_lease_is_replaced_and_the_key_put_again(world: World) {
    let (service, client) = (world.service(), world.direct());
    let registration = register(&service, "1").await;
    let (state, revoked) = (registration.state(), lease(&registration));
    client.lease_revoke(revoked).await.expect("it is revoked");
    // Of the key and the lease, the key is noticed first.
    lost_and_found(&registration, &state).await;
    let again = lease(&registration);
    assert_ne!(again, revoked);
    assert_eq!(key(&client, "a").await.map(|(lease, _)| lease), Some(again));
    assert_eq!(registration.losses(), 1);
    assert!(ttl(&client, again).await.is_some());
}

pub(crate) async fn a_deleted_key_is_put_again(world: World) {
    let (service, client) = (world.service(), world.direct());
    let registration = register(&service, "1").await;
    let (state, before) = (registration.state(), lease(&registration));
    client.delete(Delete::key(registration.key().to_owned())).await.expect("it is deleted");
    lost_and_found(&registration, &state).await;
    assert_eq!((lease(&registration), registration.losses()), (before, 1));
    assert_eq!(key(&client, "a").await.map(|(lease, _)| lease), Some(before));
}

pub(crate) async fn a_lease_that_expires_during_a_partition_is_replaced(world: World) {
    let mut watch = world.direct_service().watch();
    let registration = register_for(SHORT_TTL, &world.service(), "1").await;
    until_addresses(&mut watch, &["1"]).await;
    let (state, expired) = (registration.state(), lease(&registration));
    world.unplug();
    // The server's clock decides for the others, the client's for itself.
    until_addresses(&mut watch, &[]).await;
    let lost = soon("it is lost", registration.changed(&state)).await;
    let is_expired = |reason: &LossReason| matches!(reason, LossReason::Lease(LeaseLost::Expired { .. }));
    assert!(matches!(&lost, RegistrationState::Lost { reason } if is_expired(reason)), "{lost:?}");
    world.proxy.restore();
    until_addresses(&mut watch, &["1"]).await;
    soon("it is registered again", registration.registered()).await.expect("it is registered");
    assert_ne!(lease(&registration), expired);
    assert_eq!(registration.losses(), 1);
}

pub(crate) async fn a_name_that_another_takes_is_theirs_until_it_is_free(world: World) {
    let client = world.direct();
    let first = register(&world.service(), "1").await;
    let state = first.state();
    let second = register(&world.direct_service(), "2").await;
    let lost = soon("it is replaced", first.changed(&state)).await;
    let theirs = lease(&second);
    assert_eq!(lost, RegistrationState::Lost { reason: LossReason::Replaced { lease: theirs } });
    // Also when its own lease is lost, and when it wants another address.
    let RegistrationState::Registered { lease: own, .. } = state else { panic!("it was registered") };
    client.lease_revoke(own).await.expect("it is revoked");
    let updating = first.update(at("3"));
    let waiting = tokio::time::timeout(Duration::from_millis(500), updating).await;
    assert!(waiting.is_err(), "the name is another's: {waiting:?}");
    assert_eq!((second.losses(), lease(&second)), (0, theirs));
    soon("it is deregistered", second.deregister()).await.expect("it is deregistered");
    soon("the name is free", first.registered()).await.expect("it is registered");
    let value = r#"{"Op":0,"Addr":"3","Metadata":null}"#;
    assert_eq!(key(&client, "a").await, Some((lease(&first), value.to_owned())));
    assert_ne!(lease(&first), own);
    assert_eq!(first.losses(), 1);
}

pub(crate) async fn cut_connections_lose_no_registration(world: World) {
    let (service, client) = (world.service(), world.direct());
    let registration = register(&service, "1").await;
    let state = registration.state();
    let lease = lease(&registration);
    let mut others = Vec::new();
    let cutting = async {
        while world.proxy.cuts() <= 20 {
            world.proxy.cut_each_after_bytes(1_000, Cut::Reset);
            let name = format!("other {}", others.len());
            others.push(service.register(name, at("2")).expect("it can be registered"));
            tokio::time::sleep(Duration::from_millis(100)).await;
            world.proxy.cut_all(Cut::Reset);
        }
    };
    soon("connections are cut often enough", cutting).await;
    // Its renewals have to get through between cuts, too.
    renewed(&client, lease).await;
    world.proxy.restore();
    for other in &others {
        soon("it is registered", other.registered()).await.expect("it is registered");
    }
    assert_eq!((registration.state(), registration.losses()), (state, 0));
    assert_eq!(service.list().await.expect("they are listed").endpoints.len(), others.len() + 1);
    world.proxy.cut_next_after_bytes(500, Cut::Reset);
    for other in others {
        soon("it is deregistered", other.deregister()).await.expect("it is deregistered");
    }
    soon("it is deregistered", registration.deregister()).await.expect("it is deregistered");
    assert_eq!(client.get(Get::prefix(TARGET)).await.expect("they are read").kvs(), []);
}

pub(crate) async fn a_registration_waits_for_etcd(mut world: World) {
    world.stop().await;
    let service = world.service();
    let registration = service.register_with_ttl("a", at("1"), TTL).expect("it can be registered");
    let waiting = tokio::time::timeout(Duration::from_millis(300), registration.registered()).await;
    assert!(waiting.is_err(), "nobody is there: {waiting:?}");
    assert_eq!(registration.state(), RegistrationState::Pending);
    world.restart().await;
    soon("it is registered", registration.registered()).await.expect("it is registered");
    world.stop().await;
    world.restart().await;
    let mut watch = world.direct_service().watch();
    until_addresses(&mut watch, &["1"]).await;
    soon("it is deregistered", registration.deregister()).await.expect("it is deregistered");
    until_addresses(&mut watch, &[]).await;
}

pub(crate) async fn an_endpoint_is_registered_again_in_a_restored_store(on: On, backend: Backend) {
    for identity in [RestoreAs::SameCluster, RestoreAs::AnotherCluster] {
        let mut world = World::start(on, backend.clone()).await;
        let (service, client) = (world.service(), world.direct());
        let directory = tempfile::tempdir().expect("a directory");
        let [empty, old] = ["empty.db", "old.db"].map(|name| directory.path().join(name));
        world.real().snapshot(&empty).await.expect("it is saved");
        let registration = service.register("a", at("1")).expect("it can be registered");
        soon("it is registered", registration.registered()).await.expect("it is registered");
        let mut watch = world.direct_service().watch();
        world.real().snapshot(&old).await.expect("it is saved");
        soon("it is updated", registration.update(at("2"))).await.expect("it is updated");
        until_addresses(&mut watch, &["2"]).await;

        // Its key and its lease are there, with the old address.
        world.real().restore(&old, identity).await.expect("it is restored");
        let put_again = async {
            while key(&client, "a").await.is_none_or(|(_, value)| !value.contains(r#""Addr":"2""#)) {}
        };
        soon("it is put again", put_again).await;
        until_addresses(&mut watch, &["2"]).await;

        // Neither is there.
        let before = registration.losses();
        let state = registration.state();
        world.real().restore(&empty, identity).await.expect("it is restored");
        lost_and_found(&registration, &state).await;
        until_addresses(&mut watch, &["2"]).await;
        assert!(registration.losses() > before);
        soon("it is deregistered", registration.deregister()).await.expect("it is deregistered");
        until_addresses(&mut watch, &[]).await;
    }
}

pub(crate) async fn permissions_are_told_and_enough_of_them_are_enough(mut world: World) {
    let etcdctl = world.real().etcdctl().expect("there is one");
    let auth = Auth::enable(&etcdctl, "root-password").await.expect("it is on");
    auth.add_user("greeter", "secret").await.expect("it is added");
    auth.add_role("greeters").await.expect("it is added");
    auth.give_role("greeter", "greeters").await.expect("it is given");
    let client = world.builder().user("greeter", "secret").connect_lazy().expect("valid settings");
    let service = Discovery::new(&client, TARGET).expect("a good target");
    let denied = |error: &DiscoveryError| error.to_string().contains("permission denied");

    let registration = service.register_with_ttl("a", at("1"), TTL).expect("it can be tried");
    let refused = soon("it is refused", registration.registered()).await.expect_err("it is denied");
    assert!(denied(&refused), "{refused}");
    let refused = soon("it is refused", service.watch().next()).await.expect("it says so");
    assert!(denied(&refused.expect_err("it is denied")));

    let prefix = format!("{TARGET}/");
    auth.grant("greeters", Access::Write, Keys::Prefix(&prefix)).await.expect("it is granted");
    wait_until("it is registered", DEADLINE, || is_registered(&registration)).await;
    // The key can't be watched, so it is by its lease that the loss is found out.
    let root = world.builder().user("root", "root-password").connect_lazy().expect("valid settings");
    root.lease_revoke(lease(&registration)).await.expect("it is revoked");
    wait_until("it is lost", DEADLINE, || registration.losses() == 1).await;
    wait_until("it is registered again", DEADLINE, || is_registered(&registration)).await;
    assert_eq!(key(&root, "a").await.map(|(lease, _)| lease), Some(lease(&registration)));
}

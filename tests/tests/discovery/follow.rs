//! Listing and watching.

use std::{collections::BTreeSet, time::Duration};

use etcd_watch_client::{
    Compact,
    discovery::{
        DecodeError, Discovery, DiscoveryError, EndpointBatch, EndpointChange, ServiceEndpoint, UpdateKind,
    },
};
use etcd_watch_testkit::{harness::RestoreAs, proxy::Cut};
use serde_json::json;

use crate::{
    runtime::On,
    world::{Backend, TARGET, World, key, next, soon, until_addresses},
};

fn at(addr: &str) -> ServiceEndpoint {
    ServiceEndpoint::new(addr)
}

/// Changes in a form that is easy to compare.
fn told(changes: &[EndpointChange]) -> BTreeSet<String> {
    let line = |change: &EndpointChange| match change {
        EndpointChange::Added { name, endpoint } => format!("+{name} {}", endpoint.addr),
        EndpointChange::Updated { name, endpoint, before } => {
            format!("~{name} {} -> {}", before.addr, endpoint.addr)
        }
        EndpointChange::Removed { name, endpoint } => format!("-{name} {}", endpoint.addr),
        EndpointChange::Undecodable { name, kept, .. } => {
            format!("?{name} {}", kept.as_ref().map_or("", |kept| &kept.addr))
        }
        other => panic!("a change of another kind: {other:?}"),
    };
    let lines: BTreeSet<_> = changes.iter().map(line).collect();
    assert_eq!(lines.len(), changes.len(), "nothing is told twice: {changes:?}");
    lines
}

fn lines(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|&line| line.to_owned()).collect()
}

pub(crate) async fn what_is_added_is_listed_and_watched(world: World) {
    let service = world.service();
    let zoned = at("10.0.0.1:1").metadata(json!({ "zone": "b", "weight": 3 }));
    let first = service.add("a", zoned.clone()).await.expect("it is added");
    // A key beside the target is none of its endpoints.
    let client = world.direct();
    client.put(format!("{TARGET}2/a"), at("x").addr).await.expect("it is put");

    let listed = service.list().await.expect("they are listed");
    assert_eq!((listed.revision, listed.endpoints.len()), (first + 1, 1));
    assert_eq!(*listed.endpoints["a"], zoned);
    let value = r#"{"Op":0,"Addr":"10.0.0.1:1","Metadata":{"weight":3,"zone":"b"}}"#;
    assert_eq!(key(&client, "a").await, Some((0, value.to_owned())));

    let mut watch = service.watch();
    let update = next(&mut watch).await;
    assert_eq!((update.kind(), update.revision()), (UpdateKind::Snapshot, first + 1));
    assert_eq!(told(update.changes()), lines(&["+a 10.0.0.1:1"]));

    let lease = client.lease_grant(Duration::from_secs(60)).await.expect("it is granted").id();
    let batch = EndpointBatch::new().add("a", at("2")).add_with_lease("b/c", at("3"), lease).delete("no one");
    let second = service.update(batch).await.expect("it is done");
    let update = next(&mut watch).await;
    assert_eq!((update.kind(), update.revision()), (UpdateKind::Changes, second));
    assert_eq!(told(update.changes()), lines(&["~a 10.0.0.1:1 -> 2", "+b/c 3"]));
    assert_eq!(update.endpoints(), watch.endpoints());

    // Put again as it was: no news, so the next to come is what comes after it.
    service.add("a", at("2")).await.expect("it is added");
    service.delete("a").await.expect("it is deleted");
    assert_eq!(told(next(&mut watch).await.changes()), lines(&["-a 2"]));
    client.lease_revoke(lease).await.expect("it is revoked");
    let update = next(&mut watch).await;
    assert_eq!(told(update.changes()), lines(&["-b/c 3"]));
    assert!(update.endpoints().is_empty());
}

pub(crate) async fn every_change_is_told_once_through_cut_connections(world: World) {
    const ROUNDS: usize = 40;
    let service = world.service();
    let writer = world.direct_service();
    let mut watch = service.watch();
    assert_eq!(next(&mut watch).await.kind(), UpdateKind::Snapshot);
    let mut seen = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("{:02}", round % 8);
        writer.add(name, at(&round.to_string())).await.expect("it is added");
        if round % 4 == 0 {
            world.proxy.cut_all(if round % 8 == 0 { Cut::Reset } else { Cut::Close });
        }
        if round % 4 == 1 {
            seen.extend(next(&mut watch).await.changes().to_vec());
        }
    }
    while seen.len() < ROUNDS {
        let update = next(&mut watch).await;
        assert_eq!(update.kind(), UpdateKind::Changes);
        seen.extend(update.changes().to_vec());
    }
    let addresses = seen.iter().map(|change| match change {
        EndpointChange::Added { endpoint, .. } | EndpointChange::Updated { endpoint, .. } => &endpoint.addr,
        other => panic!("nothing else has happened: {other:?}"),
    });
    assert!(addresses.eq(&(0..ROUNDS).map(|round| round.to_string()).collect::<Vec<_>>()), "{seen:?}");
    assert!(world.proxy.cuts() > 5, "{} cuts", world.proxy.cuts());
}

pub(crate) async fn what_was_removed_in_a_compacted_span_is_told_as_removed(world: World) {
    let service = world.service();
    let writer = world.direct_service();
    let batch = EndpointBatch::new().add("gone", at("1")).add("moved", at("2")).add("stays", at("3"));
    writer.update(batch).await.expect("it is done");
    let mut watch = service.watch();
    assert_eq!(next(&mut watch).await.endpoints().len(), 3);

    world.unplug();
    writer.delete("gone").await.expect("it is deleted");
    writer.add("moved", at("4")).await.expect("it is added");
    writer.add("flash", at("5")).await.expect("it is added");
    writer.delete("flash").await.expect("it is deleted");
    let last = writer.add("new", at("6")).await.expect("it is added");
    world.direct().compact(Compact::before(last).physical()).await.expect("it is compacted");
    world.proxy.restore();

    let update = next(&mut watch).await;
    assert_eq!((update.kind(), update.revision()), (UpdateKind::Resync, last));
    assert_eq!(told(update.changes()), lines(&["-gone 1", "~moved 2 -> 4", "+new 6"]));
    // And it goes on from there.
    writer.delete("stays").await.expect("it is deleted");
    let update = next(&mut watch).await;
    assert_eq!((update.kind(), told(update.changes())), (UpdateKind::Changes, lines(&["-stays 3"])));
}

pub(crate) async fn what_is_no_endpoint_is_told_and_leaves_the_last_good_one(world: World) {
    let service = world.service();
    let client = world.direct();
    service.add("a", at("1")).await.expect("it is added");
    let garbage = |name: &'static str, value: &'static str| {
        let put = client.put(format!("{TARGET}/{name}"), value);
        async move { put.await.expect("it is put") }
    };
    garbage("b", "10.0.0.1:80").await;
    let listed = service.list().await.expect("they are listed");
    assert_eq!(listed.endpoints.len(), 1);
    assert!(matches!(&listed.undecodable[..], [(name, DecodeError::NotJson(_))] if &**name == "b"));

    let mut watch = service.watch();
    assert_eq!(told(next(&mut watch).await.changes()), lines(&["+a 1", "?b "]));
    garbage("a", "{}").await;
    let update = next(&mut watch).await;
    assert_eq!(told(update.changes()), lines(&["?a 1"]));
    assert_eq!((update.endpoints()["a"].addr.as_str(), watch.undecodable()), ("1", 2));
    service.add("b", at("2")).await.expect("it is added");
    assert_eq!(told(next(&mut watch).await.changes()), lines(&["+b 2"]));
    service.delete("a").await.expect("it is deleted");
    assert_eq!(told(next(&mut watch).await.changes()), lines(&["-a 1"]));
}

pub(crate) async fn a_thousand_endpoints_are_listed_in_pages_and_followed(world: World) {
    // Over one page; etcd takes 128 changes at once.
    const COUNT: usize = 1_100;
    let service = world.service();
    let name = |index: usize| format!("{index:04}");
    let add = |from: usize| {
        let names = from..COUNT.min(from + 128);
        names.fold(EndpointBatch::new(), |batch, index| batch.add(name(index), at(&name(index))))
    };
    let half = 640;
    for from in (0..half).step_by(128) {
        service.update(add(from)).await.expect("it is done");
    }
    let mut watch = service.watch();
    assert_eq!(next(&mut watch).await.changes().len(), half);
    for from in (half..COUNT).step_by(128) {
        service.update(add(from)).await.expect("it is done");
    }
    while watch.endpoints().len() < COUNT {
        next(&mut watch).await;
    }
    let listed = service.list().await.expect("they are listed");
    assert_eq!(&listed.endpoints, &**watch.endpoints());
    assert!(listed.endpoints.keys().map(|name| name.to_string()).eq((0..COUNT).map(name)));
    let mut another = service.watch();
    assert_eq!(next(&mut another).await.endpoints(), watch.endpoints());
}

pub(crate) async fn an_empty_target_is_refused(world: World) {
    let client = world.direct();
    for target in ["", "services/"] {
        let refused = Discovery::new(&client, target).expect_err("it is refused");
        assert!(matches!(refused, DiscoveryError::InvalidArgument { field: "target", .. }), "{refused}");
    }
}

pub(crate) async fn a_watch_waits_while_etcd_is_down(mut world: World) {
    let service = world.service();
    service.add("a", at("1")).await.expect("it is added");
    world.stop().await;
    // Opened while nobody answers.
    let mut late = service.watch();
    let waiting = tokio::time::timeout(Duration::from_millis(300), late.next()).await;
    assert!(waiting.is_err(), "nothing can be known: {waiting:?}");
    world.restart().await;
    let update = next(&mut late).await;
    assert_eq!((update.kind(), told(update.changes())), (UpdateKind::Snapshot, lines(&["+a 1"])));
    world.stop().await;
    world.restart().await;
    world.direct_service().add("b", at("2")).await.expect("it is added");
    until_addresses(&mut late, &["1", "2"]).await;
}

pub(crate) async fn a_closed_client_ends_the_watch(world: World) {
    let client = world.builder().connect_lazy().expect("valid settings");
    let mut watch = Discovery::new(&client, TARGET).expect("a good target").watch();
    next(&mut watch).await;
    client.close().await;
    let ended = soon("the watch ends", watch.next()).await;
    assert_eq!(ended, Some(Err(DiscoveryError::Closed)));
    assert_eq!(watch.next().await, None);
}

pub(crate) async fn a_restored_store_is_told_as_a_difference(on: On, backend: Backend) {
    for identity in [RestoreAs::SameCluster, RestoreAs::AnotherCluster] {
        let mut world = World::start(on, backend.clone()).await;
        let (service, writer) = (world.service(), world.direct_service());
        writer.update(EndpointBatch::new().add("a", at("1")).add("b", at("2"))).await.expect("it is done");
        let directory = tempfile::tempdir().expect("a directory");
        let snapshot = directory.path().join("snapshot.db");
        world.real().snapshot(&snapshot).await.expect("it is saved");
        writer.update(EndpointBatch::new().delete("a").add("b", at("3"))).await.expect("it is done");
        writer.add("c", at("4")).await.expect("it is added");
        let mut watch = service.watch();
        until_addresses(&mut watch, &["3", "4"]).await;

        world.real().restore(&snapshot, identity).await.expect("it is restored");
        let update = next(&mut watch).await;
        assert_eq!(update.kind(), UpdateKind::Resync, "{identity:?}");
        assert_eq!(told(update.changes()), lines(&["+a 1", "~b 3 -> 2", "-c 4"]), "{identity:?}");
        writer.add("d", at("5")).await.expect("it is added");
        until_addresses(&mut watch, &["1", "2", "5"]).await;
    }
}

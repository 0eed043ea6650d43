//! Followers become what their leader was, entry by entry.

use etcd_watch_proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest};

use super::*;

/// A leader and a follower that has done nothing yet.
fn cluster() -> (ModelEtcd, ModelEtcd) {
    let mut leader = etcd();
    leader.lead();
    let follower = leader.follower(ModelConfig { member_id: 2, ..ModelConfig::default() });
    (leader, follower)
}

fn catch_up(leader: &mut ModelEtcd, follower: &mut ModelEtcd) {
    leader.take_log().iter().for_each(|entry| follower.follow(entry));
}

/// What a client can learn of a store, but for who has told it.
fn seen(etcd: &ModelEtcd) -> String {
    let first = etcd.compact_revision().unwrap_or(1);
    let at = |revision| etcd.range(&RangeRequest { revision, ..read("\0", "\0") }).expect("a read").kvs;
    let reads: Vec<_> = (first..=etcd.revision()).map(at).collect();
    format!("{} {:?} {reads:?} {:?}", etcd.revision(), etcd.compact_revision(), etcd.lease_leases().leases)
}

fn random_step(etcd: &mut ModelEtcd, rng: &mut fastrand::Rng, now: Duration) {
    let key = format!("k{}", rng.u8(..6));
    let leases = etcd.lease_leases().leases;
    let lease = match leases.len() {
        0 => 0,
        count => leases[rng.usize(..count)].id,
    };
    match rng.u8(..9) {
        0 => _ = delete(etcd, &key, "k9"),
        1 => _ = delete(etcd, &key, ""),
        2 => _ = put_all(etcd, &["k1", "k7"]),
        3 => _ = etcd.lease_grant(&LeaseGrantRequest { id: 0, ttl: rng.i64(2..30) }, now).expect("a lease"),
        // This and the next may be refused.
        4 => _ = etcd.lease_revoke(&LeaseRevokeRequest { id: lease }),
        5 => {
            let revision = rng.i64(1..=etcd.revision());
            _ = etcd.compact(&CompactionRequest { revision, physical: false });
        }
        6 => etcd.handle_timeout(now),
        _ => {
            let put = PutRequest { key: key.into(), value: "v".into(), lease, ..PutRequest::default() };
            etcd.put(&put).expect("a lawful put");
        }
    }
}

#[test]
fn a_follower_that_has_done_everything_shows_what_its_leader_shows() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut leader, mut follower) = cluster();
        let (mut log, mut were) = (Vec::new(), vec![seen(&leader)]);
        for step in 0..100 {
            random_step(&mut leader, &mut rng, SECOND * step);
            let entries = leader.take_log();
            // What ends several leases makes several entries at once, and what it is in between isn't seen here.
            if entries.len() == 1 {
                were.push(seen(&leader));
            } else {
                were.extend(entries.iter().map(|_| String::new()));
                *were.last_mut().expect("the first") = seen(&leader);
            }
            log.extend(entries);
        }
        for (entry, was) in log.iter().zip(&were[1..]) {
            follower.follow(entry);
            assert!(was.is_empty() || seen(&follower) == *was, "seed {seed}: {entry:?}");
        }
        assert_eq!(follower.history(), leader.history(), "seed {seed}");
        assert!(log.len() > 40, "seed {seed}: {} entries", log.len());
    }
}

#[test]
fn a_follower_made_later_has_what_was_before() {
    let (mut leader, mut first) = cluster();
    put(&mut leader, "a", "1");
    catch_up(&mut leader, &mut first);
    let mut second = leader.follower(ModelConfig::default());
    put(&mut leader, "a", "2");
    for entry in leader.take_log() {
        first.follow(&entry);
        second.follow(&entry);
    }
    assert_eq!(seen(&first), seen(&leader));
    assert_eq!(seen(&second), seen(&leader));
}

#[test]
fn a_lease_ends_on_a_follower_when_it_has_ended_on_the_leader() {
    let (mut leader, mut follower) = cluster();
    leader.lease_grant(&LeaseGrantRequest { id: 7, ttl: 5 }, Duration::ZERO).expect("a lease");
    let attached = PutRequest { key: "k".into(), lease: 7, ..PutRequest::default() };
    leader.put(&attached).expect("a lawful put");
    catch_up(&mut leader, &mut follower);
    assert_eq!(follower.poll_timeout(), None);
    follower.handle_timeout(SECOND * 100);
    assert_eq!(follower.lease_leases().leases.len(), 1, "its leader has not ended it");
    leader.handle_timeout(SECOND * 5);
    let log = leader.take_log();
    assert_eq!(log.len(), 1, "the lease and its key go at once: {log:?}");
    follower.follow(&log[0]);
    assert_eq!(seen(&follower), seen(&leader));
    assert!(follower.lease_leases().leases.is_empty());
}

#[test]
fn a_watch_on_a_follower_is_told_what_the_follower_has_done_and_begins_where_it_was_asked_to() {
    let (mut leader, mut follower) = cluster();
    for value in ["1", "2", "3", "4"] {
        put(&mut leader, "k", value);
    }
    let log = leader.take_log();
    follower.follow(&log[0]);
    let stream = follower.open_watch_stream();
    // Revision 4 is there on the leader only.
    let reply = created(&mut follower, stream, WatchCreateRequest { start_revision: 4, ..watch("k", "") });
    assert_eq!(revision(&reply), 2);
    request_progress(&mut follower, stream);
    follower.follow(&log[1]);
    assert!(drain(&mut follower, stream).is_empty());
    follower.follow(&log[2]);
    assert_eq!(events(&drain(&mut follower, stream)), owned(&[(4, "k")]));
    follower.follow(&log[3]);
    assert_eq!(events(&drain(&mut follower, stream)), owned(&[(5, "k")]));
}

#[test]
fn one_without_followers_keeps_no_log() {
    let mut etcd = etcd();
    put(&mut etcd, "k", "v");
    assert!(etcd.take_log().is_empty());
}

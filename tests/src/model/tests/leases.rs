use etcd_watch_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
};

use super::*;
use crate::model::{EventKind, ModelError};

fn grant(etcd: &mut ModelEtcd, id: i64, ttl: i64) -> i64 {
    etcd.lease_grant(&LeaseGrantRequest { id, ttl }, Duration::ZERO).expect("grant").id
}

fn put_leased(etcd: &mut ModelEtcd, key: &str, lease: i64) {
    let request = PutRequest { key: key.to_owned().into(), lease, ..PutRequest::default() };
    etcd.put(&request).expect("put");
}

fn attached(etcd: &mut ModelEtcd, id: i64) -> Vec<String> {
    let request = LeaseTimeToLiveRequest { id, keys: true };
    let response = etcd.lease_time_to_live(&request, Duration::ZERO);
    response.keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
}

fn lease_of(etcd: &ModelEtcd, key: &str) -> i64 {
    etcd.range(&read(key, "")).expect("range").kvs[0].lease
}

#[test]
fn revoking_a_lease_deletes_its_keys_in_order_at_one_revision() {
    let mut etcd = etcd();
    grant(&mut etcd, 7, 10);
    put_leased(&mut etcd, "b", 7);
    put_leased(&mut etcd, "a", 7);
    put(&mut etcd, "c", "stays");
    let response = etcd.lease_revoke(&LeaseRevokeRequest { id: 7 }).expect("revoke");
    assert_eq!(response.header.expect("header").revision, 5);
    let ends: Vec<_> = etcd.history()[3..].iter().map(|event| (event.revision, event.key.as_ref())).collect();
    assert_eq!(ends, [(5, b"a".as_slice()), (5, b"b")]);
    assert_eq!(etcd.lease_revoke(&LeaseRevokeRequest { id: 7 }), Err(ModelError::LeaseNotFound));
}

#[test]
fn revoking_a_lease_without_keys_uses_no_revision() {
    let mut etcd = etcd();
    grant(&mut etcd, 7, 10);
    etcd.lease_revoke(&LeaseRevokeRequest { id: 7 }).expect("revoke");
    assert_eq!(etcd.revision(), 1);
}

#[test]
fn a_lease_that_is_not_kept_alive_ends_and_takes_its_keys_along() {
    let mut etcd = etcd();
    grant(&mut etcd, 7, 10);
    put_leased(&mut etcd, "a", 7);
    assert_eq!(etcd.poll_timeout(), Some(10 * SECOND));
    etcd.handle_timeout(9 * SECOND);
    assert_eq!(etcd.revision(), 2);
    etcd.handle_timeout(10 * SECOND);
    assert_eq!(etcd.history()[1].kind, EventKind::Delete);
    assert!(etcd.lease_leases().leases.is_empty());
    assert_eq!(etcd.poll_timeout(), None);
}

#[test]
fn a_lease_that_is_kept_alive_stays() {
    let mut etcd = etcd();
    grant(&mut etcd, 7, 10);
    let renewed = etcd.lease_keep_alive(&LeaseKeepAliveRequest { id: 7 }, 9 * SECOND);
    assert_eq!((renewed.id, renewed.ttl), (7, 10));
    etcd.handle_timeout(18 * SECOND);
    assert_eq!(etcd.lease_leases().leases[0].id, 7);
}

#[test]
fn an_unknown_lease_has_no_time_to_live() {
    let mut etcd = etcd();
    assert_eq!(etcd.lease_keep_alive(&LeaseKeepAliveRequest { id: 7 }, SECOND).ttl, 0);
    let request = LeaseTimeToLiveRequest { id: 7, keys: true };
    assert_eq!(etcd.lease_time_to_live(&request, SECOND).ttl, -1);
}

#[test]
fn time_to_live_tells_what_is_left_and_what_was_granted() {
    let mut etcd = etcd();
    grant(&mut etcd, 7, 10);
    let request = LeaseTimeToLiveRequest { id: 7, keys: false };
    let response = etcd.lease_time_to_live(&request, 4 * SECOND);
    assert_eq!((response.ttl, response.granted_ttl), (6, 10));
}

#[test]
fn a_key_hangs_on_the_lease_of_its_last_put() {
    let mut etcd = etcd();
    grant(&mut etcd, 7, 10);
    grant(&mut etcd, 8, 10);
    put_leased(&mut etcd, "a", 7);
    put_leased(&mut etcd, "a", 8);
    assert!(attached(&mut etcd, 7).is_empty());
    assert_eq!(attached(&mut etcd, 8), ["a"]);
    put(&mut etcd, "a", "without");
    assert!(attached(&mut etcd, 8).is_empty());
    assert_eq!(lease_of(&etcd, "a"), 0);
}

#[test]
fn a_deleted_key_hangs_on_no_lease() {
    let mut etcd = etcd();
    grant(&mut etcd, 7, 10);
    put_leased(&mut etcd, "a", 7);
    delete(&mut etcd, "a", "");
    assert!(attached(&mut etcd, 7).is_empty());
}

#[test]
fn a_put_can_keep_the_lease() {
    let mut etcd = etcd();
    grant(&mut etcd, 7, 10);
    put_leased(&mut etcd, "a", 7);
    let keep = PutRequest { key: "a".into(), ignore_lease: true, ..PutRequest::default() };
    etcd.put(&keep).expect("put");
    assert_eq!((lease_of(&etcd, "a"), attached(&mut etcd, 7)), (7, vec!["a".to_owned()]));
    assert_eq!(etcd.put(&PutRequest { lease: 7, ..keep.clone() }), Err(ModelError::LeaseProvided));
    assert_eq!(etcd.put(&PutRequest { key: "x".into(), ..keep }), Err(ModelError::KeyNotFound));
}

#[test]
fn a_put_with_an_unknown_lease_is_refused() {
    let request = PutRequest { key: "a".into(), lease: 7, ..PutRequest::default() };
    assert_eq!(etcd().put(&request), Err(ModelError::LeaseNotFound));
}

#[test]
fn a_restart_gives_leases_their_full_time_again() {
    let mut etcd = etcd();
    grant(&mut etcd, 7, 10);
    etcd.restart(9 * SECOND);
    assert_eq!(etcd.poll_timeout(), Some(19 * SECOND));
}

#[test]
fn time_that_goes_backwards_stands_still() {
    let mut etcd = etcd();
    etcd.handle_timeout(100 * SECOND);
    grant(&mut etcd, 7, 10);
    assert_eq!(etcd.poll_timeout(), Some(110 * SECOND));
}

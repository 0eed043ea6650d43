//! Leases, listed and revoked.

use std::{collections::BTreeSet, time::Duration};

use etcd_watch_client::{LeaseGrant, Put, Refusal};
use etcd_watch_testkit::harness::EtcdServer;

use crate::world::{Setup, refusal};

pub(crate) async fn leases_are_listed_and_revoked(setup: Setup) {
    let server = EtcdServer::builder(setup.version.clone()).start_async().await.expect("etcd starts");
    let client = setup.client([server.endpoint()]);
    assert_eq!(client.leases().await, Ok(Vec::new()));
    let minute = Duration::from_secs(60);
    let one = client.lease_grant(minute).await.expect("it is granted");
    let namespaced = client.namespaced("n/").expect("a prefix");
    let two = namespaced.lease_grant(LeaseGrant::new(minute).id(7)).await.expect("it is granted");
    let leases = namespaced.leases().await.expect("they are listed");
    assert_eq!(BTreeSet::from_iter(leases), BTreeSet::from([one.id(), two.id()]));

    let again = client.lease_grant(LeaseGrant::new(minute).id(7)).await;
    assert_eq!(refusal(again), Refusal::LeaseExists);
    let put = client.put_with(Put::new("key", "value").lease(7)).await.expect("it is put");
    let revoked = client.lease_revoke(7).await.expect("it is revoked");
    assert_eq!(revoked.revision, put.revision() + 1, "the key is deleted with it");
    assert_eq!(revoked.cluster_id, put.header().cluster_id);
    let twice = client.lease_revoke(7).await;
    assert!(twice.as_ref().is_err_and(|error| error.is_lease_not_found()), "{twice:?}");
    assert_eq!(refusal(twice), Refusal::LeaseNotFound);
    assert_eq!(client.leases().await, Ok(vec![one.id()]));
}

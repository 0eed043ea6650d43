//! Downgrades, asked about, begun and given up.

use etcd_watch_client::Refusal;
use etcd_watch_testkit::harness::EtcdServer;

use crate::world::{Setup, invalid, once_not, refusal};

pub(crate) async fn a_downgrade_is_asked_about_begun_and_given_up(setup: Setup) {
    let server = EtcdServer::builder(setup.version.clone()).start_async().await.expect("etcd starts");
    let client = setup.client([server.endpoint()]);
    let maintenance = client.maintenance();
    let version = server.version();
    let below = format!("{}.{}.0", version.major, version.minor - 1);

    assert_eq!(invalid(maintenance.downgrade_validate("v3.5").await), "version");
    assert_eq!(invalid(maintenance.downgrade_enable("").await), "version");
    // A cluster has its version a while after its start.
    let early = [Refusal::ClusterVersionUnknown, Refusal::InvalidDowngradeTarget];
    let valid = once_not(&early, || maintenance.downgrade_validate(&below)).await.expect("it can be");
    assert_eq!(valid.cluster_version(), format!("{}.{}", version.major, version.minor));
    for target in ["3.2", "9.9.0"] {
        assert_eq!(refusal(maintenance.downgrade_validate(target).await), Refusal::InvalidDowngradeTarget);
        assert_eq!(refusal(maintenance.downgrade_enable(target).await), Refusal::InvalidDowngradeTarget);
    }

    maintenance.downgrade_enable(&below).await.expect("it is begun");
    assert_eq!(refusal(maintenance.downgrade_enable(&below).await), Refusal::DowngradeInProgress);
    let status = maintenance.status(server.endpoint()).await.expect("it is told");
    assert_eq!(status.downgrade_target(), Some(&below[..]), "{status:?}");
    maintenance.downgrade_cancel().await.expect("it is given up");
    let status = maintenance.status(server.endpoint()).await.expect("it is told");
    assert_eq!(status.downgrade_target(), None, "{status:?}");
    // etcd keeps to itself that there was none.
    maintenance.downgrade_cancel().await.expect("nothing changes");
}

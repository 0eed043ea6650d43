//! The store that the demo compares watches with.

use etcd_watch_testkit::server::EmbeddedEtcd;

/// The store's revision now.
pub(super) fn revision(etcd: &EmbeddedEtcd) -> i64 {
    etcd.with_model(|model| model.revision())
}

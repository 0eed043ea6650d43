//! etcd-watch-proto

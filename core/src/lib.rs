//! etcd-watch-core

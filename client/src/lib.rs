//! etcd-watch-client

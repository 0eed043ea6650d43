//! etcd-watch-testkit

//! etcd-watch-tokio

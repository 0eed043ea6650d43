//! etcd-watch

fn main() {}

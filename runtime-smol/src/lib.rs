//! An etcd client for smol and async-std whose watches survive every cut.

//! etcd's watch on the wire: decoding and encoding its messages, and what servers of a version do.

pub(crate) mod decode;
pub(crate) mod version;

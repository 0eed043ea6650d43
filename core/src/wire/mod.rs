//! etcd's watch on the wire: decoding and encoding its messages, and what servers of a version do.

pub(crate) mod decode;
mod reader;
pub(crate) mod version;

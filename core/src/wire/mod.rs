//! etcd's gRPC without I/O: all that lies between a machine and an HTTP/2 stream.
//!
//! A driver that has an HTTP/2 library needs this and nothing else to talk to etcd; there is no need for a
//! protobuf or gRPC library. `docs/embedding-the-core.md` in the repository shows a complete driver.
//!
//! | on the way | what | by |
//! |---|---|---|
//! | out | a call's path and headers | [`Method`], which each request names |
//! | out | a request as bytes, with gRPC's prefix | [`Encode`] on [`Request`], [`ListRequest`], [`ListStreamRequest`], [`RevisionRequest`], [`StatusRequest`] |
//! | in | whether a response's headers are gRPC's | [`check_head`] |
//! | in | whole messages out of DATA chunks | [`Messages`] |
//! | in | a watch stream's messages | [`Watcher::handle_frame`] |
//! | in | other calls' messages | [`RangeDone::decode`], [`Page::decode`], [`Page::decode_chunk`], [`decode_version`] |
//! | in | how a call ended | [`Messages::end`] |
//!
//! Nothing here panics on what a server sends, and nothing allocates more than a small multiple of what has
//! arrived.
//!
//! [`Request`]: crate::Request
//! [`ListRequest`]: crate::ListRequest
//! [`Watcher::handle_frame`]: crate::Watcher::handle_frame
//! [`RangeDone::decode`]: crate::RangeDone::decode
//! [`Page::decode`]: crate::Page::decode
//! [`Page::decode_chunk`]: crate::Page::decode_chunk

pub(crate) mod decode;
pub(crate) mod index;
mod reader;
pub(crate) mod version;

mod call;
mod encode;
mod messages;
mod range;

pub use call::{Method, check_head, end_of};
pub use encode::{Encode, ListStreamRequest, RevisionRequest, StatusRequest};
pub use messages::{MessageError, Messages, PREFIX_BYTES, frame, prefix};
pub use range::decode_version;

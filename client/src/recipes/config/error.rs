//! What can go wrong with a configuration.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use etcd_watch_core::CloseReason;

use crate::OpenError;

/// A configuration can't be followed as asked for. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The key is empty.
    #[error("the key is empty: name the one that holds the configuration")]
    EmptyKey,
    /// The prefix is empty, and not every key was asked for.
    #[error(
        "the prefix is empty, which is every key there is: give one, or ask for them all with ConfigBuilder::all_keys"
    )]
    EmptyPrefix,
    /// The client has been closed, or its runtime is gone.
    #[error(transparent)]
    Refused(#[from] OpenError),
}

/// What is in etcd does not decode.
#[derive(Clone, Debug, thiserror::Error)]
#[error("what is at {} at revision {revision} does not decode: {cause}", String::from_utf8_lossy(.key))]
#[non_exhaustive]
pub struct DecodeError {
    /// The key, or the tree's prefix.
    pub key: Bytes,
    /// The revision at which it was found to be so.
    pub revision: i64,
    /// The decoder's word.
    #[source]
    pub cause: Arc<dyn Error + Send + Sync>,
}

/// It follows etcd no more; the last value stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// The watch ended for good: a permission was denied, the client was closed.
    #[error("the configuration follows etcd no more: {0}")]
    Watch(CloseReason),
    /// The decoder panicked. That is a mistake in it: what doesn't decode is for it to return an error for.
    #[error("the configuration follows etcd no more: its decoder panicked")]
    DecoderPanicked,
    /// The runtime that the client is on was shut down.
    #[error("the configuration follows etcd no more: its runtime was shut down")]
    Stopped,
}

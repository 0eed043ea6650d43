//! Why a request was refused.

use thiserror::Error;

/// Why a request was refused. The texts are etcd's own: clients tell errors apart by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The key is empty.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` for a key that doesn't exist, or an operation that is none.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// A value together with `ignore_value`.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// A lease together with `ignore_lease`.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// More conditions or operations than [`max_txn_ops`](super::ModelConfig::max_txn_ops).
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// One transaction would put a key twice, or put and delete it.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// A sort order or target that there isn't.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// Larger than [`max_request_bytes`](super::ModelConfig::max_request_bytes).
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// The revision is older than history goes back.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision hasn't happened yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// There is no such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// The id is taken.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// A time to live of more than 9,000,000,000 seconds.
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// The member has lost its leader.
    #[error("etcdserver: no leader")]
    NoLeader,
}

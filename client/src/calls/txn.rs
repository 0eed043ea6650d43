//! Transactions.

use bytes::Bytes;
use etcd_watch_core::{IntoBytes, KeyRange};
use etcd_watch_proto::etcdserverpb as pb;
use pb::{compare, request_op};

use crate::{
    CallError, Delete, Get, Put,
    calls::kv::{not_empty, not_negative},
};

/// How a [`Compare`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Is {
    /// The same.
    Equal,
    /// Not the same.
    NotEqual,
    /// The key's is greater than the one given.
    Greater,
    /// The key's is less than the one given.
    Less,
}

/// A condition on a key. A key that doesn't exist has version, revisions and lease 0; no condition on
/// its value holds.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Compare(pb::Compare);

impl Compare {
    fn new(key: Bytes, is: Is, target: compare::CompareTarget, with: compare::TargetUnion) -> Self {
        let result = match is {
            Is::Equal => compare::CompareResult::Equal,
            Is::NotEqual => compare::CompareResult::NotEqual,
            Is::Greater => compare::CompareResult::Greater,
            Is::Less => compare::CompareResult::Less,
        };
        Self(pb::Compare {
            result: result.into(),
            target: target.into(),
            key,
            range_end: Bytes::new(),
            target_union: Some(with),
        })
    }

    /// How often the key has been put since it was created; 0 if it doesn't exist.
    pub fn version(key: impl IntoBytes, is: Is, version: i64) -> Self {
        let with = compare::TargetUnion::Version(version);
        Self::new(key.into_bytes(), is, compare::CompareTarget::Version, with)
    }

    /// The revision that created the key; 0 if it doesn't exist.
    pub fn create_revision(key: impl IntoBytes, is: Is, revision: i64) -> Self {
        let with = compare::TargetUnion::CreateRevision(revision);
        Self::new(key.into_bytes(), is, compare::CompareTarget::Create, with)
    }

    /// The revision of the key's last change; 0 if it doesn't exist.
    pub fn mod_revision(key: impl IntoBytes, is: Is, revision: i64) -> Self {
        let with = compare::TargetUnion::ModRevision(revision);
        Self::new(key.into_bytes(), is, compare::CompareTarget::Mod, with)
    }

    /// The key's value.
    pub fn value(key: impl IntoBytes, is: Is, value: impl IntoBytes) -> Self {
        let with = compare::TargetUnion::Value(value.into_bytes());
        Self::new(key.into_bytes(), is, compare::CompareTarget::Value, with)
    }

    /// The lease the key hangs on; 0 for none.
    pub fn lease(key: impl IntoBytes, is: Is, lease: i64) -> Self {
        let with = compare::TargetUnion::Lease(lease);
        Self::new(key.into_bytes(), is, compare::CompareTarget::Lease, with)
    }

    /// The same condition on every key of a range rather than on one key.
    pub fn over(mut self, range: impl Into<KeyRange>) -> Self {
        let range = range.into();
        self.0.key = range.start().clone();
        self.0.range_end = range.end().clone();
        self
    }
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
#[non_exhaustive]
pub enum TxnOp {
    /// Read.
    Get(Get),
    /// Write.
    Put(Put),
    /// Delete.
    Delete(Delete),
    /// A transaction within the transaction.
    Txn(Txn),
}

impl TxnOp {
    fn into_request(self) -> Result<pb::RequestOp, CallError> {
        let request = match self {
            Self::Get(get) => request_op::Request::RequestRange(get.into_request("Txn")?),
            Self::Put(put) => request_op::Request::RequestPut(put.into_request("Txn")?),
            Self::Delete(delete) => request_op::Request::RequestDeleteRange(delete.into_request("Txn")?),
            Self::Txn(txn) => request_op::Request::RequestTxn(txn.into_request()?),
        };
        Ok(pb::RequestOp { request: Some(request) })
    }
}

impl From<Get> for TxnOp {
    fn from(get: Get) -> Self {
        Self::Get(get)
    }
}

impl From<Put> for TxnOp {
    fn from(put: Put) -> Self {
        Self::Put(put)
    }
}

impl From<Delete> for TxnOp {
    fn from(delete: Delete) -> Self {
        Self::Delete(delete)
    }
}

impl From<Txn> for TxnOp {
    fn from(txn: Txn) -> Self {
        Self::Txn(txn)
    }
}

/// A transaction: if every condition holds, one list of steps, else the other; all of it in one revision.
///
/// ```
/// use etcd_watch_client::{Compare, Get, Is, Put, Txn};
///
/// // Create the key unless it exists; if it does, say what is there.
/// let txn = Txn::new()
///     .when(Compare::create_revision("lock", Is::Equal, 0))
///     .and_then(Put::new("lock", "mine"))
///     .or_else(Get::key("lock"));
/// # let _ = txn;
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Txn {
    when: Vec<Compare>,
    then: Vec<TxnOp>,
    otherwise: Vec<TxnOp>,
}

impl Txn {
    /// An empty transaction.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    pub fn when(mut self, compare: Compare) -> Self {
        self.when.push(compare);
        self
    }

    /// Adds a step for when every condition holds.
    pub fn and_then(mut self, op: impl Into<TxnOp>) -> Self {
        self.then.push(op.into());
        self
    }

    /// Adds a step for when a condition doesn't hold.
    pub fn or_else(mut self, op: impl Into<TxnOp>) -> Self {
        self.otherwise.push(op.into());
        self
    }

    pub(crate) fn into_request(self) -> Result<pb::TxnRequest, CallError> {
        let ops = |ops: Vec<TxnOp>| ops.into_iter().map(TxnOp::into_request).collect::<Result<_, _>>();
        for Compare(compare) in &self.when {
            not_empty("Txn", "key of a condition", &compare.key)?;
            let revision = match compare.target_union {
                Some(compare::TargetUnion::Version(n)) => ("version", n),
                Some(compare::TargetUnion::CreateRevision(n)) => ("create_revision", n),
                Some(compare::TargetUnion::ModRevision(n)) => ("mod_revision", n),
                _ => continue,
            };
            not_negative("Txn", revision.0, revision.1)?;
        }
        Ok(pb::TxnRequest {
            compare: self.when.into_iter().map(|Compare(compare)| compare).collect(),
            success: ops(self.then)?,
            failure: ops(self.otherwise)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_and_steps_go_where_they_belong() {
        let nested = Txn::new().and_then(Delete::prefix("x"));
        let txn = Txn::new()
            .when(Compare::value("a", Is::Greater, "1"))
            .when(Compare::lease("", Is::NotEqual, 0).over(KeyRange::prefix("b")))
            .and_then(Put::new("a", "2"))
            .and_then(nested)
            .or_else(Get::key("a"));
        let request = txn.into_request().unwrap();
        assert_eq!((request.compare.len(), request.success.len(), request.failure.len()), (2, 2, 1));
        assert_eq!(request.compare[0].result(), compare::CompareResult::Greater);
        assert_eq!(request.compare[0].target(), compare::CompareTarget::Value);
        assert_eq!((&request.compare[1].key[..], &request.compare[1].range_end[..]), (&b"b"[..], &b"c"[..]));
    }

    #[test]
    fn an_invalid_step_is_refused_however_deep() {
        let nested = Txn::new().or_else(Get::key("a").revision(-1));
        let error = Txn::new().and_then(nested).into_request().unwrap_err();
        assert!(matches!(error, CallError::InvalidArgument { field: "revision", .. }), "{error}");
        let error = Txn::new().when(Compare::version("a", Is::Less, -1)).into_request().unwrap_err();
        assert!(matches!(error, CallError::InvalidArgument { field: "version", .. }), "{error}");
    }
}

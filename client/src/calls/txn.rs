//! Transactions.

use etcd_watch_proto::etcdserverpb as pb;
use pb::request_op;

use crate::{CallError, Compare, Delete, Get, Put};

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
/// use etcd_watch_client::{Compare, Get, Put, Txn};
///
/// // Move the job, unless somebody else has moved it before; if so, say where to.
/// let txn = Txn::new()
///     .when(Compare::value("jobs/7/owner").equals("anna"))
///     .when(Compare::exists("workers/bob"))
///     .and_then(Put::new("jobs/7/owner", "bob"))
///     .or_else(Get::key("jobs/7/owner"));
/// # let _ = txn;
/// ```
///
/// For a single key that is written under a condition there are [`Client::create`](crate::Client::create),
/// [`Client::update_if`](crate::Client::update_if) and [`Client::delete_if`](crate::Client::delete_if).
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
        Ok(pb::TxnRequest {
            compare: self.when.into_iter().map(Compare::into_request).collect::<Result<_, _>>()?,
            success: ops(self.then)?,
            failure: ops(self.otherwise)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use etcd_watch_core::KeyRange;
    use pb::compare;

    use super::*;

    #[test]
    fn conditions_and_steps_go_where_they_belong() {
        let nested = Txn::new().and_then(Delete::prefix("x"));
        let txn = Txn::new()
            .when(Compare::value("a").greater_than("1"))
            .when(Compare::lease(KeyRange::prefix("b")).not_equals(0))
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
        let error = Txn::new().when(Compare::version("a").less_than(-1)).into_request().unwrap_err();
        assert!(matches!(error, CallError::InvalidArgument { field: "version", .. }), "{error}");
    }
}

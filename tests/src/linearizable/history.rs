//! What clients ask and are told.

use std::time::Duration;

use bytes::Bytes;
use etcd_watch_core::Refusal;
use etcd_watch_proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseRevokeRequest, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseHeader,
    ResponseOp, TxnRequest, TxnResponse, request_op, response_op,
};

/// What was asked. It is written down as etcd's own messages, whatever call of the client stands for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// A read.
    Range(RangeRequest),
    /// A read of a cache of this range.
    Cached(RangeRequest, Demand),
    /// A put.
    Put(PutRequest),
    /// A delete.
    Delete(DeleteRangeRequest),
    /// A transaction.
    Txn(TxnRequest),
    /// A lease, with an id of the client's choice.
    Grant(LeaseGrantRequest),
    /// The end of a lease.
    Revoke(LeaseRevokeRequest),
    /// One renewal of a lease.
    KeepAlive(LeaseKeepAliveRequest),
}

/// What a read of a cache was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// The store at some revision: `Cache::snapshot`.
    Any,
    /// At this revision or past it: `Cache::wait_for`, `at_least`.
    AtLeast(i64),
    /// As new as the store when it was asked for: `Cache::consistent`.
    Current,
    /// As new as the store was so long before: `Cache::snapshot_within`.
    Within(Duration),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was answered.
    Answered(Answer),
    /// It ended with an error that says that it was not executed; with the server's refusal, if it was one.
    NotExecuted(Option<Refusal>),
    /// It may have been executed, and may yet be. So is whatever has not ended.
    Unknown,
}

/// What the server said. Of headers only the revision counts, and none of those within a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To a read, of a cache too: its revision is the snapshot's.
    Range(RangeResponse),
    /// To a put.
    Put(PutResponse),
    /// To a delete.
    Delete(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a grant.
    Grant(LeaseGrantResponse),
    /// The revision after a lease has ended.
    Revoke(i64),
    /// How long a renewed lease lasts, in seconds; 0 if there is none.
    KeepAlive(i64),
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Whose it is.
    pub client: usize,
    /// When it was asked for, since an epoch that all clients share.
    pub invoked: Duration,
    /// When its end was known; `None` for what is [unknown](Outcome::Unknown).
    pub returned: Option<Duration>,
    /// What was asked.
    pub request: Request,
    /// What came of it.
    pub outcome: Outcome,
}

impl Operation {
    /// What was answered, if it was.
    #[must_use]
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Answered(answer) => Some(answer),
            _ => None,
        }
    }

    /// The revision of the state that its answer shows; `None` if there is none in it.
    #[must_use]
    pub fn revision(&self) -> Option<i64> {
        self.answer()?.revision()
    }

    /// Whether its answer says that it has changed something. The end of a lease doesn't say.
    #[must_use]
    pub fn has_written(&self) -> bool {
        match self.answer() {
            Some(Answer::Put(_)) => true,
            Some(Answer::Delete(delete)) => delete.deleted > 0,
            Some(Answer::Txn(txn)) => writes(txn),
            _ => false,
        }
    }

    /// Whether it has to see all that was known before.
    #[must_use]
    pub fn is_linearizable(&self) -> bool {
        match &self.request {
            Request::Range(range) => !range.serializable,
            Request::Txn(txn) => !is_serializable(txn),
            Request::Cached(..) | Request::Grant(_) | Request::KeepAlive(_) => false,
            Request::Put(_) | Request::Delete(_) | Request::Revoke(_) => true,
        }
    }

    /// The values it would put.
    pub(super) fn values(&self) -> Vec<Bytes> {
        let mut values = Vec::new();
        self.request.for_each_put(&mut |put| {
            if !put.ignore_value && !put.value.is_empty() {
                values.push(put.value.clone());
            }
        });
        values
    }
}

impl Request {
    /// Whether it may change the store.
    #[must_use]
    pub fn may_write(&self) -> bool {
        match self {
            Self::Put(_) | Self::Delete(_) | Self::Revoke(_) => true,
            Self::Txn(txn) => {
                let reads = |op: &RequestOp| matches!(op.request, Some(request_op::Request::RequestRange(_)));
                !txn.success.iter().chain(&txn.failure).all(reads)
            }
            Self::Range(_) | Self::Cached(..) | Self::Grant(_) | Self::KeepAlive(_) => false,
        }
    }

    /// Every put in it, whichever branch it is in.
    pub(super) fn for_each_put(&self, visit: &mut dyn FnMut(&PutRequest)) {
        match self {
            Self::Put(put) => visit(put),
            Self::Txn(txn) => for_each_put(txn, visit),
            _ => {}
        }
    }
}

impl Answer {
    /// The revision in its header.
    #[must_use]
    pub fn revision(&self) -> Option<i64> {
        let header = match self {
            Self::Range(range) => &range.header,
            Self::Put(put) => &put.header,
            Self::Delete(delete) => &delete.header,
            Self::Txn(txn) => &txn.header,
            Self::Revoke(revision) => return Some(*revision),
            Self::Grant(_) | Self::KeepAlive(_) => return None,
        };
        header.as_ref().map(|header| header.revision)
    }

    /// The same without what says who answered.
    pub(super) fn bare(mut self) -> Self {
        let header = match &mut self {
            Self::Range(range) => &mut range.header,
            Self::Put(put) => &mut put.header,
            Self::Delete(delete) => &mut delete.header,
            Self::Txn(txn) => {
                txn.responses.iter_mut().for_each(take_headers);
                &mut txn.header
            }
            Self::Grant(_) | Self::Revoke(_) | Self::KeepAlive(_) => return self,
        };
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = at(revision);
        self
    }
}

/// A header that says a revision and nothing else.
pub(super) fn at(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

fn take_headers(op: &mut ResponseOp) {
    use response_op::Response;
    match &mut op.response {
        Some(Response::ResponseRange(range)) => range.header = None,
        Some(Response::ResponsePut(put)) => put.header = None,
        Some(Response::ResponseDeleteRange(delete)) => delete.header = None,
        Some(Response::ResponseTxn(txn)) => {
            txn.header = None;
            txn.responses.iter_mut().for_each(take_headers);
        }
        None => {}
    }
}

fn writes(txn: &TxnResponse) -> bool {
    use response_op::Response;
    txn.responses.iter().any(|op| match &op.response {
        Some(Response::ResponsePut(_)) => true,
        Some(Response::ResponseDeleteRange(delete)) => delete.deleted > 0,
        Some(Response::ResponseTxn(txn)) => writes(txn),
        Some(Response::ResponseRange(_)) | None => false,
    })
}

fn for_each_put(txn: &TxnRequest, visit: &mut dyn FnMut(&PutRequest)) {
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(request_op::Request::RequestPut(put)) => visit(put),
            Some(request_op::Request::RequestTxn(txn)) => for_each_put(txn, visit),
            _ => {}
        }
    }
}

/// Whether a transaction is answered from the member's own store: it has serializable reads and nothing else (etcd's
/// `isTxnSerializable`). So is one that does nothing at all, whatever it compares.
fn is_serializable(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match &op.request {
        Some(request_op::Request::RequestRange(range)) => range.serializable,
        _ => false,
    })
}

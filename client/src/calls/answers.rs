//! What calls answer.

use etcd_watch_core::{Header, OwnedKeyValue};
use etcd_watch_proto::etcdserverpb::{self as pb, response_op::Response};

use crate::transport::wire::{header, pair};

/// What every answer has.
macro_rules! answers {
    ($($answer:ident)*) => {$(
        impl $answer {
            /// What the server tells of itself with the answer; zeros when it told nothing.
            #[must_use]
            pub fn header(&self) -> Header {
                self.header
            }

            /// The store's revision when the answer was made: of a write, the revision it made.
            #[must_use]
            pub fn revision(&self) -> i64 {
                self.header.revision
            }
        }
    )*};
}

answers! { GetResponse PutResponse DeleteResponse TxnResponse }

/// The keys that were read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GetResponse {
    header: Header,
    kvs: Vec<OwnedKeyValue>,
    count: i64,
    more: bool,
}

impl GetResponse {
    /// The pairs, in the order asked for.
    #[must_use]
    pub fn kvs(&self) -> &[OwnedKeyValue] {
        &self.kvs
    }

    /// The pairs, by value.
    #[must_use]
    pub fn into_kvs(self) -> Vec<OwnedKeyValue> {
        self.kvs
    }

    /// The first pair: *the* pair, where one key was asked for. `None` when there is none.
    #[must_use]
    pub fn first(&self) -> Option<&OwnedKeyValue> {
        self.kvs.first()
    }

    /// The first pair, by value.
    #[must_use]
    pub fn into_first(self) -> Option<OwnedKeyValue> {
        self.kvs.into_iter().next()
    }

    /// How many keys the range has, whatever the limit was.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.count
    }

    /// Whether the range has more keys than the limit let through.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.more
    }
}

impl From<pb::RangeResponse> for GetResponse {
    fn from(response: pb::RangeResponse) -> Self {
        let pb::RangeResponse { header: sent, kvs, more, count } = response;
        Self { header: header(sent), kvs: kvs.into_iter().map(pair).collect(), count, more }
    }
}

/// A key was put.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PutResponse {
    pub(super) header: Header,
    pub(super) prev: Option<OwnedKeyValue>,
}

impl PutResponse {
    /// The pair as it was, if it was asked for and existed.
    #[must_use]
    pub fn prev(&self) -> Option<&OwnedKeyValue> {
        self.prev.as_ref()
    }

    /// The pair as it was, by value.
    #[must_use]
    pub fn into_prev(self) -> Option<OwnedKeyValue> {
        self.prev
    }
}

impl From<pb::PutResponse> for PutResponse {
    fn from(response: pb::PutResponse) -> Self {
        Self { header: header(response.header), prev: response.prev_kv.map(pair) }
    }
}

/// Keys were deleted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeleteResponse {
    pub(super) header: Header,
    pub(super) deleted: i64,
    pub(super) prevs: Vec<OwnedKeyValue>,
}

impl DeleteResponse {
    /// How many keys were deleted.
    #[must_use]
    pub fn deleted(&self) -> i64 {
        self.deleted
    }

    /// The pairs as they were, if they were asked for.
    #[must_use]
    pub fn prevs(&self) -> &[OwnedKeyValue] {
        &self.prevs
    }

    /// The pairs as they were, by value.
    #[must_use]
    pub fn into_prevs(self) -> Vec<OwnedKeyValue> {
        self.prevs
    }
}

impl From<pb::DeleteRangeResponse> for DeleteResponse {
    fn from(response: pb::DeleteRangeResponse) -> Self {
        let prevs = response.prev_kvs.into_iter().map(pair).collect();
        Self { header: header(response.header), deleted: response.deleted, prevs }
    }
}

/// A transaction was run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TxnResponse {
    header: Header,
    succeeded: bool,
    results: Vec<TxnResult>,
}

impl TxnResponse {
    /// Whether every condition held, so that the steps of [`and_then`](crate::Txn::and_then) were made; else those
    /// of [`or_else`](crate::Txn::or_else) were.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.succeeded
    }

    /// What each step came to, in their order.
    #[must_use]
    pub fn results(&self) -> &[TxnResult] {
        &self.results
    }

    /// What each step came to, by value.
    #[must_use]
    pub fn into_results(self) -> Vec<TxnResult> {
        self.results
    }

    /// What the step at this place read, if it was a read.
    #[must_use]
    pub fn get(&self, step: usize) -> Option<&GetResponse> {
        match self.results.get(step)? {
            TxnResult::Get(get) => Some(get),
            _ => None,
        }
    }
}

impl From<pb::TxnResponse> for TxnResponse {
    fn from(response: pb::TxnResponse) -> Self {
        let pb::TxnResponse { header: sent, succeeded, responses } = response;
        // A step without a result is none of etcd's.
        let results = responses.into_iter().filter_map(|op| op.response).map(TxnResult::from).collect();
        Self { header: header(sent), succeeded, results }
    }
}

/// What one step of a transaction came to. The headers in it have the revision alone.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TxnResult {
    /// It read.
    Get(GetResponse),
    /// It wrote.
    Put(PutResponse),
    /// It deleted.
    Delete(DeleteResponse),
    /// It was a transaction.
    Txn(TxnResponse),
}

impl From<Response> for TxnResult {
    fn from(response: Response) -> Self {
        match response {
            Response::ResponseRange(range) => Self::Get(range.into()),
            Response::ResponsePut(put) => Self::Put(put.into()),
            Response::ResponseDeleteRange(delete) => Self::Delete(delete.into()),
            Response::ResponseTxn(txn) => Self::Txn(txn.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use etcd_watch_proto::mvccpb::KeyValue;

    use super::*;

    #[test]
    fn an_absent_header_is_zeros() {
        let put = PutResponse::from(pb::PutResponse::default());
        assert!(!put.header().is_present() && put.revision() == 0 && put.prev().is_none());
        let sent = pb::ResponseHeader { revision: 7, ..Default::default() };
        let put = PutResponse::from(pb::PutResponse { header: Some(sent), prev_kv: None });
        assert!(put.header().is_present() && put.revision() == 7);
    }

    #[test]
    fn the_results_of_a_transaction_are_in_the_order_of_its_steps() {
        let kv = KeyValue { key: "k".into(), value: "v".into(), ..Default::default() };
        let range = pb::RangeResponse { kvs: vec![kv], count: 1, ..Default::default() };
        let ops = [Response::ResponsePut(pb::PutResponse::default()), Response::ResponseRange(range)];
        let responses = ops.into_iter().map(|op| pb::ResponseOp { response: Some(op) }).collect();
        let txn = TxnResponse::from(pb::TxnResponse { responses, succeeded: true, header: None });
        assert!(txn.succeeded() && matches!(txn.results()[0], TxnResult::Put(_)));
        let value = txn.get(1).and_then(GetResponse::first).and_then(|kv| kv.value_str().ok());
        assert_eq!((value, txn.get(0)), (Some("v"), None));
    }
}

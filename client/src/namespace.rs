//! A view on the keys under a prefix: requests get the prefix, responses lose it.

use bytes::Bytes;
use etcd_watch_core::KeyRange;
use etcd_watch_proto::{etcdserverpb as pb, mvccpb::KeyValue};
use pb::{request_op::Request as Op, response_op::Response as Done};

/// The prefix is empty: that would be no view but the whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the namespace's prefix is empty: give one, or use the client as it is")]
pub struct EmptyNamespace;

/// The prefix that a client's keys have on the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Namespace(Bytes);

impl Namespace {
    /// A namespace within this one.
    pub(crate) fn nested(&self, prefix: &[u8]) -> Result<Self, EmptyNamespace> {
        if prefix.is_empty() {
            return Err(EmptyNamespace);
        }
        Ok(Self([&self.0, prefix].concat().into()))
    }

    pub(crate) fn prefix(&self) -> &Bytes {
        &self.0
    }

    fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&self, key: &mut Bytes) {
        *key = [&self.0[..], key].concat().into();
    }

    fn add_to_range(&self, key: &mut Bytes, end: &mut Bytes) {
        // What the request's own constructors have made: a range that can't be made is refused by the server.
        let range = if end.is_empty() {
            Ok(KeyRange::key(key.clone()))
        } else {
            KeyRange::range(key.clone(), end.clone())
        };
        match range {
            Ok(range) => {
                let within = range.within(&self.0);
                (*key, *end) = (within.start().clone(), within.end().clone());
            }
            Err(_) => {
                self.add(key);
                self.add(end);
            }
        }
    }

    fn strip(&self, key: &mut Bytes) {
        let _ = key.split_to(self.0.len().min(key.len()));
    }

    fn strip_all<'a>(&self, kvs: impl IntoIterator<Item = &'a mut KeyValue>) {
        kvs.into_iter().for_each(|kv| self.strip(&mut kv.key));
    }
}

/// A request whose keys can be moved under a prefix, and its response whose keys can be moved back.
pub(crate) trait Namespaced: Sized {
    type Response;

    fn enter(self, namespace: &Namespace) -> Self;

    fn leave(response: Self::Response, namespace: &Namespace) -> Self::Response;
}

impl Namespaced for pb::RangeRequest {
    type Response = pb::RangeResponse;

    fn enter(mut self, namespace: &Namespace) -> Self {
        if !namespace.is_whole() {
            namespace.add_to_range(&mut self.key, &mut self.range_end);
        }
        self
    }

    fn leave(mut response: Self::Response, namespace: &Namespace) -> Self::Response {
        namespace.strip_all(&mut response.kvs);
        response
    }
}

impl Namespaced for pb::PutRequest {
    type Response = pb::PutResponse;

    fn enter(mut self, namespace: &Namespace) -> Self {
        if !namespace.is_whole() {
            namespace.add(&mut self.key);
        }
        self
    }

    fn leave(mut response: Self::Response, namespace: &Namespace) -> Self::Response {
        namespace.strip_all(&mut response.prev_kv);
        response
    }
}

impl Namespaced for pb::DeleteRangeRequest {
    type Response = pb::DeleteRangeResponse;

    fn enter(mut self, namespace: &Namespace) -> Self {
        if !namespace.is_whole() {
            namespace.add_to_range(&mut self.key, &mut self.range_end);
        }
        self
    }

    fn leave(mut response: Self::Response, namespace: &Namespace) -> Self::Response {
        namespace.strip_all(&mut response.prev_kvs);
        response
    }
}

impl Namespaced for pb::TxnRequest {
    type Response = pb::TxnResponse;

    fn enter(mut self, namespace: &Namespace) -> Self {
        if namespace.is_whole() {
            return self;
        }
        for compare in &mut self.compare {
            namespace.add_to_range(&mut compare.key, &mut compare.range_end);
        }
        for op in self.success.iter_mut().chain(&mut self.failure) {
            op.request = op.request.take().map(|request| match request {
                Op::RequestRange(range) => Op::RequestRange(range.enter(namespace)),
                Op::RequestPut(put) => Op::RequestPut(put.enter(namespace)),
                Op::RequestDeleteRange(delete) => Op::RequestDeleteRange(delete.enter(namespace)),
                Op::RequestTxn(txn) => Op::RequestTxn(txn.enter(namespace)),
            });
        }
        self
    }

    fn leave(mut response: Self::Response, namespace: &Namespace) -> Self::Response {
        if namespace.is_whole() {
            return response;
        }
        for op in &mut response.responses {
            op.response = op.response.take().map(|response| match response {
                Done::ResponseRange(range) => Done::ResponseRange(pb::RangeRequest::leave(range, namespace)),
                Done::ResponsePut(put) => Done::ResponsePut(pb::PutRequest::leave(put, namespace)),
                Done::ResponseDeleteRange(delete) => {
                    Done::ResponseDeleteRange(pb::DeleteRangeRequest::leave(delete, namespace))
                }
                Done::ResponseTxn(txn) => Done::ResponseTxn(Self::leave(txn, namespace)),
            });
        }
        response
    }
}

impl Namespaced for pb::LeaseTimeToLiveRequest {
    type Response = pb::LeaseTimeToLiveResponse;

    fn enter(self, _: &Namespace) -> Self {
        self
    }

    /// A lease may hold keys of others, too: they are left out.
    fn leave(mut response: Self::Response, namespace: &Namespace) -> Self::Response {
        response.keys.retain(|key| key.starts_with(&namespace.0));
        response.keys.iter_mut().for_each(|key| namespace.strip(key));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Compare, Delete, Get, Put, Txn};

    fn namespace(prefix: &str) -> Namespace {
        Namespace::default().nested(prefix.as_bytes()).unwrap()
    }

    fn range(get: Get) -> (Bytes, Bytes) {
        let request = get.into_request("Range").unwrap().enter(&namespace("n/"));
        (request.key, request.range_end)
    }

    #[test]
    fn ranges_stay_within_the_namespace() {
        let expected = |key: &'static str, end: &'static str| (key.into(), end.into());
        assert_eq!(range(Get::key("a")), expected("n/a", ""));
        assert_eq!(range(Get::prefix("a")), expected("n/a", "n/b"));
        assert_eq!(range(Get::new(KeyRange::range("a", "c").unwrap())), expected("n/a", "n/c"));
        assert_eq!(range(Get::new(KeyRange::from_key("a"))), expected("n/a", "n0"));
        assert_eq!(range(Get::new(KeyRange::all())), expected("n/\0", "n0"));
    }

    #[test]
    fn namespaces_nest_and_are_not_empty() {
        let nested = namespace("a/").nested(b"b/").unwrap();
        assert_eq!(nested.prefix(), "a/b/");
        assert_eq!(Namespace::default().nested(b""), Err(EmptyNamespace));
    }

    #[test]
    fn every_key_of_a_transaction_is_moved_there_and_back() {
        let nested = Txn::new().and_then(Delete::prefix("d"));
        let txn = Txn::new()
            .when(Compare::version("c").equals(0))
            .and_then(Put::new("p", "v"))
            .or_else(Get::key("g"))
            .or_else(nested);
        let request = txn.into_request().unwrap().enter(&namespace("n/"));
        assert_eq!(request.compare[0].key, "n/c");
        let keys = request.success.iter().chain(&request.failure).map(|op| match &op.request {
            Some(Op::RequestPut(put)) => put.key.clone(),
            Some(Op::RequestRange(range)) => range.key.clone(),
            Some(Op::RequestTxn(txn)) => match &txn.success[0].request {
                Some(Op::RequestDeleteRange(delete)) => delete.key.clone(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        });
        assert_eq!(keys.collect::<Vec<_>>(), ["n/p", "n/g", "n/d"]);
    }

    #[test]
    fn keys_of_others_on_a_lease_are_left_out() {
        let keys = vec!["n/a".into(), "m/b".into()];
        let response = pb::LeaseTimeToLiveResponse { keys, ..Default::default() };
        let response = pb::LeaseTimeToLiveRequest::leave(response, &namespace("n/"));
        assert_eq!(response.keys, ["a"]);
    }
}

//! Between etcd's messages, which a history is made of, and what the client's calls take and give.
//!
//! It is written from the client's documentation and not from its code, so that an option that the client forgets on
//! the way is found.

use bytes::Bytes;
use etcd_watch_client::{
    Compare, CompareNumber, Conditional, Delete, DeleteResponse, Get, GetResponse, KeyRange, OwnedKeyValue,
    Put, PutResponse, SortBy, SortOrder, Txn, TxnOp, TxnResponse, TxnResult,
};
use etcd_watch_proto::etcdserverpb::{
    self as pb,
    compare::{CompareResult, CompareTarget, TargetUnion},
    range_request, request_op, response_op,
};
use etcd_watch_proto::mvccpb::KeyValue;

use super::history::at;

pub(super) fn key_range(key: &Bytes, range_end: &Bytes) -> KeyRange {
    match range_end.as_ref() {
        [] => KeyRange::key(key.clone()),
        [0] => KeyRange::from_key(key.clone()),
        _ => KeyRange::range(key.clone(), range_end.clone()).expect("the keys are in order"),
    }
}

/// A read of these keys, with every option at its default, as it is on the wire.
#[must_use]
pub fn range_request(range: &KeyRange) -> pb::RangeRequest {
    let (key, range_end) = (range.start().clone(), range.end().clone());
    pb::RangeRequest { key, range_end, ..pb::RangeRequest::default() }
}

pub(super) fn get(range: &pb::RangeRequest) -> Get {
    let get = Get::new(key_range(&range.key, &range.range_end))
        .limit(range.limit)
        .revision(range.revision)
        .serializable(range.serializable)
        .keys_only(range.keys_only)
        .count_only(range.count_only)
        .min_mod_revision(range.min_mod_revision)
        .max_mod_revision(range.max_mod_revision)
        .min_create_revision(range.min_create_revision)
        .max_create_revision(range.max_create_revision);
    let by = match range.sort_target() {
        range_request::SortTarget::Key => SortBy::Key,
        range_request::SortTarget::Version => SortBy::Version,
        range_request::SortTarget::Create => SortBy::CreateRevision,
        range_request::SortTarget::Mod => SortBy::ModRevision,
        range_request::SortTarget::Value => SortBy::Value,
    };
    match range.sort_order() {
        range_request::SortOrder::None => get,
        range_request::SortOrder::Ascend => get.sort(by, SortOrder::Ascending),
        range_request::SortOrder::Descend => get.sort(by, SortOrder::Descending),
    }
}

pub(super) fn put(put: &pb::PutRequest) -> Put {
    Put::new(put.key.clone(), put.value.clone())
        .lease(put.lease)
        .prev_kv(put.prev_kv)
        .ignore_value(put.ignore_value)
        .ignore_lease(put.ignore_lease)
}

pub(super) fn delete(delete: &pb::DeleteRangeRequest) -> Delete {
    Delete::new(key_range(&delete.key, &delete.range_end)).prev_kv(delete.prev_kv)
}

pub(super) fn txn(txn: &pb::TxnRequest) -> Txn {
    let made = txn.compare.iter().fold(Txn::new(), |made, condition| made.when(compare(condition)));
    let made = txn.success.iter().filter_map(op).fold(made, Txn::and_then);
    txn.failure.iter().filter_map(op).fold(made, Txn::or_else)
}

fn op(op: &pb::RequestOp) -> Option<TxnOp> {
    Some(match op.request.as_ref()? {
        request_op::Request::RequestRange(range) => get(range).into(),
        request_op::Request::RequestPut(request) => put(request).into(),
        request_op::Request::RequestDeleteRange(request) => delete(request).into(),
        request_op::Request::RequestTxn(request) => txn(request).into(),
    })
}

fn compare(compare: &pb::Compare) -> Compare {
    let range = key_range(&compare.key, &compare.range_end);
    let result = compare.result();
    let number = |of: CompareNumber, number: i64| match result {
        CompareResult::Equal => of.equals(number),
        CompareResult::NotEqual => of.not_equals(number),
        CompareResult::Greater => of.greater_than(number),
        CompareResult::Less => of.less_than(number),
    };
    match (compare.target(), &compare.target_union) {
        (CompareTarget::Version, Some(TargetUnion::Version(with))) => number(Compare::version(range), *with),
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(with))) => {
            number(Compare::create_revision(range), *with)
        }
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(with))) => {
            number(Compare::mod_revision(range), *with)
        }
        (CompareTarget::Lease, Some(TargetUnion::Lease(with))) => number(Compare::lease(range), *with),
        (CompareTarget::Value, Some(TargetUnion::Value(with))) => {
            let (of, with) = (Compare::value(range), with.clone());
            match result {
                CompareResult::Equal => of.equals(with),
                CompareResult::NotEqual => of.not_equals(with),
                CompareResult::Greater => of.greater_than(with),
                CompareResult::Less => of.less_than(with),
            }
        }
        (target, with) => panic!("{target:?} is compared with {with:?}"),
    }
}

pub(super) fn pair(kv: &OwnedKeyValue) -> KeyValue {
    KeyValue {
        key: kv.key.clone(),
        value: kv.value.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// What a read found, as etcd's protocol has it.
#[must_use]
pub fn range_response(get: &GetResponse) -> pb::RangeResponse {
    pb::RangeResponse {
        header: at(get.revision()),
        kvs: get.kvs().iter().map(pair).collect(),
        more: get.has_more(),
        count: get.count(),
    }
}

pub(super) fn put_response(put: &PutResponse) -> pb::PutResponse {
    pb::PutResponse { header: at(put.revision()), prev_kv: put.prev().map(pair) }
}

pub(super) fn delete_response(delete: &DeleteResponse) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: at(delete.revision()),
        deleted: delete.deleted(),
        prev_kvs: delete.prevs().iter().map(pair).collect(),
    }
}

pub(super) fn txn_response(txn: &TxnResponse) -> pb::TxnResponse {
    let op = |result: &TxnResult| match result {
        TxnResult::Get(get) => response_op::Response::ResponseRange(range_response(get)),
        TxnResult::Put(put) => response_op::Response::ResponsePut(put_response(put)),
        TxnResult::Delete(delete) => response_op::Response::ResponseDeleteRange(delete_response(delete)),
        TxnResult::Txn(txn) => response_op::Response::ResponseTxn(txn_response(txn)),
        other => panic!("{other:?} is no result that there is a message for"),
    };
    let responses =
        txn.results().iter().map(|result| pb::ResponseOp { response: Some(op(result)) }).collect();
    pb::TxnResponse { header: at(txn.revision()), succeeded: txn.succeeded(), responses }
}

/// The answer to the transaction that a write under a condition stands for.
pub(super) fn conditional<T>(
    answer: &Conditional<T>,
    done: impl FnOnce(&T) -> (i64, response_op::Response),
) -> pb::TxnResponse {
    let (revision, response) = match answer {
        Conditional::Done(answer) => done(answer),
        Conditional::Conflict(conflict) => {
            let kvs: Vec<_> = conflict.found().into_iter().map(pair).collect();
            let count = i64::from(!kvs.is_empty());
            let found = pb::RangeResponse { kvs, count, ..pb::RangeResponse::default() };
            (conflict.revision(), response_op::Response::ResponseRange(found))
        }
    };
    let responses = vec![pb::ResponseOp { response: Some(response) }];
    pb::TxnResponse { header: at(revision), succeeded: matches!(answer, Conditional::Done(_)), responses }
}

/// The transaction that a write under a condition stands for: it, if the key was last changed at this revision, or else
/// a read of the key.
pub(super) fn if_unchanged(key: &Bytes, mod_revision: i64, write: request_op::Request) -> pb::TxnRequest {
    let condition = pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(mod_revision)),
        ..pb::Compare::default()
    };
    let read = pb::RangeRequest { key: key.clone(), ..pb::RangeRequest::default() };
    let op = |request| vec![pb::RequestOp { request: Some(request) }];
    pb::TxnRequest {
        compare: vec![condition],
        success: op(write),
        failure: op(request_op::Request::RequestRange(read)),
    }
}

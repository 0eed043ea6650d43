//! Writes: puts, deletes and transactions, checked as a whole before anything is done.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bytes::Bytes;
use etcd_watch_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcd_watch_proto::etcdserverpb::request_op::Request;
use etcd_watch_proto::etcdserverpb::response_op::Response;
use etcd_watch_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RequestOp, ResponseHeader,
    ResponseOp, TxnRequest, TxnResponse,
};
use etcd_watch_proto::mvccpb::KeyValue;

use super::config::TxnChecks;
use super::error::ModelError;
use super::key_range::KeyRange;
use super::lease::Lessor;
use super::range;
use super::store::{Store, WriteTxn};

/// Refuses what can be told from a put alone.
pub(super) fn check_put(request: &PutRequest) -> Result<(), ModelError> {
    if request.key.is_empty() {
        Err(ModelError::EmptyKey)
    } else if request.ignore_value && !request.value.is_empty() {
        Err(ModelError::ValueProvided)
    } else if request.ignore_lease && request.lease != 0 {
        Err(ModelError::LeaseProvided)
    } else {
        Ok(())
    }
}

/// Refuses what can be told from a delete alone.
pub(super) fn check_delete(request: &DeleteRangeRequest) -> Result<(), ModelError> {
    if request.key.is_empty() { Err(ModelError::EmptyKey) } else { Ok(()) }
}

/// Refuses what can be told from a transaction alone.
pub(super) fn check_txn(request: &TxnRequest, max_ops: usize) -> Result<(), ModelError> {
    check_operations(request, max_ops)?;
    check_duplicates(&request.success)?;
    check_duplicates(&request.failure)?;
    Ok(())
}

fn check_operations(request: &TxnRequest, max_ops: usize) -> Result<(), ModelError> {
    let most = request.compare.len().max(request.success.len()).max(request.failure.len());
    if most > max_ops {
        return Err(ModelError::TooManyOps);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(ModelError::EmptyKey);
    }
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.request {
            Some(Request::RequestRange(request)) => range::check(request)?,
            Some(Request::RequestPut(request)) => check_put(request)?,
            Some(Request::RequestDeleteRange(request)) => check_delete(request)?,
            // Every level may do no more than what the level above leaves of the limit.
            Some(Request::RequestTxn(request)) => check_operations(request, max_ops - most)?,
            None => return Err(ModelError::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations, with all the transactions inside it, may write.
#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletes: Vec<KeyRange>,
}

impl Writes {
    /// Whether etcd takes a put of the key for a conflict with one of the deletes. Here it doesn't know that
    /// a range end of a zero byte means "from key on", and takes that for an inverted range, which has no
    /// keys. So a transaction may put a key and delete from there on, and then one revision changes the key
    /// twice (seen on 3.4.23 and 3.5.30).
    fn deletes_conflict(&self, key: &[u8]) -> bool {
        self.deletes.iter().any(|range| !matches!(range, KeyRange::From(_)) && range.contains(key))
    }
}

/// One revision can't put a key twice, nor put it and delete it. The branches of an inner transaction
/// exclude each other, so they may put the same keys.
fn check_duplicates(operations: &[RequestOp]) -> Result<Writes, ModelError> {
    let mut writes = Writes::default();
    for operation in operations {
        if let Some(Request::RequestDeleteRange(delete)) = &operation.request {
            writes.deletes.push(KeyRange::new(&delete.key, &delete.range_end));
        }
    }
    for operation in operations {
        if let Some(Request::RequestTxn(inner)) = &operation.request {
            let success = check_duplicates(&inner.success)?;
            let failure = check_duplicates(&inner.failure)?;
            let inner_puts: BTreeSet<Bytes> = success.puts.union(&failure.puts).cloned().collect();
            for key in inner_puts {
                if writes.deletes_conflict(&key) || !writes.puts.insert(key) {
                    return Err(ModelError::DuplicateKey);
                }
            }
            writes.deletes.extend(success.deletes);
            writes.deletes.extend(failure.deletes);
        }
    }
    for operation in operations {
        if let Some(Request::RequestPut(put)) = &operation.request
            && (writes.deletes_conflict(&put.key) || !writes.puts.insert(put.key.clone()))
        {
            return Err(ModelError::DuplicateKey);
        }
    }
    Ok(writes)
}

/// A transaction whose conditions, and those of the transactions inside it, have been decided.
pub(super) struct Path<'a> {
    succeeded: bool,
    operations: Vec<Operation<'a>>,
}

enum Operation<'a> {
    Plain(&'a Request),
    Inner(Path<'a>),
}

/// Decides all conditions, inner ones too, on the state before the first write, and refuses what the chosen
/// operations can't do there.
pub(super) fn decide<'a>(
    store: &Store,
    lessor: &Lessor,
    checks: TxnChecks,
    request: &'a TxnRequest,
) -> Result<Path<'a>, ModelError> {
    let path = choose(store, request);
    let check_put = |put: &PutRequest| match checks {
        TxnChecks::LeaseFirst => check_put_applies(store, lessor, put),
        TxnChecks::PutsFirst | TxnChecks::InOrder => {
            check_kept_exists(store, put)?;
            check_lease(lessor, put)
        }
    };
    if checks == TxnChecks::PutsFirst {
        path.check_each(&|request| match request {
            Request::RequestPut(put) => check_put(put),
            _ => Ok(()),
        })?;
    }
    // Puts that were checked before pass again.
    path.check_each(&|request| match request {
        Request::RequestPut(put) => check_put(put),
        Request::RequestRange(read) => store.check_revision(read.revision, store.revision()),
        _ => Ok(()),
    })?;
    Ok(path)
}

fn choose<'a>(store: &Store, request: &'a TxnRequest) -> Path<'a> {
    let succeeded = request.compare.iter().all(|compare| holds(store, compare));
    let chosen = if succeeded { &request.success } else { &request.failure };
    let operations = chosen
        .iter()
        .filter_map(|operation| operation.request.as_ref())
        .map(|request| match request {
            Request::RequestTxn(inner) => Operation::Inner(choose(store, inner)),
            request => Operation::Plain(request),
        })
        .collect();
    Path { succeeded, operations }
}

impl Path<'_> {
    fn check_each(&self, check: &dyn Fn(&Request) -> Result<(), ModelError>) -> Result<(), ModelError> {
        self.operations.iter().try_for_each(|operation| match operation {
            Operation::Plain(request) => check(request),
            Operation::Inner(inner) => inner.check_each(check),
        })
    }
}

/// Refuses a put by itself that the present state doesn't allow.
pub(super) fn check_put_applies(
    store: &Store,
    lessor: &Lessor,
    request: &PutRequest,
) -> Result<(), ModelError> {
    // The other way round than in a transaction, as in etcd before 3.7.
    check_lease(lessor, request)?;
    check_kept_exists(store, request)
}

fn check_lease(lessor: &Lessor, request: &PutRequest) -> Result<(), ModelError> {
    if request.lease == 0 || lessor.contains(request.lease) { Ok(()) } else { Err(ModelError::LeaseNotFound) }
}

fn check_kept_exists(store: &Store, request: &PutRequest) -> Result<(), ModelError> {
    let keeps = request.ignore_value || request.ignore_lease;
    if keeps && store.get(&request.key, store.revision()).is_none() {
        return Err(ModelError::KeyNotFound);
    }
    Ok(())
}

/// Does what was decided.
pub(super) fn apply(
    txn: &mut WriteTxn<'_>,
    bare_keys: bool,
    path: &Path<'_>,
) -> Result<TxnResponse, ModelError> {
    let mut responses = Vec::with_capacity(path.operations.len());
    for operation in &path.operations {
        let response = match operation {
            Operation::Inner(inner) => {
                let mut response = apply(txn, bare_keys, inner)?;
                // Of an inner transaction etcd tells no revision.
                response.header = Some(ResponseHeader::default());
                Response::ResponseTxn(response)
            }
            Operation::Plain(Request::RequestRange(request)) => {
                let newest = txn.revision();
                let mut response = range::read(txn.store(), newest, bare_keys, request)?;
                response.header = revision_only(newest);
                Response::ResponseRange(response)
            }
            Operation::Plain(Request::RequestPut(request)) => Response::ResponsePut(apply_put(txn, request)),
            Operation::Plain(Request::RequestDeleteRange(request)) => {
                Response::ResponseDeleteRange(apply_delete(txn, request))
            }
            Operation::Plain(Request::RequestTxn(_)) => continue,
        };
        responses.push(ResponseOp { response: Some(response) });
    }
    Ok(TxnResponse { header: revision_only(txn.revision()), succeeded: path.succeeded, responses })
}

/// Puts a key, after [`check_put`] and [`check_put_applies`].
pub(super) fn apply_put(txn: &mut WriteTxn<'_>, request: &PutRequest) -> PutResponse {
    let old = txn.store().get(&request.key, txn.revision()).cloned();
    let value = match &old {
        Some(old) if request.ignore_value => old.value.clone(),
        _ => request.value.clone(),
    };
    let lease = match &old {
        Some(old) if request.ignore_lease => old.lease,
        _ => request.lease,
    };
    let prev = txn.put(&request.key, value, lease);
    PutResponse { header: revision_only(txn.revision()), prev_kv: prev.filter(|_| request.prev_kv) }
}

/// Deletes keys, after [`check_delete`].
pub(super) fn apply_delete(txn: &mut WriteTxn<'_>, request: &DeleteRangeRequest) -> DeleteRangeResponse {
    let deleted = txn.delete(&KeyRange::new(&request.key, &request.range_end));
    DeleteRangeResponse {
        header: revision_only(txn.revision()),
        deleted: i64::try_from(deleted.len()).unwrap_or(i64::MAX),
        prev_kvs: if request.prev_kv { deleted } else { Vec::new() },
    }
}

/// Responses inside a transaction carry a revision and no identity.
fn revision_only(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

/// Whether a condition holds: for all keys of its range, or, if there are none, for a key that doesn't
/// exist, whose numbers are all 0 and of whose value nothing can be said.
fn holds(store: &Store, compare: &Compare) -> bool {
    let range = KeyRange::new(&compare.key, &compare.range_end);
    let mut keys = store.live(&range, store.revision()).peekable();
    if keys.peek().is_none() {
        return compare.target() != CompareTarget::Value && holds_for(compare, &KeyValue::default());
    }
    keys.all(|change| holds_for(compare, &change.key_value()))
}

fn holds_for(compare: &Compare, kv: &KeyValue) -> bool {
    // A missing operand, or one of another kind than the target, counts as zero or empty.
    let operand = compare.target_union.as_ref();
    let number = |of: fn(&TargetUnion) -> Option<i64>| operand.and_then(of).unwrap_or(0);
    let ordering = match compare.target() {
        CompareTarget::Version => kv.version.cmp(&number(|operand| match operand {
            TargetUnion::Version(version) => Some(*version),
            _ => None,
        })),
        CompareTarget::Create => kv.create_revision.cmp(&number(|operand| match operand {
            TargetUnion::CreateRevision(revision) => Some(*revision),
            _ => None,
        })),
        CompareTarget::Mod => kv.mod_revision.cmp(&number(|operand| match operand {
            TargetUnion::ModRevision(revision) => Some(*revision),
            _ => None,
        })),
        CompareTarget::Lease => kv.lease.cmp(&number(|operand| match operand {
            TargetUnion::Lease(lease) => Some(*lease),
            _ => None,
        })),
        CompareTarget::Value => match operand {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value.as_ref().cmp(&[]),
        },
    };
    match compare.result() {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::NotEqual => ordering != Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
    }
}

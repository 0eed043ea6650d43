use etcd_watch_proto::etcdserverpb::Compare;
use etcd_watch_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcd_watch_proto::etcdserverpb::response_op::Response;

use super::*;
use crate::model::{ModelError, TxnChecks};

fn compare(key: &str, target: CompareTarget, result: CompareResult, operand: TargetUnion) -> Compare {
    Compare {
        key: key.to_owned().into(),
        target: target.into(),
        result: result.into(),
        target_union: Some(operand),
        ..Compare::default()
    }
}

fn holds(etcd: &mut ModelEtcd, compare: Compare) -> bool {
    let request = TxnRequest { compare: vec![compare], ..TxnRequest::default() };
    etcd.txn(&request).expect("txn").succeeded
}

fn delete_operation(key: &str, range_end: &str) -> RequestOp {
    operation(Request::RequestDeleteRange(delete_request(key, range_end)))
}

fn inner(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    operation(Request::RequestTxn(TxnRequest { success, failure, ..TxnRequest::default() }))
}

fn success(operations: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success: operations, ..TxnRequest::default() }
}

#[test]
fn every_field_of_a_key_can_be_compared() {
    let mut etcd = etcd();
    put(&mut etcd, "a", "1"); // 2
    put(&mut etcd, "a", "2"); // 3
    use CompareResult::{Equal, Greater, Less, NotEqual};
    for (target, operand, result, expected) in [
        (CompareTarget::Version, TargetUnion::Version(2), Equal, true),
        (CompareTarget::Version, TargetUnion::Version(2), NotEqual, false),
        (CompareTarget::Create, TargetUnion::CreateRevision(1), Greater, true),
        (CompareTarget::Mod, TargetUnion::ModRevision(3), Less, false),
        (CompareTarget::Mod, TargetUnion::ModRevision(4), Less, true),
        (CompareTarget::Value, TargetUnion::Value("2".into()), Equal, true),
        (CompareTarget::Value, TargetUnion::Value("1".into()), Greater, true),
        (CompareTarget::Lease, TargetUnion::Lease(0), Equal, true),
    ] {
        assert_eq!(
            holds(&mut etcd, compare("a", target, result, operand)),
            expected,
            "{target:?} {result:?}"
        );
    }
}

#[test]
fn a_missing_key_has_zeros_and_no_value_at_all() {
    let mut etcd = etcd();
    let number = compare("x", CompareTarget::Create, CompareResult::Equal, TargetUnion::CreateRevision(0));
    assert!(holds(&mut etcd, number));
    for result in [CompareResult::Equal, CompareResult::NotEqual] {
        let value = compare("x", CompareTarget::Value, result, TargetUnion::Value("".into()));
        assert!(!holds(&mut etcd, value));
    }
}

#[test]
fn a_condition_on_a_range_must_hold_for_all_its_keys() {
    let mut etcd = etcd();
    put(&mut etcd, "a", "1");
    put(&mut etcd, "b", "1");
    put(&mut etcd, "b", "1");
    let version = |result, version| Compare {
        range_end: "c".into(),
        ..compare("a", CompareTarget::Version, result, TargetUnion::Version(version))
    };
    assert!(holds(&mut etcd, version(CompareResult::Greater, 0)));
    assert!(!holds(&mut etcd, version(CompareResult::Equal, 1)));
}

#[test]
fn either_branch_is_done_as_the_conditions_say() {
    let mut etcd = etcd();
    let absent = compare("a", CompareTarget::Version, CompareResult::Equal, TargetUnion::Version(0));
    let request = TxnRequest {
        compare: vec![absent],
        success: vec![put_operation("a", "first")],
        failure: vec![operation(Request::RequestRange(read("a", "")))],
    };
    assert!(etcd.txn(&request).expect("txn").succeeded);
    let second = etcd.txn(&request).expect("txn");
    assert!(!second.succeeded);
    let Some(Response::ResponseRange(found)) = &second.responses[0].response else { panic!("no range") };
    assert_eq!(found.kvs[0].value.as_ref(), b"first");
}

#[test]
fn all_writes_of_a_transaction_share_one_revision() {
    let mut etcd = etcd();
    assert_eq!(put_all(&mut etcd, &["a", "b", "c"]), 2);
    assert!(etcd.history().iter().all(|event| event.revision == 2));
    assert_eq!(etcd.history()[2].sub_revision, 2);
}

#[test]
fn a_transaction_that_only_reads_uses_no_revision() {
    let mut etcd = etcd();
    let response = etcd.txn(&success(vec![operation(Request::RequestRange(read("a", "")))])).expect("txn");
    assert_eq!(response.header.expect("header").revision, 1);
    assert_eq!(etcd.revision(), 1);
}

#[test]
fn a_read_sees_the_writes_before_it() {
    let mut etcd = etcd();
    let request = success(vec![put_operation("a", "new"), operation(Request::RequestRange(read("a", "")))]);
    let response = etcd.txn(&request).expect("txn");
    let Some(Response::ResponseRange(found)) = &response.responses[1].response else { panic!("no range") };
    assert_eq!(found.kvs[0].value.as_ref(), b"new");
    assert_eq!(found.header.as_ref().expect("header").revision, 2);
}

#[test]
fn inner_conditions_are_decided_before_the_first_write() {
    let mut etcd = etcd();
    let absent = compare("a", CompareTarget::Version, CompareResult::Equal, TargetUnion::Version(0));
    let request = success(vec![
        put_operation("a", "1"),
        operation(Request::RequestTxn(TxnRequest {
            compare: vec![absent],
            success: vec![put_operation("b", "1")],
            failure: vec![],
        })),
    ]);
    let response = etcd.txn(&request).expect("txn");
    let Some(Response::ResponseTxn(inner)) = &response.responses[1].response else { panic!("no txn") };
    assert!(inner.succeeded);
    assert_eq!(etcd.history().len(), 2);
}

#[test]
fn putting_a_key_twice_or_putting_and_deleting_it_is_refused() {
    let mut etcd = etcd();
    let refused = [
        vec![put_operation("a", "1"), put_operation("a", "2")],
        vec![put_operation("a", "1"), delete_operation("a", "")],
        vec![delete_operation("a", "c"), put_operation("b", "1")],
        vec![put_operation("a", "1"), inner(vec![put_operation("a", "2")], vec![])],
        vec![inner(vec![put_operation("a", "1")], vec![]), inner(vec![], vec![put_operation("a", "1")])],
        vec![delete_operation("a", ""), inner(vec![put_operation("a", "1")], vec![])],
        vec![inner(vec![delete_operation("a", "")], vec![]), put_operation("a", "1")],
    ];
    for operations in refused {
        assert_eq!(etcd.txn(&success(operations)), Err(ModelError::DuplicateKey));
    }
    assert_eq!(etcd.revision(), 1);
}

#[test]
fn deleting_twice_and_putting_in_both_inner_branches_is_allowed() {
    let mut etcd = etcd();
    let allowed = [
        vec![delete_operation("a", "c"), delete_operation("b", "")],
        vec![inner(vec![put_operation("a", "1")], vec![put_operation("a", "2")])],
    ];
    for operations in allowed {
        assert!(etcd.txn(&success(operations)).is_ok());
    }
    let outer_branches = TxnRequest {
        compare: vec![],
        success: vec![put_operation("a", "1")],
        failure: vec![put_operation("a", "2")],
    };
    assert!(etcd.txn(&outer_branches).is_ok());
}

#[test]
fn too_many_operations_are_refused() {
    let mut etcd = etcd();
    let operations = |count: usize| (0..count).map(|n| put_operation(&format!("k{n}"), "")).collect();
    assert_eq!(etcd.txn(&success(operations(129))), Err(ModelError::TooManyOps));
    assert!(etcd.txn(&success(operations(128))).is_ok());
}

#[test]
fn a_transaction_that_cannot_be_done_wholly_is_not_done_at_all() {
    let mut etcd = etcd();
    let unknown_lease = PutRequest { key: "b".into(), lease: 7, ..PutRequest::default() };
    let request = success(vec![put_operation("a", "1"), operation(Request::RequestPut(unknown_lease))]);
    assert_eq!(etcd.txn(&request), Err(ModelError::LeaseNotFound));
    let future = RangeRequest { revision: 9, ..read("a", "") };
    let request = success(vec![put_operation("a", "1"), operation(Request::RequestRange(future))]);
    assert_eq!(etcd.txn(&request), Err(ModelError::FutureRevision));
    assert_eq!((etcd.revision(), etcd.history().len()), (1, 0));
}

#[test]
fn of_several_reasons_to_refuse_a_transaction_the_version_decides() {
    let future = || operation(Request::RequestRange(RangeRequest { revision: 9, ..read("a", "") }));
    let keeps = PutRequest { key: "b".into(), ignore_value: true, lease: 7, ..PutRequest::default() };
    let put = || operation(Request::RequestPut(keeps.clone()));
    for (txn_checks, read_first, put_alone) in [
        (TxnChecks::PutsFirst, ModelError::KeyNotFound, ModelError::KeyNotFound),
        (TxnChecks::InOrder, ModelError::FutureRevision, ModelError::KeyNotFound),
        (TxnChecks::LeaseFirst, ModelError::FutureRevision, ModelError::LeaseNotFound),
    ] {
        let mut etcd = ModelEtcd::new(ModelConfig { txn_checks, ..ModelConfig::default() });
        let inner_read = inner(vec![future()], Vec::new());
        assert_eq!(etcd.txn(&success(vec![inner_read, put()])), Err(read_first), "{txn_checks:?}");
        assert_eq!(etcd.txn(&success(vec![put(), future()])), Err(put_alone), "{txn_checks:?}");
    }
}

#[test]
fn an_operation_that_is_none_is_refused() {
    assert_eq!(etcd().txn(&success(vec![RequestOp::default()])), Err(ModelError::KeyNotFound));
}

#[test]
fn deleting_from_a_key_on_is_not_taken_for_a_conflict_so_one_revision_changes_the_key_twice() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, watch("a", ""));
    etcd.txn(&success(vec![put_operation("a", "1"), delete_operation("a", "\0")])).expect("txn");
    let responses = drain(&mut etcd, stream);
    assert_eq!(events(&responses), owned(&[(2, "a"), (2, "a")]));
    assert_eq!(responses.len(), 1);
}

//! A store, and clients who ask it one after the other.

use std::time::Duration;

use etcd_watch_core::KeyRange;
use etcd_watch_proto::{
    etcdserverpb::{
        DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp,
        TxnRequest, request_op,
    },
    mvccpb::Event,
};

use super::super::{
    Answer, Checked, Demand, Operation, Outcome, Request, Rule, Truth, Violation, check, range_request,
};
use crate::model::{ModelConfig, ModelEtcd};

/// How long each operation takes, and how long nobody asks anything after it.
const TICK: Duration = Duration::from_millis(1);

/// A store, and clients who ask it one after the other: nothing of it is unlawful before a test changes it.
pub(super) struct Story {
    pub(super) store: ModelEtcd,
    pub(super) history: Vec<Operation>,
    pub(super) now: Duration,
}

impl Story {
    pub(super) fn new() -> Self {
        let store = ModelEtcd::new(ModelConfig::default());
        Self { store, history: Vec::new(), now: TICK }
    }

    /// Asks, and is answered; the operation's place.
    pub(super) fn ask(&mut self, request: Request) -> usize {
        let answer = answer(&mut self.store, &request);
        let returned = Some(self.now + TICK);
        let outcome = Outcome::Answered(answer);
        self.history.push(Operation { client: 0, invoked: self.now, returned, request, outcome });
        self.now += 2 * TICK;
        self.history.len() - 1
    }

    /// Asks, and never hears of it; it is executed, or not.
    pub(super) fn ask_in_vain(&mut self, request: Request, executed: bool) -> usize {
        if executed {
            answer(&mut self.store, &request);
        }
        let outcome = Outcome::Unknown;
        self.history.push(Operation { client: 0, invoked: self.now, returned: None, request, outcome });
        self.now += 2 * TICK;
        self.history.len() - 1
    }

    /// Asks, and is told that it was not executed; it is, or not.
    pub(super) fn is_refused(&mut self, request: Request, executed: bool) -> usize {
        let number = self.ask_in_vain(request, executed);
        let operation = &mut self.history[number];
        operation.outcome = Outcome::NotExecuted(None);
        operation.returned = Some(operation.invoked + TICK);
        number
    }

    pub(super) fn grant(&mut self, id: i64, ttl: i64) -> usize {
        self.ask(Request::Grant(LeaseGrantRequest { id, ttl }))
    }

    pub(super) fn revoke(&mut self, id: i64) -> usize {
        self.ask(Request::Revoke(LeaseRevokeRequest { id }))
    }

    /// A read of a cache that is at the store's revision now.
    pub(super) fn cached(&mut self, demand: Demand) -> usize {
        let Request::Range(range) = get("") else { unreachable!() };
        self.ask(Request::Cached(range, demand))
    }

    /// Somebody else does something.
    pub(super) fn others(&mut self, request: &Request) {
        answer(&mut self.store, request);
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.store.history().iter().map(|change| change.to_event()).collect()
    }

    pub(super) fn truth(&self) -> Truth {
        let mut truth = Truth::of_all();
        truth.extend(&self.events());
        truth
    }

    /// What is broken: the rule, by whom, and at which revision.
    pub(super) fn broken(&self) -> Vec<(Rule, Option<usize>, i64)> {
        broken(&check(&self.history, &self.truth(), &ModelConfig::default()))
    }

    pub(super) fn checked(&self) -> Checked {
        check(&self.history, &self.truth(), &ModelConfig::default())
            .unwrap_or_else(|violations| panic!("{violations:#?}"))
    }

    pub(super) fn answer(&mut self, operation: usize) -> &mut Answer {
        match &mut self.history[operation].outcome {
            Outcome::Answered(answer) => answer,
            other => panic!("{other:?} is no answer"),
        }
    }

    /// Lets one operation have been asked for and answered right after another one was asked for.
    pub(super) fn move_into(&mut self, operation: usize, of: usize) {
        let invoked = self.history[of].invoked;
        self.history[operation].invoked = invoked;
        self.history[operation].returned = Some(invoked + TICK / 2);
    }

    /// Lets an operation have ended before another one was asked for.
    pub(super) fn move_before(&mut self, operation: usize, other: usize) {
        let invoked = self.history[other].invoked;
        self.history[operation].invoked = invoked - TICK / 2;
        self.history[operation].returned = Some(invoked - TICK / 4);
    }
}

pub(super) fn broken(checked: &Result<Checked, Vec<Violation>>) -> Vec<(Rule, Option<usize>, i64)> {
    let violations = checked.as_ref().err().map_or(&[][..], Vec::as_slice);
    violations.iter().map(|violation| (violation.rule, violation.operation, violation.revision)).collect()
}

/// What a store answers to a request.
pub(super) fn answer(store: &mut ModelEtcd, request: &Request) -> Answer {
    let answer = match request {
        Request::Range(range) | Request::Cached(range, _) => store.range(range).map(Answer::Range),
        Request::Put(put) => store.put(put).map(Answer::Put),
        Request::Delete(delete) => store.delete_range(delete).map(Answer::Delete),
        Request::Txn(txn) => store.txn(txn).map(Answer::Txn),
        Request::Grant(grant) => store.lease_grant(grant, Duration::ZERO).map(Answer::Grant),
        Request::Revoke(revoke) => store
            .lease_revoke(revoke)
            .map(|answer| Answer::Revoke(answer.header.expect("it has one").revision)),
        Request::KeepAlive(keep_alive) => {
            Ok(Answer::KeepAlive(store.lease_keep_alive(keep_alive, Duration::ZERO).ttl))
        }
    };
    answer.expect("the request is lawful").bare()
}

pub(super) fn put(key: &str, value: &str) -> Request {
    Request::Put(put_request(key, value, 0))
}

pub(super) fn put_request(key: &str, value: &str, lease: i64) -> PutRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    PutRequest { key, value, lease, prev_kv: true, ..PutRequest::default() }
}

/// Of one key, or of all if it is empty.
pub(super) fn get(key: &str) -> Request {
    let range = if key.is_empty() { KeyRange::all() } else { KeyRange::key(key.to_owned()) };
    Request::Range(range_request(&range))
}

pub(super) fn serializable(key: &str) -> Request {
    match get(key) {
        Request::Range(range) => Request::Range(RangeRequest { serializable: true, ..range }),
        other => other,
    }
}

pub(super) fn delete(key: &str) -> Request {
    Request::Delete(DeleteRangeRequest { key: key.to_owned().into(), prev_kv: true, ..Default::default() })
}

/// A transaction without conditions.
pub(super) fn txn(steps: impl IntoIterator<Item = Request>) -> Request {
    let op = |request| match request {
        Request::Range(range) => request_op::Request::RequestRange(range),
        Request::Put(put) => request_op::Request::RequestPut(put),
        Request::Delete(delete) => request_op::Request::RequestDeleteRange(delete),
        other => panic!("{other:?} is no step"),
    };
    let success = steps.into_iter().map(|step| RequestOp { request: Some(op(step)) }).collect();
    Request::Txn(TxnRequest { success, ..TxnRequest::default() })
}

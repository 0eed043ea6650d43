//! Whatever a store answers to clients that overlap is accepted, and what is changed in it is found.

use std::time::Duration;

use etcd_watch_core::KeyRange;
use etcd_watch_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, TxnRequest,
    compare::CompareTarget, response_op::Response,
};
use fastrand::Rng;

use super::{
    super::{Answer, Demand, Operation, Outcome, Request, Rule, Truth, Violation, check},
    get, serializable,
    story::answer,
    txn,
};
use crate::model::{ModelConfig, ModelEtcd};

const CLIENTS: usize = 5;
const STEPS: u32 = 300;
const SEEDS: u64 = 60;

/// What an operation has come to on its way.
#[derive(Clone, Copy)]
enum Way {
    /// It will be executed, at some time.
    Sent,
    /// It has been, and is answered at some time, if ever.
    Executed,
}

/// A run of several clients on one store. Each operation is executed at one moment between its ends, or after them.
struct Run {
    random: Rng,
    store: ModelEtcd,
    history: Vec<Operation>,
    /// Operations on their way, and whether their clients still wait.
    under_way: Vec<(usize, Way, bool)>,
    /// A member that lags: it answers serializable reads.
    behind: ModelEtcd,
    leases: Vec<i64>,
    values: u32,
    now: Duration,
}

fn run(seed: u64) -> Run {
    let store = ModelEtcd::new(ModelConfig::default());
    let mut run = Run {
        random: Rng::with_seed(seed),
        behind: store.clone(),
        store,
        history: Vec::new(),
        under_way: Vec::new(),
        leases: Vec::new(),
        values: 0,
        now: Duration::ZERO,
    };
    for _ in 0..STEPS {
        run.step();
    }
    // All who wait are answered.
    while let Some(place) = run.under_way.iter().position(|(_, _, waits)| *waits) {
        run.go_on(place);
    }
    run
}

impl Run {
    fn step(&mut self) {
        self.now += Duration::from_millis(self.random.u64(1..50));
        if self.random.u32(..6) == 0 {
            self.behind = self.store.clone();
        }
        if self.random.u32(..10) == 0 {
            let now = self.now;
            self.store.handle_timeout(now);
        }
        let waiting = self.under_way.iter().filter(|(_, _, waits)| *waits).count();
        if waiting < CLIENTS && self.random.bool() {
            self.ask();
        } else if !self.under_way.is_empty() {
            let place = self.random.usize(..self.under_way.len());
            self.go_on(place);
        }
    }

    fn ask(&mut self) {
        let request = self.request();
        let operation =
            Operation { client: 0, invoked: self.now, returned: None, request, outcome: Outcome::Unknown };
        self.history.push(operation);
        let number = self.history.len() - 1;
        match self.random.u32(..12) {
            // It was not executed, and says so.
            0 => {
                self.history[number].outcome = Outcome::NotExecuted(None);
                self.history[number].returned = Some(self.now);
            }
            // It is given up, and never executed.
            1 => {}
            // It is given up, and executed later, or not by the end.
            2 => self.under_way.push((number, Way::Sent, false)),
            _ => self.under_way.push((number, Way::Sent, true)),
        }
    }

    fn go_on(&mut self, place: usize) {
        let (number, way, waits) = self.under_way[place];
        match way {
            Way::Sent => {
                self.execute(number);
                if waits {
                    self.under_way[place].1 = Way::Executed;
                } else {
                    self.under_way.remove(place);
                    self.history[number].outcome = Outcome::Unknown;
                }
            }
            Way::Executed => {
                self.history[number].returned = Some(self.now);
                self.under_way.remove(place);
            }
        }
    }

    fn execute(&mut self, number: usize) {
        let request = self.history[number].request.clone();
        let now = self.now;
        let outcome = match &request {
            Request::Range(range) if range.serializable => Ok(answer(&mut self.behind, &request)),
            Request::Cached(_, Demand::Any) => Ok(answer(&mut self.behind, &request)),
            Request::Grant(grant) => self.store.lease_grant(grant, now).map(Answer::Grant),
            Request::Put(put) => self.store.put(put).map(Answer::Put),
            Request::Txn(txn) => self.store.txn(txn).map(Answer::Txn),
            Request::Revoke(revoke) => {
                self.store.lease_revoke(revoke).map(|_| Answer::Revoke(self.store.revision()))
            }
            request => Ok(answer(&mut self.store, request)),
        };
        self.history[number].outcome = match outcome {
            Ok(answer) => Outcome::Answered(answer.bare()),
            // Its lease is gone.
            Err(_) => Outcome::NotExecuted(Some(etcd_watch_core::Refusal::LeaseNotFound)),
        };
    }

    fn key(&mut self) -> bytes::Bytes {
        format!("k{}", self.random.u32(..5)).into()
    }

    fn put(&mut self) -> PutRequest {
        self.values += 1;
        let lease = match self.leases.last() {
            Some(lease) if self.random.u32(..3) == 0 => *lease,
            _ => 0,
        };
        PutRequest {
            key: self.key(),
            value: format!("v{}", self.values).into(),
            lease,
            prev_kv: self.random.bool(),
            ..PutRequest::default()
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let range_end = if self.random.u32(..4) == 0 { "k9".into() } else { bytes::Bytes::new() };
        DeleteRangeRequest { key: self.key(), range_end, prev_kv: self.random.bool() }
    }

    fn request(&mut self) -> Request {
        match self.random.u32(..20) {
            0..6 => Request::Put(self.put()),
            6..9 => Request::Delete(self.delete()),
            9..12 => self.txn(),
            12..14 => get(""),
            14 => serializable(""),
            15 => {
                let Request::Range(range) = get("") else { unreachable!() };
                let demand = if self.random.bool() { Demand::Current } else { Demand::Any };
                Request::Cached(range, demand)
            }
            16 => {
                let Request::Range(range) = get("") else { unreachable!() };
                let revision = self.random.i64(1..=self.store.revision());
                Request::Range(RangeRequest { revision, ..range })
            }
            17 => {
                let id = i64::try_from(self.leases.len()).expect("few") + 1;
                self.leases.push(id);
                Request::Grant(LeaseGrantRequest { id, ttl: 2 })
            }
            18 => match self.leases.last() {
                Some(id) => Request::Revoke(LeaseRevokeRequest { id: *id }),
                None => get(""),
            },
            _ => Request::Put(PutRequest { lease: self.leases.last().copied().unwrap_or(0), ..self.put() }),
        }
    }

    fn txn(&mut self) -> Request {
        let write =
            if self.random.bool() { Request::Put(self.put()) } else { Request::Delete(self.delete()) };
        let Request::Txn(made) = txn([get(""), write, get("")]) else { unreachable!() };
        let Request::Txn(not_made) = txn([get("")]) else { unreachable!() };
        let compare =
            Compare { key: self.key(), target: CompareTarget::Version.into(), ..Compare::default() };
        Request::Txn(TxnRequest { compare: vec![compare], success: made.success, failure: not_made.success })
    }

    fn truth(&self) -> Truth {
        let events: Vec<_> = self.store.history().iter().map(|change| change.to_event()).collect();
        let mut truth = Truth::starting_at(1, Vec::new(), KeyRange::all());
        truth.extend(&events);
        truth
    }

    fn check(&self) -> Result<super::super::Checked, Vec<Violation>> {
        check(&self.history, &self.truth(), &ModelConfig::default())
    }
}

#[test]
fn what_a_store_answers_to_clients_that_overlap_is_accepted() {
    let mut all = super::super::Checked::default();
    for seed in 0..SEEDS {
        let checked = run(seed).check().unwrap_or_else(|broken| panic!("seed {seed}: {broken:#?}"));
        all += checked;
        assert_eq!(checked.unverified, 0, "seed {seed}");
    }
    // There was enough of everything.
    assert!(all.writes > 1_000 && all.reads > 1_000 && all.executed > 50 && all.expired > 10, "{all:?}");
}

/// A change to an operation that can't be lawful; `None` if it doesn't apply to this one.
type Change = fn(&mut Operation, &Run) -> Option<()>;

const CHANGES: [(&str, Change); 9] = [
    ("a value in an answer", |operation, _| {
        pairs(operation)?.value = "another".into();
        Some(())
    }),
    ("a revision of a pair in an answer", |operation, _| {
        pairs(operation)?.mod_revision += 1;
        Some(())
    }),
    ("a pair more", |operation, _| {
        let Outcome::Answered(Answer::Range(range)) = &mut operation.outcome else { return None };
        let last = range.kvs.last()?.clone();
        range.kvs.push(last);
        Some(())
    }),
    ("another branch of a transaction", |operation, _| {
        let Outcome::Answered(Answer::Txn(txn)) = &mut operation.outcome else { return None };
        txn.succeeded = !txn.succeeded;
        Some(())
    }),
    ("a key more that was deleted", |operation, _| {
        let Outcome::Answered(Answer::Delete(delete)) = &mut operation.outcome else { return None };
        delete.deleted += 1;
        Some(())
    }),
    ("another pair before a change", |operation, _| {
        let Outcome::Answered(Answer::Put(put)) = &mut operation.outcome else { return None };
        put.prev_kv.as_mut()?.version += 1;
        Some(())
    }),
    ("a write that was executed, and says that it was not", |operation, _| {
        let writes = operation.has_written() && !operation.values().is_empty();
        operation.outcome = writes.then_some(Outcome::NotExecuted(None))?;
        Some(())
    }),
    ("a write that says another revision", |operation, _| {
        let Outcome::Answered(Answer::Put(put)) = &mut operation.outcome else { return None };
        put.header.as_mut()?.revision += 1;
        Some(())
    }),
    ("a read that was asked for when everything was over", |operation, run| {
        let is_read = matches!(operation.request, Request::Range(_) | Request::Cached(_, Demand::Current));
        let seen = run.history.iter().filter(|other| other.returned.is_some());
        let seen = seen.filter_map(Operation::revision).max()?;
        if !is_read || !operation.is_linearizable() || operation.revision()? >= seen {
            return None;
        }
        operation.invoked = run.now + Duration::from_secs(1);
        operation.returned = Some(run.now + Duration::from_secs(2));
        Some(())
    }),
];

/// The first pair in an answer.
fn pairs(operation: &mut Operation) -> Option<&mut etcd_watch_proto::mvccpb::KeyValue> {
    match &mut operation.outcome {
        Outcome::Answered(Answer::Range(range)) => range.kvs.first_mut(),
        Outcome::Answered(Answer::Txn(txn)) => match &mut txn.responses.first_mut()?.response {
            Some(Response::ResponseRange(range)) => range.kvs.first_mut(),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn whatever_is_changed_in_a_lawful_history_is_found() {
    for (what, change) in CHANGES {
        let mut changed = 0;
        for seed in 0..SEEDS {
            let mut run = run(seed);
            let mut random = Rng::with_seed(seed);
            for _ in 0..10 {
                let number = random.usize(..run.history.len());
                let before = run.history[number].clone();
                let mut operation = before.clone();
                if change(&mut operation, &run).is_none() {
                    continue;
                }
                changed += 1;
                run.history[number] = operation;
                let found = run.check().err().unwrap_or_default();
                let is_named = |violation: &Violation| {
                    violation.operation == Some(number) || violation.rule == Rule::Once
                };
                assert!(
                    found.iter().any(is_named),
                    "seed {seed}, {what}: {before:#?} is now {:#?}; {found:#?}",
                    run.history[number]
                );
                run.history[number] = before;
            }
        }
        assert!(changed > 20, "{what}: only {changed} changes were tried");
    }
}

#[test]
fn a_write_that_its_client_forgets_is_one_that_nobody_asked_for() {
    for seed in 0..SEEDS {
        let mut run = run(seed);
        let is_put = |operation: &Operation| operation.has_written() && !operation.values().is_empty();
        let place = run.history.iter().rposition(is_put).expect("something was put");
        let forgotten = run.history.remove(place);
        let found = run.check().err().unwrap_or_default();
        let revision = forgotten.revision();
        assert!(
            found.iter().any(|one| one.rule == Rule::Unasked && Some(one.revision) == revision),
            "seed {seed}: {forgotten:#?}; {found:#?}"
        );
    }
}

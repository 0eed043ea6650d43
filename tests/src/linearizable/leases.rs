//! Leases: when they begin and end.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_watch_core::Refusal;
use etcd_watch_proto::mvccpb::Event;

use super::{
    Rule, Violation,
    claims::Claims,
    history::{Answer, Operation, Outcome, Request},
    order::Seen,
    spec::State,
    truth::{Truth, puts},
};

/// One lease.
#[derive(Debug, Default)]
struct Lease {
    /// The first operation that may have begun it.
    grant: Option<usize>,
    /// Before this time it doesn't end by itself.
    due: Duration,
    /// The last revision that has hung a key on it.
    last_attached: i64,
    revokes: Vec<usize>,
    /// It had ended at this revision, as far as is known.
    ended: Option<i64>,
}

/// All leases of a history.
#[derive(Debug)]
pub(super) struct Leases<'a> {
    history: &'a [Operation],
    leases: BTreeMap<i64, Lease>,
}

impl<'a> Leases<'a> {
    pub(super) fn of(history: &'a [Operation], truth: &Truth) -> Self {
        let mut leases: BTreeMap<i64, Lease> = BTreeMap::new();
        for (number, operation) in history.iter().enumerate() {
            match &operation.request {
                Request::Grant(grant) if !matches!(operation.outcome, Outcome::NotExecuted(_)) => {
                    let ttl = match operation.answer() {
                        Some(Answer::Grant(granted)) => granted.ttl,
                        _ => grant.ttl,
                    };
                    let lease = leases.entry(grant.id).or_default();
                    lease.grant = lease.grant.or(Some(number));
                    lease.due = lease.due.max(operation.invoked + seconds(ttl));
                }
                Request::KeepAlive(keep_alive) => {
                    if let Some(Answer::KeepAlive(ttl @ 1..)) = operation.answer() {
                        let lease = leases.entry(keep_alive.id).or_default();
                        lease.due = lease.due.max(operation.invoked + seconds(*ttl));
                    }
                }
                Request::Revoke(revoke) if !matches!(operation.outcome, Outcome::NotExecuted(_)) => {
                    leases.entry(revoke.id).or_default().revokes.push(number);
                }
                _ => {}
            }
        }
        for (revision, events) in truth.revisions() {
            for kv in puts(events).filter(|kv| kv.lease != 0) {
                leases.entry(kv.lease).or_default().last_attached = revision;
            }
        }
        Self { history, leases }
    }

    /// The lease whose end these changes are, if they are one's: all of its keys are deleted, and none hangs on it later.
    pub(super) fn ends(&self, state: &State, events: &[Event]) -> Option<i64> {
        let key = &events.first()?.kv.as_ref()?.key;
        let id = state.get(key)?.lease;
        let is_last = self.leases.get(&id).is_none_or(|lease| lease.last_attached <= state.revision);
        (id != 0 && is_last && state.is_end_of(id, events)).then_some(id)
    }

    /// Whether a lease had ended at a revision before its time was over.
    pub(super) fn ends_early(&self, id: i64, revision: i64, seen: &Seen) -> bool {
        let due = self.leases.get(&id).map_or(Duration::ZERO, |lease| lease.due);
        seen.first(revision).is_some_and(|at| at < due)
    }

    pub(super) fn ended(&mut self, id: i64, revision: i64) {
        let lease = self.leases.entry(id).or_default();
        lease.ended = Some(lease.ended.map_or(revision, |other| other.min(revision)));
    }

    /// Keys hang only on leases that have begun and not ended, and what is refused for a lease has none.
    pub(super) fn check(&self, truth: &Truth, claims: &Claims, seen: &Seen) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (revision, events) in truth.revisions() {
            for kv in puts(events).filter(|kv| kv.lease != 0) {
                if let Some(what) = self.hangs_wrongly(kv.lease, revision, truth, seen) {
                    let operation = claims.writer(revision);
                    violations.push(Violation { rule: Rule::Lease, operation, revision, what });
                }
            }
        }
        for (number, operation) in self.history.iter().enumerate() {
            if operation.outcome != Outcome::NotExecuted(Some(Refusal::LeaseNotFound)) {
                continue;
            }
            let mut named = Vec::new();
            match &operation.request {
                Request::Revoke(revoke) => named.push(revoke.id),
                request => request.for_each_put(&mut |put| named.push(put.lease)),
            }
            named.retain(|id| *id != 0);
            if !named.is_empty() && named.iter().all(|id| self.surely_exists(*id, operation)) {
                let what = format!("it was refused for a lease that was there: {named:x?}");
                let revision = seen.before(operation.invoked).revision;
                violations.push(Violation { rule: Rule::Refusal, operation: Some(number), revision, what });
            }
        }
        violations
    }

    fn hangs_wrongly(&self, id: i64, revision: i64, truth: &Truth, seen: &Seen) -> Option<String> {
        let lease = self.leases.get(&id)?;
        if let Some(ended) = lease.ended.filter(|ended| *ended < revision) {
            return Some(format!("a key hangs on lease {id:x}, which had ended at revision {ended}"));
        }
        match lease.grant {
            Some(grant) => {
                let floor = seen.before(self.history[grant].invoked).revision;
                (floor >= revision).then(|| format!("a key hangs on lease {id:x} before it was asked for"))
            }
            // One of those that were there already.
            None if truth.pairs().iter().any(|kv| kv.lease == id) => None,
            None => Some(format!("a key hangs on lease {id:x}, which nobody has asked for")),
        }
    }

    /// Whether a lease was there during all of an operation.
    fn surely_exists(&self, id: i64, operation: &Operation) -> bool {
        let Some(lease) = self.leases.get(&id) else { return false };
        let Some(returned) = operation.returned else { return false };
        let grant = lease.grant.map(|grant| &self.history[grant]);
        let was_granted = grant.is_some_and(|grant| grant.returned.is_some_and(|at| at < operation.invoked));
        let due = match grant.and_then(|grant| Some((grant, grant.answer()?))) {
            // What was renewed may have been too late.
            Some((grant, Answer::Grant(granted))) => grant.invoked + seconds(granted.ttl),
            _ => return false,
        };
        let is_revoked = lease.revokes.iter().any(|revoke| self.history[*revoke].invoked <= returned);
        was_granted && returned < due && !is_revoked
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

//! Leases: which there are, how long they have left, and which keys hang on them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::error::ModelError;
use super::history::EventKind;
use super::store::Change;

/// Longest time to live there is, in seconds.
pub(super) const MAX_TTL: i64 = 9_000_000_000;

/// The leases. Keys follow the changes of the store; deleting the keys of a lease that ended is the
/// caller's part.
#[derive(Debug, Clone)]
pub(super) struct Lessor {
    leases: BTreeMap<i64, Lease>,
    /// The leases by the time they end, then by id.
    expiries: BTreeSet<(Duration, i64)>,
    /// The lease each attached key hangs on.
    attached: BTreeMap<Bytes, i64>,
    next_id: i64,
    min_ttl: i64,
    /// Whether leases end by themselves: on a follower they end when the leader says so.
    is_primary: bool,
}

#[derive(Debug, Clone)]
struct Lease {
    ttl: i64,
    expires: Duration,
    keys: BTreeSet<Bytes>,
}

impl Lessor {
    pub(super) fn new(min_ttl: i64) -> Self {
        Self {
            leases: BTreeMap::new(),
            expiries: BTreeSet::new(),
            attached: BTreeMap::new(),
            // Large, as etcd's are, so that nobody takes them for small numbers.
            next_id: 0x0e7c_d000_0000_0001,
            min_ttl,
            is_primary: true,
        }
    }

    /// From now on no lease ends by itself.
    pub(super) fn demote(&mut self) {
        self.is_primary = false;
    }

    /// Begins a lease and returns its id and its time to live in seconds. An id of 0 lets us choose.
    pub(super) fn grant(&mut self, id: i64, ttl: i64, now: Duration) -> Result<(i64, i64), ModelError> {
        if ttl > MAX_TTL {
            return Err(ModelError::LeaseTtlTooLarge);
        }
        if id != 0 && self.leases.contains_key(&id) {
            return Err(ModelError::LeaseExists);
        }
        let id = if id == 0 { self.choose_id() } else { id };
        let ttl = ttl.max(self.min_ttl);
        let expires = now.saturating_add(seconds(ttl));
        self.leases.insert(id, Lease { ttl, expires, keys: BTreeSet::new() });
        self.expiries.insert((expires, id));
        Ok((id, ttl))
    }

    /// Ends a lease and returns its keys, in order.
    pub(super) fn revoke(&mut self, id: i64) -> Result<BTreeSet<Bytes>, ModelError> {
        let lease = self.leases.remove(&id).ok_or(ModelError::LeaseNotFound)?;
        self.expiries.remove(&(lease.expires, id));
        for key in &lease.keys {
            self.attached.remove(key);
        }
        Ok(lease.keys)
    }

    /// Renews a lease and returns its time to live, 0 if there is no such lease.
    pub(super) fn keep_alive(&mut self, id: i64, now: Duration) -> i64 {
        let Some(lease) = self.leases.get_mut(&id) else { return 0 };
        self.expiries.remove(&(lease.expires, id));
        lease.expires = now.saturating_add(seconds(lease.ttl));
        self.expiries.insert((lease.expires, id));
        lease.ttl
    }

    /// Gives every lease its full time again, as a new leader does.
    pub(super) fn renew_all(&mut self, now: Duration) {
        for id in self.ids() {
            self.keep_alive(id, now);
        }
    }

    pub(super) fn contains(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    pub(super) fn ids(&self) -> Vec<i64> {
        self.leases.keys().copied().collect()
    }

    /// Whole seconds left, seconds granted, and keys.
    pub(super) fn time_to_live(&self, id: i64, now: Duration) -> Option<(i64, i64, &BTreeSet<Bytes>)> {
        let lease = self.leases.get(&id)?;
        let left = lease.expires.saturating_sub(now).as_secs();
        Some((i64::try_from(left).unwrap_or(i64::MAX), lease.ttl, &lease.keys))
    }

    /// The first lease that has ended by `now`, if any.
    pub(super) fn expired(&self, now: Duration) -> Option<i64> {
        self.next().filter(|(expires, _)| *expires <= now).map(|(_, id)| id)
    }

    /// When the next lease ends.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.next().map(|(expires, _)| expires)
    }

    fn next(&self) -> Option<(Duration, i64)> {
        self.expiries.first().copied().filter(|_| self.is_primary)
    }

    /// Follows what happened to the keys: every change takes a key off its lease, a put may hang it on one.
    pub(super) fn follow(&mut self, changes: &[Change]) {
        for change in changes {
            if let Some(old) = self.attached.remove(&change.key)
                && let Some(lease) = self.leases.get_mut(&old)
            {
                lease.keys.remove(&change.key);
            }
            if change.kind == EventKind::Put
                && let Some(lease) = self.leases.get_mut(&change.lease)
            {
                lease.keys.insert(change.key.clone());
                self.attached.insert(change.key.clone(), change.lease);
            }
        }
    }

    fn choose_id(&mut self) -> i64 {
        while self.leases.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(100);

    #[test]
    fn an_id_of_zero_is_chosen_and_is_never_one_that_is_taken() {
        let mut lessor = Lessor::new(2);
        let (first, _) = lessor.grant(0, 10, START).expect("free");
        lessor.grant(first + 1, 10, START).expect("free");
        let (third, _) = lessor.grant(0, 10, START).expect("free");
        assert!(first > 0);
        assert_eq!(third, first + 2);
    }

    #[test]
    fn a_taken_id_is_refused() {
        let mut lessor = Lessor::new(2);
        lessor.grant(7, 10, START).expect("free");
        assert_eq!(lessor.grant(7, 10, START), Err(ModelError::LeaseExists));
    }

    #[test]
    fn a_time_to_live_is_raised_to_the_shortest_and_refused_above_the_longest() {
        let mut lessor = Lessor::new(2);
        assert_eq!(lessor.grant(7, 0, START), Ok((7, 2)));
        assert_eq!(lessor.grant(8, MAX_TTL, START), Ok((8, MAX_TTL)));
        assert_eq!(lessor.grant(9, MAX_TTL + 1, START), Err(ModelError::LeaseTtlTooLarge));
    }

    #[test]
    fn a_lease_ends_exactly_when_its_time_is_over() {
        let mut lessor = Lessor::new(2);
        lessor.grant(7, 10, START).expect("free");
        assert_eq!(lessor.next_expiry(), Some(START + seconds(10)));
        assert_eq!(lessor.expired(START + Duration::from_millis(9999)), None);
        assert_eq!(lessor.expired(START + seconds(10)), Some(7));
    }

    #[test]
    fn keeping_a_lease_alive_gives_it_its_full_time_again() {
        let mut lessor = Lessor::new(2);
        lessor.grant(7, 10, START).expect("free");
        assert_eq!(lessor.keep_alive(7, START + seconds(9)), 10);
        assert_eq!(lessor.expired(START + seconds(18)), None);
        assert_eq!(lessor.keep_alive(8, START), 0);
    }

    #[test]
    fn the_time_left_is_told_in_whole_seconds() {
        let mut lessor = Lessor::new(2);
        lessor.grant(7, 10, START).expect("free");
        let (left, granted, _) = lessor.time_to_live(7, START + Duration::from_millis(2500)).expect("exists");
        assert_eq!((left, granted), (7, 10));
        assert!(lessor.time_to_live(8, START).is_none());
    }
}

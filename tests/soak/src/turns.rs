//! The queues of the lock and the election as they really were: who was first at each revision, and whether only the first
//! wrote.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use etcd_watch_proto::mvccpb::{Event, KeyValue, event::EventType};

use crate::ledger::{State, revision_of};

/// The name of the lock.
pub(crate) const LOCK: &str = "locks/soak";
/// What holders of the lock write, under the condition that they hold it: their fencing token.
pub(crate) const LOCK_LOG: &str = "fenced/lock";
/// The name of the election.
pub(crate) const ELECTION: &str = "elected/soak";
/// What leaders write, under the condition that they lead.
pub(crate) const ELECTION_LOG: &str = "fenced/election";

/// Both queues.
#[derive(Debug)]
pub(crate) struct Turns {
    pub(crate) lock: Queue,
    pub(crate) election: Queue,
}

/// A queue, revision by revision.
#[derive(Debug)]
pub(crate) struct Queue {
    prefix: String,
    log: &'static str,
    queued: BTreeMap<Bytes, Place>,
    /// Each first, and each value of it, in order.
    heads: Vec<Head>,
    /// The tokens of those that are gone.
    gone: BTreeSet<i64>,
    /// Leases whose keys were deleted before they were first. Such a lease has ended, so it may not queue again.
    ended: BTreeSet<i64>,
    counts: Counts,
    broken: Vec<String>,
}

#[derive(Debug)]
struct Place {
    head: Head,
    lease: i64,
    was_first: bool,
}

/// Who was first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The revision that made its key.
    pub(crate) token: i64,
    /// The revision of its value.
    pub(crate) mod_revision: i64,
    pub(crate) value: Bytes,
    /// The revision at which this came to be the first.
    since: i64,
}

/// What a queue has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// How many came first.
    pub(crate) turns: u64,
    /// How many writes there were by those who were first.
    pub(crate) writes: u64,
}

/// A leader, as an observer was told of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) token: i64,
    pub(crate) mod_revision: i64,
    pub(crate) value: Bytes,
    /// The highest revision that a compaction had been asked for by then.
    pub(crate) compacted: i64,
}

/// How far an observer has come; the next first that it is to be told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Followed {
    next: Option<usize>,
}

impl Turns {
    /// Begins with the store as it is.
    pub(crate) fn starting_at(revision: i64, state: &State) -> Self {
        let queue = |name: &str, log| Queue::starting_at(name, log, revision, state);
        Self { lock: queue(LOCK, LOCK_LOG), election: queue(ELECTION, ELECTION_LOG) }
    }

    /// Takes in whole revisions.
    pub(crate) fn record(&mut self, events: &[Event]) {
        for revision in events.chunk_by(|one, next| revision_of(one) == revision_of(next)) {
            self.lock.record(revision);
            self.election.record(revision);
        }
    }

    /// What was found broken since this was asked last.
    pub(crate) fn take_broken(&mut self) -> Vec<String> {
        let mut broken = std::mem::take(&mut self.lock.broken);
        broken.append(&mut self.election.broken);
        broken
    }
}

impl Queue {
    fn starting_at(name: &str, log: &'static str, revision: i64, state: &State) -> Self {
        let mut queue = Self {
            prefix: format!("{name}/"),
            log,
            queued: BTreeMap::new(),
            heads: Vec::new(),
            gone: BTreeSet::new(),
            ended: BTreeSet::new(),
            counts: Counts::default(),
            broken: Vec::new(),
        };
        let there = state.values().filter(|kv| kv.key.starts_with(queue.prefix.as_bytes()));
        let there: Vec<KeyValue> = there.cloned().collect();
        there.into_iter().for_each(|kv| queue.put(kv));
        queue.look(revision);
        queue
    }

    /// Takes in one revision.
    fn record(&mut self, events: &[Event]) {
        let mut is_changed = false;
        for event in events {
            let Some(kv) = &event.kv else { continue };
            let is_put = event.r#type() == EventType::Put;
            if kv.key == self.log && is_put {
                self.check_write(kv);
            } else if kv.key.starts_with(self.prefix.as_bytes()) {
                is_changed = true;
                if is_put { self.put(kv.clone()) } else { self.delete(&kv.key) }
            }
        }
        if is_changed {
            self.look(events.first().map_or(0, revision_of));
        }
    }

    /// Only who was first before may write. Its value is the writer's token.
    fn check_write(&mut self, kv: &KeyValue) {
        let first = self.first().map(|head| head.token.to_string());
        if first.as_ref().is_some_and(|first| kv.value == *first) {
            self.counts.writes += 1;
            return;
        }
        let (log, revision, writer) = (self.log, kv.mod_revision, String::from_utf8_lossy(&kv.value));
        self.broken
            .push(format!("{writer} wrote {log} at revision {revision}: it was the turn of {first:?}"));
    }

    fn put(&mut self, kv: KeyValue) {
        let KeyValue { key, value, create_revision: token, mod_revision, lease, .. } = kv;
        if lease == 0 {
            self.broken.push(format!("{key:?} is in the queue without a lease at revision {mod_revision}"));
        }
        let is_new = self.queued.get(&key).is_none_or(|place| place.head.token != token);
        if is_new && self.ended.contains(&lease) {
            self.broken.push(format!("{key:?} had to queue again at revision {mod_revision}"));
        }
        let was_first = !is_new && self.queued.get(&key).is_some_and(|place| place.was_first);
        let head = Head { token, mod_revision, value, since: 0 };
        self.queued.insert(key, Place { head, lease, was_first });
    }

    fn delete(&mut self, key: &Bytes) {
        let Some(place) = self.queued.remove(key) else { return };
        self.gone.insert(place.head.token);
        if !place.was_first {
            self.ended.insert(place.lease);
        }
    }

    /// Notes who is first after a revision.
    fn look(&mut self, revision: i64) {
        let Some(first) = self.queued.values_mut().min_by_key(|place| place.head.token) else { return };
        let last = self.heads.last();
        if last.is_some_and(|last| last.mod_revision == first.head.mod_revision) {
            return;
        }
        self.counts.turns += u64::from(!first.was_first);
        first.was_first = true;
        self.heads.push(Head { since: revision, ..first.head.clone() });
    }

    fn first(&self) -> Option<&Head> {
        self.queued.values().map(|place| &place.head).min_by_key(|head| head.token)
    }

    /// Whether the key with this token is no more.
    pub(crate) fn is_gone(&self, token: i64) -> bool {
        self.gone.contains(&token)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Moves an observer on to what it has seen; `false` if that has not happened yet, as far as is known.
    ///
    /// # Errors
    /// If it was not told of a first, though history was there to tell it.
    pub(crate) fn follow(&self, place: &mut Followed, seen: &Seen) -> Result<bool, String> {
        let next = place.next.unwrap_or(0);
        let is_it = |head: &Head| head.mod_revision == seen.mod_revision && head.token == seen.token;
        let Some(skipped) =
            self.heads[next..].iter().position(|head| is_it(head) && head.value == seen.value)
        else {
            return Ok(false);
        };
        // It begins with who is first then. After that a compaction ends its watch if what comes next is older; whoever is first
        // when the keys are read again comes next.
        if let Some(told) = next.checked_sub(1).map(|last| &self.heads[last])
            && skipped > 0
            && seen.compacted <= told.since + 1
        {
            let missed = &self.heads[next];
            return Err(format!("after {told:?} it was not told of {missed:?}, but of {seen:?}"));
        }
        place.next = Some(next + skipped + 1);
        Ok(true)
    }

    /// Whether an observer has been told of everything, up to what is known.
    pub(crate) fn is_at_the_end(&self, place: Followed) -> bool {
        self.heads.is_empty() || place.next == Some(self.heads.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{
        Ledger,
        tests::{delete, put},
    };

    /// A store with a queue in it, by what its contenders do.
    struct Story {
        ledger: Ledger,
        turns: Turns,
    }

    impl Story {
        fn new() -> Self {
            let state = State::new();
            Self { turns: Turns::starting_at(1, &state), ledger: Ledger::starting_at(1, state) }
        }

        fn record(&mut self, event: Event) -> i64 {
            self.turns.record(std::slice::from_ref(&event));
            self.ledger.record(vec![event]).unwrap();
            self.ledger.recorded()
        }

        fn enter(&mut self, lease: i64) -> i64 {
            let mut event = put(&self.ledger, &format!("{LOCK}/{lease:x}"), self.ledger.recorded() + 1);
            event.kv.as_mut().unwrap().lease = lease;
            self.record(event)
        }

        fn leave(&mut self, lease: i64) {
            let event = delete(&self.ledger, &format!("{LOCK}/{lease:x}"), self.ledger.recorded() + 1);
            self.record(event);
        }

        fn write(&mut self, token: i64) {
            let mut event = put(&self.ledger, LOCK_LOG, self.ledger.recorded() + 1);
            event.kv.as_mut().unwrap().value = token.to_string().into();
            self.record(event);
        }

        fn broken(&mut self) -> usize {
            self.turns.take_broken().len()
        }
    }

    fn seen(head: &Head, compacted: i64) -> Seen {
        let Head { token, mod_revision, value, .. } = head.clone();
        Seen { token, mod_revision, value, compacted }
    }

    #[test]
    fn only_the_first_may_write_and_only_until_it_leaves() {
        let mut story = Story::new();
        let (first, second) = (story.enter(7), story.enter(9));
        story.write(first);
        assert_eq!(story.broken(), 0);
        story.write(second);
        assert_eq!(story.broken(), 1);
        story.leave(7);
        story.write(second);
        assert_eq!(story.broken(), 0);
        story.write(first);
        assert_eq!(story.broken(), 1);
        story.leave(9);
        story.write(second);
        assert_eq!(story.broken(), 1);
        let queue = &story.turns.lock;
        assert_eq!(queue.counts(), Counts { turns: 2, writes: 2 });
        assert!(queue.is_gone(first) && queue.is_gone(second) && !queue.is_gone(99));
    }

    #[test]
    fn a_write_in_the_revision_that_ends_the_turn_is_of_the_one_before() {
        let mut story = Story::new();
        let token = story.enter(7);
        let revision = story.ledger.recorded() + 1;
        let mut write = put(&story.ledger, LOCK_LOG, revision);
        write.kv.as_mut().unwrap().value = token.to_string().into();
        let leave = delete(&story.ledger, &format!("{LOCK}/7"), revision);
        story.turns.record(&[write, leave]);
        assert_eq!(story.broken(), 0);
    }

    #[test]
    fn whoever_keeps_its_lease_keeps_its_place() {
        let mut story = Story::new();
        story.enter(7);
        story.enter(9);
        story.leave(9);
        story.enter(9);
        assert_eq!(story.broken(), 1);
        story.leave(7);
        story.leave(9);
        story.enter(9);
        assert_eq!(story.broken(), 1, "it left before its turn, once");
        story.enter(7);
        assert_eq!(story.broken(), 0, "it had had its turn");
    }

    #[test]
    fn a_place_without_a_lease_is_nobodys() {
        let mut story = Story::new();
        story.enter(0);
        assert_eq!(story.broken(), 1);
    }

    #[test]
    fn an_observer_is_told_of_every_first_that_history_has() {
        let mut story = Story::new();
        for lease in 1..6 {
            story.enter(lease);
        }
        for lease in 1..5 {
            story.leave(lease);
        }
        let queue = &story.turns.lock;
        let heads = queue.heads.clone();
        assert_eq!(heads.len(), 5);
        let mut all = Followed::default();
        for head in &heads {
            assert!(!queue.is_at_the_end(all));
            assert_eq!(queue.follow(&mut all, &seen(head, 0)), Ok(true));
        }
        assert!(queue.is_at_the_end(all));
        assert_eq!(queue.follow(&mut all, &seen(&heads[4], 0)), Ok(false), "it comes once");

        let mut late = Followed::default();
        assert_eq!(queue.follow(&mut late, &seen(&heads[1], 0)), Ok(true), "it begins where it begins");
        let next = heads[1].since + 1;
        assert!(queue.follow(&mut late, &seen(&heads[3], next)).is_err(), "what comes next was there");
        let mut read_again = late;
        assert_eq!(queue.follow(&mut read_again, &seen(&heads[3], next + 1)), Ok(true));
        assert_eq!(queue.follow(&mut late, &seen(&heads[2], 0)), Ok(true));
        assert_eq!(queue.follow(&mut late, &seen(&heads[3], 0)), Ok(true));
        let mut strange = seen(&heads[4], 0);
        strange.value = "another".into();
        assert_eq!(queue.follow(&mut late, &strange), Ok(false), "that was nobody's value");
    }
}

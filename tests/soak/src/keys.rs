//! The keys that are written and watched.

use etcd_watch_client::{Delete, KeyRange, Put, Txn};

/// Every key that is watched begins with this.
pub(crate) const PREFIX: &str = "soak/";

/// Every key that only recorded calls write begins with this.
pub(crate) const CALLS: &str = "calls/";

/// The keys that only recorded calls write.
pub(crate) fn calls() -> KeyRange {
    KeyRange::prefix(CALLS)
}

/// How many groups of keys there are.
pub(crate) const GROUPS: u32 = 6;
/// How many keys a group has.
pub(crate) const KEYS_PER_GROUP: u32 = 10;
/// How many keys there are, besides those that only marks write.
pub(crate) const KEYS: u32 = GROUPS * KEYS_PER_GROUP;

/// The prefix of a group's keys.
pub(crate) fn group(group: u32) -> String {
    format!("{PREFIX}g{}/", group % GROUPS)
}

/// A key, by its number.
pub(crate) fn key(number: u32) -> String {
    format!("{}k{}", group(number / KEYS_PER_GROUP), number % KEYS_PER_GROUP)
}

/// A key of the group that nobody but a mark writes.
fn fleeting(number: u32) -> String {
    format!("{}fleeting", group(number))
}

/// The first half of a mark: puts what the second half deletes.
pub(crate) fn before_mark() -> Txn {
    (0..GROUPS).fold(Txn::new(), |txn, number| txn.and_then(Put::new(fleeting(number), "to be deleted")))
}

/// A mark: one revision that every watch sees, with a put of every key and a delete in every group.
pub(crate) fn mark() -> Txn {
    let txn = (0..GROUPS).fold(Txn::new(), |txn, number| txn.and_then(Delete::key(fleeting(number))));
    (0..KEYS).fold(txn, |txn, number| txn.and_then(Put::new(key(number), "a mark")))
}

//! What a client can see of a server's version: every difference that tests depend on, in one table.
//!
//! `docs/compatibility.md` has the same with words. `tests/tests/differences.rs` holds the table against real servers of
//! every line, and [`ModelConfig::like`](crate::model::ModelConfig::like) makes the model behave by it.

use etcd_watch_binaries::Version;

use crate::model::TxnChecks;

/// Whom a member with authentication tells its version and state (`Maintenance.Status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusFor {
    /// Whoever asks.
    Anyone,
    /// Users with the role `root` only.
    Root,
    /// Every user who is logged in.
    Users,
}

/// What a client can see of a server's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Differences {
    /// A reply to a manual progress request can overtake events of revisions up to its own (etcd#15220).
    pub early_progress: bool,
    /// Progress is also reported to watches that start in the future, with a revision below their start (etcd#20221).
    pub progress_before_start: bool,
    /// Compaction takes a delete that happened at its very revision, though watches may start there (etcd#18089).
    pub loses_deletes: bool,
    /// A slow watch that a compaction has overtaken goes on behind it, and isn't told (etcd#17529 and others).
    pub loses_slow_watches: bool,
    /// Starts below 0 are taken for revisions that are compacted, instead of refused (etcd#20693).
    pub negative_start: bool,
    /// In which order a transaction's operations are checked.
    pub txn_checks: TxnChecks,
    /// Reads of keys only leave out the lease too, unless they are sorted by value.
    pub bare_keys: bool,
    /// Whom it tells its version and state.
    pub status: StatusFor,
    /// Whether `Auth.AuthStatus` is answered to whoever asks; otherwise to users with the role `root` only.
    pub auth_status_for_anyone: bool,
    /// A user who may read one key is let watch from it to the end of all keys (GHSA-xg4h-6gfc-h4m8).
    pub watches_past_permission: bool,
    /// There is `KV.RangeStream`.
    pub range_stream: bool,
}

impl Differences {
    /// Those of a version. A version of a newer line than any that is in the table is taken for the newest.
    #[must_use]
    pub fn of(version: Version) -> Self {
        let since = |firsts: &[Version]| {
            let line = version.line();
            firsts.iter().any(|first| first.line() == line && *first <= version)
                || firsts.iter().all(|first| first.line() < line)
        };
        let v = Version::new;
        Self {
            early_progress: !since(&[v(3, 4, 25), v(3, 5, 8)]),
            progress_before_start: !since(&[v(3, 4, 38), v(3, 5, 22), v(3, 6, 2)]),
            loses_deletes: !since(&[v(3, 4, 36), v(3, 5, 18)]),
            loses_slow_watches: !since(&[v(3, 4, 31), v(3, 5, 13)]),
            negative_start: !since(&[v(3, 4, 40), v(3, 5, 24), v(3, 6, 6)]),
            txn_checks: if since(&[v(3, 7, 0)]) {
                TxnChecks::LeaseFirst
            } else if since(&[v(3, 6, 0)]) {
                TxnChecks::InOrder
            } else {
                TxnChecks::PutsFirst
            },
            status: if since(&[v(3, 5, 32), v(3, 6, 12)]) {
                StatusFor::Users
            } else if since(&[v(3, 5, 28), v(3, 6, 0)]) {
                StatusFor::Root
            } else {
                StatusFor::Anyone
            },
            auth_status_for_anyone: since(&[v(3, 7, 0)]),
            watches_past_permission: !since(&[v(3, 5, 33), v(3, 6, 14), v(3, 7, 1)]),
            bare_keys: since(&[v(3, 7, 0)]),
            range_stream: since(&[v(3, 7, 0)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Differences {
        Differences::of(text.parse().expect("a version"))
    }

    #[test]
    fn a_repair_comes_to_each_line_in_a_version_of_its_own() {
        for (version, early, before_start, deletes, slow, negative) in [
            ("3.3.27", true, true, true, true, true),
            ("3.4.24", true, true, true, true, true),
            ("3.4.25", false, true, true, true, true),
            ("3.4.31", false, true, true, false, true),
            ("3.4.36", false, true, false, false, true),
            ("3.4.40", false, false, false, false, false),
            ("3.5.7", true, true, true, true, true),
            ("3.5.8", false, true, true, true, true),
            ("3.5.22", false, false, false, false, true),
            ("3.5.30", false, false, false, false, false),
            ("3.6.1", false, true, false, false, true),
            ("3.6.5", false, false, false, false, true),
            ("3.6.6", false, false, false, false, false),
            ("3.7.0", false, false, false, false, false),
        ] {
            let found = of(version);
            let found = (
                found.early_progress,
                found.progress_before_start,
                found.loses_deletes,
                found.loses_slow_watches,
                found.negative_start,
            );
            assert_eq!(found, (early, before_start, deletes, slow, negative), "{version}");
        }
    }

    #[test]
    fn a_line_checks_transactions_in_its_own_order() {
        for (version, checks) in [
            ("3.4.23", TxnChecks::PutsFirst),
            ("3.5.35", TxnChecks::PutsFirst),
            ("3.6.16", TxnChecks::InOrder),
            ("3.7.3", TxnChecks::LeaseFirst),
        ] {
            assert_eq!(of(version).txn_checks, checks, "{version}");
        }
    }

    #[test]
    fn what_users_may_do_changed_more_than_once() {
        for (version, status, auth_status, watches) in [
            ("3.4.23", StatusFor::Anyone, false, true),
            ("3.5.27", StatusFor::Anyone, false, true),
            ("3.5.30", StatusFor::Root, false, true),
            ("3.5.33", StatusFor::Users, false, false),
            ("3.6.11", StatusFor::Root, false, true),
            ("3.6.12", StatusFor::Users, false, true),
            ("3.6.14", StatusFor::Users, false, false),
            ("3.7.0", StatusFor::Users, true, true),
            ("3.7.1", StatusFor::Users, true, false),
            ("3.9.0", StatusFor::Users, true, false),
        ] {
            let found = of(version);
            assert_eq!(
                (found.status, found.auth_status_for_anyone, found.watches_past_permission),
                (status, auth_status, watches),
                "{version}"
            );
        }
    }
}

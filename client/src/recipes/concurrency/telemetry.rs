//! What the log hears of sessions and claims; the table for users is in [`super`].

use std::time::Duration;

use super::{ContendError, Lost, SessionLost, queue::Claim};

pub(super) fn session_opened(lease: i64, ttl: Duration) {
    tracing::debug!(name: "session_opened", lease = format_args!("{lease:x}"), ?ttl, "opened a session");
}

pub(super) fn session_over(lease: i64, reason: &SessionLost) {
    let lease = format_args!("{lease:x}");
    if matches!(reason, SessionLost::Lease(_)) {
        tracing::warn!(name: "session_lost", lease, %reason, "lost a session");
    } else {
        tracing::debug!(name: "session_closed", lease, %reason, "closed a session");
    }
}

pub(super) fn claim_entered(claim: &Claim) {
    let Claim { key, create_revision } = claim;
    tracing::debug!(name: "claim_entered", ?key, create_revision, "entered the queue");
}

pub(super) fn claim_waiting(claim: &Claim, behind: &Claim) {
    let Claim { key, create_revision } = claim;
    tracing::debug!(name: "claim_waiting", ?key, create_revision, behind = ?behind.key, "waiting in the queue");
}

pub(super) fn claim_held(claim: &Claim) {
    let Claim { key, create_revision } = claim;
    tracing::debug!(name: "claim_held", ?key, create_revision, "became the owner");
}

/// Whether the application has ended it itself: then it is no loss to tell of.
pub(super) fn is_applications_doing(reason: &Lost) -> bool {
    matches!(reason, Lost::Session(SessionLost::Closed | SessionLost::Orphaned))
}

pub(super) fn claim_lost(claim: &Claim, reason: &Lost) {
    let Claim { key, create_revision } = claim;
    if !is_applications_doing(reason) {
        tracing::warn!(name: "claim_lost", ?key, create_revision, %reason, "lost a place in the queue");
    }
}

pub(super) fn claim_left(key: &[u8]) {
    tracing::debug!(name: "claim_left", key = %key.escape_ascii(), "left the queue");
}

pub(super) fn claim_not_removed(key: &[u8], reason: &ContendError) {
    tracing::warn!(name: "claim_not_removed", key = %key.escape_ascii(), %reason, "a key blocks the queue until its lease ends");
}

//! What can go wrong for those who contend.

use bytes::Bytes;
use etcd_watch_core::{CloseReason, Code};

use crate::{CallError, LeaseLost, OpenError};

/// A name that no lock or election can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It is empty.
    #[error("name is empty: it would contend with every key under /; give at least one character")]
    Empty,
    /// It ends in a slash.
    #[error("name {name:?} ends in a slash: leave that out, keys get one of their own")]
    TrailingSlash {
        /// The name.
        name: String,
    },
    /// It contains a control character.
    #[error("name {name:?} contains a control character: use printable ones")]
    ControlCharacter {
        /// The name.
        name: String,
    },
}

/// A session could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The lease it was to use doesn't exist.
    #[error("lease {id:x} does not exist: it expired or was revoked; open a session without it")]
    NoSuchLease {
        /// The lease.
        id: i64,
    },
    /// The lease could not be granted, or not be renewed.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Why a session is no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionLost {
    /// Its lease is lost.
    #[error(transparent)]
    Lease(#[from] LeaseLost),
    /// The application closed it.
    #[error("the session was closed")]
    Closed,
    /// The application gave its lease away.
    #[error("the session was orphaned: its lease is not renewed here any more")]
    Orphaned,
}

/// Why a lock, a leadership or a place in the queue for one is no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// The session is lost.
    #[error("the session is lost: {0}")]
    Session(#[from] SessionLost),
    /// The key was deleted: the lease ended on the server before this side knew, or somebody deleted it.
    #[error("key {} was deleted: its lease has ended, or somebody deleted it", .key.escape_ascii())]
    KeyDeleted {
        /// The key.
        key: Bytes,
    },
    /// The key can't be watched any more. It may still be there, but its end would go unnoticed.
    #[error("key {} can't be watched any more: {reason}", .key.escape_ascii())]
    Unwatched {
        /// The key.
        key: Bytes,
        /// Why not.
        reason: Box<ContendError>,
    },
}

/// Contending for a lock or a leadership, or working with it, failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContendError {
    /// What was held or waited for is lost. Open another session if that is lost, and contend again.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The user may not do it: who contends reads and writes all keys under `<name>/`.
    #[error(
        "{what} was denied: {message}; the user must be allowed to read and write all keys under <name>/"
    )]
    Denied {
        /// The call, or "the watch".
        what: &'static str,
        /// The server's text.
        message: String,
    },
    /// A call failed for good. Failures that may pass are waited out for as long as the session lives.
    #[error(transparent)]
    Call(CallError),
    /// A watch ended for good.
    #[error("a watch ended: {0}")]
    Watch(CloseReason),
}

impl From<CallError> for ContendError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { method, code: Code::PermissionDenied, message } => {
                Self::Denied { what: method, message }
            }
            error => Self::Call(error),
        }
    }
}

impl From<CloseReason> for ContendError {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::PermissionDenied { message } => Self::Denied { what: "the watch", message },
            reason => Self::Watch(reason),
        }
    }
}

impl From<SessionLost> for ContendError {
    fn from(lost: SessionLost) -> Self {
        Self::Lost(lost.into())
    }
}

/// Why a watch whose request is lawful could not be opened: the client has ended.
pub(super) fn not_watched(error: &OpenError) -> CallError {
    if matches!(error, OpenError::RuntimeGone) {
        CallError::RuntimeGone { method: "Watch" }
    } else {
        CallError::Closed { method: "Watch" }
    }
}

/// Whether a new watch may go better, after another look at the store.
pub(super) fn can_start_over(reason: &CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::Compacted { .. }
            | CloseReason::Lagged { .. }
            | CloseReason::CancelledByServer { .. }
            | CloseReason::StoreChanged { .. }
            | CloseReason::StoreRegressed { .. }
            | CloseReason::NoLeader { .. }
            | CloseReason::Unreachable { .. }
    )
}

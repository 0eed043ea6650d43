//! What can go wrong.

use etcd_watch_core::{CloseReason, Code};

use crate::{CallError, OpenError, WatchError};

/// Discovery can't do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The argument can't be used. Nothing was sent.
    #[error("{field} {problem}: {value:?}")]
    InvalidArgument {
        /// Which argument.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it, and what to give.
        problem: &'static str,
    },
    /// A call was refused, or not answered.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The endpoints can't be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The client was closed.
    #[error("the client has been closed")]
    Closed,
    /// The runtime that the client was built on has shut down.
    #[error("the runtime that the client was built on has shut down; build a client on one that lives on")]
    RuntimeGone,
    /// The registration has ended.
    #[error("the registration has ended")]
    Deregistered,
}

impl From<OpenError> for DiscoveryError {
    /// The requests made here are lawful, so that only a client that has ended can refuse them.
    fn from(error: OpenError) -> Self {
        if error == OpenError::RuntimeGone { Self::RuntimeGone } else { Self::Closed }
    }
}

/// Whether the call would be refused again: for what it asks, or for who asks.
pub(super) fn is_final(error: &CallError) -> bool {
    match error {
        CallError::Refused { code, .. } => matches!(
            code,
            Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented
        ),
        CallError::InvalidArgument { .. }
        | CallError::AuthenticationFailed { .. }
        | CallError::ResponseTooLarge { .. }
        | CallError::Closed { .. }
        | CallError::RuntimeGone { .. } => true,
        _ => false,
    }
}

/// Whether another watch would end in the same way.
pub(super) fn ends_for_good(reason: &CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::ShutDown
            | CloseReason::RuntimeGone
            | CloseReason::PermissionDenied { .. }
            | CloseReason::AuthenticationFailed { .. }
            | CloseReason::TokenRefused { .. }
            | CloseReason::Refused { .. }
            | CloseReason::Unsupported { .. }
            | CloseReason::TooLarge { .. }
            | CloseReason::KeyTooLarge { .. }
            | CloseReason::TooManyKeys { .. }
    )
}

pub(super) fn check_target(target: &str) -> Result<(), DiscoveryError> {
    let problem = if target.is_empty() {
        "is empty: name the service"
    } else if target.ends_with('/') {
        "ends with a slash: leave it out, it is put between target and name"
    } else if target.contains(char::is_control) {
        "contains a control character: use printable ones"
    } else {
        return Ok(());
    };
    Err(DiscoveryError::InvalidArgument { field: "target", value: target.into(), problem })
}

pub(super) fn check_name(name: &str) -> Result<(), DiscoveryError> {
    if !name.is_empty() {
        return Ok(());
    }
    let problem = "is empty: by convention it is the endpoint's address";
    Err(DiscoveryError::InvalidArgument { field: "name", value: String::new(), problem })
}

pub(super) fn check_addr(addr: &str) -> Result<(), DiscoveryError> {
    if !addr.is_empty() {
        return Ok(());
    }
    let problem = "is empty: say where the service is, by convention host:port";
    Err(DiscoveryError::InvalidArgument { field: "addr", value: String::new(), problem })
}

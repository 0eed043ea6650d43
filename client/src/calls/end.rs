//! Why a client makes no more calls.

use etcd_watch_core::{ApiMisuse, CloseReason};

use crate::{CallError, OpenError};

/// Why a client makes no more calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was closed.
    Closed,
    /// The runtime that it was built on has shut down.
    RuntimeGone,
}

impl End {
    /// How a call ends for it that was not sent, or changes nothing.
    pub(crate) fn of_call(self, method: &'static str) -> CallError {
        match self {
            Self::Closed => CallError::Closed { method },
            Self::RuntimeGone => CallError::RuntimeGone { method },
        }
    }

    /// How the machine's refusal of a request looks to an application: the machine refuses one that can't be served, or
    /// any if it has ended.
    pub(crate) fn of_open(end: Option<Self>, misuse: ApiMisuse) -> OpenError {
        match misuse {
            ApiMisuse::Request(error) => OpenError::Request(error),
            _ => end.unwrap_or(Self::Closed).into(),
        }
    }
}

impl From<End> for CloseReason {
    fn from(end: End) -> Self {
        match end {
            End::Closed => Self::ShutDown,
            End::RuntimeGone => Self::RuntimeGone,
        }
    }
}

impl From<End> for OpenError {
    fn from(end: End) -> Self {
        match end {
            End::Closed => Self::Closed,
            End::RuntimeGone => Self::RuntimeGone,
        }
    }
}

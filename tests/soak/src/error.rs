//! What can keep a soak from being done, which is not what it looks for: see [`Finding`](crate::Finding).

use std::path::PathBuf;

use etcd_watch_client::{BuildError, CallError};
use etcd_watch_testkit::harness::HarnessError;

/// Why a soak could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SoakError {
    /// The cluster did not do what was asked of it.
    #[error(transparent)]
    Harness(#[from] HarnessError),
    /// A client could not be built.
    #[error("can't build a client: {0}")]
    Client(#[from] BuildError),
    /// A call that had to succeed did not.
    #[error("can't {action}: {source}")]
    Call {
        /// What was attempted.
        action: &'static str,
        /// The last failure.
        source: CallError,
    },
    /// A read past our client failed.
    #[error("can't read the store at {endpoint}: {source}")]
    Read {
        /// The member.
        endpoint: String,
        /// Why.
        source: tonic::Status,
    },
    /// A member could not be reached past our client.
    #[error("can't reach {endpoint}: {source}")]
    Reach {
        /// The member.
        endpoint: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// A file or a socket failed.
    #[error("can't {action}: {source}")]
    Io {
        /// What was attempted.
        action: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// What had to come about did not.
    #[error("waited in vain until {what}: {last}")]
    Waited {
        /// What was waited for.
        what: &'static str,
        /// What was seen last.
        last: String,
    },
    /// A program that a fault needs has failed.
    #[error("`{command}` failed: {output}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// What it wrote.
        output: String,
    },
    /// It could not go on to its end.
    #[error("{source}; what happened before is in {}", .transcript.display())]
    CutShort {
        /// Why.
        source: Box<Self>,
        /// The transcript.
        transcript: PathBuf,
    },
    /// The recorder can't go on: what really happened is not known any more.
    #[error("the recorder can't go on: {reason}")]
    Recorder {
        /// Why.
        reason: String,
    },
}

impl SoakError {
    /// A closure for `map_err` that says what was attempted.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

//! What can go wrong around a real server.

use std::{fmt, io, time::Duration};

use etcd_watch_binaries::BinaryError;

/// Why a real server, or its command-line client, did not do what the test asked.
///
/// `Debug` prints the same text as `Display`, so that `unwrap`, or a test that returns it, shows the log.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// There is no such server on this machine.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// A file, a process or a socket failed.
    #[error("can't {action}: {source}")]
    Io {
        /// What was attempted.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The server ended while it should have started.
    #[error("etcd ended during its start ({status}); the end of its log:\n{log}")]
    Exited {
        /// How it ended.
        status: String,
        /// The last lines it wrote.
        log: String,
    },
    /// The server did not serve in time.
    #[error("etcd does not serve after {waited:?}: {last}; the end of its log:\n{log}")]
    NotReady {
        /// How long it was given.
        waited: Duration,
        /// What the last look at it found.
        last: String,
        /// The last lines it wrote.
        log: String,
    },
    /// The server did not end in time after it was asked to; it was killed.
    #[error("etcd did not end within {waited:?} of SIGTERM and was killed; the end of its log:\n{log}")]
    NotStopped {
        /// How long it was given.
        waited: Duration,
        /// The last lines it wrote.
        log: String,
    },
    /// The server was asked for something that needs it to run.
    #[error("can't {action}: the server is not running, `restart` it first")]
    NotRunning {
        /// What was attempted.
        action: &'static str,
    },
    /// The members of a cluster did not come to agree, or did not cease to.
    #[error("waited {waited:?} in vain until {what}; the members: {views}")]
    NoLeader {
        /// What was waited for.
        what: &'static str,
        /// How long they were given.
        waited: Duration,
        /// What each of them said last.
        views: String,
    },
    /// A cluster was asked for a change of its members again and again, and did not make it.
    #[error("the cluster has not changed its members within {waited:?}: {members}")]
    NotChanged {
        /// How long it was given.
        waited: Duration,
        /// Its members.
        members: String,
    },
    /// The server did not write to disk in time.
    #[error("etcd has committed nothing to its database within {waited:?}")]
    NotFlushed {
        /// How long it was given.
        waited: Duration,
    },
    /// The server's metrics have no such metric.
    #[error("no metric `{name}` among those of etcd {version}")]
    NoMetric {
        /// The metric's name.
        name: String,
        /// The server's version.
        version: String,
    },
    /// `etcdctl` ended with a failure.
    #[error("`{command}` failed ({status}):\n{output}")]
    EtcdctlFailed {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: String,
        /// What it wrote, standard error last.
        output: String,
    },
    /// `etcdctl` did not end, or did not write, in time.
    #[error("`{command}` {missing} within {waited:?}; its standard error:\n{stderr}")]
    EtcdctlHung {
        /// The program and its arguments.
        command: String,
        /// What it was expected to do.
        missing: &'static str,
        /// How long it was given.
        waited: Duration,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// The program around Go's etcd client ended, with a failure or too early.
    #[error("`interop {command}` ended ({status}):\n{output}")]
    GoFailed {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: String,
        /// What it wrote that had not been taken, standard error last.
        output: String,
    },
    /// The program around Go's etcd client did not end, or did not write, in time.
    #[error("`interop {command}` {missing} within {waited:?}; its standard error:\n{stderr}")]
    GoHung {
        /// The program and its arguments.
        command: String,
        /// What it was expected to do.
        missing: &'static str,
        /// How long it was given.
        waited: Duration,
        /// What it wrote to standard error.
        stderr: String,
    },
}

impl fmt::Debug for HarnessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl HarnessError {
    /// A closure for `map_err` that says what was attempted.
    pub(super) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

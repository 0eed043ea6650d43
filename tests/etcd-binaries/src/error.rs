//! What can go wrong while finding or fetching a server, each with its remedy.

use std::{fmt, io, path::PathBuf};

use crate::{Line, Version};

const REMEDY: &str = "run `cargo xtask etcd`, or set ETCD_BIN to the path of an etcd executable of that line";

/// Why a server could not be found or fetched.
///
/// `Debug` prints the same text as `Display`, so that `unwrap` in a test shows the remedy.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum BinaryError {
    /// No server of a required line is on this machine.
    #[error(
        "no etcd {line} found: not in ETCD_BIN, not in {}, not on PATH; {REMEDY}",
        .searched.display()
    )]
    Missing {
        /// The line that was looked for.
        line: Line,
        /// Where fetched servers are kept.
        searched: PathBuf,
    },
    /// No `etcdctl` is on this machine.
    #[error("no etcdctl found beside {} or on PATH; run `cargo xtask etcd`", .server.display())]
    MissingClient {
        /// The server whose client was looked for.
        server: PathBuf,
    },
    /// An executable does not answer `--version` as etcd does.
    #[error("{} (from {origin}) is not a working etcd: {reason}", .path.display())]
    NotEtcd {
        /// The executable.
        path: PathBuf,
        /// Where its path comes from, such as `ETCD_BIN`.
        origin: &'static str,
        /// What it did instead.
        reason: String,
    },
    /// A text that should be an etcd version is not.
    #[error("`{0}` is not an etcd version of the form 3.5.30")]
    BadVersion(String),
    /// The system's package sources name no Debian mirror.
    #[error("no Debian mirror with component `main` found in {} to fetch etcd from; {REMEDY}", .apt.display())]
    NoMirror {
        /// The directory whose source lists were read.
        apt: PathBuf,
    },
    /// The keys that sign Debian's archives are not installed.
    #[error("Debian's archive keyring is not in {}: install `debian-archive-keyring`, or set ETCD_BIN", .keyrings.display())]
    NoKeyring {
        /// The directory that was searched.
        keyrings: PathBuf,
    },
    /// The package sources hold no server of the line.
    #[error("no package of etcd {line} among those offered: {offered}; set ETCD_BIN to one")]
    NotOffered {
        /// The line that was wanted.
        line: Line,
        /// What the package client listed.
        offered: String,
    },
    /// There is no package source for this very version.
    #[error("there is no way to fetch etcd {0}; ask for 3.5.1, or set ETCD_BIN")]
    NoSource(Version),
    /// A command failed.
    #[error("`{command}` failed ({status}):\n{output}")]
    CommandFailed {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it wrote, standard error last.
        output: String,
    },
    /// A command could not be started.
    #[error("can't run `{command}`: {source}; it is needed to fetch etcd (or set ETCD_BIN)")]
    CantRun {
        /// The command line.
        command: String,
        /// Why not.
        source: io::Error,
    },
    /// A file operation failed.
    #[error("can't {action} {}: {source}", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl fmt::Debug for BinaryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl BinaryError {
    /// A closure for `map_err` that says which file operation failed.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> BinaryError {
        let path = path.into();
        move |source| BinaryError::Io { action, path, source }
    }
}

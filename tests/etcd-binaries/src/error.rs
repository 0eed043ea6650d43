//! What can go wrong while finding or fetching a server, or Go's etcd client, each with its remedy.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::{Line, Version};

const REMEDY: &str = "run `cargo xtask etcd`, or set ETCD_BIN to the path of an etcd executable of that line";
const OR_GIVE: &str = "set ETCD_BIN to an etcd executable of the line that is missing";
const GO_REMEDY: &str = "run `cargo xtask go`";

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
    #[error("no Debian mirror with component `main` found in {} to fetch from; {OR_GIVE}", .apt.display())]
    NoMirror {
        /// The directory whose source lists were read.
        apt: PathBuf,
    },
    /// The keys that sign Debian's archives are not installed.
    #[error("Debian's archive keyring is not in {}: install `debian-archive-keyring`, or {OR_GIVE}", .keyrings.display())]
    NoKeyring {
        /// The directory that was searched.
        keyrings: PathBuf,
    },
    /// `ETCD_WATCH_SERVERS` asks for something that there isn't.
    #[error("ETCD_WATCH_SERVERS is `{0}`; it can be `all`, or be left out")]
    BadChoice(String),
    /// The package sources hold no version of the line.
    #[error("no {package} of etcd {line} among the packages offered: {offered}; {OR_GIVE}")]
    NotOffered {
        /// The package that was wanted.
        package: &'static str,
        /// The line that was wanted.
        line: Line,
        /// What the package client listed.
        offered: String,
    },
    /// There is no package source for this very version.
    #[error("there is no way to fetch etcd {0}; ask for 3.5.1, or set ETCD_BIN")]
    NoSource(Version),
    /// The program that runs Go's etcd client has not been built on this machine.
    #[error("no program of Go's etcd client at {}; {GO_REMEDY}", .program.display())]
    NoInterop {
        /// Where it was looked for.
        program: PathBuf,
    },
    /// The program that runs Go's etcd client was built from other sources than those there are now.
    #[error("{} was not built from what is in {} now; {GO_REMEDY}", .program.display(), .sources.display())]
    StaleInterop {
        /// The program.
        program: PathBuf,
        /// Its sources.
        sources: PathBuf,
    },
    /// An executable does not answer `version` as a Go does that is new enough.
    #[error("{} is not a working Go: {reason}; set ETCD_WATCH_GO to one, or unset it", .path.display())]
    NotGo {
        /// The executable.
        path: PathBuf,
        /// What it did instead.
        reason: String,
    },
    /// There is no Go on this machine, and none could be fetched.
    #[error(
        "etcd 3.6 and 3.7 and etcd's Go client are built with Go, and there is none on PATH (1.21 or newer), nor can one \
         be fetched: {reason}\ninstall Go (https://go.dev/doc/install), or set ETCD_WATCH_GO to its path; in place of a \
         server that would be built, ETCD_BIN can name one"
    )]
    NoGo {
        /// Why none could be fetched.
        reason: Box<Self>,
    },
    /// A module that is to be built into a server requires no server of the line.
    #[error("{} requires no {server} of etcd {line}", .manifest.display())]
    NotAModule {
        /// Its `go.mod`.
        manifest: PathBuf,
        /// The module that was looked for in it.
        server: &'static str,
        /// The line it is for.
        line: Line,
    },
    /// Go could not build a program of ours.
    #[error(
        "can't build {}: {reason}\nif it can't get modules, or a newer Go, set GOPROXY to a proxy that can be reached \
         from here (`go env GOPROXY` says what is asked now); in place of a server that would be built, ETCD_BIN can \
         name one",
        .sources.display()
    )]
    NotBuilt {
        /// The program's sources.
        sources: PathBuf,
        /// What Go said, which may be long; the remedy comes after it.
        reason: Box<Self>,
    },
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
    #[error("can't run `{command}`: {source}; it is needed to fetch what tests need (or {OR_GIVE})")]
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
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// The same for sources of which a copy was built.
    pub(crate) fn with_sources(self, sources: &Path) -> Self {
        match self {
            Self::NotBuilt { reason, .. } => Self::NotBuilt { sources: sources.to_owned(), reason },
            other => other,
        }
    }
}

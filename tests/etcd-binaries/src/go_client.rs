//! etcd's own client, in Go, as a program that tests can run: how it is built, and where it is.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{BinaryError, Origin, go::GoPlaces, locate, staging, staging::Staging, target_dir};

const PROGRAM: &str = "interop";

/// Where Go, and the program made with etcd's Go client, are on this machine.
///
/// The program is `tests/go/interop`, a module whose `go.mod` says which version of the client that is. It is built by
/// the `go` that `ETCD_WATCH_GO` names (a path, or a name on `PATH`), or else by the one on `PATH`, or else by one that
/// is fetched to `target/go/`. Go gets modules from where it is set up to (`go env GOPROXY`), and itself a newer Go if
/// it is too old for them. The program is put in `target/go/bin/`.
#[derive(Clone, Debug)]
pub struct GoTools {
    store: PathBuf,
    sources: PathBuf,
    go: GoPlaces,
}

/// The program that runs Go's etcd client, just built, and what it was built with.
#[derive(Clone, Debug)]
pub struct GoClient {
    /// The program.
    pub program: PathBuf,
    /// What it says about itself: the versions of etcd's client and of Go.
    pub versions: String,
    /// The `go` executable.
    pub go: PathBuf,
    /// How that was found.
    pub go_origin: Origin,
}

impl fmt::Display for GoClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match self.go_origin {
            Origin::Given => "ETCD_WATCH_GO",
            other => other.as_str(),
        };
        writeln!(f, "client of {}: {}", self.versions, self.program.display())?;
        write!(f, "  built by ({origin}): {}", self.go.display())
    }
}

impl GoTools {
    /// The places this process's environment names: `ETCD_WATCH_GO`, `PATH`, and the [target directory](target_dir).
    pub fn from_env() -> Self {
        let store = target_dir().join("go");
        Self { sources: locate::modules().join(PROGRAM), go: GoPlaces::from_env(store.clone()), store }
    }

    /// The program, if it has been built from the sources as they are now.
    ///
    /// # Errors
    /// [`BinaryError::NoInterop`] or [`BinaryError::StaleInterop`] if not, with the remedy.
    pub fn find(&self) -> Result<PathBuf, BinaryError> {
        let program = self.program();
        let Ok(built_from) = fs::read_to_string(self.stamp()) else {
            return Err(BinaryError::NoInterop { program });
        };
        if !program.is_file() {
            Err(BinaryError::NoInterop { program })
        } else if built_from != joined(&self.read_sources()?) {
            Err(BinaryError::StaleInterop { program, sources: self.sources.clone() })
        } else {
            Ok(program)
        }
    }

    /// Fetches what is missing and builds the program, which takes Go a minute the first time and a second after
    /// that. `say` is told what goes on, a line at a time. Safe to call from several processes at once.
    ///
    /// # Errors
    /// Everything that can go wrong with the package clients and with Go, with the remedy.
    pub fn prepare(&self, say: &mut dyn FnMut(&str)) -> Result<GoClient, BinaryError> {
        let go = self.go.provide(say)?;
        if self.find().is_err() {
            say("building the program of Go's etcd client");
        }
        let staging = Staging::new(&self.store)?;
        // A copy, so that what is compared later is what was built, whatever somebody writes meanwhile.
        let copied = staging.dir("sources")?;
        let sources = self.read_sources()?;
        for (name, text) in &sources {
            let path = copied.join(name);
            fs::write(&path, text).map_err(BinaryError::io("write", &path))?;
        }
        let built = staging.path().join(PROGRAM);
        // Go itself knows what has changed since the last time.
        go.build(&copied, &["."], &built).map_err(|error| error.with_sources(&self.sources))?;
        let versions = staging::run(Command::new(&built).arg("version"))?.trim().to_owned();

        let stamp = staging.path().join("stamp");
        fs::write(&stamp, joined(&sources)).map_err(BinaryError::io("write", &stamp))?;
        // In this order: the other way round, an end in between would leave an old program that passes for new.
        staging.publish_file(&built, &self.program())?;
        staging.publish_file(&stamp, &self.stamp())?;
        Ok(GoClient { program: self.program(), versions, go: go.executable, go_origin: go.origin })
    }

    fn program(&self) -> PathBuf {
        self.store.join("bin").join(PROGRAM)
    }

    /// Beside the program, the sources it was built from.
    fn stamp(&self) -> PathBuf {
        self.store.join("bin").join(format!("{PROGRAM}.sources"))
    }

    /// The source files, by name.
    fn read_sources(&self) -> Result<Vec<(String, String)>, BinaryError> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.sources).map_err(BinaryError::io("read", &self.sources))? {
            let path = entry.map_err(BinaryError::io("read", &self.sources))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_source(&path) {
                files.push((name, fs::read_to_string(&path).map_err(BinaryError::io("read", &path))?));
            }
        }
        files.sort();
        Ok(files)
    }
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "go")
        || path.file_name().is_some_and(|name| name == "go.mod" || name == "go.sum")
}

fn joined(sources: &[(String, String)]) -> String {
    sources.iter().map(|(name, text)| format!("-- {name} --\n{text}")).collect()
}

#[cfg(unix)]
#[cfg(test)]
#[path = "go_client_tests.rs"]
mod tests;

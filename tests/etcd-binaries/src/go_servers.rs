//! Servers that are built from etcd's Go modules: the lines that no package has.
//!
//! Each of these lines has a module of ours in `tests/go/etcd-<line>` without code. Its `go.mod` requires etcd's server
//! and tools in one version, and its `go.sum` says what they and everything that they import have to be.

use std::{
    env::consts::EXE_SUFFIX,
    fs,
    path::{Path, PathBuf},
};

use crate::{BinaryError, Line, Version, go::Go, staging::Staging};

/// The module that is required for its version.
const SERVER: &str = "go.etcd.io/etcd/server/v3";

/// The programs of these modules: what to build, the name that Go gives it, and the one it is to have.
const PROGRAMS: [(&str, &str, &str); 3] = [
    (SERVER, "server", "etcd"),
    ("go.etcd.io/etcd/etcdctl/v3", "etcdctl", "etcdctl"),
    ("go.etcd.io/etcd/etcdutl/v3", "etcdutl", "etcdutl"),
];

/// A line's module, and the version of etcd that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    directory: PathBuf,
    pub(crate) version: Version,
}

impl Module {
    /// The line's module in the directory of all modules; `None` if the line isn't built from one.
    ///
    /// # Errors
    /// If its `go.mod` can't be read, or requires no server of the line.
    pub(crate) fn of(modules: &Path, line: Line) -> Result<Option<Self>, BinaryError> {
        let directory = modules.join(format!("etcd-{line}"));
        if !directory.is_dir() {
            return Ok(None);
        }
        let manifest = directory.join("go.mod");
        let text = fs::read_to_string(&manifest).map_err(BinaryError::io("read", &manifest))?;
        let version = required(&text).filter(|version| version.line() == line);
        let version = version.ok_or(BinaryError::NotAModule { manifest, server: SERVER, line })?;
        Ok(Some(Self { directory, version }))
    }

    /// Builds the server and its tools, and returns the directory they are in now.
    pub(crate) fn build(
        &self,
        store: &Path,
        go: &Go,
        say: &mut dyn FnMut(&str),
    ) -> Result<PathBuf, BinaryError> {
        let staging = Staging::new(store)?;
        say(&format!(
            "building etcd {} with {}; the first time takes minutes",
            self.version,
            go.executable.display()
        ));
        let built = staging.dir("built")?;
        go.build(&self.directory, &PROGRAMS.map(|(package, ..)| package), &built)?;
        let executables = PROGRAMS.map(|(_, made, name)| (built.join(executable(made)), executable(name)));
        let executables = executables.each_ref().map(|(path, name)| (path.as_path(), name.as_str()));
        staging.publish(self.version, &executables)
    }
}

fn executable(name: &str) -> String {
    format!("{name}{EXE_SUFFIX}")
}

/// The version of the server in a `go.mod`.
fn required(manifest: &str) -> Option<Version> {
    let mut requirements =
        manifest.lines().map(|line| line.trim().trim_start_matches("require ").trim_start());
    let version = requirements.find_map(|line| line.strip_prefix(SERVER)?.strip_prefix(" v"))?;
    version.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(modules: &Path, line: Line, manifest: &str) {
        let directory = modules.join(format!("etcd-{line}"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("go.mod"), manifest).unwrap();
    }

    #[test]
    fn the_version_is_the_one_that_the_module_requires() {
        let modules = tempfile::tempdir().unwrap();
        for manifest in [
            "module etcd-3.7\n\nrequire (\n\tgo.etcd.io/etcd/etcdctl/v3 v3.7.1\n\tgo.etcd.io/etcd/server/v3 v3.7.3\n)\n",
            "module etcd-3.7\nrequire go.etcd.io/etcd/server/v3 v3.7.3 // why\n",
        ] {
            write(modules.path(), Line::V3_7, manifest);
            let module = Module::of(modules.path(), Line::V3_7).unwrap().unwrap();
            assert_eq!(module.version, Version::new(3, 7, 3));
        }
        assert_eq!(Module::of(modules.path(), Line::V3_6).unwrap(), None);
    }

    #[test]
    fn a_module_of_another_line_is_an_error() {
        let modules = tempfile::tempdir().unwrap();
        for manifest in ["module etcd-3.6\n", "require go.etcd.io/etcd/server/v3 v3.7.3\n"] {
            write(modules.path(), Line::V3_6, manifest);
            let error = Module::of(modules.path(), Line::V3_6).unwrap_err();
            assert!(error.to_string().contains("go.mod") && error.to_string().contains("3.6"), "{error}");
        }
    }

    #[test]
    fn there_are_modules_of_the_lines_that_need_them() {
        let modules = crate::locate::modules();
        let built = Line::REQUIRED.map(|line| Module::of(&modules, line).unwrap().is_some());
        assert_eq!(built, [false, false, true, true], "in {}", modules.display());
    }
}

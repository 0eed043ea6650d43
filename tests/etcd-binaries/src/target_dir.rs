//! Cargo's target directory, found at run time.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Cargo's target directory, where fetched servers are kept (under `etcd/`).
///
/// It is the directory the running executable was built in: the outermost one above it that Cargo marked with a
/// `CACHEDIR.TAG`. So tests and xtask agree on it whatever `--target-dir` or configuration says, with no
/// `cargo metadata` in each test process. Without such a mark it is `CARGO_TARGET_DIR`, or else `target` in the
/// workspace.
pub fn target_dir() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let workspace = workspace.canonicalize().unwrap_or(workspace);
    env::current_exe()
        .ok()
        .and_then(|executable| outermost_marked(&executable))
        .or_else(|| env::var_os("CARGO_TARGET_DIR").map(|dir| workspace.join(dir)))
        .unwrap_or_else(|| workspace.join("target"))
}

fn outermost_marked(executable: &Path) -> Option<PathBuf> {
    let is_marked = |dir: &&Path| {
        fs::read_to_string(dir.join("CACHEDIR.TAG")).is_ok_and(|tag| tag.contains("created by cargo"))
    };
    executable.ancestors().skip(1).filter(is_marked).last().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_directory_that_cargo_marked_is_the_target_directory() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("target");
        let triple = target.join("some-triple");
        fs::create_dir_all(triple.join("debug/deps")).unwrap();
        let tag = "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag created by cargo.\n";
        fs::write(target.join("CACHEDIR.TAG"), tag).unwrap();
        fs::write(triple.join("CACHEDIR.TAG"), tag).unwrap();
        fs::write(root.path().join("CACHEDIR.TAG"), "somebody else's\n").unwrap();

        assert_eq!(outermost_marked(&triple.join("debug/deps/test-1234")), Some(target));
        assert_eq!(outermost_marked(&root.path().join("bin/test")), None);
    }
}

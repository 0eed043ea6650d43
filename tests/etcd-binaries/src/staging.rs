//! A place to download and unpack in, and the atomic step that makes the result visible.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::{BinaryError, Version};

/// A directory of this process's own beside what has been fetched; removed when dropped.
///
/// Processes that fetch at the same time each use their own, and the first to [publish](Staging::publish_dir) wins:
/// no lock to leave behind, and never a half-unpacked server to be found.
pub struct Staging {
    path: PathBuf,
}

const PREFIX: &str = ".staging-";

/// Makes names within this process unique.
static COUNT: AtomicU32 = AtomicU32::new(0);

impl Staging {
    /// Makes one in `store`, and removes those that killed processes left there more than a day ago.
    ///
    /// # Errors
    /// If it can't be created.
    pub fn new(store: &Path) -> Result<Self, BinaryError> {
        fs::create_dir_all(store).map_err(BinaryError::io("create", store))?;
        remove_stale(store);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = store.join(format!("{PREFIX}{}-{count}", process::id()));
        // A process of the same id may have been killed here before.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).map_err(BinaryError::io("create", &path))?;
        Ok(Self { path })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory within, unless it is there.
    ///
    /// # Errors
    /// If it can't be created.
    pub fn dir(&self, name: &str) -> Result<PathBuf, BinaryError> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).map_err(BinaryError::io("create", &path))?;
        Ok(path)
    }

    /// Makes a directory within that nobody else uses, whose name begins so.
    pub(crate) fn fresh_dir(&self, name: &str) -> Result<PathBuf, BinaryError> {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        self.dir(&format!("{name}-{count}"))
    }

    /// Puts unpacked executables where they are found, under `<store>/<version>/`, in one step: each with the name that
    /// it is to have there, `etcd` among them.
    pub(crate) fn publish(
        &self,
        version: Version,
        executables: &[(&Path, &str)],
    ) -> Result<PathBuf, BinaryError> {
        let unpacked = self.dir(&format!("publish-{version}"))?;
        for &(from, name) in executables {
            fs::rename(from, unpacked.join(name)).map_err(BinaryError::io("move", from))?;
        }
        self.publish_dir(&unpacked, &version.to_string(), "etcd")
    }

    /// Puts a directory where it is found, under `<store>/<name>/`, in one step. `proof` is a file or directory in
    /// it, by which the copy of another process is known.
    ///
    /// # Errors
    /// If it can't be moved there, and no other process has been faster.
    pub fn publish_dir(&self, unpacked: &Path, name: &str, proof: &str) -> Result<PathBuf, BinaryError> {
        let published = self.path.with_file_name(name);
        match fs::rename(unpacked, &published) {
            Ok(()) => Ok(published),
            // Another process was faster; its copy is as good.
            Err(_) if published.join(proof).exists() => Ok(published),
            Err(source) => Err(BinaryError::Io { action: "create", path: published, source }),
        }
    }

    /// Puts a file where it is found, in the place of what is there; `to` is on the same file system.
    pub(crate) fn publish_file(&self, from: &Path, to: &Path) -> Result<(), BinaryError> {
        if let Some(directory) = to.parent() {
            fs::create_dir_all(directory).map_err(BinaryError::io("create", directory))?;
        }
        fs::rename(from, to).map_err(BinaryError::io("create", to))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn remove_stale(store: &Path) {
    const STALE: Duration = Duration::from_secs(24 * 3600);
    for entry in fs::read_dir(store).into_iter().flatten().flatten() {
        let is_staging = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
        if is_staging && age.is_some_and(|age| age > STALE) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Runs a command to its end and returns its standard output.
pub(crate) fn run(command: &mut Command) -> Result<String, BinaryError> {
    let line = command_line(command);
    let output = command
        .stdin(process::Stdio::null())
        .output()
        .map_err(|source: io::Error| BinaryError::CantRun { command: line.clone(), source })?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let output_text = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    Err(BinaryError::CommandFailed { command: line, status: output.status.to_string(), output: output_text })
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(staging: &Staging, content: &str) -> (PathBuf, PathBuf) {
        let (server, client) = (staging.path().join("server"), staging.path().join("client"));
        fs::write(&server, content).unwrap();
        fs::write(&client, content).unwrap();
        (server, client)
    }

    #[test]
    fn the_first_to_publish_wins_and_nothing_else_stays_behind() {
        let store = tempfile::tempdir().unwrap();
        let version = Version::new(3, 5, 30);
        for content in ["first", "second"] {
            let staging = Staging::new(store.path()).unwrap();
            let (server, client) = unpacked(&staging, content);
            let published = staging.publish(version, &[(&server, "etcd"), (&client, "etcdctl")]).unwrap();
            assert_eq!(published, store.path().join("3.5.30"));
            assert_eq!(fs::read_to_string(published.join("etcd")).unwrap(), "first");
        }
        assert_eq!(fs::read_dir(store.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_command_is_reported_with_its_output() {
        let error = run(Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sh -c") && text.contains("one\ntwo") && text.contains('3'), "{text}");
    }
}

//! What has happened so far: a transcript on disk, and the faults for the report.

use std::{
    fmt::Display,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{error::SoakError, faults::Done};

/// What has happened so far. Its clones write to the same place.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Shared>);

struct Shared {
    start: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    directory: TempDir,
    transcript: File,
    faults: Vec<Done>,
}

const TRANSCRIPT: &str = "transcript.txt";

impl Journal {
    /// In a directory of its own, which is gone at the end unless it is [kept](Journal::keep).
    pub(crate) fn new(start: Instant) -> Result<Self, SoakError> {
        let make = || -> io::Result<Inner> {
            let directory = tempfile::Builder::new().prefix("etcd-watch-soak-").tempdir()?;
            let transcript = File::create(directory.path().join(TRANSCRIPT))?;
            Ok(Inner { directory, transcript, faults: Vec::new() })
        };
        let inner = make().map_err(SoakError::io("make a directory for the transcript"))?;
        Ok(Self(Arc::new(Shared { start, inner: Mutex::new(inner) })))
    }

    /// How long the soak has been going on.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.start.elapsed()
    }

    /// Writes down a line.
    pub(crate) fn note(&self, line: impl Display) {
        let elapsed = self.elapsed().as_secs_f64();
        // A disk that is full is no reason to end a soak.
        let _ = writeln!(self.lock().transcript, "{elapsed:>9.3}  {line}");
    }

    pub(crate) fn fault(&self, done: Done) {
        let (from, lasted) = (done.from.as_secs_f64(), (done.to - done.from).as_secs_f64());
        self.note(format!("{} at {from:.3}, whole again after {lasted:.3} s: {}", done.fault, done.what));
        self.lock().faults.push(done);
    }

    pub(crate) fn faults(&self) -> Vec<Done> {
        self.lock().faults.clone()
    }

    /// A path for a file that is gone at the end.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.lock().directory.path().join(name)
    }

    /// Keeps the transcript; where it is.
    pub(crate) fn keep(&self) -> PathBuf {
        let mut inner = self.lock();
        inner.directory.disable_cleanup(true);
        Path::join(inner.directory.path(), TRANSCRIPT)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! A snapshot in a file.

use std::path::{Path, PathBuf};

use super::{
    snapshot::{Snapshot, SnapshotError},
    writer::Writer,
};
use crate::Endpoint;

/// A snapshot that was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    path: PathBuf,
    bytes: u64,
    endpoint: Endpoint,
    storage_version: Option<String>,
}

impl Saved {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes it has, with the checksum.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where the member is that the snapshot is of.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The version of the member's storage format; `None` before etcd 3.6.
    #[must_use]
    pub fn storage_version(&self) -> Option<&str> {
        self.storage_version.as_deref()
    }
}

impl Snapshot {
    /// Writes it into a file that `etcdutl snapshot restore` takes, readable by its owner alone. A file that is there is
    /// replaced, once the new one is whole; a symbolic link, a directory or a device is not.
    ///
    /// It is written beside that file, under a name that ends in `.part`, and gets its own name only after the checksum
    /// was right and all of it is on disk. On a failure, and when this future is dropped before it was whole, a thread
    /// deletes what was written a moment later; a process that is killed leaves it behind. Files are written by a thread of its own, which no executor waits for.
    ///
    /// # Errors
    /// How the snapshot was cut off, what is wrong with it, or why the file can't be written.
    pub async fn save(mut self, path: impl Into<PathBuf>) -> Result<Saved, SnapshotError> {
        let path = path.into();
        if self.handed_out() > 0 {
            return Err(SnapshotError::NotWhole { taken: self.handed_out() });
        }
        let mut writer = Writer::start(path.clone())?;
        while let Some(piece) = self.next().await {
            match piece {
                Ok(piece) => writer.write(piece).await?,
                Err(error) => {
                    // What it was given is deleted by then.
                    writer.give_up().await;
                    return Err(error);
                }
            }
        }
        writer.finish().await?;
        Ok(Saved {
            path,
            bytes: self.handed_out(),
            endpoint: self.endpoint().clone(),
            storage_version: self.storage_version().map(Into::into),
        })
    }
}

//! Where to go on after a restart of the program.

use core::{fmt, str::FromStr};

use crate::Header;

/// Where to go on after a restart of the program: the next revision, and the cluster whose revision that is.
///
/// Store a response's [`checkpoint`](crate::WatchResponse::checkpoint) together with what was made of the response,
/// and begin there with [`WatchRequest::resume`](crate::WatchRequest::resume): nothing is missed and nothing comes twice.
/// If the store was replaced or restored meanwhile, so that the revision is one of a history that is gone, the watch
/// ends with [`StoreChanged`](crate::CloseReason::StoreChanged) or [`StoreRegressed`](crate::CloseReason::StoreRegressed).
///
/// It can be stored as text:
///
/// ```
/// use etcd_watch_core::{Checkpoint, KeyRange, WatchRequest};
///
/// let stored = "17@cdf818194e3a8c32";
/// let checkpoint: Checkpoint = stored.parse()?;
/// assert_eq!(checkpoint.next_revision(), 17);
/// assert_eq!(checkpoint.to_string(), stored);
/// let request = WatchRequest::new(KeyRange::prefix("services/")).resume(checkpoint);
/// # let _ = request;
/// # Ok::<(), etcd_watch_core::ParseCheckpointError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    next_revision: i64,
    cluster_id: u64,
}

impl Checkpoint {
    pub(crate) fn new(next_revision: i64, cluster_id: u64) -> Self {
        Self { next_revision, cluster_id }
    }

    /// The checkpoint after a read, by the header of its answer: a watch that begins there delivers every change since
    /// the read. Of a read at an older revision than the store's, the header has the store's revision all the same, so
    /// it doesn't do.
    #[must_use]
    pub fn after(read: Header) -> Self {
        Self::new(read.revision.saturating_add(1), read.cluster_id)
    }

    /// The first revision that the watch will deliver.
    #[must_use]
    pub fn next_revision(self) -> i64 {
        self.next_revision
    }

    /// The id of the cluster; 0 if a proxy didn't tell it, and then a cluster that was replaced isn't noticed.
    #[must_use]
    pub fn cluster_id(self) -> u64 {
        self.cluster_id
    }
}

/// The next revision, `@`, and the cluster's id in hexadecimal digits, as `etcdctl` prints it.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:x}", self.next_revision, self.cluster_id)
    }
}

/// Takes what `Display` writes; white space around it is ignored.
impl FromStr for Checkpoint {
    type Err = ParseCheckpointError;

    fn from_str(text: &str) -> Result<Self, ParseCheckpointError> {
        let (revision, cluster) = text.trim().split_once('@').ok_or(ParseCheckpointError(()))?;
        let next_revision: i64 = revision.parse().map_err(|_| ParseCheckpointError(()))?;
        let cluster_id = u64::from_str_radix(cluster, 16).map_err(|_| ParseCheckpointError(()))?;
        // 0 would be "from now on", which misses what happened while the program was down.
        if next_revision < 1 {
            return Err(ParseCheckpointError(()));
        }
        Ok(Self { next_revision, cluster_id })
    }
}

/// A text that is not a [`Checkpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a checkpoint is a revision of at least 1, `@` and the cluster's id in hexadecimal digits, as in 17@cdf818194e3a8c32"
)]
pub struct ParseCheckpointError(());

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::{KeyRange, StartAt, WatchRequest};

    #[test]
    fn a_checkpoint_survives_the_way_through_text() {
        for checkpoint in [Checkpoint::new(1, 0), Checkpoint::new(i64::MAX, u64::MAX)] {
            assert_eq!(checkpoint.to_string().parse(), Ok(checkpoint));
        }
        assert_eq!(" 5@ff\n".parse(), Ok(Checkpoint::new(5, 255)));
    }

    #[test]
    fn a_damaged_checkpoint_is_refused() {
        for text in ["", "5", "@", "5@", "@ff", "0@ff", "-3@ff", "5@fg", "5@ff@1", "5 @ff"] {
            assert!(text.parse::<Checkpoint>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_watch_resumes_at_the_next_revision_and_knows_all_before_it() {
        let read = Header { revision: 8, cluster_id: 3, ..Header::default() };
        let request = WatchRequest::new(KeyRange::all()).resume(Checkpoint::after(read));
        assert_eq!(request.start_at(), StartAt::Revision(9));
        assert_eq!(request.known, (3, 8));
    }
}

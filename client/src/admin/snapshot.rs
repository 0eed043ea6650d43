//! A member's database, as a stream of bytes.

use std::{
    fmt, io, mem,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use etcd_watch_core::{Failure, printable};
use futures_core::Stream;
use futures_util::StreamExt;

use super::checksum::{CHECKSUM_BYTES, Checksum, Wrong};
use crate::{
    AttemptError, BoxFuture, CallError, Endpoint,
    calls::{attempts::Calls, member::SnapshotMessages},
    transport::snapshot::Message,
};

/// The database of a member at one moment, as a stream of bytes:
/// [`Maintenance::snapshot`](super::Maintenance::snapshot).
///
/// They are the bytes of a file that `etcdctl snapshot save` would write: the database, and behind it its SHA-256, by
/// which `etcdutl snapshot restore` checks it. They are checked here, too: the stream ends (`None`) only after the
/// checksum was right, and no byte of the checksum is handed out before, so that a file of what was handed out is not
/// taken for whole by etcd's tools unless it is. [`save`](Self::save) writes such a file.
///
/// Nothing is read ahead: what isn't asked for holds up the member by HTTP/2's flow control, and the member keeps the
/// state of its database on disk for it meanwhile. Dropping it resets the stream.
#[must_use = "nothing is read until it is asked for"]
pub struct Snapshot {
    endpoint: Arc<Endpoint>,
    storage_version: Option<String>,
    total: u64,
    handed_out: u64,
    checksum: Checksum,
    next: Next,
}

/// Where the next message comes from.
enum Next {
    /// It is there: the first one.
    Given(Box<SnapshotMessages>, Message),
    Idle(Box<SnapshotMessages>),
    Waiting(BoxFuture<'static, (Box<SnapshotMessages>, Result<Message, AttemptError>)>),
    Ended,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("endpoint", &format_args!("{}", self.endpoint))
            .field("total_bytes", &self.total)
            .field("remaining_bytes", &self.remaining_bytes())
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(super) async fn begin(
        calls: &Arc<Calls>,
        endpoint: &Arc<Endpoint>,
        time: Duration,
    ) -> Result<Self, CallError> {
        let mut messages = Box::new(calls.snapshot_at(endpoint, time).await?);
        let first = match messages.next().await {
            Ok(first) => first,
            Err(failure) => return Err(messages.not_begun(failure)),
        };
        let database = first.remaining_bytes.saturating_add(first.blob.len() as u64);
        Ok(Self {
            endpoint: messages.endpoint().clone(),
            storage_version: Some(printable(&first.version[..])).filter(|version| !version.is_empty()),
            total: database.saturating_add(CHECKSUM_BYTES),
            handed_out: 0,
            checksum: Checksum::new(database),
            next: Next::Given(messages, first),
        })
    }

    /// The next piece of it, `None` once all was handed out and the checksum was right. Cancel-safe. A member that sends
    /// nothing for as long as [`Maintenance::timeout`](super::Maintenance::timeout) says is given up.
    ///
    /// # Errors
    /// How it was cut off, or what is wrong with it. It has ended then, and what was handed out is of no use.
    pub async fn next(&mut self) -> Option<Result<Bytes, SnapshotError>> {
        StreamExt::next(self).await
    }

    /// Where the member is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The version of the member's storage format; `None` before etcd 3.6.
    #[must_use]
    pub fn storage_version(&self) -> Option<&str> {
        self.storage_version.as_deref()
    }

    /// How many bytes it has in all, with the checksum.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total
    }

    /// How many bytes have not been handed out yet.
    #[must_use]
    pub fn remaining_bytes(&self) -> u64 {
        self.total.saturating_sub(self.handed_out)
    }

    /// How many bytes have been handed out.
    pub(super) fn handed_out(&self) -> u64 {
        self.handed_out
    }

    /// The piece of a message that may be handed out; `None` if the message has none.
    fn piece(&mut self, message: Message) -> Result<Option<Bytes>, SnapshotError> {
        let piece = self.checksum.take(message.blob).map_err(|wrong| match wrong {
            Wrong::Checksum => SnapshotError::WrongChecksum { total: self.total },
            Wrong::TooLong => SnapshotError::TooLong { total: self.total },
        })?;
        self.handed_out += piece.len() as u64;
        Ok((!piece.is_empty()).then_some(piece))
    }

    fn cut(&self, failure: AttemptError) -> SnapshotError {
        SnapshotError::Cut { received: self.handed_out, remaining: self.remaining_bytes(), failure }
    }
}

impl Stream for Snapshot {
    type Item = Result<Bytes, SnapshotError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let (messages, result) = match mem::replace(&mut this.next, Next::Ended) {
                Next::Ended => return Poll::Ready(None),
                Next::Given(messages, first) => (messages, Ok(first)),
                Next::Idle(mut messages) => {
                    this.next = Next::Waiting(Box::pin(async move {
                        let result = messages.next().await;
                        (messages, result)
                    }));
                    continue;
                }
                Next::Waiting(mut waiting) => match waiting.as_mut().poll(cx) {
                    Poll::Ready(output) => output,
                    Poll::Pending => {
                        this.next = Next::Waiting(waiting);
                        return Poll::Pending;
                    }
                },
            };
            match result.map(|message| this.piece(message)) {
                Ok(Ok(piece)) => {
                    this.next = Next::Idle(messages);
                    if let Some(piece) = piece {
                        return Poll::Ready(Some(Ok(piece)));
                    }
                }
                Ok(Err(error)) => return Poll::Ready(Some(Err(error))),
                // All was there, however the stream ended after it.
                Err(_) if this.checksum.is_verified() => return Poll::Ready(None),
                Err(failure) => return Poll::Ready(Some(Err(this.cut(failure)))),
            }
        }
    }
}

/// A snapshot that is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It ended before its end: the connection broke, or the member sent nothing for too long.
    #[error("the snapshot was cut off after {received} bytes, with {remaining} to come: {}", reason(.failure))]
    Cut {
        /// How many bytes were handed out.
        received: u64,
        /// How many were still to come, with the checksum.
        remaining: u64,
        /// What came instead.
        #[source]
        failure: AttemptError,
    },
    /// Its bytes don't have the checksum that the member has sent with them.
    #[error("the snapshot of {total} bytes does not have the checksum that was sent with it: take another")]
    WrongChecksum {
        /// How many bytes it has, with the checksum.
        total: u64,
    },
    /// There are more bytes than the member had announced.
    #[error("the snapshot has more than the {total} bytes that were announced: take another")]
    TooLong {
        /// How many bytes were announced, with the checksum.
        total: u64,
    },
    /// It can't be saved, since some of it was taken before.
    #[error("{taken} bytes of the snapshot have been taken already: save one of which none have been")]
    NotWhole {
        /// How many bytes were taken.
        taken: u64,
    },
    /// The file can't be written.
    #[error("can't {action} {}: {error}", printable(.path.display().to_string()))]
    File {
        /// What failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// A good end that came too soon is no failure of the server's.
fn reason(failure: &AttemptError) -> String {
    match failure.failure() {
        Failure::EndOfStream => "the member ended the stream".into(),
        failure => failure.to_string(),
    }
}

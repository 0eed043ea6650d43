//! Reads of whole ranges, page by page at one revision: the lists of mirrors, without the watch that follows.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use etcd_watch_core::{
    CloseReason, IntoBytes, KeyRange, ListProgress, ListReason, MirrorEvent, MirrorRequest, OwnedKeyValue,
    Pairs,
};
use futures_core::{FusedStream, Stream};

use crate::{Client, Mirror, OpenError, mirror::After};

/// A read of all keys of a range: [`Client::get_all`].
///
/// ```
/// use etcd_watch_client::{GetAll, KeyRange};
///
/// let names = GetAll::new(KeyRange::prefix("users/")).keys_only(true);
/// # let _ = names;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct GetAll {
    list: MirrorRequest,
    /// The revision that is asked for; 0 for the newest.
    revision: i64,
}

impl GetAll {
    /// A read of all keys of a range, with every option at its default.
    pub fn new(range: impl Into<KeyRange>) -> Self {
        // What was handed out is not remembered: the memory is bounded.
        Self { list: MirrorRequest::new(range).keep_index(false), revision: 0 }
    }

    /// A read of every key with the prefix.
    pub fn prefix(prefix: impl IntoBytes) -> Self {
        Self::new(KeyRange::prefix(prefix))
    }

    /// The size in bytes that pages are to have; a single larger pair makes a larger page. Default: that of
    /// [`WatchConfig::page_bytes`](etcd_watch_core::WatchConfig::page_bytes), 16 MiB unless it was changed.
    pub fn page_bytes(mut self, bytes: usize) -> Self {
        self.list = self.list.page_bytes(bytes);
        self
    }

    /// Leave the values out. Default: off.
    pub fn keys_only(mut self, on: bool) -> Self {
        self.list = self.list.keys_only(on);
        self
    }

    /// The keys as they were at this revision. Default: 0, as they are. etcd has a revision until it is compacted:
    /// reading ends with [`PagesError::Compacted`] then, and doesn't begin again at another.
    pub fn revision(mut self, revision: i64) -> Self {
        self.list = self.list.list_revision(revision);
        self.revision = revision;
        self
    }
}

impl<R: Into<KeyRange>> From<R> for GetAll {
    fn from(range: R) -> Self {
        Self::new(range)
    }
}

/// Why not all keys of a range could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PagesError {
    /// The revision that was asked for has been compacted. No page was handed out.
    #[error(
        "the keys can't be read at revision {revision}, which has been compacted: read them at a later revision, or without one"
    )]
    Compacted {
        /// The revision that was asked for.
        revision: i64,
    },
    /// No member has come to the revision that was asked for in time: it has not been written yet, or the store went back.
    /// No page was handed out.
    #[error(
        "the keys can't be read at revision {revision}: the newest is {newest}; read them at that revision, or without one"
    )]
    NotReached {
        /// The revision that was asked for.
        revision: i64,
        /// The newest revision there was after that.
        newest: i64,
    },
    /// The rest of the keys can't be read at the revision of those before: the revision was compacted, no member has it,
    /// or another store answers. The pages that were handed out are right for their revision, and more of it will not
    /// come: read all keys again, at a later revision if one was asked for.
    #[error(
        "not all keys could be read at revision {revision} ({reason}): read them again, at a later revision if one was asked for"
    )]
    Interrupted {
        /// The revision of the pages that were handed out.
        revision: i64,
        /// What happened: [`Interrupted`](ListReason::Interrupted) for a revision that was compacted or lost.
        reason: ListReason,
    },
    /// They can't be read: the user may not, no endpoint has answered within the client's `request_timeout`, a key is
    /// larger than the limit, or the client was closed.
    #[error("the keys could not be read: {0}")]
    Ended(CloseReason),
}

/// All keys of a range at one revision, page by page: [`Client::get_all`].
///
/// A page is [`Pairs`] in ascending order of their keys, and so are the pages. No more than two pages are held: the one
/// that was handed out may still be looked at while the next is received. Where the server has it (etcd 3.7) the pages
/// after the first come by one stream. A member that is lost meanwhile is replaced by another, at the same revision.
///
/// If the revision is compacted before the first page was handed out, reading begins again at a later one, unless
/// [a revision](GetAll::revision) was asked for; after that it is [`PagesError::Interrupted`].
///
/// It reads while it is polled. Taking is cancel-safe. Dropping it ends everything, here and on the server.
///
/// ```no_run
/// use etcd_watch_client::{Client, KeyRange};
///
/// async fn print(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
///     let mut pages = client.get_all(KeyRange::prefix("services/"))?;
///     while let Some(page) = pages.try_next().await? {
///         for kv in &page {
///             println!("{} = {}", kv.key_str()?, kv.value_str()?);
///         }
///     }
///     println!("this was the store at {:?}", pages.revision());
///     Ok(())
/// }
/// ```
#[must_use = "it does nothing unless it is polled"]
pub struct Pages {
    mirror: Mirror,
    /// The revision that was asked for, if one was.
    wanted: Option<i64>,
    revision: Option<i64>,
    /// How many lists have begun.
    lists: u64,
    /// Whether a page was handed out.
    begun: bool,
    ended: bool,
}

impl Client {
    /// Reads all keys of a range, however many, at one revision: `client.get_all(KeyRange::prefix("names/"))`, or with
    /// options, `client.get_all(GetAll::prefix("names/").keys_only(true))`. The reads are linearizable. Returns at
    /// once; the pages come from what it returns. [`get`](Self::get) reads a range in one message.
    ///
    /// # Errors
    /// A range that can't be read, pages of no size, a revision below 0, a client that has been closed, or one whose
    /// runtime is gone.
    pub fn get_all(&self, request: impl Into<GetAll>) -> Result<Pages, OpenError> {
        // A read ends when nobody answers, as calls do; mirrors wait on.
        let limit = Some(self.calls().request_timeout);
        let config = self.calls().pool.dialer.watch_config.clone();
        let config = config.unreachable_deadline(limit).no_leader_deadline(limit);
        let GetAll { list, revision } = request.into();
        let mirror = Mirror::open(self, list, &config, After::Nothing)?;
        let wanted = (revision != 0).then_some(revision);
        Ok(Pages { mirror, wanted, revision: None, lists: 0, begun: false, ended: false })
    }
}

impl Pages {
    /// The next page, which is never empty; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Pairs, PagesError>> {
        poll_fn(|cx| self.poll_page(cx)).await
    }

    /// The next page, which is never empty; `Ok(None)` after the last.
    ///
    /// # Errors
    /// Why it can't go on, once.
    pub async fn try_next(&mut self) -> Result<Option<Pairs>, PagesError> {
        self.next().await.transpose()
    }

    /// All pairs that were not taken yet, in order, and their revision. They are all held in memory, which they share with the pages that they
    /// came in. If the revision is compacted meanwhile reading begins again, unless [a revision](GetAll::revision) was
    /// asked for.
    ///
    /// # Errors
    /// Why they can't be read; [`PagesError::Interrupted`] only if a page had been taken before, or a revision was asked
    /// for.
    pub async fn collect(mut self) -> Result<(i64, Vec<OwnedKeyValue>), PagesError> {
        let had_begun = self.begun;
        let mut kvs = Vec::new();
        loop {
            // Nothing of it was handed out to anybody who could not forget it.
            self.begun = had_begun;
            let before = self.lists;
            let page = self.try_next().await?;
            if self.lists != before {
                kvs.clear();
            }
            match page {
                Some(page) => kvs.extend(page.iter().map(|kv| kv.to_owned())),
                None => return Ok((self.revision.unwrap_or_default(), kvs)),
            }
        }
    }

    /// The revision that all pages are of; `None` before it is known. It is that of the last page that was handed out, and
    /// after that of all.
    #[must_use]
    pub fn revision(&self) -> Option<i64> {
        self.revision
    }

    /// How far it has come: for a progress bar. `None` before the first page.
    #[must_use]
    pub fn progress(&self) -> Option<ListProgress> {
        self.mirror.list_progress()
    }

    fn poll_page(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Pairs, PagesError>>> {
        while !self.ended {
            match ready!(self.mirror.poll_take(cx)) {
                Some(Ok(MirrorEvent::Listing { revision, reason })) => {
                    if let Some(error) = self.interrupted(revision, reason) {
                        return Poll::Ready(self.end(error));
                    }
                    self.revision = Some(revision);
                    self.lists += 1;
                }
                Some(Ok(MirrorEvent::Snapshot(part))) => {
                    if !part.puts().is_empty() {
                        self.begun = true;
                        return Poll::Ready(Some(Ok(part.puts().clone())));
                    }
                }
                Some(Err(error)) => return Poll::Ready(self.end(PagesError::Ended(error.into_reason()))),
                // The list is complete, and nothing else comes before that.
                Some(Ok(_)) | None => {
                    self.ended = true;
                    self.mirror.cancel();
                }
            }
        }
        Poll::Ready(None)
    }

    /// What a list that begins at this revision means for the reader, if that can't go on with it.
    fn interrupted(&self, newest: i64, reason: ListReason) -> Option<PagesError> {
        match (self.revision, self.wanted) {
            (Some(revision), wanted) if self.begun || wanted.is_some() => {
                Some(PagesError::Interrupted { revision, reason })
            }
            (None, Some(revision)) => match reason {
                ListReason::First => None,
                ListReason::Compacted => Some(PagesError::Compacted { revision }),
                _ => Some(PagesError::NotReached { revision, newest }),
            },
            _ => None,
        }
    }

    fn end(&mut self, error: PagesError) -> Option<Result<Pairs, PagesError>> {
        self.ended = true;
        self.mirror.cancel();
        Some(Err(error))
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages")
            .field("revision", &self.revision)
            .field("progress", &self.progress())
            .finish_non_exhaustive()
    }
}

impl Stream for Pages {
    type Item = Result<Pairs, PagesError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_page(cx)
    }
}

impl FusedStream for Pages {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

//! What a mirror is asked for ([`MirrorRequest`]), what it asks of its driver ([`MirrorAction`]), and what
//! the driver brings back ([`Page`]).

use alloc::{string::String, sync::Arc};
use core::fmt;

use crate::{
    Checkpoint, EndpointHint, KeyRange, Overflow, RequestError, StreamOptions, WatchRequest,
    config::{BYTES, BYTES_ALLOWED},
    mirror::Pairs,
};

/// A mirror to make.
///
/// ```
/// use etcd_watch_core::{KeyRange, MirrorRequest};
///
/// let request = MirrorRequest::new(KeyRange::prefix("services/")).page_bytes(1 << 20).prev_kv(true);
/// assert!(request.validate().is_ok());
/// assert!(MirrorRequest::new(KeyRange::all()).page_bytes(0).validate().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct MirrorRequest {
    pub(super) range: KeyRange,
    pub(super) page_bytes: Option<usize>,
    pub(super) keys_only: bool,
    pub(super) keep_index: bool,
    pub(super) max_keys: u64,
    pub(super) list_revision: i64,
    pub(super) resume: Option<Checkpoint>,
    pub(super) prev_kv: bool,
    pub(super) overflow: Option<Overflow>,
    pub(super) buffer_bytes: Option<usize>,
    pub(super) stream: Arc<StreamOptions>,
    pub(super) own_stream: bool,
}

impl MirrorRequest {
    /// The most keys that a mirror may have by default, 134,217,728: more than an etcd of 8 GiB has room for, the largest
    /// quota that etcd suggests.
    pub const MAX_KEYS: u64 = 1 << 27;

    /// A mirror of a key or a range, with every option at its default.
    pub fn new(range: impl Into<KeyRange>) -> Self {
        Self {
            range: range.into(),
            page_bytes: None,
            keys_only: false,
            keep_index: true,
            max_keys: Self::MAX_KEYS,
            list_revision: 0,
            resume: None,
            prev_kv: false,
            overflow: None,
            buffer_bytes: None,
            stream: Arc::default(),
            own_stream: false,
        }
    }

    /// The size in bytes that the list's pages are to have. Default: the
    /// [`WatchConfig`](crate::WatchConfig::page_bytes)'s.
    pub fn page_bytes(mut self, bytes: usize) -> Self {
        self.page_bytes = Some(bytes);
        self
    }

    /// List keys without their values. Default: off. A watch can't leave values out: those of
    /// [`Changes`](crate::MirrorEvent::Changes) come all the same.
    pub fn keys_only(mut self, on: bool) -> Self {
        self.keys_only = on;
        self
    }

    /// Keep an index of what was handed out, so that listing again yields the difference. Default: on. It
    /// takes about 80 bytes and the key's own length for each key; values are never kept.
    ///
    /// Off is for a consumer that holds the keys itself, in order: see
    /// [`SnapshotPart`](crate::SnapshotPart) for what it then does with one.
    pub fn keep_index(mut self, on: bool) -> Self {
        self.keep_index = on;
        self
    }

    /// The most keys that a list may bring, and an [index](Self::keep_index) may have. A mirror that would have more ends
    /// with [`TooManyKeys`](crate::CloseReason::TooManyKeys), so that what it takes has a limit whatever a server says.
    /// Default: [`MAX_KEYS`](Self::MAX_KEYS).
    pub fn max_keys(mut self, keys: u64) -> Self {
        self.max_keys = keys;
        self
    }

    /// The revision of the first list, after which the changes follow as always. Default: 0, the newest. A list at an older
    /// one can't be read if that was compacted. The keys are then listed at the newest revision, and the
    /// [`Listing`](crate::MirrorEvent::Listing) says so: its reason is [`Compacted`](crate::ListReason::Compacted), or
    /// [`Interrupted`](crate::ListReason::Interrupted) if no member has come to the revision within the deadline for
    /// members that lag. A mirror that [resumes](Self::resume) begins without a list, and has no use for it.
    pub fn list_revision(mut self, revision: i64) -> Self {
        self.list_revision = revision;
        self
    }

    /// Begin with the changes since a [checkpoint](crate::Mirror::checkpoint) rather than with a list: for a consumer that
    /// has kept what it had folded until then. The first event may then be `Changes` or `Synced`. The keys are listed
    /// if the history since then is compacted, or is another store's. Default: list first.
    ///
    /// What was handed out before is not known, so it takes [`keep_index(false)`](Self::keep_index).
    pub fn resume(mut self, checkpoint: impl Into<Option<Checkpoint>>) -> Self {
        self.resume = checkpoint.into();
        self
    }

    /// Send the previous key-value pair with each change that is watched. Default: off.
    pub fn prev_kv(mut self, on: bool) -> Self {
        self.prev_kv = on;
        self
    }

    /// What the watch is to do when the consumer is too slow. Default: the [`WatchConfig`](crate::WatchConfig)'s. With
    /// [`Fail`](Overflow::Fail), a consumer that lags has the keys listed again.
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.overflow = Some(policy);
        self
    }

    /// How many bytes of changes may wait for the consumer. Default: the [`WatchConfig`](crate::WatchConfig)'s.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = Some(bytes);
        self
    }

    /// The stream the watch travels on; the lists carry the same metadata. Default: the one shared by all
    /// watches without options of their own.
    pub fn stream_options(mut self, options: StreamOptions) -> Self {
        self.stream = Arc::new(options);
        self
    }

    /// Adds request metadata to the stream options, see [`WatchRequest::more_metadata`].
    pub fn more_metadata(mut self, metadata: impl IntoIterator<Item = (String, String)>) -> Self {
        Arc::make_mut(&mut self.stream).add_missing(metadata);
        self
    }

    /// Watch on a gRPC stream of its own, see [`WatchRequest::own_stream`]. Default: off.
    pub fn own_stream(mut self, on: bool) -> Self {
        self.own_stream = on;
        self
    }

    /// The keys mirrored.
    #[must_use]
    pub fn range(&self) -> &KeyRange {
        &self.range
    }

    /// Checks what the types can't: [`Mirror::new`](crate::Mirror::new) does so too.
    ///
    /// # Errors
    /// Pages of no size or of more than `isize::MAX` bytes, a list at a revision below 0, a checkpoint together with an index, and whatever the
    /// [watch](WatchRequest::validate) would be refused for.
    pub fn validate(&self) -> Result<(), RequestError> {
        if let Some(value) = self.page_bytes.filter(|bytes| !BYTES.contains(bytes)) {
            return Err(RequestError::OutOfRange { field: "page_bytes", value, allowed: BYTES_ALLOWED });
        }
        if self.list_revision < 0 {
            return Err(RequestError::NegativeListRevision { revision: self.list_revision });
        }
        if self.resume.is_some() && self.keep_index {
            return Err(RequestError::ResumedIndex);
        }
        self.watch().validate()
    }

    /// The watch that follows a list, but for where it starts.
    pub(super) fn watch(&self) -> WatchRequest {
        let mut watch = WatchRequest::new(self.range.clone())
            .prev_kv(self.prev_kv)
            .progress_notify(true)
            .stream_options((*self.stream).clone())
            .own_stream(self.own_stream);
        watch.overflow = self.overflow;
        watch.buffer_bytes = self.buffer_bytes;
        watch
    }
}

impl<R: Into<KeyRange>> From<R> for MirrorRequest {
    fn from(range: R) -> Self {
        Self::new(range)
    }
}

/// One thing for the driver of a [`Mirror`](crate::Mirror) to do. The enum is exhaustive, so that a driver that misses
/// one doesn't compile.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver that misses an action must not compile")]
pub enum MirrorAction {
    /// List one page, then say `handle_page`, whatever came of it. One is under way at a time.
    ///
    /// Where the request says that [a stream](ListRequest::may_stream) may bring it, a driver that has
    /// `KV.RangeStream` may read all that is left of the list by one instead, and say `handle_chunk` for each message
    /// and for the end.
    List {
        /// The list's key, for the answer.
        list: ListKey,
        /// What to list.
        request: ListRequest,
    },
    /// Reset the stream that this list is read by, if it is, and forget it: nothing more of it is wanted. A driver that
    /// answers with pages alone has nothing to do.
    CloseList {
        /// The list's key.
        list: ListKey,
    },
    /// Open this watch, and from now on hand what it delivers to `handle_delivery`, its end too, whenever
    /// `wants_delivery` says so. A driver whose `Watcher` refuses it says
    /// `handle_delivery(Delivery::Closed(..))` with the reason.
    Watch(WatchRequest),
    /// Cancel the watch and forget it: nothing it still has is wanted.
    Cancel,
    /// Ask for the watch's progress ([`Watcher::request_progress`](crate::Watcher::request_progress)).
    RequestProgress,
}

/// What the mirror asked its driver to list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListKey(pub(super) u64);

impl fmt::Debug for ListKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "list {}", self.0)
    }
}

/// A page to list: a linearizable etcd `Range`, ascending by key, as the server does it when no order is
/// asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRequest {
    /// The keys: what is left of the mirror's range. For a page after the first it starts right behind the
    /// last key of the page before.
    pub range: KeyRange,
    /// The revision to read at; 0 for the current one, which the answer's header then tells.
    pub revision: i64,
    /// The most keys to return with a page. A stream has no limit.
    pub limit: usize,
    /// The size in bytes over which a page, or a message of a stream, is too large: so it is to be refused, before it is
    /// received, with [`ResponseTooLarge`](crate::Failure::ResponseTooLarge). `usize::MAX` where only the driver's own
    /// limit counts.
    pub max_bytes: usize,
    /// Leave the values out.
    pub keys_only: bool,
    /// Whether a stream may bring it, **on the very connection that brought the list's last page**, whose member has just
    /// shown that it is of the right cluster and has the revision: the messages of a stream say neither. On any other
    /// connection, or where the member has no `RangeStream` (`Unimplemented`), answer with a page.
    pub may_stream: bool,
    /// Metadata to send along.
    pub options: Arc<StreamOptions>,
    /// Which endpoint to ask.
    pub endpoint: EndpointHint,
    /// Get a new auth token first: the last one was refused.
    pub fresh_token: bool,
}

/// The answer to [`MirrorAction::List`], or one message of it: the fields of etcd's `RangeResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The store's revision, by the response header; 0 where a proxy left it out, and in all messages of a stream but one.
    pub revision: i64,
    /// The cluster's id, by the response header; 0 where a proxy left it out, and in all messages of a stream but one.
    pub cluster_id: u64,
    /// Whether there are more keys than were returned.
    pub more: bool,
    /// How many keys the range that was asked for has, whatever the limit was; 0 where a proxy left it out.
    pub count: i64,
    /// The pairs, ascending by key.
    pub kvs: Pairs,
}

/// How far the list has come that is being handed out: for a progress bar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListProgress {
    /// How many keys have been listed.
    pub keys: u64,
    /// How many keys there are; `None` until the first page has told, and where a proxy keeps it to itself.
    pub total: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OwnedKeyValue;

    #[test]
    fn what_is_logged_of_a_page_is_short_and_no_value() {
        let kv = OwnedKeyValue {
            key: "k1".into(),
            value: "secret".into(),
            mod_revision: 3,
            ..OwnedKeyValue::default()
        };
        let page = Page { revision: 9, kvs: Pairs::copied([&kv]).unwrap(), ..Page::default() };
        let text = alloc::format!("{:?}: {page:?}", ListKey(4));
        assert!(text.starts_with("list 4: ") && text.contains(r#""k1"@3 (6 bytes)"#), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}

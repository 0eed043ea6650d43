//! What the application asks for ([`WatchRequest`]) and what goes on the wire for it ([`Request`]).

use alloc::{string::String, vec::Vec};
use bytes::Bytes;

use crate::error::RequestError;

/// The keys a watch covers.
///
/// etcd's own encoding is `(key, range_end)`; the constructors build it for the usual cases.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    key: Bytes,
    range_end: Bytes,
}

impl KeyRange {
    /// One key. The empty key stands for `\0`, the smallest key, as it does on the server.
    #[must_use]
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self { key: or_smallest(key.into()), range_end: Bytes::new() }
    }

    /// Every key that starts with `prefix`; the empty prefix is every key.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let prefix = prefix.into();
        let range_end = prefix_end(&prefix);
        Self { key: or_smallest(prefix), range_end }
    }

    /// Every key from `key` on.
    #[must_use]
    pub fn from_key(key: impl Into<Bytes>) -> Self {
        Self { key: or_smallest(key.into()), range_end: Bytes::from_static(b"\0") }
    }

    /// Every key there is.
    #[must_use]
    pub fn all() -> Self {
        Self::from_key(Bytes::new())
    }

    /// The keys from `start` up to but without `end`.
    ///
    /// # Errors
    /// [`RequestError::EmptyRange`] when `end` is not above `start`: such a watch never sees anything.
    pub fn range(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Result<Self, RequestError> {
        let (key, range_end) = (or_smallest(start.into()), end.into());
        if range_end.is_empty() || (range_end != b"\0"[..] && range_end <= key) {
            return Err(RequestError::EmptyRange { start: key, end: range_end });
        }
        Ok(Self { key, range_end })
    }

    /// The first key, as on the wire.
    #[must_use]
    pub fn start(&self) -> &Bytes {
        &self.key
    }

    /// The end, as on the wire: empty for one key, `\0` for "from the key on".
    #[must_use]
    pub fn end(&self) -> &Bytes {
        &self.range_end
    }

    /// The range for what is kept under a prefix: as if every key began with it, and no other were there.
    #[must_use]
    pub fn within(&self, prefix: &[u8]) -> Self {
        let prefixed = |key: &[u8]| Bytes::from([prefix, key].concat());
        let range_end = match &self.range_end[..] {
            b"" => Bytes::new(),
            b"\0" => prefix_end(prefix),
            end => prefixed(end),
        };
        Self { key: or_smallest(prefixed(&self.key)), range_end }
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.range_end.is_empty() {
            return self.key == key;
        }
        key >= &self.key[..] && (self.range_end == b"\0"[..] || key < &self.range_end[..])
    }
}

fn or_smallest(key: Bytes) -> Bytes {
    if key.is_empty() { Bytes::from_static(b"\0") } else { key }
}

/// The first key above every key with this prefix: the last byte that can be raised is, and what
/// follows it is cut off; where none can be, there is no end.
fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|&byte| byte != u8::MAX) {
        Some(at) => {
            let mut end = prefix[..=at].to_vec();
            end[at] += 1;
            end.into()
        }
        None => Bytes::from_static(b"\0"),
    }
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StartAt {
    /// With the first change after the watch was asked for.
    #[default]
    Now,
    /// With the changes of this revision; it may lie in the past or in the future.
    Revision(i64),
}

/// What to do with a watch whose consumer is so slow that its buffer is full
/// ([`buffer_bytes`](WatchRequest::buffer_bytes)), or that all buffers together are
/// ([`Config::total_buffer_bytes`](crate::Config::total_buffer_bytes)).
///
/// A response that is the only one to wait is always kept, whatever its size: so every consumer gets on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// Cancel the watch on the server, and re-create it at the next revision once the consumer has
    /// emptied its buffer: etcd's own history is the buffer. Nothing is lost unless that history is
    /// compacted meanwhile, which the watch then reports.
    ///
    /// The response that would cross the line is not kept: it comes again. If all buffers together are full, what
    /// waits for the consumer that has taken nothing for longest is dropped, and comes again when that consumer asks
    /// for it.
    #[default]
    Replay,
    /// Keep the response that crosses the line, and don't read the gRPC stream until there is room. Nothing is
    /// dropped, but every other watch on the stream is held up: give the watch a
    /// [stream of its own](WatchRequest::own_stream). If the stream breaks meanwhile, the watch is re-created as with
    /// `Replay`.
    Pause,
    /// End the watch with [`Lagged`](crate::CloseReason::Lagged), after what is buffered. The response that would cross
    /// the line is not kept. If all buffers together are full, what is buffered for the consumer that has taken nothing
    /// for longest is dropped. `Lagged::next_revision` says in all cases where to go on.
    Fail,
}

/// Which kinds of event the server leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filters {
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletes.
    pub no_delete: bool,
}

/// The gRPC stream a watch may share: watches with equal options travel together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamOptions {
    /// Ask the server to end the stream when its member loses the leader (metadata `hasleader: true`).
    /// On by default: without it a partitioned member keeps its watches in silence.
    pub require_leader: bool,
    /// More request metadata, as header name and ASCII value.
    pub metadata: Vec<(String, String)>,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { require_leader: true, metadata: Vec::new() }
    }
}

/// A watch to open.
///
/// ```
/// use etcd_watch_core::{KeyRange, WatchRequest};
///
/// let request = WatchRequest::new(KeyRange::prefix("services/")).start_revision(17).prev_kv(true);
/// assert!(request.validate().is_ok());
/// assert!(WatchRequest::new(KeyRange::key("a")).start_revision(-3).validate().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct WatchRequest {
    pub(crate) range: KeyRange,
    pub(crate) start: StartAt,
    /// The cluster and the highest revision that are known from before; 0 for not.
    pub(crate) known: (u64, i64),
    pub(crate) prev_kv: bool,
    pub(crate) filters: Filters,
    pub(crate) progress_notify: bool,
    pub(crate) created_notify: bool,
    pub(crate) fragment: bool,
    pub(crate) overflow: Option<Overflow>,
    pub(crate) buffer_bytes: Option<usize>,
    pub(crate) stream: StreamOptions,
    pub(crate) own_stream: bool,
}

impl WatchRequest {
    /// A watch on `range`, from now on, with every other option at its default.
    pub fn new(range: KeyRange) -> Self {
        Self {
            range,
            start: StartAt::Now,
            known: (0, 0),
            prev_kv: false,
            filters: Filters::default(),
            progress_notify: false,
            created_notify: false,
            fragment: true,
            overflow: None,
            buffer_bytes: None,
            stream: StreamOptions::default(),
            own_stream: false,
        }
    }

    /// The same watch on what is kept under a prefix, see [`KeyRange::within`]. What it delivers has the whole
    /// keys: [`WatchResponse::without_key_prefix`](crate::WatchResponse::without_key_prefix).
    pub fn within(mut self, prefix: &[u8]) -> Self {
        self.range = self.range.within(prefix);
        self
    }

    /// Begin at `revision` rather than now. 0 means now, as on the wire.
    pub fn start_revision(mut self, revision: i64) -> Self {
        self.start = if revision == 0 { StartAt::Now } else { StartAt::Revision(revision) };
        self
    }

    /// What is known of the store from before, by the header of a response: the cluster's id and the highest
    /// revision seen; 0 for one that is not known. Should another cluster answer, or the store be behind
    /// that, the watch ends with [`StoreChanged`](crate::CloseReason::StoreChanged) or
    /// [`StoreRegressed`](crate::CloseReason::StoreRegressed) rather than wait in silence for a revision of a
    /// history that is gone. For watches with a start revision; one from now learns it by itself. Default:
    /// nothing.
    pub fn known_store(mut self, cluster_id: u64, revision: i64) -> Self {
        self.known = (cluster_id, revision);
        self
    }

    /// Send the previous key-value pair with each event. Default: off.
    pub fn prev_kv(mut self, on: bool) -> Self {
        self.prev_kv = on;
        self
    }

    /// Leave out puts or deletes. Default: neither.
    pub fn filters(mut self, filters: Filters) -> Self {
        self.filters = filters;
        self
    }

    /// Deliver progress notifications to the consumer. Default: off. (On the wire they are always asked
    /// for: they keep the resume point of a quiet watch fresh.)
    pub fn progress_notify(mut self, on: bool) -> Self {
        self.progress_notify = on;
        self
    }

    /// Deliver one response when the watch has first been created on a server. Default: off.
    pub fn created_notify(mut self, on: bool) -> Self {
        self.created_notify = on;
        self
    }

    /// Let the server split large responses. Default: on. A consumer never sees the difference: the
    /// events of one revision are put together again.
    pub fn fragment(mut self, on: bool) -> Self {
        self.fragment = on;
        self
    }

    /// What to do when the consumer is too slow. Default: the [`Config`](crate::Config)'s.
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.overflow = Some(policy);
        self
    }

    /// How many bytes may wait for the consumer. Default: the
    /// [`Config`](crate::Config::buffer_bytes)'s.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = Some(bytes);
        self
    }

    /// The stream to travel on. Default: the one shared by all watches without options of their own.
    pub fn stream_options(mut self, options: StreamOptions) -> Self {
        self.stream = options;
        self
    }

    /// Travel on a gRPC stream of its own, which no other watch shares, so that [`Overflow::Pause`] holds up nobody
    /// else. When the watch has ended, the stream goes away at once. It doesn't
    /// count for [`Config::streams`](crate::Config::streams). Each such watch costs a connection. Default: off.
    pub fn own_stream(mut self, on: bool) -> Self {
        self.own_stream = on;
        self
    }

    /// The keys watched.
    #[must_use]
    pub fn range(&self) -> &KeyRange {
        &self.range
    }

    /// Where it begins.
    #[must_use]
    pub fn start_at(&self) -> StartAt {
        self.start
    }

    /// Checks what the types can't: [`Watcher::watch`](crate::Watcher::watch) does so too.
    ///
    /// # Errors
    /// A negative start revision, a buffer of 0 bytes, filters that leave out everything, or metadata
    /// that is no valid header.
    pub fn validate(&self) -> Result<(), RequestError> {
        if let StartAt::Revision(revision) = self.start
            && revision.is_negative()
        {
            return Err(RequestError::NegativeRevision { revision });
        }
        if self.buffer_bytes == Some(0) {
            return Err(RequestError::ZeroBuffer);
        }
        if self.filters.no_put && self.filters.no_delete {
            return Err(RequestError::NothingLeft);
        }
        for (name, value) in &self.stream.metadata {
            let name_ok = !name.is_empty()
                && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
                && !name.ends_with("-bin")
                && !name.starts_with("grpc-");
            if !name_ok || !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
                return Err(RequestError::Metadata { name: name.clone() });
            }
        }
        Ok(())
    }
}

/// What to send on a watch stream: the three requests of etcd's `WatchRequest` message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "these are all the requests of etcd's watch stream, and a driver that encodes them itself must not miss one"
)]
pub enum Request {
    /// Create a watch.
    Create(CreateRequest),
    /// Cancel the watch with this id.
    Cancel {
        /// The server's id of the watch.
        watch_id: i64,
    },
    /// Ask for a progress notification for the whole stream.
    Progress,
}

/// The fields of etcd's `WatchCreateRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest {
    /// The keys watched.
    pub range: KeyRange,
    /// The first revision wanted. 0, which is "now" to a server, only in a probe, whose watch is nobody's.
    pub start_revision: i64,
    /// Send a notification now and then when there are no events.
    pub progress_notify: bool,
    /// Kinds of event left out.
    pub filters: Filters,
    /// Send previous key-value pairs.
    pub prev_kv: bool,
    /// The id chosen for the watch; 0 lets the server choose.
    pub watch_id: i64,
    /// Allow responses to be split.
    pub fragment: bool,
}

impl CreateRequest {
    /// Whether it only asks for a sign of life: the watch sees nothing, and is cancelled once it is there.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.start_revision == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_its_last_byte_raised() {
        assert_eq!(KeyRange::prefix("ab").end(), &b"ac"[..]);
        assert_eq!(KeyRange::prefix(&b"a\xff\xff"[..]).end(), &b"b"[..]);
        assert_eq!(KeyRange::prefix(&b"\xff\xff"[..]).end(), &b"\0"[..]);
        assert_eq!(KeyRange::prefix("").start(), &b"\0"[..]);
        assert_eq!(KeyRange::prefix(""), KeyRange::all());
    }

    #[test]
    fn a_range_under_a_prefix_does_not_leave_it() {
        let within = |range: KeyRange| {
            let range = range.within(b"n/");
            (range.start().clone(), range.end().clone())
        };
        assert_eq!(within(KeyRange::key("a")), ("n/a".into(), "".into()));
        assert_eq!(within(KeyRange::prefix("a")), ("n/a".into(), "n/b".into()));
        assert_eq!(within(KeyRange::all()), ("n/\0".into(), "n0".into()));
        assert_eq!(within(KeyRange::prefix(&b"\xff"[..])), (Bytes::from_static(b"n/\xff"), "n0".into()));
    }

    #[test]
    fn an_inverted_or_empty_range_is_refused() {
        assert!(matches!(KeyRange::range("b", "a"), Err(RequestError::EmptyRange { .. })));
        assert!(matches!(KeyRange::range("a", "a"), Err(RequestError::EmptyRange { .. })));
        assert!(matches!(KeyRange::range("a", ""), Err(RequestError::EmptyRange { .. })));
        assert!(KeyRange::range("a", &b"\0"[..]).is_ok());
    }

    #[test]
    fn a_range_contains_what_the_server_would_send() {
        assert!(KeyRange::key("a").contains(b"a") && !KeyRange::key("a").contains(b"aa"));
        assert!(KeyRange::from_key("b").contains(b"c") && !KeyRange::from_key("b").contains(b"a"));
        assert!(KeyRange::all().contains(b"\0"));
        let range = KeyRange::range("b", "d").unwrap();
        assert!(range.contains(b"c") && !range.contains(b"d") && !range.contains(b"a"));
    }

    #[test]
    fn bad_requests_name_the_field() {
        let request = || WatchRequest::new(KeyRange::key("a"));
        assert!(request().start_revision(-1).validate().is_err());
        assert!(request().start_revision(0).validate().is_ok());
        assert_eq!(request().start_revision(7).start_at(), StartAt::Revision(7));
        assert!(request().filters(Filters { no_put: true, no_delete: false }).validate().is_ok());
        assert!(request().filters(Filters { no_put: false, no_delete: true }).validate().is_ok());
        assert!(request().buffer_bytes(0).validate().is_err());
        assert!(request().filters(Filters { no_put: true, no_delete: true }).validate().is_err());
        let metadata = |name: &str, value: &str| StreamOptions {
            metadata: alloc::vec![(name.into(), value.into())],
            ..StreamOptions::default()
        };
        assert!(request().stream_options(metadata("Bad Name", "x")).validate().is_err());
        assert!(request().stream_options(metadata("ok", "line\nbreak")).validate().is_err());
        assert!(request().stream_options(metadata("ok", "fine")).validate().is_ok());
    }
}

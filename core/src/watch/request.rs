//! What the application asks for ([`WatchRequest`]) and what goes on the wire for it ([`Request`]).

use alloc::{string::String, vec::Vec};
use core::fmt;

use crate::{
    Checkpoint, KeyRange,
    config::{BYTES, BYTES_ALLOWED},
    error::RequestError,
};

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
/// ([`WatchConfig::total_buffer_bytes`](crate::WatchConfig::total_buffer_bytes)).
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

/// The gRPC stream a watch may share: watches with equal options travel together. `Debug` shows the names of metadata, and
/// not their values, which may be secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamOptions {
    /// Ask the server to end the stream when its member loses the leader (metadata `hasleader: true`).
    /// On by default: without it a partitioned member keeps its watches in silence.
    pub require_leader: bool,
    /// More request metadata, as header name and ASCII value. The name `token` is that of an auth token, which takes the
    /// place of the client's.
    pub metadata: Vec<(String, String)>,
}

impl StreamOptions {
    /// Adds metadata whose names are not there yet.
    pub(crate) fn add_missing(&mut self, metadata: impl IntoIterator<Item = (String, String)>) {
        let before = self.metadata.len();
        for (name, value) in metadata {
            if !self.metadata[..before].iter().any(|(there, _)| *there == name) {
                self.metadata.push((name, value));
            }
        }
    }
}

impl fmt::Debug for StreamOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.metadata.iter().map(|(name, _)| &name[..]).collect();
        f.debug_struct("StreamOptions")
            .field("require_leader", &self.require_leader)
            .field("metadata", &names)
            .finish()
    }
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
    /// A watch on a key or a range, from now on, with every other option at its default.
    pub fn new(range: impl Into<KeyRange>) -> Self {
        Self {
            range: range.into(),
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

    /// Begin where an earlier watch or a read has left off, and notice a store that was replaced or restored since then:
    /// [`start_revision`](Self::start_revision) and [`known_store`](Self::known_store) in one.
    pub fn resume(self, checkpoint: Checkpoint) -> Self {
        let next = checkpoint.next_revision();
        self.start_revision(next).known_store(checkpoint.cluster_id(), next - 1)
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

    /// Deliver one response when the watch has first been created on a server. Default: off. With it a program that
    /// stores [checkpoints](crate::Checkpoint) has one before the first event.
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

    /// What to do when the consumer is too slow. Default: the [`WatchConfig`](crate::WatchConfig)'s.
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.overflow = Some(policy);
        self
    }

    /// How many bytes may wait for the consumer. Default: the
    /// [`WatchConfig`](crate::WatchConfig::buffer_bytes)'s.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = Some(bytes);
        self
    }

    /// The stream to travel on. Default: the one shared by all watches without options of their own.
    pub fn stream_options(mut self, options: StreamOptions) -> Self {
        self.stream = options;
        self
    }

    /// Adds request metadata to the [stream options](Self::stream_options), for a program that has some for all of its
    /// watches. A name that the options have already keeps the values it has there.
    pub fn more_metadata(mut self, metadata: impl IntoIterator<Item = (String, String)>) -> Self {
        self.stream.add_missing(metadata);
        self
    }

    /// Travel on a gRPC stream of its own, which no other watch shares, so that [`Overflow::Pause`] holds up nobody
    /// else. When the watch has ended, the stream goes away at once. It doesn't
    /// count for [`WatchConfig::streams`](crate::WatchConfig::streams). Each such watch costs a connection. Default: off.
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
    /// An empty key, a negative start revision, a buffer that is out of range, filters that leave out everything, or
    /// metadata that is no valid header.
    pub fn validate(&self) -> Result<(), RequestError> {
        self.range.validate()?;
        if let StartAt::Revision(revision) = self.start
            && revision.is_negative()
        {
            return Err(RequestError::NegativeRevision { revision });
        }
        if let Some(value) = self.buffer_bytes.filter(|bytes| !BYTES.contains(bytes)) {
            return Err(RequestError::OutOfRange { field: "buffer_bytes", value, allowed: BYTES_ALLOWED });
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

/// A watch from now on.
impl<R: Into<KeyRange>> From<R> for WatchRequest {
    fn from(range: R) -> Self {
        Self::new(range)
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
    fn bad_requests_name_the_field() {
        let request = || WatchRequest::new(KeyRange::key("a"));
        assert!(request().start_revision(-1).validate().is_err());
        assert!(request().start_revision(0).validate().is_ok());
        assert_eq!(request().start_revision(7).start_at(), StartAt::Revision(7));
        assert!(request().filters(Filters { no_put: true, no_delete: false }).validate().is_ok());
        assert!(request().filters(Filters { no_put: false, no_delete: true }).validate().is_ok());
        assert!(request().buffer_bytes(0).validate().is_err());
        assert_eq!(WatchRequest::from("").validate(), Err(RequestError::EmptyKey));
        assert!(request().filters(Filters { no_put: true, no_delete: true }).validate().is_err());
        let metadata = |name: &str, value: &str| StreamOptions {
            metadata: alloc::vec![(name.into(), value.into())],
            ..StreamOptions::default()
        };
        assert!(request().stream_options(metadata("Bad Name", "x")).validate().is_err());
        assert!(request().stream_options(metadata("ok", "line\nbreak")).validate().is_err());
        assert!(request().stream_options(metadata("ok", "fine")).validate().is_ok());
    }

    #[test]
    fn metadata_are_added_where_they_are_missing_and_their_values_are_not_shown() {
        let pair = |name: &str, value: &str| (String::from(name), String::from(value));
        let own = StreamOptions {
            metadata: alloc::vec![pair("tenant", "secret-1"), pair("tenant", "secret-2")],
            ..StreamOptions::default()
        };
        let request = WatchRequest::new("a").stream_options(own);
        let request = request.more_metadata([pair("tenant", "secret-3"), pair("zone", "secret-4")]);
        let expected = [pair("tenant", "secret-1"), pair("tenant", "secret-2"), pair("zone", "secret-4")];
        assert_eq!(request.stream.metadata, expected);
        let shown = alloc::format!("{request:?}");
        assert!(shown.contains("tenant") && !shown.contains("secret"), "{shown}");
    }
}

//! Errors, told apart by whose fault they are: the caller's ([`ApiMisuse`], [`RequestError`],
//! [`ConfigError`]), the server's ([`ServerMisbehaved`]), or nobody's (why a watch closed,
//! [`CloseReason`]).

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
};
use bytes::Bytes;

use crate::{KeyRange, StreamKey, WatchKey};

/// A watch request that can't be served. Fix the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The key is empty, which no key is.
    #[error(
        "the key is empty: give at least one byte, or say KeyRange::all() or KeyRange::from_key(..) for many keys"
    )]
    EmptyKey,
    /// The range holds no key.
    #[error(
        "the range from {start:?} to {end:?} is empty: `end` must be above `start` (for one key use `KeyRange::key`)"
    )]
    EmptyRange {
        /// The first key.
        start: Bytes,
        /// The end given.
        end: Bytes,
    },
    /// The start revision is below 0.
    #[error("start_revision is {revision}: use a revision of 1 or more, or 0 for now")]
    NegativeRevision {
        /// The revision given.
        revision: i64,
    },
    /// The revision of a mirror's first list is below 0.
    #[error("list_revision is {revision}: use a revision of 1 or more, or 0 for the newest")]
    NegativeListRevision {
        /// The revision given.
        revision: i64,
    },
    /// A number is out of range.
    #[error("{field} is {value}: it must be {allowed}")]
    OutOfRange {
        /// The option.
        field: &'static str,
        /// Its value.
        value: usize,
        /// What it may be.
        allowed: &'static str,
    },
    /// The filters leave out puts and deletes.
    #[error("filters leave out both puts and deletes: such a watch never sees an event")]
    NothingLeft,
    /// A mirror that resumes doesn't know what it handed out before.
    #[error("a mirror that resumes has no index of what it handed out before: say keep_index(false)")]
    ResumedIndex,
    /// A metadata entry is no valid header.
    #[error(
        "stream metadata {name:?} is no valid header: names are lower-case ASCII without `grpc-` or `-bin`, values printable ASCII"
    )]
    Metadata {
        /// The entry's name (its value may be secret).
        name: String,
    },
}

/// A configuration that can't work. Fix the field named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A field is out of range.
    #[error("{field} is {value}: it must be {allowed}")]
    OutOfRange {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// Two fields contradict each other.
    #[error("{low} is above {high}: raise {high} or lower {low}")]
    Inverted {
        /// The field that must be the lower one.
        low: &'static str,
        /// The field that must be the higher one.
        high: &'static str,
    },
}

/// The caller used the machine wrongly. Fix the code that calls it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiMisuse {
    /// The watch was never opened, or its `Closed` has been taken.
    #[error("{0:?} is not open: it was never opened here, or its end has been delivered")]
    UnknownWatch(WatchKey),
    /// The machine has been shut down.
    #[error("the watcher has been shut down: no new watch can be opened")]
    ShutDown,
    /// The stream is not open: it is being opened, waits to be, or is gone.
    #[error(
        "{0:?} is not open: only a stream that was reported as opened, and has not ended since, can be moved"
    )]
    StreamNotOpen(StreamKey),
    /// The request can't be served.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The configuration can't work.
    #[error(transparent)]
    WatchConfig(#[from] ConfigError),
}

/// What a server did that etcd's protocol doesn't allow. The stream it happened on is replaced, and
/// no watch loses its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerMisbehaved {
    /// The frame's bytes are no `WatchResponse`.
    #[error("the frame is no WatchResponse: {0}")]
    Undecodable(#[from] crate::DecodeError),
    /// A response for a watch that was never created on the stream.
    #[error("a response for watch id {watch_id}, which was never created on this stream")]
    UnknownWatchId {
        /// The id in the response.
        watch_id: i64,
    },
    /// More responses for finished watches than a lawful server sends.
    #[error("more than {limit} responses for watches that had ended")]
    StaleFlood {
        /// The limit that was passed.
        limit: u32,
    },
    /// A `created` response that answers no request, or out of order.
    #[error("a created response for watch id {watch_id} that answers no pending request")]
    UnexpectedCreated {
        /// The id in the response.
        watch_id: i64,
    },
    /// A response at a revision, or compacted up to one, that no store has: below 0, or the largest number there is, after
    /// which no change could come.
    #[error("a response with revision {revision}, which no store has")]
    InvalidRevision {
        /// The revision.
        revision: i64,
    },
    /// An event without a key, at a revision that no change has, or that is neither a put nor a delete; or a put with a
    /// version below 0, or that was created below revision 1 or after its own revision.
    #[error("an event that no change of a key makes")]
    InvalidEvent,
    /// A fragment of a response that has no event.
    #[error("a fragment without events")]
    EmptyFragment,
    /// An event whose key lies outside the watch's range.
    #[error("an event for a key outside the range of watch id {watch_id}")]
    ForeignKey {
        /// The watch's id.
        watch_id: i64,
    },
    /// Revisions that run backwards within a response.
    #[error("revision {next} after {previous} within one response")]
    RevisionsBackwards {
        /// The revision before.
        previous: i64,
        /// The one that followed.
        next: i64,
    },
    /// The stream was open, requests were made, and nothing came back.
    #[error("no answer within {millis} ms")]
    Unresponsive {
        /// How long the machine waited, in milliseconds.
        millis: u64,
    },
}

/// Why a watch ended. Delivered exactly once, after everything else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The application cancelled it.
    #[error("the watch was cancelled")]
    Cancelled,
    /// The whole client was shut down.
    #[error("the client was shut down")]
    ShutDown,
    /// What drives the machine is gone without having been asked to end: the runtime of the client has shut down.
    #[error("the runtime that the client was built on has shut down")]
    RuntimeGone,
    /// The next revision has been compacted away: history has a gap. List the keys again and watch from
    /// the list's revision + 1.
    #[error(
        "revision {next_revision} is gone: the store is compacted up to {compact_revision}; list the keys again and watch from there"
    )]
    Compacted {
        /// What the server reported: the oldest revision that can still be watched.
        compact_revision: i64,
        /// The revision the watch would have gone on at.
        next_revision: i64,
    },
    /// The consumer was too slow, and the watch's policy is [`Fail`](crate::Overflow::Fail). What waited comes before
    /// this, unless it had to be dropped.
    #[error(
        "the consumer lagged: {queued_bytes} bytes were waiting; watch again from revision {next_revision}"
    )]
    Lagged {
        /// Bytes that were waiting when the watch ended.
        queued_bytes: usize,
        /// The revision to go on at: the one after what was delivered.
        next_revision: i64,
    },
    /// The user may not watch the range.
    #[error("permission denied: {message}")]
    PermissionDenied {
        /// The server's text.
        message: String,
    },
    /// The server does not know the user, or the password is wrong. Fix the credentials.
    #[error("authentication failed: {message}")]
    AuthenticationFailed {
        /// The server's text.
        message: String,
    },
    /// 8 new auth tokens in a row were refused, though the credentials they were got for were accepted: members
    /// that do not share their keys, or clocks that are far apart. Or there were no credentials to get one for,
    /// and the server wants a user. Or the application gave one token, which was refused 8 times, and no other in time.
    #[error("auth tokens were refused {tokens} times in a row; the server's last word: {message}")]
    TokenRefused {
        /// How many, for the stream or the read that the watch waited for.
        tokens: u32,
        /// The server's text.
        message: String,
    },
    /// The server refused the watch for good.
    #[error("the server refused the watch: {message}")]
    Refused {
        /// The server's text.
        message: String,
    },
    /// The server cancelled a running watch and said why.
    #[error("the server cancelled the watch: {message}")]
    CancelledByServer {
        /// The server's text.
        message: String,
    },
    /// The endpoint does not speak etcd's watch protocol.
    #[error("the endpoint has no etcd v3 watch service: {message}")]
    Unsupported {
        /// The endpoint's text.
        message: String,
    },
    /// One revision, or one response, is larger than the limit.
    #[error(
        "{what} of {bytes} bytes is over the limit of {limit}: raise the limit, or watch a smaller range"
    )]
    TooLarge {
        /// "a revision" or "a response".
        what: &'static str,
        /// Its size so far, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// A mirror can't list one of its keys: with its value it is larger than a response may be, by the driver's limit or
    /// by that of the endpoints that were asked.
    #[error("{}", one_key_is_too_large(.range, *.bytes, *.limit))]
    KeyTooLarge {
        /// The keys that were still to be listed; the first of them is the one.
        range: Box<KeyRange>,
        /// The size of a response with that key alone, in bytes; 0 if it was not told.
        bytes: usize,
        /// The limit, in bytes; 0 if it was not told.
        limit: usize,
    },
    /// A mirror has more keys than it may have.
    #[error("the range has more than {limit} keys: raise the mirror's max_keys, or mirror a smaller range")]
    TooManyKeys {
        /// The limit.
        limit: u64,
    },
    /// Another cluster answers at the endpoints: what was delivered is not this store's history.
    #[error("the store changed: cluster id {before:x} became {after:x}; list the keys again")]
    StoreChanged {
        /// The cluster id the watch was created on.
        before: u64,
        /// The one that answers now.
        after: u64,
    },
    /// The store is behind what it has already shown, and stayed there: it was restored from a backup.
    #[error("the store went back from revision {known} to {revision}; it was restored: list the keys again")]
    StoreRegressed {
        /// The highest revision seen.
        known: i64,
        /// The revision the store reports now.
        revision: i64,
    },
    /// No member had a leader for as long as the configuration allows.
    #[error("no member had a leader for {millis} ms")]
    NoLeader {
        /// How long, in milliseconds.
        millis: u64,
    },
    /// No endpoint answered for as long as the configuration allows.
    #[error("no endpoint answered for {millis} ms; the last failure: {last}")]
    Unreachable {
        /// How long, in milliseconds.
        millis: u64,
        /// The last failure.
        last: String,
    },
}

fn one_key_is_too_large(range: &KeyRange, bytes: usize, limit: usize) -> String {
    let key = match (range.start(), &range.end()[..]) {
        (key, b"") => format!("the key {key:?}"),
        (start, b"\0") => format!("the first key from {start:?} on"),
        (start, _) => format!("the first key from {start:?} up to {:?}", range.end()),
    };
    let sizes = match (bytes, limit) {
        (0, 0) => "over a limit (neither its size nor the limit was told)".to_string(),
        (0, _) => format!("over the limit of {limit} bytes (its size was not told)"),
        (_, 0) => format!("over a limit with its {bytes} bytes (the limit was not told)"),
        (_, _) => format!("over the limit of {limit} bytes with its {bytes}"),
    };
    format!("{key} is {sizes}: raise the limit of whoever set it, or mirror a range without this key")
}

/// Why a stream was closed by the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamEnd {
    /// It has no watches left.
    #[error("no watches left")]
    Idle,
    /// The server broke the protocol.
    #[error("the server misbehaved: {0}")]
    Misbehaved(#[from] ServerMisbehaved),
    /// The member can't serve watches now.
    #[error("the member is unavailable: {message}")]
    Unavailable {
        /// The server's text.
        message: String,
    },
    /// The member lags behind what another has shown.
    #[error("the member lags: it is at revision {revision}, {known} was seen")]
    Lagging {
        /// The member's revision.
        revision: i64,
        /// The highest seen elsewhere.
        known: i64,
    },
    /// A watch stays behind a change that the store has, though nothing keeps it from hearing of it: the proxy has
    /// lost it.
    #[error(
        "{watch:?} has heard nothing of revision {revision}, which the store has: the proxy has lost the watch"
    )]
    Deaf {
        /// The watch.
        watch: WatchKey,
        /// The revision of the change.
        revision: i64,
    },
    /// The server no longer accepts the stream's auth token.
    #[error("the auth token is no longer accepted")]
    TokenExpired,
    /// The driver asked for it to be opened anew.
    #[error("it moves to another connection")]
    Moved,
    /// The machine was shut down.
    #[error("the client was shut down")]
    ShutDown,
}

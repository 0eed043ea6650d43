//! What the machine asks of its driver, and what the driver tells it.

use alloc::sync::Arc;

use crate::{
    Overflow, RangeKey, Request, ServerVersion, StreamEnd, StreamKey, StreamOptions, WatchKey,
    wire::RevisionRequest,
};

/// One thing for the driver to do. The enum is exhaustive, so that a driver that misses one doesn't compile.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver that misses an action must not compile")]
pub enum Action {
    /// Open a gRPC watch stream, then say `handle_opened` or `handle_failed`.
    Open {
        /// The stream's key, for everything said about it from now on.
        stream: StreamKey,
        /// How to open it.
        options: Arc<StreamOptions>,
        /// Which endpoint to open it on.
        endpoint: EndpointHint,
        /// Get a new auth token first: the last one was refused.
        fresh_token: bool,
    },
    /// Send a request on an open stream. Requests go out in the order of their actions; the driver keeps
    /// what the network does not take yet, and must not stop reading meanwhile.
    Send {
        /// The stream.
        stream: StreamKey,
        /// What to send.
        request: Request,
        /// Whose watch a create is for, for the log; `None` for other requests.
        creates: Option<Creates>,
    },
    /// Reset the stream and forget it. Nothing is to be said about it any more.
    Close {
        /// The stream.
        stream: StreamKey,
        /// Why, for the log.
        reason: StreamEnd,
    },
    /// Read the store, then say `handle_range_done`. Watches "from now" begin at the revision that the read finds; that
    /// it is allowed at all tells a watch that was denied for its stream's old token from one that the user may not
    /// have; and whether it finds a key tells a watch that a proxy has lost from one whose keys are left alone.
    Range {
        /// The read's key.
        range: RangeKey,
        /// What to send.
        request: RevisionRequest,
        /// The options (metadata, user) of the watches it is for.
        options: Arc<StreamOptions>,
        /// Which endpoint to ask.
        endpoint: EndpointHint,
        /// Get a new auth token first: the last one was refused.
        fresh_token: bool,
    },
    /// The watch has something to take by [`next`](crate::Watcher::next). It is said once, and not again until `next`
    /// has returned `None`.
    ///
    /// The first call of `next` may return `None`: what waits for a consumer is dropped if the common budget
    /// ([`WatchConfig::total_buffer_bytes`](crate::WatchConfig::total_buffer_bytes)) needs the room. That call asks the server for
    /// it again, and `Deliver` is said again when it has come. So let the consumer call `next` however late it is, and
    /// wait for the next `Deliver` when there is nothing.
    Deliver {
        /// The watch.
        watch: WatchKey,
    },
    /// For the log: the watch's consumer was so slow that its buffer is full, or all buffers together are,
    /// and its policy applies. It is said once each time that happens, and not again while it lasts.
    Overflowed {
        /// The watch.
        watch: WatchKey,
        /// What is done about it.
        policy: Overflow,
        /// Bytes that waited for its consumer when that happened.
        queued_bytes: usize,
        /// The revision it goes on at: after what waits, or at the first event that was dropped.
        resume_revision: i64,
    },
}

/// The watch that a create request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Creates {
    /// The watch.
    pub watch: WatchKey,
    /// Whether it has run before, and goes on; otherwise this is its first creation.
    pub resumes: bool,
}

/// Which endpoint a stream or a read should use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver that misses a hint must not compile")]
pub enum EndpointHint {
    /// The one the driver likes best.
    Any,
    /// Another than the last one used for this stream (or by this group's reads), if there is another.
    Another,
}

/// What the driver knows of a stream it has opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The member's version, by Maintenance Status on the same connection; `None` when it hasn't said. A driver that
    /// hears it later calls [`handle_version`](crate::Watcher::handle_version).
    pub version: Option<ServerVersion>,
    /// Whether the stream carries an auth token. Some servers say "permission denied" where they mean that
    /// the token has expired, so a denial on such a stream is looked into before it ends a watch.
    pub authenticated: bool,
}

/// The answer to [`Action::Range`]. Proxies leave header fields out; 0 stands for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeDone {
    /// The store's revision, by the response header.
    pub revision: i64,
    /// The cluster's id, by the response header.
    pub cluster_id: u64,
    /// The revision of the key that was found, if the read was for one; 0 if there is none.
    pub mod_revision: i64,
}

/// Why a machine wants to be called at [`poll_timeout`](crate::Watcher::poll_timeout).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TimeoutReason {
    /// A stream is to be opened again.
    Reconnect,
    /// A read of the current revision is to be tried again.
    RetryRange,
    /// A page of a [`Mirror`](crate::Mirror)'s list is to be asked for again.
    RetryList,
    /// Watches that were sent away, or that might be what a response over the limit is for, are to be created.
    Create,
    /// A stream has not answered a create request.
    AnswerDue,
    /// A stream has been idle; ask it for a sign of life.
    Probe,
    /// The sign of life is due.
    ProbeDue,
    /// A watch behind a proxy is to be looked at: does it still hear of its keys?
    Listen,
    /// A fresh resume point is to be asked for.
    Progress,
    /// A member that lags has had its time.
    Lagging,
    /// A stream without watches has had its grace time.
    Linger,
    /// A deadline for giving up.
    GiveUp,
}

//! Between one connection and the machine: feeds the machine what has arrived.

use std::task::{Context, Poll};

use etcd_watch_core::{Failure, Instant, Opened, ServerVersion};

use crate::{
    cluster::dialer::Dialer,
    watch::{
        connection::{Batch, StreamConnection, StreamNews},
        hub::Hub,
        log,
    },
};

/// What a stream may deliver in a turn before others have theirs.
const FRAMES_PER_TURN: usize = 256;
const BYTES_PER_TURN: usize = 1 << 20;

/// A connection that is being read.
pub(crate) struct Reading<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) dialer: &'a Dialer,
    pub(crate) connection: &'a mut StreamConnection,
}

/// How far a connection was read.
#[derive(Debug)]
pub(crate) enum Extent {
    /// To the end of what has arrived: the connection wakes its task when there is more. Or until the machine wanted no
    /// more: then it is paused.
    Done {
        /// Whether anything had arrived.
        is_news: bool,
        /// Whether the machine wants no more.
        is_paused: bool,
    },
    /// As far as it may in one turn.
    Share,
    /// To its failure.
    Failed(Failure),
}

impl Reading<'_> {
    /// Feeds the machine what has arrived, if it is `wanted` or the stream isn't open yet. `batch` is empty before and
    /// after.
    pub(crate) fn read(mut self, mut wanted: bool, cx: &mut Context<'_>, batch: &mut Batch) -> Extent {
        let _span = self.connection.span.clone().entered();
        let now = self.hub.now();
        let (mut frames, mut bytes) = (0, 0);
        let mut is_news = false;
        loop {
            if self.connection.is_open() && !wanted {
                return Extent::Done { is_news, is_paused: true };
            }
            if frames >= FRAMES_PER_TURN || bytes >= BYTES_PER_TURN {
                return Extent::Share;
            }
            let Poll::Ready(news) = self.connection.poll(cx, batch) else {
                return Extent::Done { is_news, is_paused: false };
            };
            is_news = true;
            match news {
                StreamNews::Opened(opened) => wanted = self.opened(now, opened),
                StreamNews::Version(version) => wanted = self.told_version(now, version),
                StreamNews::Frames { more } => {
                    frames += batch.frames.len();
                    bytes += std::mem::take(&mut batch.bytes);
                    wanted = self.frames(now, batch);
                    if wanted && !more {
                        return Extent::Done { is_news, is_paused: false };
                    }
                }
                StreamNews::Failed(failure) => return Extent::Failed(failure),
            }
        }
    }

    /// The connection is up. Whether the machine wants to hear from it.
    fn opened(&mut self, now: Instant, opened: Opened) -> bool {
        let Self { connection, dialer, hub } = self;
        let stream = connection.key;
        // A member that is too slow to tell its version may hang.
        let is_answer = opened.version.is_some() && connection.is_first_answer();
        if is_answer {
            dialer.endpoints.answered(connection.endpoint());
        }
        log::opened(stream, connection.endpoint(), opened.version);
        let is_stale = connection.is_stale(&dialer.auth);
        let mut state = hub.lock();
        state.machine.handle_opened(now, stream, opened);
        if is_stale {
            let _ = state.machine.move_stream(now, stream);
        }
        if is_answer {
            state.links.answered(stream.stream(), connection.endpoint(), now);
        }
        state.machine.wants_frame(stream)
    }

    /// The member has told its version late. Whether the machine wants to hear from it.
    fn told_version(&self, now: Instant, version: ServerVersion) -> bool {
        let stream = self.connection.key;
        let mut state = self.hub.lock();
        state.machine.handle_version(now, stream, version);
        state.machine.wants_frame(stream)
    }

    /// Frames have come. Whether the machine wants more of them; those that it has no room for go back.
    fn frames(&mut self, now: Instant, batch: &mut Batch) -> bool {
        let Self { connection, dialer, hub } = self;
        let stream = connection.key;
        let is_first = connection.is_first_answer();
        if is_first {
            dialer.endpoints.answered(connection.endpoint());
        }
        connection.hear(now);
        let mut state = hub.lock();
        if is_first {
            state.links.answered(stream.stream(), connection.endpoint(), now);
        }
        let mut wanted = true;
        while wanted && let Some(frame) = batch.frames.pop_front() {
            state.machine.handle_frame(now, stream, frame);
            wanted = state.machine.wants_frame(stream);
        }
        // A frame may also say that the member has no leader: then the connection has ended for the machine.
        let serves = state.machine.last_frame(stream).is_some();
        drop(state);
        if serves {
            connection.serves();
        }
        connection.take_back(&mut batch.frames);
        wanted
    }
}

//! Reading the rest of a list by a stream (`KV.RangeStream`, etcd 3.7) in place of pages.
//!
//! The messages of a stream have pairs and no header: it comes once, with the last of them, and only with it is known of
//! which cluster the pairs are. So a stream is read only on a connection whose member has just brought a page of the
//! list, at the list's revision: that is where the list begins, and where it goes on after whatever broke.
//!
//! ```text
//!   page --ok--> stream --header, then end--> watching
//!    ^             |
//!    +-------------+ cut, a message too large, an end without the header: from the last key, at the same revision
//! ```
//!
//! A stream is at its end when it ends well *and* its header has come, in whichever of its messages: only that is
//! etcd's contract, and other servers send the header first.

use super::{
    ListKey, Mirror, MirrorAction, Page, Pairs, Phase,
    list::{Ask, BEHIND, Position, flaw_of_pairs, flaw_of_revision},
};
use crate::{
    Code, Failure, Instant, KeyRange,
    failure::{is_compacted, is_future_revision, oversize},
};

/// After so many failures of streams without a pair between them, the list is read by pages.
const BARREN: u8 = 2;

/// The most messages of a stream without a pair. Lawful streams have one: the last, where all pairs came before.
const EMPTY: u8 = 2;

/// A stream that is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streaming {
    list: ListKey,
    /// Whether its header has come.
    has_header: bool,
    /// Whether it said that there are more keys than it brings.
    has_more: bool,
    /// Whether it has brought a pair.
    has_pairs: bool,
    /// Messages without a pair.
    empty: u8,
}

impl Streaming {
    fn new(list: ListKey) -> Self {
        Self { list, has_header: false, has_more: false, has_pairs: false, empty: 0 }
    }
}

/// Whether a list may be read by a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Streams {
    /// The last answer was a page, so the driver has a connection on which a stream may be read.
    is_open: bool,
    /// The list that a stream may bring; `None` once it has been answered or closed.
    asked: Option<ListKey>,
    /// Streams that have failed since a stream last brought pairs.
    barren: u8,
}

impl Streams {
    /// Something is asked for. Whether a stream may bring it.
    pub(super) fn ask_for(&mut self, list: ListKey) -> bool {
        let may_stream = self.is_open && self.barren < BARREN;
        self.asked = may_stream.then_some(list);
        may_stream
    }

    /// A page has shown whose it is, and there is more.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    /// The list is read by pages from here on.
    pub(super) fn avoid(&mut self) {
        self.barren = BARREN;
    }

    /// What was asked for has been answered.
    pub(super) fn ended(&mut self) {
        (self.is_open, self.asked) = (false, None);
    }
}

impl Mirror {
    /// Whether to read the stream that brings this list: what it has brought before has been taken.
    #[must_use]
    pub fn wants_chunk(&self, list: ListKey) -> bool {
        self.stream(list).is_some() && !self.has_events()
    }

    /// The answer to [`MirrorAction::List`] by a stream: a message of it, as soon as it has come; or its end, by the
    /// failure that ended it, which is [`EndOfStream`](Failure::EndOfStream) for the good end. Hand messages in only
    /// while [`wants_chunk`](Self::wants_chunk): what comes sooner is kept, without a bound. What nobody waits for is
    /// ignored.
    pub fn handle_chunk(&mut self, now: Instant, list: ListKey, result: Result<Page, Failure>) {
        let now = self.advance(now);
        let Some(streaming) = self.stream(list) else { return };
        match result {
            Ok(chunk) => self.chunk(now, streaming, chunk),
            Err(failure) => {
                self.lister.streams.ended();
                self.lister.ask = Ask::Due;
                self.stream_ended(now, streaming, &failure);
            }
        }
    }

    /// The stream that brings this list, or may yet.
    fn stream(&self, list: ListKey) -> Option<Streaming> {
        if !matches!(self.phase, Phase::Listing(_)) {
            return None;
        }
        match self.lister.ask {
            Ask::Streaming(streaming) => Some(streaming).filter(|streaming| streaming.list == list),
            Ask::InFlight(asked) if asked == list && self.lister.streams.asked == Some(list) => {
                Some(Streaming::new(list))
            }
            _ => None,
        }
    }

    fn chunk(&mut self, now: Instant, streaming: Streaming, chunk: Page) {
        let Phase::Listing(position) = &self.phase else { return };
        let empty = streaming.empty + u8::from(chunk.kvs.is_empty());
        if let Some(flaw) = flaw_of_chunk(&chunk, empty, &self.request.range, position) {
            self.lister.streams.barren += 1;
            self.close_stream();
            return self.list_flawed(now, flaw);
        }
        if position.contradicts(chunk.kvs.len(), false) {
            return self.list_contradicted(now);
        }
        self.lister.answered();
        if let Some(reason) = self.changed_store(chunk.cluster_id) {
            self.list_elsewhere(now, reason);
            return self.lister.streams.avoid();
        }
        self.learn(chunk.cluster_id, chunk.revision);
        self.lister.proven();
        self.lister.ask = Ask::Streaming(Streaming {
            has_header: streaming.has_header || chunk.revision > 0,
            has_more: streaming.has_more || chunk.more,
            has_pairs: streaming.has_pairs || !chunk.kvs.is_empty(),
            empty,
            ..streaming
        });
        if !chunk.kvs.is_empty() {
            self.lister.streams.barren = 0;
            self.listed(chunk.kvs);
        }
    }

    fn stream_ended(&mut self, now: Instant, streaming: Streaming, failure: &Failure) {
        let Phase::Listing(position) = &self.phase else { return };
        let (Streaming { has_header, has_more, has_pairs, .. }, revision) = (streaming, position.revision);
        match failure {
            Failure::EndOfStream if has_header && has_more => {
                self.lister.streams.barren += u8::from(!has_pairs);
            }
            Failure::EndOfStream if has_header && position.contradicts(0, true) => {
                self.list_contradicted(now)
            }
            Failure::EndOfStream if has_header => self.list_ends(revision, Pairs::default()),
            Failure::EndOfStream => {
                self.lister.streams.barren += 1;
                self.list_flawed(now, "the stream of a list ended without its header");
            }
            // The member can be reached, and has pages: one is asked for at once.
            Failure::Status { code: Code::Unimplemented, .. } => {
                self.lister.streams.avoid();
                self.lister.reached();
            }
            _ if oversize(failure).is_some() => {
                self.lister.streams.barren += 1;
                self.lister.answered();
            }
            _ => {
                let is_barren = !is_compacted(failure) && !is_future_revision(failure);
                self.lister.streams.barren += u8::from(is_barren);
                self.list_failed(now, failure);
            }
        }
    }

    /// Has the driver reset a stream of which nothing more is wanted.
    pub(super) fn close_stream(&mut self) {
        if let Some(list) = self.lister.streams.asked {
            self.lister.streams.ended();
            self.actions.push_back(MirrorAction::CloseList { list });
        }
        if matches!(self.lister.ask, Ask::Streaming(_)) {
            self.lister.ask = Ask::Due;
        }
    }
}

/// What is wrong with a message of a stream, of which so many had no pair.
fn flaw_of_chunk(chunk: &Page, empty: u8, range: &KeyRange, position: &Position) -> Option<&'static str> {
    if empty > EMPTY {
        return Some("the stream of a list goes on, and brings nothing");
    }
    if let Some(flaw) = flaw_of_revision(chunk.revision) {
        return Some(flaw);
    }
    // Only the last chunk has a header.
    if chunk.revision != 0 && chunk.revision < position.revision {
        return Some(BEHIND);
    }
    flaw_of_pairs(&chunk.kvs, range, position, position.revision)
}

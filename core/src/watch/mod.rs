//! One watch: its place in history, what waits for its consumer, and where it stands on its stream.
//!
//! ```text
//!   AwaitingRevision --range done--> Waiting --create sent--> Creating --created--> Active
//!         (from now only)            ^  ^  ^                  |     |                 |  |
//!                                    |  |  +--- stream lost --|-----+-----------------+  |
//!                                    |  |                     |                          |
//!                                    |  +- range done - Denied <- denied, with a token   |
//!                                    |                                                   |
//!                                    +--- consumer drained --- Overflowed <----full------+
//!
//!   every state --cancel, compaction, refusal, ...--> Closed
//! ```

pub(crate) mod place;
pub(crate) mod queue;
pub(crate) mod request;
pub(crate) mod response;

use alloc::{string::String, sync::Arc};

use crate::{
    CreateRequest, Filters, Header, KeyRange, Overflow, ServerMisbehaved, WatchResponse,
    watch::place::{Arrival, ResumePoint},
    watch::queue::Queue,
    watch::response::Chunk,
    wire::decode::EventIndex,
};

/// Where a watch stands.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// It starts "now": the current revision is being read.
    AwaitingRevision,
    /// It knows where to start, and waits for its turn on the stream.
    Waiting,
    /// Its create was denied on a stream whose token may have expired; a read of its keys tells.
    Denied(Denial),
    /// Its create request is on its way.
    Creating,
    /// It runs on the server.
    Active(Active),
    /// Its consumer was too slow: it was cancelled on the server, or the stream it had paused broke; to be
    /// re-created once the consumer has caught up.
    Overflowed,
    /// It has ended; what waits can still be taken.
    Closed,
}

/// A refusal that may be due to the stream's token.
#[derive(Clone, Debug)]
pub(crate) struct Denial {
    /// The incarnation of the lane that it came on.
    pub(crate) incarnation: u32,
    /// The server's text.
    pub(crate) message: String,
}

/// What belongs to one life of a watch on one stream.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    /// The server's id.
    pub(crate) id: i64,
    /// The store's revision when the server created it.
    pub(crate) created_at: i64,
    /// How many progress requests had been sent on the stream when its creation was learned.
    pub(crate) requests_before: u64,
    /// Whether anything but `Created` has come.
    pub(crate) heard: bool,
    /// The beginning of a revision whose other fragments are still to come.
    pub(crate) partial: Option<WatchResponse>,
}

/// One watch.
#[derive(Clone, Debug)]
pub(crate) struct Substream {
    pub(crate) range: KeyRange,
    pub(crate) filters: Filters,
    pub(crate) prev_kv: bool,
    pub(crate) fragment: bool,
    pub(crate) progress_notify: bool,
    /// The consumer has asked for one progress notification.
    pub(crate) progress_wanted: bool,
    /// The consumer wants to hear of the creation, and has not yet.
    pub(crate) created_notify: bool,
    pub(crate) overflow: Overflow,
    /// The lane it travels on.
    pub(crate) lane: u32,
    pub(crate) state: State,
    /// `None` until a "now" is known.
    pub(crate) resume: Option<ResumePoint>,
    /// The highest revision the store has shown to exist; 0 for none.
    pub(crate) known: i64,
    /// The cluster its history is from; 0 until one said.
    pub(crate) cluster_id: u64,
    /// Creates refused in a row.
    pub(crate) refusals: u8,
    /// Times in a row that the server ended it before it had said anything else.
    pub(crate) cancels: u8,
    /// Whether it has been created on a server before.
    pub(crate) created_before: bool,
    /// Whether it keeps its stream from being read.
    pub(crate) holding: bool,
    pub(crate) queue: Queue,
    pub(crate) counts: Counts,
}

/// What has happened to a watch, for its statistics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// The consumer has taken everything up to this revision.
    pub(crate) taken: i64,
    pub(crate) events: u64,
    pub(crate) recreates: u32,
    pub(crate) overflows: u32,
    pub(crate) stale_events: u32,
}

/// What the events of a frame come to.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    /// What can be delivered: whole revisions.
    pub(crate) response: Option<WatchResponse>,
    /// Events dropped as repeats.
    pub(crate) stale: usize,
    /// Events at or below a progress revision already believed.
    pub(crate) overtaken: usize,
}

impl Substream {
    /// The create request for the revision it goes on at.
    pub(crate) fn create_request(&self, watch_id: i64) -> Option<CreateRequest> {
        Some(CreateRequest {
            range: self.range.clone(),
            start_revision: self.resume?.resume(),
            progress_notify: true,
            filters: self.filters,
            prev_kv: self.prev_kv,
            watch_id,
            fragment: self.fragment,
        })
    }

    pub(crate) fn next_revision(&self) -> i64 {
        self.resume.map_or(0, |point| point.resume())
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Checks the events of a frame and takes those that are new. With `more` to come the last revision
    /// is kept until it is complete.
    ///
    /// # Errors
    /// When the events break the protocol; nothing has changed then.
    pub(crate) fn admit(
        &mut self,
        chunk: Chunk,
        header: Header,
        more: bool,
    ) -> Result<Admitted, ServerMisbehaved> {
        let (State::Active(active), Some(point)) = (&mut self.state, &mut self.resume) else {
            return Ok(Admitted::default());
        };
        let partial_revision = active.partial.as_ref().map_or(0, WatchResponse::revision);
        let survey = survey(&chunk, &self.range, point, partial_revision, active.id)?;
        let mut admitted = Admitted { response: None, stale: survey.stale, overtaken: survey.overtaken };
        active.heard = true;
        let mut complete = active.partial.take();
        let mut fresh = chunk;
        fresh.drop_first(survey.stale);
        if fresh.len() == 0 {
            if more {
                active.partial = complete;
                return Ok(admitted);
            }
        } else if more {
            let first = fresh.first_revision();
            match fresh.split_last_revision() {
                Some(last) => {
                    extend(&mut complete, fresh, header);
                    active.partial = Some(WatchResponse::events_of(last, header));
                }
                None if complete.is_some() && partial_revision < first => {
                    active.partial = Some(WatchResponse::events_of(fresh, header));
                }
                None => {
                    extend(&mut complete, fresh, header);
                    active.partial = complete.take();
                }
            }
        } else {
            extend(&mut complete, fresh, header);
        }
        if let Some(response) = &complete {
            point.accept(response.revision());
            self.known = self.known.max(response.revision());
        }
        admitted.response = complete;
        Ok(admitted)
    }

    /// How much a revision that is not complete yet holds, in bytes.
    pub(crate) fn partial_bytes(&self) -> usize {
        match &self.state {
            State::Active(Active { partial: Some(partial), .. }) => partial.memory_bytes(),
            _ => 0,
        }
    }
}

fn extend(response: &mut Option<WatchResponse>, chunk: Chunk, header: Header) {
    match response {
        Some(response) => response.extend(chunk, header),
        None => *response = Some(WatchResponse::events_of(chunk, header)),
    }
}

struct Survey {
    stale: usize,
    overtaken: usize,
}

/// One pass over a frame's events: are they lawful, and how many are repeats?
fn survey(
    chunk: &Chunk,
    range: &KeyRange,
    point: &ResumePoint,
    partial_revision: i64,
    watch_id: i64,
) -> Result<Survey, ServerMisbehaved> {
    let mut survey = Survey { stale: 0, overtaken: 0 };
    let mut previous = 0;
    for EventIndex { kv, .. } in chunk.indices() {
        let revision = kv.mod_revision;
        // After the largest revision there could be no next one to resume at.
        if kv.key.is_empty() || revision < 1 || revision == i64::MAX {
            return Err(ServerMisbehaved::InvalidEvent);
        }
        if revision < previous {
            return Err(ServerMisbehaved::RevisionsBackwards { previous, next: revision });
        }
        if !range.contains(chunk.bytes_of(kv.key)) {
            return Err(ServerMisbehaved::ForeignKey { watch_id });
        }
        previous = revision;
        match point.arrival(revision) {
            Arrival::Stale => survey.stale += 1,
            _ if revision < partial_revision => {
                return Err(ServerMisbehaved::RevisionsBackwards {
                    previous: partial_revision,
                    next: revision,
                });
            }
            Arrival::Overtaken => survey.overtaken += 1,
            Arrival::New => {}
        }
    }
    Ok(survey)
}

/// The options' own type: lanes and groups are found by it.
pub(crate) type SharedOptions = Arc<crate::StreamOptions>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_at_rest_is_a_small_thing() {
        // The rest of what an idle watch may cost in the whole client, 1 KiB, is for maps and handles.
        assert!(size_of::<Substream>() <= 512, "{} bytes", size_of::<Substream>());
    }
}

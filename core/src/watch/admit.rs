//! What the events of a frame come to: which are new, which revisions are whole, and whether they are lawful.

use super::{State, Watch};
use crate::{
    Frame, Header, KeyRange, ServerMisbehaved, WatchResponse,
    stream::progress::Progress,
    watch::{
        place::{Arrival, ResumePoint},
        response::Chunk,
    },
    wire::decode::EventIndex,
};

/// The events of a frame, looked through.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    /// What can be delivered: whole revisions.
    pub(crate) response: Option<WatchResponse>,
    /// The revision to go on at if that were not delivered.
    pub(crate) base: i64,
    /// Events dropped as repeats.
    pub(crate) stale: usize,
    /// Events at or below a progress revision already believed.
    pub(crate) overtaken: usize,
}

impl Watch {
    /// Checks the events of a frame and takes those that are new. Of a fragment the last revision is kept until it is
    /// complete.
    ///
    /// # Errors
    /// When the events break the protocol; nothing has changed then.
    pub(crate) fn admit(
        &mut self,
        frame: &mut Frame,
        progress: &Progress,
    ) -> Result<Admitted, ServerMisbehaved> {
        let (header, more) = (frame.header, frame.fragment);
        let chunk = Chunk::take(frame);
        self.settle(progress);
        let next = self.place.next_revision();
        let (State::Live(live), Some(point)) = (&mut self.state, self.place.point()) else {
            debug_assert!(false, "a watch with a route runs on the server and knows its start");
            return Ok(Admitted::default());
        };
        let partial_revision = live.partial.as_ref().map_or(0, WatchResponse::revision);
        let survey = survey(&chunk, &self.range, point, partial_revision, live.id)?;
        let stale = u32::try_from(survey.stale).unwrap_or(u32::MAX);
        self.counts.stale_events = self.counts.stale_events.saturating_add(stale);
        let mut complete = live.partial.take();
        let was_partial = complete.is_some();
        let mut fresh = chunk;
        fresh.drop_first(survey.stale);
        let first = if was_partial { partial_revision } else { fresh.first_revision() };
        if fresh.len() == 0 {
            if more {
                live.partial = complete.take();
            }
        } else if more {
            let first = fresh.first_revision();
            match fresh.split_last_revision() {
                Some(last) => {
                    extend(&mut complete, fresh, header);
                    live.partial = Some(WatchResponse::events_of(last, header));
                }
                None if complete.is_some() && partial_revision < first => {
                    live.partial = Some(WatchResponse::events_of(fresh, header));
                }
                None => {
                    extend(&mut complete, fresh, header);
                    live.partial = complete.take();
                }
            }
        } else {
            extend(&mut complete, fresh, header);
        }
        if was_partial && live.partial.is_none() {
            live.replies_ignored = progress.replies();
        }
        if let Some(response) = &complete {
            live.heard = true;
            self.cancels = 0;
            self.place.accept(response.revision());
        }
        Ok(Admitted {
            response: complete,
            // An event that was overtaken lies below the revision that was believed to be the next.
            base: next.min(first),
            stale: survey.stale,
            overtaken: survey.overtaken,
        })
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
    point: ResumePoint,
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

//! What the events of a frame come to: which are new, which revisions are whole, and whether they are lawful.

use super::{State, Watch};
use crate::{
    EventKind, Frame, Header, ServerMisbehaved, WatchResponse,
    stream::progress::Progress,
    watch::{
        keys::Keys,
        place::{Arrival, ResumePoint},
        response::Chunk,
    },
    wire::index::EventIndex,
};

/// The events of a frame, looked through.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    /// What can be delivered: whole revisions.
    pub(crate) fresh: Option<Fresh>,
    /// The revision to go on at if that were not delivered.
    pub(crate) base: i64,
    /// Events dropped as repeats.
    pub(crate) stale: usize,
    /// Events at or below a progress revision already believed.
    pub(crate) overtaken: usize,
    /// Whether an incomplete revision is kept, or was until now.
    pub(crate) has_partial: bool,
}

/// Whole revisions that a frame has brought or completed.
#[derive(Debug)]
pub(crate) enum Fresh {
    /// Exactly the events that are left in the frame.
    Frame,
    /// Events of the frame, of earlier ones, or of both.
    Response(WatchResponse),
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
        self.settle(progress);
        let next = self.place.next_revision();
        let (State::Live(live), Some(point)) = (&mut self.state, self.place.point()) else {
            debug_assert!(false, "a watch with a route runs on the server and knows its start");
            return Ok(Admitted::default());
        };
        let partial_revision = live.partial.as_ref().map_or(0, WatchResponse::revision);
        let survey = survey(frame, &self.keys, point, partial_revision, live.id)?;
        let stale = u32::try_from(survey.stale).unwrap_or(u32::MAX);
        self.counts.stale_events = self.counts.stale_events.saturating_add(stale);
        if !more && live.partial.is_none() && survey.stale < frame.events.len() {
            // By far most frames.
            frame.events.drop_first(survey.stale);
            live.heard = true;
            self.cancels = 0;
            self.place.accept(frame.events.last_revision());
            return Ok(Admitted {
                fresh: Some(Fresh::Frame),
                base: next.min(frame.events.first_revision()),
                stale: survey.stale,
                overtaken: survey.overtaken,
                has_partial: false,
            });
        }
        let mut complete = live.partial.take();
        let was_partial = complete.is_some();
        let mut first = partial_revision;
        if survey.stale == frame.events.len() {
            if more {
                live.partial = complete.take();
            }
        } else {
            let mut fresh = Chunk::take(frame);
            fresh.drop_first(survey.stale);
            let first_fresh = fresh.first_revision();
            if !was_partial {
                first = first_fresh;
            }
            if !more {
                extend(&mut complete, fresh, header);
            } else if let Some(last) = fresh.split_last_revision() {
                extend(&mut complete, fresh, header);
                live.partial = Some(WatchResponse::events_of(last, header));
            } else if was_partial && partial_revision < first_fresh {
                live.partial = Some(WatchResponse::events_of(fresh, header));
            } else {
                extend(&mut complete, fresh, header);
                live.partial = complete.take();
            }
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
            fresh: complete.map(Fresh::Response),
            // An event that was overtaken lies below the revision that was believed to be the next.
            base: next.min(first),
            stale: survey.stale,
            overtaken: survey.overtaken,
            has_partial: was_partial || live.partial.is_some(),
        })
    }
}

fn extend(response: &mut Option<WatchResponse>, chunk: Chunk, header: Header) {
    match response {
        Some(response) => response.extend(chunk, header),
        None => *response = Some(WatchResponse::events_of(chunk, header)),
    }
}

/// Whether a change of a key can have made such an event.
fn is_lawful(EventIndex { kv, kind, .. }: &EventIndex) -> bool {
    // After the largest revision there could be no next one to resume at.
    let has_place = !kv.key.is_empty() && (1..i64::MAX).contains(&kv.mod_revision);
    has_place
        && match EventKind::from_wire(*kind) {
            // kine leaves the version out.
            Some(EventKind::Put) => kv.version >= 0 && (1..=kv.mod_revision).contains(&kv.create_revision),
            // It tells no more than the key and the revision.
            Some(EventKind::Delete) => true,
            None => false,
        }
}

struct Survey {
    stale: usize,
    overtaken: usize,
}

/// One pass over a frame's events: are they lawful, and how many are repeats?
fn survey(
    frame: &Frame,
    keys: &Keys,
    point: ResumePoint,
    partial_revision: i64,
    watch_id: i64,
) -> Result<Survey, ServerMisbehaved> {
    let mut survey = Survey { stale: 0, overtaken: 0 };
    let mut previous = 0;
    for event in &frame.events[..] {
        if !is_lawful(event) {
            return Err(ServerMisbehaved::InvalidEvent);
        }
        let kv = &event.kv;
        let revision = kv.mod_revision;
        if revision < previous {
            return Err(ServerMisbehaved::RevisionsBackwards { previous, next: revision });
        }
        if !keys.contains(kv.key.of(&frame.bytes)) {
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

//! What the watch delivers.

use super::{ListReason, Mirror, MirrorAction, MirrorEvent, Phase};
use crate::{CloseReason, Delivery, EventKind, Instant, ResponseKind, WatchResponse};

impl Mirror {
    /// What the watch delivered. Hand it in only while [`wants_delivery`](Self::wants_delivery): what comes
    /// sooner is kept, without a bound. What comes when there is no watch is ignored.
    pub fn handle_delivery(&mut self, now: Instant, delivery: Delivery) {
        let now = self.advance(now);
        if matches!(self.phase, Phase::Watching) {
            self.deliveries.push_back(delivery);
            self.digest(now);
        }
    }

    /// Takes in what the watch delivered, once everything before it has been taken.
    pub(super) fn digest(&mut self, now: Instant) {
        while !self.has_events()
            && matches!(self.phase, Phase::Watching)
            && let Some(delivery) = self.deliveries.pop_front()
        {
            match delivery {
                Delivery::Response(response) => self.response(response),
                Delivery::Closed(reason) => self.watch_ended(now, reason),
            }
        }
    }

    fn response(&mut self, response: WatchResponse) {
        self.restarts.reset();
        let revision = response.revision();
        self.known = self.known.max(revision);
        if self.cluster_id == 0 {
            self.cluster_id = response.header().cluster_id;
        }
        match response.kind() {
            ResponseKind::Events => {
                if let Some(index) = &mut self.index {
                    for event in response.events() {
                        match event.kind() {
                            EventKind::Put => {
                                index.put(event.key(), event.mod_revision());
                            }
                            EventKind::Delete => index.delete(event.key()),
                        }
                    }
                }
                let limit = self.request.max_keys;
                if self.index_keys() as u64 > limit {
                    self.actions.push_back(MirrorAction::Cancel);
                    return self.close(CloseReason::TooManyKeys { limit });
                }
                self.events.push_back(MirrorEvent::Changes(response));
            }
            ResponseKind::Progress if revision >= self.synced => {
                self.events.push_back(MirrorEvent::Synced { revision });
            }
            ResponseKind::Progress | ResponseKind::Created => {}
        }
    }

    fn watch_ended(&mut self, now: Instant, reason: CloseReason) {
        // There is no watch any more to ask for its progress.
        self.actions.clear();
        self.known = self.known.max(shown_by(&reason));
        let reason = match reason {
            CloseReason::Compacted { .. } => ListReason::Compacted,
            CloseReason::Lagged { .. } => ListReason::Lagged,
            CloseReason::TooLarge { .. } => ListReason::TooLarge,
            CloseReason::StoreChanged { before, after } => ListReason::StoreChanged { before, after },
            CloseReason::StoreRegressed { known, revision } => ListReason::StoreRegressed { known, revision },
            // Listing would end the same way, or what ended it was asked for.
            CloseReason::Cancelled
            | CloseReason::ShutDown
            | CloseReason::RuntimeGone
            | CloseReason::PermissionDenied { .. }
            | CloseReason::AuthenticationFailed { .. }
            | CloseReason::TokenRefused { .. }
            | CloseReason::Refused { .. }
            | CloseReason::CancelledByServer { .. }
            | CloseReason::Unsupported { .. }
            | CloseReason::KeyTooLarge { .. }
            | CloseReason::TooManyKeys { .. }
            | CloseReason::NoLeader { .. }
            | CloseReason::Unreachable { .. } => return self.close(reason),
        };
        self.list_again(now, reason);
    }
}

/// The revision that the store has surely had, by the end of a watch.
fn shown_by(reason: &CloseReason) -> i64 {
    match *reason {
        // etcd compacts nothing above its revision.
        CloseReason::Compacted { compact_revision, .. } => compact_revision,
        // Everything before it was received.
        CloseReason::Lagged { next_revision, .. } => next_revision.saturating_sub(1),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Header, KeyRange, MirrorRequest, Page, WatchConfig};

    #[test]
    fn progress_below_what_was_announced_is_not_announced() {
        let now = Instant::ZERO;
        let mut mirror =
            Mirror::new(&WatchConfig::default(), MirrorRequest::new(KeyRange::all()), 1).unwrap();
        let Some(MirrorAction::List { list, .. }) = mirror.poll_action() else { panic!("a list") };
        mirror.handle_page(now, list, Ok(Page { revision: 9, cluster_id: 1, ..Page::default() }));
        while mirror.next(now).is_some() {}
        for (revision, announced) in [(8, None), (9, Some(9)), (12, Some(12)), (11, None)] {
            let progress = WatchResponse::notice(ResponseKind::Progress, Header::default(), revision + 1);
            mirror.handle_delivery(now, Delivery::Response(progress));
            let expected = announced.map(|revision| MirrorEvent::Synced { revision });
            assert_eq!(mirror.next(now), expected, "at {revision}");
        }
    }
}

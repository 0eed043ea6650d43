//! A watch's progress: what replies and notifications say for it, and who is told.

use super::{Live, State, Watch};
use crate::{
    Header, ResponseKind, WatchResponse,
    stream::{hearing::Spot, progress::Progress},
};

impl Live {
    /// Whether the last manual progress reply of its connection speaks for this watch: the reply was made after the
    /// watch, as its revision or the count of replies proves. `stream::progress` says why both are needed.
    fn is_spoken_for(&self, progress: &Progress) -> bool {
        let Some(spoken) = progress.spoken() else { return false };
        self.partial.is_none()
            && progress.replies() > self.replies_ignored
            && (spoken.revision > self.created_at || progress.replies() > self.requests_before)
    }
}

impl Watch {
    /// Takes in what the last manual progress reply of its connection says for it. Replies are taken in late, by each
    /// watch when it matters, so that a reply costs the same however many watches it speaks for.
    pub(crate) fn settle(&mut self, progress: &Progress) {
        if let State::Live(live) = &self.state
            && live.is_spoken_for(progress)
            && let Some(spoken) = progress.spoken()
        {
            self.place.progress(spoken.revision, true);
        }
    }

    /// The revision it would go on at if its connection broke now.
    pub(crate) fn next_revision(&self, progress: Option<&Progress>) -> i64 {
        let spoken = match (self.live(), progress) {
            (Some(live), Some(progress)) if live.is_spoken_for(progress) => progress.spoken(),
            _ => None,
        };
        match spoken {
            Some(header) => self.place.next_revision_after(header.revision),
            None => self.place.next_revision(),
        }
    }

    /// Where it is on its connection, if puts of its keys must move it on: not while it is off the server, nor in the
    /// middle of a revision, nor if it leaves puts out.
    pub(crate) fn spot(&self, progress: &Progress) -> Option<Spot> {
        let live = self.live().filter(|live| live.partial.is_none() && !self.filters.no_put)?;
        Some(Spot { id: live.id, next_revision: self.next_revision(Some(progress)) })
    }

    /// Whether nothing but `Created` has come on its connection, so that a response that never got through may have
    /// been for it.
    pub(crate) fn is_unheard(&self, progress: &Progress) -> bool {
        self.live().is_some_and(|live| !live.heard && !live.is_spoken_for(progress))
    }

    /// Whether its consumer gets progress notifications without asking for each.
    pub(crate) fn listens(&self) -> bool {
        self.progress_notify
    }

    /// Whether a progress notification is wanted, by the consumer or since changes were missed, and has not come.
    pub(crate) fn wants_progress(&self) -> bool {
        self.progress_wanted
    }

    pub(crate) fn want_progress(&mut self) {
        self.progress_wanted = true;
    }

    /// How many progress requests had been sent on the connection when its creation was learned.
    pub(crate) fn requests_before(&self) -> u64 {
        self.live().map_or(0, |live| live.requests_before)
    }

    /// A notification of progress from the server; `manual` for a reply that speaks for the whole connection. The
    /// notice for the consumer, if it is to have one.
    pub(crate) fn progress(
        &mut self,
        header: Header,
        manual: bool,
        progress: &Progress,
    ) -> Option<WatchResponse> {
        let live = self.live_mut()?;
        let is_spoken_for = !manual || live.is_spoken_for(progress);
        live.heard |= is_spoken_for;
        let is_told = is_spoken_for
            && live.partial.is_none()
            && !progress.is_false()
            && self.place.progress(header.revision, manual);
        if !is_told || !(core::mem::take(&mut self.progress_wanted) || self.progress_notify) {
            return None;
        }
        Some(WatchResponse::notice(ResponseKind::Progress, header, self.place.next_revision()))
    }

    /// Progress replies of its connection have been proved false; with `all`, what it was told itself, too.
    pub(crate) fn withdraw_progress(&mut self, all: bool) {
        // Nothing will tell any more.
        if let Some(live) = self.live_mut() {
            live.has_missed = false;
        }
        self.place.withdraw(all);
        self.queue.lower_base(self.place.next_revision());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyRange, StreamId, WatchConfig, WatchRequest};

    #[test]
    fn a_watch_listens_to_replies_only_if_its_consumer_wants_every_notification() {
        for listens in [false, true] {
            let request = WatchRequest::new(KeyRange::key("k")).progress_notify(listens);
            let mut watch = Watch::new(&request, StreamId(0), &WatchConfig::default());
            watch.want_progress();
            assert_eq!(watch.listens(), listens);
        }
    }
}

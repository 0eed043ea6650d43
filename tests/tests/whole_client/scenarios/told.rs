//! Bugs between a watch and what is told of it.

use etcd_watch_testkit::checks::{Change, Received};

/// What becomes of what one of the watches has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// All of it is told as it is.
    Truly,
    /// One event is left out.
    WithoutAnEvent,
    /// One revision is told in two responses.
    InParts,
    /// From some response on, nothing is told any more.
    NotToTheEnd,
}

impl Told {
    /// What is told of a response, after so many.
    pub(super) fn responses(self, response: Received, count: usize, is_done: &mut bool) -> Vec<Received> {
        const SOME: usize = 5;
        let revision = |at: usize| Change::from(&response.events[at]).revision();
        match self {
            Self::NotToTheEnd if count >= SOME => Vec::new(),
            Self::WithoutAnEvent if count >= SOME && !*is_done && !response.events.is_empty() => {
                *is_done = true;
                let mut response = response;
                response.events.remove(0);
                vec![response]
            }
            Self::InParts if count >= SOME && !*is_done => {
                let Some(at) = (1..response.events.len()).find(|&at| revision(at - 1) == revision(at)) else {
                    return vec![response];
                };
                *is_done = true;
                let mut first = response;
                let second = first.events.split_off(at);
                let bookmark = first.bookmark.take();
                vec![first, Received { events: second, bookmark }]
            }
            _ => vec![response],
        }
    }
}

//! Creates on one connection: in which order they go out, with which ids, and which answer belongs to which.
//!
//! The first create on a connection goes out alone. If the server keeps the id that was chosen for it, the rest follow
//! together, and each is known by its id. A server or proxy that chooses ids itself gets one create at a time, and each
//! is known by the order of the answers, which etcd keeps.

use alloc::collections::{BTreeSet, VecDeque};

use crate::{
    Instant, ServerMisbehaved, WatchConfig, WatchKey,
    watch::key_queue::{KeyQueue, give_back},
    wire::decode::Frame,
};

/// The id of responses that are for the connection as a whole, and of refused creates.
pub(crate) const NO_WATCH: i64 = -1;

/// Chosen watch ids start above this, at a random place: servers that ignore them don't count so far, and an id has
/// still three bytes on the wire.
const FIRST_ID: i64 = 1 << 16;

/// Whether the server keeps the ids that it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Echo {
    /// Not known yet: one create at a time.
    Unknown,
    /// It does: creates go out together, and each is known by its id.
    Kept,
    /// It does not (a proxy): one create at a time, known by order.
    Ignored,
}

/// A create request that has not been answered.
#[derive(Clone, Copy, Debug)]
struct Pending {
    id: i64,
    sent: Instant,
    /// `None` for a probe.
    watch: Option<WatchKey>,
}

/// An answered create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The watch it was for; `None` for a probe.
    pub(crate) watch: Option<WatchKey>,
    /// The id that was sent.
    pub(crate) asked_id: i64,
    /// The server's id.
    pub(crate) id: i64,
}

/// The creates of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Creates {
    echo: Echo,
    first_id: i64,
    next_id: i64,
    /// Watches that wait for their turn.
    line: KeyQueue,
    /// Watches that join the line after a pause.
    later: BTreeSet<(Instant, WatchKey)>,
    /// Requests sent, in order.
    pending: VecDeque<Pending>,
    /// How many of them are for watches.
    pending_watches: usize,
    /// When the last answer came, or reading began again.
    heard: Instant,
}

/// Whether a `created` response says that nothing was created. (With an id, a compacted watch was.)
pub(crate) fn is_refused(frame: &Frame) -> bool {
    frame.canceled && (frame.compact_revision == 0 || frame.watch_id == NO_WATCH)
}

impl Creates {
    pub(crate) fn new(now: Instant, rng: &mut fastrand::Rng) -> Self {
        let first_id = FIRST_ID + rng.i64(0..FIRST_ID);
        Self {
            echo: Echo::Unknown,
            first_id,
            next_id: first_id,
            line: KeyQueue::default(),
            later: BTreeSet::new(),
            pending: VecDeque::new(),
            pending_watches: 0,
            heard: now,
        }
    }

    /// A watch joins the line.
    pub(crate) fn enqueue(&mut self, key: WatchKey, waits: impl Fn(WatchKey) -> bool) {
        self.line.push(key, waits);
    }

    /// A watch joins the line once the time has come.
    pub(crate) fn enqueue_at(&mut self, at: Instant, key: WatchKey) {
        self.later.insert((at, key));
    }

    /// Those whose pause is over join the line.
    pub(crate) fn end_pauses(&mut self, now: Instant, waits: impl Fn(WatchKey) -> bool) {
        while let Some(&(at, key)) = self.later.first()
            && at <= now
        {
            self.later.pop_first();
            self.line.push(key, &waits);
        }
    }

    /// When the next pause is over.
    pub(crate) fn pause_ends(&self) -> Option<Instant> {
        self.later.first().map(|&(at, _)| at)
    }

    /// The next watch to send, and its id, if another create may go out now.
    pub(crate) fn next(&mut self, now: Instant, waits: impl Fn(WatchKey) -> bool) -> Option<(WatchKey, i64)> {
        if self.echo != Echo::Kept && !self.pending.is_empty() {
            return None;
        }
        let key = self.line.pop(waits)?;
        Some((key, self.send(now, Some(key))))
    }

    /// The id of a probe to send; `None` while another create is under way, whose answer will do.
    pub(crate) fn probe(&mut self, now: Instant) -> Option<i64> {
        self.pending.is_empty().then(|| self.send(now, None))
    }

    fn send(&mut self, now: Instant, watch: Option<WatchKey>) -> i64 {
        // 0 leaves the choice to a server that ignores ids.
        let id = if self.echo == Echo::Ignored { 0 } else { self.next_id };
        self.next_id += i64::from(self.echo != Echo::Ignored);
        self.pending_watches += usize::from(watch.is_some());
        self.pending.push_back(Pending { id, sent: now, watch });
        id
    }

    /// Whether every watch of the line has been created, or refused.
    pub(crate) fn is_done(&mut self, waits: impl Fn(WatchKey) -> bool) -> bool {
        self.pending_watches == 0 && self.later.is_empty() && self.line.first(waits).is_none()
    }

    /// Whether an answer is waited for.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Until when the next answer must have come: measured from its request, or from the answer before.
    pub(crate) fn answer_due(&self, config: &WatchConfig) -> Option<Instant> {
        self.pending.front().map(|pending| pending.sent.max(self.heard) + config.answer_timeout)
    }

    /// The connection was not read for a while: answers are given their time anew.
    pub(crate) fn read_again(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Which create a `created` response answers. `is_taken` says whether an id stands for a watch already.
    ///
    /// # Errors
    /// When it answers none, or has an id that it must not have.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        frame: &Frame,
        is_taken: impl FnOnce(i64) -> bool,
    ) -> Result<Answer, ServerMisbehaved> {
        let id = frame.watch_id;
        let unexpected = ServerMisbehaved::UnexpectedCreated { watch_id: id };
        // Answers keep the order of the requests; a refusal carries no id but that order.
        let Some(pending) = self.pending.pop_front() else { return Err(unexpected) };
        give_back(&mut self.pending);
        self.pending_watches -= usize::from(pending.watch.is_some());
        self.heard = now;
        if !is_refused(frame) {
            match self.echo {
                Echo::Unknown if id == pending.id => self.echo = Echo::Kept,
                Echo::Unknown => {
                    self.echo = Echo::Ignored;
                    self.next_id = 0;
                }
                Echo::Kept if id != pending.id => return Err(unexpected),
                Echo::Kept | Echo::Ignored => {}
            }
            if self.echo == Echo::Ignored {
                if id < 0 || is_taken(id) {
                    return Err(unexpected);
                }
                self.next_id = self.next_id.max(id.saturating_add(1));
            }
        }
        Ok(Answer { watch: pending.watch, asked_id: pending.id, id })
    }

    /// Whether the server has shown that it chooses ids itself, as proxies do.
    pub(crate) fn is_proxied(&self) -> bool {
        self.echo == Echo::Ignored
    }

    /// Whether an id has been given out on this connection, by whichever side chooses them.
    pub(crate) fn was_issued(&self, id: i64) -> bool {
        match self.echo {
            Echo::Ignored => id >= 0 && id < self.next_id,
            Echo::Unknown | Echo::Kept => (self.first_id..self.next_id).contains(&id),
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn creates(echo: Echo) -> Creates {
        Creates { echo, ..Creates::new(at(0), &mut fastrand::Rng::with_seed(1)) }
    }

    fn key(index: u32) -> WatchKey {
        WatchKey { number: index.into(), index }
    }

    #[test]
    fn ids_are_counted_up_from_a_place_of_the_connection_s_own() {
        let mut creates = creates(Echo::Kept);
        let first = creates.first_id;
        assert!(first >= FIRST_ID && !creates.was_issued(first));
        creates.enqueue(key(1), |_| true);
        creates.enqueue(key(2), |_| true);
        let sent = [(); 3].map(|()| creates.next(at(0), |_| true));
        assert_eq!(sent, [Some((key(1), first)), Some((key(2), first + 1)), None]);
        let is_issued = [first - 1, first, first + 1, first + 2].map(|id| creates.was_issued(id));
        assert_eq!(is_issued, [false, true, true, false]);
    }

    #[test]
    fn a_server_that_ignores_ids_counts_from_0() {
        let mut creates = creates(Echo::Ignored);
        creates.next_id = 3;
        assert_eq!((creates.probe(at(0)), creates.next_id), (Some(0), 3));
        assert_eq!([-1, 0, 2, 3].map(|id| creates.was_issued(id)), [false, true, true, false]);
    }

    #[test]
    fn an_answer_is_due_by_its_own_request_or_by_the_answer_before() {
        let config = WatchConfig::default().answer_timeout(Duration::from_millis(700));
        let mut creates = creates(Echo::Kept);
        assert_eq!(creates.answer_due(&config), None);
        let id = creates.probe(at(100)).unwrap();
        creates.enqueue(key(1), |_| true);
        creates.next(at(300), |_| true);
        assert_eq!(creates.answer_due(&config), Some(at(800)));
        let mut answer = Frame::default();
        (answer.watch_id, answer.created) = (id, true);
        creates.answer(at(600), &answer, |_| false).unwrap();
        assert_eq!(creates.answer_due(&config), Some(at(1_300)));
        creates.read_again(at(5_000));
        assert_eq!(creates.answer_due(&config), Some(at(5_700)));
    }

    #[test]
    fn a_pause_ends_when_its_time_has_come() {
        let mut creates = creates(Echo::Kept);
        creates.enqueue_at(at(20), key(2));
        creates.enqueue_at(at(10), key(1));
        assert_eq!((creates.pause_ends(), creates.next(at(9), |_| true)), (Some(at(10)), None));
        creates.end_pauses(at(10), |_| true);
        assert_eq!(creates.next(at(10), |_| true).map(|(key, _)| key), Some(key(1)));
        assert!(creates.next(at(10), |_| true).is_none() && !creates.is_done(|_| true));
    }
}

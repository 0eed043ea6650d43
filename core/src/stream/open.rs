//! One connection of a stream, while it is open: which watch each id stands for, and what the server has said.

use core::time::Duration;

use crate::{
    Frame, Header, Instant, Opened, ServerMisbehaved, TimeoutReason, WatchConfig, WatchKey,
    id_map::IdMap,
    stream::{
        creates::{Answer, Creates, NO_WATCH, is_refused},
        hearing::Hearing,
        progress::Progress,
    },
};

/// How many responses may come for watches that are over and confirmed so.
const STALE_LIMIT: u32 = 1000;

/// Whose responses an id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// A watch.
    Live(WatchKey),
    /// One that was cancelled; until the server confirms it, what still comes is dropped.
    Dying,
}

/// What a frame says, and of which watch. What it says of nobody any more is left out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing that concerns a watch.
    Nothing,
    /// A create has been answered: the watch runs under this id. It may have ended at once, compacted.
    Created {
        /// The watch; `None` for a probe.
        watch: Option<WatchKey>,
        /// The id of the request.
        asked_id: i64,
        /// The server's id.
        id: i64,
    },
    /// A create has been refused.
    Refused {
        /// The watch.
        watch: WatchKey,
        /// The id of the request.
        asked_id: i64,
    },
    /// A watch that was running has been ended by the server.
    Canceled {
        /// The watch.
        watch: WatchKey,
    },
    /// Events or progress of one watch.
    Of {
        /// The watch.
        watch: WatchKey,
    },
    /// A reply to a manual progress request.
    Progress,
}

/// How far the connection has shown that it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Nothing has come.
    Silent,
    /// A lawful frame has come.
    Answered,
    /// It has brought events, or has lived for a while.
    Proven,
}

/// Whether the gRPC proxy made the frame up: it answers a create itself, with the revision that was asked for, which may not
/// exist yet.
pub(crate) fn is_made_up(frame: &Frame) -> bool {
    frame.created && frame.header.cluster_id == 0
}

/// Whether a frame makes sense, whomever it concerns.
///
/// # Errors
/// When the protocol doesn't allow it.
pub(crate) fn check(frame: &Frame) -> Result<(), ServerMisbehaved> {
    let Frame { header, compact_revision, .. } = frame;
    let is_told = !(is_made_up(frame) && header.revision == i64::MAX);
    let revisions = [if is_told { header.revision } else { 0 }, *compact_revision];
    if let Some(revision) = revisions.into_iter().find(|&revision| !Header::may_be_revision(revision)) {
        return Err(ServerMisbehaved::InvalidRevision { revision });
    }
    if frame.fragment && frame.events.is_empty() {
        // It would pass for progress.
        return Err(ServerMisbehaved::EmptyFragment);
    }
    Ok(())
}

/// One connection of a stream, while it is open.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    opened: Instant,
    last_frame: Instant,
    /// Whether it carries an auth token.
    has_token: bool,
    standing: Standing,
    probe_due: Option<Instant>,
    /// How many of its watches keep it from being read.
    holds: usize,
    routes: IdMap<Route>,
    stale: u32,
    /// The cluster that speaks; 0 until one has told its id.
    cluster_id: u64,
    creates: Creates,
    progress: Progress,
}

impl Connection {
    pub(crate) fn new(now: Instant, opened: Opened, rng: &mut fastrand::Rng) -> Self {
        Self {
            opened: now,
            last_frame: now,
            has_token: opened.authenticated,
            standing: Standing::Silent,
            probe_due: None,
            holds: 0,
            routes: IdMap::default(),
            stale: 0,
            cluster_id: 0,
            creates: Creates::new(now, rng),
            progress: Progress::new(opened),
        }
    }

    pub(crate) fn creates(&mut self) -> &mut Creates {
        &mut self.creates
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    pub(crate) fn progress_mut(&mut self) -> &mut Progress {
        &mut self.progress
    }

    pub(crate) fn has_token(&self) -> bool {
        self.has_token
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// When the last lawful frame came, if one has.
    pub(crate) fn heard(&self) -> Option<Instant> {
        (self.standing > Standing::Silent).then_some(self.last_frame)
    }

    /// Whether every watch has been created, or refused, and the server has said so.
    pub(crate) fn is_settled(&mut self, waits: impl Fn(WatchKey) -> bool) -> bool {
        self.standing > Standing::Silent && self.creates.is_done(waits)
    }

    /// How long it has been open.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.since(self.opened)
    }

    /// What a frame says, and of which watch.
    ///
    /// # Errors
    /// When the protocol doesn't allow it.
    pub(crate) fn hear(&mut self, now: Instant, frame: &Frame) -> Result<Heard, ServerMisbehaved> {
        let id = frame.watch_id;
        if frame.created {
            let routes = &self.routes;
            let answer = self.creates.answer(now, frame, |id| routes.contains(id))?;
            let Answer { watch, asked_id, id } = answer;
            return Ok(match watch {
                Some(watch) if is_refused(frame) => Heard::Refused { watch, asked_id },
                None if is_refused(frame) => Heard::Nothing,
                watch => {
                    // Until somebody says that it is theirs.
                    self.routes.insert(id, Route::Dying);
                    Heard::Created { watch, asked_id, id }
                }
            });
        }
        if id == NO_WATCH && !frame.canceled && frame.events.is_empty() {
            return Ok(Heard::Progress);
        }
        match self.routes.get(id) {
            // etcd holds on to a compacted watch until it is cancelled, for which its route is kept.
            Some(&Route::Live(watch)) if frame.canceled && frame.compact_revision == 0 => {
                self.routes.remove(id);
                self.progress.remove(watch);
                Ok(Heard::Canceled { watch })
            }
            Some(&Route::Live(watch)) if frame.canceled => Ok(Heard::Canceled { watch }),
            Some(&Route::Live(watch)) => Ok(Heard::Of { watch }),
            Some(Route::Dying) => {
                if frame.canceled {
                    self.routes.remove(id);
                }
                Ok(Heard::Nothing)
            }
            None => self.count_stale(id),
        }
    }

    /// A response for an id without a route: a late one for a watch that is over, or nonsense.
    fn count_stale(&mut self, watch_id: i64) -> Result<Heard, ServerMisbehaved> {
        if !self.creates.was_issued(watch_id) {
            return Err(ServerMisbehaved::UnknownWatchId { watch_id });
        }
        self.stale += 1;
        if self.stale > STALE_LIMIT {
            return Err(ServerMisbehaved::StaleFlood { limit: STALE_LIMIT });
        }
        Ok(Heard::Nothing)
    }

    /// A lawful frame has come; `is_news` when it brought events. True when that has proved the connection just now.
    pub(crate) fn frame_came(&mut self, now: Instant, config: &WatchConfig, is_news: bool) -> bool {
        self.last_frame = now;
        self.probe_due = None;
        let is_proof = is_news || self.age(now) >= config.backoff_ceiling;
        let before = self.standing;
        self.standing = self.standing.max(if is_proof { Standing::Proven } else { Standing::Answered });
        self.standing == Standing::Proven && before != Standing::Proven
    }

    /// Whether another lawful frame changes nothing of what it waits for.
    pub(crate) fn is_steady(&self) -> bool {
        self.standing == Standing::Proven && self.probe_due.is_none()
    }

    /// Whether another cluster than before speaks. An id of 0 says nothing.
    pub(crate) fn is_other_cluster(&mut self, header: Header) -> bool {
        let is_other = header.cluster_id != 0 && header.cluster_id != self.cluster_id;
        if is_other {
            self.cluster_id = header.cluster_id;
        }
        is_other
    }

    /// A watch runs under this id from now on.
    pub(crate) fn enter(&mut self, id: i64, key: WatchKey, listens: bool) {
        self.routes.insert(id, Route::Live(key));
        self.progress.add(key, listens);
    }

    /// A watch runs under this id no more. True when the server must be told.
    pub(crate) fn depart(&mut self, id: i64, key: WatchKey) -> bool {
        self.progress.remove(key);
        match self.routes.get_mut(id) {
            Some(route @ Route::Live(_)) => {
                *route = Route::Dying;
                true
            }
            // The server ended it: there is nothing to cancel.
            Some(Route::Dying) | None => false,
        }
    }

    /// A watch keeps it from being read.
    pub(crate) fn hold(&mut self) {
        self.holds += 1;
    }

    /// A watch keeps it from being read no more. True once none does: what the server was to say by now is given
    /// time anew, since it could not be heard.
    pub(crate) fn release(&mut self, now: Instant) -> bool {
        debug_assert!(self.holds > 0);
        self.holds = self.holds.saturating_sub(1);
        if self.holds == 0 {
            self.last_frame = now;
            self.probe_due = None;
            self.creates.read_again(now);
        }
        self.holds == 0
    }

    /// Whether it is read.
    pub(crate) fn is_read(&self) -> bool {
        self.holds == 0
    }

    /// A sign of life is asked for, which is due then.
    pub(crate) fn expect_sign_of_life(&mut self, due: Instant) {
        self.probe_due = Some(due);
    }

    /// Whether it leads through a proxy, which keeps the watches of its clients itself.
    pub(crate) fn is_proxied(&self) -> bool {
        self.creates.is_proxied()
    }

    /// Everything it waits for that nobody hears while it isn't read.
    pub(crate) fn due_while_read(
        &self,
        config: &WatchConfig,
        hearing: &Hearing,
    ) -> [Option<(Instant, TimeoutReason)>; 4] {
        let has_watches = !self.routes.is_empty();
        let idle = config.probe_idle.filter(|_| has_watches);
        [
            self.creates.answer_due(config).map(|at| (at, TimeoutReason::AnswerDue)),
            self.probe_due.map(|at| (at, TimeoutReason::ProbeDue)),
            idle.and_then(|idle| self.probe_or_listen_at(idle, hearing)),
            self.progress.due(config, self.opened, has_watches).map(|at| (at, TimeoutReason::Progress)),
        ]
    }

    /// When the next probe is sent, or the next watch behind a proxy is looked at, whichever comes first.
    fn probe_or_listen_at(&self, idle: Duration, hearing: &Hearing) -> Option<(Instant, TimeoutReason)> {
        let is_probed = self.probe_due.is_some();
        let probe = (!is_probed).then(|| (self.last_frame + idle, TimeoutReason::Probe));
        let listen = hearing.due().filter(|_| self.is_proxied()).map(|at| (at, TimeoutReason::Listen));
        [probe, listen].into_iter().flatten().min()
    }

    /// Whether something was asked that has not been answered, on a connection that has said nothing yet.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.standing == Standing::Silent && self.creates.is_waiting()
    }

    /// When the next pause between creates is over.
    pub(crate) fn pause_ends(&self) -> Option<Instant> {
        self.creates.pause_ends()
    }

    /// The watch that an id stands for.
    pub(crate) fn watch_at(&self, id: i64) -> Option<WatchKey> {
        match self.routes.get(id) {
            Some(&Route::Live(key)) => Some(key),
            Some(Route::Dying) | None => None,
        }
    }

    /// How many ids stand for watches.
    pub(crate) fn live_routes(&self) -> usize {
        self.routes.iter().filter(|(_, route)| matches!(route, Route::Live(_))).count()
    }

    /// How many of its watches keep it from being read.
    pub(crate) fn holds(&self) -> usize {
        self.holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Connection {
        Connection::new(Instant::ZERO, Opened::default(), &mut fastrand::Rng::with_seed(1))
    }

    #[test]
    fn a_connection_is_settled_only_once_the_server_has_said_something() {
        let mut connection = opened();
        assert!(!connection.is_settled(|_| true));
        connection.frame_came(Instant::ZERO, &WatchConfig::default(), false);
        assert!(connection.is_settled(|_| true));
    }

    #[test]
    fn a_cluster_is_another_one_when_its_id_is_told_for_the_first_time() {
        let mut connection = opened();
        let is_other = [0, 7, 7, 0, 8, 8]
            .map(|cluster_id| connection.is_other_cluster(Header { cluster_id, ..Header::default() }));
        assert_eq!(is_other, [false, true, false, false, true, false]);
    }
}

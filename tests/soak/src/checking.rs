//! Whether what a watch has delivered since the last look is what it had to deliver.
//!
//! A watch is checked piece by piece, so that neither its deliveries nor the history have to be kept: each piece ends at
//! a bookmark, the next one begins behind it. What belongs to a piece that is done and comes later all the same (out
//! of order, twice, or in two parts) lies before the next one's start, which breaks
//! [`Resumable`](etcd_watch_testkit::checks::Rule::Resumable).

use std::time::Instant;

use etcd_watch_proto::mvccpb::{Event, KeyValue};
use etcd_watch_testkit::checks::{Received, Rule, Violation, Watched, check};

use crate::ledger::{Ledger, revision_of};

/// One response, and when it came.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) received: Received,
    pub(crate) at: Instant,
    /// The highest revision that a compaction had been asked for by then.
    pub(crate) compacted: i64,
    /// How often the watch had been created on a server by then, at most.
    pub(crate) creations: u64,
}

/// What is left to do of a watch's history, and what was done.
#[derive(Debug)]
pub(crate) struct Progress {
    /// What it had to see; `from` is the first revision that has not been checked.
    pub(crate) watched: Watched,
    pub(crate) events: u64,
    /// How many previous pairs were missing because a compaction had taken them, as it may.
    pub(crate) compacted_pairs: u64,
    /// How many were missing because the watch had just been created.
    pub(crate) early_pairs: u64,
    early: Early,
}

/// Previous pairs that are missing because their watch had just been created: the first ones of each creation.
#[derive(Debug, Default)]
struct Early {
    /// How many times some in a row were missing.
    runs: u64,
    /// How many in a row are missing by now.
    len: u64,
}

/// How many in a row may be: etcd sends a watch no more revisions at a time.
const LONGEST_EARLY_RUN: u64 = 1000;

impl Progress {
    pub(crate) fn new(watched: Watched) -> Self {
        Self { watched, events: 0, compacted_pairs: 0, early_pairs: 0, early: Early::default() }
    }

    /// Checks what has arrived, against a ledger that has everything up to `through`, which is what the watch claims
    /// to have delivered; later checks begin behind that.
    ///
    /// # Errors
    /// Every rule that was broken.
    pub(crate) fn check(
        &mut self,
        ledger: &Ledger,
        arrived: impl IntoIterator<Item = Arrived>,
        through: i64,
    ) -> Result<(), Vec<Violation>> {
        let watched = Watched { through, ..self.watched.clone() };
        let history = ledger.changes(watched.from - 1, through, &watched);
        let mut received = Vec::new();
        for mut response in arrived {
            self.events += response.received.events.len() as u64;
            if watched.prev_kv {
                self.restore_previous(&history, &mut response);
            }
            received.push(response.received);
        }
        self.watched.from = self.watched.from.max(through + 1);
        check(&history, &watched, &received)
    }

    /// A watch from now on has begun at a revision, which must lie behind what was known when it was asked for.
    ///
    /// # Errors
    /// If it doesn't.
    pub(crate) fn begins_after(&mut self, known: i64, from: i64) -> Result<(), Violation> {
        self.watched.from = from;
        if from > known {
            return Ok(());
        }
        Err(Violation { rule: Rule::Resumable, revision: from, key: self.watched.key.clone() })
    }
}

impl Progress {
    /// Puts the pairs before changes back that may be missing.
    ///
    /// - etcd reads the pair before a change when it sends the change: if it is compacted by then, there is none.
    /// - etcd notes that a watch wants such pairs only after the watch has been created. What it sends in between is
    ///   without: the first events of each creation, as many as came that fast.
    fn restore_previous(&mut self, history: &[Event], response: &mut Arrived) {
        for event in &mut response.received.events {
            let Some(previous) = previous(history, event) else { continue };
            if event.prev_kv.is_some() {
                self.early.len = 0;
            } else if revision_of(event) <= response.compacted {
                self.compacted_pairs += 1;
                event.prev_kv = Some(previous.clone());
            } else {
                self.early.runs += u64::from(self.early.len == 0);
                self.early.len += 1;
                if self.early.runs <= response.creations && self.early.len <= LONGEST_EARLY_RUN {
                    self.early_pairs += 1;
                    event.prev_kv = Some(previous.clone());
                }
            }
        }
    }
}

/// The pair before a change, if there was one.
fn previous<'a>(history: &'a [Event], event: &Event) -> Option<&'a KeyValue> {
    let revision = revision_of(event);
    let first = history.partition_point(|other| revision_of(other) < revision);
    let key = event.kv.as_ref().map(|kv| &kv.key);
    let same = |other: &&Event| other.kv.as_ref().map(|kv| &kv.key) == key;
    history[first..].iter().take_while(|other| revision_of(other) == revision).find(same)?.prev_kv.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::{
            State,
            tests::{delete, put},
        },
        sabotage::Saboteur,
        settings::Sabotage,
    };

    /// So many revisions of ten keys, a delete among every seven.
    fn ledger(through: i64) -> Ledger {
        let mut ledger = Ledger::starting_at(1, State::new());
        for revision in 2..=through {
            let key = format!("k{}", revision * 7 % 10);
            let is_there = ledger.state_at(revision - 1).unwrap().contains_key(key.as_bytes());
            let event = if revision % 7 == 0 && is_there {
                delete(&ledger, &key, revision)
            } else {
                put(&ledger, &key, revision)
            };
            ledger.record(vec![event]).unwrap();
        }
        ledger
    }

    fn watched() -> Watched {
        Watched {
            key: "k".into(),
            range_end: "l".into(),
            from: 2,
            through: 0,
            no_put: false,
            no_delete: false,
            prev_kv: true,
        }
    }

    /// What a faithful watch delivers, in responses of five revisions.
    fn faithful(ledger: &Ledger) -> Vec<Arrived> {
        let all = ledger.changes(1, ledger.recorded(), &watched());
        let responses = all.chunks(5).map(|events| Arrived {
            received: Received { events: events.to_vec(), bookmark: events.last().map(revision_of) },
            at: Instant::now(),
            compacted: 0,
            creations: 0,
        });
        responses.collect()
    }

    /// Checks piece by piece; the first piece that breaks a rule, and which.
    fn in_pieces(
        ledger: &Ledger,
        arrived: Vec<Arrived>,
        responses: usize,
    ) -> Result<Progress, (usize, Vec<Violation>)> {
        let mut progress = Progress::new(watched());
        for (number, piece) in arrived.chunks(responses).enumerate() {
            let through = piece.last().and_then(|last| last.received.bookmark).unwrap();
            progress.check(ledger, piece.to_vec(), through).map_err(|broken| (number, broken))?;
        }
        Ok(progress)
    }

    #[test]
    fn a_faithful_watch_breaks_no_rule_whatever_the_pieces() {
        let ledger = ledger(400);
        for responses in [1, 2, 7, 1000] {
            let progress = in_pieces(&ledger, faithful(&ledger), responses).unwrap();
            assert_eq!((progress.events, progress.watched.from), (399, 401));
        }
    }

    #[test]
    fn an_event_that_is_lost_is_missed_in_its_own_piece() {
        let ledger = ledger(400);
        for lost in [0, 100, 398] {
            let mut arrived = faithful(&ledger);
            let event = arrived[lost / 5].received.events.remove(lost % 5);
            let (piece, broken) = in_pieces(&ledger, arrived, 4).unwrap_err();
            assert_eq!((piece, broken.len()), (lost / 20, 1));
            assert_eq!(broken[0].revision, revision_of(&event));
        }
    }

    #[test]
    fn what_belongs_to_an_earlier_piece_may_not_come_any_more() {
        let ledger = ledger(60);
        let mut arrived = faithful(&ledger);
        let again = arrived[0].received.events[0].clone();
        arrived[6].received.events.insert(0, again);
        let (piece, broken) = in_pieces(&ledger, arrived, 2).unwrap_err();
        assert_eq!((piece, broken[0].revision), (3, 2));
        assert!(broken.iter().any(|violation| violation.rule == Rule::Resumable));
    }

    #[test]
    fn a_previous_pair_may_be_missing_only_if_it_was_compacted() {
        let ledger = ledger(60);
        for (compacted, is_lawful) in [(0, false), (40, false), (41, true), (60, true)] {
            let mut arrived = faithful(&ledger);
            let response = &mut arrived[39 / 5];
            response.compacted = compacted;
            assert_eq!(revision_of(&response.received.events[39 % 5]), 41);
            assert!(response.received.events[39 % 5].prev_kv.take().is_some());
            let checked = in_pieces(&ledger, arrived, 3);
            assert_eq!(checked.is_ok(), is_lawful, "{checked:?}");
            if let Ok(progress) = checked {
                assert_eq!(progress.compacted_pairs, 1);
            }
        }
    }

    #[test]
    fn previous_pairs_may_be_missing_in_a_row_once_for_each_creation() {
        let ledger = ledger(60);
        for (creations, is_lawful) in [(0, false), (1, false), (2, true)] {
            let mut arrived = faithful(&ledger);
            arrived.iter_mut().for_each(|response| response.creations = creations);
            // A row over the end of a response, and of a piece, with a create in it, and another row later.
            for event in [27, 28, 30, 31, 40] {
                let previous = &mut arrived[event / 5].received.events[event % 5].prev_kv;
                assert!(previous.take().is_some());
            }
            let checked = in_pieces(&ledger, arrived, 3);
            assert_eq!(checked.is_ok(), is_lawful, "{checked:?}");
            if let Ok(progress) = checked {
                assert_eq!((progress.early_pairs, progress.compacted_pairs), (5, 0));
            }
        }
    }

    #[test]
    fn more_previous_pairs_in_a_row_than_a_server_sends_at_once_may_not_be_missing() {
        let ledger = ledger(2_000);
        // Creates, of which one in seven is, have none.
        let run = |creations, events: usize| {
            let mut arrived = faithful(&ledger);
            let mut left = events;
            for response in &mut arrived {
                response.creations = creations;
                for event in response.received.events.iter_mut().filter(|event| event.prev_kv.is_some()) {
                    if left > 0 {
                        left -= 1;
                        event.prev_kv = None;
                    }
                }
            }
            assert_eq!(left, 0);
            in_pieces(&ledger, arrived, 10)
        };
        let longest = usize::try_from(LONGEST_EARLY_RUN).unwrap();
        assert_eq!(run(1, longest).unwrap().early_pairs, LONGEST_EARLY_RUN);
        assert!(run(1, longest + 1).is_err() && run(0, 1).is_err());
    }

    #[test]
    fn a_watch_from_now_on_does_not_begin_in_the_past() {
        let mut progress = Progress::new(Watched { from: 0, ..watched() });
        assert!(progress.begins_after(7, 7).is_err());
        assert!(progress.begins_after(7, 8).is_ok());
        assert_eq!(progress.watched.from, 8);
    }

    #[test]
    fn sabotage_is_noticed() {
        let ledger = ledger(6000);
        let saboteur = Saboteur::new(Some(Sabotage::DropEvent(5000)), 7);
        let mut arrived = faithful(&ledger);
        arrived.iter_mut().for_each(|response| saboteur.meddle(&mut response.received));
        let (_, broken) = in_pieces(&ledger, arrived, 10).unwrap_err();
        assert!(
            broken
                .iter()
                .all(|violation| violation.rule == Rule::Reliable || violation.rule == Rule::Bookmarkable),
            "{broken:?}"
        );
        let honest = Saboteur::new(None, 7);
        let mut arrived = faithful(&ledger);
        arrived.iter_mut().for_each(|response| honest.meddle(&mut response.received));
        assert!(in_pieces(&ledger, arrived, 10).is_ok());
    }
}

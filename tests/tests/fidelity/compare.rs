//! What two sides have said on one stream since the last comparison, in a normal form: everything that a server is
//! free to do otherwise is left out, and it is checked by itself that it was within its freedom.

use etcd_watch_proto::mvccpb::{Event, KeyValue, event::EventType};

use crate::{
    figures::Figures,
    log::{Batch, StreamLog, WatchLog},
    talk::{Fate, Talk, Watched},
};

/// The most responses that a stream surely holds for its reader: past them watches fall behind, and what belongs
/// together in one response is then a matter of speed. etcd's queue has 128 places.
pub(crate) const SURELY_QUEUED: usize = 100;

/// What there is to know about the time since the last comparison.
pub(crate) struct Round {
    /// The newest revision.
    pub(crate) newest: i64,
    /// Changes that were made.
    pub(crate) changes: usize,
}

/// What each side has said, in the normal form, and what no server may say.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) lines: [Vec<String>; 2],
    pub(crate) illegal: [Vec<String>; 2],
}

impl Said {
    /// Replies to requests come in the order of these, and tell the revision at the time: nothing is left out.
    pub(crate) fn control(&mut self, name: usize, talk: &Talk, logs: [&StreamLog; 2]) {
        for (lines, log) in self.lines.iter_mut().zip(logs) {
            lines
                .extend(log.control[talk.control_seen..].iter().map(|told| format!("stream {name}: {told}")));
        }
    }

    /// Everything else.
    pub(crate) fn rest(
        &mut self,
        name: usize,
        talk: &Talk,
        logs: [&StreamLog; 2],
        round: &Round,
        figures: &mut Figures,
    ) {
        self.stream_progress(name, talk, logs, round, figures);
        for (index, watch) in talk.watches.iter().enumerate() {
            let pair = logs.map(|log| &log.watches[index]);
            let title = format!("stream {name}, watch {}", watch.id);
            for (side, log) in pair.into_iter().enumerate() {
                self.check_batches(side, &title, watch, log, round);
                self.check_notifications(side, &title, watch, log, round);
            }
            self.watch(&title, talk, watch, pair, round, figures);
        }
    }

    fn stream_progress(
        &mut self,
        name: usize,
        talk: &Talk,
        logs: [&StreamLog; 2],
        round: &Round,
        figures: &mut Figures,
    ) {
        for (side, log) in logs.into_iter().enumerate() {
            let replies = &log.progress[talk.progress_seen[side]..];
            figures.progress_replies += replies.len();
            for reply in replies {
                let revision = reply.revision;
                if !talk.progress_asked.contains(&revision) || revision > round.newest {
                    self.illegal[side]
                        .push(format!("stream {name}: progress at {revision} wasn't asked for"));
                }
                // A watch created since may not have been meant. A cut one may have lost its events for good.
                for (watch, delivered) in talk.watches.iter().zip(&reply.delivered) {
                    let meant = watch.settled && watch.fate != Fate::Cut;
                    if meant && watch.expected_through(revision) > *delivered {
                        let id = watch.id;
                        self.illegal[side].push(format!(
                            "stream {name}: progress at {revision} ahead of events of watch {id}"
                        ));
                    }
                }
            }
            if replies.len() > talk.progress_asked.len() {
                self.illegal[side].push(format!("stream {name}: progress more often than asked for"));
            }
            // A server that orders its replies makes none while a watch of the stream catches up, and how long
            // that takes is up to it.
            if !talk.progress_optional {
                let told =
                    replies.iter().map(|reply| format!("stream {name}: progress at {}", reply.revision));
                self.lines[side].extend(told);
            }
        }
    }

    /// Revisions never go down, and aren't split unless the parts say so; the header is of a time between the
    /// events and now.
    fn check_batches(&mut self, side: usize, title: &str, watch: &Watched, log: &WatchLog, round: &Round) {
        let illegal = &mut self.illegal[side];
        let seen = watch.batches_seen[side];
        let mut last = seen.checked_sub(1).map_or(watch.since - 1, |last| last_revision(&log.batches[last]));
        for batch in &log.batches[seen..] {
            let revisions: Vec<i64> = batch.events.iter().map(revision).collect();
            let fault = if revisions[0] <= last {
                "goes back, or splits a revision"
            } else if !revisions.is_sorted() {
                "is out of order"
            } else if batch.revision < last_revision(batch) || batch.revision > round.newest {
                "has a header of another time"
            } else if batch.open {
                "is never finished"
            } else if batch.parts.len() > 1 && !watch.create.fragment {
                "comes in parts though nobody asked for that"
            } else {
                ""
            };
            if !fault.is_empty() {
                illegal.push(format!("{title}: a batch {fault}: at {} {revisions:?}", batch.revision));
            }
            last = last_revision(batch);
        }
    }

    /// Notifications come when it's time: how many, and between which events, is a matter of speed. But at each of
    /// them everything up to its revision must have come.
    fn check_notifications(
        &mut self,
        side: usize,
        title: &str,
        watch: &Watched,
        log: &WatchLog,
        round: &Round,
    ) {
        for notification in &log.notifications[watch.notifications_seen[side]..] {
            let revision = notification.revision;
            let fault = if !watch.create.progress_notify {
                "wasn't asked for"
            } else if revision > round.newest {
                "is of the future"
            } else if watch.fate != Fate::Cut && watch.expected_through(revision) > notification.delivered {
                "is ahead of events"
            } else {
                continue;
            };
            self.illegal[side].push(format!("{title}: a notification at {revision} {fault}"));
        }
    }

    fn watch(
        &mut self,
        title: &str,
        talk: &Talk,
        watch: &Watched,
        logs: [&WatchLog; 2],
        round: &Round,
        figures: &mut Figures,
    ) {
        let new = [0, 1].map(|side| &logs[side].batches[watch.batches_seen[side]..]);
        let exact = watch.settled && round.changes * talk.live() <= SURELY_QUEUED;
        let mut said = new.map(|batches| {
            let lines = batches.iter().flat_map(|batch| {
                // A watch that is up to date gets each change by itself, at once, and cut in the same places. One
                // that catches up gets what there is when its turn comes, under the revision of then.
                let title = if exact { batch_title(title, batch) } else { title.to_owned() };
                batch.events.iter().map(move |event| format!("{title}: {}", describe(event)))
            });
            lines.collect::<Vec<String>>()
        });
        figures.events += said[0].len();
        figures.parts += new[1].iter().map(|batch| batch.parts.len() - 1).sum::<usize>();
        figures.notifications += logs[1].notifications.len() - watch.notifications_seen[1];
        if exact {
            figures.exact_batches += new[1].len();
        }
        if watch.fate == Fate::Cut {
            // The cancel overtook events that were on their way; how many is a matter of speed.
            let common = said[0].len().min(said[1].len());
            figures.cut += usize::from(said[0].len() != said[1].len());
            said.iter_mut().for_each(|lines| lines.truncate(common));
        }
        for side in 0..2 {
            self.lines[side].append(&mut said[side]);
            // When a watch is told of its compaction is a matter of speed, and the cancel may be quicker.
            if let Some(told) =
                logs[side].compacted.as_ref().filter(|_| watch.fate != Fate::Cut && !watch.end_seen)
            {
                self.lines[side].push(format!("{title} has ended: {told}"));
            }
        }
    }
}

fn batch_title(title: &str, batch: &Batch) -> String {
    match &batch.parts[..] {
        [_] => format!("{title} at {}", batch.revision),
        parts => format!("{title} at {} in parts {parts:?}", batch.revision),
    }
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn last_revision(batch: &Batch) -> i64 {
    batch.events.last().map_or(0, revision)
}

fn describe(event: &Event) -> String {
    let kind = match event.r#type() {
        EventType::Put => "put",
        EventType::Delete => "delete",
    };
    let kv = event.kv.as_ref().map(pair).unwrap_or_default();
    match &event.prev_kv {
        Some(before) => format!("{kind} {kv}, before: {}", pair(before)),
        None => format!("{kind} {kv}"),
    }
}

fn pair(kv: &KeyValue) -> String {
    format!(
        "{}@{} = {:?} (version {}, since {}, lease {})",
        String::from_utf8_lossy(&kv.key).escape_debug(),
        kv.mod_revision,
        kv.value,
        kv.version,
        kv.create_revision,
        kv.lease
    )
}

//! The server's end of a watch stream, so that every order that etcd allows is one of a few steps.
//!
//! etcd answers requests by one queue and sends events and progress by another, and takes from them in any
//! order. Here the second queue has no events in it: a watch sends what it lacks at the moment it is sent,
//! up to any revision. That is every content that could have been in the queue by then, since a slow watch
//! may have been given each revision by itself or several in one response. What order the queue imposes is
//! kept by the notices in it: no event passes one, in either direction.
//!
//! Nor is there a network behind the queues: what is sent is received. Anything the client does while a
//! response is under way, it can as well do before that is sent; and what the server does meanwhile changes
//! nothing that could be sent before, but for compactions and cancels, which note what may still come.

use std::collections::VecDeque;

use etcd_watch_proto::etcdserverpb::WatchResponse as Frame;

use super::{
    plan::{Bug, ManualProgress, Plan},
    store::{Store, event},
    wire,
};

/// What the server looks at when it does something.
#[derive(Clone, Copy)]
pub(super) struct Member<'a> {
    pub(super) plan: &'a Plan,
    pub(super) store: &'a Store,
    /// What the client's own watch ids count from.
    pub(super) first_id: i64,
}

/// A request on its way. Watches are named by their number in the plan.
#[derive(Clone, Debug, Hash)]
pub(super) enum Asked {
    /// With the slot that the client's id stands for; `None` lets the server choose.
    Create {
        watch: u8,
        slot: Option<u8>,
        start: i64,
    },
    Cancel {
        slot: u8,
    },
    Progress,
}

/// A reply on its way.
#[derive(Clone, Debug, Hash)]
enum Reply {
    Created { slot: u8, revision: i64 },
    Canceled { slot: u8, revision: i64 },
    Progress { revision: i64 },
}

/// A progress notification, which waits for the events before it.
#[derive(Clone, Debug, Hash)]
struct Notice {
    /// The watch it is for; `None` for all.
    slot: Option<u8>,
    revision: i64,
    /// The watches there were: others' events come after it.
    known: u32,
}

/// A watch as the server has it.
#[derive(Clone, Debug, Hash)]
pub(super) struct Served {
    pub(super) slot: u8,
    pub(super) watch: u8,
    /// The next revision to send.
    next: i64,
    /// Its `Created` has been sent.
    is_announced: bool,
    life: Life,
    /// A response of which a part has been sent.
    half: Option<Half>,
    /// Events up to here are ahead of a notice, so they will come.
    owed: i64,
    /// While `next` is compacted: events up to here may have been on their way before that.
    escaped: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Life {
    Live,
    /// Cancelled; events up to a revision may have been on their way before that.
    Ending {
        through: i64,
    },
    /// It has been told that it is compacted; etcd keeps it until it is cancelled.
    Compacted,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Half {
    /// Events sent.
    sent: u8,
    /// The last revision of the response.
    to: i64,
}

/// The server's end of one stream.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Server {
    pub(super) inbox: VecDeque<Asked>,
    replies: VecDeque<Reply>,
    notices: VecDeque<Notice>,
    pub(super) watches: Vec<Served>,
    next_slot: u8,
}

impl Served {
    pub(super) fn is_live(&self) -> bool {
        self.life == Life::Live
    }

    /// Whether it can only be told that it is compacted.
    fn is_doomed(&self, member: Member<'_>) -> bool {
        self.next < member.store.compacted && self.escaped < self.next
    }

    fn lacks(&self, member: Member<'_>) -> bool {
        self.next <= member.store.revision
    }

    fn events(&self, member: Member<'_>, to: i64) -> Vec<super::store::Change> {
        let range = &member.plan.watches[usize::from(self.watch)].range;
        member.store.seen(&member.plan.writes, range, self.next, to)
    }
}

impl Notice {
    fn knows(&self, slot: u8) -> bool {
        self.known & (1 << slot) != 0
    }
}

impl Server {
    /// What there is for the watch of a slot.
    fn served(&mut self, slot: u8) -> Option<&mut Served> {
        self.watches.iter_mut().find(|served| served.slot == slot)
    }

    pub(super) fn has_reply(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Whether the oldest request asks for progress that may be refused.
    pub(super) fn may_drop(&self, member: Member<'_>) -> bool {
        matches!(self.inbox.front(), Some(Asked::Progress))
            && member.plan.server.progress == ManualProgress::Ordered
            && self.vouches(member)
            && self.watches.iter().any(|served| served.is_live() && served.lacks(member))
    }

    /// Whether every watch may be up to date, as far as what is on its way counts.
    fn vouches(&self, member: Member<'_>) -> bool {
        let mut live = self.watches.iter().filter(|served| served.is_live()).peekable();
        live.peek().is_some() && live.all(|served| !served.is_doomed(member))
    }

    /// Handles the oldest request. An id that was used before is given back.
    pub(super) fn handle(&mut self, member: Member<'_>) -> Result<(), u8> {
        let revision = member.store.revision;
        match self.inbox.pop_front() {
            Some(Asked::Create { watch, slot, start }) => {
                let slot = slot.unwrap_or(self.next_slot);
                if slot < self.next_slot {
                    return Err(slot);
                }
                self.next_slot = slot + 1;
                // One that begins below the compaction has nothing on its way.
                let served = Served {
                    slot,
                    watch,
                    next: start,
                    is_announced: false,
                    life: Life::Live,
                    half: None,
                    owed: 0,
                    escaped: start - 1,
                };
                self.watches.push(served);
                let revision = if member.plan.server.synthetic_created { start } else { revision };
                self.replies.push_back(Reply::Created { slot, revision });
            }
            Some(Asked::Cancel { slot }) => {
                if let Some(served) = self.served(slot) {
                    let through = if served.is_live() { revision } else { 0 };
                    served.life = Life::Ending { through };
                    self.replies.push_back(Reply::Canceled { slot, revision });
                }
            }
            Some(Asked::Progress) => match member.plan.server.progress {
                ManualProgress::Ordered if self.vouches(member) => self.vouch(None, revision),
                ManualProgress::Overtaking => self.replies.push_back(Reply::Progress { revision }),
                ManualProgress::Ordered | ManualProgress::Ignored => {}
            },
            None => {}
        }
        self.settle(member);
        Ok(())
    }

    /// Puts a notice behind the events that are due.
    fn vouch(&mut self, slot: Option<u8>, revision: i64) {
        let concerned = self.watches.iter_mut().filter(|served| served.is_live());
        let mut known = 0;
        for served in concerned {
            known |= 1 << served.slot;
            if slot.is_none_or(|slot| slot == served.slot) {
                served.owed = revision;
            }
        }
        self.notices.push_back(Notice { slot, revision, known });
    }

    /// The watches that may be sent a periodic notification.
    pub(super) fn notifiable(&self, member: Member<'_>) -> impl Iterator<Item = u8> {
        self.watches
            .iter()
            .filter(move |served| served.is_live() && served.is_announced && !served.is_doomed(member))
            .map(|served| served.slot)
    }

    pub(super) fn notify(&mut self, member: Member<'_>, slot: u8) {
        self.vouch(Some(slot), member.store.revision);
    }

    /// The store is about to be compacted: what is due by now may be on its way, or not.
    pub(super) fn expect_compaction(&mut self, member: Member<'_>) {
        // Of one that has been compacted before, no more than then.
        for served in self.watches.iter_mut().filter(|served| !served.is_doomed(member)) {
            served.escaped = member.store.revision;
        }
    }

    /// Watches pass over revisions without events for them, and forget what has no meaning any more.
    pub(super) fn settle(&mut self, member: Member<'_>) {
        for served in &mut self.watches {
            while served.is_live()
                && served.half.is_none()
                && served.next >= member.store.compacted
                && served.lacks(member)
                && served.events(member, served.next).is_empty()
            {
                served.next += 1;
            }
            if served.next > served.owed {
                served.owed = 0;
            }
            if served.next >= member.store.compacted {
                served.escaped = 0;
            }
        }
    }

    pub(super) fn take_reply(&mut self, member: Member<'_>) -> Option<Frame> {
        Some(match self.replies.pop_front()? {
            Reply::Created { slot, revision } => {
                if let Some(served) = self.served(slot) {
                    served.is_announced = true;
                }
                wire::created(member, slot, revision)
            }
            Reply::Canceled { slot, revision } => {
                self.watches.retain(|served| served.slot != slot);
                self.notices.retain(|notice| notice.slot != Some(slot));
                wire::canceled(member, slot, revision)
            }
            Reply::Progress { revision } => wire::progress(member, None, revision),
        })
    }

    /// Whether the events before the oldest notice have all been sent.
    pub(super) fn has_notice(&self, member: Member<'_>) -> bool {
        let Some(notice) = self.notices.front() else { return false };
        let is_early = member.plan.bug == Some(Bug::EarlyNotifications) && notice.slot.is_some();
        is_early
            || self.watches.iter().all(|served| {
                let is_ahead = match notice.slot {
                    Some(slot) => served.slot == slot,
                    // The events of a watch that is not announced are held, and this is not.
                    None => served.is_live() && served.is_announced && notice.knows(served.slot),
                };
                !is_ahead || served.next > notice.revision
            })
    }

    pub(super) fn take_notice(&mut self, member: Member<'_>) -> Option<Frame> {
        let notice = self.notices.pop_front()?;
        Some(wire::progress(member, notice.slot, notice.revision))
    }

    /// The last revision that a watch's events may be sent of now.
    fn reach(&self, member: Member<'_>, served: &Served) -> i64 {
        let mut to = match served.life {
            Life::Live => member.store.revision,
            Life::Ending { through } => through,
            Life::Compacted => 0,
        };
        match self.notices.front() {
            Some(notice) if notice.knows(served.slot) => to = to.min(notice.revision),
            Some(_) => return 0,
            None => {}
        }
        if served.next < member.store.compacted { to.min(served.escaped) } else { to }
    }

    /// The responses with events that may be sent now: of which watch, the last revision, how many events.
    pub(super) fn sendable(&self, member: Member<'_>) -> Vec<(u8, i64, u8)> {
        let mut sendable = Vec::new();
        for served in self.watches.iter().filter(|served| served.is_announced && served.half.is_none()) {
            let events = served.events(member, self.reach(member, served));
            for (index, (revision, _)) in events.iter().enumerate() {
                if events.get(index + 1).is_none_or(|(next, _)| next > revision) {
                    sendable.push((served.slot, *revision, wire::small(index + 1)));
                }
            }
        }
        sendable
    }

    /// The responses of which a part has been sent: of which watch, and how many events are left.
    pub(super) fn halves(&self, member: Member<'_>) -> Vec<(u8, u8)> {
        let left = |served: &Served| {
            let half = served.half?;
            Some((served.slot, wire::small(served.events(member, half.to).len()) - half.sent))
        };
        self.watches.iter().filter_map(left).collect()
    }

    /// Sends a watch's events up to a revision, or the first few of them.
    pub(super) fn send(&mut self, member: Member<'_>, slot: u8, to: i64, cut: Option<u8>) -> Option<Frame> {
        let served = self.served(slot)?;
        served.half = Some(Half { sent: 0, to });
        self.send_rest(member, slot, cut)
    }

    /// Sends what is left of a response, or the first few events of that.
    pub(super) fn send_rest(&mut self, member: Member<'_>, slot: u8, cut: Option<u8>) -> Option<Frame> {
        let served = self.served(slot)?;
        let half = served.half.take()?;
        let left = served.events(member, half.to).split_off(usize::from(half.sent));
        let events = left.into_iter().map(event).take(cut.map_or(usize::MAX, usize::from)).collect();
        match cut {
            Some(events) => served.half = Some(Half { sent: half.sent + events, ..half }),
            None => served.next = half.to + 1,
        }
        let frame = wire::events(member, slot, half.to, events, cut.is_some());
        self.settle(member);
        Some(frame)
    }

    /// The watches that may be told that they are compacted.
    pub(super) fn compactable(&self, member: Member<'_>) -> impl Iterator<Item = u8> {
        let is_free = self.notices.is_empty();
        self.watches
            .iter()
            .filter(move |served| {
                let is_behind = served.next < member.store.compacted && served.next > served.owed;
                is_free && is_behind && served.is_live() && served.is_announced && served.half.is_none()
            })
            .map(|served| served.slot)
    }

    pub(super) fn tell_compacted(&mut self, member: Member<'_>, slot: u8) -> Option<Frame> {
        self.served(slot)?.life = Life::Compacted;
        Some(wire::compacted(member, slot))
    }

    /// What it would go on to send of what there is: for a driver that doesn't stop when it should.
    pub(super) fn leftovers(&mut self, member: Member<'_>) -> Vec<Frame> {
        let mut frames = Vec::new();
        for (slot, _) in self.halves(member) {
            frames.extend(self.send_rest(member, slot, None));
        }
        while let Some(&(slot, to, _)) = self.sendable(member).last() {
            frames.extend(self.send(member, slot, to, None));
        }
        frames
    }
}

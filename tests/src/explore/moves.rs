//! What can happen next.

use etcd_watch_core::{TimeoutReason, WatchState};

use super::{
    plan::{Bug, Consumers},
    server::{Member, Server},
    step::Step,
    wire::small,
    world::{Left, Link, World},
};

/// What can happen in a state.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// What happens sooner or later.
    pub(super) due: Vec<Step>,
    /// What may happen, or not: faults, and what is counted.
    pub(super) possible: Vec<Step>,
}

impl World<'_> {
    /// Everything that can happen next.
    pub(super) fn moves(&mut self) -> Moves {
        let mut moves = Moves::default();
        if !self.store.is_complete(&self.plan.writes) {
            moves.due.push(Step::Write);
        }
        self.client_moves(&mut moves);
        self.consumer_moves(&mut moves);
        let left = self.left;
        let is_read = match self.link {
            Link::Open { stream, .. } => self.machine.wants_frame(stream),
            Link::None | Link::Opening(_) => false,
        };
        if let Some((server, member)) = self.server() {
            if is_read {
                responses(&mut moves, left, server, member);
            }
            server_moves(&mut moves, left, server, member);
        }
        if left.allows(left.compactions) {
            let revisions = self.store.compacted.max(1) + 1..=self.store.revision;
            moves.possible.extend(revisions.map(|revision| Step::Compact { revision: small(revision) }));
        }
        moves
    }

    fn client_moves(&self, moves: &mut Moves) {
        let may_cut = self.left.allows(self.left.cuts);
        match self.link {
            Link::None => {}
            Link::Opening(_) => moves.due.push(Step::Opened),
            Link::Open { .. } if !self.stale.is_empty() => moves.due.push(Step::Stale),
            Link::Open { .. } => {}
        }
        if may_cut && !matches!(self.link, Link::None) {
            moves.possible.push(Step::Cut);
        }
        if let Some(read) = &self.read {
            let asked_at = read.asked_at - i64::from(self.plan.bug == Some(Bug::StaleReads));
            let revisions = asked_at.max(1)..=self.store.revision;
            moves.due.extend(revisions.map(|revision| Step::Answer { revision: small(revision) }));
            if may_cut {
                moves.possible.push(Step::FailRead);
            }
        }
        match self.machine.timeout_reason() {
            None => {}
            Some(TimeoutReason::Reconnect | TimeoutReason::RetryRange | TimeoutReason::Linger) => {
                moves.due.push(Step::Timeout);
            }
            Some(TimeoutReason::AnswerDue) if may_cut => moves.possible.push(Step::Timeout),
            Some(TimeoutReason::AnswerDue) => {}
            Some(_) if self.left.repeats > 0 => moves.possible.push(Step::Timeout),
            Some(_) => {}
        }
    }

    fn consumer_moves(&self, moves: &mut Moves) {
        for consumer in &self.consumers {
            let watch = small(consumer.watch);
            let Some(key) = consumer.key else {
                moves.due.push(Step::Watch { watch });
                continue;
            };
            if consumer.is_told && self.plan.consumers != Consumers::Prompt {
                moves.due.push(Step::Take { watch });
            }
            let has_ended =
                self.machine.watch_stats(key).is_none_or(|stats| stats.state == WatchState::Closed);
            // What has ended already is not changed by a cancel or a question.
            if !consumer.is_open() || has_ended {
                continue;
            }
            if self.left.asks > 0 {
                moves.possible.push(Step::Ask { watch });
            }
            if self.left.allows(self.left.cancels) {
                moves.possible.push(Step::Cancel { watch });
            }
        }
    }
}

/// What the server does without the client noticing.
fn server_moves(moves: &mut Moves, left: Left, server: &Server, member: Member<'_>) {
    if !server.inbox.is_empty() {
        moves.due.push(Step::Handle);
    }
    if server.may_drop(member) {
        moves.due.push(Step::Drop);
    }
    if left.notifications > 0 {
        moves.possible.extend(server.notifiable(member).map(|slot| Step::Notify { slot }));
    }
}

/// What may reach the client.
fn responses(moves: &mut Moves, left: Left, server: &Server, member: Member<'_>) {
    if server.has_reply() {
        moves.due.push(Step::Control);
    }
    if server.has_notice(member) {
        moves.due.push(Step::Progress);
    }
    let may_cut = left.allows(left.fragments);
    for (slot, to, events) in server.sendable(member) {
        let to = small(to);
        moves.due.push(Step::Events { slot, to, cut: None });
        if may_cut {
            moves.possible.extend((1..events).map(|cut| Step::Events { slot, to, cut: Some(cut) }));
        }
        if left.losses > 0 {
            moves.possible.push(Step::Lose { slot, to });
        }
    }
    for (slot, events) in server.halves(member) {
        moves.due.push(Step::Rest { slot, cut: None });
        if may_cut {
            moves.possible.extend((1..events).map(|cut| Step::Rest { slot, cut: Some(cut) }));
        }
    }
    moves.due.extend(server.compactable(member).map(|slot| Step::Compacted { slot }));
}

impl Left {
    fn allows(self, kind: u8) -> bool {
        self.faults > 0 && kind > 0
    }
}

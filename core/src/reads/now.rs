//! "From now" without a race: the current revision is read first, once for all the watches that wait.
//!
//! A linearizable read finds no less than the store had shown before the read was sent. If one does, a proxy or a
//! restored store answers. Then another member is asked, until the deadline for members that lag; after that it was the
//! store that went back, and watches without a past begin where it is now.

use crate::{
    Instant, RangeDone, WatchConfig,
    reads::{Group, Shown},
};

/// What an answer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Now {
    /// The watches begin behind it.
    Known,
    /// The watches begin behind it, and what the group's streams have shown is of a store that is gone.
    WentBack,
    /// It is behind what was shown: another member is asked after a pause.
    Behind,
}

impl Group {
    /// The revision that the group's own answers have shown.
    pub(crate) fn shown(&self) -> Shown {
        self.shown
    }

    /// A read of the current revision has been answered. `shown` is what the store had shown when it was sent.
    pub(crate) fn now_answered(
        &mut self,
        now: Instant,
        config: &WatchConfig,
        rng: &mut fastrand::Rng,
        shown: Shown,
        done: RangeDone,
    ) -> Now {
        self.now.answered();
        let mut outcome = Now::Known;
        if done.revision < shown.by(done.cluster_id) {
            let deadline = *self.behind_since.get_or_insert(now) + config.lag_deadline;
            if now < deadline {
                self.now.wait_until((now + self.behind.next(config, rng)).min(deadline));
                return Now::Behind;
            }
            self.shown = Shown::default();
            outcome = Now::WentBack;
        }
        self.behind_since = None;
        self.behind.reset();
        self.shown.note(done.cluster_id, done.revision);
        outcome
    }
}

//! History that is compacted, and databases that are defragmented.

use etcd_watch_client::CallError;
use etcd_watch_testkit::harness::HarnessError;

use super::Storm;
use crate::{error::SoakError, faults::Deck};

impl Storm {
    /// `None` if the store was not asked, or refused.
    pub(super) async fn compact(&self, deck: &mut Deck) -> Option<String> {
        let (recorded, least) = (self.recorder.recorded(), self.clock.compacted());
        let server = self.world.lines.differences();
        // As much as can be, or half of it. Some servers lose a slow watch and don't tell; on them, only history that no
        // watch needs any more is compacted.
        let recorded = if server.loses_slow_watches { self.clock.settled() } else { recorded };
        let wanted = if deck.random().bool() { recorded } else { recorded - (recorded - least).max(0) / 2 };
        let revision =
            if server.loses_deletes { self.recorder.ledger().put_at_or_before(wanted)? } else { wanted };
        if revision <= least {
            return None;
        }
        self.clock.compact(revision);
        match self.direct.compact(revision).await {
            Ok(_) => Some(format!("up to revision {revision} of {recorded}")),
            Err(CallError::MaybeExecuted { .. }) => {
                Some(format!("up to revision {revision} of {recorded}, maybe"))
            }
            Err(error) => {
                self.journal.note(format!("not compacted up to {revision}: {error}"));
                None
            }
        }
    }

    pub(super) async fn defragment(&self, member: usize) -> Result<Option<String>, SoakError> {
        let etcdctl = self.world.cluster.read().await.member(member).etcdctl()?;
        match etcdctl.run(["defrag"]).await {
            Ok(_) => Ok(Some(format!("member {member}"))),
            // A machine that is busy may make it wait for longer than the program does.
            Err(HarnessError::EtcdctlFailed { output, .. }) => {
                self.journal.note(format!("member {member} was not defragmented: {output}"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

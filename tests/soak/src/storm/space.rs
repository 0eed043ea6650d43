//! A quota that is used up.

use std::time::{Duration, Instant};

use etcd_watch_client::{Put, Refusal, admin::AlarmKind};

use super::Storm;
use crate::{error::SoakError, faults::Deck};

/// Before all keys that anybody watches but the recorder.
const FILLER: &str = "filler";
const LARGE: usize = 64 << 10;
/// The flag of etcd that says how large the database may get.
const QUOTA: &str = "quota-backend-bytes";
/// How much the database may grow before the quota is used up. The load is not to do so while the member starts.
const SLACK: u64 = 4 << 20;

impl Storm {
    /// A member gets a quota that is used up soon, and the store takes no puts, until history was compacted, every
    /// database defragmented, and the alarm disarmed.
    pub(super) async fn use_up_space(
        &self,
        member: usize,
        lasts: Duration,
        deck: &mut Deck,
    ) -> Result<Option<String>, SoakError> {
        self.shrink(member).await?;
        let size = self.size(member).await?;
        let quota = Some((size + SLACK).to_string());
        self.restart_as(member, false, |server| {
            server.set_flag(QUOTA, quota);
            Ok(())
        })
        .await?;
        let writes = self.fill().await?;
        self.until("the alarm is raised", || async {
            match self.direct.maintenance().alarms().await {
                Ok(alarms) if alarms.iter().any(|alarm| alarm.kind() == AlarmKind::NoSpace) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        let since = Instant::now();
        self.meanwhile(lasts, deck).await;
        self.until("a put is refused for want of space", || self.is_refused()).await?;
        let refused = since.elapsed();
        self.make_room(deck).await?;
        // Nobody else raises the alarm again, and no member is healthy while it is raised.
        self.world.set_down(member, true);
        self.world.cluster.write().await.member_mut(member).kill();
        self.disarm().await?;
        self.restart_as(member, false, |server| {
            server.set_flag(QUOTA, None);
            Ok(())
        })
        .await?;
        Ok(Some(format!(
            "member {member} with a quota of {} KiB, used up by {writes} puts of 64 KiB; no puts for {:.1} s",
            (size + SLACK) >> 10,
            refused.as_secs_f64()
        )))
    }

    /// Puts until there is no space; how many puts were taken.
    async fn fill(&self) -> Result<u32, SoakError> {
        let end = Instant::now() + self.settings.patience;
        let mut writes = 0;
        while Instant::now() < end {
            match self.direct.put_with(Put::new(FILLER, vec![b'x'; LARGE])).await {
                Err(error) if error.refusal() == Some(Refusal::NoSpace) => return Ok(writes),
                Ok(_) => writes += 1,
                // It may have been taken all the same.
                Err(_) => {}
            }
        }
        Err(SoakError::Waited { what: "the quota is used up", last: format!("{writes} puts") })
    }

    async fn is_refused(&self) -> Result<(), String> {
        match self.direct.put(FILLER, "").await {
            Err(error) if error.refusal() == Some(Refusal::NoSpace) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    /// As an operator does it.
    async fn make_room(&self, deck: &mut Deck) -> Result<(), SoakError> {
        let deleted = self.until("the filler is deleted", || self.direct.delete(FILLER)).await?;
        let revision = deleted.revision();
        if !self.recorder.wait_for(revision, self.settings.patience).await {
            let last = format!("it is at {}", self.recorder.recorded());
            return Err(SoakError::Waited { what: "the recorder has come to the filler's end", last });
        }
        // It may not reach as far as the filler: then there is room once the quota is what it was.
        if let Some(what) = self.compact(deck).await {
            self.journal.note(format!("to make room, compacted {what}"));
        }
        for number in self.world.numbers().await {
            self.shrink(number).await?;
        }
        Ok(())
    }

    /// Disarms until a put is taken.
    async fn disarm(&self) -> Result<(), SoakError> {
        self.until("there is space again", || async {
            let disarmed = self.direct.maintenance().disarm_all().await.map_err(|error| error.to_string())?;
            self.journal.note(format!("disarmed {disarmed:?}"));
            self.direct.put(FILLER, "").await.map_err(|error| error.to_string())
        })
        .await
        .map(drop)
    }

    async fn shrink(&self, member: usize) -> Result<(), SoakError> {
        let endpoint = &self.world.endpoints[member];
        let maintenance = self.direct.maintenance();
        self.until("a database is defragmented", || maintenance.defragment(endpoint)).await.map(drop)
    }

    async fn size(&self, member: usize) -> Result<u64, SoakError> {
        let endpoint = &self.world.endpoints[member];
        let status = self
            .until("a member tells its size", || async { self.direct.maintenance().status(endpoint).await });
        Ok(status.await?.db_size())
    }
}

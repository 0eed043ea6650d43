//! Members that end, hang, come and go.

use std::time::Duration;

use etcd_watch_testkit::harness::EtcdServer;

use super::Storm;
use crate::{
    error::SoakError,
    faults::{Deck, Fault},
    world::MEMBERS,
};

impl Storm {
    pub(super) async fn strike_member(
        &self,
        fault: Fault,
        member: usize,
        lasts: Duration,
        deck: &mut Deck,
    ) -> Result<Option<String>, SoakError> {
        let world = &self.world;
        match fault {
            Fault::Kill => {
                world.set_down(member, true);
                world.cluster.write().await.member_mut(member).kill();
                self.meanwhile(lasts, deck).await;
                world.cluster.write().await.member_mut(member).restart_async().await?;
            }
            Fault::Restart => self.restart_as(member, true, |_| Ok(())).await?,
            Fault::Freeze => {
                world.set_down(member, true);
                world.cluster.read().await.member(member).pause()?;
                self.meanwhile(lasts, deck).await;
                world.cluster.read().await.member(member).resume()?;
            }
            _ => {
                world.cluster.read().await.partition(&[member]);
                self.meanwhile(lasts, deck).await;
                world.cluster.read().await.heal();
            }
        }
        world.cluster.read().await.member(member).wait_until_healthy().await?;
        world.set_down(member, false);
        Ok(Some(format!("member {member} for {:.1} s", lasts.as_secs_f64())))
    }

    /// A learner comes, gets its vote, and somebody goes.
    pub(super) async fn exchange(
        &self,
        lasts: Duration,
        deck: &mut Deck,
    ) -> Result<Option<String>, SoakError> {
        let world = &self.world;
        let Some(&added) = world.cluster.read().await.free_numbers().first() else { return Ok(None) };
        world.set_down(added, true);
        world.cluster.write().await.add_learner(added).await?;
        self.meanwhile(lasts / 2, deck).await;
        world.cluster.write().await.promote(added).await?;
        world.set_down(added, false);
        self.meanwhile(lasts / 2, deck).await;
        let members = world.numbers().await;
        let removed = members[deck.random().usize(..members.len())];
        world.set_down(removed, true);
        world.cluster.write().await.remove(removed).await?;
        world.set_down(removed, false);
        Ok(Some(format!("member {added} was added, and member {removed} removed from {}", MEMBERS + 1)))
    }

    /// A member is lost with its data, and another one comes in its place.
    pub(super) async fn replace(
        &self,
        member: usize,
        lasts: Duration,
        deck: &mut Deck,
    ) -> Result<Option<String>, SoakError> {
        let world = &self.world;
        world.set_down(member, true);
        world.cluster.write().await.member_mut(member).kill();
        self.meanwhile(lasts, deck).await;
        world.cluster.write().await.remove(member).await?;
        let is_learner = deck.random().bool();
        {
            let mut cluster = world.cluster.write().await;
            if is_learner {
                cluster.add_learner(member).await?;
                cluster.promote(member).await?;
            } else {
                cluster.add(member).await?;
                cluster.member(member).wait_until_healthy().await?;
            }
        }
        world.set_down(member, false);
        let how = if is_learner { "as a learner first" } else { "with a vote at once" };
        Ok(Some(format!("member {member}, {how}")))
    }

    /// Changes what a member is like and starts it again; it is asked to end, or killed.
    pub(super) async fn restart_as(
        &self,
        member: usize,
        is_asked: bool,
        change: impl FnOnce(&mut EtcdServer) -> Result<(), SoakError>,
    ) -> Result<(), SoakError> {
        let world = &self.world;
        world.set_down(member, true);
        {
            let mut cluster = world.cluster.write().await;
            let server = cluster.member_mut(member);
            if is_asked {
                self.stop(member, server);
            } else {
                server.kill();
            }
            change(server)?;
            server.restart_async().await?;
        }
        world.cluster.read().await.member(member).wait_until_healthy().await?;
        world.set_down(member, false);
        Ok(())
    }

    /// Ends that take too long end in a kill.
    fn stop(&self, member: usize, server: &mut EtcdServer) {
        if let Err(error) = tokio::task::block_in_place(|| server.stop()) {
            self.journal.note(format!("member {member} was asked to end: {error}"));
        }
    }
}

//! Who leads.

use std::time::{Duration, Instant};

use super::EtcdCluster;
use crate::harness::{HarnessError, metrics::Metrics, wait::INTERVAL};

/// How long an election may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a member says of the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// It leads.
    Leads,
    /// Another one does.
    Follows,
    /// It knows of none.
    Leaderless,
    /// It doesn't answer.
    Silent,
}

impl EtcdCluster {
    /// The number of the member that leads, if all that answer agree that there is a leader and one of them is it.
    ///
    /// # Errors
    /// If the members can't be asked.
    pub async fn leader(&self) -> Result<Option<usize>, HarnessError> {
        let all = self.numbers();
        Ok(agreed(&all, &self.views(&all).await?))
    }

    /// Waits for the members to agree on a leader; its number.
    ///
    /// # Errors
    /// If they don't within 30 s.
    pub async fn wait_for_leader(&self) -> Result<usize, HarnessError> {
        let all = self.numbers();
        self.wait_for_leader_among(&all).await
    }

    /// Waits for these members, of one side of a partition say, to agree on a leader who is one of them; its number.
    /// Those that don't answer have no say.
    ///
    /// # Errors
    /// If they don't within 30 s.
    pub async fn wait_for_leader_among(&self, members: &[usize]) -> Result<usize, HarnessError> {
        self.wait("they agree on a leader", members, |views| agreed(members, views)).await
    }

    /// Waits until a member knows of no leader.
    ///
    /// # Errors
    /// If it still does after 30 s.
    pub async fn wait_until_leaderless(&self, member: usize) -> Result<(), HarnessError> {
        let is_leaderless = |views: &[View]| (views == [View::Leaderless]).then_some(());
        self.wait("it knows of no leader", &[member], is_leaderless).await
    }

    async fn wait<T>(
        &self,
        what: &'static str,
        members: &[usize],
        found: impl Fn(&[View]) -> Option<T>,
    ) -> Result<T, HarnessError> {
        let end = Instant::now() + PATIENCE;
        loop {
            let views = self.views(members).await?;
            if let Some(found) = found(&views) {
                return Ok(found);
            }
            if Instant::now() >= end {
                let views = members.iter().zip(views).map(|(number, view)| format!("{number}: {view:?}"));
                let views = views.collect::<Vec<_>>().join(", ");
                return Err(HarnessError::NoLeader { what, waited: PATIENCE, views });
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Asks all at once: one that is frozen takes long to be silent.
    async fn views(&self, members: &[usize]) -> Result<Vec<View>, HarnessError> {
        let asked: Vec<_> = members
            .iter()
            .map(|&number| {
                let member = self.member(number);
                let (address, runs) = (member.pages_address(), member.pid().is_some());
                tokio::task::spawn_blocking(move || {
                    if runs { view(Metrics::read(address).ok()) } else { View::Silent }
                })
            })
            .collect();
        let mut views = Vec::new();
        for asked in asked {
            let view = asked.await.map_err(|error| HarnessError::io("ask a member")(error.into()))?;
            views.push(view);
        }
        Ok(views)
    }
}

fn view(page: Option<Metrics>) -> View {
    let value = |name| page.as_ref().and_then(|page| page.get(name));
    match (value("etcd_server_is_leader"), value("etcd_server_has_leader")) {
        (Some(1.0), Some(1.0)) => View::Leads,
        (Some(_), Some(1.0)) => View::Follows,
        (Some(_), Some(_)) => View::Leaderless,
        _ => View::Silent,
    }
}

/// The leader, if there is exactly one and nobody knows of none.
fn agreed(members: &[usize], views: &[View]) -> Option<usize> {
    let mut leaders = members.iter().zip(views).filter(|(_, view)| **view == View::Leads);
    let leader = leaders.next().map(|(number, _)| *number);
    leader.filter(|_| leaders.next().is_none() && !views.contains(&View::Leaderless))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_agreed_on_if_it_is_the_only_one_and_nobody_who_answers_lacks_it() {
        use View::{Follows, Leaderless, Leads, Silent};
        assert_eq!(agreed(&[0, 1, 2], &[Follows, Leads, Follows]), Some(1));
        assert_eq!(agreed(&[1, 2], &[Silent, Leads]), Some(2));
        assert_eq!(agreed(&[1, 2], &[Follows, Follows]), None);
        assert_eq!(agreed(&[0, 1, 2], &[Leads, Leads, Follows]), None);
        assert_eq!(agreed(&[0, 1, 2], &[Leads, Leaderless, Follows]), None);
        assert_eq!(agreed(&[0], &[Silent]), None);
    }
}

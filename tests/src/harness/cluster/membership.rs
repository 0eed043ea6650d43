//! Members that come and go.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::EtcdCluster;
use crate::harness::{EtcdServer, Etcdctl, HarnessError, http, start::PAGE_TIMEOUT, wait::INTERVAL};

/// How long a change of the membership may take: etcd takes none before all of the cluster has been well for 5 s, and a
/// learner has to follow the leader before it gets a vote.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a member that was removed may go on before it is killed. It ends by itself if it hears of it.
const LEAVE: Duration = Duration::from_secs(3);

/// A member, as a member lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    id: u64,
    peer_url: String,
    is_learner: bool,
}

impl EtcdCluster {
    /// Makes a number that is free the number of a member without a vote, which is of the version of the others, and starts
    /// it with no data. It serves no more than learners do until it is [promoted](EtcdCluster::promote).
    ///
    /// # Errors
    /// If the cluster doesn't take it within a minute, or it doesn't start.
    ///
    /// # Panics
    /// If the number is not free.
    pub async fn add_learner(&mut self, number: usize) -> Result<(), HarnessError> {
        self.join(number, &["--learner"]).await
    }

    /// The same with a vote from the beginning.
    ///
    /// # Errors
    /// As [`add_learner`](EtcdCluster::add_learner).
    ///
    /// # Panics
    /// If the number is not free.
    pub async fn add(&mut self, number: usize) -> Result<(), HarnessError> {
        self.join(number, &[]).await
    }

    async fn join(&mut self, number: usize, flags: &[&str]) -> Result<(), HarnessError> {
        assert!(self.free.contains(&number), "member {number} is one already");
        let member = &self.members[number];
        let url = member.advertised_peer_url();
        let mut command = vec!["member".to_owned(), "add".to_owned(), member.name.clone()];
        command.push(format!("--peer-urls={url}"));
        command.extend(flags.iter().map(|&flag| flag.to_owned()));
        let is_there = |list: &[Listed]| find(list, &url).is_some();
        self.change(number, is_there, |_| command.clone()).await?;
        let like = self.members().next().map(|other| (other.member.binary.clone(), other.token.clone()));
        self.free.remove(&number);
        let initial_cluster = self.initial_cluster();
        self.learn_ids()?;
        let member = &mut self.members[number];
        if let Some(like) = like {
            (member.member.binary, member.token) = like;
        }
        member.set_membership(initial_cluster, true);
        member.remove_data()?;
        member.restart_async().await
    }

    /// Gives a member its vote, once it follows the leader, and waits until it serves.
    ///
    /// # Errors
    /// If it doesn't get it within a minute.
    pub async fn promote(&mut self, number: usize) -> Result<(), HarnessError> {
        let url = self.members[number].advertised_peer_url();
        let has_vote = |list: &[Listed]| find(list, &url).is_some_and(|member| !member.is_learner);
        self.change(number, has_vote, |list| by_id("promote", list, &url)).await?;
        self.members[number].wait_until_healthy().await
    }

    /// Removes a member, which may be down, and its data; its number is free then.
    ///
    /// # Errors
    /// If the cluster doesn't let go of it within a minute.
    pub async fn remove(&mut self, number: usize) -> Result<(), HarnessError> {
        let url = self.members[number].advertised_peer_url();
        let is_gone = |list: &[Listed]| find(list, &url).is_none();
        self.change(number, is_gone, |list| by_id("remove", list, &url)).await?;
        self.free.insert(number);
        self.learn_ids()?;
        let end = Instant::now() + LEAVE;
        while self.members[number].has_process()? && Instant::now() < end {
            tokio::time::sleep(INTERVAL).await;
        }
        self.members[number].kill();
        self.members[number].remove_data()
    }

    /// Asks for a change by another member until it is made. An answer that is lost doesn't tell, but the list does.
    async fn change(
        &self,
        number: usize,
        is_made: impl Fn(&[Listed]) -> bool,
        command: impl Fn(&[Listed]) -> Vec<String>,
    ) -> Result<(), HarnessError> {
        let end = Instant::now() + PATIENCE;
        loop {
            let list = self.listed(number)?;
            if is_made(&list) {
                return Ok(());
            }
            match self.etcdctl_past(number)?.run(command(&list)).await {
                Ok(_) | Err(HarnessError::EtcdctlFailed { .. }) if Instant::now() < end => {}
                Ok(_) => {
                    return Err(HarnessError::NotChanged { waited: PATIENCE, members: format!("{list:?}") });
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Those who run, but this one.
    fn others(&self, number: usize) -> impl Iterator<Item = &EtcdServer> {
        let others = self.all_but(number).into_iter().map(|other| &self.members[other]);
        others.filter(|other| other.pid().is_some())
    }

    fn etcdctl_past(&self, number: usize) -> Result<Etcdctl, HarnessError> {
        let first = self.others(number).next().ok_or(HarnessError::NotRunning { action: "run etcdctl" })?;
        let endpoints: Vec<String> = self.others(number).map(EtcdServer::endpoint).collect();
        Ok(first.etcdctl()?.with_endpoint(endpoints.join(",")))
    }

    /// All members, as one that runs lists them; not the one with this number.
    fn listed(&self, number: usize) -> Result<Vec<Listed>, HarnessError> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for member in self.others(number) {
            match http::get(member.ports.peer_address(), "/members", PAGE_TIMEOUT) {
                Ok(page) => return list(&page).ok_or_else(|| unreadable(page)),
                Err(error) => last = error,
            }
        }
        Err(HarnessError::io("read the cluster's members")(last))
    }

    /// Lets the network know who is who.
    pub(super) fn learn_ids(&self) -> Result<(), HarnessError> {
        let list = self.listed(self.members.len())?;
        let id =
            |member: &EtcdServer| find(&list, &member.advertised_peer_url()).map_or(0, |member| member.id);
        let ids: Arc<[u64]> = self.members.iter().map(id).collect();
        if self.numbers().into_iter().any(|number| ids[number] == 0) {
            return Err(unreadable(format!("{list:?}")));
        }
        self.network.change(|rules| rules.ids = ids);
        Ok(())
    }

    /// All members, as `--initial-cluster` has them.
    pub(super) fn initial_cluster(&self) -> String {
        let all = self.members().map(|member| format!("{}={}", member.name, member.advertised_peer_url()));
        all.collect::<Vec<_>>().join(",")
    }
}

fn unreadable(page: String) -> HarnessError {
    HarnessError::io("find all members in the cluster's list")(io::Error::other(page))
}

fn find<'a>(list: &'a [Listed], peer_url: &str) -> Option<&'a Listed> {
    list.iter().find(|member| member.peer_url == peer_url)
}

fn by_id(change: &str, list: &[Listed], peer_url: &str) -> Vec<String> {
    let id = find(list, peer_url).map_or(0, |member| member.id);
    vec!["member".to_owned(), change.to_owned(), format!("{id:x}")]
}

/// The list that the peer port shows.
fn list(page: &str) -> Option<Vec<Listed>> {
    let list: Value = serde_json::from_str(page).ok()?;
    let member = |member: &Value| {
        let peer_url = member["peerURLs"][0].as_str()?.to_owned();
        let is_learner = member["isLearner"].as_bool().unwrap_or(false);
        Some(Listed { id: member["id"].as_u64()?, peer_url, is_learner })
    };
    list.as_array()?.iter().map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_by_its_peer_url_and_its_id_read_to_the_last_bit() {
        let page = r#"[{"id":10276657743932975437,"peerURLs":["http://a"],"name":"one","clientURLs":[]},
                       {"id":2,"peerURLs":["http://b"],"isLearner":true,"name":"","clientURLs":["http://c"]}]"#;
        let list = list(page).unwrap();
        let one = Listed { id: 0x8e9e_05c5_2164_694d, peer_url: "http://a".to_owned(), is_learner: false };
        assert_eq!(find(&list, "http://a"), Some(&one));
        assert!(find(&list, "http://b").is_some_and(|two| two.is_learner && two.id == 2));
        assert_eq!(find(&list, "http://c"), None);
        assert_eq!(by_id("promote", &list, "http://a"), ["member", "promote", "8e9e05c52164694d"]);
    }
}

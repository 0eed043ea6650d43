//! The members of a cluster.

use etcd_watch_core::Header;
use etcd_watch_proto::etcdserverpb as pb;

use crate::{CallError, Endpoint, transport::wire::header};

/// One member of the cluster, as its member list has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    id: u64,
    name: String,
    peer_urls: Vec<String>,
    client_urls: Vec<String>,
    is_learner: bool,
}

impl Member {
    /// Its id. etcd's own tools write it in hexadecimal.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its name; empty until it has started once. The member's own word: it may hold any text.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the other members reach it.
    #[must_use]
    pub fn peer_urls(&self) -> &[String] {
        &self.peer_urls
    }

    /// Where clients reach it, by its own word; none until it has started once.
    #[must_use]
    pub fn client_urls(&self) -> &[String] {
        &self.client_urls
    }

    /// Whether it follows without a vote.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        self.is_learner
    }

    /// Whether it has started once, and so has a name.
    #[must_use]
    pub fn has_started(&self) -> bool {
        !self.name.is_empty()
    }
}

impl From<pb::Member> for Member {
    fn from(member: pb::Member) -> Self {
        let pb::Member { id, name, peer_urls, client_urls, is_learner } = member;
        Self { id, name, peer_urls, client_urls, is_learner }
    }
}

/// All members of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    header: Header,
    members: Vec<Member>,
}

impl Members {
    pub(super) fn new(sent: Option<pb::ResponseHeader>, members: Vec<pb::Member>) -> Self {
        Self { header: header(sent), members: members.into_iter().map(Member::from).collect() }
    }

    /// What the server tells of itself with the answer. Its revision is 0: etcd leaves it out here.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// The members.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The members, by value.
    #[must_use]
    pub fn into_members(self) -> Vec<Member> {
        self.members
    }
}

/// A member was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberAdded {
    member: Member,
    all: Members,
}

impl MemberAdded {
    /// `None` for an answer without a member, which is none of etcd's.
    pub(super) fn read(answer: pb::MemberAddResponse) -> Option<Self> {
        let pb::MemberAddResponse { header, member, members } = answer;
        Some(Self { member: member?.into(), all: Members::new(header, members) })
    }

    /// The new member, which has not started yet.
    #[must_use]
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// All members, the new one among them.
    #[must_use]
    pub fn all(&self) -> &Members {
        &self.all
    }
}

/// Checks peer URLs by the rules of etcd's `types.NewURLs`: at least one, each of a scheme that is known, with a host and
/// a port and no path.
pub(super) fn peer_urls<U: Into<String>>(
    method: &'static str,
    urls: impl IntoIterator<Item = U>,
) -> Result<Vec<String>, CallError> {
    let invalid = |problem| Err(CallError::InvalidArgument { method, field: "peer_urls", problem });
    let urls: Vec<String> = urls.into_iter().map(|url| url.into().trim().to_owned()).collect();
    if urls.is_empty() {
        return invalid("is empty: say where the other members reach this one");
    }
    for url in &urls {
        let Some((scheme, place)) = url.split_once("://") else {
            return invalid("has a URL without a scheme: write http://host:port or https://host:port");
        };
        match scheme {
            "unix" | "unixs" if place.is_empty() => return invalid("has a unix URL without a path"),
            "unix" | "unixs" => {}
            "http" | "https" if place.contains('/') => {
                return invalid("has a URL with a path: write http://host:port or https://host:port");
            }
            "http" | "https" if url.parse::<Endpoint>().is_ok() => {}
            "http" | "https" => {
                return invalid("has a URL without a valid host and port: write http://host:port");
            }
            _ => return invalid("has a URL whose scheme is none of http, https, unix and unixs"),
        }
    }
    Ok(urls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_urls_are_checked_by_etcds_rules() {
        let check = |url: &str| peer_urls("MemberAdd", [url]);
        for good in
            ["http://10.0.0.1:2380", " https://etcd-3:2380 ", "http://[::1]:2380", "unix://localhost:23"]
        {
            assert_eq!(check(good), Ok(vec![good.trim().to_owned()]));
        }
        for bad in [
            "",
            "10.0.0.1:2380",
            "http://10.0.0.1",
            "http://10.0.0.1:2380/",
            "http://10.0.0.1:2380/path",
            "ftp://10.0.0.1:2380",
            "http://:0",
            "unix://",
            "http://user:secret@host:2380",
        ] {
            let refused = check(bad);
            assert!(
                matches!(refused, Err(CallError::InvalidArgument { field: "peer_urls", .. })),
                "{bad:?}: {refused:?}"
            );
        }
        assert!(peer_urls("MemberAdd", [""; 0]).is_err());
    }
}

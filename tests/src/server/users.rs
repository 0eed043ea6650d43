//! Users, and what each of them may do.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_core::KeyRange;
use etcd_watch_proto::etcdserverpb::request_op::Request as Operation;
use etcd_watch_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest, WatchCreateRequest,
};

/// Users of a simulated cluster, with simple tokens. A cluster that has users lets nobody else in.
///
/// ```
/// # #[cfg(feature = "sim")] {
/// use etcd_watch_testkit::sim::{Sim, Users};
///
/// let users = Users::new().user("root", "secret").user_of("alice", "password", "a/");
/// let report = Sim::new().users(users).run(7, |world| async move {
///     // The first user's client, unless it is given other credentials.
///     world.client().connect().await?.put("b/1", "v").await?;
///     let alice = world.client().user("alice", "password").connect().await?;
///     alice.put("a/1", "v").await?;
///     assert!(alice.put("b/1", "v").await.is_err());
///     Ok(())
/// });
/// report.unwrap_or_else(|failure| panic!("{failure}"));
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Users {
    users: BTreeMap<String, User>,
    first: Option<String>,
    token_ttl: Duration,
}

#[derive(Clone, Debug)]
struct User {
    password: String,
    /// The prefix of the keys that it may read and write.
    prefix: Bytes,
}

impl Default for Users {
    fn default() -> Self {
        Self { users: BTreeMap::new(), first: None, token_ttl: Duration::from_secs(300) }
    }
}

impl Users {
    /// No users yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a user who may do everything.
    pub fn user(self, name: &str, password: &str) -> Self {
        self.user_of(name, password, "")
    }

    /// Adds a user who may read and write the keys with this prefix.
    pub fn user_of(mut self, name: &str, password: &str, prefix: impl Into<Bytes>) -> Self {
        let user = User { password: password.to_owned(), prefix: prefix.into() };
        self.users.insert(name.to_owned(), user);
        self.first.get_or_insert_with(|| name.to_owned());
        self
    }

    /// How long a token lasts that a member doesn't see. Default: 5 minutes, as in etcd.
    pub fn token_ttl(mut self, ttl: Duration) -> Self {
        self.token_ttl = ttl;
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Name and password of the first user.
    #[cfg(feature = "sim")]
    pub(crate) fn first(&self) -> Option<(&str, &str)> {
        let name = self.first.as_deref()?;
        Some((name, &self.users.get(name)?.password))
    }

    pub(super) fn ttl(&self) -> Duration {
        self.token_ttl
    }

    pub(super) fn has_password(&self, name: &str, password: &str) -> bool {
        self.users.get(name).is_some_and(|user| user.password == password)
    }

    /// What a user may do.
    pub(super) fn rights(&self, name: &str) -> Rights {
        Rights { prefix: self.users.get(name).map(|user| user.prefix.clone()) }
    }
}

/// What a user may do.
#[derive(Clone, Debug)]
pub(super) struct Rights {
    /// The prefix of the keys that it may read and write; `None` if it has been deleted.
    prefix: Option<Bytes>,
}

impl Rights {
    /// The rights of everybody while there are no users.
    pub(super) fn all() -> Self {
        Self { prefix: Some(Bytes::new()) }
    }

    /// Whether it may have a whole range of keys, as requests name it.
    pub(super) fn cover(&self, key: &[u8], range_end: &[u8]) -> bool {
        let Some(prefix) = &self.prefix else { return false };
        if prefix.is_empty() {
            return true;
        }
        let ends_within = match range_end {
            [] => true,
            [0] => false,
            // The end itself is not in the range: that of the prefix, say.
            end => match &KeyRange::prefix(prefix).end()[..] {
                b"\0" => true,
                last => end <= last,
            },
        };
        key.starts_with(prefix) && ends_within
    }
}

/// A request that needs a right to its keys.
pub(super) trait NeedsRights {
    fn is_permitted(&self, rights: &Rights) -> bool;
}

impl NeedsRights for RangeRequest {
    fn is_permitted(&self, rights: &Rights) -> bool {
        rights.cover(&self.key, &self.range_end)
    }
}

impl NeedsRights for PutRequest {
    fn is_permitted(&self, rights: &Rights) -> bool {
        rights.cover(&self.key, &[])
    }
}

impl NeedsRights for DeleteRangeRequest {
    fn is_permitted(&self, rights: &Rights) -> bool {
        rights.cover(&self.key, &self.range_end)
    }
}

impl NeedsRights for WatchCreateRequest {
    fn is_permitted(&self, rights: &Rights) -> bool {
        rights.cover(&self.key, &self.range_end)
    }
}

impl NeedsRights for CompactionRequest {
    fn is_permitted(&self, _: &Rights) -> bool {
        true
    }
}

impl NeedsRights for TxnRequest {
    fn is_permitted(&self, rights: &Rights) -> bool {
        let mut compares = self.compare.iter();
        compares.all(|compare| rights.cover(&compare.key, &compare.range_end))
            && self.success.iter().chain(&self.failure).all(|operation| match &operation.request {
                Some(Operation::RequestRange(range)) => range.is_permitted(rights),
                Some(Operation::RequestPut(put)) => put.is_permitted(rights),
                Some(Operation::RequestDeleteRange(delete)) => delete.is_permitted(rights),
                Some(Operation::RequestTxn(txn)) => txn.is_permitted(rights),
                None => true,
            })
    }
}

//! Reading and writing keys.

use etcd_watch_core::{IntoBytes, KeyRange};
use etcd_watch_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, range_request,
};

use crate::CallError;

/// What a read is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SortBy {
    /// The key.
    Key,
    /// How often the key has been put since it was created.
    Version,
    /// The revision that created the key.
    CreateRevision,
    /// The revision of the last change.
    ModRevision,
    /// The value.
    Value,
}

/// Which way a read is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are only these two directions")]
pub enum SortOrder {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// A read of one key or a range. Linearizable unless said otherwise.
///
/// ```
/// use etcd_watch_client::{Get, KeyRange, SortBy, SortOrder};
///
/// let newest = Get::new(KeyRange::prefix("jobs/")).sort(SortBy::ModRevision, SortOrder::Descending).limit(1);
/// # let _ = newest;
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Get(RangeRequest);

impl Get {
    /// A read of a key or a range, with every option at its default.
    pub fn new(range: impl Into<KeyRange>) -> Self {
        let range = range.into();
        let (key, range_end) = (range.start().clone(), range.end().clone());
        Self(RangeRequest { key, range_end, ..Default::default() })
    }

    /// A read of one key.
    pub fn key(key: impl IntoBytes) -> Self {
        Self::new(KeyRange::key(key))
    }

    /// A read of every key with the prefix.
    pub fn prefix(prefix: impl IntoBytes) -> Self {
        Self::new(KeyRange::prefix(prefix))
    }

    /// At most this many keys; the response says whether there are more. Default: 0, all.
    pub fn limit(mut self, keys: i64) -> Self {
        self.0.limit = keys;
        self
    }

    /// The keys as they were at this revision. Default: 0, as they are.
    pub fn revision(mut self, revision: i64) -> Self {
        self.0.revision = revision;
        self
    }

    /// Sorted. Default: by key, smallest first.
    pub fn sort(mut self, by: SortBy, order: SortOrder) -> Self {
        self.0.sort_target = match by {
            SortBy::Key => range_request::SortTarget::Key,
            SortBy::Version => range_request::SortTarget::Version,
            SortBy::CreateRevision => range_request::SortTarget::Create,
            SortBy::ModRevision => range_request::SortTarget::Mod,
            SortBy::Value => range_request::SortTarget::Value,
        }
        .into();
        self.0.sort_order = match order {
            SortOrder::Ascending => range_request::SortOrder::Ascend,
            SortOrder::Descending => range_request::SortOrder::Descend,
        }
        .into();
        self
    }

    /// From the member's own store, which may lag, but answers without a leader. Default: off.
    pub fn serializable(mut self, on: bool) -> Self {
        self.0.serializable = on;
        self
    }

    /// Leave out the values. etcd 3.7 leaves out the leases, too, unless it sorts by value. Default: off.
    pub fn keys_only(mut self, on: bool) -> Self {
        self.0.keys_only = on;
        self
    }

    /// Only count the keys. Default: off.
    pub fn count_only(mut self, on: bool) -> Self {
        self.0.count_only = on;
        self
    }

    /// Only keys last changed at this revision or later. Default: 0, any.
    pub fn min_mod_revision(mut self, revision: i64) -> Self {
        self.0.min_mod_revision = revision;
        self
    }

    /// Only keys last changed at this revision or earlier. Default: 0, any.
    pub fn max_mod_revision(mut self, revision: i64) -> Self {
        self.0.max_mod_revision = revision;
        self
    }

    /// Only keys created at this revision or later. Default: 0, any.
    pub fn min_create_revision(mut self, revision: i64) -> Self {
        self.0.min_create_revision = revision;
        self
    }

    /// Only keys created at this revision or earlier. Default: 0, any.
    pub fn max_create_revision(mut self, revision: i64) -> Self {
        self.0.max_create_revision = revision;
        self
    }

    pub(crate) fn into_request(self, method: &'static str) -> Result<RangeRequest, CallError> {
        let request = self.0;
        not_empty(method, "key", &request.key)?;
        not_negative(method, "limit", request.limit)?;
        not_negative(method, "revision", request.revision)?;
        not_negative(method, "min_mod_revision", request.min_mod_revision)?;
        not_negative(method, "max_mod_revision", request.max_mod_revision)?;
        not_negative(method, "min_create_revision", request.min_create_revision)?;
        not_negative(method, "max_create_revision", request.max_create_revision)?;
        Ok(request)
    }
}

impl<R: Into<KeyRange>> From<R> for Get {
    fn from(range: R) -> Self {
        Self::new(range)
    }
}

/// A write of one key.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Put(PutRequest);

impl Put {
    /// Key and value, with every option at its default.
    pub fn new(key: impl IntoBytes, value: impl IntoBytes) -> Self {
        Self(PutRequest { key: key.into_bytes(), value: value.into_bytes(), ..Default::default() })
    }

    /// Delete the key when this lease ends. Default: 0, none; a lease the key hung on before is taken off.
    pub fn lease(mut self, lease: i64) -> Self {
        self.0.lease = lease;
        self
    }

    /// Answer with the pair as it was. Default: off.
    pub fn prev_kv(mut self, on: bool) -> Self {
        self.0.prev_kv = on;
        self
    }

    /// Keep the value the key has (the one given must be empty). Default: off.
    pub fn ignore_value(mut self, on: bool) -> Self {
        self.0.ignore_value = on;
        self
    }

    /// Keep the lease the key hangs on (none may be given). Default: off.
    pub fn ignore_lease(mut self, on: bool) -> Self {
        self.0.ignore_lease = on;
        self
    }

    pub(crate) fn into_request(self, method: &'static str) -> Result<PutRequest, CallError> {
        let request = self.0;
        let problem = |field, problem| Err(CallError::InvalidArgument { method, field, problem });
        not_empty(method, "key", &request.key)?;
        if request.ignore_value && !request.value.is_empty() {
            return problem("value", "is given although ignore_value keeps the old one");
        }
        if request.ignore_lease && request.lease != 0 {
            return problem("lease", "is given although ignore_lease keeps the old one");
        }
        Ok(request)
    }
}

/// A deletion of one key or a range.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Delete(DeleteRangeRequest);

impl Delete {
    /// A deletion of a key or a range, with every option at its default.
    pub fn new(range: impl Into<KeyRange>) -> Self {
        let range = range.into();
        let (key, range_end) = (range.start().clone(), range.end().clone());
        Self(DeleteRangeRequest { key, range_end, prev_kv: false })
    }

    /// A deletion of one key.
    pub fn key(key: impl IntoBytes) -> Self {
        Self::new(KeyRange::key(key))
    }

    /// A deletion of every key with the prefix.
    pub fn prefix(prefix: impl IntoBytes) -> Self {
        Self::new(KeyRange::prefix(prefix))
    }

    /// Answer with the pairs as they were. Default: off.
    pub fn prev_kv(mut self, on: bool) -> Self {
        self.0.prev_kv = on;
        self
    }

    pub(crate) fn into_request(self, method: &'static str) -> Result<DeleteRangeRequest, CallError> {
        not_empty(method, "key", &self.0.key)?;
        Ok(self.0)
    }
}

impl<R: Into<KeyRange>> From<R> for Delete {
    fn from(range: R) -> Self {
        Self::new(range)
    }
}

/// What to throw away of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Compact(CompactionRequest);

impl Compact {
    /// Everything before this revision.
    pub fn before(revision: i64) -> Self {
        Self(CompactionRequest { revision, physical: false })
    }

    /// Answer only when the space has been given back. Default: as soon as the history can't be read any more.
    pub fn physical(mut self) -> Self {
        self.0.physical = true;
        self
    }

    pub(crate) fn into_request(self) -> Result<CompactionRequest, CallError> {
        not_negative("Compact", "revision", self.0.revision)?;
        Ok(self.0)
    }
}

/// Everything before this revision.
impl From<i64> for Compact {
    fn from(revision: i64) -> Self {
        Self::before(revision)
    }
}

/// Refuses the empty key, which no key is.
pub(crate) fn not_empty(method: &'static str, field: &'static str, key: &[u8]) -> Result<(), CallError> {
    if !key.is_empty() {
        return Ok(());
    }
    let problem =
        "is empty: give at least one byte, or say KeyRange::all() or KeyRange::from_key(..) for many keys";
    Err(CallError::InvalidArgument { method, field, problem })
}

/// Refuses what no revision, limit or count can be.
pub(crate) fn not_negative(method: &'static str, field: &'static str, value: i64) -> Result<(), CallError> {
    if value >= 0 {
        return Ok(());
    }
    Err(CallError::InvalidArgument { method, field, problem: "is negative: give 0 or more" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<T: std::fmt::Debug>(result: Result<T, CallError>) -> &'static str {
        match result {
            Err(CallError::InvalidArgument { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn invalid_options_are_refused_by_name() {
        let get = || Get::key("a");
        assert_eq!(field(get().limit(-1).into_request("Range")), "limit");
        assert_eq!(field(get().revision(-1).into_request("Range")), "revision");
        assert_eq!(field(get().max_create_revision(-1).into_request("Range")), "max_create_revision");
        assert_eq!(field(Get::key("").into_request("Range")), "key");
        assert_eq!(field(Delete::key("").into_request("DeleteRange")), "key");
        assert_eq!(field(Put::new("", "v").into_request("Put")), "key");
        assert_eq!(field(Put::new("k", "v").ignore_value(true).into_request("Put")), "value");
        assert_eq!(field(Put::new("k", "").lease(1).ignore_lease(true).into_request("Put")), "lease");
    }

    #[test]
    fn options_reach_the_request() {
        let get = Get::prefix("a").sort(SortBy::CreateRevision, SortOrder::Descending).keys_only(true);
        let request = get.into_request("Range").unwrap();
        assert_eq!((&request.key[..], &request.range_end[..]), (&b"a"[..], &b"b"[..]));
        assert_eq!(request.sort_target(), range_request::SortTarget::Create);
        assert_eq!(request.sort_order(), range_request::SortOrder::Descend);
        assert!(request.keys_only);
    }
}

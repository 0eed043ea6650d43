//! The conditions of transactions.

use bytes::Bytes;
use etcd_watch_core::{IntoBytes, KeyRange};
use etcd_watch_proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};

use crate::{
    CallError,
    calls::kv::{not_empty, not_negative},
};

/// A condition on a key: one field of the key, compared with what is given.
///
/// A key that doesn't exist has version, revisions and lease 0. It has no value: no condition on its value holds.
///
/// A condition on a range holds if it holds for every key in the range. A range without keys is compared like a key that
/// doesn't exist (etcd's `applyCompare`).
///
/// ```
/// use etcd_watch_client::{Compare, KeyRange};
///
/// let conditions = [
///     Compare::missing("lock"),
///     Compare::exists("config"),
///     Compare::value("state").equals("ready"),
///     Compare::mod_revision("config").equals(17),
///     Compare::mod_revision(KeyRange::prefix("jobs/")).less_than(18),
/// ];
/// # let _ = conditions;
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Compare(pb::Compare);

impl Compare {
    /// The key exists; of a range, at least one key does.
    pub fn exists(range: impl Into<KeyRange>) -> Self {
        Self::create_revision(range).greater_than(0)
    }

    /// The key doesn't exist; of a range, no key does.
    pub fn missing(range: impl Into<KeyRange>) -> Self {
        Self::create_revision(range).equals(0)
    }

    /// How often the key has been put since it was created; 0 if it doesn't exist.
    pub fn version(range: impl Into<KeyRange>) -> CompareNumber {
        CompareNumber { range: range.into(), field: NumberField::Version }
    }

    /// The revision that created the key; 0 if it doesn't exist.
    pub fn create_revision(range: impl Into<KeyRange>) -> CompareNumber {
        CompareNumber { range: range.into(), field: NumberField::CreateRevision }
    }

    /// The revision of the key's last change; 0 if it doesn't exist.
    pub fn mod_revision(range: impl Into<KeyRange>) -> CompareNumber {
        CompareNumber { range: range.into(), field: NumberField::ModRevision }
    }

    /// The lease the key hangs on; 0 for none.
    pub fn lease(range: impl Into<KeyRange>) -> CompareNumber {
        CompareNumber { range: range.into(), field: NumberField::Lease }
    }

    /// The key's value. Values are compared byte by byte.
    pub fn value(range: impl Into<KeyRange>) -> CompareValue {
        CompareValue { range: range.into() }
    }

    fn new(range: &KeyRange, target: CompareTarget, result: CompareResult, with: TargetUnion) -> Self {
        Self(pb::Compare {
            result: result.into(),
            target: target.into(),
            key: range.start().clone(),
            range_end: range.end().clone(),
            target_union: Some(with),
        })
    }

    pub(crate) fn into_request(self) -> Result<pb::Compare, CallError> {
        let Self(compare) = self;
        not_empty("Txn", "key of a condition", &compare.key)?;
        match compare.target_union {
            Some(TargetUnion::Version(number)) => not_negative("Txn", "version", number)?,
            Some(TargetUnion::CreateRevision(number)) => not_negative("Txn", "create_revision", number)?,
            Some(TargetUnion::ModRevision(number)) => not_negative("Txn", "mod_revision", number)?,
            _ => {}
        }
        Ok(compare)
    }
}

/// A field of a key that is a number. Its methods make a [`Compare`] of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is a condition only with the number to compare with"]
pub struct CompareNumber {
    range: KeyRange,
    field: NumberField,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberField {
    Version,
    CreateRevision,
    ModRevision,
    Lease,
}

impl CompareNumber {
    /// The key's number is this one.
    pub fn equals(self, number: i64) -> Compare {
        self.compare(CompareResult::Equal, number)
    }

    /// The key's number is not this one.
    pub fn not_equals(self, number: i64) -> Compare {
        self.compare(CompareResult::NotEqual, number)
    }

    /// The key's number is greater than this one.
    pub fn greater_than(self, number: i64) -> Compare {
        self.compare(CompareResult::Greater, number)
    }

    /// The key's number is less than this one.
    pub fn less_than(self, number: i64) -> Compare {
        self.compare(CompareResult::Less, number)
    }

    fn compare(self, result: CompareResult, number: i64) -> Compare {
        let (target, with) = match self.field {
            NumberField::Version => (CompareTarget::Version, TargetUnion::Version(number)),
            NumberField::CreateRevision => (CompareTarget::Create, TargetUnion::CreateRevision(number)),
            NumberField::ModRevision => (CompareTarget::Mod, TargetUnion::ModRevision(number)),
            NumberField::Lease => (CompareTarget::Lease, TargetUnion::Lease(number)),
        };
        Compare::new(&self.range, target, result, with)
    }
}

/// The value of a key. Its methods make a [`Compare`] of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is a condition only with the value to compare with"]
pub struct CompareValue {
    range: KeyRange,
}

impl CompareValue {
    /// The key's value is this one.
    pub fn equals(self, value: impl IntoBytes) -> Compare {
        self.compare(CompareResult::Equal, value.into_bytes())
    }

    /// The key's value is not this one.
    pub fn not_equals(self, value: impl IntoBytes) -> Compare {
        self.compare(CompareResult::NotEqual, value.into_bytes())
    }

    /// The key's value is greater than this one.
    pub fn greater_than(self, value: impl IntoBytes) -> Compare {
        self.compare(CompareResult::Greater, value.into_bytes())
    }

    /// The key's value is less than this one.
    pub fn less_than(self, value: impl IntoBytes) -> Compare {
        self.compare(CompareResult::Less, value.into_bytes())
    }

    fn compare(self, result: CompareResult, value: Bytes) -> Compare {
        Compare::new(&self.range, CompareTarget::Value, result, TargetUnion::Value(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_says_what_is_compared_how_and_with_what() {
        let request = |compare: Compare| compare.into_request().unwrap();
        for (compare, target, result, with) in [
            (
                Compare::exists("k"),
                CompareTarget::Create,
                CompareResult::Greater,
                TargetUnion::CreateRevision(0),
            ),
            (
                Compare::missing("k"),
                CompareTarget::Create,
                CompareResult::Equal,
                TargetUnion::CreateRevision(0),
            ),
            (
                Compare::version("k").greater_than(3),
                CompareTarget::Version,
                CompareResult::Greater,
                TargetUnion::Version(3),
            ),
            (
                Compare::mod_revision("k").less_than(4),
                CompareTarget::Mod,
                CompareResult::Less,
                TargetUnion::ModRevision(4),
            ),
            (
                Compare::lease("k").not_equals(5),
                CompareTarget::Lease,
                CompareResult::NotEqual,
                TargetUnion::Lease(5),
            ),
            (
                Compare::value("k").equals("v"),
                CompareTarget::Value,
                CompareResult::Equal,
                TargetUnion::Value("v".into()),
            ),
        ] {
            let compare = request(compare);
            assert_eq!((&compare.key[..], &compare.range_end[..]), (&b"k"[..], &b""[..]));
            assert_eq!((compare.target(), compare.result()), (target, result));
            assert_eq!(compare.target_union, Some(with));
        }
        let compare = request(Compare::lease(KeyRange::prefix("b")).equals(0));
        assert_eq!((&compare.key[..], &compare.range_end[..]), (&b"b"[..], &b"c"[..]));
    }

    #[test]
    fn a_condition_that_can_not_be_is_refused_by_name() {
        let field = |compare: Compare| match compare.into_request() {
            Err(CallError::InvalidArgument { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(Compare::exists("")), "key of a condition");
        assert_eq!(field(Compare::version("a").less_than(-1)), "version");
        assert_eq!(field(Compare::create_revision("a").equals(-1)), "create_revision");
        assert_eq!(field(Compare::mod_revision("a").equals(-1)), "mod_revision");
    }
}

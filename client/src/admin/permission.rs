//! What a role may do.

use bytes::Bytes;
use etcd_watch_core::KeyRange;
use etcd_watch_proto::authpb::{self as pb, permission::Type};

use crate::CallError;

/// What may be done with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// Read and watch them.
    Read,
    /// Put and delete them.
    Write,
    /// Both.
    ReadWrite,
}

/// What a role may do with a range of keys.
///
/// The keys are those of the server: a client in a namespace has to put its prefix before them,
/// `Permission::read(KeyRange::prefix("names/"))`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permission {
    access: Access,
    start: Bytes,
    end: Bytes,
}

impl Permission {
    /// To read and watch these keys: `Permission::read("name")`, `Permission::read(KeyRange::prefix("names/"))`.
    #[must_use]
    pub fn read(keys: impl Into<KeyRange>) -> Self {
        Self::new(Access::Read, keys)
    }

    /// To put and delete these keys.
    #[must_use]
    pub fn write(keys: impl Into<KeyRange>) -> Self {
        Self::new(Access::Write, keys)
    }

    /// To read, watch, put and delete these keys.
    #[must_use]
    pub fn read_write(keys: impl Into<KeyRange>) -> Self {
        Self::new(Access::ReadWrite, keys)
    }

    /// This access to these keys.
    #[must_use]
    pub fn new(access: Access, keys: impl Into<KeyRange>) -> Self {
        let keys = keys.into();
        Self { access, start: keys.start().clone(), end: keys.end().clone() }
    }

    /// What may be done.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// The first key, as on the wire.
    #[must_use]
    pub fn start(&self) -> &Bytes {
        &self.start
    }

    /// The end of the range, not included, as on the wire: empty for one key, `\0` for "from the key on".
    #[must_use]
    pub fn end(&self) -> &Bytes {
        &self.end
    }

    pub(super) fn into_proto(self, method: &'static str) -> Result<pb::Permission, CallError> {
        check_keys(method, &self.start)?;
        let perm_type = match self.access {
            Access::Read => Type::Read,
            Access::Write => Type::Write,
            Access::ReadWrite => Type::Readwrite,
        };
        Ok(pb::Permission { perm_type: perm_type.into(), key: self.start, range_end: self.end })
    }
}

impl From<pb::Permission> for Permission {
    fn from(permission: pb::Permission) -> Self {
        let access = match permission.perm_type() {
            Type::Read => Access::Read,
            Type::Write => Access::Write,
            Type::Readwrite => Access::ReadWrite,
        };
        Self { access, start: permission.key, end: permission.range_end }
    }
}

/// No permission is on the empty key (etcd's `auth/range_perm_cache.go`, `isValidPermissionRange`). The other rule there,
/// that a range's end is above its start, is one of every [`KeyRange`].
pub(super) fn check_keys(method: &'static str, start: &Bytes) -> Result<(), CallError> {
    if start.is_empty() {
        let problem = "is the empty key: name a key, or KeyRange::all() for all keys";
        return Err(CallError::InvalidArgument { method, field: "keys", problem });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_the_same_there_and_back() {
        for permission in [
            Permission::read("name"),
            Permission::write(KeyRange::prefix("names/")),
            Permission::read_write(KeyRange::all()),
            Permission::read(KeyRange::range("a", "c").unwrap()),
        ] {
            let sent = permission.clone().into_proto("RoleGrantPermission").unwrap();
            assert_eq!(Permission::from(sent), permission);
        }
    }

    #[test]
    fn the_empty_key_is_refused_and_the_empty_prefix_is_all_keys() {
        let refused = Permission::read("").into_proto("RoleGrantPermission");
        assert!(matches!(refused, Err(CallError::InvalidArgument { field: "keys", .. })), "{refused:?}");
        assert_eq!(Permission::read(KeyRange::prefix("")), Permission::read(KeyRange::all()));
    }
}

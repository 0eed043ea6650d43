//! A key-value pair, wherever it comes from.

use etcd_watch_tokio::{KeyValue, OwnedKeyValue};

/// A key-value pair with its revisions.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) create_revision: i64,
    pub(super) mod_revision: i64,
    pub(super) version: i64,
    pub(super) lease: i64,
}

impl<'a> From<KeyValue<'a>> for Pair<'a> {
    fn from(kv: KeyValue<'a>) -> Self {
        Self {
            key: kv.key(),
            value: kv.value(),
            create_revision: kv.create_revision(),
            mod_revision: kv.mod_revision(),
            version: kv.version(),
            lease: kv.lease(),
        }
    }
}

impl<'a> From<&'a OwnedKeyValue> for Pair<'a> {
    fn from(kv: &'a OwnedKeyValue) -> Self {
        Self {
            key: &kv.key,
            value: &kv.value,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

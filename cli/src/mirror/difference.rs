//! What a part of a list changes at the destination.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd_watch_tokio::{OwnedKeyValue, SnapshotPart};

use super::{batch::Changes, destination::Destination, mapping::Mapping};

/// What a part comes to.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) changes: Changes,
    /// How many keys the part has.
    pub(super) keys: u64,
    /// Keys that the source doesn't have, and that were there before the first copy.
    pub(super) left_alone: u64,
}

/// Compares a part with the destination. A key there that is as it should be is left out only if it counts as
/// the mirror's: it must be known as that when the source deletes it unseen.
pub(super) async fn difference(
    part: SnapshotPart,
    mapping: &Mapping,
    destination: &Destination,
    delete_extra: bool,
) -> anyhow::Result<Difference> {
    let Some(span) = mapping.span(part.span()) else { return Ok(Difference::default()) };
    let there = destination.list(span).await?;
    let mut there: BTreeMap<Bytes, _> = there.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
    let mut difference = Difference::default();
    for kv in part.into_puts() {
        difference.keys += 1;
        let key = mapping.key(&kv.key)?;
        if key == *destination.checkpoint_key() {
            continue;
        }
        let before = there.remove(&key);
        let is_there = |before: &OwnedKeyValue| {
            before.value == kv.value && (delete_extra || destination.may_have_written(before))
        };
        if !before.as_ref().is_some_and(is_there) {
            difference.changes.add(key, Some(kv.value));
        }
    }
    for (key, kv) in there {
        if delete_extra || destination.may_have_written(&kv) {
            difference.changes.add(key, None);
        } else {
            difference.left_alone += 1;
        }
    }
    Ok(difference)
}

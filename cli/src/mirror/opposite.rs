//! A mirror in the opposite direction: with it, every change would be copied back and forth for ever.

use anyhow::{Context, bail};
use bytes::Bytes;
use etcd_watch_tokio::{CallError, Client, Code, Get, OwnedKeyValue};

use super::{
    checkpoint::{Checkpoint, NAMES},
    mapping::{Mapping, overlap},
};
use crate::log;

/// Refuses a mirror to cluster `there` if another one writes the keys that it copies from there back to its source.
/// The other one is known by its checkpoint, which is at this one's source; `key` is this one's own.
///
/// # Errors
/// There is such a mirror, or the source can't be read. A source whose user may not read there is only warned of.
pub(super) async fn refuse(
    source: &Client,
    there: u64,
    mapping: &Mapping,
    key: &Bytes,
) -> anyhow::Result<()> {
    // A checkpoint that was named by hand may well have the same name on both sides.
    let own = Get::key(key.clone());
    for get in NAMES.map(Get::prefix).into_iter().chain([own]) {
        let found = match source.get(get).await {
            Ok(found) => found.into_kvs(),
            Err(CallError::Refused { code: Code::PermissionDenied, message, .. }) => {
                log::warning(format_args!(
                    "whether another mirror copies in the opposite direction can't be checked, because the source \
                     does not let its checkpoints be read: {message}"
                ));
                return Ok(());
            }
            Err(error) => return Err(error).context("can't read the source"),
        };
        if let Some(kv) = found.iter().find(|kv| is_opposite(kv, there, mapping)) {
            let name = kv.key.escape_ascii();
            bail!(
                "another mirror copies these keys from the destination back to the source: its checkpoint is the \
                 source's key {name}. Every change would go back and forth for ever. Give each mirror a \
                 --dest-prefix that the other one doesn't copy; or, if the other one is not to run any more, \
                 delete that key at the source"
            );
        }
    }
    Ok(())
}

/// Whether the key is the checkpoint of a mirror from cluster `there` that copies what this one writes there, and
/// writes what this one copies.
fn is_opposite(kv: &OwnedKeyValue, there: u64, mapping: &Mapping) -> bool {
    let Ok(other) = Checkpoint::decode(&kv.value) else { return false };
    let writes_here = other.destination.is_none_or(|written| overlap(&written, mapping.source()));
    other.cluster_id == there && overlap(&other.range, mapping.destination()) && writes_here
}

#[cfg(test)]
mod tests {
    use etcd_watch_tokio::KeyRange;

    use super::*;

    fn checkpoint(cluster_id: u64, range: &'static str, destination: Option<&'static str>) -> OwnedKeyValue {
        let checkpoint = Checkpoint {
            destination: destination.map(KeyRange::prefix),
            ..Checkpoint::first(cluster_id, &Mapping::same(KeyRange::prefix(range)))
        };
        OwnedKeyValue {
            key: "etcd-watch/mirror/x".into(),
            value: checkpoint.encode(),
            ..OwnedKeyValue::default()
        }
    }

    #[test]
    fn a_mirror_is_opposite_only_if_both_ranges_overlap() {
        let mapping = Mapping::same(KeyRange::prefix("k/"));
        let is_opposite = |kv| is_opposite(&kv, 7, &mapping);
        assert!(is_opposite(checkpoint(7, "k/", Some("k/"))));
        assert!(is_opposite(checkpoint(7, "k/a", Some("k"))));
        assert!(is_opposite(checkpoint(7, "k/", None)), "one that doesn't say where it writes");
        assert!(!is_opposite(checkpoint(8, "k/", Some("k/"))), "of another cluster");
        assert!(!is_opposite(checkpoint(7, "l/", Some("k/"))), "it copies other keys");
        assert!(!is_opposite(checkpoint(7, "k/", Some("l/"))), "it writes other keys");
        assert!(!is_opposite(OwnedKeyValue { value: "x".into(), ..OwnedKeyValue::default() }));
    }
}

//! Reads: a range of keys with all the options.

use etcd_watch_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use etcd_watch_proto::etcdserverpb::{RangeRequest, RangeResponse};
use etcd_watch_proto::mvccpb::KeyValue;

use super::error::ModelError;
use super::key_range::KeyRange;
use super::store::Store;

/// Refuses what can be told from the request alone.
pub(super) fn check(request: &RangeRequest) -> Result<(), ModelError> {
    if request.key.is_empty() {
        return Err(ModelError::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(ModelError::InvalidSortOption);
    }
    Ok(())
}

/// Reads. `newest` is the newest revision there is, and with `bare_keys` keys alone come without their lease; the
/// response's header is left to the caller.
pub(super) fn read(
    store: &Store,
    newest: i64,
    bare_keys: bool,
    request: &RangeRequest,
) -> Result<RangeResponse, ModelError> {
    store.check_revision(request.revision, newest)?;
    let revision = if request.revision > 0 { request.revision } else { newest };
    let range = KeyRange::new(&request.key, &request.range_end);
    let live = store.live(&range, revision);
    if request.count_only {
        return Ok(RangeResponse { count: to_i64(live.count()), ..RangeResponse::default() });
    }

    let mut found: Vec<_> = live.collect();
    // The count is that of the range: neither bounds nor limit change it.
    let count = to_i64(found.len());
    found.retain(|change| {
        within(change.revision, request.min_mod_revision, request.max_mod_revision)
            && within(change.create_revision, request.min_create_revision, request.max_create_revision)
    });
    match request.sort_target() {
        SortTarget::Key => {}
        SortTarget::Version => found.sort_by_key(|change| change.version),
        SortTarget::Create => found.sort_by_key(|change| change.create_revision),
        SortTarget::Mod => found.sort_by_key(|change| change.revision),
        SortTarget::Value => found.sort_by(|left, right| left.value.cmp(&right.value)),
    }
    if request.sort_order() == SortOrder::Descend {
        found.reverse();
    }
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let more = found.len() > limit;
    found.truncate(limit);

    let kvs = found
        .into_iter()
        .map(|change| {
            let kv = change.key_value();
            if !request.keys_only {
                return kv;
            }
            let lease = if bare_keys && request.sort_target() != SortTarget::Value { 0 } else { kv.lease };
            KeyValue { value: Default::default(), lease, ..kv }
        })
        .collect();
    Ok(RangeResponse { header: None, kvs, more, count })
}

/// Bounds are included; 0 is none.
fn within(revision: i64, min: i64, max: i64) -> bool {
    (min == 0 || revision >= min) && (max == 0 || revision <= max)
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

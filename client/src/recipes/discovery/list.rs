//! A listing of a range, once.

use bytes::Bytes;
use etcd_watch_core::{Code, KeyRange};

use crate::{CallError, Client, Get};

/// Keys and values as they are at one revision.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) revision: i64,
    pub(super) pairs: Vec<(Bytes, Bytes)>,
}

/// Keys in one answer: few enough for an answer of moderate size, many enough for few round trips.
const PAGE_KEYS: i64 = 1_000;

/// How often a listing is begun anew because history went away under it.
const LISTINGS: usize = 5;

/// The range at one revision, in pages.
pub(super) async fn list(client: &Client, range: &KeyRange) -> Result<Listing, CallError> {
    let mut listings = 1;
    loop {
        match list_once(client, range).await {
            // The revision of the first page was compacted meanwhile, or the store is another one now.
            Err(CallError::Refused { code: Code::OutOfRange, .. }) if listings < LISTINGS => listings += 1,
            result => return result,
        }
    }
}

async fn list_once(client: &Client, range: &KeyRange) -> Result<Listing, CallError> {
    let mut listing = Listing { revision: 0, pairs: Vec::new() };
    let mut rest = range.clone();
    let mut limit = PAGE_KEYS;
    loop {
        let page = match client.get(Get::new(rest.clone()).limit(limit).revision(listing.revision)).await {
            Err(CallError::ResponseTooLarge { .. }) if limit > 1 => {
                limit = (limit / 8).max(1);
                continue;
            }
            page => page?,
        };
        if listing.revision == 0 {
            listing.revision = page.revision();
        }
        let has_more = page.has_more();
        listing.pairs.extend(page.into_kvs().into_iter().map(|kv| (kv.key, kv.value)));
        let Some((last, _)) = listing.pairs.last().filter(|_| has_more) else { return Ok(listing) };
        let next = [&last[..], b"\0"].concat();
        let Ok(next) = KeyRange::range(next, range.end().clone()) else { return Ok(listing) };
        rest = next;
    }
}

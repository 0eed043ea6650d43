//! Lists that a peer answers by pages that no lawful member sends.

use etcd_watch_client::proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use etcd_watch_client::proto::mvccpb::KeyValue;

use crate::figures::Bounds;
use crate::grpc::{framed, headed, header};
use crate::lists::{Answer, Case, LAST, by_both, lie};
use crate::peer::run_all;

/// Each page with this change.
fn each(name: &str, change: fn(&RangeRequest, &mut RangeResponse)) -> Case {
    Case::pages(name, move |request, mut page| {
        change(request, &mut page);
        Answer::Page(page)
    })
}

/// The first page of each list with this change.
fn first(name: &str, change: fn(&mut RangeResponse)) -> Case {
    Case::pages(name, move |request, mut page| {
        if request.revision == 0 {
            change(&mut page);
        }
        Answer::Page(page)
    })
}

/// The pages behind the first with this change, if they have two keys or more.
fn later(name: &str, change: fn(&mut RangeResponse)) -> Case {
    Case::pages(name, move |request, mut page| {
        if request.revision != 0 && page.kvs.len() > 1 {
            change(&mut page);
        }
        Answer::Page(page)
    })
}

/// The pages behind the first with this change to their first pair.
fn pair(name: &str, change: fn(&mut KeyValue)) -> Case {
    Case::pages(name, move |request, mut page| {
        if let Some(first) = page.kvs.first_mut().filter(|_| request.revision != 0) {
            change(first);
        }
        Answer::Page(page)
    })
}

/// The pages behind the first are refused.
fn refused(name: &str, code: u32, text: &'static str) -> Case {
    Case::pages(
        name,
        move |request, page| {
            if request.revision == 0 { Answer::Page(page) } else { Answer::Status(code, text) }
        },
    )
}

fn head(page: &mut RangeResponse) -> &mut ResponseHeader {
    page.header.as_mut().expect("it has one")
}

/// A page of keys that go on without an end, of a range of so many keys.
fn endless(request: &RangeRequest, count: i64) -> Answer {
    let after = String::from_utf8_lossy(&request.key);
    let after = after.trim_start_matches("k/").trim_end_matches('\0').parse::<i64>();
    let next = after.map_or(0, |last| last + 1);
    let kvs = (next..next + request.limit.clamp(1, 100)).map(|key| lie(format!("k/{key:09}"), 2)).collect();
    Answer::Page(RangeResponse { header: Some(header(LAST)), kvs, more: true, count })
}

fn contents() -> Vec<Case> {
    vec![
        each("no keys, though there are", |_, page| (page.kvs, page.more) = (Vec::new(), false)),
        each("no keys, and more of them", |_, page| (page.kvs, page.more) = (Vec::new(), true)),
        each("no keys, and none by the count", |_, page| {
            (page.kvs, page.more, page.count) = (Vec::new(), false, 0);
        })
        .believed(),
        later("no more keys, though there are", |page| (page.kvs, page.more) = (Vec::new(), false)),
        later("no more keys, and none by the count", |page| {
            (page.kvs, page.more, page.count) = (Vec::new(), false, 0);
        }),
        first("the first key and no others, though there are", |page| page.more = false),
        later("a key left out", |page| drop(page.kvs.pop())),
        later("a key left out in the midst", |page| drop(page.kvs.remove(1))),
        each("fewer keys by the count than there are", |_, page| page.count = 1),
        later("fewer keys by the count than there are, behind the first", |page| page.count = 1).syncs(),
        each("without a count", |_, page| page.count = 0).syncs(),
        each("a count below 0", |_, page| page.count = -7).syncs(),
        each("the largest count", |_, page| page.count = i64::MAX),
        each("the limit overlooked", |request, page| {
            if request.revision == 0 {
                page.kvs = (0..40)
                    .map(|key| KeyValue {
                        value: format!("v{key:02}").into(),
                        ..lie(format!("k/{key:02}"), key + 2)
                    })
                    .collect();
                page.more = false;
            }
        })
        .syncs(),
        each("more behind the last key", |request, page| page.more = request.limit > 0).waits(),
        later("unsorted", |page| page.kvs.swap(0, 1)),
        later("backwards", |page| page.kvs.reverse()),
        later("a key twice", |page| page.kvs.insert(0, page.kvs[0].clone())),
        later("the page before again", |page| page.kvs = vec![lie("k/00", 2)]),
        pair("a key before the range", |kv| kv.key = "j".into()),
        pair("a key behind the range", |kv| kv.key = "k0".into()),
        pair("a key of no bytes", |kv| kv.key = Vec::new().into()),
        pair("a key before those asked for", |kv| kv.key = "k/".into()),
        Case::pages("of empty pairs", |_, page| {
            Answer::Page(RangeResponse { kvs: vec![KeyValue::default(); 100_000], ..page })
        })
        .bounds(Bounds { bytes: 16 << 20, ..Bounds::USUAL }),
        Case::pages("garbage", |_, _| Answer::Bytes(framed(0, &[0xff; 100]))),
        Case::pages("nothing", |_, _| Answer::Never),
        Case::pages("without a message", |_, _| Answer::Bytes(bytes::Bytes::new())),
        Case::pages("of 1 GiB each", |_, _| Answer::Bytes(headed(0, 1 << 30, &[0; 9]))).ends("KeyTooLarge"),
    ]
}

fn revisions() -> Vec<Case> {
    vec![
        pair("a pair beyond the list's revision", |kv| kv.mod_revision = LAST + 1),
        pair("a pair at the largest revision", |kv| kv.mod_revision = i64::MAX),
        pair("a pair at revision 0", |kv| kv.mod_revision = 0),
        pair("a pair below revision 0", |kv| kv.mod_revision = -3),
        pair("a pair at the lowest revision", |kv| kv.mod_revision = i64::MIN),
        pair("a pair created below 0, of a version below 0", |kv| {
            (kv.create_revision, kv.version) = (-1, -1)
        })
        .believed(),
        each("without a header", |_, page| page.header = None),
        each("at revision 0", |_, page| head(page).revision = 0),
        each("at a revision below 0", |_, page| head(page).revision = -7),
        each("at the lowest revision", |_, page| head(page).revision = i64::MIN),
        first("at the largest revision", |page| head(page).revision = i64::MAX),
        first("at a later revision than the store's", |page| head(page).revision += 1_000),
        later("at later revisions, page by page", |page| head(page).revision += 1).syncs(),
        later("at the largest revision behind the first", |page| head(page).revision = i64::MAX),
        later("at a revision before the list's", |page| head(page).revision = 1),
        later("below revision 0 behind the first", |page| head(page).revision = -7),
        refused("compacted", 11, "etcdserver: mvcc: required revision has been compacted"),
        refused(
            "of a revision that is not there",
            11,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        refused("unavailable behind the first", 14, "not now"),
        refused("denied behind the first", 7, "etcdserver: permission denied").ends("PermissionDenied"),
    ]
}

fn clusters() -> Vec<Case> {
    vec![
        each("of another cluster", |_, page| head(page).cluster_id ^= 99).believed().corrected(),
        later("of another cluster behind the first", |page| head(page).cluster_id ^= 99),
        each("of no cluster", |_, page| head(page).cluster_id = 0).syncs(),
        later("of no cluster behind the first", |page| head(page).cluster_id = 0).syncs(),
        each("of a cluster for each page", |request, page| {
            head(page).cluster_id = 1 + request.limit.unsigned_abs()
        }),
        each("of no member, and of the largest term", |_, page| {
            (head(page).member_id, head(page).raft_term) = (0, u64::MAX);
        })
        .syncs(),
    ]
}

fn without_end() -> Vec<Case> {
    /// Many times the keys that there are.
    const MOST: u64 = 2_000;
    let long = Bounds { calls: 400, polls: 10_000, debug_lines: 500, bytes: 4 << 20, ..Bounds::USUAL };
    vec![
        Case::pages("without an end, and past the count", |request, _| endless(request, 50)),
        Case::pages("without an end or a count", |request, _| endless(request, 0))
            .max_keys(MOST)
            .ends("TooManyKeys")
            .bounds(long),
        Case::pages("without an end, and of the largest count", |request, _| endless(request, i64::MAX))
            .max_keys(MOST)
            .ends("TooManyKeys")
            .bounds(long),
        Case::pages("a key that grows without an end", |request, _| {
            let key = [&request.key[..], b"a"].concat();
            let kvs = vec![lie(key, 2)];
            Answer::Page(RangeResponse { header: Some(header(LAST)), kvs, more: true, count: 0 })
        })
        .max_keys(100)
        .ends("TooManyKeys")
        .bounds(long),
        Case::grows("new keys without an end").max_keys(100).ends("TooManyKeys").bounds(long),
    ]
}

#[test]
fn pages_with_other_keys_than_they_say() {
    run_all(|| by_both(contents()));
}

#[test]
fn pages_at_revisions_that_do_not_fit() {
    run_all(|| by_both(revisions()));
}

#[test]
fn pages_of_other_clusters() {
    run_all(|| by_both(clusters()));
}

#[test]
fn pages_without_an_end() {
    run_all(|| by_both(without_end()));
}

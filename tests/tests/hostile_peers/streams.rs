//! Lists that a peer answers by streams that no lawful member sends (`KV.RangeStream`, etcd 3.7).

use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{io, iter};

use etcd_watch_client::proto::etcdserverpb::RangeResponse;
use etcd_watch_client::proto::mvccpb::KeyValue;
use etcd_watch_client::{KeyRange, MirrorRequest};
use etcd_watch_testkit::sim::{Etcd, Sim};
use tokio::time::{Instant, sleep, timeout};

use crate::figures::Bounds;
use crate::grpc::{Call, framed, headed, header};
use crate::lawful;
use crate::lists::{Case, LAST, PAGE_BYTES, Step, by_both, lie, put_keys};
use crate::peer::{MINUTE, alone_in_process, answered, run_all};

/// These steps in place of the messages of a stream.
fn instead(name: &str, steps: fn() -> Vec<Step>) -> Case {
    Case::streams(name, move |_, _| steps())
}

/// All messages of each stream with this change.
fn changed(name: &str, change: fn(&mut Vec<RangeResponse>)) -> Case {
    Case::streams(name, move |_, mut chunks| {
        change(&mut chunks);
        chunks.into_iter().map(Step::Say).collect()
    })
}

/// The last message of each stream, which has its header, with this change.
fn last(name: &str, change: fn(&mut RangeResponse)) -> Case {
    Case::streams(name, move |_, mut chunks| {
        change(chunks.last_mut().expect("there is one"));
        chunks.into_iter().map(Step::Say).collect()
    })
}

/// The first pair of each stream with this change.
fn pair(name: &str, change: fn(&mut KeyValue)) -> Case {
    Case::streams(name, move |_, mut chunks| {
        change(chunks.iter_mut().flat_map(|chunk| &mut chunk.kvs).next().expect("there is one"));
        chunks.into_iter().map(Step::Say).collect()
    })
}

/// Each stream to its first message, and then this.
fn begun(name: &str, end: fn() -> Step) -> Case {
    Case::streams(name, move |_, chunks| {
        chunks.into_iter().take(1).map(Step::Say).chain(iter::once(end())).collect()
    })
}

/// A message of one pair, the first of them behind all that the store has.
fn further(number: i64) -> RangeResponse {
    RangeResponse { kvs: vec![lie(format!("k/9{number:09}"), 2)], ..RangeResponse::default() }
}

fn contents() -> Vec<Case> {
    vec![
        changed("unsorted", |chunks| chunks[0].kvs.swap(0, 1)),
        changed("backwards", |chunks| chunks.iter_mut().for_each(|chunk| chunk.kvs.reverse())),
        changed("messages in another order", |chunks| chunks.reverse()),
        changed("a message twice", |chunks| chunks.insert(0, chunks[0].clone())),
        changed("a key twice", |chunks| {
            let kv = chunks[0].kvs[0].clone();
            chunks[0].kvs.insert(0, kv);
        }),
        changed("a message left out", |chunks| drop(chunks.remove(0))),
        changed("a key left out", |chunks| drop(chunks[0].kvs.pop())),
        changed("no keys, though there are", |chunks| chunks.iter_mut().for_each(|chunk| chunk.kvs.clear())),
        pair("a key before the range", |kv| kv.key = "j".into()),
        pair("a key behind the range", |kv| kv.key = "k0".into()),
        pair("a key that was listed before", |kv| kv.key = "k/00".into()),
        pair("a key of no bytes", |kv| kv.key = Vec::new().into()),
        pair("a pair beyond the list's revision", |kv| kv.mod_revision = LAST + 1),
        pair("a pair at the largest revision", |kv| kv.mod_revision = i64::MAX),
        pair("a pair at revision 0", |kv| kv.mod_revision = 0),
        pair("a pair below revision 0", |kv| kv.mod_revision = -3),
        pair("a pair at the lowest revision", |kv| kv.mod_revision = i64::MIN),
        last("fewer keys by the count than there are", |chunk| chunk.count = 1),
        last("more keys by the count than there are", |chunk| chunk.count = 1_000),
        last("the largest count", |chunk| chunk.count = i64::MAX),
        last("a count below 0", |chunk| chunk.count = -7),
        last("without a count", |chunk| chunk.count = 0),
        last("more of them, though there are none", |chunk| chunk.more = true),
        Case::streams("of empty pairs", |_, _| {
            vec![Step::Say(RangeResponse {
                kvs: vec![KeyValue::default(); 2_000],
                ..RangeResponse::default()
            })]
        }),
    ]
}

fn headers() -> Vec<Case> {
    vec![
        last("without a header", |chunk| chunk.header = None),
        last("at revision 0", |chunk| chunk.header.as_mut().expect("it has one").revision = 0),
        last("at a revision before the list's", |chunk| {
            chunk.header.as_mut().expect("it has one").revision = 1
        }),
        last("at a later revision than the store's", |chunk| {
            chunk.header.as_mut().expect("it has one").revision = LAST + 1_000;
        }),
        last("of another cluster", |chunk| chunk.header.as_mut().expect("it has one").cluster_id ^= 99),
        last("of no cluster", |chunk| chunk.header.as_mut().expect("it has one").cluster_id = 0),
        changed("a header in each message", |chunks| {
            chunks.iter_mut().for_each(|chunk| chunk.header = Some(header(LAST)));
        }),
        changed("a header in the first message alone", |chunks| {
            chunks.iter_mut().for_each(|chunk| chunk.header = None);
            chunks[0].header = Some(header(LAST));
        }),
        instead("a header, more, and no keys", || {
            let header = Some(header(LAST));
            vec![Step::Say(RangeResponse { header, more: true, ..RangeResponse::default() })]
        }),
        instead("a header and no keys", || {
            let header = Some(header(LAST));
            vec![Step::Say(RangeResponse { header, ..RangeResponse::default() })]
        }),
    ]
}

fn ends() -> Vec<Case> {
    let compacted = || Step::End(11, "etcdserver: mvcc: required revision has been compacted");
    let future = || Step::End(11, "etcdserver: mvcc: required revision is a future revision");
    vec![
        instead("silence", || vec![Step::Stay]),
        instead("nothing", || vec![Step::End(0, "")]),
        instead("a reset", || vec![Step::Reset]),
        instead("not there", || vec![Step::End(12, "unknown method RangeStream")]),
        instead("unavailable", || vec![Step::End(14, "not now")]),
        instead("denied", || vec![Step::End(7, "etcdserver: permission denied")]).ends("PermissionDenied"),
        instead("too large", || vec![Step::End(8, "trying to send message larger than max (9 vs. 8)")]),
        begun("a message, then silence", || Step::Stay),
        begun("a message, then the end", || Step::End(0, "")),
        begun("a message, then a reset", || Step::Reset),
        begun("a message, then unavailable", || Step::End(14, "not now")),
        begun("a message, then not there", || Step::End(12, "unknown method RangeStream")),
        begun("a message, then compacted", compacted).waits(),
        begun("a message, then a revision that is not there", future),
        begun("a message, then garbage", || Step::Bytes(framed(0, &[0xff; 100]))),
        begun("a message, then half a message", || Step::Bytes(headed(0, 100, &[0; 9]))),
        begun("a message, then one of 4 GiB", || Step::Bytes(headed(0, u32::MAX, &[0; 100]))),
        begun("a message, then a compressed one", || Step::Bytes(framed(1, &[0x1f, 0x8b, 8, 0]))),
        begun("a message, then an empty one", || Step::Say(RangeResponse::default())),
        instead("compacted", || {
            vec![Step::End(11, "etcdserver: mvcc: required revision has been compacted")]
        })
        .waits(),
    ]
}

fn without_end() -> Vec<Case> {
    let long = Bounds { polls: 40_000, bytes: 4 << 20, ..Bounds::USUAL };
    vec![
        instead("empty messages without an end", || vec![Step::Endless(|_| RangeResponse::default())])
            .bounds(long),
        instead("headers without an end", || {
            vec![Step::Endless(|_| RangeResponse { header: Some(header(LAST)), ..RangeResponse::default() })]
        })
        .bounds(long),
        instead("keys without an end, past the count", || vec![Step::Endless(further)]).bounds(long),
        instead("the same key without an end", || vec![Step::Endless(|_| further(0))]).bounds(long),
    ]
}

#[test]
fn streams_with_other_keys_than_they_say() {
    run_all(|| by_both(contents()));
}

#[test]
fn streams_with_headers_that_do_not_fit() {
    run_all(|| by_both(headers()));
}

#[test]
fn streams_that_end_as_no_stream_does() {
    run_all(|| by_both(ends()));
}

#[test]
fn streams_without_an_end() {
    run_all(|| by_both(without_end()));
}

/// The method and the time of each call that a peer got.
type Asked = Arc<Mutex<Vec<(String, Instant)>>>;

/// Refuses a stream after eight seconds, and answers no request for a page after that.
async fn refuse_late(mut call: Call, (etcd, asked): (Etcd, Asked)) -> io::Result<()> {
    let is_after_stream = {
        let mut asked = asked.lock().expect("no panic");
        asked.push((call.method.clone(), Instant::now()));
        asked.iter().any(|(method, _)| method == "RangeStream")
    };
    match &*call.method {
        "RangeStream" => {
            sleep(Duration::from_secs(8)).await;
            call.refuse(12, "unknown method RangeStream")
        }
        "Range" if is_after_stream => call.stay().await,
        _ => lawful::answer(call, &etcd).await,
    }
}

#[test]
fn a_page_in_the_place_of_a_stream_has_what_is_left_of_the_time() {
    let _running = alone_in_process();
    let asked = Asked::default();
    let of_peer = asked.clone();
    let report = Sim::new().members(1).run(1, |world| async move {
        put_keys(world.etcd());
        let script = answered((world.etcd().clone(), of_peer), refuse_late);
        let peer = world.listen(move |socket| script(socket));
        let builder = world.client().endpoints([peer.endpoint()]).request_timeout(Duration::from_secs(10));
        let request = MirrorRequest::new(KeyRange::prefix("k/")).page_bytes(PAGE_BYTES);
        let mut mirror = builder.connect_lazy()?.mirror(request)?;
        let listing = async { while mirror.next().await.is_some() {} };
        timeout(MINUTE, listing).await.expect_err("the rest does not come");
        Ok(())
    });
    report.unwrap_or_else(|failure| panic!("{failure}"));
    let asked = asked.lock().expect("no panic");
    let mut lists = asked.iter().skip_while(|(method, _)| method != "RangeStream");
    let (_, began) = lists.next().expect("a stream is asked for");
    let mut pages = lists.filter(|(method, _)| method == "Range").map(|(_, at)| *at - *began);
    let (instead, again) = (pages.next().expect("a page is"), pages.next().expect("it is asked for again"));
    assert_eq!(instead.as_secs(), 8, "{instead:?}");
    assert_eq!(again.as_secs(), 10, "{again:?}");
}

//! Server frames as raw bytes, into a machine with watches on two streams.
//!
//! Input: for each frame a byte that says on which stream it comes and what happens beside it, its length, and
//! the frame. A stream that was given up is opened again, so that the rest of the input finds one.

use std::time::Duration;

use bytes::Bytes;
use etcd_watch_core::{KeyRange, Opened, Overflow, ServerVersion, StreamKey, WatchConfig, WatchRequest};
use etcd_watch_proto::etcdserverpb::{ResponseHeader, WatchResponse as Frame};
use etcd_watch_proto::mvccpb::{Event, KeyValue};
use etcd_watch_proto::prost::Message;

use super::driver::{Driver, Sizes};
use super::input::{Input, write_bytes};

const SIZES: Sizes = Sizes { buffer: 600, total: 1200, revision: 1600 };

/// Frames in one input beyond which nothing new is found.
const MAX_FRAMES: usize = 40;

// The bits of a frame's first byte.
const SECOND_STREAM: u8 = 1;
const TAKE: u8 = 2;
const WAIT: u8 = 4;
const UNANSWERED: u8 = 8;

pub(super) fn run(data: &[u8]) {
    let mut driver = start();
    let mut input = Input::new(data);
    for _ in 0..MAX_FRAMES {
        if input.is_empty() {
            break;
        }
        let what = input.byte();
        let frame = Bytes::copy_from_slice(input.bytes());
        let number = u32::from(what & SECOND_STREAM != 0);
        if let Some(stream) = newest(&driver, number) {
            driver.frame(stream, frame);
        }
        if what & TAKE != 0 {
            driver.watches.clone().into_iter().for_each(|watch| driver.take(watch, usize::MAX));
        }
        if what & WAIT != 0 {
            driver.sleep(Duration::from_secs(1));
        }
        reopen(&mut driver, what & UNANSWERED == 0);
    }
    driver.finish();
}

fn start() -> Driver {
    let config = SIZES.set(WatchConfig::default()).probe(Some(Duration::from_secs(3)));
    let mut driver = Driver::new(config, SIZES, 1);
    let all = WatchRequest::new(KeyRange::all()).start_revision(1).progress_notify(true);
    let paused = WatchRequest::new(KeyRange::prefix("k")).start_revision(5).overflow(Overflow::Pause);
    let alone = WatchRequest::new(KeyRange::key("k")).start_revision(1).overflow(Overflow::Fail);
    driver.watch(all, (1, None, false, true));
    driver.watch(paused, (5, None, false, false));
    driver.watch(alone.own_stream(true).created_notify(true), (1, None, true, false));
    reopen(&mut driver, true);
    driver
}

/// The newest connection of the stream with this number.
fn newest(driver: &Driver, number: u32) -> Option<StreamKey> {
    driver.streams.iter().rev().find(|stream| stream.stream().number() == number).copied()
}

/// Opens the streams that wait for it, waiting out a backoff; and answers what was asked on them.
fn reopen(driver: &mut Driver, answers: bool) {
    // The longest backoff.
    for _ in 0..8 {
        let is_gone = |stream: &StreamKey| driver.watcher.reopens_at(*stream).is_some();
        let gone = [0, 1].into_iter().filter_map(|number| newest(driver, number)).filter(is_gone).count();
        for stream in driver.opening() {
            let version = Some(ServerVersion::new(3, 5, 30));
            driver.opened(stream, Opened { version, authenticated: false });
            while answers && let Some(watch_id) = driver.pending(stream) {
                driver.frame(stream, created(watch_id));
            }
        }
        if gone == 0 {
            return;
        }
        driver.timeout();
    }
}

fn created(watch_id: i64) -> Bytes {
    let header = Some(ResponseHeader { revision: 10, ..ResponseHeader::default() });
    Frame { header, watch_id, created: true, ..Frame::default() }.encode_to_vec().into()
}

/// Lawful and unlawful frames for the watches that [`start`] makes, to begin from.
pub(super) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let driver = start();
    let ids = |stream: usize| driver.ids(driver.streams[stream]);
    let (all, paused, alone) = (ids(0)[0], ids(0)[1], ids(1)[0]);
    let header = Some(ResponseHeader { cluster_id: 7, member_id: 1, revision: 20, raft_term: 2 });
    let put = |key: &'static str, mod_revision, size: usize| Event {
        kv: Some(KeyValue {
            key: key.into(),
            value: vec![b'v'; size].into(),
            create_revision: mod_revision,
            mod_revision,
            version: 1,
            lease: 0,
        }),
        ..Event::default()
    };
    let delete = |key: &'static str, revision| Event {
        r#type: 1,
        prev_kv: put(key, 3, 2).kv,
        ..put(key, revision, 0)
    };
    let events =
        |watch_id, events: &[Event]| Frame { header, watch_id, events: events.to_vec(), ..Frame::default() };
    let end = |watch_id, compact_revision, reason: &str| Frame {
        header,
        watch_id,
        canceled: true,
        compact_revision,
        cancel_reason: reason.into(),
        ..Frame::default()
    };
    let more = |frame: Frame| Frame { fragment: true, ..frame };
    let scripts: Vec<(&'static str, Vec<(u8, Frame)>)> = vec![
        ("events", vec![(TAKE, events(all, &[put("a", 11, 3), delete("a", 12)]))]),
        ("other-stream", vec![(SECOND_STREAM | TAKE, events(alone, &[put("k", 11, 3)]))]),
        ("progress", vec![(TAKE, Frame { header, watch_id: all, ..Frame::default() })]),
        ("manual-progress", vec![(WAIT | TAKE, Frame { header, watch_id: -1, ..Frame::default() })]),
        ("compacted", vec![(TAKE, end(all, 15, ""))]),
        ("cancelled", vec![(TAKE, end(all, 0, "because"))]),
        (
            "no-leader",
            vec![(0, end(all, 0, "etcdserver: no leader")), (TAKE, events(all, &[put("b", 13, 1)]))],
        ),
        ("denied", vec![(TAKE, end(paused, 0, "etcdserver: permission denied"))]),
        (
            "fragments",
            vec![
                (0, more(events(all, &[put("a", 11, 3), put("b", 11, 3)]))),
                (0, more(events(all, &[put("c", 11, 3), put("c", 12, 3)]))),
                (TAKE, events(all, &[put("d", 12, 3)])),
            ],
        ),
        (
            "overflow",
            vec![
                (0, events(all, &[put("a", 11, 400)])),
                (0, events(all, &[put("a", 12, 400)])),
                (TAKE, events(all, &[put("a", 13, 400)])),
            ],
        ),
        (
            "pause",
            vec![
                (0, events(paused, &[put("k", 11, 700)])),
                (TAKE | WAIT, events(paused, &[put("k", 12, 10)])),
            ],
        ),
        ("created-twice", vec![(0, Frame { header, watch_id: all, created: true, ..Frame::default() })]),
        ("unknown-id", vec![(UNANSWERED, events(99, &[put("k", 11, 1)]))]),
        ("backwards", vec![(TAKE, events(all, &[put("k", 12, 1), put("k", 11, 1)]))]),
        ("foreign-key", vec![(TAKE, events(paused, &[put("z", 12, 1)]))]),
        ("other-store", {
            let other = Some(ResponseHeader { cluster_id: 8, revision: 5, ..ResponseHeader::default() });
            let frame = events(all, &[put("k", 12, 1)]);
            vec![(0, frame.clone()), (TAKE, Frame { header: other, ..frame })]
        }),
    ];
    let write = |frames: Vec<(u8, Frame)>| {
        let mut bytes = Vec::new();
        for (what, frame) in frames {
            bytes.push(what);
            write_bytes(&mut bytes, &frame.encode_to_vec());
        }
        bytes
    };
    scripts.into_iter().map(|(name, frames)| (name, write(frames))).collect()
}

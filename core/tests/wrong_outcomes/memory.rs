//! Memory that is held is memory that is counted.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use etcd_watch_core::WatchConfig;
use etcd_watch_proto::etcdserverpb::WatchResponse as Frame;
use prost::Message;

use crate::{many::create_all, support::*};

const MIB: usize = 1 << 20;

/// A receive buffer: its bytes are in `held` until nobody has a part of it any more.
struct Buffer {
    bytes: Vec<u8>,
    held: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

fn received(bytes: Vec<u8>, held: &Arc<AtomicUsize>) -> Bytes {
    held.fetch_add(bytes.len(), Ordering::Relaxed);
    Bytes::from_owner(Buffer { bytes, held: Arc::clone(held) })
}

/// A frame at the start of a buffer of 1 MiB.
fn slice_of_large_buffer(frame: &[u8], held: &Arc<AtomicUsize>) -> Bytes {
    let mut bytes = vec![0; MIB];
    bytes[..frame.len()].copy_from_slice(frame);
    received(bytes, held).slice(..frame.len())
}

#[test]
fn a_small_frame_that_waits_does_not_hold_the_large_buffer_it_was_received_in() {
    for is_partial in [false, true] {
        let held = Arc::new(AtomicUsize::new(0));
        let mut driver = Driver::new(WatchConfig::default());
        driver.watch_together((0..300).map(|_| all_from(1)));
        let stream = driver.open(TRUSTED);
        let ids = create_all(&mut driver, stream, 100);
        assert_eq!(ids.len(), 300);
        for &id in ids.values() {
            let events = vec![put(5, "k")];
            let frame = if is_partial { fragment(id, events) } else { batch(id, events) };
            driver.bytes(stream, slice_of_large_buffer(&frame.encode_to_vec(), &held));
        }
        driver.sleep(ms(1_000));
        let (counted, held_now) = (driver.stats().queued_bytes, held.load(Ordering::Relaxed));
        assert!(
            held_now <= MIB,
            "a partial revision: {is_partial}: {held_now} bytes are held, {counted} are counted"
        );
        for (&watch, &id) in &ids {
            if is_partial {
                driver.frame(stream, batch(id, vec![put(5, "l")]));
            }
            assert_eq!(driver.revisions(watch), vec![5; 1 + usize::from(is_partial)]);
        }
        assert_eq!(held.load(Ordering::Relaxed), 0, "all is taken");
    }
}

#[test]
fn revisions_that_are_not_complete_yet_count_and_are_bounded_by_the_total() {
    const BOUND: usize = (16 + 8 + 1) * MIB; // The total, one revision, and some slack.
    let held = Arc::new(AtomicUsize::new(0));
    let mut driver = Driver::new(WatchConfig::default().total_buffer_bytes(16 * MIB));
    driver.watch_together((0..100).map(|_| all_from(1)));
    let stream = driver.open(TRUSTED);
    let ids = create_all(&mut driver, stream, 100);
    let mut cancelled = BTreeSet::new();
    let mut is_first = true;
    for part in ["a", "b", "c", "d", "e", "f", "g"] {
        for &id in ids.values() {
            cancelled.extend(driver.cancels());
            if cancelled.contains(&id) {
                continue;
            }
            let frame = fragment(id, vec![put_value(5, part, vec![b'x'; MIB])]);
            driver.bytes(stream, received(frame.encode_to_vec(), &held));
            let (counted, held) = (driver.stats().queued_bytes, held.load(Ordering::Relaxed));
            assert!(!is_first || counted >= MIB, "{counted} bytes are counted of a part of 1 MiB");
            is_first = false;
            assert!(counted <= BOUND && held <= BOUND, "{counted} bytes are counted, {held} are held");
        }
    }
}

#[test]
fn one_large_response_for_each_of_many_unread_watches_stays_within_the_total() {
    const WATCHES: usize = 2000;
    const TOTAL: usize = 256 * MIB;
    let mut driver = Driver::new(WatchConfig::default().total_buffer_bytes(TOTAL));
    driver.watch_together((0..WATCHES).map(|_| all_from(1)));
    let stream = driver.open(TRUSTED);
    let ids = create_all(&mut driver, stream, 100);
    // The parts of a message may be encoded one by one, the id first.
    let large = big(0, 5, 1_200_000).encode_to_vec();
    let one_response = 2 * large.len();
    for (number, &id) in ids.values().enumerate() {
        let id = Frame { watch_id: id, ..Frame::default() }.encode_to_vec();
        driver.bytes(stream, [&large[..], &id].concat());
        let queued = driver.stats().queued_bytes;
        assert!(queued <= TOTAL + one_response, "{queued} bytes wait after {} watches", number + 1);
    }
    let queued = driver.stats().queued_bytes;
    assert!(queued >= TOTAL / 2, "{queued} bytes wait: the total is there to be used");
}

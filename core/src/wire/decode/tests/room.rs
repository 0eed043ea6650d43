//! How much room the index of a frame takes: what is reserved ahead, and what is given back.

use super::*;

/// An index with `len` events and room for exactly `capacity`.
fn index(len: usize, capacity: usize) -> Vec<EventIndex> {
    let mut events = Vec::with_capacity(capacity);
    events.resize(len, EventIndex::default());
    assert_eq!(events.capacity(), capacity);
    events
}

#[test]
fn the_first_event_reserves_room_for_as_many_of_its_size_as_can_follow() {
    for (start, end, capacity) in [
        // The length before each event is one byte more.
        (100, 299, 1 + 9_701 / 200),
        (2_000, 4_999, 1 + 5_001 / 3_000),
        // A small one reserves no more memory than the frame takes.
        (100, 108, 1 + 9_892 / size_of::<EventIndex>()),
        (9_000, 10_000, 1),
    ] {
        let mut events = Vec::new();
        assert_eq!(make_room(&mut events, 10_000, start, end), Ok(()));
        assert_eq!(events.capacity(), capacity, "from {start} to {end}");
    }
}

#[test]
fn an_index_that_is_full_has_room_for_as_many_of_the_mean_size_as_can_follow_and_half_as_many_again_at_least()
{
    for (len, end, more) in [
        (10, 1_100, 1 + 8_900 / 100),
        (100, 9_900, 50),
        // Events can't be smaller than the smallest.
        (500, 1_000, 1 + 9_000 / SMALLEST_EVENT),
        // No frame has more than it has bytes for, and some slack.
        (EVENTS_SLACK + 10_000 / SMALLEST_EVENT - 3, 9_900, 3),
    ] {
        let mut events = index(len, len);
        assert_eq!(make_room(&mut events, 10_000, 0, end), Ok(()));
        assert_eq!(events.capacity(), len + more, "{len} events up to {end}");
    }
}

#[test]
fn room_for_an_eighth_or_for_four_may_be_left_over() {
    for (len, spare) in [(80, 10), (7, 4), (0, 4)] {
        for (capacity, kept) in [(len + spare, len + spare), (len + spare + 1, len)] {
            let mut prevs = Vec::with_capacity(capacity);
            prevs.resize(len, KvIndex::default());
            let mut frame = Frame { events: Events::Many(index(len, capacity)), ..Frame::default() };
            *frame.prevs.list() = prevs;
            frame.shrink();
            assert_eq!(
                (frame.events.capacity(), frame.prevs.capacity()),
                (kept, kept),
                "{len} in {capacity}"
            );
        }
    }
}

#[test]
fn the_first_previous_pair_reserves_room_for_those_of_the_events_that_are_expected_to_follow() {
    let event = |has_prev: bool| {
        // Larger than its index, so that the first tells how many there are.
        let kv = KeyValue { value: vec![b'v'; 200].into(), ..KeyValue::default() };
        let prev_kv = KeyValue { value: vec![b'v'; 200].into(), ..KeyValue::default() };
        let kv = if has_prev { kv } else { KeyValue { value: vec![b'v'; 405].into(), ..kv } };
        Event { prev_kv: has_prev.then_some(prev_kv), kv: Some(kv), ..Event::default() }
    };
    let events: Vec<Event> = [false, true, true, true].map(event).into();
    let frame = decode(&WatchResponse { events, ..WatchResponse::default() }.encode_to_vec()).unwrap();
    assert_eq!((frame.events.capacity(), frame.prevs.capacity()), (4, 3));
}

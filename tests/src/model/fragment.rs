//! Cutting a large watch response into several.

use std::collections::{BTreeMap, VecDeque};

use etcd_watch_proto::etcdserverpb::WatchResponse;
use etcd_watch_proto::prost::{Message, length_delimiter_len};

/// Cuts a response so that each part encodes to less than `limit` bytes, unless one event alone is larger.
/// Every part has at least one event, and all but the last say that more follows. Revisions may be cut too.
pub(super) fn cut(response: WatchResponse, limit: usize) -> Vec<WatchResponse> {
    if response.events.len() < 2 || response.encoded_len() < limit {
        return vec![response];
    }
    let empty = WatchResponse { events: Vec::new(), fragment: true, ..response.clone() };
    let base = empty.encoded_len();
    let mut parts = vec![empty.clone()];
    let mut size = base;
    for event in response.events {
        let event_size = field_len(event.encoded_len());
        let has_events = parts.last().is_some_and(|part| !part.events.is_empty());
        if has_events && size + event_size >= limit {
            parts.push(empty.clone());
            size = base;
        }
        size += event_size;
        if let Some(part) = parts.last_mut() {
            part.events.push(event);
        }
    }
    if let Some(last) = parts.last_mut() {
        last.fragment = false;
    }
    parts
}

/// The responses of each watch in their order, and those of different watches by turns.
pub(super) fn interleaved(responses: VecDeque<WatchResponse>) -> VecDeque<WatchResponse> {
    let mut of_watches: BTreeMap<i64, VecDeque<WatchResponse>> = BTreeMap::new();
    for response in responses {
        of_watches.entry(response.watch_id).or_default().push_back(response);
    }
    let mut out = VecDeque::new();
    while !of_watches.is_empty() {
        out.extend(of_watches.values_mut().filter_map(VecDeque::pop_front));
        of_watches.retain(|_, responses| !responses.is_empty());
    }
    out
}

/// What a message of this length takes as a field of another: one byte of tag, the length, the message.
fn field_len(length: usize) -> usize {
    1 + length_delimiter_len(length) + length
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use etcd_watch_proto::{
        etcdserverpb::ResponseHeader,
        mvccpb::{Event, KeyValue},
    };

    use super::*;

    fn response(values: &[usize]) -> WatchResponse {
        let events = values
            .iter()
            .map(|size| Event {
                kv: Some(KeyValue {
                    key: Bytes::from_static(b"k"),
                    value: vec![0; *size].into(),
                    ..KeyValue::default()
                }),
                ..Event::default()
            })
            .collect();
        WatchResponse { watch_id: 7, events, ..WatchResponse::default() }
    }

    fn counts(parts: &[WatchResponse]) -> Vec<usize> {
        parts.iter().map(|part| part.events.len()).collect()
    }

    #[test]
    fn a_small_response_stays_whole() {
        let parts = cut(response(&[10, 10]), 1000);
        assert_eq!(counts(&parts), [2]);
        assert!(!parts[0].fragment);
    }

    #[test]
    fn all_parts_but_the_last_say_that_more_follows() {
        let parts = cut(response(&[400, 400, 400, 400]), 1000);
        assert_eq!(counts(&parts), [2, 2]);
        assert_eq!(parts.iter().map(|part| part.fragment).collect::<Vec<_>>(), [true, false]);
        assert!(parts.iter().all(|part| part.watch_id == 7 && part.encoded_len() < 1000));
    }

    #[test]
    fn an_event_larger_than_the_limit_goes_alone() {
        let parts = cut(response(&[10, 5000, 10]), 1000);
        assert_eq!(counts(&parts), [1, 1, 1]);
    }

    #[test]
    fn a_single_event_is_never_called_a_fragment() {
        let parts = cut(response(&[5000]), 1000);
        assert_eq!(counts(&parts), [1]);
        assert!(!parts[0].fragment);
    }

    #[test]
    fn the_responses_of_watches_take_turns() {
        let of = |watch_id, revision| {
            let header = ResponseHeader { revision, ..ResponseHeader::default() };
            WatchResponse { watch_id, header: Some(header), ..WatchResponse::default() }
        };
        let all = [of(1, 1), of(1, 2), of(1, 3), of(2, 4), of(2, 5), of(3, 6)];
        let expected = [of(1, 1), of(2, 4), of(3, 6), of(1, 2), of(2, 5), of(1, 3)];
        assert_eq!(interleaved(all.into()), expected);
    }

    #[test]
    fn the_parts_together_are_the_whole() {
        let whole = response(&[1, 300, 20, 700, 64, 900, 900, 5]);
        for limit in [1, 50, 100, 1000, 2000, 10_000] {
            let parts = cut(whole.clone(), limit);
            let joined: Vec<_> = parts.into_iter().flat_map(|part| part.events).collect();
            assert_eq!(joined, whole.events);
        }
    }
}

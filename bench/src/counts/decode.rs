//! Workloads of the decoder.

use std::{hint::black_box, mem::take};

use bytes::Bytes;
use etcd_watch_core::Frame;
use etcd_watch_proto::{
    etcdserverpb::{ResponseHeader, WatchResponse},
    mvccpb::{Event, KeyValue},
    prost::Message,
};

use crate::workload::{Run, Workload, drop_uncounted};

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "decode 100 puts of 32 B",
        units: &[("event", 100), ("frame", 1)],
        start: || Decode::<false>::of(100, 32),
    },
    Workload {
        name: "decode 100 puts of 32 B, and drop",
        units: &[("event", 100), ("frame", 1)],
        start: || Decode::<true>::of(100, 32),
    },
    Workload { name: "decode 1 put of 256 B", units: &[("frame", 1)], start: || Decode::<false>::of(1, 256) },
    Workload {
        name: "decode 1 put of 256 B, and drop",
        units: &[("frame", 1)],
        start: || Decode::<true>::of(1, 256),
    },
];

/// A response with puts of values of `value_bytes`, as etcd encodes it.
pub(crate) fn puts(events: u32, value_bytes: usize) -> Bytes {
    let put = |index: u32| {
        let revision = 1_234_567 + i64::from(index);
        Event {
            kv: Some(KeyValue {
                key: format!("/registry/pods/{index:08}").into(),
                create_revision: revision - 1000,
                mod_revision: revision,
                version: 3,
                value: vec![b'v'; value_bytes].into(),
                lease: 0,
            }),
            ..Event::default()
        }
    };
    // The ids that etcd gives a cluster of one; like most, they take ten bytes each.
    let (cluster_id, member_id) = (0xcdf8_1819_4e3a_8c32, 0x8e9e_05c5_2164_694d);
    let header =
        ResponseHeader { cluster_id, member_id, revision: 1_234_567 + i64::from(events), raft_term: 7 };
    let response = WatchResponse {
        header: Some(header),
        watch_id: 5,
        events: (0..events).map(put).collect(),
        ..WatchResponse::default()
    };
    response.encode_to_vec().into()
}

/// Decodes a frame, and drops it counted or not.
struct Decode<const COUNT_DROP: bool> {
    frame: Bytes,
    received: Bytes,
}

impl<const COUNT_DROP: bool> Decode<COUNT_DROP> {
    fn of(events: u32, value_bytes: usize) -> Box<dyn Run> {
        Box::new(Self { frame: puts(events, value_bytes), received: Bytes::new() })
    }
}

impl<const COUNT_DROP: bool> Run for Decode<COUNT_DROP> {
    fn prepare(&mut self) {
        self.received = self.frame.clone();
    }

    fn call(&mut self) {
        if let Ok(frame) = Frame::decode(take(&mut self.received)) {
            if COUNT_DROP {
                drop(black_box(frame));
            } else {
                drop_uncounted(frame);
            }
        }
    }
}

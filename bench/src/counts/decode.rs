//! Workloads of the decoder.

use std::{hint::black_box, mem::take};

use bytes::Bytes;
use etcd_watch_core::Frame;

use crate::{
    server::{REVISION, puts, puts_without_header},
    workload::{Run, Section, Unit, Workload, drop_uncounted},
};

/// Decoding of received frames.
pub(crate) const OF_FRAMES: Section = Section {
    of: ["frame", "frames"],
    sizes: &[1],
    workloads: &[
        Workload {
            name: "decode 100 puts of 32 B",
            units: &[
                Unit { name: "event", of: 100, goal: Some(250), ceiling: 218 },
                Unit { name: "frame", of: 1, goal: None, ceiling: 21_742 },
            ],
            allocations: 1.1,
            start: |_| Decode::<false>::of(puts(5, REVISION, 100, 32)),
        },
        Workload {
            name: "decode 100 puts of 32 B, and drop",
            units: &[
                Unit { name: "event", of: 100, goal: None, ceiling: 220 },
                Unit { name: "frame", of: 1, goal: None, ceiling: 21_965 },
            ],
            allocations: 1.1,
            start: |_| Decode::<true>::of(puts(5, REVISION, 100, 32)),
        },
        Workload {
            name: "decode 1 put of 256 B without a header",
            units: &[Unit { name: "frame", of: 1, goal: Some(480), ceiling: 480 }],
            allocations: 0.1,
            start: |_| Decode::<false>::of(puts_without_header(5, REVISION, 1, 256)),
        },
        Workload {
            name: "decode 1 put of 256 B",
            units: &[Unit { name: "frame", of: 1, goal: Some(480), ceiling: 662 }],
            allocations: 0.1,
            start: |_| Decode::<false>::of(puts(5, REVISION, 1, 256)),
        },
        Workload {
            name: "decode 1 put of 256 B, and drop",
            units: &[Unit { name: "frame", of: 1, goal: None, ceiling: 697 }],
            allocations: 0.1,
            start: |_| Decode::<true>::of(puts(5, REVISION, 1, 256)),
        },
    ],
};

/// Decodes a frame, and drops it counted or not.
struct Decode<const COUNT_DROP: bool> {
    frame: Bytes,
    received: Bytes,
}

impl<const COUNT_DROP: bool> Decode<COUNT_DROP> {
    fn of(frame: Bytes) -> Box<dyn Run> {
        Box::new(Self { frame, received: Bytes::new() })
    }
}

impl<const COUNT_DROP: bool> Run for Decode<COUNT_DROP> {
    fn prepare(&mut self) {
        self.received = self.frame.clone();
    }

    fn call(&mut self) {
        let decoded = Frame::decode(take(&mut self.received));
        if COUNT_DROP {
            drop(black_box(decoded));
        } else {
            drop_uncounted(decoded);
        }
    }

    fn check(&self) {
        assert!(Frame::decode(self.frame.clone()).is_ok());
    }
}

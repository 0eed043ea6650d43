//! Decoding of received frames.

use std::{
    hint::black_box,
    mem::{forget, take},
};

use bytes::Bytes;
use etcd_watch_core::Frame;

use crate::{
    server::{REVISION, puts, puts_without_header},
    workload::Run,
};

/// Decodes a frame; whether dropping what was decoded is counted, too, is up to it.
pub struct Decode {
    frame: Bytes,
    received: Bytes,
    is_decoded: bool,
    is_drop_counted: bool,
}

impl Decode {
    /// A frame with so many puts, of values of so many bytes.
    #[must_use]
    pub fn of(events: u32, value_bytes: usize) -> Self {
        Self::frame(puts(5, REVISION, events, value_bytes))
    }

    /// The same without a header, as some proxies have it.
    #[must_use]
    pub fn without_header(events: u32, value_bytes: usize) -> Self {
        Self::frame(puts_without_header(5, REVISION, events, value_bytes))
    }

    fn frame(frame: Bytes) -> Self {
        Self { frame, received: Bytes::new(), is_decoded: false, is_drop_counted: false }
    }

    /// Dropping counts.
    #[must_use]
    pub fn and_drop(self) -> Self {
        Self { is_drop_counted: true, ..self }
    }
}

impl Run for Decode {
    fn prepare(&mut self) {
        self.is_decoded = false;
        self.received = self.frame.clone();
    }

    fn call(&mut self) {
        let decoded = Frame::decode(take(&mut self.received));
        black_box(&decoded);
        self.is_decoded = decoded.is_ok();
        if !self.is_drop_counted {
            // The memory of a hundred frames is not given back.
            forget(decoded);
        }
    }

    fn check(&self) {
        assert!(self.is_decoded, "it is decoded");
    }
}

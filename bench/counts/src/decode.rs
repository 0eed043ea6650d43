//! Decoding of received frames.

use std::mem::take;

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
    decoded: Option<Frame>,
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
        Self { frame, received: Bytes::new(), decoded: None, is_drop_counted: false }
    }

    /// Dropping counts.
    #[must_use]
    pub fn and_drop(self) -> Self {
        Self { is_drop_counted: true, ..self }
    }
}

impl Run for Decode {
    fn prepare(&mut self) {
        self.decoded = None;
        self.received = self.frame.clone();
    }

    fn call(&mut self) {
        self.decoded = Frame::decode(take(&mut self.received)).ok();
        if self.is_drop_counted {
            self.decoded = None;
        }
    }

    fn check(&self) {
        assert_eq!(self.decoded.is_some(), !self.is_drop_counted, "it is decoded");
        assert!(Frame::decode(self.frame.clone()).is_ok(), "it can be decoded");
    }
}

//! stub of the machine, to be replaced
use crate::*;
use bytes::Bytes;

/// The machine.
#[derive(Debug)]
pub struct Watcher;

#[allow(missing_docs, clippy::todo, unused_variables)]
impl Watcher {
    pub fn new(config: Config, seed: u64) -> Result<Self, ConfigError> {
        todo!()
    }
    // commands of the application
    pub fn watch(&mut self, now: Instant, request: WatchRequest) -> Result<WatchKey, ApiMisuse> {
        todo!()
    }
    pub fn cancel(&mut self, now: Instant, watch: WatchKey) -> Result<(), ApiMisuse> {
        todo!()
    }
    pub fn request_progress(&mut self, now: Instant, watch: WatchKey) -> Result<(), ApiMisuse> {
        todo!()
    }
    pub fn shutdown(&mut self, now: Instant) {
        todo!()
    }
    /// Takes what a watch has. Take until None.
    pub fn next(&mut self, now: Instant, watch: WatchKey) -> Option<Delivery> {
        todo!()
    }
    // what the network did
    pub fn handle_opened(&mut self, now: Instant, stream: StreamKey, opened: Opened) {
        todo!()
    }
    pub fn handle_frame(&mut self, now: Instant, stream: StreamKey, frame: Bytes) {
        todo!()
    }
    pub fn handle_failed(&mut self, now: Instant, stream: StreamKey, failure: Failure) {
        todo!()
    }
    pub fn handle_range_done(&mut self, now: Instant, range: RangeKey, result: Result<RangeDone, Failure>) {
        todo!()
    }
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }
    // outputs
    pub fn poll_action(&mut self) -> Option<Action> {
        todo!()
    }
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    pub fn timeout_reason(&self) -> Option<TimeoutReason> {
        todo!()
    }
    pub fn wants_frame(&self, stream: StreamKey) -> bool {
        todo!()
    }
    pub fn stats(&self) -> Stats {
        todo!()
    }
    /// The revision the watch would resume at; None for an unknown watch
    pub fn resume_revision(&self, watch: WatchKey) -> Option<i64> {
        todo!()
    }
}

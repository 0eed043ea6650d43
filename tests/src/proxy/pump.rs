//! The bytes of one direction of a connection.

use std::{
    collections::VecDeque,
    future, io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{ReadHalf, WriteHalf},
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Cut,
    connection::Ending,
    faults::{CutAfter, Faults, Way},
    shared::Shared,
};

/// How much may be on its way, so that a delay is none of bandwidth.
const IN_FLIGHT: usize = 8 << 20;
const READ_SIZE: usize = 64 << 10;
/// Throttled writes come in this many portions a second.
const PORTIONS: u64 = 50;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the upstream server to the client.
    Downstream,
    /// From the client to the upstream server.
    Upstream,
}

/// Forwards one direction of a connection.
pub(super) struct Pump<'a> {
    pub(super) direction: Direction,
    pub(super) source: ReadHalf<'a>,
    /// Whether a write to the source's other half has failed: the end of what can be read is no orderly one then.
    pub(super) source_broken: &'a AtomicBool,
    pub(super) sink: WriteHalf<'a>,
    pub(super) sink_broken: &'a AtomicBool,
    pub(super) faults: watch::Receiver<Faults>,
    /// How many black holes there were before this connection.
    pub(super) black_holes: u64,
    pub(super) shared: &'a Shared,
    pub(super) id: u64,
}

/// What was received, and when.
struct Piece {
    received: Instant,
    what: What,
}

enum What {
    Data(Bytes),
    /// An orderly end of stream.
    End,
    /// A reset.
    Reset,
}

/// What was received and not yet forwarded, and how much was.
struct Line {
    pieces: VecDeque<Piece>,
    /// The sum of the pieces' sizes.
    waiting: usize,
    has_ended: bool,
    forwarded: u64,
    /// When the throttle lets the next bytes pass.
    next_portion: Instant,
    /// The number of a cut that was asked for, and how much was forwarded before it was.
    counted_from: Option<(u64, u64)>,
}

/// What to do next.
enum Step {
    /// Nothing, until something is received or the faults change.
    Wait,
    WaitUntil(Instant),
    /// Write so many bytes of the first piece.
    Write(usize),
    /// End the stream.
    Shutdown,
    /// Cut the connection, if it is the one to be cut.
    Cut(CutAfter),
    /// The connection is over.
    Reset,
}

impl Pump<'_> {
    /// Forwards until an orderly end was forwarded; the error is any other ending.
    pub(super) async fn run(mut self) -> Result<(), Ending> {
        let mut line = Line::new();
        let mut buffer = BytesMut::new();
        loop {
            let step = {
                let faults = self.faults.borrow_and_update();
                line.next_step(&faults, self.black_holes, self.direction, self.sink_broken)
            };
            match step {
                Step::Cut(command) => {
                    self.cut(command)?;
                    continue;
                }
                Step::Reset => return Err(Ending::Reset),
                _ => {}
            }
            buffer.reserve(READ_SIZE);
            tokio::select! {
                changed = self.faults.changed() => changed.map_err(|_| Ending::Cut(Cut::Reset))?,
                read = self.source.read_buf(&mut buffer), if line.has_room() => {
                    if !self.shared.is_live(self.id) {
                        // It was cut while this was read: what was sent after that goes nowhere.
                        return future::pending().await;
                    }
                    line.receive(read, &mut buffer, self.source_broken);
                }
                written = perform(&step, &line, &mut self.sink) => match (step, written) {
                    (Step::Write(_), Ok(count)) => {
                        self.shared.counters.count_bytes(self.direction, count as u64);
                        let faults = self.faults.borrow().clone();
                        line.forwarded(count, faults.rate);
                        let due = line.cut_due(&faults, self.direction);
                        if let Some(command) = due.filter(|command| command.bytes > 0) {
                            self.cut(command)?;
                        }
                    }
                    (Step::Shutdown, _) => return Ok(()),
                    (_, Ok(_)) => {}
                    // The other direction finds out from its own end of this socket, and passes it on.
                    (_, Err(_)) => self.sink_broken.store(true, Ordering::Relaxed),
                },
            }
        }
    }

    fn cut(&self, command: CutAfter) -> Result<(), Ending> {
        if self.shared.cut_one(self.id, command) { Err(Ending::Cut(command.cut)) } else { Ok(()) }
    }
}

/// Does what a step says; how many bytes that has written.
async fn perform(step: &Step, line: &Line, sink: &mut WriteHalf<'_>) -> io::Result<usize> {
    match step {
        Step::Write(count) => sink.write(line.first_bytes(*count)).await,
        Step::Shutdown => sink.shutdown().await.map(|()| 0),
        Step::WaitUntil(time) => {
            sleep_until(*time).await;
            Ok(0)
        }
        Step::Wait | Step::Cut(_) | Step::Reset => future::pending().await,
    }
}

impl Line {
    fn new() -> Self {
        Self {
            pieces: VecDeque::new(),
            waiting: 0,
            has_ended: false,
            forwarded: 0,
            next_portion: Instant::now(),
            counted_from: None,
        }
    }

    fn has_room(&self) -> bool {
        !self.has_ended && self.waiting < IN_FLIGHT
    }

    fn receive(&mut self, read: io::Result<usize>, buffer: &mut BytesMut, is_broken: &AtomicBool) {
        let what = match read {
            Ok(1..) => What::Data(buffer.split().freeze()),
            Ok(0) if !is_broken.load(Ordering::Relaxed) => What::End,
            Ok(0) | Err(_) => What::Reset,
        };
        match &what {
            What::Data(bytes) => self.waiting += bytes.len(),
            What::End | What::Reset => self.has_ended = true,
        }
        self.pieces.push_back(Piece { received: Instant::now(), what });
    }

    fn first_bytes(&self, count: usize) -> &[u8] {
        match self.pieces.front() {
            Some(Piece { what: What::Data(bytes), .. }) => &bytes[..count],
            _ => &[],
        }
    }

    fn forwarded(&mut self, count: usize, rate: Option<u64>) {
        if let Some(rate) = rate {
            self.next_portion = Instant::now() + Duration::from_secs_f64(count as f64 / rate as f64);
        }
        self.forwarded += count as u64;
        self.waiting -= count;
        if let Some(Piece { what: What::Data(bytes), .. }) = self.pieces.front_mut() {
            bytes.advance(count);
            if bytes.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    fn drop_data(&mut self) {
        self.pieces.retain(|piece| !matches!(piece.what, What::Data(_)));
        self.waiting = 0;
    }

    fn next_step(
        &mut self,
        faults: &Faults,
        black_holes: u64,
        direction: Direction,
        sink_broken: &AtomicBool,
    ) -> Step {
        let is_dead = faults.black_holes != black_holes;
        if is_dead || sink_broken.load(Ordering::Relaxed) {
            self.drop_data();
        }
        // Before the first byte after the command is looked at, so that counting starts there.
        let cut = self.cut_due(faults, direction);
        let Some(piece) = self.pieces.front() else { return Step::Wait };
        if is_dead {
            // An end has given up. While the black hole lasts, that isn't heard of either.
            return if faults.way == Way::BlackHole { Step::Wait } else { Step::Reset };
        }
        if faults.way == Way::Held {
            return Step::Wait;
        }
        let now = Instant::now();
        let due = piece.received + faults.delay;
        if due > now {
            return Step::WaitUntil(due);
        }
        let size = match &piece.what {
            What::Data(bytes) => bytes.len(),
            What::End => return Step::Shutdown,
            What::Reset => return Step::Reset,
        };
        if let Some(command) = cut {
            return Step::Cut(command);
        }
        let allowed = usize::try_from(self.until_cut(faults, direction)).unwrap_or(usize::MAX);
        let Some(rate) = faults.rate else { return Step::Write(size.min(allowed)) };
        if self.next_portion > now {
            return Step::WaitUntil(self.next_portion);
        }
        let portion = size.min(allowed).min(usize::try_from((rate / PORTIONS).max(1)).unwrap_or(usize::MAX));
        Step::Write(portion)
    }

    /// The cut that was asked for, once the bytes before it are forwarded.
    fn cut_due(&mut self, faults: &Faults, direction: Direction) -> Option<CutAfter> {
        let command = faults.cut_after.filter(|_| direction == Direction::Downstream)?;
        if self.counted_from.is_none_or(|(number, _)| number != command.number) {
            self.counted_from = Some((command.number, self.forwarded));
        }
        (self.until_cut(faults, direction) == 0).then_some(command)
    }

    /// How many bytes may be forwarded before the cut that was asked for.
    fn until_cut(&self, faults: &Faults, direction: Direction) -> u64 {
        match (direction, faults.cut_after, self.counted_from) {
            (Direction::Downstream, Some(command), Some((number, from))) if number == command.number => {
                (from + command.bytes).saturating_sub(self.forwarded)
            }
            _ => u64::MAX,
        }
    }
}

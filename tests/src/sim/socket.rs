//! Connections in memory: bytes with delays.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::core::{Core, lock};
use super::link::{Direction, LinkState, Terms};
use crate::server::Orders;

/// So much is under way at most, each way, before a writer has to wait.
const BUFFER_BYTES: usize = 64 * 1024;

/// A connection between a host and a member.
pub(super) struct Connection {
    core: Arc<Core>,
    link: Arc<LinkState>,
    id: u64,
    /// By direction.
    pipes: [Mutex<Pipe>; 2],
    /// It is half-open for good.
    is_swallowed: AtomicBool,
    /// What its member is told to do wrong, if it is one of the cluster.
    orders: OnceLock<Arc<Orders>>,
}

/// One way of a connection.
#[derive(Debug)]
struct Pipe {
    rng: fastrand::Rng,
    under_way: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// When what was written last arrives: nothing overtakes it.
    last_due: Instant,
    /// The writer has said its last.
    is_finished: bool,
    /// The connection is cut: what is under way arrives, and then an error.
    is_reset: bool,
    reader_is_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What a reader finds.
enum Found {
    Bytes(Bytes),
    End,
    Reset,
    Nothing,
    Later(Instant),
}

impl Connection {
    /// Both ends of a new one: the host's, and the member's.
    pub(super) fn open(core: &Arc<Core>, link: &Arc<LinkState>, id: u64) -> (Socket, Socket) {
        let mut rng = core.rng();
        let mut pipe = || {
            Mutex::new(Pipe {
                rng: rng.fork(),
                under_way: VecDeque::new(),
                bytes: 0,
                last_due: core.instant(),
                is_finished: false,
                is_reset: false,
                reader_is_gone: false,
                reader: None,
                writer: None,
            })
        };
        let connection = Arc::new(Self {
            core: core.clone(),
            link: link.clone(),
            id,
            pipes: [pipe(), pipe()],
            is_swallowed: AtomicBool::new(false),
            orders: OnceLock::new(),
        });
        link.add(id, &connection);
        let end = |writes| Socket { connection: connection.clone(), writes, timer: None };
        (end(Direction::ToMember), end(Direction::ToHost))
    }

    fn pipe(&self, direction: Direction) -> &Mutex<Pipe> {
        &self.pipes[direction.index()]
    }

    /// Cuts it: both ends are told behind what is under way.
    pub(super) fn reset(&self) {
        for pipe in &self.pipes {
            lock(pipe).is_reset = true;
        }
        self.wake();
    }

    /// Loses everything from now on.
    pub(super) fn swallow(&self) {
        self.is_swallowed.store(true, Ordering::Release);
    }

    /// What its member is told to do wrong, if it is one of the cluster.
    pub(super) fn orders(&self) -> Option<&Arc<Orders>> {
        self.orders.get()
    }

    /// What is under way arrives as if it had been sent now, if that is sooner: under these terms.
    pub(super) fn hasten(&self, terms: &Terms) {
        for pipe in &self.pipes {
            lock(pipe).hasten(self.core.instant() + self.core.latency + terms.delay, terms.rate);
        }
        self.wake();
    }

    /// Something may have become possible.
    pub(super) fn wake(&self) {
        for pipe in &self.pipes {
            let mut pipe = lock(pipe);
            let wakers = [pipe.reader.take(), pipe.writer.take()];
            drop(pipe);
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }

    /// Whether nothing comes through, in a direction.
    fn is_silent(&self, direction: Direction) -> bool {
        self.is_swallowed.load(Ordering::Acquire) || self.link.is_held(direction)
    }

    fn read(&self, direction: Direction, most: usize, waker: &Waker) -> Found {
        let is_silent = self.is_silent(direction);
        let mut pipe = lock(self.pipe(direction));
        let found = if is_silent { Found::Nothing } else { pipe.look(self.core.instant(), most) };
        match found {
            // What comes later may come sooner than it is due now.
            Found::Nothing | Found::Later(_) => pipe.reader = Some(waker.clone()),
            Found::Bytes(_) => {
                let writer = pipe.writer.take();
                drop(pipe);
                if let Some(writer) = writer {
                    writer.wake();
                }
            }
            Found::End | Found::Reset => {}
        }
        found
    }

    fn write(&self, direction: Direction, bytes: &[u8], waker: &Waker) -> Poll<io::Result<usize>> {
        // A writer goes on as long as news of the connection's end can't reach it.
        let is_silent = self.is_silent(direction.reverse());
        let mut pipe = lock(self.pipe(direction));
        if pipe.is_reset && !is_silent {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.is_finished || (pipe.reader_is_gone && !is_silent) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = BUFFER_BYTES - pipe.bytes;
        if room == 0 {
            pipe.writer = Some(waker.clone());
            return Poll::Pending;
        }
        let (terms, cut) = (self.link.terms(), self.link.count(bytes.len().min(room)));
        let sent = &bytes[..cut.after];
        pipe.send(self.core.instant(), sent, self.core.latency + terms.delay, terms.rate);
        let reader = pipe.reader.take();
        drop(pipe);
        if let Some(reader) = reader {
            reader.wake();
        }
        let to_member = direction == Direction::ToMember;
        self.core.transcript().sent(self.core.now(), self.id, to_member, sent);
        if cut.is_now {
            self.core.note(&self.name(), format_args!("cut after {} bytes {direction:?}", sent.len()));
            self.reset();
            if sent.is_empty() && !bytes.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
        }
        Poll::Ready(Ok(sent.len()))
    }

    fn finish(&self, direction: Direction) {
        let mut pipe = lock(self.pipe(direction));
        if !pipe.is_finished {
            pipe.is_finished = true;
            pipe.last_due = pipe.due(self.core.instant(), self.core.latency);
        }
        let reader = pipe.reader.take();
        drop(pipe);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The end that writes in this direction is gone.
    fn close(&self, writes: Direction) {
        self.finish(writes);
        let mut other = lock(self.pipe(writes.reverse()));
        other.reader_is_gone = true;
        let writer = other.writer.take();
        drop(other);
        if let Some(writer) = writer {
            writer.wake();
        }
        let who = if writes == Direction::ToMember { "the host" } else { "the member" };
        if !self.core.is_over() {
            self.core.note(&self.name(), format_args!("closed by {who}"));
        }
    }

    fn name(&self) -> String {
        format!("#{} {}", self.id, self.link.host)
    }
}

impl Pipe {
    fn look(&mut self, now: Instant, most: usize) -> Found {
        match self.under_way.front_mut() {
            Some((due, _)) if *due > now => Found::Later(*due),
            Some((_, bytes)) => {
                let read = bytes.split_to(bytes.len().min(most));
                if !bytes.has_remaining() {
                    self.under_way.pop_front();
                }
                self.bytes -= read.len();
                Found::Bytes(read)
            }
            None if self.is_reset => Found::Reset,
            None if self.is_finished && self.last_due > now => Found::Later(self.last_due),
            None if self.is_finished => Found::End,
            None => Found::Nothing,
        }
    }

    /// When something arrives that is sent now.
    fn due(&mut self, now: Instant, latency: Duration) -> Instant {
        let most = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        let delay = Duration::from_millis(self.rng.u64(most.min(1)..=most));
        self.last_due.max(now + delay)
    }

    /// Sends bytes in pieces of random sizes.
    fn send(&mut self, now: Instant, mut bytes: &[u8], latency: Duration, rate: Option<u64>) {
        self.bytes += bytes.len();
        while !bytes.is_empty() {
            let most = if self.rng.u8(..) < 16 { bytes.len().min(12) } else { bytes.len() };
            let size = if self.rng.bool() { most } else { self.rng.usize(1..=most) };
            let (piece, rest) = bytes.split_at(size);
            self.last_due = self.due(now, latency) + transfer(size, rate);
            self.under_way.push_back((self.last_due, Bytes::copy_from_slice(piece)));
            bytes = rest;
        }
    }

    /// Lets what is under way arrive no later than if the first byte arrived at this moment, in the same order.
    fn hasten(&mut self, mut latest: Instant, rate: Option<u64>) {
        for (due, bytes) in &mut self.under_way {
            latest += transfer(bytes.len(), rate);
            *due = latest.min(*due);
        }
        self.last_due = latest.min(self.last_due);
    }
}

/// How long so many bytes take.
fn transfer(bytes: usize, rate: Option<u64>) -> Duration {
    rate.map_or(Duration::ZERO, |rate| Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / rate))
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).finish_non_exhaustive()
    }
}

/// One end of a connection on the simulated network. What is written to it arrives in pieces and with delays that follow
/// from the run's seed. Dropped, it closes the connection once what is under way has arrived.
#[derive(Debug)]
pub struct Socket {
    connection: Arc<Connection>,
    writes: Direction,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// What a member of the cluster is told to do wrong on this connection from now on.
    pub(super) fn take_orders(&self, member: usize) -> Arc<Orders> {
        let orders = self.connection.orders.get_or_init(|| Orders::of_member(member));
        orders.stall(self.connection.link.is_stalled());
        orders.clone()
    }

    /// Resets the connection: the other end reads what is under way, and then an error.
    pub fn reset(self) {
        self.connection.reset();
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { connection, writes, timer } = &mut *self;
        loop {
            match connection.read(writes.reverse(), buffer.remaining(), cx.waker()) {
                Found::Bytes(bytes) => {
                    buffer.put_slice(&bytes);
                    return Poll::Ready(Ok(()));
                }
                Found::End => return Poll::Ready(Ok(())),
                Found::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Found::Nothing => return Poll::Pending,
                Found::Later(due) => {
                    let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
                    if timer.deadline() != due {
                        timer.as_mut().reset(due);
                    }
                    if timer.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.connection.write(self.writes, bytes, cx.waker())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.finish(self.writes);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.connection.close(self.writes);
    }
}

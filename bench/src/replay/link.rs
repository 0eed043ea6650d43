//! What the two sides of a connection have in common: `h2`, which speaks HTTP/2 with the client, and the pump, which
//! writes the responses between the frames of `h2`.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{
    frame::{self, Frame},
    line::LineFrame,
    message::{FIRST_REVISION, Shape, framed},
};

/// So much of the connection's window is left for what `h2` sends.
const RESERVE: i64 = 4096;

/// One connection.
#[derive(Default)]
pub(crate) struct Link {
    state: Mutex<State>,
    /// There may be something to write.
    pub(crate) wake: Notify,
}

/// A watch that a client has created.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    /// The index of its stream.
    pub(crate) stream: usize,
    pub(crate) id: i64,
    pub(crate) cancelled: bool,
    /// How many of its responses are behind it.
    pub(crate) passed: u64,
}

/// A stream that the client has opened.
#[derive(Debug)]
struct Stream {
    id: u32,
    window: i64,
    /// The head of the answer has been handed on.
    is_answered: bool,
    is_reset: bool,
}

/// What is to be written next.
#[derive(Debug)]
pub(crate) enum Next {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many frames of the line; none if nothing can be sent now.
    Frames(usize),
    /// The connection is over.
    Nothing,
}

#[derive(Debug)]
pub(crate) struct State {
    /// Frames of `h2`, and the beginning of another.
    from_h2: Vec<u8>,
    /// How many bytes of it are whole frames.
    whole: usize,
    window: i64,
    initial_window: i64,
    streams: Vec<Stream>,
    by_id: HashMap<u32, usize>,
    /// Messages that wait for their stream's window, and their streams.
    answers: VecDeque<(usize, Vec<u8>)>,
    /// Up to which revision everything has been sent.
    sent: i64,
    watches: Vec<Watch>,
    by_watch: HashMap<(usize, i64), usize>,
    cancelled: Vec<usize>,
    recreated: u64,
    is_closed: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            from_h2: Vec::new(),
            whole: 0,
            window: frame::DEFAULT_WINDOW,
            initial_window: frame::DEFAULT_WINDOW,
            streams: Vec::new(),
            by_id: HashMap::new(),
            answers: VecDeque::new(),
            sent: FIRST_REVISION - 1,
            watches: Vec::new(),
            by_watch: HashMap::new(),
            cancelled: Vec::new(),
            recreated: 0,
            is_closed: false,
        }
    }
}

impl Link {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client or this side has closed the connection.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.wake.notify_one();
    }

    /// Takes what `h2` writes.
    pub(crate) fn write(&self, bytes: &[u8]) {
        self.state().write(bytes);
        self.wake.notify_one();
    }

    /// Takes a frame of the client. Says whether it is for `h2`, too.
    pub(crate) fn read(&self, frame: &Frame<'_>) -> bool {
        let is_for_h2 = self.state().read(frame);
        self.wake.notify_one();
        is_for_h2
    }

    /// Sends a message on a stream, as soon as its window has room.
    pub(crate) fn answer(&self, stream: usize, message: &[u8]) {
        self.state().answers.push_back((stream, message.to_vec()));
        self.wake.notify_one();
    }
}

impl State {
    pub(crate) fn stream(&self, id: u32) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn stream_id(&self, stream: usize) -> u32 {
        self.streams[stream].id
    }

    pub(crate) fn sent(&self) -> i64 {
        self.sent
    }

    pub(crate) fn watches(&self) -> &[Watch] {
        &self.watches
    }

    pub(crate) fn watch_mut(&mut self, index: usize) -> &mut Watch {
        &mut self.watches[index]
    }

    /// Whether there are answers to be sent before the line is filled again.
    pub(crate) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// How many watches have begun again.
    pub(crate) fn recreated(&self) -> u64 {
        self.recreated
    }

    /// A watch begins; without an id of the client (or with 0) it gets the one after the last of its stream, as from etcd.
    /// If one has ended, this is that one again, which goes on at its start revision.
    pub(crate) fn create(&mut self, stream: usize, id: i64, start: i64, shape: Shape) -> i64 {
        let last = self.watches.iter().rev().find(|watch| watch.stream == stream);
        let id = if id == 0 { last.map_or(0, |last| last.id + 1) } else { id };
        let watches = self.watches.len() as u64;
        let index = match self.cancelled.pop() {
            Some(index) => {
                // The responses before its own next one, of all watches.
                let before = (start - FIRST_REVISION).max(0).unsigned_abs() / shape.revisions() as u64;
                let passed = before.saturating_sub(index as u64).div_ceil(watches);
                self.watches[index] = Watch { stream, id, cancelled: false, passed };
                self.recreated += 1;
                index
            }
            None => {
                self.watches.push(Watch { stream, id, cancelled: false, passed: 0 });
                self.watches.len() - 1
            }
        };
        self.by_watch.insert((stream, id), index);
        id
    }

    /// A watch ends. Says whether there was one.
    pub(crate) fn cancel(&mut self, stream: usize, id: i64) -> bool {
        let Some(index) = self.by_watch.remove(&(stream, id)) else { return false };
        self.watches[index].cancelled = true;
        self.cancelled.push(index);
        true
    }

    /// What can be sent now, of `h2`'s frames, the answers and the line.
    pub(crate) fn next(&mut self, line: &[LineFrame], most: usize) -> Next {
        if self.is_closed {
            return Next::Nothing;
        }
        let mut bytes = Vec::new();
        if self.whole > 0 {
            let rest = self.from_h2.split_off(self.whole);
            bytes = std::mem::replace(&mut self.from_h2, rest);
            self.whole = 0;
        }
        // Behind the line, which may have events of a watch whose end is to be answered.
        while line.is_empty()
            && let Some((stream, message)) = self.answers.front()
        {
            let stream = *stream;
            let length = message.len() as i64;
            // Answers are short: one frame.
            let (framed, _) = framed(message, self.streams[stream].id);
            if !self.admit(stream, length) {
                break;
            }
            bytes.extend_from_slice(&framed);
            self.answers.pop_front();
        }
        if !bytes.is_empty() {
            return Next::Bytes(bytes);
        }
        let mut frames = 0;
        let mut taken = 0;
        while let Some(frame) = line.get(frames)
            && taken < most
            && self.admit(frame.stream, frame.payload)
        {
            taken += frame.payload as usize;
            frames += 1;
            self.sent = self.sent.max(frame.completes.unwrap_or(0));
        }
        Next::Frames(frames)
    }

    /// Takes a payload out of the windows, if they have room for it and the stream is open.
    fn admit(&mut self, stream: usize, payload: i64) -> bool {
        let stream = &mut self.streams[stream];
        let has_room = payload <= stream.window && payload <= self.window - RESERVE;
        let is_sent = stream.is_answered && has_room && !stream.is_reset;
        if is_sent {
            stream.window -= payload;
            self.window -= payload;
        }
        is_sent
    }

    fn write(&mut self, bytes: &[u8]) {
        self.from_h2.extend_from_slice(bytes);
        while let Some(frame) = Frame::first(&self.from_h2[self.whole..]) {
            self.whole += frame.bytes.len();
            match (frame.kind, self.by_id.get(&frame.stream)) {
                (frame::HEADERS, Some(&stream)) => self.streams[stream].is_answered = true,
                (frame::DATA, Some(&stream)) => {
                    let payload = frame.payload().len() as i64;
                    self.window -= payload;
                    self.streams[stream].window -= payload;
                }
                _ => {}
            }
        }
    }

    fn read(&mut self, frame: &Frame<'_>) -> bool {
        match frame.kind {
            frame::HEADERS if !self.by_id.contains_key(&frame.stream) => {
                self.by_id.insert(frame.stream, self.streams.len());
                let window = self.initial_window;
                let id = frame.stream;
                self.streams.push(Stream { id, window, is_answered: false, is_reset: false });
            }
            frame::RST_STREAM => {
                if let Some(stream) = self.stream(frame.stream) {
                    self.streams[stream].is_reset = true;
                }
            }
            frame::SETTINGS => {
                if let Some(window) = frame.initial_window() {
                    let change = window - self.initial_window;
                    self.initial_window = window;
                    self.streams.iter_mut().for_each(|stream| stream.window += change);
                }
            }
            frame::WINDOW_UPDATE => {
                let increment = frame.increment().unwrap_or(0);
                match self.stream(frame.stream) {
                    Some(stream) => self.streams[stream].window += increment,
                    None => self.window += increment,
                }
                // `h2` doesn't know what the pump sends, so its windows would grow beyond what is allowed.
                return false;
            }
            _ => {}
        }
        true
    }
}

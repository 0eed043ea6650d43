//! A line of responses that waits to be written.

use crate::{
    frame::HEAD,
    message::{Message, Post, Shape, id_width},
};

/// So many bytes of responses are written at a time, or one response.
const BYTES: usize = 256 << 10;

/// A watch that is sent responses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// The index of its stream in the connection's table.
    pub(crate) stream: usize,
    pub(crate) post: Post,
}

/// A frame of the line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineFrame {
    pub(crate) end: usize,
    /// What it takes of the windows.
    pub(crate) payload: i64,
    /// The index of its stream in the connection's table.
    pub(crate) stream: usize,
    /// The revision up to which everything has been sent, behind the last frame of a response.
    pub(crate) completes: Option<i64>,
}

/// Responses behind one another in a buffer that is used again and again: only what differs is rewritten.
pub(crate) struct Line {
    shape: Shape,
    /// By the width of the watch's id.
    messages: Vec<Option<Box<Message>>>,
    bytes: Vec<u8>,
    /// For each response in the buffer: where it begins, and the width of its id.
    slots: Vec<(usize, usize)>,
    frames: Vec<LineFrame>,
    written: usize,
}

impl Line {
    pub(crate) fn new(shape: Shape) -> Self {
        Self {
            shape,
            messages: Vec::new(),
            bytes: Vec::new(),
            slots: Vec::new(),
            frames: Vec::new(),
            written: 0,
        }
    }

    /// The frames that have not been written.
    pub(crate) fn frames(&self) -> &[LineFrame] {
        &self.frames[self.written..]
    }

    /// Takes this many frames out of the line.
    pub(crate) fn take(&mut self, frames: usize) -> &[u8] {
        let start = self.written.checked_sub(1).map_or(0, |before| self.frames[before].end);
        self.written += frames;
        let end = self.written.checked_sub(1).map_or(0, |last| self.frames[last].end);
        &self.bytes[start..end]
    }

    /// Lays responses into the empty line for as long as there are targets and room for another.
    pub(crate) fn fill(&mut self, mut targets: impl FnMut() -> Option<Target>) {
        self.frames.clear();
        self.written = 0;
        let mut end = 0;
        let mut slot = 0;
        while end == 0 || end + (end / slot) <= BYTES {
            let Some(target) = targets() else { break };
            let width = id_width(target.post.watch_id);
            if self.messages.len() <= width {
                self.messages.resize_with(width + 1, || None);
            }
            let message =
                self.messages[width].get_or_insert_with(|| Box::new(Message::new(self.shape, width)));
            if self.slots.get(slot) != Some(&(end, width)) {
                self.slots.truncate(slot);
                self.slots.push((end, width));
                self.bytes.truncate(end);
                self.bytes.extend_from_slice(&message.bytes);
            }
            let begin = end;
            end = begin + message.bytes.len();
            let last = message.rewrite(&mut self.bytes[begin..end], &target.post);
            let ends = message.frames.iter().skip(1).copied().chain([message.bytes.len()]);
            for (&start, end) in message.frames.iter().zip(ends) {
                self.frames.push(LineFrame {
                    end: begin + end,
                    payload: (end - start - HEAD) as i64,
                    stream: target.stream,
                    completes: (end == message.bytes.len()).then_some(last),
                });
            }
            slot += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{frame::Frame, message::FIRST_REVISION};

    /// What the line says: the ids of the watches, by the size of their frames.
    #[test]
    fn a_line_used_again_is_as_one_that_is_new() {
        let shape = Shape { events: 2, events_per_revision: 1, value: 9_000, stamped: false };
        let mut used = Line::new(shape);
        let ids = [1, 300, 2, 0, 70_000, 3, 3];
        for round in 0..ids.len() {
            let targets = |line: &mut Line| {
                let mut left = ids.iter().cycle().skip(round).take(4).enumerate();
                line.fill(|| {
                    let (nth, &watch_id) = left.next()?;
                    let revision = FIRST_REVISION + nth as i64 * 2;
                    Some(Target { stream: 0, post: Post { stream: 1, watch_id, revision, stamp: 0 } })
                });
                let count = line.frames().len();
                line.take(count).to_vec()
            };
            let mut fresh = Line::new(shape);
            let expected = targets(&mut fresh);
            assert_eq!(targets(&mut used), expected);
            assert_eq!(fresh.frames.len(), 8, "two frames each");
            let mut rest = &expected[..];
            for frame in &fresh.frames {
                let first = Frame::first(rest).expect("a frame");
                assert_eq!(first.payload().len() as i64, frame.payload);
                rest = &rest[first.bytes.len()..];
            }
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn frames_are_taken_one_after_the_other() {
        let shape = Shape { events: 1, events_per_revision: 1, value: 20_000, stamped: false };
        let mut line = Line::new(shape);
        let mut left = 3;
        line.fill(|| {
            left -= 1;
            let post = Post { stream: 1, watch_id: 1, revision: FIRST_REVISION, stamp: 0 };
            (left >= 0).then_some(Target { stream: 0, post })
        });
        let all = line.bytes.clone();
        let mut taken = Vec::new();
        for count in [1, 0, 2, 3] {
            taken.extend_from_slice(line.take(count));
        }
        assert!(line.frames().is_empty());
        assert_eq!(taken, all);
    }
}

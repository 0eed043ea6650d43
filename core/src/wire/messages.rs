//! gRPC's length-prefixed messages
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>): a flag, a length of four bytes, the
//! message.

use alloc::{collections::VecDeque, vec::Vec};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::call::end_of;
use crate::{Code, Failure};

/// How many bytes come before each message.
pub const PREFIX_BYTES: usize = 5;

/// How much more than what has arrived of a message is allocated for the rest of it.
const GROWTH: usize = 4;

/// The bytes of a stream are no gRPC messages, or none that are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// A message is over the limit, by its prefix.
    #[error("a message of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A message is compressed, although no compression was offered.
    #[error("a message is compressed, although no compression was offered")]
    Compressed,
    /// The flag before a message is neither 0 nor 1.
    #[error("the flag before a message is {flag}, which gRPC does not define")]
    UnknownFlag {
        /// The flag.
        flag: u8,
    },
    /// The stream ended within a message or its prefix.
    #[error("the stream ended within a message, {arrived} bytes after its start")]
    Truncated {
        /// How many of its bytes had arrived, those of the prefix included.
        arrived: usize,
    },
}

impl From<MessageError> for Failure {
    /// A message that is too large is one; a stream that was cut is a broken connection; all else is gRPC's
    /// `INTERNAL`, as the specification asks.
    fn from(error: MessageError) -> Self {
        match error {
            MessageError::TooLarge { bytes, limit } => Self::ResponseTooLarge { bytes, limit },
            MessageError::Truncated { .. } => Self::connection(alloc::format!("{error}")),
            MessageError::Compressed | MessageError::UnknownFlag { .. } => {
                Self::status(Code::Internal, alloc::format!("{error}"))
            }
        }
    }
}

/// Whole messages out of the DATA chunks of one stream.
///
/// Chunks and messages are cut independently. A message that lies within one chunk is a slice of it, which
/// keeps the chunk alive; one that spans chunks is put together in a buffer of its own exact size. That buffer
/// grows with what arrives: a prefix that announces gigabytes allocates nothing.
///
/// ```
/// use bytes::Bytes;
/// use etcd_watch_core::wire::{Messages, frame};
///
/// let mut messages = Messages::new(1 << 20);
/// let stream = Bytes::from([&frame(b"one")[..], &frame(b"two")[..]].concat());
/// messages.push(stream.slice(..10));
/// assert_eq!(messages.pop()?, Some(Bytes::from("one")));
/// assert_eq!(messages.pop()?, None);
/// assert!(messages.finish().is_err());
/// messages.push(stream.slice(10..));
/// assert_eq!(messages.pop()?, Some(Bytes::from("two")));
/// assert_eq!(messages.finish(), Ok(()));
/// # Ok::<(), etcd_watch_core::wire::MessageError>(())
/// ```
#[derive(Debug)]
pub struct Messages {
    limit: usize,
    /// What has been pushed and belongs to no message yet. No chunk is empty.
    chunks: VecDeque<Bytes>,
    /// The message that spans chunks.
    partial: Option<Partial>,
}

/// A message of which a part has arrived.
#[derive(Debug)]
struct Partial {
    length: usize,
    buffer: Vec<u8>,
}

impl Messages {
    /// Takes messages of at most `limit` bytes, the prefix not counted.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, chunks: VecDeque::new(), partial: None }
    }

    /// Adds the next chunk.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// The next whole message; `None` when the rest of it has not arrived.
    ///
    /// # Errors
    /// A message that is too large or compressed. Nothing can be read after that: the error stays.
    pub fn pop(&mut self) -> Result<Option<Bytes>, MessageError> {
        if self.partial.is_none() {
            if let Some(message) = self.in_first_chunk()? {
                return Ok(Some(message));
            }
            let Some(length) = self.length()? else { return Ok(None) };
            self.skip(PREFIX_BYTES);
            if length == 0 {
                return Ok(Some(Bytes::new()));
            }
            // Its prefix may end a chunk, and the message be the beginning of the next.
            if let Some(message) = self.split_first(length) {
                return Ok(Some(message));
            }
            self.partial = Some(Partial { length, buffer: Vec::new() });
        }
        Ok(self.assemble())
    }

    /// The next message, if it lies with its prefix within the first chunk.
    fn in_first_chunk(&mut self) -> Result<Option<Bytes>, MessageError> {
        let Some(first) = self.chunks.front_mut() else { return Ok(None) };
        let Some(&prefix) = first.first_chunk() else { return Ok(None) };
        let length = length_in(prefix, self.limit)?;
        if first.len() - PREFIX_BYTES < length {
            return Ok(None);
        }
        first.advance(PREFIX_BYTES);
        Ok(self.split_first(length))
    }

    /// The first bytes of the first chunk, if it has so many.
    fn split_first(&mut self, length: usize) -> Option<Bytes> {
        let first = self.chunks.front_mut()?;
        match first.len().checked_sub(length)? {
            // The chunk is the message, as most often. An empty message doesn't keep the chunk's memory.
            0 => self.chunks.pop_front().map(|message| if length == 0 { Bytes::new() } else { message }),
            _ => Some(first.split_to(length)),
        }
    }

    /// Says whether the stream may end here, once [`pop`](Self::pop) has returned `None`.
    ///
    /// # Errors
    /// [`Truncated`](MessageError::Truncated) when it may not.
    pub fn finish(&self) -> Result<(), MessageError> {
        let waiting: usize = self.chunks.iter().map(Bytes::len).sum();
        let arrived =
            waiting + self.partial.as_ref().map_or(0, |partial| PREFIX_BYTES + partial.buffer.len());
        if arrived == 0 { Ok(()) } else { Err(MessageError::Truncated { arrived }) }
    }

    /// How the call ended, by the trailers of its response: as [`end_of`] says, or a stream that was cut within a
    /// message. An error that the server tells goes before a message that it has cut for that. `header` returns
    /// the value of a trailer by its name in lower case, and always `None` if there were no trailers.
    pub fn end<'a>(&self, header: impl Fn(&str) -> Option<&'a [u8]>) -> Failure {
        match (end_of(header), self.finish()) {
            (told @ Failure::Status { .. }, _) | (told, Ok(())) => told,
            (_, Err(cut)) => cut.into(),
        }
    }

    /// The length in the next prefix, which is left where it is; `None` when it has not arrived.
    fn length(&self) -> Result<Option<usize>, MessageError> {
        let mut prefix = [0; PREFIX_BYTES];
        let mut filled = 0;
        for chunk in &self.chunks {
            let part = chunk.len().min(PREFIX_BYTES - filled);
            prefix[filled..filled + part].copy_from_slice(&chunk[..part]);
            filled += part;
            if filled == PREFIX_BYTES {
                break;
            }
        }
        if filled < PREFIX_BYTES {
            return Ok(None);
        }
        length_in(prefix, self.limit).map(Some)
    }

    /// Passes over bytes that have arrived.
    fn skip(&mut self, mut bytes: usize) {
        while bytes > 0
            && let Some(first) = self.chunks.front_mut()
        {
            let part = first.len().min(bytes);
            first.advance(part);
            bytes -= part;
            self.drop_empty();
        }
    }

    /// Moves what has arrived into the message that spans chunks; the message, once it is whole.
    fn assemble(&mut self) -> Option<Bytes> {
        let partial = self.partial.as_mut()?;
        while let Some(first) = self.chunks.front_mut() {
            let part = first.len().min(partial.length - partial.buffer.len());
            partial.add(&first[..part]);
            first.advance(part);
            if first.is_empty() {
                self.chunks.pop_front();
            }
            if partial.buffer.len() == partial.length {
                return self.partial.take().map(|partial| partial.buffer.into());
            }
        }
        None
    }

    fn drop_empty(&mut self) {
        if self.chunks.front().is_some_and(Bytes::is_empty) {
            self.chunks.pop_front();
        }
    }
}

impl Partial {
    fn add(&mut self, part: &[u8]) {
        let arrived = self.buffer.len() + part.len();
        if arrived > self.buffer.capacity() {
            // The last growth is to the message's length, so that no byte is left over.
            let capacity = arrived.saturating_mul(GROWTH).min(self.length);
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
        self.buffer.extend_from_slice(part);
    }
}

/// The length of the message that a prefix announces.
fn length_in([flag, length @ ..]: [u8; PREFIX_BYTES], limit: usize) -> Result<usize, MessageError> {
    match flag {
        0 => {}
        1 => return Err(MessageError::Compressed),
        flag => return Err(MessageError::UnknownFlag { flag }),
    }
    let bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if bytes > limit {
        return Err(MessageError::TooLarge { bytes, limit });
    }
    Ok(bytes)
}

/// The prefix of a message of this length that is not compressed.
///
/// A message of 4 GiB or more is announced as one byte less than that: a server refuses either by its prefix,
/// since etcd takes requests of a few MiB.
#[must_use]
pub fn prefix(length: usize) -> [u8; PREFIX_BYTES] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [0, a, b, c, d]
}

/// A message with its prefix, as it goes into DATA frames.
#[must_use]
pub fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    framed.put_slice(&prefix(message.len()));
    framed.put_slice(message);
    framed.freeze()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    /// All messages there are, then how the stream would end.
    fn drain(messages: &mut Messages) -> (Vec<Bytes>, Result<(), MessageError>) {
        let mut out = Vec::new();
        loop {
            match messages.pop() {
                Ok(Some(message)) => out.push(message),
                Ok(None) => return (out, messages.finish()),
                Err(error) => return (out, Err(error)),
            }
        }
    }

    fn pushed(chunks: &[&'static [u8]], limit: usize) -> Messages {
        let mut messages = Messages::new(limit);
        chunks.iter().for_each(|chunk| messages.push(Bytes::from_static(chunk)));
        messages
    }

    #[test]
    fn a_buffer_grows_only_when_it_is_full_and_at_last_to_its_message_s_length() {
        let mut partial = Partial { length: 100, buffer: Vec::new() };
        for (part, capacity) in [(5, 20), (15, 20), (1, 84), (62, 84), (2, 100), (15, 100)] {
            partial.add(&[0; 62][..part]);
            assert_eq!(partial.buffer.capacity(), capacity, "with {} bytes", partial.buffer.len());
        }
    }

    #[test]
    fn a_message_within_a_chunk_is_a_slice_of_it() {
        let chunk = Bytes::from([&frame(b"first")[..], &frame(b"second")[..]].concat());
        let mut messages = Messages::new(100);
        messages.push(chunk.clone());
        let (out, end) = drain(&mut messages);
        assert_eq!((&out[..], end), (&["first".into(), "second".into()][..], Ok(())));
        assert_eq!(out[0].as_ptr(), chunk[5..].as_ptr());
        assert_eq!(out[1].as_ptr(), chunk[15..].as_ptr());
    }

    #[test]
    fn a_message_whose_prefix_ends_the_chunk_before_is_a_slice_too() {
        let framed = frame(b"message");
        let mut messages = Messages::new(100);
        messages.push(framed.slice(..PREFIX_BYTES));
        messages.push(framed.slice(PREFIX_BYTES..));
        let message = messages.pop().unwrap().unwrap();
        assert_eq!((&message[..], message.as_ptr()), (&b"message"[..], framed[PREFIX_BYTES..].as_ptr()));
        assert_eq!(messages.finish(), Ok(()));
    }

    #[test]
    fn a_message_over_chunks_has_a_buffer_of_its_size() {
        let message = vec![7; 100_000];
        let framed = frame(&message);
        let mut messages = Messages::new(1 << 20);
        for at in (0..framed.len()).step_by(977) {
            assert_eq!(messages.pop(), Ok(None));
            messages.push(framed.slice(at..framed.len().min(at + 977)));
            if let Some(partial) = &messages.partial {
                assert!(partial.buffer.capacity() <= GROWTH * (at + 977));
            }
        }
        let whole = messages.pop().unwrap().unwrap();
        assert_eq!(whole, message);
        assert_eq!(Vec::from(whole).capacity(), message.len());
    }

    #[test]
    fn a_prefix_that_announces_gigabytes_allocates_nothing() {
        let mut messages = pushed(&[b"\0\x7f\xff\xff\xff", b"abc"], usize::MAX);
        assert_eq!(messages.pop(), Ok(None));
        let partial = messages.partial.as_ref().unwrap();
        assert_eq!((partial.length, &partial.buffer[..]), (0x7fff_ffff, &b"abc"[..]));
        assert!(partial.buffer.capacity() <= 3 * GROWTH);
        assert_eq!(messages.finish(), Err(MessageError::Truncated { arrived: 8 }));
    }

    #[test]
    fn the_limit_is_the_largest_message_taken() {
        let (out, end) = drain(&mut pushed(&[b"\0\0\0\0\x03abc", b"\0\0\0", b"\0\x04abcd"], 3));
        assert_eq!(
            (&out[..], end),
            (&["abc".into()][..], Err(MessageError::TooLarge { bytes: 4, limit: 3 }))
        );
        let failure = Failure::from(end.unwrap_err());
        assert_eq!(failure, Failure::ResponseTooLarge { bytes: 4, limit: 3 });
    }

    #[test]
    fn an_error_stays() {
        for (chunk, expected) in [
            (&b"\x01\0\0\0\x01x"[..], MessageError::Compressed),
            (b"\x02\0\0\0\x01x", MessageError::UnknownFlag { flag: 2 }),
            (b"\0\xff\xff\xff\xff", MessageError::TooLarge { bytes: u32::MAX as usize, limit: 9 }),
        ] {
            let mut messages = pushed(&[chunk], 9);
            assert_eq!(messages.pop(), Err(expected));
            messages.push(frame(b"after"));
            assert_eq!(messages.pop(), Err(expected));
        }
        let failure = Failure::from(MessageError::Compressed);
        assert!(matches!(failure, Failure::Status { code: Code::Internal, .. }), "{failure:?}");
    }

    #[test]
    fn an_end_within_a_message_is_told_from_one_between_messages() {
        let framed = frame(b"abc");
        for arrived in 0..=framed.len() {
            let mut messages = Messages::new(9);
            messages.push(framed.slice(..arrived));
            let (_, end) = drain(&mut messages);
            let expected = match arrived {
                0 | 8 => Ok(()),
                arrived => Err(MessageError::Truncated { arrived }),
            };
            assert_eq!(end, expected, "after {arrived} bytes");
        }
        let failure = Failure::from(MessageError::Truncated { arrived: 1 });
        assert!(matches!(failure, Failure::Connection { .. }), "{failure:?}");
    }

    #[test]
    fn a_servers_error_goes_before_the_message_it_has_cut() {
        let end = |chunk: &'static [u8], status: &'static str| {
            let mut messages = pushed(&[chunk], 9);
            assert_eq!(messages.pop(), Ok(None));
            messages.end(|name| (name == "grpc-status").then_some(status.as_bytes()))
        };
        assert_eq!(end(b"", "0"), Failure::EndOfStream);
        assert_eq!(end(b"\0", "14"), Failure::status(14, ""));
        assert!(matches!(end(b"\0", "0"), Failure::Connection { .. }));
        let no_trailers = pushed(&[], 9).end(|_| None);
        assert!(matches!(no_trailers, Failure::Connection { .. }), "{no_trailers:?}");
    }

    #[test]
    fn a_message_that_no_prefix_can_tell_is_announced_as_the_longest() {
        assert_eq!(prefix(258), [0, 0, 0, 1, 2]);
        assert_eq!(prefix(usize::MAX), [0, 255, 255, 255, 255]);
    }

    proptest! {
        #[test]
        fn messages_come_out_whole_however_the_chunks_are_cut(
            expected in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
            cuts in prop::collection::vec((0..30_usize, any::<bool>()), 0..40),
        ) {
            let mut stream = Bytes::from(expected.iter().flat_map(|message| frame(message)).collect::<Vec<_>>());
            let (mut messages, mut out) = (Messages::new(40), Vec::new());
            for (size, drained) in cuts {
                messages.push(stream.split_to(size.min(stream.len())));
                if drained {
                    out.extend(drain(&mut messages).0);
                }
            }
            messages.push(stream);
            let (rest, end) = drain(&mut messages);
            out.extend(rest);
            prop_assert_eq!(out, expected);
            prop_assert_eq!(end, Ok(()));
        }

        #[test]
        fn no_bytes_make_it_panic_or_keep_more_than_has_arrived(
            chunks in prop::collection::vec(prop::collection::vec(0..4_u8, 0..12), 0..12),
        ) {
            let mut messages = Messages::new(1 << 24);
            let mut arrived = 0;
            for chunk in chunks {
                arrived += chunk.len();
                messages.push(chunk.into());
                while let Ok(Some(message)) = messages.pop() {
                    prop_assert!(message.len() <= arrived);
                }
                let kept = messages.partial.as_ref().map_or(0, |partial| partial.buffer.capacity());
                prop_assert!(kept <= GROWTH * arrived);
            }
        }
    }
}

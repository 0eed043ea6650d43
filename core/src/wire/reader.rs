//! Reads the parts of protobuf messages: tags, varints, spans.
//!
//! The functions take the fewest instructions where a message is as etcd encodes it, with fields in the order
//! of their numbers and numbers in their shortest form; every other form that protobuf allows is read as
//! well. `cargo run --release -p etcd-watch-bench --bin counts` counts the instructions.

use super::{decode::DecodeError, index::Span};

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const GROUP: u32 = 3;
const GROUP_END: u32 = 4;
const FIXED32: u32 = 5;

/// Stands for a tag at a message's end. No tag has this value: there is no wire type 7.
pub(super) const END: u32 = u32::MAX;

/// As prost: how deep messages and unknown groups may nest.
const MAX_NESTING: u32 = 100;

/// The highest bit of each byte: all but the last byte of a varint have it.
const CONTINUES: u64 = 0x8080_8080_8080_8080;

/// The tag of a field with a number in it.
pub(super) const fn varint_tag(field: u32) -> u32 {
    tag_of(field, VARINT)
}

/// The tag of a field with bytes, a string or a message in it.
pub(super) const fn bytes_tag(field: u32) -> u32 {
    tag_of(field, BYTES)
}

const fn tag_of(field: u32, wire_type: u32) -> u32 {
    (field << 3) + wire_type
}

/// A message being read. `bytes` is the frame up to the message's end, so that spans count from the frame's
/// start and one comparison both notices the message's end and keeps the access in bounds.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The first byte of the next field's tag, or [`END`]. The tags of known fields have one byte in their
    /// shortest form; every other byte has to be given to [`other`](Self::other).
    #[inline(always)]
    pub(super) fn tag(&mut self) -> u32 {
        let Some(&byte) = self.bytes.get(self.at) else { return END };
        self.at += 1;
        u32::from(byte)
    }

    /// Handles a tag that the message's reader has not taken, in a message `depth` levels deep with the known
    /// `tags`. A known tag in a longer form or out of order is returned, to be taken now. An unknown field is
    /// passed over, and the tag after it is returned.
    #[inline(always)]
    pub(super) fn other(&mut self, tags: &[u32], depth: u32) -> Result<u32, DecodeError> {
        let (tag, at) = other(self.bytes, self.at - 1, tags, depth)?;
        self.at = at;
        Ok(tag)
    }

    /// A number: mostly one byte.
    #[inline(always)]
    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        if let Some(&byte) = self.bytes.get(self.at)
            && byte < 0x80
        {
            self.at += 1;
            return Ok(u64::from(byte));
        }
        self.id()
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_wrap)] // int64 is two's complement on the wire.
    pub(super) fn int64(&mut self) -> Result<i64, DecodeError> {
        Ok(self.varint()? as i64)
    }

    #[inline(always)]
    pub(super) fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.varint()? != 0)
    }

    /// An id: mostly nine or ten bytes.
    #[inline(always)]
    pub(super) fn id(&mut self) -> Result<u64, DecodeError> {
        let (value, end) = long_varint(self.bytes, self.at);
        if end == 0 {
            return Err(varint_error(self.bytes, self.at));
        }
        self.at = end;
        Ok(value)
    }

    /// A revision: mostly three or four bytes.
    ///
    /// The sum includes the highest bit of each byte but the last; those bits are subtracted once, at the end.
    #[inline(always)]
    #[allow(clippy::cast_possible_wrap)]
    pub(super) fn revision(&mut self) -> Result<i64, DecodeError> {
        let (bytes, at) = (self.bytes, self.at);
        if let Some(&first) = bytes.get(at) {
            let sum = i64::from(first);
            if first < 0x80 {
                self.at = at + 1;
                return Ok(sum);
            }
            if let Some(&second) = bytes.get(at + 1) {
                let sum = sum + (i64::from(second) << 7);
                if second < 0x80 {
                    self.at = at + 2;
                    return Ok(sum - 0x80);
                }
                if let Some(&third) = bytes.get(at + 2) {
                    let sum = sum + (i64::from(third) << 14);
                    if third < 0x80 {
                        self.at = at + 3;
                        return Ok(sum - 0x4080);
                    }
                    if let Some(&fourth) = bytes.get(at + 3)
                        && fourth < 0x80
                    {
                        self.at = at + 4;
                        return Ok(sum + (i64::from(fourth) << 21) - 0x20_4080);
                    }
                }
            }
        }
        Ok(self.id()? as i64)
    }

    /// The bytes of a field with a length before it.
    #[inline(always)]
    pub(super) fn span(&mut self) -> Result<Span, DecodeError> {
        let (start, end) = extent(self.bytes, self.at);
        if end > self.bytes.len() {
            return Err(extent_error(self.bytes, self.at));
        }
        self.at = end;
        #[allow(clippy::cast_possible_truncation)] // Both lie within a frame below 4 GiB.
        Ok(Span { start: start as u32, len: (end - start) as u32 })
    }

    /// The message in a field with a length before it; this reader goes on behind it.
    #[inline(always)]
    pub(super) fn message(&mut self) -> Result<Self, DecodeError> {
        let (start, end) = extent(self.bytes, self.at);
        let Some(bytes) = self.bytes.get(..end) else { return Err(extent_error(self.bytes, self.at)) };
        self.at = end;
        Ok(Self { bytes, at: start })
    }
}

/// From where to where the bytes of a field go whose length is at `at`; to `usize::MAX` if there is no length.
#[inline(always)]
fn extent(bytes: &[u8], at: usize) -> (usize, usize) {
    if let Some(&first) = bytes.get(at) {
        if first < 0x80 {
            return (at + 1, at + 1 + usize::from(first));
        }
        if let Some(&second) = bytes.get(at + 1)
            && second < 0x80
        {
            return (at + 2, at + 2 + usize::from(first) - 0x80 + (usize::from(second) << 7));
        }
    }
    long_extent(bytes, at)
}

// The functions from here on are for rarer cases and are not inlined. They take the reader's parts by value,
// because a reader that is borrowed by a call can't be kept in registers, and most return pairs, which come
// back in registers, rather than options, which don't.

/// The varint at `at`, and where it ends; ends at 0 if it isn't one. Quickest for nine or ten bytes.
#[inline(never)]
fn long_varint(bytes: &[u8], at: usize) -> (u64, usize) {
    let Some(rest) = bytes.get(at..) else { return (0, 0) };
    let Some(word) = rest.first_chunk() else { return last_varint(rest, at) };
    let word = u64::from_le_bytes(*word);
    if word & CONTINUES != CONTINUES {
        return varint_of_word(word, at);
    }
    let low = packed(word);
    match *rest {
        [_, _, _, _, _, _, _, _, ninth, ..] if ninth < 0x80 => (low | u64::from(ninth) << 56, at + 9),
        // The tenth byte is the 64th bit, where the mark of the ninth is.
        [_, _, _, _, _, _, _, _, ninth, tenth @ ..=1, ..] => {
            ((low | u64::from(ninth) << 56) ^ u64::from(tenth ^ 1) << 63, at + 10)
        }
        _ => (0, 0),
    }
}

/// The same for a varint of at most eight bytes, given with what follows it.
#[inline(never)]
fn varint_of_word(word: u64, at: usize) -> (u64, usize) {
    let last = !word & CONTINUES;
    // The bits up to and with the lowest one of `last`: the varint's own.
    let own = last ^ last.wrapping_sub(1);
    let len = (last.trailing_zeros() / 8 + 1) as usize;
    (packed(word & own), at + len)
}

/// The same where less than eight bytes are left.
fn last_varint(rest: &[u8], at: usize) -> (u64, usize) {
    let mut value = 0;
    for (index, &byte) in rest.iter().enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return (value, at + index + 1);
        }
    }
    (0, 0)
}

/// The lower seven bits of each byte, side by side.
#[inline(always)]
fn packed(word: u64) -> u64 {
    let word = word & !CONTINUES;
    let word = word - ((word & 0x7f00_7f00_7f00_7f00) >> 1);
    let word = word & 0x0000_3fff_0000_3fff | (word & 0x3fff_0000_3fff_0000) >> 2;
    word & 0x0fff_ffff | (word & 0x0fff_ffff_0000_0000) >> 4
}

/// [`extent`] for any length.
#[cold]
#[inline(never)]
fn long_extent(bytes: &[u8], at: usize) -> (usize, usize) {
    let (len, start) = long_varint(bytes, at);
    match usize::try_from(len) {
        // A longer one than all bytes could make the sum overflow.
        Ok(len) if start > 0 && len <= bytes.len() => (start, start + len),
        _ => (start, usize::MAX),
    }
}

#[cold]
#[inline(never)]
fn extent_error(bytes: &[u8], at: usize) -> DecodeError {
    match (Reader { bytes, at }).varint() {
        Ok(_) => truncated(bytes),
        Err(error) => error,
    }
}

#[cold]
#[inline(never)]
fn varint_error(bytes: &[u8], at: usize) -> DecodeError {
    if bytes.len() - at < 10 { truncated(bytes) } else { DecodeError::Varint { at } }
}

#[cold]
#[inline(never)]
fn truncated(bytes: &[u8]) -> DecodeError {
    DecodeError::Truncated { at: bytes.len() }
}

/// [`Reader::other`] for the tag at `at`, with where the next one ends.
#[cold]
#[inline(never)]
fn other(bytes: &[u8], at: usize, tags: &[u32], depth: u32) -> Result<(u32, usize), DecodeError> {
    let mut reader = Reader { bytes, at };
    let tag = any_tag(&mut reader)?;
    if tags.contains(&tag) {
        return Ok((tag, reader.at));
    }
    let field = tag >> 3;
    if tags.iter().any(|known| known >> 3 == field) {
        return Err(DecodeError::WireType { field, at: reader.at });
    }
    skip(&mut reader, tag, depth)?;
    Ok((reader.tag(), reader.at))
}

/// The next tag, which there must be, in any form.
fn any_tag(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let at = reader.at;
    match u32::try_from(reader.varint()?) {
        Ok(tag) if tag >> 3 > 0 && tag & 7 <= FIXED32 => Ok(tag),
        _ => Err(DecodeError::Tag { at }),
    }
}

/// Passes over an unknown field, in a message or group `depth` levels deep.
fn skip(reader: &mut Reader<'_>, tag: u32, depth: u32) -> Result<(), DecodeError> {
    if depth == MAX_NESTING {
        return Err(DecodeError::Nesting { at: reader.at });
    }
    match tag & 7 {
        VARINT => reader.varint().map(drop),
        FIXED64 => advance(reader, 8),
        BYTES => reader.span().map(drop),
        FIXED32 => advance(reader, 4),
        GROUP => loop {
            let inner = any_tag(reader)?;
            if inner & 7 != GROUP_END {
                skip(reader, inner, depth + 1)?;
            } else if inner >> 3 == tag >> 3 {
                return Ok(());
            } else {
                return Err(DecodeError::Tag { at: reader.at });
            }
        },
        _ => Err(DecodeError::Tag { at: reader.at }),
    }
}

fn advance(reader: &mut Reader<'_>, len: usize) -> Result<(), DecodeError> {
    if reader.bytes.len() - reader.at < len {
        return Err(truncated(reader.bytes));
    }
    reader.at += len;
    Ok(())
}

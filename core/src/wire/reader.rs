//! Reads the parts of protobuf messages: tags, varints, spans.

use super::decode::{DecodeError, Span};

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const GROUP: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// What there is instead of a tag at a message's end; it is none.
pub(super) const END: u32 = u32::MAX;

/// As prost: how deep messages and unknown groups may nest.
const MAX_NESTING: u32 = 100;

/// The highest bit of each byte: all but the last byte of a varint have it.
const CONTINUES: u64 = 0x8080_8080_8080_8080;

/// A message being read. `bytes` is the frame up to the message's end, so that spans count from the frame's
/// start and one comparison both finds the message's end and keeps the access in bounds.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The first byte of the next field's tag, or [`END`]. Tags of known fields have no more bytes than this; whatever
    /// the message's fields don't match goes to [`other`](Self::other).
    #[inline(always)]
    pub(super) fn tag(&mut self) -> u32 {
        let Some(&byte) = self.bytes.get(self.at) else { return END };
        self.at += 1;
        u32::from(byte)
    }

    /// Handles what [`tag`](Self::tag) has returned if it isn't the next known field in their usual order, in a message
    /// `depth` levels deep: passes over an unknown field, and returns the tag to go on with.
    #[inline(always)]
    pub(super) fn other(&mut self, known: &[u8], depth: u32) -> Result<u32, DecodeError> {
        let (tag, at) = other(self.bytes, self.at, known, depth)?;
        self.at = at;
        Ok(tag)
    }

    #[inline(always)]
    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let at = self.at;
        if let Some(&byte) = self.bytes.get(at)
            && byte < 0x80
        {
            self.at = at + 1;
            return Ok(u64::from(byte));
        }
        let (value, end) = long_varint(self.bytes, at);
        if end == 0 {
            return Err(varint_error(self.bytes, at));
        }
        self.at = end;
        Ok(value)
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_wrap)] // int64 is two's complement on the wire.
    pub(super) fn int64(&mut self) -> Result<i64, DecodeError> {
        Ok(self.varint()? as i64)
    }

    /// A revision: mostly three or four bytes.
    #[inline(always)]
    #[allow(clippy::cast_possible_wrap)]
    pub(super) fn revision(&mut self) -> Result<i64, DecodeError> {
        let (bytes, at) = (self.bytes, self.at);
        if let Some(&first) = bytes.get(at) {
            let value = i64::from(first);
            if first < 0x80 {
                self.at = at + 1;
                return Ok(value);
            }
            if let Some(&second) = bytes.get(at + 1) {
                let value = value + (i64::from(second) << 7);
                if second < 0x80 {
                    self.at = at + 2;
                    return Ok(value - 0x80);
                }
                if let Some(&third) = bytes.get(at + 2) {
                    let value = value + (i64::from(third) << 14);
                    if third < 0x80 {
                        self.at = at + 3;
                        return Ok(value - 0x4080);
                    }
                    if let Some(&fourth) = bytes.get(at + 3)
                        && fourth < 0x80
                    {
                        self.at = at + 4;
                        return Ok(value + (i64::from(fourth) << 21) - 0x20_4080);
                    }
                }
            }
        }
        Ok(self.id()? as i64)
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

    #[inline(always)]
    pub(super) fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.varint()? != 0)
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

// The functions for what is rare are given the reader's parts by value: a reader that is borrowed by a call could not
// be kept in registers.

#[cold]
#[inline(never)]
fn long_extent(bytes: &[u8], at: usize) -> (usize, usize) {
    let (len, start) = long_varint(bytes, at);
    match usize::try_from(len) {
        // A longer one than all bytes could overflow the sum.
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

#[cold]
#[inline(never)]
fn other(bytes: &[u8], at: usize, known: &[u8], depth: u32) -> Result<(u32, usize), DecodeError> {
    let mut reader = Reader { bytes, at: at - 1 };
    let (field, wire) = next_field(&mut reader)?;
    let is_tag = |known: &&u8| u32::from(**known) == field << 3 | u32::from(wire);
    if let Some(&tag) = known.iter().find(is_tag) {
        return Ok((u32::from(tag), reader.at));
    }
    if known.iter().any(|known| u32::from(known >> 3) == field) {
        return Err(DecodeError::WireType { field, at: reader.at });
    }
    skip(&mut reader, field, wire, depth)?;
    Ok((reader.tag(), reader.at))
}

/// Passes over a field that is not known, in a message or group `depth` levels deep.
fn skip(reader: &mut Reader<'_>, field: u32, wire: u8, depth: u32) -> Result<(), DecodeError> {
    if depth == MAX_NESTING {
        return Err(DecodeError::Nesting { at: reader.at });
    }
    match wire {
        VARINT => reader.varint().map(drop),
        FIXED64 => advance(reader, 8),
        BYTES => reader.span().map(drop),
        FIXED32 => advance(reader, 4),
        GROUP => loop {
            match next_field(reader)? {
                (inner, GROUP_END) if inner == field => return Ok(()),
                (_, GROUP_END) => return Err(DecodeError::Tag { at: reader.at }),
                (inner, wire) => skip(reader, inner, wire, depth + 1)?,
            }
        },
        _ => Err(DecodeError::Tag { at: reader.at }),
    }
}

/// The number and the wire type of the next field, which there must be.
fn next_field(reader: &mut Reader<'_>) -> Result<(u32, u8), DecodeError> {
    let at = reader.at;
    let tag = u32::try_from(reader.varint()?).map_err(|_| DecodeError::Tag { at })?;
    #[allow(clippy::cast_possible_truncation)]
    let (field, wire) = (tag >> 3, (tag & 7) as u8);
    if field == 0 || wire > FIXED32 { Err(DecodeError::Tag { at }) } else { Ok((field, wire)) }
}

fn advance(reader: &mut Reader<'_>, len: usize) -> Result<(), DecodeError> {
    if reader.left() < len {
        return Err(truncated(reader.bytes));
    }
    reader.at += len;
    Ok(())
}

/// The varint at `at`, and where it ends; ends at 0 if it isn't one. (Not an `Option`: this pair is returned in
/// registers.)
#[inline(never)]
fn long_varint(bytes: &[u8], at: usize) -> (u64, usize) {
    let Some(rest) = bytes.get(at..) else { return (0, 0) };
    let Some(word) = rest.first_chunk() else { return short_varint(rest, at) };
    let word = u64::from_le_bytes(*word);
    if word & CONTINUES != CONTINUES {
        return middle_varint(word, at);
    }
    let low = packed(word);
    match *rest {
        [_, _, _, _, _, _, _, _, ninth, ..] if ninth < 0x80 => (low | u64::from(ninth) << 56, at + 9),
        // The tenth byte is the 64th bit, in the place of the ninth's mark.
        [_, _, _, _, _, _, _, _, ninth, tenth @ ..=1, ..] => {
            ((low | u64::from(ninth) << 56) ^ u64::from(tenth ^ 1) << 63, at + 10)
        }
        _ => (0, 0),
    }
}

/// The same for one of at most eight bytes, given with what follows it.
#[inline(never)]
fn middle_varint(word: u64, at: usize) -> (u64, usize) {
    let last = !word & CONTINUES;
    // The bits up to and with the lowest one of `last`: the varint's own.
    let own = last ^ last.wrapping_sub(1);
    let len = (last.trailing_zeros() / 8 + 1) as usize;
    (packed(word & own), at + len)
}

/// The same for one that the message's end is less than eight bytes away from.
fn short_varint(rest: &[u8], at: usize) -> (u64, usize) {
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

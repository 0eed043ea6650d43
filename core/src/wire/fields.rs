//! A protobuf reader for the messages that come seldom: plain rather than fast. The frames of watch streams
//! have a decoder of their own.
//!
//! It takes what a protobuf library takes: unknown fields are passed over, of a field that comes twice the
//! last one counts.

use core::ops::Range;

use crate::{Code, Failure};

/// The bytes are not the response that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// It ends within a field.
    #[error("truncated at byte {at}")]
    Truncated {
        /// Where.
        at: usize,
    },
    /// A number has more than ten bytes or more than 64 bits.
    #[error("invalid varint at byte {at}")]
    Varint {
        /// Where.
        at: usize,
    },
    /// A field number or wire type that protobuf doesn't have.
    #[error("invalid field tag at byte {at}")]
    Tag {
        /// Where.
        at: usize,
    },
    /// A known field has another type.
    #[error("field {field} has the wrong wire type at byte {at}")]
    WireType {
        /// The field's number.
        field: u32,
        /// Where.
        at: usize,
    },
    /// Unknown groups are nested too deeply.
    #[error("groups nested too deeply at byte {at}")]
    Nesting {
        /// Where.
        at: usize,
    },
    /// So many pairs for its size that most are empty. No server sends those, and they would take many times
    /// the memory of the response.
    #[error("far more pairs than the response has room for")]
    EmptyPairs,
}

impl From<ResponseError> for Failure {
    /// gRPC's `INTERNAL`, as for every response that can't be decoded.
    fn from(error: ResponseError) -> Self {
        Self::status(Code::Internal, alloc::format!("the response can't be decoded: {error}"))
    }
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const GROUP: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// How deep messages and unknown groups may nest, as in prost.
const MAX_NESTING: u32 = 100;

/// The tag of the field that is to be read next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    wire: u8,
}

/// The fields of one message. After [`next`](Self::next) has returned a field, it has to be read or skipped.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    /// The outermost message, so that positions count from its start.
    whole: &'a [u8],
    at: usize,
    end: usize,
    depth: u32,
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { whole: message, at: 0, end: message.len(), depth: 0 }
    }

    /// The next field's tag; `None` at the message's end.
    pub(super) fn next(&mut self) -> Result<Option<Field>, ResponseError> {
        if self.at == self.end {
            return Ok(None);
        }
        let at = self.at;
        let tag = u32::try_from(self.raw_varint()?).map_err(|_| ResponseError::Tag { at })?;
        let field = Field { number: tag >> 3, wire: (tag & 7) as u8 };
        if field.number == 0 || field.wire > FIXED32 {
            return Err(ResponseError::Tag { at });
        }
        Ok(Some(field))
    }

    pub(super) fn uint64(&mut self, field: Field) -> Result<u64, ResponseError> {
        self.expect(field, VARINT)?;
        self.raw_varint()
    }

    pub(super) fn int64(&mut self, field: Field) -> Result<i64, ResponseError> {
        // Two's complement on the wire.
        self.uint64(field).map(|value| value as i64)
    }

    pub(super) fn bool(&mut self, field: Field) -> Result<bool, ResponseError> {
        self.uint64(field).map(|value| value != 0)
    }

    /// Where the field's bytes lie in the outermost message.
    pub(super) fn bytes(&mut self, field: Field) -> Result<Range<usize>, ResponseError> {
        self.expect(field, BYTES)?;
        let length = self.raw_varint()?;
        let start = self.at;
        self.advance(usize::try_from(length).unwrap_or(usize::MAX))?;
        Ok(start..self.at)
    }

    /// The fields of a message within the message.
    pub(super) fn message(&mut self, field: Field) -> Result<Self, ResponseError> {
        let Range { start, end } = self.bytes(field)?;
        Ok(Self { whole: self.whole, at: start, end, depth: self.depth + 1 })
    }

    /// Passes over an unknown field.
    pub(super) fn skip(&mut self, field: Field) -> Result<(), ResponseError> {
        self.skip_at(field, self.depth)
    }

    fn skip_at(&mut self, field: Field, depth: u32) -> Result<(), ResponseError> {
        if depth == MAX_NESTING {
            return Err(ResponseError::Nesting { at: self.at });
        }
        match field.wire {
            VARINT => self.raw_varint().map(drop),
            FIXED64 => self.advance(8),
            BYTES => self.bytes(field).map(drop),
            FIXED32 => self.advance(4),
            GROUP => loop {
                let at = self.at;
                match self.next()? {
                    None => return Err(ResponseError::Truncated { at }),
                    Some(Field { number, wire: GROUP_END }) if number == field.number => return Ok(()),
                    Some(Field { wire: GROUP_END, .. }) => return Err(ResponseError::Tag { at }),
                    Some(inner) => self.skip_at(inner, depth + 1)?,
                }
            },
            _ => Err(ResponseError::Tag { at: self.at }),
        }
    }

    fn expect(&self, field: Field, wire: u8) -> Result<(), ResponseError> {
        if field.wire == wire {
            Ok(())
        } else {
            Err(ResponseError::WireType { field: field.number, at: self.at })
        }
    }

    fn advance(&mut self, bytes: usize) -> Result<(), ResponseError> {
        if self.end - self.at < bytes {
            return Err(ResponseError::Truncated { at: self.end });
        }
        self.at += bytes;
        Ok(())
    }

    fn raw_varint(&mut self) -> Result<u64, ResponseError> {
        let start = self.at;
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte =
                *self.whole[..self.end].get(self.at).ok_or(ResponseError::Truncated { at: self.end })?;
            self.at += 1;
            // The tenth byte has the last bit.
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ResponseError::Varint { at: start })
    }
}

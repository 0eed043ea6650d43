//! The answers to reads, and to the question for a member's version.

use alloc::vec::Vec;
use bytes::Bytes;

use super::{
    decode::{DecodeError, Header, read_header, read_kv},
    index::KvIndex,
    reader::{END, Reader, bytes_tag, varint_tag},
};
use crate::{Code, Failure, Page, Pairs, RangeDone, ServerVersion};

/// The least that a pair takes on the wire: its tag and length, a key of one byte, a revision.
const SMALLEST_PAIR: usize = 8;

/// How many pairs beyond what the response has room for are still taken.
const PAIRS_SLACK: usize = 1024;

impl From<DecodeError> for Failure {
    /// gRPC's `INTERNAL`, as for every response that can't be decoded.
    fn from(error: DecodeError) -> Self {
        Self::status(Code::Internal, alloc::format!("the response can't be decoded: {error}"))
    }
}

/// A message to read.
fn reader(message: &[u8]) -> Result<Reader<'_>, DecodeError> {
    u32::try_from(message.len()).map_err(|_| DecodeError::TooLong)?;
    Ok(Reader::new(message))
}

/// Reads the fields with these tags, one by one, and passes over all others.
fn read_fields<'a>(
    mut reader: Reader<'a>,
    tags: &[u32],
    mut read: impl FnMut(u32, &mut Reader<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut tag = reader.tag();
    while tag != END {
        if tags.contains(&tag) {
            read(tag, &mut reader)?;
            tag = reader.tag();
        } else {
            tag = reader.other(tags, 0)?;
        }
    }
    Ok(())
}

impl RangeDone {
    /// Reads etcd's `RangeResponse`, the answer to [`Action::Range`](crate::Action::Range).
    ///
    /// # Errors
    /// Bytes that are no such message. As a [`Failure`] they go into
    /// [`handle_range_done`](crate::Watcher::handle_range_done) like any other failure of the read.
    pub fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        const HEADER: u32 = bytes_tag(1);
        let (mut header, mut mod_revision) = (Header::default(), 0);
        read_fields(reader(message)?, &[HEADER, bytes_tag(2)], |tag, reader| {
            let field = reader.message()?;
            if tag == HEADER {
                return read_header(field, &mut header);
            }
            let mut kv = KvIndex::default();
            read_kv(field, &mut kv)?;
            mod_revision = kv.mod_revision.max(mod_revision);
            Ok(())
        })?;
        Ok(Self { revision: header.revision, cluster_id: header.cluster_id, mod_revision })
    }
}

impl Page {
    /// Reads etcd's `RangeResponse`, the answer to [`MirrorAction::List`](crate::MirrorAction::List) by a page. Keys and
    /// values are views on the message and keep it alive.
    ///
    /// # Errors
    /// Bytes that are no such message. As a [`Failure`] they go into
    /// [`handle_page`](crate::Mirror::handle_page) like any other failure of the read.
    pub fn decode(message: &Bytes) -> Result<Self, DecodeError> {
        let mut parts = Parts::new(message.len());
        parts.read(reader(message)?)?;
        Ok(parts.page(message))
    }

    /// Reads etcd's `RangeStreamResponse` (3.7), one message of the answer by a stream. Keys and values are views on the
    /// message and keep it alive.
    ///
    /// # Errors
    /// Bytes that are no such message. As a [`Failure`] they go into
    /// [`handle_chunk`](crate::Mirror::handle_chunk) like any other failure of the stream.
    pub fn decode_chunk(message: &Bytes) -> Result<Self, DecodeError> {
        let mut parts = Parts::new(message.len());
        // Protobuf puts together what comes twice.
        read_fields(reader(message)?, &[bytes_tag(1)], |_, reader| parts.read(reader.message()?))?;
        Ok(parts.page(message))
    }
}

/// What has been read of `RangeResponse`s.
struct Parts {
    header: Header,
    more: bool,
    count: i64,
    index: Vec<KvIndex>,
    /// With more pairs than this, most must be empty.
    most: usize,
}

impl Parts {
    fn new(message_len: usize) -> Self {
        let most = PAIRS_SLACK + message_len / SMALLEST_PAIR;
        Self { header: Header::default(), more: false, count: 0, index: Vec::new(), most }
    }

    fn read(&mut self, response: Reader<'_>) -> Result<(), DecodeError> {
        const HEADER: u32 = bytes_tag(1);
        const PAIR: u32 = bytes_tag(2);
        const MORE: u32 = varint_tag(3);
        const COUNT: u32 = varint_tag(4);
        read_fields(response, &[HEADER, PAIR, MORE, COUNT], |tag, reader| {
            match tag {
                HEADER => read_header(reader.message()?, &mut self.header)?,
                PAIR if self.index.len() == self.most => return Err(DecodeError::EmptyPairs),
                PAIR => {
                    let mut kv = KvIndex::default();
                    read_kv(reader.message()?, &mut kv)?;
                    self.index.push(kv);
                }
                MORE => self.more = reader.bool()?,
                _ => self.count = reader.int64()?,
            }
            Ok(())
        })
    }

    fn page(self, message: &Bytes) -> Page {
        Page {
            revision: self.header.revision,
            cluster_id: self.header.cluster_id,
            more: self.more,
            count: self.count,
            kvs: Pairs::new(message.clone(), self.index),
        }
    }
}

/// The member's version, out of etcd's `StatusResponse`; `None` if its text is no version. Both that and an
/// error mean the same to [`Opened::version`](crate::Opened::version): it is not known.
///
/// ```
/// use etcd_watch_core::{ServerVersion, wire::decode_version};
///
/// let version = decode_version(b"\x12\x063.5.30").ok().flatten();
/// assert_eq!(version, Some(ServerVersion::new(3, 5, 30)));
/// ```
///
/// # Errors
/// Bytes that are no such message.
pub fn decode_version(message: &[u8]) -> Result<Option<ServerVersion>, DecodeError> {
    let mut version = 0..0;
    read_fields(reader(message)?, &[bytes_tag(2)], |_, reader| {
        version = reader.span()?.range();
        Ok(())
    })?;
    let text = core::str::from_utf8(&message[version]).ok();
    Ok(text.and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests;

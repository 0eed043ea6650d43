//! The answers to reads, and to the question for a member's version.

use bytes::Bytes;

use super::{
    decode::{DecodeError, Header, KvIndex, read_header, read_kv},
    reader::{END, Reader, bytes_tag, varint_tag},
};
use crate::{Code, Failure, OwnedKeyValue, Page, RangeDone, ServerVersion};

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

/// Reads the fields with these tags, one by one, and passes over all others.
fn read_fields<'a>(
    message: &'a [u8],
    tags: &[u32],
    mut read: impl FnMut(u32, &mut Reader<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    if u32::try_from(message.len()).is_err() {
        return Err(DecodeError::TooLong);
    }
    let mut reader = Reader::new(message);
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
        read_fields(message, &[HEADER, bytes_tag(2)], |tag, reader| {
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
    /// Reads etcd's `RangeResponse`, the answer to [`MirrorAction::List`](crate::MirrorAction::List). Keys and
    /// values are slices of the message and keep it alive.
    ///
    /// # Errors
    /// Bytes that are no such message. As a [`Failure`] they go into
    /// [`handle_page`](crate::Mirror::handle_page) like any other failure of the read.
    pub fn decode(message: &Bytes) -> Result<Self, DecodeError> {
        const HEADER: u32 = bytes_tag(1);
        const PAIR: u32 = bytes_tag(2);
        const MORE: u32 = varint_tag(3);
        /// The count of the keys, whatever the limit.
        const COUNT: u32 = varint_tag(4);
        let mut header = Header::default();
        let mut page = Self::default();
        let most = PAIRS_SLACK + message.len() / SMALLEST_PAIR;
        read_fields(message, &[HEADER, PAIR, MORE, COUNT], |tag, reader| {
            match tag {
                HEADER => read_header(reader.message()?, &mut header)?,
                PAIR if page.kvs.len() == most => return Err(DecodeError::EmptyPairs),
                PAIR => page.kvs.push(pair(message, reader.message()?)?),
                MORE => page.more = reader.bool()?,
                _ => drop(reader.int64()?),
            }
            Ok(())
        })?;
        page.revision = header.revision;
        page.cluster_id = header.cluster_id;
        Ok(page)
    }
}

fn pair(message: &Bytes, reader: Reader<'_>) -> Result<OwnedKeyValue, DecodeError> {
    let mut kv = KvIndex::default();
    read_kv(reader, &mut kv)?;
    Ok(OwnedKeyValue {
        key: message.slice(kv.key.range()),
        value: message.slice(kv.value.range()),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    })
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
    read_fields(message, &[bytes_tag(2)], |_, reader| {
        version = reader.span()?.range();
        Ok(())
    })?;
    let text = core::str::from_utf8(&message[version]).ok();
    Ok(text.and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests;

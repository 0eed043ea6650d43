//! The answers to reads, and to the question for a member's version.

use bytes::Bytes;

use super::fields::{Fields, ResponseError};
use crate::{Page, PageKv, RangeDone, ServerVersion};

/// The least that a pair takes on the wire: its tag and length, a key of one byte, a revision.
const SMALLEST_PAIR: usize = 8;

/// How many pairs beyond what the response has room for are still taken.
const PAIRS_SLACK: usize = 1024;

/// The two fields of etcd's `ResponseHeader` that the machines go by.
#[derive(Default)]
struct Header {
    cluster_id: u64,
    revision: i64,
}

impl Header {
    /// A header that comes in two parts is merged, as protobuf asks.
    fn merge(&mut self, mut fields: Fields<'_>) -> Result<(), ResponseError> {
        while let Some(field) = fields.next()? {
            match field.number {
                1 => self.cluster_id = fields.uint64(field)?,
                3 => self.revision = fields.int64(field)?,
                // The member's id and the raft term.
                2 | 4 => drop(fields.uint64(field)?),
                _ => fields.skip(field)?,
            }
        }
        Ok(())
    }
}

impl RangeDone {
    /// Reads etcd's `RangeResponse`, the answer to [`Action::Range`](crate::Action::Range).
    ///
    /// # Errors
    /// Bytes that are no such message. As a [`Failure`](crate::Failure) they go into
    /// [`handle_range_done`](crate::Watcher::handle_range_done) like any other failure of the read.
    pub fn decode(message: &[u8]) -> Result<Self, ResponseError> {
        let mut header = Header::default();
        let mut fields = Fields::of(message);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => header.merge(fields.message(field)?)?,
                _ => fields.skip(field)?,
            }
        }
        Ok(Self { revision: header.revision, cluster_id: header.cluster_id })
    }
}

impl Page {
    /// Reads etcd's `RangeResponse`, the answer to [`MirrorAction::List`](crate::MirrorAction::List). Keys and
    /// values are slices of the message and keep it alive.
    ///
    /// # Errors
    /// Bytes that are no such message. As a [`Failure`](crate::Failure) they go into
    /// [`handle_page`](crate::Mirror::handle_page) like any other failure of the read.
    pub fn decode(message: &Bytes) -> Result<Self, ResponseError> {
        let mut header = Header::default();
        let mut page = Self::default();
        let most = PAIRS_SLACK + message.len() / SMALLEST_PAIR;
        let mut fields = Fields::of(message);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => header.merge(fields.message(field)?)?,
                2 if page.kvs.len() == most => return Err(ResponseError::EmptyPairs),
                2 => page.kvs.push(pair(message, fields.message(field)?)?),
                3 => page.more = fields.bool(field)?,
                // The count of the keys, whatever the limit.
                4 => drop(fields.int64(field)?),
                _ => fields.skip(field)?,
            }
        }
        page.revision = header.revision;
        page.cluster_id = header.cluster_id;
        Ok(page)
    }
}

fn pair(message: &Bytes, mut fields: Fields<'_>) -> Result<PageKv, ResponseError> {
    let mut kv = PageKv::default();
    while let Some(field) = fields.next()? {
        match field.number {
            1 => kv.key = message.slice(fields.bytes(field)?),
            2 => kv.create_revision = fields.int64(field)?,
            3 => kv.mod_revision = fields.int64(field)?,
            4 => kv.version = fields.int64(field)?,
            5 => kv.value = message.slice(fields.bytes(field)?),
            6 => kv.lease = fields.int64(field)?,
            _ => fields.skip(field)?,
        }
    }
    Ok(kv)
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
pub fn decode_version(message: &[u8]) -> Result<Option<ServerVersion>, ResponseError> {
    let mut version = 0..0;
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next()? {
        match field.number {
            2 => version = fields.bytes(field)?,
            _ => fields.skip(field)?,
        }
    }
    let text = core::str::from_utf8(&message[version]).ok();
    Ok(text.and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests;

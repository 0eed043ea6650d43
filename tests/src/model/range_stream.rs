//! A range that is read as a stream (etcd 3.7): chunk by chunk, each when its reader is ready for it, all at one revision.

use std::mem;

use etcd_watch_proto::etcdserverpb::{RangeRequest, RangeResponse};
use etcd_watch_proto::prost::Message;

use super::{error::ModelError, etcd::ModelEtcd};

/// Keys in the first chunk.
const FIRST_CHUNK: i64 = 10;

/// A range that is being read.
#[derive(Debug)]
pub struct RangeStream {
    /// What is left to read.
    request: RangeRequest,
    /// The most keys of the next chunk.
    chunk: i64,
    /// The keys that were sent.
    count: i64,
    /// The store's revision when the first chunk was read.
    revision: i64,
    is_over: bool,
}

impl RangeStream {
    /// Reads this range. Orders and bounds of revisions are for [`ModelEtcd::range`].
    #[must_use]
    pub fn new(request: RangeRequest) -> Self {
        Self { request, chunk: FIRST_CHUNK, count: 0, revision: 0, is_over: false }
    }

    /// The next chunk; `None` after the last, or after an error. Only the last has a header, the count, and whether the
    /// limit left keys out.
    pub fn next(&mut self, etcd: &ModelEtcd) -> Option<Result<RangeResponse, ModelError>> {
        if mem::replace(&mut self.is_over, true) {
            return None;
        }
        let limit = if self.request.limit > 0 { self.request.limit } else { i64::MAX };
        let limit = self.chunk.min(limit - self.count);
        let read = match etcd.range(&RangeRequest { limit, ..self.request.clone() }) {
            Ok(read) => read,
            Err(error) => return Some(Err(error)),
        };
        let header = read.header.unwrap_or_default();
        if self.revision == 0 {
            self.revision = header.revision;
        }
        if self.request.revision == 0 {
            self.request.revision = self.revision;
        }
        let keys = i64::try_from(read.kvs.len()).unwrap_or(i64::MAX);
        let left = read.count - keys;
        self.count += keys;
        if self.request.count_only || !read.more || self.count == self.request.limit {
            let header = etcd.config().header(self.revision);
            let count = self.count + left;
            return Some(Ok(RangeResponse { header: Some(header), count, ..read }));
        }
        self.is_over = false;
        self.chunk = next_chunk(self.chunk, read.encoded_len(), etcd.config().max_request_bytes);
        if let Some(last) = read.kvs.last() {
            self.request.key = [&last.key[..], b"\0"].concat().into();
        }
        Some(Ok(RangeResponse { kvs: read.kvs, ..RangeResponse::default() }))
    }
}

/// etcd wants chunks of about the largest request's size.
fn next_chunk(chunk: i64, bytes: usize, wanted: usize) -> i64 {
    if bytes < wanted / 2 {
        chunk * 2
    } else if bytes > wanted * 2 {
        (chunk / 2).max(1)
    } else {
        chunk
    }
}

//! Hashes of members' data.

use etcd_watch_core::Header;
use etcd_watch_proto::etcdserverpb as pb;

use crate::transport::wire::header;

/// A hash of a member's whole database, with what etcd keeps there beside the keys. Members that hold the same keys may
/// have different ones: for comparing members there is [`HashKv`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hash {
    header: Header,
    hash: u32,
}

impl Hash {
    /// What the server tells of itself with the answer; the revision is that of the hash.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// The hash.
    #[must_use]
    pub fn hash(&self) -> u32 {
        self.hash
    }
}

impl From<pb::HashResponse> for Hash {
    fn from(answer: pb::HashResponse) -> Self {
        Self { header: header(answer.header), hash: answer.hash }
    }
}

/// A hash of the keys of a member, from its last compaction up to a revision. Two members whose
/// [`hash_revision`](Self::hash_revision) and [`compact_revision`](Self::compact_revision) are equal have equal hashes,
/// unless their data differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashKv {
    header: Header,
    hash: u32,
    compact_revision: i64,
    hash_revision: i64,
}

impl HashKv {
    /// What the server tells of itself with the answer; the revision is the store's newest.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// The hash.
    #[must_use]
    pub fn hash(&self) -> u32 {
        self.hash
    }

    /// The revision of the member's last compaction, -1 if there was none: the hash begins there.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// The revision up to which the hash goes. Before etcd 3.6 servers don't tell it: then it is the one that was asked
    /// for, or for the newest the header's.
    #[must_use]
    pub fn hash_revision(&self) -> i64 {
        self.hash_revision
    }

    pub(super) fn read(answer: pb::HashKvResponse, asked: i64) -> Self {
        let pb::HashKvResponse { header: sent, hash, compact_revision, hash_revision } = answer;
        let header = header(sent);
        let asked = if asked > 0 { asked } else { header.revision };
        let hash_revision = if hash_revision > 0 { hash_revision } else { asked };
        Self { header, hash, compact_revision, hash_revision }
    }
}

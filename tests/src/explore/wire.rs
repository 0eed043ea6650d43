//! What servers say, as protobuf messages.

use etcd_watch_proto::{
    etcdserverpb::{ResponseHeader, WatchResponse as Frame},
    mvccpb::Event,
};

use super::server::Member;

/// The id of the cluster.
pub(super) const CLUSTER: u64 = 0xc1;

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { cluster_id: CLUSTER, member_id: 1, revision, raft_term: 2 })
}

/// The id on the wire of a slot.
fn id(member: Member<'_>, slot: u8) -> i64 {
    i64::from(slot) + if member.plan.server.echoes_ids { member.first_id } else { 0 }
}

pub(super) fn created(member: Member<'_>, slot: u8, revision: i64) -> Frame {
    let header = if member.plan.server.synthetic_created {
        Some(ResponseHeader { revision, ..ResponseHeader::default() })
    } else {
        header(revision)
    };
    Frame { header, watch_id: id(member, slot), created: true, ..Frame::default() }
}

pub(super) fn canceled(member: Member<'_>, slot: u8, revision: i64) -> Frame {
    Frame { header: header(revision), watch_id: id(member, slot), canceled: true, ..Frame::default() }
}

pub(super) fn compacted(member: Member<'_>, slot: u8) -> Frame {
    Frame { compact_revision: member.store.compacted, ..canceled(member, slot, member.store.revision) }
}

/// For one watch, or for all.
pub(super) fn progress(member: Member<'_>, slot: Option<u8>, revision: i64) -> Frame {
    let watch_id = slot.map_or(-1, |slot| id(member, slot));
    Frame { header: header(revision), watch_id, ..Frame::default() }
}

pub(super) fn events(
    member: Member<'_>,
    slot: u8,
    revision: i64,
    events: Vec<Event>,
    fragment: bool,
) -> Frame {
    Frame { header: header(revision), watch_id: id(member, slot), events, fragment, ..Frame::default() }
}

/// A small world has small numbers.
pub(super) fn small<T: TryInto<u8>>(number: T) -> u8 {
    number.try_into().unwrap_or(u8::MAX)
}

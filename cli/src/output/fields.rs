//! A line for each field.

use etcd_watch_tokio::{
    DeleteResponse, EventKind, GetResponse, Header, PutResponse, ResponseKind, WatchResponse,
};

use super::{Pair, line, quote::quoted};

pub(super) fn watch(out: &mut Vec<u8>, response: &WatchResponse) {
    if response.kind() == ResponseKind::Progress {
        line!(out, "progress notify: {}", response.revision());
    }
    header(out, response.header());
    for event in response.events() {
        let kind = if event.kind() == EventKind::Delete { "DELETE" } else { "PUT" };
        line!(out, r#""Type" : {kind}"#);
        if let Some(prev) = event.prev() {
            pair(out, "Prev", prev.into());
        }
        pair(out, "", event.kv().into());
    }
}

pub(super) fn get(out: &mut Vec<u8>, response: &GetResponse) {
    header(out, response.header());
    response.kvs().iter().for_each(|kv| pair(out, "", kv.into()));
    line!(out, r#""More" : {}"#, response.has_more());
    line!(out, r#""Count" : {}"#, response.count());
}

pub(super) fn put(out: &mut Vec<u8>, response: &PutResponse) {
    header(out, response.header());
    response.prev().into_iter().for_each(|kv| pair(out, "Prev", kv.into()));
}

pub(super) fn delete(out: &mut Vec<u8>, response: &DeleteResponse) {
    header(out, response.header());
    line!(out, r#""Deleted" : {}"#, response.deleted());
    response.prevs().iter().for_each(|kv| pair(out, "Prev", kv.into()));
}

pub(super) fn header(out: &mut Vec<u8>, header: Header) {
    line!(out, r#""ClusterID" : {}"#, header.cluster_id);
    line!(out, r#""MemberID" : {}"#, header.member_id);
    line!(out, r#""Revision" : {}"#, header.revision);
    line!(out, r#""RaftTerm" : {}"#, header.raft_term);
}

fn pair(out: &mut Vec<u8>, prefix: &str, kv: Pair<'_>) {
    line!(out, r#""{prefix}Key" : {}"#, quoted(kv.key));
    line!(out, r#""{prefix}CreateRevision" : {}"#, kv.create_revision);
    line!(out, r#""{prefix}ModRevision" : {}"#, kv.mod_revision);
    line!(out, r#""{prefix}Version" : {}"#, kv.version);
    line!(out, r#""{prefix}Value" : {}"#, quoted(kv.value));
    line!(out, r#""{prefix}Lease" : {}"#, kv.lease);
}

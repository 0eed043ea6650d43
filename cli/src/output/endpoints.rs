//! The endpoints of a service, and their changes.

use etcd_watch_tokio::discovery::{EndpointChange, EndpointUpdate, Endpoints, ServiceEndpoint, UpdateKind};
use serde_json::{Map, Value, json};

use super::{escape, line, quote};

pub(super) fn simple(out: &mut Vec<u8>, found: &Endpoints) {
    for (name, endpoint) in &found.endpoints {
        line!(out, "{}", text(name, endpoint));
    }
}

pub(super) fn json(out: &mut Vec<u8>, found: &Endpoints) {
    let endpoints = found.endpoints.iter().map(|(name, endpoint)| object(name, endpoint));
    let undecodable = found.undecodable.iter();
    let undecodable = undecodable.map(|(name, error)| json!({ "name": **name, "error": error.to_string() }));
    let mut object = Map::new();
    object.insert("revision".into(), found.revision.into());
    object.insert("endpoints".into(), endpoints.map(Value::Object).collect());
    if !found.undecodable.is_empty() {
        object.insert("undecodable".into(), undecodable.collect());
    }
    line!(out, "{}", escape::json(&Value::Object(object).to_string()));
}

pub(super) fn update_simple(out: &mut Vec<u8>, update: &EndpointUpdate) {
    for change in update.changes() {
        match change {
            EndpointChange::Added { name, endpoint } => line!(out, "ADDED\t{}", text(name, endpoint)),
            EndpointChange::Updated { name, endpoint, .. } => line!(out, "UPDATED\t{}", text(name, endpoint)),
            EndpointChange::Removed { name, endpoint } => line!(out, "REMOVED\t{}", text(name, endpoint)),
            EndpointChange::Undecodable { name, error, .. } => {
                let error = one_line(&error.to_string());
                line!(out, "UNDECODABLE\t{}\t{error}", one_line(name));
            }
            _ => {}
        }
    }
    if update.kind() != UpdateKind::Changes {
        line!(out, "synced: {}", update.revision());
    }
}

pub(super) fn update_json(out: &mut Vec<u8>, update: &EndpointUpdate) {
    for change in update.changes() {
        let (kind, mut fields) = match change {
            EndpointChange::Added { name, endpoint } => ("added", object(name, endpoint)),
            EndpointChange::Updated { name, endpoint, .. } => ("updated", object(name, endpoint)),
            EndpointChange::Removed { name, endpoint } => ("removed", object(name, endpoint)),
            EndpointChange::Undecodable { name, error, .. } => {
                let mut fields = Map::new();
                fields.insert("name".into(), (**name).into());
                fields.insert("error".into(), error.to_string().into());
                ("undecodable", fields)
            }
            _ => continue,
        };
        fields.insert("type".into(), kind.into());
        fields.insert("revision".into(), update.revision().into());
        line!(out, "{}", escape::json(&Value::Object(fields).to_string()));
    }
    if update.kind() != UpdateKind::Changes {
        line!(out, "{}", json!({ "type": "synced", "revision": update.revision() }));
    }
}

fn text(name: &str, endpoint: &ServiceEndpoint) -> String {
    let place = format!("{}\t{}", one_line(name), one_line(&endpoint.addr));
    if endpoint.metadata.is_null() {
        place
    } else {
        format!("{place}\t{}", escape::json(&endpoint.metadata.to_string()))
    }
}

/// As it is, unless that would be more than a field of a line.
fn one_line(text: &str) -> String {
    if text.chars().all(quote::is_printable) { text.to_owned() } else { escape::text(text) }
}

fn object(name: &str, endpoint: &ServiceEndpoint) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("name".into(), name.into());
    fields.insert("addr".into(), endpoint.addr.as_str().into());
    if !endpoint.metadata.is_null() {
        fields.insert("metadata".into(), endpoint.metadata.clone());
    }
    fields
}

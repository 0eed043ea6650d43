//! Responses as etcdctl prints them, and what it doesn't have.

mod endpoints;
pub(crate) mod escape;
mod fields;
mod json;
mod mirror;
mod pair;
pub(crate) mod quote;
mod simple;

use std::io::{self, IsTerminal};

use etcd_watch_tokio::{
    DeleteResponse, Event, GetResponse, Header, MirrorEvent, PutResponse, WatchResponse,
    discovery::{EndpointUpdate, Endpoints},
};

use crate::args::{Format, Global};
use pair::Pair;

/// Prints responses in the format asked for.
pub(crate) struct Printer {
    format: Format,
    bytes: Bytes,
}

/// How keys and values are printed in the simple format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bytes {
    /// As they are, for whoever reads a pipe or a file.
    Raw,
    /// On a terminal, which would obey the control characters in them: escaped.
    Escaped,
    Hex,
}

/// What to print of the keys a `get` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    Pairs,
    Values,
    Count,
}

impl Printer {
    pub(crate) fn new(global: &Global) -> Self {
        let bytes = match global.hex {
            true => Bytes::Hex,
            false if io::stdout().is_terminal() => Bytes::Escaped,
            false => Bytes::Raw,
        };
        Self { format: global.write_out, bytes }
    }

    /// A response of a watch: its events, or progress.
    pub(crate) fn watch(&self, out: &mut Vec<u8>, response: &WatchResponse) {
        match self.format {
            Format::Simple => simple::watch(out, response, self.bytes),
            Format::Json => json::watch(out, response),
            Format::Fields => fields::watch(out, response),
        }
    }

    /// The end of a watch whose next revision is compacted, where the format has a place for it.
    pub(crate) fn compacted(&self, out: &mut Vec<u8>, header: Header, compact_revision: i64) {
        match self.format {
            Format::Simple => {}
            Format::Json => json::compacted(out, header, compact_revision),
            Format::Fields => fields::header(out, header),
        }
    }

    /// The answer to `get`.
    pub(crate) fn get(&self, out: &mut Vec<u8>, response: &GetResponse, show: Show) {
        match self.format {
            Format::Simple => simple::get(out, response, show, self.bytes),
            Format::Json => json::get(out, response),
            Format::Fields => fields::get(out, response),
        }
    }

    /// An event of a mirror; the keys of a list are those of revision `listed_at`. Has no `fields`.
    pub(crate) fn mirror(&self, out: &mut Vec<u8>, event: &MirrorEvent, listed_at: i64) {
        match self.format {
            Format::Json => mirror::json(out, event, listed_at),
            Format::Simple | Format::Fields => mirror::simple(out, event, self.bytes),
        }
    }

    /// The endpoints of a service. Has no `fields`.
    pub(crate) fn endpoints(&self, out: &mut Vec<u8>, found: &Endpoints) {
        match self.format {
            Format::Json => endpoints::json(out, found),
            Format::Simple | Format::Fields => endpoints::simple(out, found),
        }
    }

    /// Changes of a service's endpoints. Has no `fields`.
    pub(crate) fn endpoint_update(&self, out: &mut Vec<u8>, update: &EndpointUpdate) {
        match self.format {
            Format::Json => endpoints::update_json(out, update),
            Format::Simple | Format::Fields => endpoints::update_simple(out, update),
        }
    }

    /// The answer to `put`.
    pub(crate) fn put(&self, out: &mut Vec<u8>, response: &PutResponse) {
        match self.format {
            Format::Simple => simple::put(out, response, self.bytes),
            Format::Json => json::put(out, response),
            Format::Fields => fields::put(out, response),
        }
    }

    /// The answer to `del`.
    pub(crate) fn delete(&self, out: &mut Vec<u8>, response: &DeleteResponse) {
        match self.format {
            Format::Simple => simple::delete(out, response, self.bytes),
            Format::Json => json::delete(out, response),
            Format::Fields => fields::delete(out, response),
        }
    }
}

/// A line with an event as the only one of its response, as `-w json` prints that.
pub(crate) fn event_json(header: Header, event: &Event<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    json::events(&mut out, header, std::iter::once(*event));
    out
}

/// Appends a formatted line.
macro_rules! line {
    ($out:expr, $($format:tt)*) => {{
        let out: &mut Vec<u8> = $out;
        out.extend_from_slice(format!($($format)*).as_bytes());
        out.push(b'\n');
    }};
}
pub(crate) use line;

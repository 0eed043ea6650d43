//! Scripts: what clients say to a server, step by step, without knowing what it will answer.
//!
//! Numbers are relative to what is there when a step is taken (revisions to the newest one, streams and watches to
//! those that are open), so that a script still makes sense with steps taken out of it.

use bytes::Bytes;
use etcd_watch_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, TxnRequest};

/// One thing that clients do.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Opens a stream.
    Open,
    /// Closes one.
    Close(usize),
    /// Asks for a watch.
    Create { stream: usize, wish: Wish },
    /// Ends one, after everything has come if `settled`.
    Cancel { stream: usize, target: Target, settled: bool },
    /// Asks for progress, after everything has come if `settled`.
    Progress { stream: usize, settled: bool },
    /// Makes a call on the side.
    Call(Call),
    /// Waits until everything has come that has to, and compares.
    Settle,
}

/// A watch to be asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) id: Id,
    pub(crate) start: Start,
    pub(crate) key: Bytes,
    pub(crate) range_end: Bytes,
    pub(crate) filters: Vec<i32>,
    pub(crate) prev_kv: bool,
    pub(crate) fragment: bool,
    pub(crate) progress_notify: bool,
}

/// The id a watch is to have.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Id {
    /// One of the server's choice.
    Any,
    /// A small number, which may be in the way of the server's own choices.
    Small(i64),
    /// One that the stream hasn't seen.
    New,
    /// That of a watch that is there.
    Taken(usize),
    /// That of a watch that was cancelled.
    Again(usize),
    /// A negative one.
    Negative,
}

/// The revision a watch is to start at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    Now,
    /// This far before the newest revision.
    Past(i64),
    /// This far from the last compaction.
    Compaction(i64),
    /// This far after the newest revision.
    Future(i64),
    /// This very number.
    Number(i64),
}

/// The watch that a cancel is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// One that is there.
    Known(usize),
    /// The last one whose id was chosen, answered or not.
    LastChosen,
    /// None at all.
    Nobody,
}

/// A call on the side.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    /// Compacts up to this far before the newest revision.
    Compact(i64),
    Grant(i64),
    Revoke(i64),
    /// Puts one key so many times, all with one value, so that their order makes no difference.
    Repeat(PutRequest, usize),
}

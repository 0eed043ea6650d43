//! Peers that are no lawful etcd: scripted servers of TCP, HTTP/2 and gRPC, on the simulated network.
//!
//! Each case is a row of a table: a name, a script, and what becomes of the client. It runs twice. First the peer is alone,
//! for a minute of virtual time: the client may believe nothing that the store doesn't have, as far as it can tell, and may
//! not open more connections, make more calls, log more, be polled more or hold more memory than the case's bounds. Then
//! a lawful member serves at the same address, and the client has to come right. The second time a lawful member is there
//! beside the peer: the client has to come right though the peer stays as it is.
//!
//! | files | what the client does |
//! |---|---|
//! | `tcp`, `violations`, `codes`, `watches` (and `case`) | watches a key |
//! | `pages`, `streams` (and `lists`) | mirrors and caches a range |
//! | `calls` | makes calls |
//! | `leases` | keeps a session |
//! | `tokens` | reads and watches as a user |
//! | `members` | takes its endpoints from the member list |
//! | `statuses` | asks members how they are |
//!
//! `HOSTILE_PEERS_FIGURES=1` prints what each case took. `HOSTILE_PEERS_ONLY=text` runs the cases whose names have it.

#![allow(clippy::print_stdout, reason = "what the cases took is told")]

mod calls;
mod case;
mod codes;
mod figures;
mod grpc;
mod lawful;
mod leases;
mod lists;
mod log;
mod members;
mod pages;
mod peer;
mod raw;
mod statuses;
mod streams;
mod tcp;
mod tokens;
mod violations;
mod watches;

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

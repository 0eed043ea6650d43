//! Peers that are no lawful etcd: scripted servers of TCP, HTTP/2 and gRPC, on the simulated network.
//!
//! Each case is a row of a table: a name, a script, and what becomes of the client. It runs twice. First the peer is alone:
//! for a minute of virtual time it does as scripted, and the client may deliver nothing that the store's history doesn't
//! have, may not open more connections, log more, be polled more or hold more memory than the case's bounds; then a
//! lawful member serves at the same address, and the watch has to come right. The second time a lawful member is there
//! beside the peer: the watch and a read have to come right though the peer stays as it is.
//!
//! `HOSTILE_PEERS_FIGURES=1` prints what each case took. `HOSTILE_PEERS_ONLY=text` runs the cases whose names have it.

#![allow(clippy::print_stdout, reason = "what the cases took is told")]

mod calls;
mod case;
mod codes;
mod grpc;
mod log;
mod raw;
mod tcp;
mod violations;
mod watches;

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

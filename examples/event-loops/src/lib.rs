//! What the two loops of this crate share: everything between `etcd-watch-core` and HTTP/2 that needs
//! neither a socket nor a clock's timer.
//!
//! | file | what it owns |
//! |---|---|
//! | `args` | the command line |
//! | `endpoints` | which endpoint is next |
//! | `call` | one gRPC call on an HTTP/2 connection, polled |
//! | `timeouts` | how long the network may take |
//! | `clock` | the machine's time |
//! | `output` | the consumer: prints what watches deliver |
//!
//! The loops are programs: `readiness-loop` waits for sockets with `mio`, `io-uring-loop` lets
//! `compio` complete its reads and writes. `docs/embedding-the-core.md` walks through them.

pub mod args;
pub mod call;
pub mod clock;
pub mod endpoints;
pub mod output;
pub mod timeouts;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/embedding-the-core.md")]
mod embedding_the_core {}

//! What is built on watches, mirrors and calls, by what every user of the crate can use; besides that there are only the
//! tools without a network: `sync`, and the pauses of `runtime`.

pub mod cache;
pub mod concurrency;
pub mod config;
#[cfg(feature = "discovery")]
pub mod discovery;

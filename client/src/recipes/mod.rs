//! What is built on watches and calls, by way of what every user of the crate can use.

pub mod cache;
pub mod concurrency;
pub mod config;
#[cfg(feature = "discovery")]
pub mod discovery;
pub(crate) mod mirror;

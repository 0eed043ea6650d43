//! The calls whose instructions and allocations `benches/counts.rs` counts: `cargo xtask counts`.

pub mod decode;
pub mod machine;
mod server;
pub mod workload;

pub use server::{Machine, of_streams, of_watches};

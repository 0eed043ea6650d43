//! What the programs of the bench share.

pub mod meter;
pub mod usage;

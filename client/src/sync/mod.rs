//! State that tasks share, and wait for.

mod latch;
mod lock;
mod watchable;

pub(crate) use latch::Latch;
pub(crate) use lock::lock;
pub(crate) use watchable::Watchable;

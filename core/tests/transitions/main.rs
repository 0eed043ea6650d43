//! Every transition of the machine, one theme a file, from outside.

mod creating;
mod ending;
mod events;
mod from_now;
mod misbehaving;
mod overflow;
mod progress;
mod streams;
#[path = "../support/mod.rs"]
mod support;

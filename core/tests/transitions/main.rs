//! Every transition of the machine, one theme a file, from outside.

mod catching_up;
mod changes;
mod creating;
mod deaf;
mod ending;
mod events;
mod from_now;
mod misbehaving;
mod moving;
mod overflow;
mod progress;
mod status;
mod store;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod users;

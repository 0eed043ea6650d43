//! Inputs that once had a wrong outcome, one theme a file, from outside: what happens is bounded, how it is
//! reached is not said.

mod answers;
mod budget;
mod cost;
mod lag;
mod many;
mod memory;
mod mirror;
mod progress;
mod reads;
mod reconnects;
#[path = "../support/mod.rs"]
mod support;
mod too_large;
mod words;
mod world;

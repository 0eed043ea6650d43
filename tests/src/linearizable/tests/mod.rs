//! Each rule is found broken where exactly that rule is broken, and nothing else is; what is lawful is accepted.

mod leases;
mod random;
mod reads;
mod rules;
mod story;

use story::{Story, delete, get, put, serializable, txn};

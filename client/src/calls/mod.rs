//! Calls: what they may be, how often they are tried and where, and the leases that calls keep alive.

pub(crate) mod answers;
pub(crate) mod attempts;
#[cfg(feature = "metrics")]
mod attributes;
mod call;
pub(crate) mod compare;
pub(crate) mod conditional;
pub(crate) mod end;
pub(crate) mod judge;
pub(crate) mod keeper;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod limits;
pub(crate) mod lists;
pub(crate) mod member;
#[cfg(feature = "metrics")]
mod metrics;
mod observation;
pub(crate) mod options;
mod outcome;
pub(crate) mod telemetry;
pub(crate) mod term;
pub(crate) mod txn;

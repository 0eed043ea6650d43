//! The members of a cluster: where they are, which of them to use, and the connections to them.

pub(crate) mod dialer;
pub(crate) mod endpoint;
pub(crate) mod endpoints;
pub(crate) mod members;
pub(crate) mod pool;

//! The members of a cluster: their addresses, how they are doing, and the list of them that the cluster has.

pub(crate) mod endpoint;
pub(crate) mod endpoints;
pub(crate) mod members;

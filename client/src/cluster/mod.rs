//! The members of a cluster: their addresses, how they are doing, and the list of them that the cluster has.
//!
//! | file | owns |
//! |---|---|
//! | `dialer` | connects to the first endpoint that is up |
//! | `aside` | connections to members without a leader, to be used again |
//! | `pool` | the connection that calls share |
//! | `pulse` | what was heard of the members last |
//! | `list` | the endpoints that are tried, and in which order |
//! | `endpoints` | that list, shared and logged |
//! | `advertised` | which addresses of the member list are accepted |
//! | `member_list` | what is read of the member list, and what is left out |

pub(crate) mod advertised;
pub(crate) mod aside;
pub(crate) mod dialer;
pub(crate) mod endpoints;
pub(crate) mod list;
pub(crate) mod member_list;
pub(crate) mod pool;
pub(crate) mod pulse;

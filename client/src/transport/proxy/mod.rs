//! Connections by way of an HTTP proxy: which proxy, for which endpoints, and the CONNECT request that opens a tunnel.
//!
//! | file | owns |
//! |---|---|
//! | `settings` | what an application says, and what the environment says if the application says nothing |
//! | `exceptions` | the hosts that are connected to without the proxy |
//! | `via` | a proxy whose URL has been checked |
//! | `tunnel` | the CONNECT request, and what its answers mean |

mod error;
mod exceptions;
mod settings;
pub(super) mod tunnel;
mod via;

pub use error::ProxyError;
pub use settings::Proxy;
pub(crate) use settings::{Detour, Proxying};
pub(super) use via::Via;

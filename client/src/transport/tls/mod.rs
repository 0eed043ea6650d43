//! TLS: settings, and what is made of them for each connection.

mod connector;
mod error;
mod explain;
mod given;
mod identity;
mod pem;
mod provider;
mod settings;
mod socket;
mod system;

pub(crate) use connector::TlsConnector;
pub(crate) use connector::TlsSession;
pub use error::TlsError;
pub(crate) use explain::explain;
pub use settings::Tls;

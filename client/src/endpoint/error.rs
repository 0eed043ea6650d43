//! Why an endpoint can't be used.

use std::path::PathBuf;

use etcd_watch_core::printable;

/// The text is no endpoint that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The text is no endpoint at all.
    #[error("endpoint {endpoint:?} is malformed: {reason}")]
    Malformed {
        /// The text, without a password it may have held.
        endpoint: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The scheme is none of `http`, `https`, `unix` and `unixs`.
    #[error("endpoint {endpoint:?}: scheme {scheme:?} is not supported: use http, https, unix or unixs")]
    UnsupportedScheme {
        /// The text, without a password it may have held.
        endpoint: String,
        /// Its scheme.
        scheme: String,
    },
    /// There is no such unix socket.
    #[error("endpoint {endpoint}: no socket at {}: {problem}; is the server running, and does it listen there?", printable(.path.display().to_string()))]
    NoSocket {
        /// The endpoint.
        endpoint: String,
        /// The path.
        path: PathBuf,
        /// What was found there.
        problem: String,
    },
    /// The endpoint says `https` or `unixs`, and the client has no TLS: the crate was built without it, or the endpoint
    /// came up later and the client was built without TLS settings.
    #[error(
        "endpoint {endpoint}: the client has no TLS: enable the feature tls-ring or tls-aws-lc, and set tls"
    )]
    NoTls {
        /// The endpoint.
        endpoint: String,
    },
    /// TLS settings were given, and the endpoint is `http`.
    #[error(
        "endpoint {endpoint} would be talked to over the network without TLS, and tls was set: write https://, or leave tls out"
    )]
    NotTls {
        /// The endpoint.
        endpoint: String,
    },
    /// A member advertises an address that is not like the endpoints that the client was given, see
    /// [`Advertised`](crate::Advertised).
    #[error("endpoint {endpoint} is not like those given: {reason}")]
    NotLikeGiven {
        /// The endpoint.
        endpoint: String,
        /// What is different.
        reason: &'static str,
    },
}

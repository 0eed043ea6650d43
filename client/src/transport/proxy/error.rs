//! What can be wrong with the URL of a proxy.

/// The URL of a proxy can't be used. Each names the option or the variable that it comes from; nothing has been
/// connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The text is no URL of a proxy.
    #[error(
        "{option}: {proxy:?} is no proxy: {reason}; write http://host:port or http://user:password@host:port"
    )]
    Malformed {
        /// The option `proxy`, or the variable of the environment.
        option: &'static str,
        /// The text, without a password that it may have held.
        proxy: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The proxy is of another kind than HTTP.
    #[error(
        "{option}: {proxy:?} is a proxy of the kind {scheme:?}, which is not supported: give an HTTP proxy (http://host:port), connect by a connector of your own, or leave the proxy out with no_proxy"
    )]
    UnsupportedScheme {
        /// The option `proxy`, or the variable of the environment.
        option: &'static str,
        /// The text, without a password that it may have held.
        proxy: String,
        /// Its scheme.
        scheme: String,
    },
}

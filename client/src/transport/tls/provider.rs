//! Which cryptography is used.

use std::sync::Arc;

use rustls::{SignatureScheme, crypto::CryptoProvider};

use super::TlsError;

/// The one that the process has installed, or else the one that is built in.
pub(super) fn provider() -> Result<Arc<CryptoProvider>, TlsError> {
    if let Some(installed) = CryptoProvider::get_default() {
        return Ok(installed.clone());
    }
    #[cfg(feature = "tls-aws-lc")]
    return Ok(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    #[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
    return Ok(Arc::new(rustls::crypto::ring::default_provider()));
    #[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc")))]
    Err(TlsError::NoProvider)
}

/// What to do about a key that the provider can't use.
pub(super) fn usable_keys(provider: &CryptoProvider) -> &'static str {
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    if schemes.contains(&SignatureScheme::ECDSA_NISTP521_SHA512) {
        "give an RSA, ECDSA or Ed25519 key"
    } else {
        "give an RSA, ECDSA (P-256 or P-384) or Ed25519 key; P-521 needs the feature tls-aws-lc"
    }
}

/// All that are built in.
#[cfg(test)]
pub(super) fn built_in() -> Vec<Arc<CryptoProvider>> {
    vec![
        #[cfg(feature = "tls-ring")]
        Arc::new(rustls::crypto::ring::default_provider()),
        #[cfg(feature = "tls-aws-lc")]
        Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
    ]
}

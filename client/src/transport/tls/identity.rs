//! The client's own certificate, with the key that proves it.

use rustls::{
    InconsistentKeys,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use x509_cert::{
    Certificate,
    der::{Decode, Encode},
};

/// A certificate and a key that can't be shown to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum IdentityError {
    /// The cryptography can't sign with a key of this kind.
    Key(String),
    /// The certificate can't be read.
    Certificate(String),
    /// The key is another certificate's.
    Mismatch,
}

/// The certificate and its key, which are a pair.
///
/// It is for the server to judge the certificate. All that is read here is its public key, and so it may be
/// of version 1, which rustls refuses.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, IdentityError> {
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|error| IdentityError::Key(error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(IdentityError::Mismatch),
        Err(_) if has_its_public_key(&certified)? => Ok(certified),
        Err(_) => Err(IdentityError::Mismatch),
    }
}

/// Whether the key is the one that the certificate, of any version, is for.
fn has_its_public_key(certified: &CertifiedKey) -> Result<bool, IdentityError> {
    let unreadable = |error: String| IdentityError::Certificate(error);
    let certificate = certified.end_entity_cert().map_err(|error| unreadable(error.to_string()))?;
    let certificate = Certificate::from_der(certificate).map_err(|error| unreadable(error.to_string()))?;
    let certified_key = certificate.tbs_certificate().subject_public_key_info().to_der();
    let certified_key = certified_key.map_err(|error| unreadable(error.to_string()))?;
    // A provider that can't tell a key's public half leaves it to the server to find out.
    Ok(certified.key.public_key().is_none_or(|own| own.as_ref() == certified_key))
}

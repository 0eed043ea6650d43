//! The key that signs tokens.

use std::fmt;

use rcgen::KeyPair;

/// A key pair for signed tokens, as PEM. etcd takes the private half as PKCS#8, in 3.4 too.
#[derive(Clone)]
pub(super) struct JwtKey {
    pub(super) private_pem: String,
    pub(super) public_pem: String,
}

impl JwtKey {
    pub(super) fn generate() -> Self {
        let key = KeyPair::generate().expect("the system has random numbers");
        Self { private_pem: key.serialize_pem(), public_pem: key.public_key_pem() }
    }
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey").finish_non_exhaustive()
    }
}

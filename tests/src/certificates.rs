//! Certificate authorities for tests, and certificates that are good or bad in a known way.
//!
//! A [`TestCa`] is made anew each time, in a millisecond; two of them know nothing of each other. What it issues is an
//! [`Identity`]: a certificate, its key (ECDSA P-256, PKCS#8) and the authority to verify it with, all as PEM.
//!
//! ```
//! use etcd_watch_testkit::certificates::{TestCa, Validity};
//!
//! let ca = TestCa::new();
//! let server = ca.server(["localhost", "127.0.0.1"]);
//! let expired = ca.server_with(["127.0.0.1"], Validity::Expired);
//! let client = ca.client("alice");
//! assert_eq!(client.ca_pem(), ca.pem());
//! assert_ne!(TestCa::new().pem(), ca.pem());
//! # let _ = (server, expired);
//! ```

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

pub use rcgen::ExtendedKeyUsagePurpose;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// Why the library can't fail here: it is given names that are ASCII, and keys it has made itself.
const SOUND: &str = "a certificate with a sound name and a fresh key can be made";

/// A certificate authority of a test's own.
pub struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validity {
    /// Since 2020, for a century.
    #[default]
    Valid,
    /// It was, in the year 2000.
    Expired,
    /// It will be, from 2110 on.
    NotYet,
}

impl TestCa {
    /// A new authority, with a key that no other has.
    ///
    /// # Panics
    /// If the system has no random numbers.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        let name = format!("test authority {:08x}", fastrand::u32(..));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Validity::Valid.write_to(&mut params);
        let key = KeyPair::generate().expect(SOUND);
        let pem = params.self_signed(&key).expect(SOUND).pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Its own certificate: what a peer has to trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server's certificate for these names and IP addresses: `["localhost", "127.0.0.1"]`. A client that dials by
    /// another name has to refuse it.
    ///
    /// It does for a client too, since etcd uses its server certificate when it dials itself.
    ///
    /// # Panics
    /// If a name is not ASCII.
    pub fn server<N: Into<String>>(&self, names: impl IntoIterator<Item = N>) -> Identity {
        self.server_with(names, Validity::Valid)
    }

    /// The same, valid or not.
    ///
    /// # Panics
    /// If a name is not ASCII.
    pub fn server_with<N: Into<String>>(
        &self,
        names: impl IntoIterator<Item = N>,
        validity: Validity,
    ) -> Identity {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let common_name = names.first().cloned().unwrap_or_default();
        let uses = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&common_name, names, &uses, validity)
    }

    /// A client's certificate. etcd takes the common name for the user where authentication is on and no token is
    /// sent.
    pub fn client(&self, common_name: &str) -> Identity {
        self.client_with(common_name, Validity::Valid)
    }

    /// The same, valid or not.
    pub fn client_with(&self, common_name: &str, validity: Validity) -> Identity {
        self.issue(common_name, Vec::new(), &[ExtendedKeyUsagePurpose::ClientAuth], validity)
    }

    fn issue(
        &self,
        common_name: &str,
        names: Vec<String>,
        uses: &[ExtendedKeyUsagePurpose],
        validity: Validity,
    ) -> Identity {
        let mut params = CertificateParams::new(names).expect(SOUND);
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = uses.to_vec();
        params.use_authority_key_identifier_extension = true;
        validity.write_to(&mut params);
        let key = KeyPair::generate().expect(SOUND);
        let certificate = params.signed_by(&key, &self.issuer).expect(SOUND);
        Identity {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            ca_pem: self.pem.clone(),
        }
    }
}

/// A server's certificate that nobody else has issued: its own authority, as `openssl req -x509` makes it (`CA:TRUE`).
/// For these purposes only, or for every purpose if none is given.
///
/// # Panics
/// If a name is not ASCII.
pub fn self_signed(names: &[&str], purposes: &[ExtendedKeyUsagePurpose], validity: Validity) -> Identity {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect(SOUND);
    params.distinguished_name.push(DnType::CommonName, "self-signed");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.extended_key_usages = purposes.to_vec();
    validity.write_to(&mut params);
    let key = KeyPair::generate().expect(SOUND);
    let certificate = params.self_signed(&key).expect(SOUND);
    Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem(), ca_pem: certificate.pem() }
}

/// A client's certificate of X.509 version 1, with an RSA key, made by OpenSSL; of the name `someone`.
pub fn version_1_client() -> Identity {
    Identity {
        certificate_pem: include_str!("../fixtures/certificates/client-v1.pem").to_owned(),
        key_pem: include_str!("../fixtures/certificates/client-v1-key.pem").to_owned(),
        ca_pem: FIXTURE_CA.to_owned(),
    }
}

/// A client's certificate with a P-521 key, made by OpenSSL; of the name `someone`.
pub fn p521_client() -> Identity {
    Identity {
        certificate_pem: include_str!("../fixtures/certificates/client-p521.pem").to_owned(),
        key_pem: include_str!("../fixtures/certificates/client-p521-key.pem").to_owned(),
        ca_pem: FIXTURE_CA.to_owned(),
    }
}

const FIXTURE_CA: &str = include_str!("../fixtures/certificates/ca.pem");

impl Default for TestCa {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TestCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestCa").finish_non_exhaustive()
    }
}

impl Validity {
    fn write_to(self, params: &mut CertificateParams) {
        let (from, to) = match self {
            Self::Valid => (2020, 2120),
            Self::Expired => (2000, 2001),
            Self::NotYet => (2110, 2120),
        };
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
    }
}

/// A certificate with its key, and the authority it can be verified with.
#[derive(Clone)]
pub struct Identity {
    certificate_pem: String,
    key_pem: String,
    ca_pem: String,
}

impl Identity {
    /// The certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its private key, as PKCS#8.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The certificate of the authority that issued it.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Writes `{name}.crt`, `{name}.key` and `{name}-ca.crt` into a directory.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn write(&self, directory: &Path, name: &str) -> io::Result<IdentityFiles> {
        let files = IdentityFiles {
            certificate: directory.join(format!("{name}.crt")),
            key: directory.join(format!("{name}.key")),
            ca: directory.join(format!("{name}-ca.crt")),
        };
        fs::write(&files.certificate, &self.certificate_pem)?;
        fs::write(&files.key, &self.key_pem)?;
        fs::write(&files.ca, &self.ca_pem)?;
        Ok(files)
    }
}

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Where an [`Identity`] was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificate of the authority that issued it.
    pub ca: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_pkcs8_and_in_no_debug_output() {
        let ca = TestCa::new();
        let identity = ca.client("alice");
        assert!(identity.key_pem().starts_with("-----BEGIN PRIVATE KEY-----"), "not PKCS#8");
        let secret = identity.key_pem().lines().nth(1).expect("a key has a body");
        let shown = format!("{identity:?} {ca:?}");
        assert!(!shown.contains(secret) && !shown.contains("PRIVATE"), "{shown}");
    }

    #[test]
    fn every_authority_and_every_certificate_has_a_key_of_its_own() {
        let (first, second) = (TestCa::new(), TestCa::new());
        assert_ne!(first.pem(), second.pem());
        let (one, other) = (first.client("alice"), first.client("alice"));
        assert_ne!(one.key_pem(), other.key_pem());
        assert_eq!(one.ca_pem(), other.ca_pem());
    }

    #[test]
    fn what_is_written_is_what_was_issued() {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let identity = TestCa::new().server(["localhost", "127.0.0.1"]);
        let files = identity.write(directory.path(), "server").expect("files can be written");
        let read = |path: &Path| fs::read_to_string(path).expect("the file is there");
        assert_eq!(read(&files.certificate), identity.certificate_pem());
        assert_eq!(read(&files.key), identity.key_pem());
        assert_eq!(read(&files.ca), identity.ca_pem());
    }
}

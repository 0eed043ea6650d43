//! What an application can say about TLS.

use std::{
    env,
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DEFAULT_VERSIONS, KeyLogFile, RootCertStore, SupportedProtocolVersion,
    client::WebPkiServerVerifier,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use super::{
    TlsError,
    given::GivenVerifier,
    identity::{self, IdentityError},
    pem::{Pem, Use},
    provider::{self, provider},
    system,
};

/// The variable that names a file for secrets, as browsers and curl have it.
const KEY_LOG: &str = "SSLKEYLOGFILE";

const ONLY_1_3: &[&SupportedProtocolVersion] = &[&TLS13];

/// TLS settings of a client. By default: the system's root certificates, no client certificate, and the
/// endpoint's host as the name the server's certificate must have; of a unix socket, the name of its file up
/// to a colon.
///
/// Files are read when the client is built, so that a mistake shows at once, and again before a
/// connection is made if they have changed meanwhile: rotated certificates need no restart.
///
/// ```
/// use etcd_watch_client::Tls;
///
/// let tls = Tls::new()
///     .ca_file("/etc/etcd/ca.pem")
///     .identity_files("/etc/etcd/client.pem", "/etc/etcd/client-key.pem")
///     .server_name("etcd.internal");
/// # let _ = tls;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Tls {
    roots: Vec<Pem>,
    identity: Option<(Pem, Pem)>,
    server_name: Option<String>,
    custom: Option<Arc<ClientConfig>>,
    is_1_3_only: bool,
    logs_keys: bool,
}

impl Tls {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Exactly this configuration, for what these settings don't cover. ALPN is set to HTTP/2 on it. Only
    /// [`server_name`](Self::server_name) is heeded beside it.
    pub fn from_rustls(config: impl Into<Arc<ClientConfig>>) -> Self {
        Self { custom: Some(config.into()), ..Self::default() }
    }

    /// Trust the certificates in this PEM text, rather than the system's roots. Can be said more than once.
    ///
    /// A server may show a certificate that an authority among them has issued, or one of them itself: a
    /// self-signed certificate needs no authority beside it. Its name, its period of validity and its
    /// purpose are verified all the same.
    pub fn ca_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.roots.push(Pem::Given(pem.as_ref().into()));
        self
    }

    /// Trust the certificates in this PEM file, as [`ca_pem`](Self::ca_pem) does. Can be said more than once.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots.push(Pem::File(path.into()));
        self
    }

    /// Show the server this certificate (with the chain to its root, if there are any between) and prove
    /// it with this key; both PEM text.
    ///
    /// The server alone judges the certificate, which may be of X.509 version 1. The key must not be
    /// encrypted, and the cryptography must be able to sign with it: aws-lc-rs can with RSA, ECDSA (P-256,
    /// P-384, P-521) and Ed25519; ring can't with P-521.
    pub fn identity_pem(mut self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.identity = Some((Pem::Given(certificate.as_ref().into()), Pem::Given(key.as_ref().into())));
        self
    }

    /// Show the server the certificate in this PEM file, and prove it with the key in that one, as
    /// [`identity_pem`](Self::identity_pem) does.
    pub fn identity_files(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((Pem::File(certificate.into()), Pem::File(key.into())));
        self
    }

    /// The name the server's certificate must have, if it isn't that of the endpoint. The member list and
    /// the requests go on naming the host.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Speak TLS 1.3 only. Default: 1.3, or 1.2 with servers that don't have 1.3.
    pub fn tls_1_3_only(mut self) -> Self {
        self.is_1_3_only = true;
        self
    }

    /// Write the secrets of every connection to the file that the environment variable `SSLKEYLOGFILE` names, for
    /// Wireshark and the like: with them all that goes over the connection can be read. The client warns of it in its log.
    /// Where the variable is not set, or set to nothing, nothing is written. Default: the variable is not heeded.
    ///
    /// A file that isn't there is made so that only its owner can read it.
    pub fn key_log_from_env(mut self) -> Self {
        self.logs_keys = true;
        self
    }

    pub(super) fn name(&self) -> Result<Option<ServerName<'static>>, TlsError> {
        let parse = |name: &String| ServerName::try_from(name.clone());
        let bad = |_| TlsError::ServerName { name: self.server_name.clone().unwrap_or_default() };
        self.server_name.as_ref().map(parse).transpose().map_err(bad)
    }

    pub(super) fn load(&self) -> Result<ClientConfig, TlsError> {
        let mut config = match &self.custom {
            Some(config) => ClientConfig::clone(config),
            None => self.load_with(provider()?)?,
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        if self.key_log_path().is_some() {
            config.key_log = Arc::new(KeyLogFile::new());
        }
        Ok(config)
    }

    /// Where secrets are written to, if they are. Settings of rustls' own say that themselves.
    fn key_log_path(&self) -> Option<PathBuf> {
        let is_wanted = self.logs_keys && self.custom.is_none();
        env::var_os(KEY_LOG).filter(|path| is_wanted && !path.is_empty()).map(PathBuf::from)
    }

    /// Sees to it that secrets can be written, if they are to be; where that is.
    pub(super) fn prepare_key_log(&self) -> Result<Option<PathBuf>, TlsError> {
        let Some(path) = self.key_log_path() else { return Ok(None) };
        let mut options = fs::OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&path) {
            Ok(_) => Ok(Some(path)),
            Err(error) => Err(TlsError::KeyLog { path, problem: error.to_string() }),
        }
    }

    pub(super) fn load_with(&self, provider: Arc<CryptoProvider>) -> Result<ClientConfig, TlsError> {
        let settings = |error: &dyn Display| TlsError::Settings { problem: error.to_string() };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(if self.is_1_3_only { ONLY_1_3 } else { DEFAULT_VERSIONS })
            .map_err(|error| settings(&error))?;
        let builder = if self.roots.is_empty() {
            builder.with_root_certificates(system_roots()?)
        } else {
            let (given, roots) = self.given_roots()?;
            let by_roots = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
            let by_roots = by_roots.build().map_err(|error| settings(&error))?;
            let verifier = Arc::new(GivenVerifier::new(given, by_roots));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        };
        Ok(match &self.identity {
            Some((certificate, key)) => {
                let certified = load_identity(certificate, key, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            None => builder.with_no_client_auth(),
        })
    }

    /// The certificates that were given to be trusted, and what they are as roots.
    fn given_roots(&self) -> Result<(Vec<CertificateDer<'static>>, RootCertStore), TlsError> {
        let (mut given, mut roots) = (Vec::new(), RootCertStore::empty());
        for root in &self.roots {
            for certificate in root.certificates(Use::Root)? {
                roots.add(certificate.clone()).map_err(|error| TlsError::Unusable {
                    option: Use::Root.option(root),
                    file: root.to_string(),
                    problem: error.to_string(),
                })?;
                given.push(certificate);
            }
        }
        Ok((given, roots))
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let identity = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.roots.iter().chain(identity).filter_map(Pem::path)
    }
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    let found = system::certificates();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let problem = found.errors.first().map_or_else(|| "there are none".into(), ToString::to_string);
        return Err(TlsError::NoSystemRoots { problem });
    }
    Ok(store)
}

fn load_identity(certificate: &Pem, key: &Pem, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let option = Use::Identity.option(certificate);
    let unusable = |pem: &Pem, problem| TlsError::Unusable { option, file: pem.to_string(), problem };
    let chain = certificate.certificates(Use::Identity)?;
    identity::certified(chain, key.key()?, provider).map_err(|error| match error {
        IdentityError::Key(problem) => {
            unusable(key, format!("{problem}; {}", provider::usable_keys(provider)))
        }
        IdentityError::Certificate(problem) => unusable(certificate, problem),
        IdentityError::Mismatch => {
            TlsError::KeyMismatch { option, certificate: certificate.to_string(), key: key.to_string() }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::TlsConnector;
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused_by_option_and_file() {
        let missing = TlsConnector::new(Tls::new().ca_file("/nonexistent/ca.pem")).unwrap_err();
        assert!(matches!(missing, TlsError::Unreadable { option: "ca_file", .. }), "{missing}");
        let empty = TlsConnector::new(Tls::new().ca_pem("nothing here")).unwrap_err();
        assert!(matches!(empty, TlsError::Unusable { option: "ca_pem", .. }), "{empty}");
    }

    #[test]
    fn a_key_given_as_text_is_not_shown() {
        let tls = Tls::new().identity_pem("certificate", "s3cret");
        assert!(!format!("{tls:?}").contains("s3cret"));
        assert!(!format!("{tls:?}").contains("115, 51"), "nor as bytes");
    }

    /// Made by OpenSSL: `tests/fixtures/certificates/README.md` tells how.
    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../../../../tests/fixtures/certificates/", $name))
        };
    }

    #[test]
    fn a_certificate_of_version_1_goes_with_its_own_key_only() {
        let own = fixture!("client-v1.pem");
        for provider in provider::built_in() {
            let load = |key| Tls::new().ca_pem(own).identity_pem(own, key).load_with(provider.clone());
            assert!(load(fixture!("client-v1-key.pem")).unwrap().client_auth_cert_resolver.has_certs());
            let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
            let refused = load(&other).unwrap_err();
            assert!(matches!(refused, TlsError::KeyMismatch { option: "identity_pem", .. }), "{refused}");
        }
    }

    #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
    #[test]
    fn a_p521_key_is_taken_or_the_feature_that_takes_it_is_named() {
        let tls = || {
            Tls::new()
                .ca_pem(fixture!("ca.pem"))
                .identity_pem(fixture!("client-p521.pem"), fixture!("client-p521-key.pem"))
        };
        #[cfg(feature = "tls-aws-lc")]
        assert!(tls().load_with(Arc::new(rustls::crypto::aws_lc_rs::default_provider())).is_ok());
        #[cfg(feature = "tls-ring")]
        {
            let refused = tls().load_with(Arc::new(rustls::crypto::ring::default_provider())).unwrap_err();
            assert!(refused.to_string().contains("P-521 needs the feature tls-aws-lc"), "{refused}");
        }
    }
}

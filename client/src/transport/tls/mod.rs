//! TLS: settings, and what is made of them for each connection.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::SystemTime,
};

use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem, pem::PemObject},
};

use hyper_util::rt::TokioIo;

use super::error::ConnectError;
use crate::{Address, Endpoint, runtime::Io, sync::lock};

/// TLS settings of a client. By default: the system's root certificates, no client certificate, and the
/// endpoint's host as the name the server's certificate must have.
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
}

/// PEM text, or where it is.
#[derive(Clone)]
enum Pem {
    Given(Arc<[u8]>),
    File(PathBuf),
}

impl fmt::Debug for Pem {
    /// It may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
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
    pub fn ca_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.roots.push(Pem::Given(pem.as_ref().into()));
        self
    }

    /// Trust the certificates in this PEM file, rather than the system's roots. Can be said more than once.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots.push(Pem::File(path.into()));
        self
    }

    /// Show the server this certificate (with the chain to its root, if there are any between) and prove
    /// it with this key; both PEM text.
    pub fn identity_pem(mut self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.identity = Some((Pem::Given(certificate.as_ref().into()), Pem::Given(key.as_ref().into())));
        self
    }

    /// Show the server the certificate in this PEM file, and prove it with the key in that one.
    pub fn identity_files(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((Pem::File(certificate.into()), Pem::File(key.into())));
        self
    }

    /// The name the server's certificate must have, if it isn't the endpoint's host. The member list and
    /// the requests go on naming the host.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    fn name(&self) -> Result<Option<ServerName<'static>>, TlsError> {
        let parse = |name: &String| ServerName::try_from(name.clone());
        let bad = |_| TlsError::ServerName { name: self.server_name.clone().unwrap_or_default() };
        self.server_name.as_ref().map(parse).transpose().map_err(bad)
    }

    fn load(&self) -> Result<ClientConfig, TlsError> {
        let mut config = match &self.custom {
            Some(config) => ClientConfig::clone(config),
            None => self.load_settings()?,
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    fn load_settings(&self) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider()?)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Settings { problem: error.to_string() })?
            .with_root_certificates(self.load_roots()?);
        let Some((certificate, key)) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let chain = certificate.certificates(Use::Identity)?;
        let option = Use::Identity.option(certificate);
        builder.with_client_auth_cert(chain, key.key()?).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::KeyMismatch { option, certificate: certificate.to_string(), key: key.to_string() }
            }
            error => TlsError::Unusable {
                option,
                file: format!("{certificate} with {key}"),
                problem: error.to_string(),
            },
        })
    }

    fn load_roots(&self) -> Result<RootCertStore, TlsError> {
        let mut store = RootCertStore::empty();
        if self.roots.is_empty() {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                let problem =
                    found.errors.first().map_or_else(|| "there are none".into(), ToString::to_string);
                return Err(TlsError::NoSystemRoots { problem });
            }
        }
        for root in &self.roots {
            for certificate in root.certificates(Use::Root)? {
                store.add(certificate).map_err(|error| TlsError::Unusable {
                    option: Use::Root.option(root),
                    file: root.to_string(),
                    problem: error.to_string(),
                })?;
            }
        }
        Ok(store)
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let identity = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.roots.iter().chain(identity).filter_map(|pem| match pem {
            Pem::File(path) => Some(path.as_path()),
            Pem::Given(_) => None,
        })
    }
}

/// What PEM text is for.
#[derive(Clone, Copy)]
enum Use {
    Root,
    Identity,
}

impl Use {
    /// The option that it was given with.
    fn option(self, pem: &Pem) -> &'static str {
        match (self, pem) {
            (Self::Root, Pem::Given(_)) => "ca_pem",
            (Self::Root, Pem::File(_)) => "ca_file",
            (Self::Identity, Pem::Given(_)) => "identity_pem",
            (Self::Identity, Pem::File(_)) => "identity_files",
        }
    }
}

impl Pem {
    fn text(&self, purpose: Use) -> Result<Arc<[u8]>, TlsError> {
        match self {
            Self::Given(text) => Ok(text.clone()),
            Self::File(path) => fs::read(path).map(Into::into).map_err(|error| TlsError::Unreadable {
                option: purpose.option(self),
                path: path.clone(),
                problem: error.to_string(),
            }),
        }
    }

    fn certificates(&self, purpose: Use) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let option = purpose.option(self);
        let unusable = |problem| TlsError::Unusable { option, file: self.to_string(), problem };
        let text = self.text(purpose)?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let found = found.map_err(|error| unusable(format!("it is no PEM file: {error}")))?;
        if found.is_empty() {
            return Err(unusable("it has no BEGIN CERTIFICATE in it; give the certificate as PEM".into()));
        }
        Ok(found)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let text = self.text(Use::Identity)?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| TlsError::Unusable {
            option: Use::Identity.option(self),
            file: self.to_string(),
            problem: match error {
                pem::Error::NoItemsFound => {
                    "it has no unencrypted PRIVATE KEY in it; decrypt it, or give the certificate's key"
                        .into()
                }
                error => format!("it is no PEM file: {error}"),
            },
        })
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("the PEM text given"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

fn provider() -> Result<Arc<CryptoProvider>, TlsError> {
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

/// TLS settings that can't be used. Each names the option and says what to do; nothing has been connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read.
    #[error(
        "tls {option}: can't read {}: {problem}; give {option} a PEM file that is there and that this process may read",
        .path.display()
    )]
    Unreadable {
        /// The option: `ca_file` or `identity_files`.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// A certificate or key is not what it should be.
    #[error("tls {option}: {file} can't be used: {problem}")]
    Unusable {
        /// The option: `ca_file`, `ca_pem`, `identity_files` or `identity_pem`.
        option: &'static str,
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The client certificate and the key are not a pair.
    #[error(
        "tls {option}: the key in {key} does not belong to the certificate in {certificate}; give {option} the key that the certificate was made for"
    )]
    KeyMismatch {
        /// The option: `identity_files` or `identity_pem`.
        option: &'static str,
        /// The certificate's file.
        certificate: String,
        /// The key's file.
        key: String,
    },
    /// The name is neither a DNS name nor an IP address.
    #[error(
        "tls server_name: {name:?} is neither a DNS name nor an IP address; give server_name a name that is in the server's certificate, without scheme and port"
    )]
    ServerName {
        /// The name.
        name: String,
    },
    /// The system has no root certificates.
    #[error(
        "tls: no root certificates of the system were found ({problem}): install them, or give the cluster's with ca_file"
    )]
    NoSystemRoots {
        /// What was in the way.
        problem: String,
    },
    /// No cryptography is built in or installed.
    #[error(
        "tls: no cryptography: enable the feature tls-ring or tls-aws-lc, or install a rustls CryptoProvider as the default"
    )]
    NoProvider,
    /// The settings contradict each other.
    #[error("tls: {problem}")]
    Settings {
        /// rustls' word for it.
        problem: String,
    },
}

/// Settings that have been checked, and the configuration made of them last.
#[derive(Clone)]
pub(crate) struct TlsConnector(Arc<Connector>);

struct Connector {
    settings: Tls,
    name: Option<ServerName<'static>>,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    config: Arc<ClientConfig>,
    stamps: Vec<Stamp>,
}

/// What tells that a file has changed.
type Stamp = Option<(SystemTime, u64)>;

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.settings.fmt(f)
    }
}

impl TlsConnector {
    pub(crate) fn new(settings: Tls) -> Result<Self, TlsError> {
        let stamps = stamps(&settings);
        let loaded = Loaded { config: Arc::new(settings.load()?), stamps };
        let name = settings.name()?;
        Ok(Self(Arc::new(Connector { settings, name, loaded: Mutex::new(loaded) })))
    }

    /// What to connect to the endpoint with.
    pub(crate) fn session(&self, endpoint: &Endpoint) -> Result<TlsSession, ConnectError> {
        let name = match (&self.0.name, endpoint.address()) {
            (Some(name), _) => name.clone(),
            (None, Address::Tcp { host, .. }) => {
                ServerName::try_from(host.to_owned()).map_err(ConnectError::new)?
            }
            (None, Address::Unix { .. }) => return Err(ConnectError::new("a unix socket has no TLS")),
        };
        Ok(TlsSession { config: self.config(), name })
    }

    fn config(&self) -> Arc<ClientConfig> {
        let settings = &self.0.settings;
        let stamps = stamps(settings);
        let mut loaded = lock(&self.0.loaded);
        if loaded.stamps != stamps {
            match settings.load() {
                Ok(config) => *loaded = Loaded { config: Arc::new(config), stamps },
                // Files are seldom replaced all at once: the next connection looks again.
                Err(error) => {
                    tracing::warn!(name: "tls_files_unusable", reason = %error, "changed TLS files can't be used yet")
                }
            }
        }
        loaded.config.clone()
    }
}

fn stamps(settings: &Tls) -> Vec<Stamp> {
    let stamp = |path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    settings.files().map(stamp).collect()
}

/// What it takes to put TLS on a socket.
#[derive(Clone, Debug)]
pub(crate) struct TlsSession {
    config: Arc<ClientConfig>,
    /// The name the server's certificate must have.
    name: ServerName<'static>,
}

impl TlsSession {
    /// Puts TLS on a connected socket.
    ///
    /// tokio-rustls and its adapter need tokio's traits of sockets, not its runtime.
    pub(super) async fn handshake(self, socket: Box<dyn Io>) -> Result<impl Io, ConnectError> {
        let connector = tokio_rustls::TlsConnector::from(self.config);
        let secured = connector.connect(self.name, TokioIo::new(socket)).await;
        Ok(TokioIo::new(secured.map_err(|error| ConnectError::tls(&error))?))
    }
}

/// The cause of a failed handshake, and what to do about it.
pub(crate) fn explain(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let remedy = match cause {
        Some(rustls::Error::InvalidCertificate(problem)) => match problem {
            CertificateError::UnknownIssuer => {
                "none of the trusted roots has signed the server's certificate; give the cluster's CA with ca_file"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired; renew it, or set this machine's clock"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet; set this machine's clock"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate has other names; connect by one of them, or give one with server_name"
            }
            _ => "the server's certificate can't be trusted",
        },
        Some(rustls::Error::InvalidMessage(_)) => "the server does not speak TLS here; is the endpoint http?",
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the server hung up in the handshake; is the endpoint http?"
        }
        _ => match super::error::alert_remedy(&error.to_string()) {
            Some(remedy) => remedy,
            None => return format!("TLS: {error}"),
        },
    };
    format!("TLS: {error}: {remedy}")
}

#[cfg(test)]
mod tests {
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
}

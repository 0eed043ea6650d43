//! Settings that have been checked, and the rustls configuration that connections are made with.

use std::{
    ffi::OsStr,
    fmt, fs,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use rustls::{ClientConfig, pki_types::ServerName};

use super::{
    super::error::ConnectError,
    Tls, TlsError,
    socket::{Plain, Secured},
};
use crate::{Address, Endpoint, runtime::Io, sync::lock};

/// What it takes to put TLS on a socket.
#[derive(Clone, Debug)]
pub(crate) struct TlsSession {
    config: Arc<ClientConfig>,
    /// The name the server's certificate must have.
    name: ServerName<'static>,
}

impl TlsSession {
    /// Puts TLS on a connected socket.
    pub(in super::super) async fn handshake(self, socket: Box<dyn Io>) -> Result<impl Io, ConnectError> {
        let connector = tokio_rustls::TlsConnector::from(self.config);
        let secured = connector.connect(self.name, Plain(socket)).await;
        Ok(Secured(secured.map_err(|error| ConnectError::tls(&error))?))
    }
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
    /// Of the files that the configuration is made of.
    stamps: Vec<Stamp>,
    /// Why the files that are there now can't be used, as the log was told.
    unusable: Option<TlsError>,
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
        // First, since older versions of rustls make a file that others can read.
        let key_log = settings.prepare_key_log()?;
        let stamps = stamps(&settings);
        let loaded = Loaded { config: Arc::new(settings.load()?), stamps, unusable: None };
        let name = settings.name()?;
        if let Some(path) = key_log {
            tracing::warn!(
                name: "tls_keys_written",
                path = %path.display(),
                "writing the secrets of TLS connections to a file: whoever reads it can read what they carry"
            );
        }
        Ok(Self(Arc::new(Connector { settings, name, loaded: Mutex::new(loaded) })))
    }

    /// What to connect to the endpoint with.
    pub(crate) fn session(&self, endpoint: &Endpoint) -> Result<TlsSession, ConnectError> {
        let name = match &self.0.name {
            Some(name) => name.clone(),
            None => name_of(endpoint.address())?,
        };
        Ok(TlsSession { config: self.config(), name })
    }

    fn config(&self) -> Arc<ClientConfig> {
        let settings = &self.0.settings;
        let stamps = stamps(settings);
        if let Some(config) = self.unchanged(&stamps) {
            return config;
        }
        match settings.load() {
            Ok(config) => {
                let config = Arc::new(config);
                let loaded = Loaded { config: config.clone(), stamps, unusable: None };
                let previous = std::mem::replace(&mut *lock(&self.0.loaded), loaded);
                drop(previous);
                config
            }
            // Files are seldom replaced all at once: the next connection looks again.
            Err(error) => self.keep_last(error),
        }
    }

    /// The last configuration, if it is made of the files that are there.
    fn unchanged(&self, stamps: &[Stamp]) -> Option<Arc<ClientConfig>> {
        let mut loaded = lock(&self.0.loaded);
        if loaded.stamps != stamps {
            return None;
        }
        loaded.unusable = None;
        Some(loaded.config.clone())
    }

    /// The last configuration, since the files that are there can't be used. Each reason is warned of once,
    /// however many connections meet it.
    fn keep_last(&self, error: TlsError) -> Arc<ClientConfig> {
        let mut loaded = lock(&self.0.loaded);
        let config = loaded.config.clone();
        let is_news = loaded.unusable.as_ref() != Some(&error);
        if is_news {
            loaded.unusable = Some(error.clone());
        }
        drop(loaded);
        if is_news {
            tracing::warn!(name: "tls_files_unusable", reason = %error, "changed TLS files can't be used yet");
        } else {
            tracing::debug!(name: "tls_files_unusable_again", reason = %error, "changed TLS files still can't be used");
        }
        config
    }
}

/// The name that a server's certificate must have if no other is asked for.
fn name_of(address: Address<'_>) -> Result<ServerName<'static>, ConnectError> {
    let name = match address {
        // A zone is a name of this machine's, and in no certificate.
        Address::Tcp { host, .. } => host.split('%').next(),
        // etcd's clients take `localhost` of `unixs://localhost:12345`.
        Address::Unix { path } => {
            path.file_name().and_then(OsStr::to_str).and_then(|file| file.split(':').next())
        }
    };
    ServerName::try_from(name.unwrap_or_default().to_owned()).map_err(ConnectError::new)
}

fn stamps(settings: &Tls) -> Vec<Stamp> {
    let stamp = |path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    settings.files().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_the_certificate_is_that_of_the_endpoint() {
        for (endpoint, name) in [
            ("https://etcd.example:2379", "etcd.example"),
            ("https://[fe80::1%25eth0]:2379", "fe80::1"),
            ("unixs://localhost:12345", "localhost"),
            ("unixs:///run/etcd.sock", "etcd.sock"),
        ] {
            let endpoint: Endpoint = endpoint.parse().unwrap();
            assert_eq!(name_of(endpoint.address()).unwrap(), ServerName::try_from(name).unwrap());
        }
    }
}

//! What a server shows of itself to clients, and asks of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Etcdctl, HarnessError};
use crate::certificates::{Identity, TestCa};

/// How a server serves clients over TLS: [`EtcdServerBuilder::tls`](super::EtcdServerBuilder::tls).
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// `None` if the server makes its own.
    identity: Option<Identity>,
    clients: Option<Clients>,
}

/// Which clients are let in.
#[derive(Clone, Debug)]
struct Clients {
    ca_pem: String,
    /// For the harness's own `etcdctl`.
    own: Identity,
}

impl ServerTls {
    /// Shows this certificate, and lets every client in. It is shown as it is, expired or for another name.
    pub fn new(identity: &Identity) -> Self {
        Self { identity: Some(identity.clone()), clients: None }
    }

    /// Shows a certificate that the server makes for itself, with a P-521 key, and lets every client in.
    ///
    /// [`EtcdServer::ca_file`](super::EtcdServer::ca_file) is this certificate.
    pub fn automatic() -> Self {
        Self { identity: None, clients: None }
    }

    /// Lets in only clients with a certificate that this authority issued.
    ///
    /// [`EtcdServer::etcdctl`](super::EtcdServer::etcdctl) has one, of the name `etcdctl`.
    pub fn require_client_certificates(mut self, ca: &TestCa) -> Self {
        self.clients = Some(Clients { ca_pem: ca.pem().to_owned(), own: ca.client("etcdctl") });
        self
    }

    /// Writes the files a server needs into its directory; the flags that name them.
    pub(super) fn install(&self, directory: &Path) -> Result<Vec<(String, String)>, HarnessError> {
        let failed = || HarnessError::io("write a server's certificates");
        let path = |path: &Path| path.display().to_string();
        let mut flags = match &self.identity {
            Some(identity) => {
                let files = identity.write(directory, "server").map_err(failed())?;
                vec![
                    ("cert-file".to_owned(), path(&files.certificate)),
                    ("key-file".to_owned(), path(&files.key)),
                ]
            }
            None => vec![("auto-tls".to_owned(), "true".to_owned())],
        };
        if let Some(clients) = &self.clients {
            let ca = directory.join("client-ca.crt");
            fs::write(&ca, &clients.ca_pem).map_err(failed())?;
            clients.own.write(directory, "etcdctl").map_err(failed())?;
            flags.push(("trusted-ca-file".to_owned(), path(&ca)));
            flags.push(("client-cert-auth".to_owned(), "true".to_owned()));
        }
        Ok(flags)
    }

    /// The file with what verifies the server's certificate, written by `install` or by the server.
    pub(super) fn ca_file(&self, directory: &Path, data_directory: &Path) -> PathBuf {
        match self.identity {
            Some(_) => directory.join("server-ca.crt"),
            None => data_directory.join("fixtures/client/cert.pem"),
        }
    }

    /// An `etcdctl` that trusts the server and is let in, with the files that `install` wrote.
    pub(super) fn equip(&self, etcdctl: Etcdctl, directory: &Path, data_directory: &Path) -> Etcdctl {
        let etcdctl = etcdctl.cacert(self.ca_file(directory, data_directory));
        match self.clients {
            Some(_) => etcdctl.certificate(directory.join("etcdctl.crt"), directory.join("etcdctl.key")),
            None => etcdctl,
        }
    }
}

//! PEM text from memory or from a file, and what is in it.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject};

use super::TlsError;

/// PEM text, or where it is.
#[derive(Clone)]
pub(super) enum Pem {
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

/// What PEM text is for.
#[derive(Clone, Copy)]
pub(super) enum Use {
    Root,
    Identity,
}

impl Use {
    /// The option that it was given with.
    pub(super) fn option(self, pem: &Pem) -> &'static str {
        match (self, pem) {
            (Self::Root, Pem::Given(_)) => "ca_pem",
            (Self::Root, Pem::File(_)) => "ca_file",
            (Self::Identity, Pem::Given(_)) => "identity_pem",
            (Self::Identity, Pem::File(_)) => "identity_files",
        }
    }
}

impl Pem {
    /// The file, if it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Given(_) => None,
        }
    }

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

    pub(super) fn certificates(&self, purpose: Use) -> Result<Vec<CertificateDer<'static>>, TlsError> {
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

    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
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

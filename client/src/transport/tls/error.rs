//! What can be wrong with TLS settings.

use std::path::PathBuf;

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
    /// Secrets can't be written to the file that `SSLKEYLOGFILE` names.
    #[error(
        "tls key_log_from_env: can't write to {}: {problem}; set SSLKEYLOGFILE to a file that this process may write, or to nothing",
        .path.display()
    )]
    KeyLog {
        /// The file.
        path: PathBuf,
        /// What the system said.
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

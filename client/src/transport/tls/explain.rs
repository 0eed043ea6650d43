//! Why a handshake failed, and what to do about it.

use std::io;

use rustls::{AlertDescription, CertificateError, PeerIncompatible};

use super::super::alert::alert_remedy;

/// The cause of a failed handshake, and what to do about it.
pub(crate) fn explain(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let remedy = match cause {
        Some(rustls::Error::InvalidCertificate(problem)) => certificate_remedy(problem),
        Some(rustls::Error::InvalidMessage(_)) => "the server does not speak TLS here; is the endpoint http?",
        Some(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)) => {
            "the server shares no TLS version, cipher or kind of key with this client; for a P-521 key use the feature tls-aws-lc, since ring has none"
        }
        Some(
            rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
            | rustls::Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ),
        ) => {
            "the server and this client share no version of TLS; see etcd's --tls-min-version and --tls-max-version, and tls_1_3_only here"
        }
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the server hung up in the handshake; is the endpoint http?"
        }
        _ => match alert_remedy(&error.to_string()) {
            Some(remedy) => remedy,
            None => return format!("TLS: {error}"),
        },
    };
    format!("TLS: {error}: {remedy}")
}

/// What to do about a server's certificate that is refused.
fn certificate_remedy(problem: &CertificateError) -> &'static str {
    match problem {
        CertificateError::UnknownIssuer => {
            "none of the trusted roots has signed the server's certificate; give the cluster's CA with ca_file"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired; renew it, or set this machine's clock"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet; set this machine's clock"
        }
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "the server's certificate has no subjectAltName, and its common name does not count; make it with openssl's -addext subjectAltName=DNS:name,IP:address"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate has other names; connect by one of them, or give one with server_name"
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "this client's cryptography can't verify how the server's certificate is signed; for P-521 keys use the feature tls-aws-lc, since ring has none"
        }
        CertificateError::Other(problem) => webpki_remedy(&problem.to_string()),
        _ => CANT_BE_TRUSTED,
    }
}

const CANT_BE_TRUSTED: &str = "the server's certificate can't be trusted";

/// The same for webpki's own errors, which rustls passes on as they are.
fn webpki_remedy(problem: &str) -> &'static str {
    match problem {
        "CaUsedAsEndEntity" => {
            "the server shows the certificate of a CA; give exactly this certificate with ca_file, or make the server's with basicConstraints=CA:FALSE"
        }
        "UnsupportedCertVersion" => {
            "the server's certificate is of X.509 version 1, which can't hold a host's name; make it with openssl's -extfile and a subjectAltName"
        }
        _ => CANT_BE_TRUSTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_with_no_kind_of_key_in_common_is_explained() {
        let refused = rustls::Error::AlertReceived(AlertDescription::HandshakeFailure);
        let explained = explain(&io::Error::other(refused));
        assert!(explained.contains("P-521") && explained.contains("tls-aws-lc"), "{explained}");
    }
}

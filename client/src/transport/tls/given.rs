//! Trust in a server's certificate that the application has given itself.

use std::{sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_cert::{
    Certificate, TbsCertificate,
    der::{
        Decode,
        oid::db::rfc5280::{ANY_EXTENDED_KEY_USAGE, ID_KP_SERVER_AUTH},
    },
    ext::pkix::ExtendedKeyUsage,
};

/// Verifies a server's certificate by the roots, or takes it for one of them.
///
/// webpki refuses a certificate of an authority (`CA:TRUE`) as a server's, and `openssl req -x509` makes
/// such a certificate for a server. If the server shows a certificate that was given as trusted, byte for
/// byte, nobody else has to vouch for it: whoever has its key could issue any other certificate. What is
/// left to verify is the name, the period of validity, the purpose, and, in the handshake, that the server
/// has the key. Go verifies the same.
#[derive(Debug)]
pub(super) struct GivenVerifier {
    given: Vec<CertificateDer<'static>>,
    by_roots: Arc<WebPkiServerVerifier>,
}

impl GivenVerifier {
    /// `given` are the certificates of `by_roots`.
    pub(super) fn new(given: Vec<CertificateDer<'static>>, by_roots: Arc<WebPkiServerVerifier>) -> Self {
        Self { given, by_roots }
    }
}

impl ServerCertVerifier for GivenVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.by_roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(_) if self.given.contains(end_entity) => verify_given(end_entity, server_name, now),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_roots.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_roots.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_roots.supported_verify_schemes()
    }
}

/// Verifies all of a trusted certificate but who has issued it.
fn verify_given(
    der: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    // This refuses critical extensions that are unknown, too.
    let parsed = ParsedCertificate::try_from(der)?;
    let certificate = Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?;
    verify_period(certificate.tbs_certificate(), now)?;
    verify_purpose(certificate.tbs_certificate())?;
    verify_server_name(&parsed, server_name)?;
    Ok(ServerCertVerified::assertion())
}

fn verify_period(certificate: &TbsCertificate, now: UnixTime) -> Result<(), CertificateError> {
    let validity = certificate.validity();
    let (first, last) = (validity.not_before.to_unix_duration(), validity.not_after.to_unix_duration());
    let time = Duration::from_secs(now.as_secs());
    if time < first {
        let not_before = UnixTime::since_unix_epoch(first);
        return Err(CertificateError::NotValidYetContext { time: now, not_before });
    }
    if time > last {
        let not_after = UnixTime::since_unix_epoch(last);
        return Err(CertificateError::ExpiredContext { time: now, not_after });
    }
    Ok(())
}

/// A certificate that lists purposes has to list that of a server.
fn verify_purpose(certificate: &TbsCertificate) -> Result<(), CertificateError> {
    let purposes = certificate.get_extension::<ExtendedKeyUsage>();
    match purposes.map_err(|_| CertificateError::BadEncoding)? {
        Some((_, ExtendedKeyUsage(purposes)))
            if !purposes.contains(&ID_KP_SERVER_AUTH) && !purposes.contains(&ANY_EXTENDED_KEY_USAGE) =>
        {
            Err(CertificateError::InvalidPurpose)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, IsCa, KeyPair};
    use rustls::{
        ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection,
        SupportedProtocolVersion,
        crypto::CryptoProvider,
        pki_types::{PrivateKeyDer, pem::PemObject},
        sign::{CertifiedKey, SingleCertAndKey},
        version::{TLS12, TLS13},
    };

    use super::{super::provider::built_in, *};
    use crate::Tls;

    const NAME: &str = "etcd.example";

    /// A server's certificate that is its own authority, and its key.
    fn self_signed() -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap(), key)
    }

    /// A server that shows a certificate, and signs with a key that may be another's.
    fn server(
        provider: &Arc<CryptoProvider>,
        version: &'static SupportedProtocolVersion,
        (certificate, key): (&rcgen::Certificate, &KeyPair),
    ) -> ServerConnection {
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let shown = CertifiedKey::new(vec![certificate.der().clone()], key);
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
        ServerConnection::new(config.into()).unwrap()
    }

    /// Hands over all that one side has to say; what the other side makes of it.
    fn hand_over<A, B>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) -> Result<(), Error> {
        let mut said = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut said).unwrap();
        }
        let mut said = &said[..];
        while !said.is_empty() {
            to.read_tls(&mut said).unwrap();
            to.process_new_packets()?;
        }
        Ok(())
    }

    /// What the client makes of the server.
    fn handshake(config: ClientConfig, mut server: ServerConnection) -> Result<(), Error> {
        let mut client = ClientConnection::new(config.into(), NAME.try_into().unwrap()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            hand_over(&mut client, &mut server).unwrap();
            hand_over(&mut server, &mut client)?;
        }
        Ok(())
    }

    #[test]
    fn a_certificate_that_was_given_is_trusted_if_the_server_has_its_key() {
        let (certificate, key) = self_signed();
        let (_, stolen) = self_signed();
        for provider in built_in() {
            for version in [&TLS12, &TLS13] {
                let trusting = || Tls::new().ca_pem(certificate.pem()).load_with(provider.clone()).unwrap();
                let genuine = server(&provider, version, (&certificate, &key));
                assert_eq!(handshake(trusting(), genuine), Ok(()));
                let impostor = server(&provider, version, (&certificate, &stolen));
                let refused = handshake(trusting(), impostor);
                assert_eq!(refused, Err(CertificateError::BadSignature.into()), "{version:?}");
            }
        }
    }
}

//! What a server's TLS alert asks for.

/// What to do about a TLS alert from the server, told by rustls' text for it: what comes by way of HTTP/2
/// has lost its type.
pub(crate) fn alert_remedy(text: &str) -> Option<&'static str> {
    const CERTIFICATE: [&str; 6] = [
        "CertificateRequired",
        "BadCertificate",
        "UnknownCA",
        "CertificateExpired",
        "CertificateUnknown",
        "CertificateRevoked",
    ];
    let (_, alert) = text.split_once("received fatal alert: ")?;
    if alert.starts_with("CertificateRequired") {
        return Some("the server asks for a client certificate; give one with identity_files");
    }
    CERTIFICATE
        .iter()
        .any(|name| alert.starts_with(name))
        .then_some("the server wants a client certificate that its own CA has signed and that has not expired; give one with identity_files")
}

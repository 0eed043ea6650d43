//! Between the core's types and the wire's: lists, metadata, failures.

use std::error::Error as _;

use etcd_watch_core::{Failure, Header, OwnedKeyValue, StreamOptions};
use etcd_watch_proto::{etcdserverpb::ResponseHeader, mvccpb::KeyValue};
use tonic::{
    Status,
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
};

use super::{
    causes::{chain, find},
    error::TlsRefused,
};

/// Named by every request; etcd counts its clients by it.
const API_VERSION: &str = "3.5";

const USER_AGENT: &str = concat!("etcd-watch/", env!("CARGO_PKG_VERSION"));

/// A header that came, or didn't.
pub(crate) fn header(sent: Option<ResponseHeader>) -> Header {
    let sent = sent.unwrap_or_default();
    let mut header = Header::default();
    header.cluster_id = sent.cluster_id;
    header.member_id = sent.member_id;
    header.revision = sent.revision;
    header.raft_term = sent.raft_term;
    header
}

pub(crate) fn pair(kv: KeyValue) -> OwnedKeyValue {
    OwnedKeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// The metadata of a request: what every request carries, and `hasleader` if asked for.
pub(crate) fn metadata(require_leader: bool) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert("client-api-version", AsciiMetadataValue::from_static(API_VERSION));
    metadata.insert("user-agent", AsciiMetadataValue::from_static(USER_AGENT));
    if require_leader {
        metadata.insert("hasleader", AsciiMetadataValue::from_static("true"));
    }
    metadata
}

/// The name of an auth token's header.
const TOKEN: &str = "token";

/// Whether a stream brings an auth token of its own, which takes the place of the client's.
pub(crate) fn has_token(options: &StreamOptions) -> bool {
    options.metadata.iter().any(|(name, _)| name == TOKEN)
}

/// The metadata of a request, with the caller's own. `Debug` doesn't show the values of those, and HTTP/2's compression
/// doesn't keep them: they may be secret.
pub(crate) fn metadata_with<'a>(
    require_leader: bool,
    extra: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<MetadataMap, Failure> {
    let mut metadata = metadata(require_leader);
    for (name, value) in extra {
        let invalid = || Failure::invalid_request(format!("metadata {name:?} is not valid"));
        let key = AsciiMetadataKey::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let mut value = AsciiMetadataValue::try_from(value).map_err(|_| invalid())?;
        value.set_sensitive(true);
        metadata.append(key, value);
    }
    Ok(metadata)
}

/// What a gRPC status means: the server's word, the connection's end, or a response over the `limit`.
pub(crate) fn failure_of(status: &Status, limit: usize) -> Failure {
    // A status with a source was made on this side, out of a transport's error.
    if let Some(source) = status.source() {
        return broken(source);
    }
    if let Some(bytes) = too_large(status) {
        return Failure::ResponseTooLarge { bytes, limit };
    }
    // tonic's word for a body that ended within a message: a connection cut there, not a server's text.
    if status.code() == tonic::Code::Internal && status.message().starts_with("Unexpected EOF decoding") {
        return Failure::connection("the stream was cut within a message");
    }
    Failure::status(i32::from(status.code()), status.message())
}

/// What a transport's error means: its connection is broken, or was refused.
pub(crate) fn broken(error: &(dyn std::error::Error + 'static)) -> Failure {
    match find::<TlsRefused>(error) {
        Some(refused) => Failure::tls(refused.to_string()),
        None => Failure::connection(chain(error)),
    }
}

/// The error of this type under a status that was made on this side.
pub(crate) fn cause<E: std::error::Error + 'static>(status: &Status) -> Option<&E> {
    status.source().and_then(find)
}

/// tonic has no type for a message over the limit, only this text.
fn too_large(status: &Status) -> Option<usize> {
    if status.code() != tonic::Code::OutOfRange {
        return None;
    }
    let found = status.message().strip_prefix("Error, decoded message length too large: found ")?;
    Some(found.split(' ').next()?.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{super::error::NotSent, *};

    #[test]
    fn metadata_says_what_was_asked_for() {
        let metadata = metadata_with(true, [("x-tenant", "blue")]).unwrap();
        assert_eq!(metadata.get("hasleader").unwrap(), "true");
        assert_eq!(metadata.get("x-tenant").unwrap(), "blue");
        assert!(super::metadata(false).get("hasleader").is_none());
        assert!(metadata_with(false, [("bad name", "x")]).is_err());
        assert!(!format!("{metadata:?}").contains("blue"), "it may be secret: {metadata:?}");
    }

    #[test]
    fn a_request_that_was_not_sent_is_recognised_among_the_sources() {
        let not_sent = Status::from_error(Box::new(NotSent::new("closed")));
        assert!(cause::<NotSent>(&not_sent).is_some());
        assert!(cause::<NotSent>(&Status::from_error("reset".into())).is_none());
        assert!(cause::<NotSent>(&Status::unavailable("not sent")).is_none());
    }

    #[test]
    fn a_transport_error_is_a_connection_failure_and_a_status_is_the_servers_word() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused");
        let broken = Status::from_error(Box::new(refused));
        assert_eq!(failure_of(&broken, 1), Failure::connection("refused"));
        let no_leader = Status::unavailable("etcdserver: no leader");
        assert_eq!(failure_of(&no_leader, 1), Failure::status(14, "etcdserver: no leader"));
    }

    #[test]
    fn what_a_server_says_can_not_forge_a_line_of_the_log() {
        let forged = "no leader\nWARN all is lost \u{1b}[31m";
        let told = failure_of(&Status::unavailable(forged), 1).to_string();
        let broke = failure_of(&Status::from_error(forged.into()), 1).to_string();
        for text in [told, broke] {
            assert!(text.ends_with(r"no leader\nWARN all is lost \u{1b}[31m"), "{text}");
        }
    }
}

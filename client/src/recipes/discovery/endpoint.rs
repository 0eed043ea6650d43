//! A service's endpoint, and how it is written down.

use bytes::Bytes;
use serde_json::Value;

/// Where one instance of a service can be reached, and what is to be known about it.
///
/// In etcd it is the JSON object that Go's `clientv3/naming/endpoints` reads and writes: `Op` (always 0),
/// `Addr` and `Metadata`.
///
/// ```
/// use etcd_watch_client::discovery::ServiceEndpoint;
/// use serde_json::json;
///
/// let endpoint = ServiceEndpoint::new("10.0.0.7:8080").metadata(json!({ "zone": "b" }));
/// assert_eq!(endpoint.addr, "10.0.0.7:8080");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceEndpoint {
    /// The address, by convention `host:port`.
    pub addr: String,
    /// Anything else, in any shape; `Null` for nothing. Integers beyond 2^53 are rounded by readers in Go.
    pub metadata: Value,
}

impl ServiceEndpoint {
    /// An endpoint without metadata.
    #[must_use]
    pub fn new(addr: impl Into<String>) -> Self {
        Self { addr: addr.into(), metadata: Value::Null }
    }

    /// The same endpoint with this metadata.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<Value>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// In Go's order of fields.
    pub(crate) fn encode(&self) -> Bytes {
        let addr = Value::from(self.addr.as_str());
        format!(r#"{{"Op":0,"Addr":{addr},"Metadata":{}}}"#, self.metadata).into()
    }

    /// As forgiving as Go's decoder about the case of names and about fields that are missing or too many,
    /// except for the address: without one there is no endpoint.
    pub(crate) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let value = serde_json::from_slice(value).map_err(|error| DecodeError::NotJson(error.to_string()))?;
        let Value::Object(fields) = value else { return Err(DecodeError::NotAnObject) };
        let mut addr = None;
        let mut metadata = Value::Null;
        for (name, field) in fields {
            if name.eq_ignore_ascii_case("addr") {
                let Value::String(text) = field else { return Err(DecodeError::NoAddr) };
                addr = Some(text);
            } else if name.eq_ignore_ascii_case("metadata") {
                metadata = field;
            }
        }
        Ok(Self { addr: addr.ok_or(DecodeError::NoAddr)?, metadata })
    }
}

/// A key under the target that is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The key's name is not UTF-8.
    #[error("the name is not UTF-8")]
    NotText,
    /// The value is not JSON.
    #[error("the value is not JSON: {0}")]
    NotJson(String),
    /// The value is JSON, but not an object.
    #[error("the value is not a JSON object")]
    NotAnObject,
    /// The object has no `Addr`, or one that is no string.
    #[error("the value has no Addr that is a string")]
    NoAddr,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(endpoint: &ServiceEndpoint) -> String {
        String::from_utf8(endpoint.encode().to_vec()).expect("JSON is text")
    }

    #[test]
    fn a_value_has_the_three_fields_in_gos_order() {
        let plain = ServiceEndpoint::new("10.0.0.1:80");
        assert_eq!(text(&plain), r#"{"Op":0,"Addr":"10.0.0.1:80","Metadata":null}"#);
        let quoted = ServiceEndpoint::new("a\"\\\n").metadata(json!({ "w": [1, "ü"] }));
        assert_eq!(text(&quoted), r#"{"Op":0,"Addr":"a\"\\\n","Metadata":{"w":[1,"ü"]}}"#);
        for endpoint in [plain, quoted] {
            assert_eq!(ServiceEndpoint::decode(&endpoint.encode()), Ok(endpoint));
        }
    }

    #[test]
    fn a_number_is_read_as_the_one_that_was_written() {
        let endpoint = ServiceEndpoint::new("a").metadata(98_446_744_073_709_551_615_f64);
        assert_eq!(ServiceEndpoint::decode(&endpoint.encode()), Ok(endpoint));
    }

    #[test]
    fn what_go_reads_is_read() {
        let read = |value: &str| ServiceEndpoint::decode(value.as_bytes());
        assert_eq!(read(r#"{"Addr":"a"}"#), Ok(ServiceEndpoint::new("a")));
        assert_eq!(read(r#"{"addr":"a","METADATA":7,"Op":0}"#), Ok(ServiceEndpoint::new("a").metadata(7)));
        assert_eq!(read(r#" {"Op":0,"Addr":"\u003ca\u003e","Extra":{}} "#), Ok(ServiceEndpoint::new("<a>")));
    }

    #[test]
    fn what_is_no_endpoint_says_why() {
        let refused = |value: &[u8]| ServiceEndpoint::decode(value).expect_err("it is none");
        assert!(matches!(refused(b""), DecodeError::NotJson(_)));
        assert!(matches!(refused(b"10.0.0.1:80"), DecodeError::NotJson(_)));
        assert!(matches!(refused(b"{\"Addr\":\"\xff\"}"), DecodeError::NotJson(_)));
        let deep = [b"{\"Addr\":\"a\",\"Metadata\":".to_vec(), vec![b'['; 100_000]].concat();
        assert!(matches!(refused(&deep), DecodeError::NotJson(_)));
        assert_eq!(refused(b"\"10.0.0.1:80\""), DecodeError::NotAnObject);
        assert_eq!(refused(b"{\"Op\":0,\"Metadata\":null}"), DecodeError::NoAddr);
        assert_eq!(refused(b"{\"Addr\":80}"), DecodeError::NoAddr);
    }
}

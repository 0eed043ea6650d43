//! Options of calls: their time limit, and what their requests carry beside their message.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use zeroize::Zeroizing;

use super::limits::{LONGEST, SHORTEST};
use crate::auth::{Token, token_header};

/// Headers that are the client's own, or HTTP/2's.
const RESERVED: [&str; 12] = [
    "client-api-version",
    "connection",
    "content-length",
    "content-type",
    "hasleader",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// The header of an auth token.
const TOKEN: &str = "token";

/// Options for the calls of a view of a client: [`Client::with_options`](crate::Client::with_options). What is not set
/// stays as it is.
///
/// | option | calls | watches and mirrors |
/// |---|---|---|
/// | [`timeout`](Self::timeout) | all attempts of a call together; [`get_all`](crate::Client::get_all) while nobody answers | the pages of a mirror's list, one attempt each |
/// | [`metadata`](Self::metadata) | every request but those for the client's own auth token | their streams and reads |
/// | [`token`](Self::token) | every request | their streams and reads |
///
/// Watches share a stream with others that have equal metadata and the same token. So a view whose metadata differ for
/// every request, such as a `traceparent`, is one for calls: each watch that is opened with it takes a stream of its own.
///
/// `Debug` shows the names of metadata, but neither their values nor the token: they may be secret.
#[derive(Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct CallOptions {
    timeout: Option<Duration>,
    metadata: BTreeMap<String, String>,
    token: Option<Zeroizing<String>>,
}

impl CallOptions {
    /// Options that change nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a call may take, all attempts together: from 1 ms to 365 days. Default: the builder's
    /// [`request_timeout`](crate::ClientBuilder::request_timeout). The renewals of a lease go by the lease's own time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// A header for every request: `metadata("traceparent", "00-..")`, or a tenant's name for a proxy. Names are lower-case
    /// ASCII letters, digits, `-`, `_` and `.`, and don't end with `-bin`; values are printable ASCII. A name has one value:
    /// the last one given for it, here or in a view of this view. Where a watch's own
    /// [`StreamOptions`](crate::StreamOptions) have the name, their value is sent.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// An auth token in the place of the client's, as from
    /// [`Credentials::token`](crate::Credentials::token): to act for several users by one client. It is kept when the
    /// client's credentials change. A call that is refused for it ends with
    /// [`CallError::TokenRefused`](crate::CallError::TokenRefused); a watch tries again a few times and ends with
    /// [`CloseReason::TokenRefused`](crate::CloseReason::TokenRefused).
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Zeroizing::new(token.into()));
        self
    }

    /// The timeout, if there is one.
    pub(crate) fn checked_timeout(&self) -> Result<Option<Duration>, CallOptionsError> {
        match self.timeout {
            Some(value) if !(SHORTEST..=LONGEST).contains(&value) => Err(CallOptionsError::Timeout { value }),
            timeout => Ok(timeout),
        }
    }
}

impl fmt::Debug for CallOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallOptions")
            .field("timeout", &self.timeout)
            .field("metadata", &self.metadata.keys())
            .field("has_token", &self.token.is_some())
            .finish()
    }
}

/// Options can't be used. Fix the one that is named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallOptionsError {
    /// The timeout is out of range.
    #[error("timeout is {value:?}: it must be from 1 ms to 365 days")]
    Timeout {
        /// The timeout given.
        value: Duration,
    },
    /// The name of metadata can't be a header's.
    #[error(
        "metadata {name:?} has no valid name: use lower-case ASCII letters, digits, '-', '_' and '.', without -bin at the end"
    )]
    Name {
        /// The name given.
        name: String,
    },
    /// The client or HTTP/2 sets this header itself.
    #[error("metadata {name:?} is reserved: {fix}")]
    Reserved {
        /// The name given.
        name: String,
        /// What to do instead.
        fix: &'static str,
    },
    /// The value of metadata can't be a header's. The value itself may be secret, and isn't told.
    #[error("metadata {name:?} has no valid value: use printable ASCII")]
    Value {
        /// The name of the metadata.
        name: String,
    },
    /// The token can't be a header.
    #[error("token is no auth token: use printable ASCII, at least one character")]
    Token,
}

/// What every request of a view carries.
#[derive(Clone, Default)]
pub(crate) struct Carried {
    /// Metadata by their names, and the token, as streams are told of them.
    metadata: Arc<BTreeMap<String, String>>,
    /// Metadata as calls send them.
    headers: MetadataMap,
    token: Option<Token>,
}

impl Carried {
    /// The same with these options, which win.
    pub(crate) fn with(&self, options: CallOptions) -> Result<Self, CallOptionsError> {
        let Self { metadata, mut headers, mut token } = self.clone();
        let mut metadata = (*metadata).clone();
        for (name, value) in options.metadata {
            let (key, header) = header(&name, &value)?;
            headers.insert(key, header);
            metadata.insert(name, value);
        }
        if let Some(text) = options.token {
            token = Some(Token::of_options(token_header(&text).ok_or(CallOptionsError::Token)?));
            metadata.insert(TOKEN.into(), text.to_string());
        }
        Ok(Self { metadata: Arc::new(metadata), headers, token })
    }

    /// Metadata for a stream, with the token among them.
    pub(crate) fn metadata(&self) -> impl Iterator<Item = (String, String)> {
        self.metadata.iter().map(|(name, value)| (name.clone(), value.clone()))
    }

    /// Puts the metadata on a call; the token is apart.
    pub(crate) fn attach(&self, metadata: &mut MetadataMap) {
        if !self.headers.is_empty() {
            metadata.as_mut().extend(self.headers.clone().into_headers());
        }
    }

    /// The token in the place of the client's, if there is one.
    pub(crate) fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }
}

/// Metadata as a header.
fn header(name: &str, value: &str) -> Result<(AsciiMetadataKey, AsciiMetadataValue), CallOptionsError> {
    let reserved = |fix| Err(CallOptionsError::Reserved { name: name.into(), fix });
    if name == TOKEN {
        return reserved("use CallOptions::token");
    }
    if RESERVED.contains(&name) || name.starts_with("grpc-") || name.starts_with(':') {
        return reserved("leave it out, the client sets it");
    }
    let is_of_name = |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    let is_valid = !name.is_empty() && name.bytes().all(is_of_name) && !name.ends_with("-bin");
    let key = AsciiMetadataKey::from_bytes(name.as_bytes()).ok().filter(|_| is_valid);
    let key = key.ok_or_else(|| CallOptionsError::Name { name: name.into() })?;
    let is_valid = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let header = AsciiMetadataValue::try_from(value).ok().filter(|_| is_valid);
    let mut header = header.ok_or_else(|| CallOptionsError::Value { name: name.into() })?;
    header.set_sensitive(true);
    Ok((key, header))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: CallOptions) -> CallOptionsError {
        Carried::default().with(options).err().expect("it can't be used")
    }

    fn sent(carried: &Carried, name: &str) -> Option<String> {
        let mut metadata = MetadataMap::new();
        carried.attach(&mut metadata);
        metadata.get(name).map(|value| value.to_str().expect("ASCII").into())
    }

    #[test]
    fn what_can_not_be_sent_is_refused_by_name() {
        let named = |name: &str| CallOptions::new().metadata(name, "x");
        for name in ["", "Traceparent", "two words", "data-bin", "t\u{e4}nant", "line\nbreak"] {
            assert_eq!(refused(named(name)), CallOptionsError::Name { name: name.into() });
        }
        for name in ["hasleader", "grpc-timeout", "user-agent", "content-type", "te", ":path", "connection"] {
            assert!(matches!(refused(named(name)), CallOptionsError::Reserved { .. }), "{name}");
        }
        assert!(refused(named("token")).to_string().contains("CallOptions::token"));
        let value = refused(CallOptions::new().metadata("tenant", "secret\nvalue"));
        assert_eq!(value, CallOptionsError::Value { name: "tenant".into() });
        for token in ["", "secret\ntoken"] {
            assert_eq!(refused(CallOptions::new().token(token)), CallOptionsError::Token);
        }
        assert!(Carried::default().with(named("x-tenant_1.b")).is_ok());
    }

    #[test]
    fn timeouts_that_are_none_are_refused() {
        let timeout = |value| CallOptions::new().timeout(value).checked_timeout();
        for value in [Duration::ZERO, Duration::MAX] {
            assert_eq!(timeout(value), Err(CallOptionsError::Timeout { value }));
        }
        assert_eq!(timeout(SHORTEST), Ok(Some(SHORTEST)));
        assert_eq!(CallOptions::new().checked_timeout(), Ok(None));
    }

    #[test]
    fn of_nested_options_the_later_ones_win() {
        let outer = CallOptions::new().metadata("tenant", "red").metadata("zone", "a").token("outer");
        let outer = Carried::default().with(outer).expect("valid");
        let inner = outer.with(CallOptions::new().metadata("tenant", "blue").token("inner")).expect("valid");
        assert_eq!(sent(&inner, "tenant").as_deref(), Some("blue"));
        assert_eq!(sent(&inner, "zone").as_deref(), Some("a"), "what isn't set stays");
        assert_eq!(sent(&outer, "tenant").as_deref(), Some("red"), "the outer view is left as it is");
        let pairs = |carried: &Carried| carried.metadata().collect::<Vec<_>>();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(pairs(&inner), [pair("tenant", "blue"), pair("token", "inner"), pair("zone", "a")]);
        let same = CallOptions::new().token("inner").metadata("zone", "a").metadata("tenant", "blue");
        let same = Carried::default().with(same).expect("valid");
        assert_eq!(pairs(&same), pairs(&inner), "in one order, so that watches share a stream");
    }

    #[test]
    fn values_are_not_shown() {
        let options = CallOptions::new().metadata("tenant", "secret-value").token("secret-token");
        let mut metadata = MetadataMap::new();
        Carried::default().with(options.clone()).expect("valid").attach(&mut metadata);
        let shown = format!("{options:?} {options:#?} {metadata:?}");
        assert!(shown.contains("tenant") && !shown.contains("secret-"), "{shown}");
    }
}

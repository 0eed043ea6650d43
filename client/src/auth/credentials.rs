//! Credentials: who a client is to etcd.

use std::fmt;

use tonic::metadata::AsciiMetadataValue;
use zeroize::Zeroizing;

use crate::BuildError;

/// Who a client is to a cluster with authentication: a user with a password, or an auth token. Given to
/// [`ClientBuilder::user`](crate::ClientBuilder::user) or [`token`](crate::ClientBuilder::token) in parts, and to
/// [`Client::set_credentials`](crate::Client::set_credentials) as a whole.
///
/// `Debug` shows the user's name, and neither a password nor a token. Both are overwritten in memory when this is dropped;
/// the copies in a request and in the network's buffers are not.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(pub(super) Kind);

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Kind {
    User(User),
    Token(Zeroizing<String>),
}

/// A user's name and password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) password: Zeroizing<String>,
}

impl Credentials {
    /// A user and its password. The client has etcd make an auth token for it, and another one when that is not accepted
    /// any more.
    pub fn user(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self(Kind::User(User { name: name.into(), password: Zeroizing::new(password.into()) }))
    }

    /// An auth token that was made elsewhere, such as a JWT that is signed by the key that etcd's `--auth-token jwt`
    /// names. It is sent as it is given, as the header `token`. The client can't make another one: give it the next one
    /// before this one expires.
    pub fn token(token: impl Into<String>) -> Self {
        Self(Kind::Token(Zeroizing::new(token.into())))
    }

    /// # Errors
    /// A user without a name, or a token that is no valid header.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let out_of_range =
            |field, value: &str, allowed| Err(BuildError::OutOfRange { field, value: value.into(), allowed });
        match &self.0 {
            Kind::User(user) if user.name.is_empty() => out_of_range("user", "\"\"", "the name of a user"),
            Kind::User(_) => Ok(()),
            Kind::Token(token) => match token_header(token) {
                Some(_) => Ok(()),
                // Not the value itself: it is secret, or a part of something that is.
                None => out_of_range("token", "no auth token", "printable ASCII, at least one character"),
            },
        }
    }

    /// What the log calls them.
    pub(super) fn label(&self) -> &str {
        match &self.0 {
            Kind::User(user) => &user.name,
            Kind::Token(_) => "(an auth token)",
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Credentials");
        match &self.0 {
            Kind::User(user) => debug.field("user", &user.name),
            Kind::Token(_) => debug.field("token", &format_args!("..")),
        };
        debug.finish_non_exhaustive()
    }
}

/// A token as a header that `Debug` doesn't show and HTTP/2's compression doesn't keep; `None` if it can't be one.
pub(crate) fn token_header(token: &str) -> Option<AsciiMetadataValue> {
    let is_valid = !token.is_empty() && token.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let mut value = AsciiMetadataValue::try_from(token).ok().filter(|_| is_valid)?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_password_nor_a_token_is_shown() {
        let user = Credentials::user("alice", "secret-password");
        let token = Credentials::token("secret-token");
        let refused = Credentials::token("secret\ntoken").check().expect_err("it has two lines");
        let header = token_header("secret-token").expect("a header");
        let shown = format!("{user:?} {user:#?} {token:?} {token:#?} {refused} {refused:?} {header:?}");
        assert!(shown.contains("alice") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn credentials_that_can_not_be_used_are_refused_by_name() {
        let refused = |credentials: Credentials| match credentials.check() {
            Err(BuildError::OutOfRange { field, .. }) => Some(field),
            Err(other) => panic!("{other}"),
            Ok(()) => None,
        };
        assert_eq!(refused(Credentials::user("", "password")), Some("user"));
        assert_eq!(refused(Credentials::user("alice", "")), None, "etcd decides on passwords");
        for bad in ["", "two\nlines", "t\u{f6}ken"] {
            assert_eq!(refused(Credentials::token(bad)), Some("token"), "{bad:?}");
        }
        assert_eq!(refused(Credentials::token("eyJhbGciOi.J9-_.x")), None);
    }
}

//! The name of a lock or an election, and the keys it stands for.

use std::{fmt, str::FromStr};

use bytes::Bytes;

use super::NameError;

/// The name of a lock or an election, which was checked: it is not empty, doesn't end in `/` and has no control
/// characters. [Why](super#names). Make it first, so that nothing was done yet if it can't be one.
///
/// ```
/// use etcd_watch_client::concurrency::{Name, NameError};
///
/// let name: Name = "locks/report".parse()?;
/// assert_eq!(name.as_str(), "locks/report");
/// assert_eq!(Name::new(""), Err(NameError::Empty));
/// # Ok::<(), NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.ends_with('/') {
            return Err(NameError::TrailingSlash { name });
        }
        if name.contains(char::is_control) {
            return Err(NameError::ControlCharacter { name });
        }
        Ok(Self(name))
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the keys of all contenders begin with.
    pub(super) fn prefix(&self) -> Bytes {
        format!("{}/", self.0).into()
    }

    /// The key of the contender with this lease.
    pub(super) fn key(&self, lease: i64) -> Bytes {
        format!("{}/{lease:x}", self.0).into()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl TryFrom<&str> for Name {
    type Error = NameError;

    fn try_from(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_other_clients() {
        let name = Name::new("locks/a").unwrap();
        assert_eq!(name.prefix(), "locks/a/");
        assert_eq!(name.key(0x00ab_cdef), "locks/a/abcdef");
        assert_eq!(name.key(0x694d_8f3c_1b2a_4c05), "locks/a/694d8f3c1b2a4c05");
    }

    #[test]
    fn names_that_would_contend_for_more_than_themselves_are_refused() {
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert!(matches!(Name::new("a/"), Err(NameError::TrailingSlash { name }) if name == "a/"));
        assert!(matches!(Name::new("/"), Err(NameError::TrailingSlash { .. })));
        assert!(Name::new("/a").is_ok());
    }

    #[test]
    fn names_that_can_not_be_seen_are_refused() {
        for name in ["a\nb", "a\0", "\u{7f}", "\u{85}"] {
            assert!(matches!(Name::new(name), Err(NameError::ControlCharacter { .. })), "{name:?}");
        }
        assert!(Name::new("Überweisung 1").is_ok());
    }
}

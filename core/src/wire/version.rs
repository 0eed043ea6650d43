//! What the machine believes of a server by its version.

use core::{fmt, str::FromStr};

/// An etcd server version, as Maintenance Status reports it.
///
/// ```
/// use etcd_watch_core::ServerVersion;
///
/// let old: ServerVersion = "3.5.7".parse().unwrap();
/// let fixed: ServerVersion = "3.5.8".parse().unwrap();
/// assert!(!old.orders_manual_progress() && fixed.orders_manual_progress());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub patch: u32,
}

impl ServerVersion {
    /// A version from its three numbers.
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Whether a reply to a manual progress request is sent only once every event up to it has been:
    /// true from 3.4.25 and 3.5.8 on (etcd#15220). Older servers answer ahead of events.
    #[must_use]
    pub fn orders_manual_progress(&self) -> bool {
        *self >= Self::new(3, 5, 8) || (Self::new(3, 4, 25)..Self::new(3, 5, 0)).contains(self)
    }

    /// Whether a manual progress request is also answered on a stream whose watches have had no event on it:
    /// true from 3.4.31 and 3.5.13 on. Older servers stay silent there.
    #[must_use]
    pub fn answers_progress_on_quiet_streams(&self) -> bool {
        *self >= Self::new(3, 5, 13) || (Self::new(3, 4, 31)..Self::new(3, 5, 0)).contains(self)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The text is no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version of the form 3.5.30")]
pub struct ParseVersionError;

impl FromStr for ServerVersion {
    type Err = ParseVersionError;

    /// Reads `3.5.30`. A pre-release (`3.6.0-rc.1`) counts as the release before it, since it may lack
    /// what the release has.
    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        let text = text.trim().trim_start_matches('v');
        let (numbers, pre_release) = match text.split_once(['-', '+']) {
            Some((numbers, _)) => (numbers, text.as_bytes()[numbers.len()] == b'-'),
            None => (text, false),
        };
        let mut parts = numbers.split('.').map(|part| part.parse::<u32>().map_err(|_| ParseVersionError));
        let mut part = || parts.next().unwrap_or(Err(ParseVersionError));
        let (major, minor, patch) = (part()?, part()?, part()?);
        if parts.next().is_some() {
            return Err(ParseVersionError);
        }
        Ok(match (pre_release, patch.checked_sub(1), minor.checked_sub(1)) {
            (false, ..) => Self::new(major, minor, patch),
            (true, Some(patch), _) => Self::new(major, minor, patch),
            (true, None, Some(minor)) => Self::new(major, minor, u32::MAX),
            (true, None, None) => Self::new(major.saturating_sub(1), u32::MAX, u32::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ServerVersion {
        text.parse().unwrap()
    }

    #[test]
    fn manual_progress_is_ordered_from_the_fixed_releases_on() {
        for old in ["3.3.27", "3.4.24", "3.5.0", "3.5.7", "2.9.9"] {
            assert!(!version(old).orders_manual_progress(), "{old}");
        }
        for fixed in ["3.4.25", "3.5.8", "3.6.0", "3.7.1", "4.0.0", "v3.5.30", "3.6.0-rc.1"] {
            assert!(version(fixed).orders_manual_progress(), "{fixed}");
        }
    }

    #[test]
    fn quiet_streams_are_answered_from_later_releases_on() {
        for old in ["3.4.25", "3.4.30", "3.5.0", "3.5.8", "3.5.12"] {
            assert!(!version(old).answers_progress_on_quiet_streams(), "{old}");
        }
        for fixed in ["3.4.31", "3.5.13", "3.6.0", "3.7.1"] {
            assert!(version(fixed).answers_progress_on_quiet_streams(), "{fixed}");
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for bad in ["", "3", "3.5", "3.5.x", "3.5.1.2", "-1.2.3"] {
            assert!(bad.parse::<ServerVersion>().is_err(), "{bad}");
        }
        assert_eq!(version("3.5.8-pre"), ServerVersion::new(3, 5, 7));
        assert_eq!(version("3.5.8+git"), ServerVersion::new(3, 5, 8));
        assert_eq!(alloc::format!("{}", version("3.5.8+git")), "3.5.8");
    }
}

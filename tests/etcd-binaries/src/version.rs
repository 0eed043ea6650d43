//! Versions of etcd, and the release lines they belong to.

use std::{fmt, str::FromStr};

use crate::BinaryError;

/// A released version of etcd, such as 3.5.30.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number; behaviour on the wire differs between minor versions.
    pub minor: u32,
    /// The third number; fixes are ported back to older lines, so behaviour differs here too.
    pub patch: u32,
}

impl Version {
    /// The version of these three numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// The release line this version belongs to.
    pub const fn line(self) -> Line {
        Line { major: self.major, minor: self.minor }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = BinaryError;

    /// Reads `major.minor.patch`; what a distribution or a pre-release appends (`-4+b4`, `-rc.0`) is left out.
    fn from_str(text: &str) -> Result<Self, BinaryError> {
        let numbers = text.split(['-', '+', '~']).next().unwrap_or(text);
        let mut parts = numbers.split('.').map(str::parse::<u32>);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) => Ok(Self { major, minor, patch }),
            _ => Err(BinaryError::BadVersion(text.to_owned())),
        }
    }
}

/// A release line of etcd, such as 3.5: the versions that differ in the patch number only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl Line {
    /// etcd 3.4.
    pub const V3_4: Self = Self { major: 3, minor: 4 };
    /// etcd 3.5.
    pub const V3_5: Self = Self { major: 3, minor: 5 };
    /// etcd 3.6.
    pub const V3_6: Self = Self { major: 3, minor: 6 };
    /// etcd 3.7.
    pub const V3_7: Self = Self { major: 3, minor: 7 };
    /// The lines that there has to be a server of.
    pub const REQUIRED: [Self; 4] = [Self::V3_4, Self::V3_5, Self::V3_6, Self::V3_7];
    /// The lines that tests with a server of every kind run against on every change: the oldest and the newest of those
    /// that are in use. (3.4 has had its last release.)
    pub const ENDS: [Self; 2] = [Self::V3_5, Self::V3_7];
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_without_what_a_distribution_appends() {
        for text in ["3.4.23", "3.4.23-4+b4", "3.4.23+dfsg-1", "3.4.23~rc1-1"] {
            assert_eq!(text.parse::<Version>().unwrap(), Version::new(3, 4, 23), "{text}");
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in ["", "3", "3.4", "3.4.x", "3.4.23.1", "v3.4.23", ".staging-1-0"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn versions_order_by_number_and_not_by_text() {
        assert!(Version::new(3, 5, 30) > Version::new(3, 5, 4));
        assert_eq!(Version::new(3, 5, 30).line(), Line::V3_5);
    }
}

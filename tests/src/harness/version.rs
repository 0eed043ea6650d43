//! Which server a test asks for.

use std::fmt;

use etcd_watch_binaries::{Binaries, BinaryError, EtcdBinary, Line, Version};

/// The server a test asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EtcdVersion {
    /// The server of the 3.4 line on this machine: 3.4.23, unless `ETCD_BIN` gives another.
    V3_4,
    /// The server of the 3.5 line on this machine: 3.5.30 or newer, unless `ETCD_BIN` gives another.
    V3_5,
    /// The server of the 3.6 line on this machine, unless `ETCD_BIN` gives another.
    V3_6,
    /// The server of the 3.7 line on this machine, unless `ETCD_BIN` gives another.
    V3_7,
    /// The server of exactly this version; 3.5.1 can be fetched (`cargo xtask etcd --with 3.5.1`).
    Exact(Version),
    /// This very server.
    Binary(EtcdBinary),
}

impl EtcdVersion {
    /// The servers that a test runs against which wants one of every kind: of the oldest and the newest line in
    /// use, or with `ETCD_WATCH_SERVERS=all` of every line, and any that `ETCD_BIN` names.
    ///
    /// # Errors
    /// If one of them is missing on this machine, with the remedy.
    pub fn under_test() -> Result<Vec<Self>, BinaryError> {
        Ok(Binaries::from_env().under_test()?.into_iter().map(EtcdVersion::Binary).collect())
    }

    /// The servers in `ETCD_BIN` of lines that there are no names for here.
    ///
    /// # Errors
    /// If `ETCD_BIN` names something that doesn't work.
    pub fn additional() -> Result<Vec<Self>, BinaryError> {
        Ok(Binaries::from_env().additional()?.into_iter().map(EtcdVersion::Binary).collect())
    }

    /// The executables of this version on this machine.
    ///
    /// # Errors
    /// If there are none, with the remedy.
    pub fn find(&self) -> Result<EtcdBinary, BinaryError> {
        let binaries = Binaries::from_env();
        match self {
            Self::V3_4 => binaries.find(Line::V3_4),
            Self::V3_5 => binaries.find(Line::V3_5),
            Self::V3_6 => binaries.find(Line::V3_6),
            Self::V3_7 => binaries.find(Line::V3_7),
            Self::Exact(version) => binaries.find_exact(*version),
            Self::Binary(binary) => Ok(binary.clone()),
        }
    }
}

impl From<EtcdBinary> for EtcdVersion {
    fn from(binary: EtcdBinary) -> Self {
        Self::Binary(binary)
    }
}

impl fmt::Display for EtcdVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V3_4 => write!(f, "etcd {}", Line::V3_4),
            Self::V3_5 => write!(f, "etcd {}", Line::V3_5),
            Self::V3_6 => write!(f, "etcd {}", Line::V3_6),
            Self::V3_7 => write!(f, "etcd {}", Line::V3_7),
            Self::Exact(version) => write!(f, "etcd {version}"),
            Self::Binary(binary) => write!(f, "etcd {}", binary.version),
        }
    }
}

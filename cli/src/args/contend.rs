//! Flags of `lock`, `elect` and `endpoints`.

use std::{ffi::OsString, time::Duration};

use clap::Args;

use crate::duration;

#[derive(Args, Debug)]
pub(crate) struct LockArgs {
    /// The lock's name; contenders are keys under NAME/, those of etcdctl and of Go's client too
    pub(crate) name: String,
    /// How long others wait if this process dies, or is cut off: the time of its lease, in seconds or as a
    /// duration
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = ttl)]
    pub(crate) ttl: Duration,
    /// Run a command while the lock is held, and end with its status
    ///
    /// It finds ETCD_LOCK_KEY and ETCD_LOCK_REV in its environment: the key that holds the lock, and the
    /// revision that created it, which is greater than that of every holder before (a fencing token). If the
    /// lock is lost while it runs, it is sent SIGTERM, and 2 seconds later SIGKILL, and the status is 1; where
    /// standard input is no terminal, so is everything it has started. SIGTERM is passed on to it.
    ///
    /// ETCDCTL_PASSWORD, and a password in ETCDCTL_USER, are kept from it.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct ElectArgs {
    /// The election's name; candidates are keys under NAME/, those of etcdctl and of Go's client too
    pub(crate) name: String,
    /// What to lead with: everybody sees it
    #[arg(required_unless_present = "listen", conflicts_with = "listen")]
    pub(crate) proposal: Option<OsString>,
    /// Follow who leads, and with what, until Ctrl-C
    #[arg(short, long)]
    pub(crate) listen: bool,
    /// How long the others wait if this process dies, or is cut off: the time of its lease, in seconds or as
    /// a duration
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = ttl, conflicts_with = "listen")]
    pub(crate) ttl: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct EndpointsArgs {
    /// The service's name: its endpoints are keys under TARGET/
    pub(crate) target: String,
    /// Follow the endpoints: first those there are, then every change, until Ctrl-C
    ///
    /// With -w simple, a line for each: ADDED, UPDATED, REMOVED or UNDECODABLE, name, address and metadata,
    /// separated by tabs, and "synced: REVISION" once the endpoints there are have been printed (again, after
    /// history was compacted). With -w json, one object for each, with the fields type (added, updated,
    /// removed, undecodable, synced), name, addr, metadata, error and revision.
    #[arg(long)]
    pub(crate) watch: bool,
}

/// Whole seconds, as etcdctl has it, or a duration.
fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = text.parse().map(Duration::from_secs).or_else(|_| duration::parse(text))?;
    if ttl.is_zero() {
        return Err("it must be above 0".to_owned());
    }
    Ok(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_in_seconds_or_a_duration() {
        assert_eq!(ttl("10"), Ok(Duration::from_secs(10)));
        assert_eq!(ttl("1m30s"), Ok(Duration::from_secs(90)));
        assert!(ttl("0").is_err() && ttl("0s").is_err() && ttl("x").is_err() && ttl("-1").is_err());
    }
}

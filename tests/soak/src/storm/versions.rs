//! Members that are upgraded to the next line, and go back to the line before.

use std::sync::atomic::{AtomicBool, Ordering};

use etcd_watch_client::{CallError, Refusal};
use etcd_watch_testkit::{
    differences::Differences,
    harness::{
        EtcdVersion,
        binaries::{EtcdBinary, Version},
    },
};

use super::Storm;
use crate::{error::SoakError, faults::Deck};

/// The two lines that members change between: the line that the soak begins with, and the next one; for 3.7, which is the
/// newest, the one before it.
#[derive(Debug)]
pub(crate) struct Lines {
    low: Result<EtcdBinary, String>,
    high: Result<EtcdBinary, String>,
    is_high: AtomicBool,
}

impl Lines {
    pub(crate) fn of(first: &EtcdBinary) -> Self {
        let is_high = first.version >= Version::new(3, 7, 0);
        let other = match first.version.minor {
            7 => Some(EtcdVersion::V3_6),
            6 => Some(EtcdVersion::V3_7),
            5 => Some(EtcdVersion::V3_6),
            4 => Some(EtcdVersion::V3_5),
            _ => None,
        };
        let other = other.ok_or_else(|| format!("nobody knows what comes after {}", first.version));
        let other = other.and_then(|other| other.find().map_err(|error| error.to_string()));
        let first = Ok(first.clone());
        let (low, high) = if is_high { (other, first) } else { (first, other) };
        Self { low, high, is_high: AtomicBool::new(is_high) }
    }

    /// Why there are no upgrades, if so.
    pub(crate) fn no_upgrade(&self) -> Option<String> {
        [&self.low, &self.high].into_iter().find_map(|version| version.as_ref().err().cloned())
    }

    /// Why there are no downgrades, if so.
    pub(crate) fn no_downgrade(&self) -> Option<String> {
        let is_first = |low: &EtcdBinary| low.version < Version::new(3, 5, 0);
        let low = self.low.as_ref().ok().filter(|low| is_first(low));
        self.no_upgrade().or_else(|| low.map(|low| format!("etcd does not go back to {}", low.version)))
    }

    /// What is to be expected of members of either line.
    pub(crate) fn differences(&self) -> Differences {
        let lowest = self.low.as_ref().or(self.high.as_ref());
        Differences::of(lowest.map_or(Version::new(3, 4, 0), |binary| binary.version))
    }

    /// Both versions, once there is one to change to.
    fn both(&self) -> Option<(&EtcdBinary, &EtcdBinary)> {
        Some((self.low.as_ref().ok()?, self.high.as_ref().ok()?))
    }

    fn is_of_high(&self, version: Version) -> bool {
        self.high.as_ref().is_ok_and(|high| high.version == version)
    }
}

/// A line's first version, as etcd has it in downgrades.
fn first_of_line(version: Version, before: u32) -> String {
    format!("{}.{}.0", version.major, version.minor.saturating_sub(before))
}

impl Storm {
    pub(super) async fn upgrade(&self, deck: &mut Deck) -> Result<Option<String>, SoakError> {
        let Some((low, high)) = self.world.lines.both() else { return Ok(None) };
        if self.world.lines.is_high.load(Ordering::SeqCst) {
            return Ok(None);
        }
        self.exchange_binaries(high, deck).await?;
        self.agree(high.version).await?;
        self.world.lines.is_high.store(true, Ordering::SeqCst);
        Ok(Some(format!("from {} to {}", low.version, high.version)))
    }

    pub(super) async fn downgrade(&self, deck: &mut Deck) -> Result<Option<String>, SoakError> {
        let Some((low, high)) = self.world.lines.both() else { return Ok(None) };
        if !self.world.lines.is_high.load(Ordering::SeqCst) || self.world.lines.no_downgrade().is_some() {
            return Ok(None);
        }
        let target = first_of_line(low.version, 0);
        // One that was begun by a call whose answer was lost is begun.
        self.until("a downgrade is begun", || async {
            match self.direct.maintenance().downgrade_enable(&target).await {
                Err(error) if error.refusal() == Some(Refusal::DowngradeInProgress) => Ok(()),
                begun => begun.map(drop),
            }
        })
        .await?;
        self.migrate(&target).await?;
        self.exchange_binaries(low, deck).await?;
        self.agree(low.version).await?;
        self.world.lines.is_high.store(false, Ordering::SeqCst);
        Ok(Some(format!("from {} to {}", high.version, low.version)))
    }

    /// Waits until every member's data can be read by a version.
    async fn migrate(&self, target: &str) -> Result<(), SoakError> {
        for number in self.world.numbers().await {
            self.until("a member's data is migrated for a downgrade", || async {
                let status = self.direct.maintenance().status(&self.world.endpoints[number]).await;
                match status.map(|status| status.storage_version().map(str::to_owned)) {
                    Ok(Some(version)) if version == target => Ok(()),
                    other => Err(format!("member {number}: {other:?}, not {target}")),
                }
            })
            .await?;
        }
        Ok(())
    }

    async fn exchange_binaries(&self, to: &EtcdBinary, deck: &mut Deck) -> Result<(), SoakError> {
        for number in self.world.numbers().await {
            let is_asked = deck.random().bool();
            self.restart_as(number, is_asked, |server| Ok(server.set_version(to.clone())?)).await?;
            let fault = self.settings.fault;
            let between = deck.between((fault.0 / 4, fault.1 / 4));
            self.meanwhile(between, deck).await;
        }
        Ok(())
    }

    /// Waits until the cluster is of a version as a whole, and no downgrade is under way.
    async fn agree(&self, version: Version) -> Result<(), SoakError> {
        let (line, before) = (format!("{}.{}", version.major, version.minor), first_of_line(version, 1));
        self.until("the cluster is of the version of its members", || async {
            match self.direct.maintenance().downgrade_validate(&before).await {
                Ok(valid) if valid.cluster_version().starts_with(&line) => Ok(()),
                Ok(valid) => Err(format!("it is of {}, not of {line}", valid.cluster_version())),
                Err(error) => Err(self.over(version, error).await),
            }
        })
        .await
    }

    /// Cancels a downgrade that is still under way, though the members run the higher version. Its start may have been
    /// hidden by a lost answer.
    async fn over(&self, version: Version, error: CallError) -> String {
        if error.refusal() == Some(Refusal::DowngradeInProgress) && self.world.lines.is_of_high(version) {
            // Whether that was so is seen at the next look.
            let _ = self.direct.maintenance().downgrade_cancel().await;
        }
        error.to_string()
    }
}

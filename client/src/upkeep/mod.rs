//! The upkeep of the endpoints: the member list is read and tried, watch streams are spread, once or at intervals.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | what is done at intervals |
//! | `sync` | takes the endpoints from the member list |
//! | `trial` | asks one endpoint for the member list |
//! | `lookup` | takes the endpoints from DNS SRV records |
//! | `spread` | asks every endpoint how it is, and spreads the watch streams over those that serve |

#[cfg(feature = "dns-srv")]
mod lookup;
pub(crate) mod spread;
pub(crate) mod sync;
mod trial;

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future::{join, select};

use self::{spread::spread, sync::sync};
use crate::{
    calls::attempts::Calls,
    cluster::member_list::News,
    runtime::{RuntimeGone, pause},
    watch::hub::Hub,
};

/// What is done over and over in the background, and how often.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upkeep {
    sync_every: Option<Duration>,
    spread_every: Option<Duration>,
    #[cfg(feature = "dns-srv")]
    lookup: Option<(crate::SrvLookup, Duration)>,
}

impl Upkeep {
    pub(crate) fn sync_every(&mut self, interval: Duration) {
        self.sync_every = Some(interval);
    }

    pub(crate) fn spread_every(&mut self, interval: Duration) {
        self.spread_every = Some(interval);
    }

    #[cfg(feature = "dns-srv")]
    pub(crate) fn look_up_every(&mut self, lookup: crate::SrvLookup, interval: Duration) {
        self.lookup = Some((lookup, interval));
    }

    /// The intervals, as far as they are set, with the names of their settings.
    pub(crate) fn intervals(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        #[cfg(feature = "dns-srv")]
        let look_up_every = self.lookup.as_ref().map(|(_, interval)| *interval);
        #[cfg(not(feature = "dns-srv"))]
        let look_up_every = None;
        let intervals = [
            ("sync_endpoints_every", self.sync_every),
            ("spread_watches_every", self.spread_every),
            ("srv_lookup_every", look_up_every),
        ];
        intervals.into_iter().filter_map(|(name, interval)| Some((name, interval?)))
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.intervals().next().is_some()
    }

    /// Runs until the client has ended.
    pub(crate) async fn run(self, calls: Arc<Calls>, hub: Arc<Hub>) {
        let ended = hub.clone();
        let syncing = keep_synced(calls.clone(), hub.clone(), self.sync_every);
        #[cfg(feature = "dns-srv")]
        let syncing = join(syncing, keep_looked_up(calls.clone(), hub.clone(), self.lookup));
        let spreading = keep_spread(calls, hub, self.spread_every);
        let work = pin!(join(syncing, spreading));
        select(work, pin!(ended.ended())).await;
    }
}

/// Waits for the next time.
async fn wait(calls: &Calls, interval: Duration) -> Result<(), RuntimeGone> {
    pause(calls.runtime(), calls.pool.dialer.seeds.vary(interval)).await
}

async fn keep_synced(calls: Arc<Calls>, hub: Arc<Hub>, interval: Option<Duration>) {
    let Some(interval) = interval else { return };
    let news = News::default();
    while wait(&calls, interval).await.is_ok() {
        match sync(&calls, &hub).await {
            Ok(()) => {
                news.is_news("");
            }
            Err(error) if news.is_news(error.kind()) => {
                tracing::warn!(name: "endpoints_not_synced", reason = %error, "the endpoints were not refreshed from the member list");
            }
            Err(error) => {
                tracing::debug!(name: "endpoints_not_synced_again", reason = %error, "the endpoints were not refreshed from the member list again");
            }
        }
    }
}

async fn keep_spread(calls: Arc<Calls>, hub: Arc<Hub>, interval: Option<Duration>) {
    let Some(interval) = interval else { return };
    while wait(&calls, interval).await.is_ok() {
        spread(&calls, &hub).await;
    }
}

#[cfg(feature = "dns-srv")]
async fn keep_looked_up(calls: Arc<Calls>, hub: Arc<Hub>, every: Option<(crate::SrvLookup, Duration)>) {
    let Some((records, interval)) = every else { return };
    let news = News::default();
    while wait(&calls, interval).await.is_ok() {
        match lookup::look_up(&calls, &hub, &records).await {
            Ok(()) => {
                news.is_news("");
            }
            Err(error) if news.is_news(error.to_string()) => {
                tracing::warn!(name: "endpoints_not_looked_up", reason = %error, "the endpoints were not refreshed from SRV records");
            }
            Err(error) => {
                tracing::debug!(name: "endpoints_not_looked_up_again", reason = %error, "the endpoints were not refreshed from SRV records again");
            }
        }
    }
}

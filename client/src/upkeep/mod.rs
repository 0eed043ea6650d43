//! The upkeep of the endpoints: the member list is read and tried, watch streams are spread, once or at intervals.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | what is done at intervals |
//! | `sync` | takes the endpoints from the member list |
//! | `trial` | asks one endpoint for the member list |
//! | `spread` | asks every endpoint how it is, and spreads the watch streams over those that serve |

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
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Upkeep {
    sync_every: Option<Duration>,
    spread_every: Option<Duration>,
}

impl Upkeep {
    pub(crate) fn sync_every(&mut self, interval: Duration) {
        self.sync_every = Some(interval);
    }

    pub(crate) fn spread_every(&mut self, interval: Duration) {
        self.spread_every = Some(interval);
    }

    /// The intervals, as far as they are set, with the names of their settings.
    pub(crate) fn intervals(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        let intervals =
            [("sync_endpoints_every", self.sync_every), ("spread_watches_every", self.spread_every)];
        intervals.into_iter().filter_map(|(name, interval)| Some((name, interval?)))
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.intervals().next().is_some()
    }

    /// Runs until the client has ended.
    pub(crate) async fn run(self, calls: Arc<Calls>, hub: Arc<Hub>) {
        let ended = hub.clone();
        let syncing = keep_synced(calls.clone(), hub.clone(), self.sync_every);
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

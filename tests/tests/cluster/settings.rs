//! The settings of a client.

use std::time::Duration;

use etcd_watch_client::{Client, Keepalive, WatchConfig};

use crate::runtime::On;

/// How often connections are pinged, and how long the answer may take: the shortest there is.
pub(crate) const KEEPALIVE: Keepalive =
    Keepalive { interval: Duration::from_secs(5), timeout: Duration::from_secs(1) };

/// The settings of a client.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) endpoints: Vec<String>,
    pub(crate) config: WatchConfig,
    pub(crate) request_timeout: Duration,
    pub(crate) dial_timeout: Duration,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) sync_every: Option<Duration>,
    pub(crate) spread_every: Option<Duration>,
}

impl Settings {
    /// Quick to try again, so that scenarios are short.
    pub(crate) fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            config: quick(),
            // A follower that doesn't know yet that its leader is gone takes writes, and answers after 6 s.
            request_timeout: Duration::from_secs(2),
            dial_timeout: Duration::from_secs(1),
            keepalive: Some(KEEPALIVE),
            sync_every: None,
            spread_every: None,
        }
    }

    pub(crate) fn config(mut self, change: impl FnOnce(WatchConfig) -> WatchConfig) -> Self {
        self.config = change(self.config);
        self
    }

    /// A client with these settings.
    pub(crate) fn build(self, on: On) -> Client {
        let mut builder = on
            .builder()
            .endpoints(self.endpoints)
            .watch_config(self.config)
            .request_timeout(self.request_timeout)
            .dial_timeout(self.dial_timeout)
            .keepalive(self.keepalive);
        if let Some(interval) = self.sync_every {
            builder = builder.sync_endpoints_every(interval);
        }
        if let Some(interval) = self.spread_every {
            builder = builder.spread_watches_every(interval);
        }
        builder.connect_lazy().expect("valid settings")
    }
}

fn quick() -> WatchConfig {
    WatchConfig::default()
        .backoff(Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(300))
        .answer_timeout(Duration::from_secs(2))
        .linger(Duration::from_millis(200))
}

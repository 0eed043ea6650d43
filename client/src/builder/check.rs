//! Checks the settings of a client.

use std::{env, fmt::Debug, time::Duration};

use super::ClientBuilder;
use crate::{
    BuildError, Endpoint, Keepalive,
    auth::Credentials,
    calls::limits::{LONGEST, SHORTEST},
    endpoint::Accepted,
    transport::{
        options::MAX_WINDOW,
        proxy::{Detour, Proxying},
    },
};

/// HTTP/2's window before anyone says otherwise (RFC 9113, section 6.9).
const MIN_WINDOW: u32 = 65_535;

const SECOND: Duration = Duration::from_secs(1);

/// etcd closes connections that ping more often.
const MIN_KEEPALIVE: Duration = Duration::from_secs(5);

impl ClientBuilder {
    /// Checks every setting, and reads the endpoints.
    pub(super) fn validate(&self) -> Result<Vec<Endpoint>, BuildError> {
        if self.endpoints.is_empty() {
            return Err(BuildError::NoEndpoints);
        }
        let endpoints =
            self.endpoints.iter().map(|text| self.accepted().parse(text)).collect::<Result<Vec<_>, _>>()?;
        self.watch.validate()?;
        if self.user.is_some() && self.token.is_some() {
            return Err(BuildError::UserAndToken);
        }
        self.user.iter().chain(&self.token).try_for_each(Credentials::check)?;
        let durations = [
            ("dial_timeout", Some(self.dial_timeout)),
            ("connect_timeout", Some(self.connect_timeout)),
            ("request_timeout", Some(self.request_timeout)),
            ("keepalive timeout", self.connection.keepalive.map(|keepalive| keepalive.timeout)),
            ("warn_slow_every", self.warn_slow_every),
        ];
        for (field, value) in durations.into_iter().filter_map(|(field, value)| Some((field, value?))) {
            check(field, value, (SHORTEST..=LONGEST).contains(&value), "from 1 ms to 365 days")?;
        }
        if let Some(Keepalive { interval, .. }) = self.connection.keepalive {
            let allowed = "from 5 s to 365 days: servers close connections that ping more often";
            check("keepalive interval", interval, (MIN_KEEPALIVE..=LONGEST).contains(&interval), allowed)?;
        }
        for (field, every) in self.upkeep.intervals() {
            let allowed = "from 1 s to 365 days: members are asked each time";
            check(field, every, (SECOND..=LONGEST).contains(&every), allowed)?;
        }
        let window = self.connection.stream_window;
        let allowed = "from 65535 to 134217727";
        check("http2_window", window, (MIN_WINDOW..=MAX_WINDOW).contains(&window), allowed)?;
        let bytes = self.max_message_bytes;
        let allowed = "from 1 to 4294967295, which is the most that gRPC can say";
        check("max_message_bytes", bytes, (1..=u32::MAX as usize).contains(&bytes), allowed)?;
        Ok(endpoints)
    }

    /// Returns the proxy, if there is one, and checks that it can be used for every endpoint that needs it.
    pub(super) fn proxy_for(&self, endpoints: &[Endpoint]) -> Result<Option<Detour>, BuildError> {
        if self.connection.connector.is_some() {
            return match self.proxying {
                Proxying::By(_) => Err(BuildError::ProxyAndConnector),
                Proxying::Environment | Proxying::Never => Ok(None),
            };
        }
        let Some(detour) = self.proxying.detour(env::var_os)? else { return Ok(None) };
        endpoints.iter().try_for_each(|endpoint| detour.check(endpoint))?;
        Ok(Some(detour))
    }

    /// What endpoints may be.
    pub(super) fn accepted(&self) -> Accepted {
        #[cfg(feature = "tls")]
        return if self.tls.is_some() { Accepted::TlsOnly } else { Accepted::Any };
        #[cfg(not(feature = "tls"))]
        Accepted::PlainOnly
    }
}

fn check(
    field: &'static str,
    value: impl Debug,
    in_range: bool,
    allowed: &'static str,
) -> Result<(), BuildError> {
    if in_range {
        return Ok(());
    }
    Err(BuildError::OutOfRange { field, value: format!("{value:?}"), allowed })
}

#[cfg(test)]
mod tests {
    use etcd_watch_core::{ConfigError, WatchConfig};

    use super::*;
    use crate::testing::NoNetwork;

    fn builder() -> ClientBuilder {
        ClientBuilder::on(NoNetwork).endpoints(["host:1"])
    }

    fn refused(builder: ClientBuilder) -> &'static str {
        match builder.validate() {
            Err(BuildError::OutOfRange { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_valid() {
        assert!(builder().validate().is_ok());
        assert!(builder().keepalive(None).validate().is_ok());
    }

    #[test]
    fn connections_are_pinged_by_default_and_less_often_than_servers_forbid() {
        let keepalive = builder().connection.keepalive.expect("keepalive is on");
        assert_eq!(keepalive, Keepalive::default());
        // etcd closes connections that are pinged more often (`--grpc-keepalive-min-time`).
        assert!(keepalive.interval > Duration::from_secs(5), "{keepalive:?}");
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        let pings = |interval, timeout| builder().keepalive(Some(Keepalive { interval, timeout }));
        for bad in [Duration::ZERO, Duration::MAX] {
            assert_eq!(refused(builder().dial_timeout(bad)), "dial_timeout");
            assert_eq!(refused(builder().connect_timeout(bad)), "connect_timeout");
            assert_eq!(refused(builder().request_timeout(bad)), "request_timeout");
            assert_eq!(refused(pings(bad, SECOND)), "keepalive interval");
            assert_eq!(refused(pings(MIN_KEEPALIVE, bad)), "keepalive timeout");
            assert_eq!(refused(builder().sync_endpoints_every(bad)), "sync_endpoints_every");
            assert_eq!(refused(builder().spread_watches_every(bad)), "spread_watches_every");
            assert_eq!(refused(builder().warn_slow_every(Some(bad))), "warn_slow_every");
        }
        assert_eq!(refused(pings(MIN_KEEPALIVE - SHORTEST, SECOND)), "keepalive interval");
        assert!(pings(LONGEST, LONGEST).validate().is_ok());
        for bad in [0, MIN_WINDOW - 1, MAX_WINDOW + 1] {
            assert_eq!(refused(builder().http2_window(bad)), "http2_window");
        }
        for bad in [0, usize::MAX] {
            assert_eq!(refused(builder().max_message_bytes(bad)), "max_message_bytes");
        }
        assert_eq!(refused(builder().user("", "password")), "user");
        assert_eq!(refused(builder().token("two\nlines")), "token");
        let short = Duration::from_millis(999);
        assert_eq!(refused(builder().sync_endpoints_every(short)), "sync_endpoints_every");
        assert_eq!(refused(builder().spread_watches_every(short)), "spread_watches_every");
    }

    #[test]
    fn a_client_has_a_user_or_a_token() {
        assert!(builder().user("alice", "password").validate().is_ok());
        assert!(builder().token("token").validate().is_ok());
        let both = builder().user("alice", "password").token("token");
        assert_eq!(both.validate(), Err(BuildError::UserAndToken));
        let shown = format!("{both:?}");
        assert!(!shown.contains("\"password\"") && !shown.contains("\"token\""), "{shown}");
    }

    #[test]
    fn endpoints_and_watch_settings_are_checked_too() {
        let none = builder().endpoints(Vec::<String>::new());
        assert_eq!(none.validate(), Err(BuildError::NoEndpoints));
        assert!(matches!(builder().endpoints([""]).validate(), Err(BuildError::Endpoint(_))));
        let config = builder().watch_config(WatchConfig::default().buffer_bytes(0));
        assert!(matches!(config.validate(), Err(BuildError::Watch(ConfigError::OutOfRange { .. }))));
    }
}

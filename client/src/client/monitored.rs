//! How a client is doing.

use std::sync::Arc;

use etcd_watch_core::Instant;

use crate::{
    Client, Health, Monitor,
    calls::end::End,
    cluster::pulse::Pulse,
    health::{Monitored, NeverReady, Verdict},
    sync::WaitList,
    watch::hub::Hub,
};

/// A client, for those who monitor it. It doesn't keep the client running.
struct MonitoredClient {
    hub: Arc<Hub>,
    pulse: Arc<Pulse>,
}

impl Client {
    /// How it is doing: [`Health`] says what that means. Only calls and watches change it. So a client without a watch that
    /// has lost its connection is not ready until the application makes a call that is answered. A readiness probe must
    /// not go by it alone: the service would get no requests, make no calls and never become ready again.
    /// [`ClientBuilder::connect`](crate::ClientBuilder::connect) makes a call before it returns.
    #[must_use]
    pub fn health(&self) -> Health {
        self.monitored().health()
    }

    /// A handle to wait for changes of [`health`](Self::health).
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor::new(Arc::new(self.monitored()))
    }

    fn monitored(&self) -> MonitoredClient {
        MonitoredClient { hub: self.hub().clone(), pulse: self.calls().pool.dialer.pulse.clone() }
    }
}

impl Monitored for MonitoredClient {
    fn health(&self) -> Health {
        let now = self.hub.now();
        let of_calls = self.pulse.read();
        let state = self.hub.lock();
        let (mut contact, mut of_streams) = (of_calls.contact, Vec::new());
        let (mut is_streaming, mut streams_away) = (false, None::<Instant>);
        for (stream, link) in state.links.iter() {
            let Some(key) = state.machine.stream(stream) else { continue };
            let mut of_stream = link.contact().clone();
            of_stream.hear(state.machine.last_frame(key));
            of_streams.push(of_stream);
            is_streaming |= link.away().is_none();
            streams_away = streams_away.into_iter().chain(link.away()).min();
        }
        let end = state.end();
        drop(state);
        // It drops errors, which may be the application's.
        for of_stream in of_streams {
            contact = contact.or(of_stream);
        }
        let away = streams_away.or_else(|| of_calls.away.filter(|_| !is_streaming));
        let verdict = match end {
            Some(End::Closed) => Verdict::Ended(NeverReady::ClientClosed),
            Some(End::RuntimeGone) => Verdict::Ended(NeverReady::RuntimeGone),
            None if away.is_none() => Verdict::Ready,
            None => Verdict::NotReady,
        };
        Health::new(now, verdict, contact).with_away_since(away)
    }

    fn changes(&self) -> Vec<&WaitList> {
        vec![self.hub.monitoring(), self.pulse.changes()]
    }
}

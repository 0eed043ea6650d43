//! How a configuration is doing.

use std::sync::Arc;

use super::{Config, Ended, State};
use crate::{
    Health, Monitor, NeverReady, Verdict,
    toolkit::{Monitored, WaitList, Watchable},
};

/// A configuration, for those who monitor it. It doesn't keep the task running.
struct MonitoredConfig<T> {
    state: Arc<Watchable<State<T>>>,
    mirror: Monitor,
}

impl<T: Send + Sync + 'static> Config<T> {
    /// How its connection to the cluster is doing: [`Health`] says what that means. It is ready once its first state is
    /// known, be that a value, an error or none, and while it follows etcd. The last error is that of the network or a
    /// [`DecodeError`](super::DecodeError), whichever came later.
    #[must_use]
    pub fn health(&self) -> Health {
        self.monitored().health()
    }

    /// A handle to wait for changes of [`health`](Self::health); changes of the value are told by
    /// [`changed`](Self::changed).
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor::new(Arc::new(self.monitored()))
    }

    fn monitored(&self) -> MonitoredConfig<T> {
        MonitoredConfig { state: self.shared.state.clone(), mirror: self.shared.mirror.clone() }
    }
}

impl<T: Send + Sync + 'static> Monitored for MonitoredConfig<T> {
    fn health(&self) -> Health {
        let mut health = self.mirror.health();
        let (state, _) = self.state.read(State::clone);
        if let Some((at, error)) = state.failed {
            health = health.with_error(at, Arc::new(error));
        }
        let verdict = match (&state.end, health.verdict()) {
            (None, Verdict::Ready) if state.revision.is_none() => Verdict::NotReady,
            (None, verdict) => verdict.clone(),
            (Some(Ended::Watch(reason)), _) => match NeverReady::from(reason.clone()) {
                NeverReady::Ended(_) | NeverReady::Closed => ended(&state.end),
                of_client => Verdict::Ended(of_client),
            },
            (Some(Ended::Stopped), _) => Verdict::Ended(NeverReady::RuntimeGone),
            (Some(_), _) => ended(&state.end),
        };
        health.with_verdict(verdict).with_published_revision(state.revision)
    }

    fn changes(&self) -> Vec<&WaitList> {
        let mut changes = self.mirror.source().changes();
        changes.push(self.state.waiting());
        changes
    }
}

fn ended(end: &Option<Ended>) -> Verdict {
    Verdict::Ended(end.clone().map_or(NeverReady::Closed, NeverReady::because_of))
}

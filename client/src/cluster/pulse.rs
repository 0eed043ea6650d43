//! What the calls of a client have heard of the cluster last.

use std::sync::{Arc, Mutex};

use etcd_watch_core::Instant;

use crate::{
    AttemptError, Endpoint,
    health::Contact,
    sync::{WaitList, lock},
};

/// What the calls of a client have heard of the cluster last.
#[derive(Debug)]
pub(crate) struct Pulse {
    beat: Mutex<Beat>,
    changes: WaitList,
}

/// What [`Pulse::read`] tells.
#[derive(Clone, Debug)]
pub(crate) struct Beat {
    pub(crate) contact: Contact,
    /// Since when calls have no connection on which a member has answered.
    pub(crate) away: Option<Instant>,
    /// A connection on which nothing has been answered: a member that hangs can be connected to.
    unproven: Option<(Arc<Endpoint>, Instant)>,
}

impl Pulse {
    pub(crate) fn new(now: Instant) -> Self {
        let beat = Beat { contact: Contact::default(), away: Some(now), unproven: None };
        Self { beat: Mutex::new(beat), changes: WaitList::default() }
    }

    pub(crate) fn read(&self) -> Beat {
        lock(&self.beat).clone()
    }

    /// The tasks that wait for a change: a connection that has answered, its end, or an error.
    pub(crate) fn changes(&self) -> &WaitList {
        &self.changes
    }

    /// Calls are made on this connection from now on.
    pub(crate) fn connected(&self, endpoint: &Arc<Endpoint>, now: Instant) {
        lock(&self.beat).unproven = Some((endpoint.clone(), now));
    }

    /// Calls have no connection any more.
    pub(crate) fn disconnected(&self, now: Instant) {
        {
            let mut beat = lock(&self.beat);
            beat.unproven = None;
            beat.contact.disconnect();
            beat.away.get_or_insert(now);
        }
        self.changes.wake_all();
    }

    /// A call was answered.
    pub(crate) fn answered(&self, now: Instant) {
        let is_new = {
            let mut beat = lock(&self.beat);
            beat.contact.hear(now);
            let proven = beat.unproven.take();
            if let Some((endpoint, since)) = &proven {
                // Another connection, if to the same endpoint.
                beat.contact.disconnect();
                beat.contact.connect(endpoint, *since);
                beat.away = None;
            }
            proven.is_some()
        };
        if is_new {
            self.changes.wake_all();
        }
    }

    /// A member could not be connected to, or was of no use.
    pub(crate) fn failed(&self, now: Instant, error: AttemptError) {
        let error = Arc::new(error);
        // It may come from a connector of the application's.
        let replaced = lock(&self.beat).contact.failed(now, error);
        drop(replaced);
        self.changes.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use etcd_watch_core::Failure;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_connection_counts_once_a_call_was_answered_on_it() {
        let pulse = Pulse::new(at(0));
        let endpoint: Arc<Endpoint> = Arc::new("http://a:1".parse().unwrap());
        let told = |pulse: &Pulse| {
            let beat = pulse.read();
            (beat.away, beat.contact.connected().map(|(_, since)| since), beat.contact.heard())
        };
        pulse.connected(&endpoint, at(1));
        assert_eq!(told(&pulse), (Some(at(0)), None, None));
        pulse.answered(at(2));
        assert_eq!(told(&pulse), (None, Some(at(1)), Some(at(2))));
        pulse.disconnected(at(3));
        pulse.failed(at(3), Failure::EndOfStream.into());
        pulse.connected(&endpoint, at(4));
        pulse.disconnected(at(5));
        assert_eq!(told(&pulse), (Some(at(3)), None, Some(at(2))), "it hangs since then");
        pulse.connected(&endpoint, at(6));
        pulse.answered(at(7));
        assert_eq!(told(&pulse), (None, Some(at(6)), Some(at(7))));
        assert_eq!(pulse.read().contact.error().map(|(at, _)| *at), Some(at(3)), "the error stays");
    }
}

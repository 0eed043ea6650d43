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
    current: Option<Current>,
}

/// The connection that calls share.
#[derive(Clone, Debug)]
struct Current {
    /// The pool's number of it.
    serial: u64,
    endpoint: Arc<Endpoint>,
    since: Instant,
    /// Whether a member has answered on it: a member that hangs can be connected to.
    is_proven: bool,
}

impl Pulse {
    pub(crate) fn new(now: Instant) -> Self {
        let beat = Beat { contact: Contact::default(), away: Some(now), current: None };
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
    pub(crate) fn connected(&self, serial: u64, endpoint: &Arc<Endpoint>, now: Instant) {
        let endpoint = endpoint.clone();
        lock(&self.beat).current = Some(Current { serial, endpoint, since: now, is_proven: false });
    }

    /// Calls don't have this connection any more. What is said of one that was replaced changes nothing.
    pub(crate) fn disconnected(&self, serial: u64, now: Instant) {
        {
            let mut beat = lock(&self.beat);
            if beat.current.take_if(|current| current.serial == serial).is_none() {
                return;
            }
            beat.contact.disconnect();
            beat.away.get_or_insert(now);
        }
        self.changes.wake_all();
    }

    /// A call was answered on this connection.
    pub(crate) fn answered(&self, serial: u64, now: Instant) {
        let is_new = {
            let mut beat = lock(&self.beat);
            let Beat { contact, away, current } = &mut *beat;
            contact.hear(now);
            let proven = current.as_mut().filter(|current| current.serial == serial && !current.is_proven);
            if let Some(current) = proven {
                current.is_proven = true;
                // Another connection, if to the same endpoint.
                contact.disconnect();
                contact.connect(&current.endpoint, current.since);
                *away = None;
                true
            } else {
                false
            }
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
        pulse.connected(1, &endpoint, at(1));
        assert_eq!(told(&pulse), (Some(at(0)), None, None));
        pulse.answered(1, at(2));
        assert_eq!(told(&pulse), (None, Some(at(1)), Some(at(2))));
        pulse.disconnected(1, at(3));
        pulse.failed(at(3), Failure::EndOfStream.into());
        pulse.connected(2, &endpoint, at(4));
        pulse.disconnected(2, at(5));
        assert_eq!(told(&pulse), (Some(at(3)), None, Some(at(2))), "it hangs since then");
        pulse.connected(3, &endpoint, at(6));
        pulse.answered(3, at(7));
        assert_eq!(told(&pulse), (None, Some(at(6)), Some(at(7))));
        assert_eq!(pulse.read().contact.error().map(|(at, _)| *at), Some(at(3)), "the error stays");
    }

    #[test]
    fn what_is_said_of_another_connection_says_nothing_of_this_one() {
        let pulse = Pulse::new(at(0));
        let endpoint: Arc<Endpoint> = Arc::new("http://a:1".parse().unwrap());
        pulse.connected(1, &endpoint, at(1));
        pulse.connected(2, &endpoint, at(2));
        pulse.answered(1, at(3));
        assert_eq!(pulse.read().away, Some(at(0)), "a late answer on the one before");
        pulse.disconnected(1, at(4));
        pulse.answered(2, at(5));
        assert_eq!(pulse.read().away, None, "the end of the one before does not keep it from being proven");
    }
}

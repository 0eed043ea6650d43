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
    /// Since when calls have a connection, or have none.
    pub(crate) since: Instant,
}

impl Pulse {
    pub(crate) fn new(now: Instant) -> Self {
        let beat = Beat { contact: Contact::default(), since: now };
        Self { beat: Mutex::new(beat), changes: WaitList::default() }
    }

    pub(crate) fn read(&self) -> Beat {
        lock(&self.beat).clone()
    }

    /// The tasks that wait for a change: a connection, an error, or the first answer.
    pub(crate) fn changes(&self) -> &WaitList {
        &self.changes
    }

    /// Calls have this connection from now on.
    pub(crate) fn connected(&self, endpoint: &Arc<Endpoint>, now: Instant) {
        {
            let mut beat = lock(&self.beat);
            // Another connection, if to the same endpoint.
            beat.contact.disconnect();
            beat.contact.connect(endpoint, now);
            beat.since = now;
        }
        self.changes.wake_all();
    }

    /// Calls have no connection any more.
    pub(crate) fn disconnected(&self, now: Instant) {
        {
            let mut beat = lock(&self.beat);
            beat.contact.disconnect();
            beat.since = now;
        }
        self.changes.wake_all();
    }

    /// A call was answered.
    pub(crate) fn answered(&self, now: Instant) {
        let is_first = {
            let mut beat = lock(&self.beat);
            let is_first = beat.contact.heard().is_none();
            beat.contact.hear(now);
            is_first
        };
        if is_first {
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

//! The connections of all watch streams, and which of them have something for the driver.
//!
//! Each connection is polled with a waker of its own, so that a wake-up of the driver costs the same however many
//! connections there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

use etcd_watch_core::StreamKey;
use futures_util::task::AtomicWaker;

use crate::{
    sync::{lock, wake_all},
    watch::connection::StreamConnection,
};

/// The connections of all watch streams.
#[derive(Default)]
pub(crate) struct Connections {
    slots: BTreeMap<StreamKey, Slot>,
    /// The connections that are open and not being read, since the machine has no room.
    paused: BTreeSet<StreamKey>,
    ready: Arc<Ready>,
}

struct Slot {
    connection: StreamConnection,
    bell: Arc<Bell>,
    waker: Waker,
}

/// The connections that are to be polled.
#[derive(Default)]
struct Ready {
    keys: Mutex<Vec<StreamKey>>,
    driver: AtomicWaker,
}

/// Wakes the driver for one connection.
struct Bell {
    key: StreamKey,
    /// Whether the key is among those that are to be polled.
    rung: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.ring() {
            wake_all(self.ready.driver.take());
        }
    }
}

impl Bell {
    /// Has the connection polled; whether that is new.
    fn ring(&self) -> bool {
        let is_new = !self.rung.swap(true, Ordering::AcqRel);
        if is_new {
            lock(&self.ready.keys).push(self.key);
        }
        is_new
    }
}

impl Connections {
    /// Adds a connection, which is to be polled.
    pub(crate) fn insert(&mut self, connection: StreamConnection) {
        let key = connection.key;
        let bell = Arc::new(Bell { key, rung: AtomicBool::new(false), ready: self.ready.clone() });
        bell.ring();
        let waker = Waker::from(bell.clone());
        self.slots.insert(key, Slot { connection, bell, waker });
    }

    pub(crate) fn remove(&mut self, key: StreamKey) -> Option<StreamConnection> {
        self.paused.remove(&key);
        self.slots.remove(&key).map(|slot| slot.connection)
    }

    pub(crate) fn clear(&mut self) {
        self.paused.clear();
        self.slots.clear();
    }

    pub(crate) fn get(&self, key: StreamKey) -> Option<&StreamConnection> {
        self.slots.get(&key).map(|slot| &slot.connection)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &StreamConnection> {
        self.slots.values().map(|slot| &slot.connection)
    }

    /// The open connections that are not being read.
    pub(crate) fn paused(&self) -> &BTreeSet<StreamKey> {
        &self.paused
    }

    /// Notes whether an open connection is not being read.
    pub(crate) fn set_paused(&mut self, key: StreamKey, is_paused: bool) {
        if is_paused {
            self.paused.insert(key);
        } else {
            self.paused.remove(&key);
        }
    }

    /// Registers the driver's task, which is woken when a connection is to be polled. To be called before
    /// [`take_ready`](Self::take_ready).
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.ready.driver.register(cx.waker());
    }

    /// Adds the connections that are to be polled, in the order of their wake-ups. Some may be gone.
    pub(crate) fn take_ready(&self, keys: &mut Vec<StreamKey>) {
        keys.append(&mut lock(&self.ready.keys));
    }

    /// The connection, with the waker to poll it with.
    pub(crate) fn for_polling(&mut self, key: StreamKey) -> Option<(&mut StreamConnection, &Waker)> {
        let slot = self.slots.get_mut(&key)?;
        // First, so that a wake-up that comes while it is polled counts for the next time. A swap and no store: it sees
        // what was written before the wake-ups that found the bell rung.
        slot.bell.rung.swap(false, Ordering::AcqRel);
        Some((&mut slot.connection, &slot.waker))
    }

    /// The connection is to be polled again, although nothing has woken it.
    pub(crate) fn poll_again(&self, key: StreamKey) {
        if let Some(slot) = self.slots.get(&key) {
            slot.bell.ring();
        }
    }
}

impl Drop for Connections {
    /// A waker that the network still holds is not to hold the driver's task.
    fn drop(&mut self) {
        drop(self.ready.driver.take());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use etcd_watch_core::{Instant, KeyRange, WatchConfig, WatchRequest, Watcher};

    use super::*;

    /// The driver's task, as far as it is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Task {
        fn woken(&self) -> usize {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    /// The keys of streams: only a machine makes some.
    fn keys(count: usize) -> Vec<StreamKey> {
        let mut machine = Watcher::new(WatchConfig::default(), 1).unwrap();
        let request = WatchRequest::new(KeyRange::key("k")).own_stream(true).start_revision(1);
        let stream = |_| {
            let watch = machine.watch(Instant::ZERO, request.clone()).unwrap();
            machine.watch_stats(watch).and_then(|stats| stats.stream).unwrap()
        };
        (0..count).map(stream).collect()
    }

    fn bell(connections: &Connections, key: StreamKey) -> Arc<Bell> {
        Arc::new(Bell { key, rung: AtomicBool::new(false), ready: connections.ready.clone() })
    }

    fn taken(connections: &Connections) -> Vec<StreamKey> {
        let mut keys = Vec::new();
        connections.take_ready(&mut keys);
        keys
    }

    #[test]
    fn the_driver_is_woken_once_for_each_connection_that_has_something() {
        let (connections, task) = (Connections::default(), Arc::<Task>::default());
        let keys = keys(3);
        let bells: Vec<_> = keys.iter().map(|&key| bell(&connections, key)).collect();
        let waker = Waker::from(task.clone());
        connections.register(&Context::from_waker(&waker));
        for at in [2, 0, 2, 2] {
            bells[at].wake_by_ref();
        }
        assert_eq!((task.woken(), taken(&connections)), (1, vec![keys[2], keys[0]]));
        assert_eq!(taken(&connections), []);
    }

    #[test]
    fn a_wake_up_that_comes_while_a_connection_is_polled_is_not_lost() {
        let (connections, task) = (Connections::default(), Arc::<Task>::default());
        let key = keys(1)[0];
        let bell = bell(&connections, key);
        bell.wake_by_ref();
        assert_eq!(taken(&connections), [key]);
        let waker = Waker::from(task.clone());
        connections.register(&Context::from_waker(&waker));
        // As `for_polling` does before it is polled.
        bell.rung.swap(false, Ordering::AcqRel);
        bell.wake_by_ref();
        assert_eq!((task.woken(), taken(&connections)), (1, vec![key]));
    }
}

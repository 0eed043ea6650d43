//! The way between a host and a member.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::core::{Core, lock};
use super::etcd::name_of;
use super::fault::Fault;
use super::server::name_at;
use super::socket::Connection;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a host to a member.
    ToMember,
    /// From a member to a host.
    ToHost,
}

impl Direction {
    pub(super) fn index(self) -> usize {
        match self {
            Self::ToMember => 0,
            Self::ToHost => 1,
        }
    }

    pub(super) fn reverse(self) -> Self {
        match self {
            Self::ToMember => Self::ToHost,
            Self::ToHost => Self::ToMember,
        }
    }
}

/// The way between a host and a member, and what is wrong with it.
#[derive(Debug)]
pub(super) struct LinkState {
    pub(super) host: String,
    pub(super) member: usize,
    state: Mutex<State>,
    healed: Notify,
}

#[derive(Debug, Default)]
struct State {
    held: [u32; 2],
    refusing: u32,
    delays: BTreeMap<u64, Duration>,
    /// In bytes a second.
    rates: BTreeMap<u64, u64>,
    next_fault: u64,
    cut_after: Option<u64>,
    connections: BTreeMap<u64, Weak<Connection>>,
}

/// How the link treats bytes that are written to it at this moment.
pub(super) struct Terms {
    pub(super) delay: Duration,
    pub(super) rate: Option<u64>,
    /// So many are sent; then the connection is cut, if so.
    pub(super) bytes: usize,
    pub(super) is_cut: bool,
}

impl LinkState {
    pub(super) fn new(host: String, member: usize) -> Self {
        Self { host, member, state: Mutex::default(), healed: Notify::new() }
    }

    pub(super) fn is_held(&self, direction: Direction) -> bool {
        lock(&self.state).held[direction.index()] > 0
    }

    pub(super) fn is_refusing(&self) -> bool {
        lock(&self.state).refusing > 0
    }

    /// How the link treats so many bytes that are written to it at this moment.
    pub(super) fn terms(&self, bytes: usize) -> Terms {
        let mut state = lock(&self.state);
        let delay = state.delays.values().sum();
        let rate = state.rates.values().min().copied();
        let Some(left) = state.cut_after else { return Terms { delay, rate, bytes, is_cut: false } };
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let is_cut = bytes >= most;
        state.cut_after = (!is_cut).then(|| left - bytes as u64);
        Terms { delay, rate, bytes: bytes.min(most), is_cut }
    }

    pub(super) fn add(&self, id: u64, connection: &Arc<Connection>) {
        let mut state = lock(&self.state);
        state.connections.retain(|_, connection| connection.strong_count() > 0);
        state.connections.insert(id, Arc::downgrade(connection));
    }

    fn connections(&self) -> Vec<Arc<Connection>> {
        lock(&self.state).connections.values().filter_map(Weak::upgrade).collect()
    }

    /// Waits until both ways are open.
    pub(super) async fn until_open(&self) {
        loop {
            let healed = self.healed.notified();
            if lock(&self.state).held == [0, 0] {
                return;
            }
            healed.await;
        }
    }

    fn release(&self, held: [bool; 2]) {
        let mut state = lock(&self.state);
        for (count, held) in state.held.iter_mut().zip(held) {
            *count -= u32::from(held);
        }
        drop(state);
        self.connections().iter().for_each(|connection| connection.wake());
        self.healed.notify_waiters();
    }

    /// Forgets a cut that has not come yet.
    pub(super) fn spare(&self) {
        lock(&self.state).cut_after = None;
    }
}

/// The network between a host and a member. Bytes are delivered in order, in pieces whose sizes and delays follow from
/// the run's seed. Every fault can be combined with every other.
#[derive(Clone)]
pub struct Link {
    core: Arc<Core>,
    state: Arc<LinkState>,
}

impl Link {
    pub(super) fn between(core: &Arc<Core>, host: &str, member: usize) -> Self {
        let mut links = lock(&core.links);
        let state = links
            .entry((host.to_owned(), member))
            .or_insert_with(|| Arc::new(LinkState::new(host.to_owned(), member)));
        Self { core: core.clone(), state: state.clone() }
    }

    pub(super) fn state(&self) -> &Arc<LinkState> {
        &self.state
    }

    fn fault(&self, what: fmt::Arguments<'_>) {
        self.core.fault(&self.to_string(), what);
    }

    /// Keeps everything back, both ways, connections that are being opened too; it arrives when that ends, as TCP sends
    /// again what was lost.
    pub fn partition(&self) -> Fault {
        self.fault(format_args!("partitioned"));
        self.hold_both([true, true])
    }

    /// Keeps back what goes one way; no connections are opened meanwhile.
    pub fn hold(&self, direction: Direction) -> Fault {
        self.fault(format_args!("{direction:?} is held"));
        let mut held = [false, false];
        held[direction.index()] = true;
        self.hold_both(held)
    }

    fn hold_both(&self, held: [bool; 2]) -> Fault {
        let mut state = lock(&self.state.state);
        for (count, held) in state.held.iter_mut().zip(held) {
            *count += u32::from(held);
        }
        drop(state);
        let link = self.clone();
        Fault::new(move || {
            link.core.note(&link.to_string(), format_args!("healed"));
            link.state.release(held);
        })
    }

    /// Refuses new connections; those that are open stay.
    pub fn refuse(&self) -> Fault {
        self.fault(format_args!("refuses connections"));
        lock(&self.state.state).refusing += 1;
        let state = self.state.clone();
        Fault::new(move || lock(&state.state).refusing -= 1)
    }

    /// Delays what is sent from now on by so much more.
    pub fn delay(&self, more: Duration) -> Fault {
        self.fault(format_args!("delayed by {more:?}"));
        let id = self.number();
        lock(&self.state.state).delays.insert(id, more);
        let state = self.state.clone();
        Fault::new(move || {
            lock(&state.state).delays.remove(&id);
        })
    }

    /// Lets no more than so many bytes a second through, each way. What waits for that fills the buffers, and then the
    /// sender can't write: to a member, its client is a slow reader.
    pub fn throttle(&self, bytes_per_second: u64) -> Fault {
        self.fault(format_args!("throttled to {bytes_per_second} bytes/s"));
        let id = self.number();
        lock(&self.state.state).rates.insert(id, bytes_per_second.max(1));
        let state = self.state.clone();
        Fault::new(move || {
            lock(&state.state).rates.remove(&id);
        })
    }

    fn number(&self) -> u64 {
        let mut state = lock(&self.state.state);
        state.next_fault += 1;
        state.next_fault
    }

    /// Resets the open connections.
    pub fn cut(&self) {
        self.fault(format_args!("cut"));
        self.state.connections().iter().for_each(|connection| connection.reset());
    }

    /// Resets a connection once so many bytes more were sent over this link, either way: the connection that sends the
    /// last of them. What was sent before arrives.
    pub fn cut_after(&self, bytes: u64) {
        self.fault(format_args!("to be cut after {bytes} bytes"));
        lock(&self.state.state).cut_after = Some(bytes);
    }

    /// Leaves the open connections half-open, for good: whatever is sent on them is lost, and neither end is told, as
    /// after the reboot of a NAT gateway. New ones are not concerned.
    pub fn forget_connections(&self) {
        self.fault(format_args!("connections are half-open"));
        self.state.connections().iter().for_each(|connection| connection.swallow());
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = name_at(self.state.member).unwrap_or_else(|| name_of(self.state.member));
        write!(f, "{}--{to}", self.state.host)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({self})")
    }
}

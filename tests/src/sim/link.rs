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
use crate::server::Orders;

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
    stalled: u32,
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
}

/// How many bytes may be sent before a cut.
pub(super) struct Cut {
    pub(super) after: usize,
    /// The connection is cut then.
    pub(super) is_now: bool,
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

    pub(super) fn is_stalled(&self) -> bool {
        lock(&self.state).stalled > 0
    }

    /// What is true of bytes that are sent now.
    pub(super) fn terms(&self) -> Terms {
        let state = lock(&self.state);
        Terms { delay: state.delays.values().sum(), rate: state.rates.values().min().copied() }
    }

    /// Counts bytes that are about to be sent, as far as a cut lets them.
    pub(super) fn count(&self, bytes: usize) -> Cut {
        let mut state = lock(&self.state);
        let Some(left) = state.cut_after else { return Cut { after: bytes, is_now: false } };
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let is_now = bytes >= most;
        state.cut_after = (!is_now).then(|| left - bytes as u64);
        Cut { after: bytes.min(most), is_now }
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

    /// Forgets what has not come yet: a cut, calls that are to be refused, answers that are to be lost.
    pub(super) fn spare(&self) {
        lock(&self.state).cut_after = None;
        for orders in self.connections().iter().filter_map(|connection| connection.orders()) {
            orders.refuse_calls(0);
            orders.lose_answers(0);
        }
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
    /// sender can't write: to a member, its client is a slow reader. When this ends, what waits arrives at once.
    pub fn throttle(&self, bytes_per_second: u64) -> Fault {
        self.fault(format_args!("throttled to {bytes_per_second} bytes/s"));
        let id = self.number();
        lock(&self.state.state).rates.insert(id, bytes_per_second.max(1));
        let state = self.state.clone();
        Fault::new(move || {
            lock(&state.state).rates.remove(&id);
            let terms = state.terms();
            state.connections().iter().for_each(|connection| connection.hasten(&terms));
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

    /// Resets the streams that are open now, with an error code of HTTP/2's, as a proxy does that loses its server. What
    /// they asked for may have been done: so the code should not be `REFUSED_STREAM` (7), which says the opposite.
    pub fn reset_streams(&self, code: u32) {
        self.fault(format_args!("streams are reset with code {code}"));
        self.reset(None, code);
    }

    /// Resets one of the streams that are open now on each connection: the nth, in the order in which they were opened, and
    /// beginning again after the last.
    pub fn reset_stream(&self, nth: usize, code: u32) {
        self.fault(format_args!("stream {nth} is reset with code {code}"));
        self.reset(Some(nth), code);
    }

    fn reset(&self, nth: Option<usize>, code: u32) {
        self.each_member(|orders| orders.reset(nth, code));
    }

    /// Has the member refuse the next so many calls on each open connection, by `REFUSED_STREAM`: nothing is done for them.
    pub fn refuse_calls(&self, calls: u32) {
        self.fault(format_args!("refuses {calls} calls"));
        self.each_member(|orders| orders.refuse_calls(calls));
    }

    /// Has the member do what the next so many calls on each open connection ask for, and reset their streams in place of
    /// the answers.
    pub fn lose_answers(&self, answers: u32) {
        self.fault(format_args!("{answers} answers are to be lost"));
        self.each_member(|orders| orders.lose_answers(answers));
    }

    /// Has the member withhold its windows: it takes calls and answers pings, but leaves no room for what the host sends in
    /// its streams, as one that doesn't keep up. New connections are concerned as soon as they are open.
    pub fn stall(&self) -> Fault {
        self.fault(format_args!("windows are withheld"));
        lock(&self.state.state).stalled += 1;
        self.each_member(|orders| orders.stall(true));
        let link = self.clone();
        Fault::new(move || {
            link.core.note(&link.to_string(), format_args!("windows are open"));
            lock(&link.state.state).stalled -= 1;
            let is_stalled = link.state.is_stalled();
            link.each_member(|orders| orders.stall(is_stalled));
        })
    }

    /// For the open connections to members of the cluster.
    fn each_member(&self, work: impl Fn(&Orders)) {
        let connections = self.state.connections();
        connections.iter().filter_map(|connection| connection.orders()).for_each(|orders| work(orders));
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

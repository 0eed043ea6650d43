//! What a member is told to do wrong on one connection.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use super::shared::lock;

/// What a member is told to do wrong on one connection.
#[derive(Debug)]
pub(crate) struct Orders {
    member: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    farewell: Option<Farewell>,
    is_stalled: bool,
    /// How many calls are still to be refused.
    refusals: u32,
    /// How many answers are still to be lost.
    losses: u32,
    connection: Option<Waker>,
    /// The streams that are open, by their ids.
    streams: BTreeMap<u32, Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    /// The code that it is to be reset with.
    reset: Option<u32>,
    call: Option<Waker>,
}

/// How a member says that it goes away.
#[derive(Clone, Copy, Debug)]
pub(super) enum Farewell {
    /// What is under way goes on.
    Graceful,
    /// The connection ends at once, with this code.
    Abrupt(u32),
}

impl Orders {
    /// Nothing yet.
    pub(crate) fn of_member(member: usize) -> Arc<Self> {
        Arc::new(Self { member, state: Mutex::default() })
    }

    pub(super) fn member(&self) -> usize {
        self.member
    }

    /// Sends GOAWAY; the connection ends with its last stream.
    pub(crate) fn drain(&self) {
        self.change(|state| state.farewell = Some(Farewell::Graceful));
    }

    /// Sends GOAWAY with an error code, and ends the connection.
    pub(crate) fn go_away(&self, code: u32) {
        self.change(|state| state.farewell = Some(Farewell::Abrupt(code)));
    }

    /// Whether the client is kept from sending anything in its streams.
    pub(crate) fn stall(&self, is_stalled: bool) {
        self.change(|state| state.is_stalled = is_stalled);
    }

    /// Refuses the next so many calls before anything is done for them.
    pub(crate) fn refuse_calls(&self, calls: u32) {
        lock(&self.state).refusals = calls;
    }

    /// Does what the next so many calls ask for, and resets their streams in place of an answer.
    pub(crate) fn lose_answers(&self, answers: u32) {
        lock(&self.state).losses = answers;
    }

    /// Resets the open streams with this code, or only the nth of them.
    pub(crate) fn reset(&self, nth: Option<usize>, code: u32) {
        let mut state = lock(&self.state);
        let open = state.streams.len();
        let (skip, take) = match nth {
            Some(nth) if open > 0 => (nth % open, 1),
            _ => (0, open),
        };
        let streams = state.streams.values_mut().skip(skip).take(take);
        let wakers: Vec<Waker> = streams
            .filter_map(|stream| {
                stream.reset = Some(code);
                stream.call.take()
            })
            .collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        change(&mut state);
        let connection = state.connection.take();
        drop(state);
        if let Some(connection) = connection {
            connection.wake();
        }
    }

    /// Wakes the connection's task when something is ordered.
    pub(super) fn listen(&self, waker: &Waker) {
        lock(&self.state).connection = Some(waker.clone());
    }

    pub(super) fn take_farewell(&self) -> Option<Farewell> {
        lock(&self.state).farewell.take()
    }

    pub(super) fn is_stalled(&self) -> bool {
        lock(&self.state).is_stalled
    }

    /// Whether this call is to be refused.
    pub(super) fn takes_refusal(&self) -> bool {
        take_one(&mut lock(&self.state).refusals)
    }

    /// Whether this answer is to be lost.
    pub(super) fn takes_loss(&self) -> bool {
        take_one(&mut lock(&self.state).losses)
    }

    /// A stream has been opened.
    pub(super) fn enter(self: &Arc<Self>, id: u32) -> StreamOrders {
        lock(&self.state).streams.insert(id, Stream::default());
        StreamOrders { orders: self.clone(), id }
    }
}

fn take_one(left: &mut u32) -> bool {
    let is_left = *left > 0;
    *left -= u32::from(is_left);
    is_left
}

/// What a member is told to do wrong on one stream, while that is open.
pub(super) struct StreamOrders {
    orders: Arc<Orders>,
    id: u32,
}

impl StreamOrders {
    /// Waits until it is to be reset; the code.
    pub(super) async fn reset(&self) -> u32 {
        poll_fn(|cx| {
            let mut state = lock(&self.orders.state);
            let Some(stream) = state.streams.get_mut(&self.id) else { return Poll::Pending };
            stream.call = Some(cx.waker().clone());
            stream.reset.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl Drop for StreamOrders {
    fn drop(&mut self) {
        lock(&self.orders.state).streams.remove(&self.id);
    }
}

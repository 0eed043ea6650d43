//! The machine on one thread: whichever task has something to tell it does so, and then does what the
//! machine says. A `RefCell` is enough; nothing here is `Send`, and nothing has to be.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    error::Error,
    future::{Future, poll_fn},
    rc::Rc,
    task::{Poll, Waker},
};

use compio::runtime::{JoinHandle, spawn};
use etcd_watch_core::{Action, Failure, Instant, RangeKey, Request, StreamKey, WatchConfig, Watcher};
use etcd_watch_event_loops::{
    args::Args,
    clock::Clock,
    endpoints::{Endpoint, Endpoints},
    output::{Printer, log},
};

use crate::link;

/// The machine and all that it has asked for.
pub(crate) struct Driver(RefCell<State>);

struct State {
    machine: Watcher,
    clock: Clock,
    endpoints: Endpoints,
    streams: BTreeMap<StreamKey, Stream>,
    reads: BTreeMap<RangeKey, JoinHandle<()>>,
    timer: Option<(Instant, JoinHandle<()>)>,
    printer: Printer,
    at_end: Option<Waker>,
}

/// A stream's task, which ends when this is dropped, and what is said to it.
struct Stream {
    _task: JoinHandle<()>,
    mailbox: Rc<RefCell<Mailbox>>,
}

/// What the driver says to a stream's task.
#[derive(Default)]
pub(crate) struct Mailbox {
    /// What to send, in this order.
    pub(crate) requests: Vec<Request>,
    /// Whether the machine wants frames.
    pub(crate) wanted: bool,
    pub(crate) waker: Option<Waker>,
}

impl Mailbox {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Driver {
    /// Opens the watch.
    pub(crate) fn start(args: Args) -> Result<Rc<Self>, Box<dyn Error>> {
        let clock = Clock::start();
        let mut machine = Watcher::new(WatchConfig::default(), u64::from(std::process::id()))?;
        machine.watch(clock.now(), args.watch())?;
        let driver = Rc::new(Self(RefCell::new(State {
            machine,
            clock,
            printer: Printer::new(args.events),
            endpoints: args.endpoints,
            streams: BTreeMap::new(),
            reads: BTreeMap::new(),
            timer: None,
            at_end: None,
        })));
        driver.tell(|_, _| {});
        Ok(driver)
    }

    /// Tells the machine something, then does what it says.
    pub(crate) fn tell(self: &Rc<Self>, something: impl FnOnce(&mut Watcher, Instant)) {
        let mut state = self.0.borrow_mut();
        let now = state.clock.now();
        something(&mut state.machine, now);
        while let Some(action) = state.machine.poll_action() {
            self.perform(&mut state, action);
        }
        let State { machine, streams, .. } = &mut *state;
        for (&stream, Stream { mailbox, .. }) in streams {
            let mut mailbox = mailbox.borrow_mut();
            let wanted = machine.wants_frame(stream);
            if wanted && !mailbox.wanted {
                mailbox.wake();
            }
            mailbox.wanted = wanted;
        }
        self.set_timer(&mut state);
        if let Some(waker) = state.at_end.take() {
            waker.wake();
        }
    }

    fn perform(self: &Rc<Self>, state: &mut State, action: Action) {
        match action {
            // A new auth token is not needed where there is none.
            Action::Open { stream, options, endpoint, fresh_token: _ } => {
                let endpoint = state.endpoints.pick(Some(stream.stream()), endpoint);
                let mailbox = Rc::<RefCell<Mailbox>>::default();
                let (driver, inbox) = (self.clone(), mailbox.clone());
                let task = spawn(async move {
                    let failure = link::watch(&driver, stream, &endpoint, &options, &inbox).await;
                    driver.lost(&endpoint, &format_args!("{stream:?}"), &failure);
                    driver.0.borrow_mut().streams.remove(&stream);
                    driver.tell(|machine, now| machine.handle_failed(now, stream, failure));
                });
                state.streams.insert(stream, Stream { _task: task, mailbox });
            }
            Action::Send { stream, request, .. } => {
                if let Some(Stream { mailbox, .. }) = state.streams.get(&stream) {
                    let mut mailbox = mailbox.borrow_mut();
                    mailbox.requests.push(request);
                    mailbox.wake();
                }
            }
            Action::Close { stream, reason } => {
                log(format_args!("closing {stream:?}: {reason}"));
                state.streams.remove(&stream);
            }
            Action::Range { range, request, options, endpoint, fresh_token: _ } => {
                let endpoint = state.endpoints.pick(None, endpoint);
                let driver = self.clone();
                let task = spawn(async move {
                    let result = link::read(&endpoint, &request, &options).await;
                    if let Err(failure) = &result {
                        driver.lost(&endpoint, &format_args!("{range:?}"), failure);
                    }
                    driver.0.borrow_mut().reads.remove(&range);
                    driver.tell(|machine, now| machine.handle_range_done(now, range, result));
                });
                state.reads.insert(range, task);
            }
            Action::Deliver { watch } => {
                let now = state.clock.now();
                while let Some(delivery) = state.machine.next(now, watch) {
                    state.printer.deliver(delivery);
                }
            }
            Action::Overflowed { watch, policy, .. } => log(format_args!("{watch:?} lags: {policy:?}")),
        }
    }

    /// Lets the machine's timeout come when it wants it.
    fn set_timer(self: &Rc<Self>, state: &mut State) {
        let Some(at) = state.machine.poll_timeout() else { return };
        // One that rings earlier does no harm; a new one for each change would cost more.
        if state.timer.as_ref().is_some_and(|&(set, _)| set <= at) {
            return;
        }
        let left = at.since(state.clock.now());
        let driver = self.clone();
        let task = spawn(async move {
            compio::time::sleep(left).await;
            driver.0.borrow_mut().timer = None;
            driver.tell(|machine, now| machine.handle_timeout(now));
        });
        state.timer = Some((at, task));
    }

    fn lost(&self, endpoint: &Endpoint, what: &dyn std::fmt::Display, failure: &Failure) {
        log(format_args!("{}: {what}: {failure}", endpoint.authority));
        self.0.borrow_mut().endpoints.failed(endpoint);
    }

    /// Ends the watch, and every stream.
    pub(crate) fn shutdown(self: &Rc<Self>) {
        self.tell(|machine, now| machine.shutdown(now));
    }

    /// Waits until the program is to end.
    pub(crate) fn end(&self) -> impl Future<Output = Result<(), Box<dyn Error>>> {
        poll_fn(|cx| {
            let mut state = self.0.borrow_mut();
            state.at_end = Some(cx.waker().clone());
            state.printer.end().map_or(Poll::Pending, Poll::Ready)
        })
    }
}

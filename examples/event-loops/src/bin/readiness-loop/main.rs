//! An etcd watch in a readiness loop written by hand: one thread, one `mio::Poll`, no async runtime.
//!
//! ```text
//! readiness-loop ENDPOINT[,ENDPOINT...] PREFIX [--rev REVISION] [--events COUNT]
//! ```
//!
//! It prints a line for each event, and ends after so many events or when its standard input is closed.
//!
//! | file | what it owns |
//! |---|---|
//! | `main` | the loop: the machine's actions, inputs and timeouts |
//! | `link` | one connection and the call on it, as states that are polled |
//! | `socket` | a non-blocking socket behind the traits `h2` wants |

mod link;
mod socket;

use std::{
    error::Error,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
};

use etcd_watch_core::{Action, EndpointHint, Failure, Instant, StreamOptions, WatchConfig, Watcher};
use etcd_watch_event_loops::{
    args::Args,
    call::broken,
    clock::Clock,
    endpoints::{Endpoint, Endpoints},
    output::{Printer, log, until_stdin_closes},
};
use link::{Link, News, Purpose};
use mio::{Events, Token};
use socket::Socket;

/// What a link may say before the others have their turn.
const NEWS_PER_TURN: usize = 64;

/// The token of what other threads have to say.
const WAKE: Token = Token(0);

/// What `h2` wakes: on one thread a flag is enough, which says that there is more to do.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

struct Loop {
    machine: Watcher,
    clock: Clock,
    poll: mio::Poll,
    endpoints: Endpoints,
    links: Vec<Link>,
    next_token: usize,
    woken: Arc<Woken>,
    printer: Printer,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse(std::env::args().skip(1))?;
    let clock = Clock::start();
    let mut machine = Watcher::new(WatchConfig::default(), u64::from(std::process::id()))?;
    machine.watch(clock.now(), args.watch())?;

    let poll = mio::Poll::new()?;
    let waker = Arc::new(mio::Waker::new(poll.registry(), WAKE)?);
    let stdin_closed = Arc::new(AtomicBool::new(false));
    // Not every standard input can be polled; a thread that only waits for its end is simplest.
    thread::spawn({
        let (stdin_closed, waker) = (stdin_closed.clone(), waker.clone());
        move || {
            until_stdin_closes();
            stdin_closed.store(true, Relaxed);
            waker.wake()
        }
    });

    let printer = Printer::new(args.events);
    let (links, woken) = (Vec::new(), Arc::default());
    let mut driver =
        Loop { machine, clock, poll, endpoints: args.endpoints, links, next_token: 1, woken, printer };
    let end = driver.run(&stdin_closed);
    // Not before: a wake-up may be lost with the last handle of its waker.
    drop(waker);
    end
}

impl Loop {
    fn run(&mut self, stdin_closed: &AtomicBool) -> Result<(), Box<dyn Error>> {
        let mut events = Events::with_capacity(64);
        loop {
            // Everything that can be done now, until nothing is left.
            while self.perform() | self.poll_links() | self.woken.0.swap(false, Relaxed) {}
            if stdin_closed.load(Relaxed) {
                // Its last actions close the streams, and `Closed` is delivered.
                self.machine.shutdown(self.clock.now());
                self.perform();
            }
            if let Some(end) = self.printer.end() {
                return end;
            }
            // Then sleep until a socket is ready or it is time for something.
            let now = self.clock.now();
            let deadlines = self.links.iter().filter_map(Link::deadline);
            let timeout = deadlines.chain(self.machine.poll_timeout()).min().map(|at| at.since(now));
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                // Which socket is ready doesn't matter: there are few, and each is polled until it is not.
                _ => self.machine.handle_timeout(self.clock.now()),
            }
        }
    }

    /// Does what the machine says; whether there was anything.
    fn perform(&mut self) -> bool {
        let mut busy = false;
        while let Some(action) = self.machine.poll_action() {
            busy = true;
            match action {
                // A new auth token is not needed where there is none.
                Action::Open { stream, options, endpoint, fresh_token: _ } => {
                    self.connect(Purpose::Stream(stream), Some(stream.stream()), options, endpoint);
                }
                Action::Send { stream, request, .. } => {
                    let link = self.links.iter_mut().find(|link| link.is_for(stream));
                    if let Some(link) = link {
                        link.send(&request);
                    }
                }
                Action::Close { stream, reason } => {
                    log(format_args!("closing {stream:?}: {reason}"));
                    self.links.retain(|link| !link.is_for(stream));
                }
                Action::Range { range, request, options, endpoint, fresh_token: _ } => {
                    self.connect(Purpose::Read(range, request), None, options, endpoint);
                }
                Action::Deliver { watch } => {
                    while let Some(delivery) = self.machine.next(self.clock.now(), watch) {
                        self.printer.deliver(delivery);
                    }
                }
                Action::Overflowed { watch, policy, .. } => log(format_args!("{watch:?} lags: {policy:?}")),
            }
        }
        busy
    }

    /// A connection for each stream, so that what holds one up holds up nothing else; and one for each
    /// read.
    fn connect(
        &mut self,
        purpose: Purpose,
        stream: Option<etcd_watch_core::StreamId>,
        options: Arc<StreamOptions>,
        hint: EndpointHint,
    ) {
        let endpoint = self.endpoints.pick(stream, hint);
        let token = Token(self.next_token);
        self.next_token += 1;
        match Socket::connect(&endpoint, self.poll.registry(), token) {
            Ok(socket) => {
                let now = self.clock.now();
                self.links.push(Link::new(purpose, endpoint, options, socket, now));
            }
            Err(error) => self.failed(&purpose, &endpoint, broken(&error)),
        }
    }

    /// Gives every link its turn; whether one did anything.
    fn poll_links(&mut self) -> bool {
        let waker = Waker::from(self.woken.clone());
        let mut cx = Context::from_waker(&waker);
        let (mut busy, mut at) = (false, 0);
        while let Some(link) = self.links.get_mut(at) {
            let turn = turn(&mut self.machine, link, &mut cx, self.clock.now());
            busy |= !matches!(turn, Turn::Quiet);
            match turn {
                Turn::Quiet | Turn::Busy => at += 1,
                Turn::Done => drop(self.links.swap_remove(at)),
                Turn::Failed(failure) => {
                    let link = self.links.swap_remove(at);
                    self.failed(&link.purpose, &link.endpoint, failure);
                }
            }
        }
        busy
    }

    fn failed(&mut self, purpose: &Purpose, endpoint: &Endpoint, failure: Failure) {
        log(format_args!("{}: {purpose}: {failure}", endpoint.authority));
        self.endpoints.failed(endpoint);
        let now = self.clock.now();
        match *purpose {
            Purpose::Stream(stream) => self.machine.handle_failed(now, stream, failure),
            Purpose::Read(range, _) => self.machine.handle_range_done(now, range, Err(failure)),
        }
    }
}

/// How a link's turn went.
enum Turn {
    /// Nothing was left to do.
    Quiet,
    /// Something was done; there may be more.
    Busy,
    /// It isn't needed any more.
    Done,
    Failed(Failure),
}

/// Tells the machine what has arrived on a link.
fn turn(machine: &mut Watcher, link: &mut Link, cx: &mut Context<'_>, now: Instant) -> Turn {
    if let Err(failure) = link.drive(cx, now) {
        return Turn::Failed(failure);
    }
    let mut turn = Turn::Quiet;
    for _ in 0..NEWS_PER_TURN {
        // Not asking for frames is backpressure: the flow-control window stays closed.
        if link.open_stream().is_some_and(|stream| !machine.wants_frame(stream)) {
            break;
        }
        match link.poll(cx, now) {
            Poll::Ready(Ok(News::Opened(stream, opened))) => machine.handle_opened(now, stream, opened),
            Poll::Ready(Ok(News::Frame(stream, frame))) => {
                machine.handle_frame(now, stream, etcd_watch_core::Frame::decode(frame))
            }
            Poll::Ready(Ok(News::Read(range, done))) => {
                machine.handle_range_done(now, range, Ok(done));
                return Turn::Done;
            }
            Poll::Ready(Err(failure)) => return Turn::Failed(failure),
            Poll::Pending => break,
        }
        turn = Turn::Busy;
    }
    turn
}

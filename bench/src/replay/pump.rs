//! Writes the responses, as fast as the socket takes them or at a rate.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Result;
use etcd_watch_bench::{meter::Served, usage};
use tokio::{io::AsyncWriteExt, net::tcp::OwnedWriteHalf, sync::watch};

use crate::{
    line::{Line, Target},
    link::{Link, Next, Watch},
    message::{FIRST_REVISION, Post, Shape},
};

/// So many bytes are written at a time.
const CHUNK: usize = 256 << 10;

/// What is to be sent over all connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    pub(crate) responses: u64,
    /// So many watches have to be there before the first response.
    pub(crate) watches: usize,
    /// Events a second, over all watches.
    pub(crate) rate: Option<f64>,
}

/// The watches of a connection, in turn.
struct Turns {
    turn: usize,
    /// The responses of each.
    each: u64,
    laid: u64,
    total: u64,
    start: Instant,
    cpu: Duration,
}

impl Turns {
    fn begin(link: &Link, plan: Plan) -> Self {
        let each = plan.responses / plan.watches as u64;
        let total = each * link.state().watches().len() as u64;
        Self { turn: 0, each, laid: 0, total, start: Instant::now(), cpu: usage::cpu() }
    }

    /// Response n of a watch is the one behind all responses before n of all watches, and those of the watches before it.
    fn target(&mut self, link: &Link, shape: Shape) -> Option<Target> {
        let mut state = link.state();
        let watches = state.watches().len();
        for _ in 0..watches {
            let index = self.turn % watches;
            self.turn = index + 1;
            let Watch { stream, id, cancelled, passed } = state.watches()[index];
            if cancelled || passed == self.each {
                continue;
            }
            state.watch_mut(index).passed += 1;
            self.laid += 1;
            let before = passed * watches as u64 + index as u64;
            let revision = FIRST_REVISION + (before * shape.revisions() as u64) as i64;
            let stamp = if shape.stamped { now() } else { 0 };
            let post = Post { stream: state.stream_id(stream), watch_id: id, revision, stamp };
            return Some(Target { stream, post });
        }
        None
    }

    /// So many responses may have been laid into the line by now.
    fn due(&self, plan: Plan) -> u64 {
        plan.rate.map_or(u64::MAX, |rate| {
            (self.start.elapsed().as_secs_f64() * rate / plan.shape.events as f64) as u64 + 1
        })
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes to a connection until it is closed, and says what of the plan it was sent. `started` becomes true when all
/// watches are there.
pub(crate) async fn pump(
    plan: Plan,
    link: Arc<Link>,
    mut socket: OwnedWriteHalf,
    mut started: watch::Receiver<bool>,
) -> Result<Served> {
    let mut sent = Served::default();
    let mut line = Line::new(plan.shape);
    let mut began: Option<Turns> = None;
    loop {
        if began.is_none() && *started.borrow() {
            began = Some(Turns::begin(&link, plan));
        }
        let mut is_timed = false;
        if let Some(turns) = &mut began
            && line.frames().is_empty()
            && !link.state().has_answers()
        {
            if turns.laid > sent.responses {
                sent.responses = turns.laid;
                sent.wall_seconds = turns.start.elapsed().as_secs_f64();
                sent.cpu_seconds = (usage::cpu() - turns.cpu).as_secs_f64();
            }
            let due = turns.due(plan);
            is_timed = plan.rate.is_some() && turns.laid < turns.total;
            line.fill(|| if turns.laid < due { turns.target(&link, plan.shape) } else { None });
        }
        let next = link.state().next(line.frames(), CHUNK);
        match next {
            Next::Bytes(bytes) => {
                if socket.write_all(&bytes).await.is_err() {
                    link.close();
                }
            }
            Next::Frames(0) if is_timed => tokio::task::yield_now().await,
            Next::Frames(0) if began.is_some() => link.wake.notified().await,
            Next::Frames(0) => tokio::select! {
                () = link.wake.notified() => {}
                change = started.changed() => change?,
            },
            Next::Frames(frames) => {
                let bytes = line.take(frames);
                sent.bytes += bytes.len() as u64;
                if socket.write_all(bytes).await.is_err() {
                    link.close();
                }
            }
            Next::Nothing => {
                let state = link.state();
                sent.events = sent.responses * plan.shape.events as u64;
                sent.last_revision = state.sent();
                sent.recreated = state.recreated();
                return Ok(sent);
            }
        }
    }
}

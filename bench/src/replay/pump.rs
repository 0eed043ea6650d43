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
    watches: Vec<(Watch, u32)>,
    turn: usize,
    revision: i64,
    laid: u64,
}

impl Turns {
    fn target(&mut self, link: &Link, shape: Shape) -> Option<Target> {
        let state = link.state();
        for _ in 0..self.watches.len() {
            let index = self.turn % self.watches.len();
            self.turn = index + 1;
            let (watch, stream) = self.watches[index];
            if state.watches()[index].cancelled {
                continue;
            }
            let revision = self.revision;
            self.revision += shape.revisions() as i64;
            self.laid += 1;
            let stamp = if shape.stamped { now() } else { 0 };
            let post = Post { stream, watch_id: watch.id, revision, stamp };
            return Some(Target { stream: watch.stream, post });
        }
        None
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
    let mut began: Option<(Turns, Instant, Duration, u64)> = None;
    loop {
        if began.is_none() && *started.borrow() {
            let state = link.state();
            let watches: Vec<_> =
                state.watches().iter().map(|watch| (*watch, state.stream_id(watch.stream))).collect();
            let share = plan.responses * watches.len() as u64 / plan.watches as u64;
            let turns = Turns { watches, turn: 0, revision: FIRST_REVISION, laid: 0 };
            began = Some((turns, Instant::now(), usage::cpu(), share));
        }
        let mut is_timed = false;
        if let Some((turns, start, cpu, share)) = &mut began
            && line.frames().is_empty()
        {
            let due = plan.rate.map_or(*share, |rate| {
                let due = start.elapsed().as_secs_f64() * rate / plan.shape.events as f64;
                (*share).min(due as u64 + 1)
            });
            is_timed = plan.rate.is_some() && turns.laid < *share;
            line.fill(|| if turns.laid < due { turns.target(&link, plan.shape) } else { None });
            if sent.responses == *share && sent.wall_seconds == 0.0 {
                sent.wall_seconds = start.elapsed().as_secs_f64();
                sent.cpu_seconds = (usage::cpu() - *cpu).as_secs_f64();
            }
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
                let whole =
                    line.frames()[..frames].iter().filter(|frame| frame.completes.is_some()).count() as u64;
                let bytes = line.take(frames);
                sent.bytes += bytes.len() as u64;
                if socket.write_all(bytes).await.is_err() {
                    link.close();
                }
                sent.responses += whole;
                sent.last_revision = link.state().sent();
                sent.events += whole * plan.shape.events as u64;
            }
            Next::Nothing => return Ok(sent),
        }
    }
}

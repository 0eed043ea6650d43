//! Runs a script on a pair: takes its steps on both sides, waits where an answer depends on who is quicker, and
//! compares.

use std::{collections::BTreeSet, sync::Arc};

use etcd_watch_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest,
    watch_request::RequestUnion,
};
use etcd_watch_testkit::model::{HistoryEvent, ProgressMode};

use crate::{
    calls::{Request, answer},
    compare::{Round, SURELY_QUEUED, Said},
    difference::Difference,
    figures::Figures,
    log::Outcome,
    pair::Pair,
    script::{Call, Start, Step, Target, Wish},
    side::Side,
    talk::{Fate, Talk, Watched},
};

/// The most streams at once.
const MOST_STREAMS: usize = 3;

/// A key that only the runner puts.
const BEACON: &str = "beacon";

/// Beginning and end of a range that has no keys, which only the runner asks for.
const MARK: &str = "mark";

type Result<T = ()> = std::result::Result<T, Box<Difference>>;

/// One run of a script on a pair.
pub(crate) struct Run<'a> {
    pair: &'a mut Pair,
    talks: Vec<Talk>,
    /// All that has happened since the start of the run.
    history: Vec<Arc<HistoryEvent>>,
    /// How many changes there had been before.
    history_from: usize,
    compacted: i64,
    /// Changes since the last comparison.
    changes: usize,
    /// Nothing has been done since then that a watch may have to be told of.
    settled: bool,
    figures: Figures,
    /// What was compared so far, and was the same.
    transcript: Vec<String>,
}

/// Runs a script to its end, or to the first difference.
pub(crate) async fn run(pair: &mut Pair, steps: &[Step]) -> Result<Figures> {
    pair.start_over().await?;
    let history_from = pair.history_len();
    let mut run = Run {
        pair,
        talks: Vec::new(),
        history: Vec::new(),
        history_from,
        compacted: -1,
        changes: 0,
        settled: false,
        figures: Figures { scripts: 1, steps: steps.len(), ..Figures::default() },
        transcript: Vec::new(),
    };
    run.clean_up().await?;
    for step in steps {
        run.transcript.push(format!("> {step:?}"));
        run.take(step).await?;
    }
    run.settle().await?;
    run.await_notifications().await?;
    Ok(run.figures)
}

impl Run<'_> {
    /// Leaves nothing of earlier scripts but the numbers.
    async fn clean_up(&mut self) -> Result {
        let all = DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), prev_kv: false };
        self.perform(Request::Delete(all)).await?;
        for lease in 1..4 {
            self.perform(Request::Revoke(lease)).await?;
        }
        self.perform(Request::Put(put("first"))).await?;
        self.perform(Request::Compact(self.pair.revision())).await
    }

    async fn take(&mut self, step: &Step) -> Result {
        match step {
            Step::Open => self.open(),
            Step::Close(stream) => return self.close(*stream).await,
            Step::Create { stream, wish } => return self.wish(*stream, wish).await,
            Step::Cancel { stream, target, settled } => return self.cancel(*stream, *target, *settled).await,
            Step::Progress { stream, settled } => return self.request_progress(*stream, *settled).await,
            Step::Call(call) => return self.call(call).await,
            Step::Settle => return self.settle().await,
        }
        Ok(())
    }

    fn open_streams(&self) -> Vec<usize> {
        (0..self.talks.len()).filter(|stream| !self.talks[*stream].closed).collect()
    }

    fn stream(&self, index: usize) -> Option<usize> {
        let open = self.open_streams();
        (!open.is_empty()).then(|| open[index % open.len()])
    }

    fn open(&mut self) {
        if self.open_streams().len() < MOST_STREAMS {
            self.pair.sides.iter_mut().for_each(Side::open);
            self.talks.push(Talk::default());
        }
    }

    async fn close(&mut self, index: usize) -> Result {
        self.flush().await?;
        if let Some(stream) = self.stream(index) {
            self.talks[stream].closed = true;
            self.pair.sides.iter_mut().for_each(|side| side.close(stream));
        }
        Ok(())
    }

    async fn wish(&mut self, index: usize, wish: &Wish) -> Result {
        let Some(stream) = self.stream(index) else { return Ok(()) };
        if self.talks[stream].cancelling {
            // Until the cancel is answered, what comes for its id goes to the old watch, even if it is meant for a
            // new one that has the id.
            self.flush().await?;
        }
        let newest = self.pair.revision();
        let start = match wish.start {
            Start::Now => 0,
            Start::Past(back) => (newest - back).max(1),
            Start::Compaction(off) => self.compacted + off,
            Start::Future(ahead) => newest + ahead,
            Start::Number(start) => start,
        };
        let create = WatchCreateRequest {
            watch_id: self.talks[stream].choose(wish.id),
            start_revision: start,
            key: wish.key.clone(),
            range_end: wish.range_end.clone(),
            filters: wish.filters.clone(),
            prev_kv: wish.prev_kv,
            fragment: wish.fragment,
            progress_notify: wish.progress_notify,
        };
        self.talks[stream].behind |= start != 0 && start <= newest;
        self.settled = false;
        self.create(stream, create);
        Ok(())
    }

    fn create(&mut self, stream: usize, create: WatchCreateRequest) {
        let talk = &mut self.talks[stream];
        talk.asked.push_back(create.clone());
        talk.creates += 1;
        talk.unproven = true;
        self.pair.send(stream, &RequestUnion::CreateRequest(create));
    }

    async fn cancel(&mut self, index: usize, target: Target, settled: bool) -> Result {
        let Some(stream) = self.stream(index) else { return Ok(()) };
        let mut id = self.talks[stream].aim(target);
        if settled || !Talk::may_burn(id) {
            self.settle().await?;
            id = self.talks[stream].aim(target);
        }
        self.send_cancel(stream, id);
        Ok(())
    }

    fn send_cancel(&mut self, stream: usize, id: i64) {
        let talk = &mut self.talks[stream];
        if self.settled {
            talk.clean_cancels.insert(id);
        } else {
            talk.burn(id);
        }
        talk.cancelling = true;
        talk.unproven = true;
        self.pair.send(stream, &RequestUnion::CancelRequest(WatchCancelRequest { watch_id: id }));
    }

    async fn request_progress(&mut self, index: usize, settled: bool) -> Result {
        let Some(stream) = self.stream(index) else { return Ok(()) };
        if settled {
            self.settle().await?;
        }
        let talk = &mut self.talks[stream];
        talk.progress_asked.push(self.pair.revision());
        talk.progress_optional |= talk.behind || self.changes * talk.live() > SURELY_QUEUED;
        talk.unproven = true;
        self.pair.send(stream, &RequestUnion::ProgressRequest(WatchProgressRequest {}));
        Ok(())
    }

    async fn call(&mut self, call: &Call) -> Result {
        let request = match call.clone() {
            Call::Put(put) => Request::Put(put),
            Call::Delete(delete) => Request::Delete(delete),
            Call::Txn(txn) => Request::Txn(txn),
            Call::Grant(id) => Request::Grant(id),
            Call::Revoke(id) => Request::Revoke(id),
            Call::Repeat(put, count) => Request::Repeat(put, count),
            Call::Compact(back) => {
                // What compaction does to a watch that catches up is a matter of speed.
                self.settle().await?;
                let revision = self.pair.revision() - back;
                if self.changed_a_key_twice(revision) {
                    return Ok(());
                }
                Request::Compact(revision)
            }
        };
        self.perform(request).await
    }

    /// Whether a transaction deleted a key and put it. A compaction at the very revision of one makes 3.4.23 and
    /// 3.5.30 lose one of the changes, and 3.5.30 die when the key is next read: nothing to be like.
    fn changed_a_key_twice(&self, revision: i64) -> bool {
        let changes = self.history.iter().filter(|change| change.revision == revision);
        let mut keys = BTreeSet::new();
        !changes.map(|change| &change.key).all(|key| keys.insert(key))
    }

    /// Makes a call on both sides. All requests before it were handled before it.
    async fn perform(&mut self, request: Request) -> Result {
        self.flush().await?;
        let before = self.pair.revision();
        let [model, real] = &self.pair.sides;
        let answers =
            tokio::join!(answer(&model.channel, request.clone()), answer(&real.channel, request.clone()));
        let said = Said { lines: [vec![answers.0], vec![answers.1]], ..Said::default() };
        if let (Request::Compact(revision), true) = (&request, said.lines[0][0].starts_with("compacted")) {
            self.compacted = *revision;
        }
        self.changes += usize::try_from(self.pair.revision() - before).unwrap_or(0);
        self.settled = false;
        self.figures.calls += 1;
        self.agree("an answer", said)
    }

    /// Waits until every request so far has been handled, and compares the replies.
    async fn flush(&mut self) -> Result {
        let unproven: Vec<usize> =
            self.open_streams().into_iter().filter(|stream| self.talks[*stream].unproven).collect();
        for stream in &unproven {
            // Requests are handled in their order, and this one is answered and changes nothing.
            self.create(*stream, WatchCreateRequest { range_end: MARK.into(), ..watch(MARK) });
        }
        let talks = &self.talks;
        let heard = self
            .pair
            .hear_until(|_, streams| {
                unproven.iter().all(|index| streams[*index].log.creates_answered >= talks[*index].creates)
            })
            .await;
        self.follow();
        let mut said = Said::default();
        for stream in &unproven {
            let logs = [0, 1].map(|side| &self.pair.sides[side].streams[*stream].log);
            said.control(*stream, &self.talks[*stream], logs);
        }
        self.must_have_come(&heard, &mut said);
        self.agree("replies", said)?;
        for stream in unproven {
            self.take_replies(stream);
        }
        Ok(())
    }

    /// Takes in replies that are the same on both sides.
    fn take_replies(&mut self, stream: usize) {
        let log = &self.pair.sides[0].streams[stream].log;
        let talk = &mut self.talks[stream];
        talk.unproven = false;
        talk.cancelling = false;
        if self.pair.progress == ProgressMode::Overtaking {
            self.figures.progress_replies += talk.progress_asked.len();
            talk.progress_asked.clear();
        }
        talk.control_seen = log.control.len();
        for outcome in &log.outcomes[talk.outcomes_seen..] {
            match *outcome {
                Outcome::Created { id, revision } => {
                    let Some(create) = talk.asked.pop_front() else { continue };
                    let mut watch = Watched::new(id, create, revision, self.compacted);
                    watch.expect(&self.history);
                    if self.pair.loses_deletes {
                        watch.forget_deletes(&self.history, self.compacted);
                    }
                    self.figures.created += usize::from(watch.create.key != BEACON);
                    self.figures.compacted += usize::from(watch.fate == Fate::Compacted);
                    talk.watches.push(watch);
                }
                Outcome::Refused => {
                    let create = talk.asked.pop_front();
                    self.figures.refused += usize::from(create.is_some_and(|create| create.key != MARK));
                }
                Outcome::Cancelled { id } => {
                    let clean = talk.clean_cancels.remove(&id);
                    if let Some(watch) = talk.holder(id) {
                        watch.fate = if clean { Fate::Cancelled } else { Fate::Cut };
                        self.figures.cancelled += usize::from(watch.create.key != BEACON);
                    }
                }
            }
        }
        talk.outcomes_seen = log.outcomes.len();
    }

    /// Waits until everything has come that has to, and compares.
    async fn settle(&mut self) -> Result {
        self.flush().await?;
        if self.settled && self.talks.iter().all(|talk| talk.progress_asked.is_empty()) {
            return Ok(());
        }
        // Even a watch that has nothing to tell has to have caught up, or its next compaction is told at random.
        if !self.pair.catch_up().await {
            return Err(self.difference("a watch that never catches up", &Said::default()));
        }
        // What comes behind everything that was on its way: a watch that has nothing to get gets nothing.
        let mut beacons = Vec::new();
        for stream in self.open_streams() {
            let id = self.talks[stream].new_id();
            beacons.push((stream, id));
            self.create(stream, WatchCreateRequest { watch_id: id, ..watch(BEACON) });
        }
        self.perform(Request::Put(put(BEACON))).await?;
        self.follow();
        let talks = &self.talks;
        let heard = self
            .pair
            .hear_until(|_, streams| {
                talks.iter().zip(streams).filter(|(talk, _)| !talk.closed).all(|(talk, stream)| {
                    talk.watches.iter().zip(&stream.log.watches).all(|(watch, log)| match watch.fate {
                        Fate::Live => log.compacted.is_some() || log.delivered >= watch.expected.len(),
                        Fate::Compacted => log.compacted.is_some(),
                        Fate::Cancelled | Fate::Cut => true,
                    })
                })
            })
            .await;
        self.compare(&heard)?;
        self.settled = true;
        for (stream, id) in beacons {
            self.send_cancel(stream, id);
        }
        self.flush().await
    }

    fn compare(&mut self, heard: &[bool; 2]) -> Result {
        let round = Round { newest: self.pair.revision(), changes: self.changes };
        let mut said = Said::default();
        for stream in self.open_streams() {
            let logs = [0, 1].map(|side| &self.pair.sides[side].streams[stream].log);
            said.rest(stream, &self.talks[stream], logs, &round, &mut self.figures);
        }
        self.must_have_come(heard, &mut said);
        self.agree("what was told to watches", said)?;
        self.figures.comparisons += 1;
        self.changes = 0;
        for stream in self.open_streams() {
            let logs = [0, 1].map(|side| &self.pair.sides[side].streams[stream].log);
            let talk = &mut self.talks[stream];
            talk.behind = false;
            talk.progress_seen = logs.map(|log| log.progress.len());
            talk.progress_asked.clear();
            talk.progress_optional = false;
            for (index, watch) in talk.watches.iter_mut().enumerate() {
                watch.batches_seen = logs.map(|log| log.watches[index].batches.len());
                watch.notifications_seen = logs.map(|log| log.watches[index].notifications.len());
                watch.end_seen = logs[0].watches[index].compacted.is_some();
                watch.settled = true;
            }
        }
        Ok(())
    }

    /// Every quiet watch that asked for it hears of the newest revision in the end.
    async fn await_notifications(&mut self) -> Result {
        let newest = self.pair.revision();
        let talks = &self.talks;
        let heard = self
            .pair
            .hear_until(|_, streams| {
                talks.iter().zip(streams).filter(|(talk, _)| !talk.closed).all(|(talk, stream)| {
                    talk.watches.iter().zip(&stream.log.watches).all(|(watch, log)| {
                        let due =
                            watch.create.progress_notify && watch.fate == Fate::Live && watch.since <= newest;
                        !due || log.notifications.last().is_some_and(|last| last.revision == newest)
                    })
                })
            })
            .await;
        self.compare(&heard)
    }

    /// Takes in what has happened to the keys.
    fn follow(&mut self) {
        let new = self.pair.history_after(self.history_from + self.history.len());
        for talk in &mut self.talks {
            talk.watches.iter_mut().for_each(|watch| watch.expect(&new));
        }
        self.history.extend(new);
    }

    fn must_have_come(&self, heard: &[bool; 2], said: &mut Said) {
        for (side, heard) in heard.iter().enumerate() {
            if !heard {
                said.illegal[side].push("something that has to come doesn't".to_owned());
            }
            let streams = self.pair.sides[side].streams.iter().enumerate();
            said.illegal[side].extend(streams.flat_map(|(name, stream)| {
                stream.log.illegal.iter().map(move |why| format!("stream {name}: {why}"))
            }));
        }
    }

    fn agree(&mut self, what: &str, said: Said) -> Result {
        let same = said.lines[0] == said.lines[1];
        if !same || said.illegal.iter().any(|illegal| !illegal.is_empty()) {
            return Err(self.difference(what, &said));
        }
        let [lines, _] = said.lines;
        self.transcript.extend(lines);
        Ok(())
    }

    fn difference(&self, what: &str, said: &Said) -> Box<Difference> {
        Difference::new(what, &self.transcript, said)
    }
}

fn put(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: "x".into(), ..PutRequest::default() }
}

fn watch(key: &'static str) -> WatchCreateRequest {
    WatchCreateRequest { key: key.into(), ..WatchCreateRequest::default() }
}

//! Reads: those that watches need, and the lists of mirrors, by pages or by a stream.

use std::time::Duration;

use etcd_watch_client::fuzzing::{chunk, list_request, page, range_done, revision_request};
use etcd_watch_core::{
    EndpointHint, Failure, ListKey, ListRequest, RangeKey, Remedy, remedy, wire::RevisionRequest,
};
use etcd_watch_proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse};

use super::cluster::DENIED;
use super::net::no_leader;
use super::plan::{Planted, SECRET};
use super::schedule::Wake;
use super::world::World;

/// When an answer is not waited for any more.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a member waits for a leader before it says that there is none.
const LEADER_TIMEOUT: Duration = Duration::from_secs(2);

/// A read under way.
#[derive(Debug)]
pub(super) struct Call {
    client: usize,
    member: usize,
    request: RangeRequest,
    purpose: Purpose,
    begun: Duration,
    /// Whether it is a stream (`RangeStream`).
    is_stream: bool,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum Purpose {
    Revision(RangeKey),
    Page { mirror: usize, list: ListKey, first: bool },
}

#[derive(Debug)]
enum State {
    /// On its way to the member.
    Sent,
    /// Linearizable: waits until the member has applied so much of the log.
    Waiting {
        epoch: usize,
        until: usize,
    },
    /// A stream: sends what is next when the client reads on, the end once everything was sent.
    Streaming {
        epoch: usize,
        is_done: bool,
    },
    /// On its way back.
    Answered(Result<RangeResponse, Failure>, usize),
    Done,
}

impl World {
    pub(super) fn ask_for_revision(
        &mut self,
        client: usize,
        range: RangeKey,
        request: &RevisionRequest,
        endpoint: EndpointHint,
    ) {
        self.call(client, revision_request(request), Purpose::Revision(range), endpoint);
    }

    pub(super) fn ask_for_page(&mut self, mirror: usize, list: ListKey, request: &ListRequest) {
        let client = self.mirrors[mirror].client;
        let purpose = Purpose::Page { mirror, list, first: request.revision == 0 };
        let call = self.call(client, list_request(request), purpose, request.endpoint);
        let member = self.calls[call].member;
        let is_proven = self.mirrors[mirror].proven == Some((member, self.cluster.epoch()));
        if request.may_stream && is_proven && member < self.setup.streaming_members {
            self.calls[call].is_stream = true;
        }
    }

    /// Nothing more is wanted of a stream.
    pub(super) fn close_list(&mut self, mirror: usize, list: ListKey) {
        let is_it = |call: &Call| matches!(call.purpose, Purpose::Page { mirror: of, list: key, .. } if (of, key) == (mirror, list));
        if let Some(call) = self.calls.iter_mut().rfind(|call| is_it(call)) {
            call.state = State::Done;
        }
    }

    fn call(
        &mut self,
        client: usize,
        request: RangeRequest,
        purpose: Purpose,
        endpoint: EndpointHint,
    ) -> usize {
        let state = &mut self.clients[client];
        // A call that is refused for its token gets another one and is made again.
        state.token = self.cluster.tokens_from;
        let avoid = state.last_read.filter(|_| endpoint == EndpointHint::Another);
        let member = state.pick(avoid);
        state.last_read = Some(member);
        let (begun, is_stream, state) = (self.now, false, State::Sent);
        self.calls.push(Call { client, member, request, purpose, begun, is_stream, state });
        let (call, at) = (self.calls.len() - 1, self.now + self.flight());
        self.schedule.at(at, Wake::Call(call));
        call
    }

    fn flight(&mut self) -> Duration {
        Duration::from_micros(self.random.u64(100..5_000))
    }

    pub(super) fn call_turn(&mut self, at: usize) {
        let now = self.now;
        let call = &mut self.calls[at];
        match std::mem::replace(&mut call.state, State::Done) {
            State::Done => {}
            State::Answered(answer, epoch) => {
                let purpose = call.purpose;
                self.answer(at, purpose, answer, epoch);
            }
            State::Sent => self.call_arrives(at),
            State::Streaming { epoch, is_done } => self.stream_turn(at, epoch, is_done),
            State::Waiting { epoch, until } => {
                let (client, member) = (call.client, call.member);
                let is_late = now >= call.begun + CALL_TIMEOUT;
                let blocked = self.blocked_until(client, member);
                if epoch != self.cluster.epoch() || !self.cluster.members[member].is_up {
                    self.reply(at, Err(Failure::connection("reset by peer")));
                } else if is_late {
                    self.reply(at, Err(Failure::status(4, "deadline exceeded")));
                } else if self.cluster.members[member].applied >= until && blocked <= now {
                    if self.calls[at].is_stream {
                        self.calls[at].state = State::Streaming { epoch, is_done: false };
                        self.schedule.at(now, Wake::Call(at));
                    } else {
                        let answer = self.read(at);
                        self.reply(at, answer);
                    }
                } else {
                    self.calls[at].state = State::Waiting { epoch, until };
                    self.schedule.at(now + Duration::from_millis(20), Wake::Call(at));
                }
            }
        }
    }

    fn call_arrives(&mut self, at: usize) {
        let now = self.now;
        let (client, member, begun) = {
            let call = &self.calls[at];
            (call.client, call.member, call.begun)
        };
        let blocked = self.blocked_until(client, member);
        if blocked > now {
            if now >= begun + CALL_TIMEOUT {
                self.reply(at, Err(Failure::connection("timed out")));
                return;
            }
            self.calls[at].state = State::Sent;
            self.schedule.at(blocked.min(begun + CALL_TIMEOUT), Wake::Call(at));
            return;
        }
        if !self.cluster.members[member].is_up {
            self.reply(at, Err(Failure::connection("connection refused")));
            return;
        }
        if self.calls[at].request.key == SECRET.as_bytes() {
            self.reply(at, Err(Failure::status(7, DENIED)));
            return;
        }
        if self.planted(Planted::ReadsStale) && !self.calls[at].is_stream {
            let answer = self.read(at);
            self.reply(at, answer);
            return;
        }
        if !self.cluster.has_leader(member, now) {
            if now < begun + LEADER_TIMEOUT {
                self.calls[at].state = State::Sent;
                self.schedule.at(begun + LEADER_TIMEOUT, Wake::Call(at));
            } else {
                self.reply(at, Err(no_leader()));
            }
            return;
        }
        let until = self.cluster.log.len();
        self.calls[at].state = State::Waiting { epoch: self.cluster.epoch(), until };
        self.schedule.at(now, Wake::Call(at));
    }

    fn read(&self, at: usize) -> Result<RangeResponse, Failure> {
        let call = &self.calls[at];
        let answer = self.cluster.members[call.member].etcd.range(&call.request);
        answer.map_err(|error| Failure::status(11, error.to_string()))
    }

    /// The next message of a stream arrives, or its end.
    fn stream_turn(&mut self, at: usize, epoch: usize, is_done: bool) {
        let Purpose::Page { mirror, list, .. } = self.calls[at].purpose else { return };
        let (client, member) = (self.calls[at].client, self.calls[at].member);
        let again = |world: &mut Self| {
            world.calls[at].state = State::Streaming { epoch, is_done };
            world.schedule.at(world.now + Duration::from_millis(20), Wake::Call(at));
        };
        if !self.mirrors[mirror].machine.wants_chunk(list) {
            // The client takes its time, and no time runs against the member.
            self.calls[at].begun = self.now;
            return again(self);
        }
        let is_cut = epoch != self.cluster.epoch() || !self.cluster.members[member].is_up;
        let read = if is_cut || self.random.u8(0..16) == 0 {
            Err(Failure::connection("reset by peer"))
        } else if self.blocked_until(client, member) > self.now {
            if self.now < self.calls[at].begun + CALL_TIMEOUT {
                return again(self);
            }
            Err(Failure::connection("timed out"))
        } else if is_done || self.random.u8(0..32) == 0 {
            Err(Failure::EndOfStream)
        } else {
            self.calls[at].request.limit = self.random.i64(1..4);
            self.read(at)
        };
        let chunk = read.map(|mut response| {
            let is_done = !response.more;
            if let Some(last) = response.kvs.last().filter(|_| !is_done) {
                self.calls[at].request.key = [&last.key[..], b"\0"].concat().into();
                (response.header, response.more, response.count) = (None, false, 0);
            }
            self.calls[at].begun = self.now;
            self.calls[at].state = State::Streaming { epoch, is_done };
            let next = self.now + self.flight();
            self.schedule.at(next, Wake::Call(at));
            chunk(&RangeStreamResponse { range_response: Some(response) })
        });
        if chunk.is_err() {
            self.mirrors[mirror].proven = None;
        }
        self.note(|| format!("mirror {mirror}: {list:?} streams {chunk:?}"));
        let now = self.machine_now();
        self.mirrors[mirror].machine.handle_chunk(now, list, chunk);
        self.drive_mirror(mirror);
    }

    fn reply(&mut self, at: usize, answer: Result<RangeResponse, Failure>) {
        self.calls[at].state = State::Answered(answer, self.cluster.epoch());
        let arrives = self.now + self.flight();
        self.schedule.at(arrives, Wake::Call(at));
    }

    fn answer(&mut self, at: usize, purpose: Purpose, answer: Result<RangeResponse, Failure>, epoch: usize) {
        let (client, member) = (self.calls[at].client, self.calls[at].member);
        match &answer {
            Ok(_) => self.clients[client].answered(member),
            Err(failure) => {
                if matches!(remedy(failure), Remedy::RetryElsewhere | Remedy::NoLeader) {
                    self.clients[client].failed(member);
                }
            }
        }
        match purpose {
            Purpose::Revision(range) => {
                let done = answer.map(|response| range_done(&response));
                self.note(|| format!("client {client}: {range:?} finds {done:?}"));
                let now = self.machine_now();
                self.clients[client].watcher.handle_range_done(now, range, done);
                self.find_starts(client, epoch);
                self.settle(client);
            }
            Purpose::Page { mirror, list, first } => {
                let page = answer.map(|response| page(&response));
                let brought = (self.calls[at].member, epoch);
                self.mirrors[mirror].proven = page.is_ok().then_some(brought);
                if let (true, Ok(page)) = (first, &page) {
                    self.mirrors[mirror].listed = Some((epoch, page.revision));
                }
                self.note(|| format!("mirror {mirror}: {list:?} brings {page:?}"));
                let now = self.machine_now();
                let machine = &mut self.mirrors[mirror].machine;
                if self.calls[at].is_stream {
                    machine.handle_chunk(now, list, page);
                } else {
                    machine.handle_page(now, list, page);
                }
                self.drive_mirror(mirror);
            }
        }
    }
}

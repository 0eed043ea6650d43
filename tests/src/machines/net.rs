//! The network: a link for each stream, with requests and frames under way.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_client::fuzzing::watch_request;
use etcd_watch_core::{Failure, Opened, Request, StreamKey};
use etcd_watch_proto::etcdserverpb::{WatchResponse, watch_request::RequestUnion};
use etcd_watch_proto::prost::Message;
use fastrand::Rng;

use super::cluster::{DENIED, deny_secret};
use super::plan::Planted;
use super::schedule::{Turn, Wake};
use super::world::World;
use crate::model::ModelStream;

/// HTTP/2 keepalive: an interval and a timeout.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(15);
/// When an attempt to connect is given up.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// When a member notices that the other end of a half-open connection is gone.
const SERVER_KEEPALIVE: Duration = Duration::from_secs(60);
/// How long after it fell silent a link may be given up for it, though it isn't silent any more: what it owed until then
/// is under way. Longer than a client waits for anything.
const SILENCE: Duration = Duration::from_secs(20);

/// A link's place among all there ever were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LinkId(pub(super) usize);

/// What travels to a client.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Frame(Bytes),
    End(Failure),
}

/// One connection with one stream.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: usize,
    pub(super) member: usize,
    pub(super) stream: StreamKey,
    pub(super) require_leader: bool,
    /// The number of the token it carries.
    token: u64,
    /// Whether it is to be a new one.
    fresh_token: bool,
    /// The member's end, while the member has it.
    pub(super) model: Option<ModelStream>,
    /// Whether the client knows it as open.
    is_open: bool,
    /// Whether the client's end is there.
    pub(super) is_held: bool,
    /// Nothing passes any more, and nobody is told.
    pub(super) is_mute: bool,
    to_server: VecDeque<(Duration, Request)>,
    to_client: VecDeque<(Duration, Packet)>,
    inbox: VecDeque<Packet>,
    /// Frames that may be under way.
    window: usize,
    latency: Duration,
    random: Rng,
    /// Bytes of the response whose fragments are under way.
    fragments: usize,
    turn: Turn,
}

impl Link {
    pub(super) fn is_live(&self) -> bool {
        self.is_held && self.is_open
    }

    fn delay(&mut self) -> Duration {
        let jitter = match self.random.u8(0..16) {
            0 => self.random.u64(0..200_000),
            _ => self.random.u64(0..1_000),
        };
        self.latency + Duration::from_micros(jitter)
    }

    /// Packets keep their order.
    fn send(&mut self, now: Duration, packet: Packet) {
        let at = now + self.delay();
        let at = self.to_client.back().map_or(at, |(last, _)| at.max(*last));
        self.to_client.push_back((at, packet));
    }
}

impl World {
    /// Until when nothing passes between a client and a member.
    pub(super) fn blocked_until(&self, client: usize, member: usize) -> Duration {
        self.cluster.members[member].frozen_until.max(self.holes[client][member])
    }

    fn link_is_blocked(&self, id: LinkId) -> Option<Duration> {
        let link = &self.links[id.0];
        let until = self.blocked_until(link.client, link.member);
        (until > self.now).then_some(until)
    }

    /// Whether a link has been silent of late, and not by the server's will.
    pub(super) fn was_silent(&self, id: LinkId) -> bool {
        let link = &self.links[id.0];
        link.is_mute || self.now < self.blocked_until(link.client, link.member) + SILENCE
    }

    /// A client wants a stream.
    pub(super) fn open_link(
        &mut self,
        client: usize,
        member: usize,
        stream: StreamKey,
        require_leader: bool,
        fresh_token: bool,
    ) {
        let mut random = self.fork();
        let id = LinkId(self.links.len());
        let latency = Duration::from_micros(random.u64(100..5_000));
        self.links.push(Link {
            client,
            member,
            stream,
            require_leader,
            token: 0,
            fresh_token,
            model: None,
            is_open: false,
            is_held: true,
            is_mute: false,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            inbox: VecDeque::new(),
            window: random.usize(1..24),
            latency,
            random,
            fragments: 0,
            turn: Turn::default(),
        });
        self.clients[client].links.insert(stream, id);
        let blocked = self.blocked_until(client, member);
        let at = if blocked > self.now { blocked.min(self.now + DIAL_TIMEOUT) } else { self.now + latency };
        self.schedule.at(at, Wake::Opened(id));
    }

    pub(super) fn opened(&mut self, id: LinkId) {
        let (client, member, stream) = {
            let link = &self.links[id.0];
            (link.client, link.member, link.stream)
        };
        if !self.links[id.0].is_held {
            return;
        }
        if self.link_is_blocked(id).is_some() {
            self.lose(id, Failure::connection("dialing timed out"));
            return;
        }
        if !self.cluster.members[member].is_up {
            self.lose(id, Failure::connection("connection refused"));
            return;
        }
        let model = self.cluster.members[member].etcd.open_watch_stream();
        self.cluster.members[member].streams.insert(model, id);
        let link = &mut self.links[id.0];
        if link.fresh_token {
            self.clients[client].token = self.cluster.tokens_from;
        }
        link.token = self.clients[client].token;
        link.model = Some(model);
        link.is_open = true;
        let mut version = self.cluster.members[member].version;
        if self.planted(Planted::BelievesOldProgress) {
            version = version.map(|_| etcd_watch_core::ServerVersion::new(3, 5, 30));
        }
        let opened = Opened { version, authenticated: self.setup.auth };
        self.note(|| format!("client {client}: {stream:?} open on member {member}"));
        self.clients[client].answered(member);
        let now = self.machine_now();
        self.clients[client].watcher.handle_opened(now, stream, opened);
        self.settle(client);
        if self.links[id.0].require_leader && !self.cluster.has_leader(member, self.now) {
            self.end_by_server(id, no_leader());
        }
    }

    /// A client's request goes on its way.
    pub(super) fn send_request(&mut self, id: LinkId, request: Request) {
        let now = self.now;
        let link = &mut self.links[id.0];
        let at = now + link.delay();
        let at = link.to_server.back().map_or(at, |(last, _)| at.max(*last));
        link.to_server.push_back((at, request));
        self.expect(id);
    }

    /// Sees to it that the link has its turn when something is due on it.
    fn expect(&mut self, id: LinkId) {
        let blocked = self.link_is_blocked(id).unwrap_or_default();
        let link = &mut self.links[id.0];
        if link.is_mute {
            return;
        }
        // A member that has no room for the reply takes no request; its turn comes when a frame has been read.
        let has_room =
            link.model.is_none_or(|model| self.cluster.members[link.member].etcd.wants_watch_request(model));
        let request = link.to_server.front().map(|(at, _)| *at).filter(|_| has_room);
        let due = [request, link.to_client.front().map(|(at, _)| *at)];
        if let Some(at) = due.into_iter().flatten().min() {
            let at = at.max(blocked).max(self.now);
            if link.turn.ask(at) {
                self.schedule.at(at, Wake::Link(id));
            }
        }
    }

    pub(super) fn link_turn(&mut self, id: LinkId) {
        if !self.links[id.0].turn.take(self.now) {
            return;
        }
        if self.link_is_blocked(id).is_some() {
            self.expect(id);
            return;
        }
        self.requests_arrive(id);
        self.frames_arrive(id);
        self.expect(id);
    }

    fn requests_arrive(&mut self, id: LinkId) {
        let now = self.now;
        loop {
            let link = &mut self.links[id.0];
            let Some(model) = link.model else {
                link.to_server.clear();
                return;
            };
            let member = &mut self.cluster.members[link.member];
            if link.to_server.front().is_none_or(|(at, _)| *at > now)
                || !member.etcd.wants_watch_request(model)
            {
                return;
            }
            let Some((_, request)) = link.to_server.pop_front() else { return };
            let is_refused = self.setup.auth && link.token < self.cluster.tokens_from;
            let request = watch_request(request);
            let creates = matches!(request.request_union, Some(RequestUnion::CreateRequest(_)));
            if is_refused && creates {
                // Members look at a stream's token only when a watch is created.
                member.etcd.deny_watches("\0", "\0", DENIED);
                member.etcd.handle_watch_request(model, request);
                deny_secret(&mut member.etcd);
            } else {
                member.etcd.handle_watch_request(model, request);
            }
            let member = link.member;
            self.pump_member(member);
        }
    }

    fn frames_arrive(&mut self, id: LinkId) {
        let now = self.now;
        let link = &mut self.links[id.0];
        while link.to_client.front().is_some_and(|(at, _)| *at <= now) {
            link.inbox.extend(link.to_client.pop_front().map(|(_, packet)| packet));
        }
        self.client_reads(id);
    }

    /// The client takes what has come, as long as its machine wants it.
    pub(super) fn client_reads(&mut self, id: LinkId) {
        let reads_on = self.planted(Planted::ReadsOn);
        loop {
            let link = &mut self.links[id.0];
            let (client, stream) = (link.client, link.stream);
            if !link.is_live() || link.inbox.is_empty() {
                return;
            }
            if !self.clients[client].watcher.wants_frame(stream) && !reads_on {
                return;
            }
            match link.inbox.pop_front() {
                Some(Packet::Frame(frame)) => self.frame(id, frame),
                Some(Packet::End(failure)) => self.lose(id, failure),
                None => return,
            }
            self.pump(id);
        }
    }

    /// A frame reaches a client's machine.
    fn frame(&mut self, id: LinkId, frame: Bytes) {
        let (client, stream) = (self.links[id.0].client, self.links[id.0].stream);
        self.counts.frames += 1;
        let frame = if self.planted(Planted::SplitsFragments) { as_whole(&frame) } else { frame };
        if self.planted(Planted::ResumesAfterHeader)
            && let Ok(response) = WatchResponse::decode(frame.clone())
            && let Some(header) = response.header
        {
            self.clients[client].last_header = header.revision;
        }
        self.note(|| format!("client {client}: {stream:?} brings {}", brief(&frame)));
        let now = self.machine_now();
        self.clients[client].watcher.handle_frame(now, stream, etcd_watch_core::Frame::decode(frame));
        self.settle(client);
        self.check_bounds(client);
    }

    /// What a member has for its streams goes on its way.
    pub(super) fn pump_member(&mut self, member: usize) {
        while let Some(stream) = self.cluster.members[member].etcd.poll_ready() {
            if let Some(&id) = self.cluster.members[member].streams.get(&stream) {
                self.pump(id);
            }
        }
        // A member that stands still has no time of its own.
        let begins = self.now.max(self.cluster.members[member].frozen_until);
        let at = self.cluster.members[member].etcd.poll_timeout();
        if let Some(at) = at.map(|at| at.max(begins))
            && self.cluster.members[member].turn.ask(at)
        {
            self.schedule.at(at, Wake::Member(member));
        }
    }

    /// A member has been away: all its streams may have something.
    pub(super) fn pump_all_links(&mut self, member: usize) {
        let streams: Vec<LinkId> = self.cluster.members[member].streams.values().copied().collect();
        for id in streams {
            self.pump(id);
        }
    }

    fn pump(&mut self, id: LinkId) {
        let now = self.now;
        let link = &mut self.links[id.0];
        let Some(model) = link.model else { return };
        let member = &mut self.cluster.members[link.member];
        if member.frozen_until > now {
            return;
        }
        while link.to_client.len() + link.inbox.len() < link.window {
            let Some(response) = member.etcd.poll_watch_response(model) else { break };
            let bytes: Bytes = response.encode_to_vec().into();
            link.fragments += bytes.len() + 128 * response.events.len();
            self.largest_response = self.largest_response.max(link.fragments);
            if !response.fragment {
                link.fragments = 0;
            }
            link.send(now, Packet::Frame(bytes));
        }
        self.expect(id);
    }

    /// The client's end breaks.
    pub(super) fn lose(&mut self, id: LinkId, failure: Failure) {
        let link = &mut self.links[id.0];
        if !std::mem::take(&mut link.is_held) {
            return;
        }
        let (client, member, stream) = (link.client, link.member, link.stream);
        self.note(|| format!("client {client}: {stream:?} to member {member} fails: {failure}"));
        self.leave_to_server(id);
        self.client_lost(client, member, stream, failure);
    }

    /// The client resets a stream.
    pub(super) fn reset(&mut self, id: LinkId) {
        self.links[id.0].is_held = false;
        self.leave_to_server(id);
    }

    /// The client's end is gone; the member notices in its own time.
    fn leave_to_server(&mut self, id: LinkId) {
        let link = &mut self.links[id.0];
        link.inbox.clear();
        link.to_client.clear();
        link.to_server.clear();
        let after = if link.is_mute { SERVER_KEEPALIVE } else { link.latency };
        self.schedule.at(self.now + after, Wake::ServerGone(id));
    }

    pub(super) fn server_gone(&mut self, id: LinkId) {
        if let Some(until) = self.link_is_blocked(id).filter(|_| !self.links[id.0].is_mute) {
            self.schedule.at(until, Wake::ServerGone(id));
            return;
        }
        self.close_on_server(id);
    }

    fn close_on_server(&mut self, id: LinkId) {
        let link = &mut self.links[id.0];
        if let Some(model) = link.model.take() {
            let member = &mut self.cluster.members[link.member];
            member.etcd.close_watch_stream(model);
            member.streams.remove(&model);
        }
    }

    /// The member ends a stream and says why.
    pub(super) fn end_by_server(&mut self, id: LinkId, failure: Failure) {
        self.close_on_server(id);
        let now = self.now;
        self.links[id.0].send(now, Packet::End(failure));
        self.expect(id);
    }

    /// A connection breaks; what is under way may still come, or not.
    pub(super) fn cut(&mut self, id: LinkId) {
        let keeps = self.fork().bool();
        if !keeps {
            self.drop_under_way(id);
        }
        self.links[id.0].to_server.clear();
        self.end_by_server(id, Failure::connection("reset by peer"));
    }

    /// Frames that have been sent and not read are lost.
    pub(super) fn drop_under_way(&mut self, id: LinkId) {
        let link = &mut self.links[id.0];
        let is_end = |packet: &Packet| matches!(packet, Packet::End(_));
        link.to_client.retain(|(_, packet)| is_end(packet));
        link.inbox.retain(is_end);
    }

    pub(super) fn mute(&mut self, id: LinkId) {
        self.links[id.0].is_mute = true;
        self.schedule.at(self.now + KEEPALIVE, Wake::Keepalive(id));
        // The member's own keepalive, should the client never notice.
        self.schedule.at(self.now + SERVER_KEEPALIVE, Wake::ServerGone(id));
    }

    /// A client's pings have not been answered for as long as it waits, if the link is still dead.
    pub(super) fn keepalive(&mut self, id: LinkId) {
        let is_dead = self.links[id.0].is_mute || self.link_is_blocked(id).is_some();
        if is_dead && self.links[id.0].is_held && !self.planted(Planted::NoKeepalive) {
            self.lose(id, Failure::connection("keepalive timed out"));
        }
    }

    /// A member sends what is no message.
    pub(super) fn garble(&mut self, id: LinkId) {
        let now = self.now;
        self.links[id.0].send(now, Packet::Frame(Bytes::from_static(b"\xff\xff\xff\xff")));
        self.expect(id);
    }

    /// Links between the living, in the order they were opened.
    pub(super) fn live_links(&self) -> Vec<LinkId> {
        let mut links: Vec<LinkId> =
            self.clients.iter().flat_map(|client| client.links.values().copied()).collect();
        links.retain(|id| self.links[id.0].is_live());
        links.sort();
        links
    }

    /// Everything that is blocked between a client (or all of them) and a member: its pings go unanswered.
    pub(super) fn links_blocked(&mut self, client: Option<usize>, member: usize) {
        for id in self.live_links() {
            let link = &self.links[id.0];
            if link.member == member && client.is_none_or(|client| client == link.client) {
                self.schedule.at(self.now + KEEPALIVE, Wake::Keepalive(id));
            }
        }
    }
}

pub(super) fn no_leader() -> Failure {
    Failure::status(14, "etcdserver: no leader")
}

/// A fragment that claims to be all there is.
fn as_whole(frame: &Bytes) -> Bytes {
    match WatchResponse::decode(frame.clone()) {
        Ok(response) if response.fragment => {
            WatchResponse { fragment: false, ..response }.encode_to_vec().into()
        }
        _ => frame.clone(),
    }
}

fn brief(frame: &Bytes) -> String {
    let Ok(response) = WatchResponse::decode(frame.clone()) else { return "garbage".to_owned() };
    let revision = response.header.map_or(0, |header| header.revision);
    let mut text = format!("id {} at {revision}", response.watch_id);
    for (is_so, word) in [
        (response.created, ", created"),
        (response.canceled, ", canceled"),
        (response.fragment, ", more to come"),
        (response.compact_revision > 0, ", compacted"),
    ] {
        text.push_str(if is_so { word } else { "" });
    }
    text.push_str(&response.cancel_reason);
    for event in &response.events {
        if let Some(kv) = &event.kv {
            let kind = if event.r#type == 0 { "put" } else { "delete" };
            text.push_str(&format!(", {kind} {}@{}", String::from_utf8_lossy(&kv.key), kv.mod_revision));
        }
    }
    text
}

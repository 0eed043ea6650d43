//! A peer that a mirror and a cache list a range of.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_client::cache::{Cache, CacheRequest};
use etcd_watch_client::proto::etcdserverpb::{
    RangeRequest, RangeResponse, RangeStreamResponse, WatchRequest, WatchResponse,
    watch_request::RequestUnion,
};
use etcd_watch_client::proto::mvccpb::{Event, KeyValue};
use etcd_watch_client::{BoxError, Client, KeyRange, Mirror, MirrorRequest};
use etcd_watch_testkit::model::ModelConfig;
use etcd_watch_testkit::sim::{Etcd, Sim, World};

use crate::figures::Bounds;
use crate::grpc::{Call, header, message};
use crate::lawful;
use crate::peer::{MINUTE, Peer, Scenario, Script, answered};

/// The keys that are listed, each put once.
const KEYS: i64 = 40;
/// The store's revision once they are there.
pub(crate) const LAST: i64 = KEYS + 1;
/// What a lawful member has beside them.
const MARKER: &str = "k/last";
/// How often it is looked what a cache has.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Pages of one key, and then of some 17.
pub(crate) const PAGE_BYTES: usize = 1024;

/// Puts the keys that are listed.
pub(crate) fn put_keys(etcd: &Etcd) {
    for key in 0..KEYS {
        etcd.put(format!("k/{key:02}"), format!("v{key:02}"));
    }
}

/// How the peer answers when a page is asked for.
pub(crate) enum Answer {
    Page(RangeResponse),
    Bytes(Bytes),
    Status(u32, &'static str),
    Never,
}

/// What a stream of a list does.
pub(crate) enum Step {
    Say(RangeResponse),
    Bytes(Bytes),
    /// A message made of the number of those before, a hundred times a second.
    Endless(fn(i64) -> RangeResponse),
    End(u32, &'static str),
    Reset,
    Stay,
}

type Pages = Arc<dyn Fn(&RangeRequest, RangeResponse) -> Answer + Send + Sync>;
type Streams = Arc<dyn Fn(&RangeRequest, Vec<RangeResponse>) -> Vec<Step> + Send + Sync>;

/// What becomes of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing of it is believed.
    Waits,
    /// It is complete, and right.
    Syncs,
    /// It is complete, and as the peer says: a lawful member could say it.
    Believes,
    /// The mirror ends, with this variant of `CloseReason`.
    Ends(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consumer {
    Mirror,
    Cache,
}

/// A peer, and what becomes of a list of it.
#[derive(Clone)]
pub(crate) struct Case {
    name: String,
    pages: Pages,
    streams: Option<Streams>,
    consumer: Consumer,
    max_keys: Option<u64>,
    /// Whether the peer's watches have new keys without an end.
    grows: bool,
    alone: Then,
    after: Then,
    beside: Then,
    bounds: Bounds,
}

impl Case {
    /// One whose lists are refused, and come from a lawful member as soon as there is one.
    fn new(name: &str, pages: Pages, streams: Option<Streams>) -> Self {
        Self {
            name: name.to_owned(),
            pages,
            streams,
            consumer: Consumer::Mirror,
            max_keys: None,
            grows: false,
            alone: Then::Waits,
            after: Then::Syncs,
            beside: Then::Syncs,
            bounds: Bounds::USUAL,
        }
    }

    /// The peer has pages alone, and makes them of lawful ones.
    pub(crate) fn pages(
        name: &str,
        pages: impl Fn(&RangeRequest, RangeResponse) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::new(&format!("pages: {name}"), Arc::new(pages), None)
    }

    /// The peer's pages are lawful, and it makes its streams of lawful ones. A list that its streams don't bring comes by
    /// pages.
    pub(crate) fn streams(
        name: &str,
        streams: impl Fn(&RangeRequest, Vec<RangeResponse>) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let lawful: Pages = Arc::new(|_, page| Answer::Page(page));
        Self::new(&format!("streams: {name}"), lawful, Some(Arc::new(streams))).syncs()
    }

    /// The peer's lists are lawful, and its watches have new keys without an end.
    pub(crate) fn grows(name: &str) -> Self {
        let lawful: Pages = Arc::new(|_, page| Answer::Page(page));
        Self { grows: true, ..Self::new(&format!("watches: {name}"), lawful, None) }
    }

    /// The list is complete and right, though the peer is alone.
    pub(crate) fn syncs(mut self) -> Self {
        self.alone = Then::Syncs;
        self
    }

    /// Nothing tells the peer from a lawful member of another history.
    pub(crate) fn believed(mut self) -> Self {
        (self.alone, self.after, self.beside) = (Then::Believes, Then::Believes, Then::Believes);
        self
    }

    /// What was believed is corrected once a lawful member answers.
    pub(crate) fn corrected(mut self) -> Self {
        self.after = Then::Syncs;
        self
    }

    /// Nothing of the list is believed while the peer is alone.
    pub(crate) fn waits(mut self) -> Self {
        self.alone = Then::Waits;
        self
    }

    /// The mirror ends for this reason. Beside a lawful member that depends on which of the two is asked first.
    pub(crate) fn ends(mut self, reason: &'static str) -> Self {
        (self.alone, self.beside) = (Then::Ends(reason), Then::Believes);
        self
    }

    /// The mirror may list so many keys.
    pub(crate) fn max_keys(mut self, keys: u64) -> Self {
        self.max_keys = Some(keys);
        self
    }

    /// Other bounds than the usual ones.
    pub(crate) fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }
}

/// Each case with a mirror, and with a cache.
pub(crate) fn by_both(cases: Vec<Case>) -> Vec<Case> {
    let both = |case: Case| {
        [Consumer::Mirror, Consumer::Cache].map(|consumer| {
            let name = format!("{}, {consumer:?}", case.name);
            Case { name, consumer, ..case.clone() }
        })
    };
    cases.into_iter().flat_map(both).collect()
}

impl Scenario for Case {
    fn name(&self) -> &str {
        &self.name
    }

    fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn sim(&self) -> Sim {
        Sim::new().members(1).model(ModelConfig { version: "3.7.0".into(), ..ModelConfig::default() })
    }

    fn fill(&self, etcd: &Etcd) {
        put_keys(etcd);
    }

    fn script(&self, world: &World) -> Script {
        answered((world.etcd().clone(), self.clone()), answer)
    }

    async fn alone(&self, world: &World, peer: &Peer, client: Client) -> Result<(), BoxError> {
        let mut list = List::open(self, client)?;
        let seen = list.follow(world, self.alone, Until::Minute).await?;
        judge(self.alone, &seen)?;
        if seen.ended.is_some() || self.after == Then::Believes {
            return Ok(());
        }
        peer.give_way();
        world.etcd().put(MARKER, "");
        let seen = list.follow(world, self.alone, Until::Marker).await?;
        judge(self.after, &seen)?;
        let has_marker = list.held().is_some_and(|(_, held)| held.contains_key(MARKER.as_bytes()));
        if self.after == Then::Syncs && !has_marker {
            return Err("it isn't told of what the lawful member has".into());
        }
        list.compare(world.etcd())
    }

    fn has_beside(&self) -> bool {
        self.beside != Then::Believes
    }

    async fn beside(&self, world: &World, client: Client) -> Result<(), BoxError> {
        let seen = List::open(self, client)?.follow(world, self.beside, Until::Synced).await?;
        judge(self.beside, &seen)
    }
}

async fn answer(mut call: Call, (etcd, case): (Etcd, Case)) -> io::Result<()> {
    match &*call.method {
        "Watch" if case.grows => grow(call).await,
        "Range" => {
            let Some(request) = call.next::<RangeRequest>().await else { return Ok(()) };
            match lawful::range(&etcd, &request) {
                Some(page) => bring(call, (case.pages)(&request, page)).await,
                None => lawful::future_revision(call).await,
            }
        }
        "RangeStream" if case.streams.is_some() => {
            let Some(request) = call.next::<RangeRequest>().await else { return Ok(()) };
            match lawful::range_stream(&etcd, &request).zip(case.streams) {
                Some((chunks, streams)) => stream(call, streams(&request, chunks)).await,
                None => lawful::future_revision(call).await,
            }
        }
        _ => lawful::answer(call, &etcd).await,
    }
}

async fn bring(mut call: Call, answer: Answer) -> io::Result<()> {
    match answer {
        Answer::Page(page) => call.answer(&page).await,
        Answer::Bytes(bytes) => {
            call.send(bytes).await?;
            call.end(0, "").await
        }
        Answer::Status(code, text) => call.end(code, text).await,
        Answer::Never => call.stay().await,
    }
}

/// A watch that has a new key with each revision, a hundred times a second.
async fn grow(mut call: Call) -> io::Result<()> {
    let Some(request) = call.next::<WatchRequest>().await else { return Ok(()) };
    let Some(RequestUnion::CreateRequest(create)) = request.request_union else { return Ok(()) };
    let response = |revision| WatchResponse {
        header: Some(header(revision)),
        watch_id: create.watch_id,
        ..WatchResponse::default()
    };
    call.send(message(&WatchResponse { created: true, ..response(LAST) })).await?;
    for revision in LAST + 1.. {
        let kv = Some(lie(format!("k/{revision}"), revision));
        let events = vec![Event { kv, ..Event::default() }];
        call.send(message(&WatchResponse { events, ..response(revision) })).await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// A pair that no store has.
pub(crate) fn lie(key: impl Into<Bytes>, mod_revision: i64) -> KeyValue {
    let (key, value) = (key.into(), "lie".into());
    KeyValue { key, value, create_revision: mod_revision, mod_revision, version: 1, lease: 0 }
}

async fn stream(mut call: Call, steps: Vec<Step>) -> io::Result<()> {
    let chunk = |response| message(&RangeStreamResponse { range_response: Some(response) });
    for step in steps {
        match step {
            Step::Say(response) => call.send(chunk(response)).await?,
            Step::Bytes(bytes) => call.send(bytes).await?,
            Step::Endless(make) => {
                for number in 0.. {
                    call.send(chunk(make(number))).await?;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            Step::End(code, text) => return call.end(code, text).await,
            // Dropped before its end, a stream is reset.
            Step::Reset => return Ok(()),
            Step::Stay => return call.stay().await,
        }
    }
    call.end(0, "").await
}

/// Keys and their values.
type Held = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the store has at a revision.
fn stored(etcd: &Etcd, revision: i64) -> Result<Held, BoxError> {
    let request = RangeRequest { key: "k/".into(), range_end: "k0".into(), revision, ..Default::default() };
    let page = lawful::range(etcd, &request);
    let kvs = page.ok_or_else(|| format!("the store is not at revision {revision}"))?.kvs;
    Ok(kvs.into_iter().map(|kv| (kv.key.into(), kv.value.into())).collect())
}

/// What has come of a list.
#[derive(Debug, Default)]
struct Seen {
    synced: Option<i64>,
    ended: Option<String>,
}

/// How long a list is followed, a minute at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Minute,
    /// Until it is complete.
    Synced,
    /// Until the marker is among its keys.
    Marker,
}

/// A consumer of the list.
enum List {
    Mirror(Box<Mirror>, Held),
    Cache(Cache),
}

impl List {
    fn open(case: &Case, client: Client) -> Result<Self, BoxError> {
        let range = KeyRange::prefix("k/");
        Ok(match case.consumer {
            Consumer::Mirror => {
                let mut request = MirrorRequest::new(range).page_bytes(PAGE_BYTES);
                if let Some(keys) = case.max_keys {
                    request = request.max_keys(keys);
                }
                Self::Mirror(Box::new(client.mirror(request)?), Held::new())
            }
            Consumer::Cache => {
                let mut request = CacheRequest::new(range).page_bytes(PAGE_BYTES);
                if let Some(keys) = case.max_keys {
                    request = request.max_keys(keys);
                }
                Self::Cache(client.cache(request)?)
            }
        })
    }

    /// Follows it. It has to be right whenever it is complete, unless what the peer says is believed.
    async fn follow(&mut self, world: &World, then: Then, until: Until) -> Result<Seen, BoxError> {
        let mut seen = Seen::default();
        let end = tokio::time::sleep(MINUTE);
        tokio::pin!(end);
        while seen.ended.is_none() {
            tokio::select! {
                biased;
                () = self.step(&mut seen) => {}
                () = &mut end => break,
            }
            let Some((_, held)) = self.held() else { continue };
            if matches!(then, Then::Waits | Then::Syncs) {
                self.compare(world.etcd())?;
            }
            let is_over = match until {
                Until::Minute => false,
                Until::Synced => true,
                Until::Marker => held.contains_key(MARKER.as_bytes()),
            };
            if is_over {
                break;
            }
        }
        Ok(seen)
    }

    /// What it has, and at which revision, if it is at one.
    fn held(&self) -> Option<(i64, Held)> {
        match self {
            Self::Mirror(mirror, held) => Some((mirror.synced_revision()?, held.clone())),
            Self::Cache(cache) => {
                let snapshot = cache.snapshot();
                let held = snapshot.iter().map(|kv| (kv.key().to_vec(), kv.value().to_vec())).collect();
                (snapshot.revision() != 0).then(|| (snapshot.revision(), held))
            }
        }
    }

    fn compare(&self, etcd: &Etcd) -> Result<(), BoxError> {
        let Some((revision, held)) = self.held() else { return Ok(()) };
        if held == stored(etcd, revision)? {
            return Ok(());
        }
        let show =
            |(key, value): (&Vec<u8>, &Vec<u8>)| format!("{}={}", key.escape_ascii(), value.escape_ascii());
        let pairs: Vec<String> = held.iter().map(show).collect();
        Err(format!("at revision {revision} it has {} keys: {}", pairs.len(), pairs.join(" ")).into())
    }

    /// Takes what comes next.
    async fn step(&mut self, seen: &mut Seen) {
        match self {
            Self::Mirror(mirror, held) => match mirror.try_next().await {
                Ok(Some(event)) => {
                    for (key, value) in event.updates() {
                        match value {
                            Some(value) => held.insert(key.to_vec(), value.to_vec()),
                            None => held.remove(key),
                        };
                    }
                    seen.synced = event.synced_revision().or(seen.synced);
                }
                Ok(None) => seen.ended = Some("without a reason".into()),
                Err(error) => seen.ended = Some(format!("{:?}", error.reason())),
            },
            Self::Cache(cache) => {
                tokio::select! {
                    biased;
                    error = cache.closed() => seen.ended = Some(format!("{error:?}")),
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                seen.synced = Some(cache.snapshot().revision()).filter(|revision| *revision != 0);
            }
        }
    }
}

/// Whether it has come to what it should.
fn judge(then: Then, seen: &Seen) -> Result<(), BoxError> {
    let is_right = match (then, &seen.ended) {
        (Then::Ends(reason), Some(ended)) => ended.contains(reason),
        (Then::Waits, None) => seen.synced.is_none(),
        (Then::Syncs, None) => seen.synced.is_some_and(|synced| synced >= LAST),
        (Then::Believes, _) => true,
        _ => false,
    };
    if is_right { Ok(()) } else { Err(format!("{seen:?}, and not {then:?}").into()) }
}

//! Mirrors and caches: copies of the store, or of a part of it, that must be exact at the revision they say.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use etcd_watch_client::{
    EventKind, KeyRange, ListReason, Mirror, MirrorEvent, MirrorRequest, OwnedKeyValue, SnapshotPart,
    StreamOptions, WatchResponse,
    cache::{Cache, CacheRequest, CacheStatus},
};
use etcd_watch_proto::mvccpb::KeyValue;
use etcd_watch_testkit::checks::Watched;
use tokio::task::JoinHandle;

use crate::{
    clients::NamedClient,
    finding::Finding,
    keys::{PREFIX, group},
    ledger::{State, part},
    recorder::lock,
};

/// A slow mirror rests so long after each event.
const REST: Duration = Duration::from_millis(100);
const SMALL_BUFFER: usize = 16 << 10;

/// A copy of a part of the store, that goes on from one store to the next.
pub(crate) struct Replica {
    client: &'static str,
    name: &'static str,
    watched: Watched,
    of: Of,
}

enum Of {
    Mirror { fold: Arc<Mutex<Fold>>, folding: JoinHandle<()> },
    Cache(Cache),
}

/// What a mirror has handed out.
#[derive(Default)]
struct Fold {
    state: State,
    /// The revision that it is exactly at.
    synced: Option<i64>,
    lists: Vec<ListReason>,
    end: Option<String>,
}

/// What a replica had at a moment.
pub(crate) struct Sample {
    pub(crate) revision: i64,
    state: State,
}

/// Replicas for every client: of everything and of a part, with and without an index, eager and slow.
pub(crate) fn open(clients: &[NamedClient]) -> Result<Vec<Replica>, Finding> {
    let mut replicas = Vec::new();
    for (number, client) in (0..).zip(clients) {
        let everything = KeyRange::prefix(PREFIX);
        let some = KeyRange::prefix(group(number));
        let own_stream = StreamOptions {
            metadata: vec![("soak-mirror".into(), "slow".into())],
            ..StreamOptions::default()
        };
        let slow = MirrorRequest::new(some.clone()).buffer_bytes(SMALL_BUFFER).stream_options(own_stream);
        replicas.push(Replica::mirror(
            client,
            "mirror",
            MirrorRequest::new(everything.clone()).page_bytes(4 << 10),
            None,
        )?);
        let no_index = MirrorRequest::new(some.clone()).keep_index(false);
        replicas.push(Replica::mirror(client, "mirror without an index", no_index, None)?);
        replicas.push(Replica::mirror(client, "slow mirror", slow, Some(REST))?);
        replicas.push(Replica::cache(client, "cache", CacheRequest::new(everything))?);
        replicas.push(Replica::cache(
            client,
            "cache of a part",
            CacheRequest::new(some).page_bytes(1 << 10),
        )?);
    }
    Ok(replicas)
}

impl Replica {
    fn mirror(
        client: &NamedClient,
        name: &'static str,
        request: MirrorRequest,
        rest: Option<Duration>,
    ) -> Result<Self, Finding> {
        let watched = Watched::range(request.range());
        let events = client.client.mirror(request).map_err(|error| refused(client, name, &error))?;
        let fold = Arc::new(Mutex::new(Fold::default()));
        let folding = tokio::spawn(follow(events, fold.clone(), rest));
        Ok(Self { client: client.name, name, watched, of: Of::Mirror { fold, folding } })
    }

    fn cache(client: &NamedClient, name: &'static str, request: CacheRequest) -> Result<Self, Finding> {
        let watched = Watched::range(request.range());
        let cache = client.client.cache(request).map_err(|error| refused(client, name, &error))?;
        Ok(Self { client: client.name, name, watched, of: Of::Cache(cache) })
    }

    /// What it has, if that claims to be the store at some revision.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) fn sample(&self) -> Result<Option<Sample>, Finding> {
        match &self.of {
            Of::Mirror { fold, .. } => {
                let fold = lock(fold);
                if let Some(end) = &fold.end {
                    return Err(self.finding(format!("it ended: {end}")));
                }
                Ok(fold.synced.map(|revision| Sample { revision, state: fold.state.clone() }))
            }
            Of::Cache(cache) => match cache.status() {
                CacheStatus::Current => {
                    let snapshot = cache.snapshot();
                    let pairs = snapshot.iter().map(|kv| {
                        let pair = KeyValue {
                            key: kv.key_bytes(),
                            value: kv.value_bytes(),
                            create_revision: kv.create_revision(),
                            mod_revision: kv.mod_revision(),
                            version: kv.version(),
                            lease: kv.lease(),
                        };
                        (pair.key.clone(), pair)
                    });
                    Ok(Some(Sample { revision: snapshot.revision(), state: pairs.collect() }))
                }
                CacheStatus::Ended(error) => Err(self.finding(format!("it ended: {error}"))),
                _ => Ok(None),
            },
        }
    }

    /// Compares a sample with the store at the sample's revision, key by key.
    ///
    /// # Errors
    /// Every key that is not as in the store.
    pub(crate) fn compare(&self, sample: &Sample, store: &State) -> Result<(), Finding> {
        let wanted = part(store, &self.watched);
        let keys: BTreeSet<&Bytes> = wanted.keys().chain(sample.state.keys()).collect();
        let differ = keys.into_iter().filter(|key| wanted.get(*key) != sample.state.get(*key));
        let details: Vec<String> = differ
            .map(|key| {
                format!(
                    "{key:?}: the store has {:?}, the replica {:?}",
                    wanted.get(key),
                    sample.state.get(key)
                )
            })
            .collect();
        if details.is_empty() {
            return Ok(());
        }
        let what =
            format!("it is not the store at revision {}: {} keys differ", sample.revision, details.len());
        Err(Finding { details, ..self.finding(what) })
    }

    /// How often it listed the keys after the first time.
    pub(crate) fn lists(&self) -> u64 {
        match &self.of {
            Of::Mirror { fold, .. } => lock(fold).lists.len().saturating_sub(1) as u64,
            Of::Cache(cache) => cache.stats().lists.saturating_sub(1),
        }
    }

    /// How often a mirror was told that it is another store, or that the store went back.
    pub(crate) fn other_stores(&self) -> Option<usize> {
        match &self.of {
            Of::Mirror { fold, .. } => {
                Some(lock(fold).lists.iter().filter(|reason| reason.is_other_store()).count())
            }
            Of::Cache(_) => None,
        }
    }

    pub(crate) fn finding(&self, what: impl Into<String>) -> Finding {
        Finding { who: self.to_string(), what: what.into(), details: Vec::new() }
    }
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ({})", self.name, self.client, String::from_utf8_lossy(&self.watched.key))
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Of::Mirror { folding, .. } = &self.of {
            folding.abort();
        }
    }
}

fn refused(client: &NamedClient, name: &str, error: &impl fmt::Display) -> Finding {
    let who = format!("{name} of {}", client.name);
    Finding { who, what: format!("it was refused: {error}"), details: Vec::new() }
}

async fn follow(mut events: Mirror, fold: Arc<Mutex<Fold>>, rest: Option<Duration>) {
    loop {
        match events.next().await {
            Some(Ok(event)) => lock(&fold).fold(event),
            Some(Err(error)) => {
                lock(&fold).end = Some(error.to_string());
                return;
            }
            None => {
                lock(&fold).end = Some("without a reason".to_owned());
                return;
            }
        }
        if let Some(rest) = rest {
            tokio::time::sleep(rest).await;
        }
    }
}

impl Fold {
    fn fold(&mut self, event: MirrorEvent) {
        match event {
            MirrorEvent::Listing { reason, .. } => {
                self.lists.push(reason);
                self.synced = None;
            }
            MirrorEvent::Snapshot(part) => self.part(part),
            MirrorEvent::Synced { revision } => self.synced = self.synced.max(Some(revision)),
            MirrorEvent::Changes(response) => self.changes(&response),
            other => self.end = Some(format!("{other:?}")),
        }
    }

    fn part(&mut self, part: SnapshotPart) {
        let known = self.state.range::<[u8], _>(part.span()).map(|(key, _)| key);
        let gone: Vec<Bytes> = part.missing(known).cloned().collect();
        for key in gone.iter().chain(part.deletes()) {
            self.state.remove(key);
        }
        for kv in part.into_puts() {
            let OwnedKeyValue { key, value, create_revision, mod_revision, version, lease } = kv;
            let pair = KeyValue { key: key.clone(), value, create_revision, mod_revision, version, lease };
            self.state.insert(key, pair);
        }
    }

    fn changes(&mut self, response: &WatchResponse) {
        for event in response.events() {
            let kv = event.kv();
            if event.kind() == EventKind::Delete {
                self.state.remove(kv.key());
                continue;
            }
            let pair = KeyValue {
                key: Bytes::copy_from_slice(kv.key()),
                value: Bytes::copy_from_slice(kv.value()),
                create_revision: kv.create_revision(),
                mod_revision: kv.mod_revision(),
                version: kv.version(),
                lease: kv.lease(),
            };
            self.state.insert(pair.key.clone(), pair);
        }
        self.synced = self.synced.max(Some(response.revision()));
    }
}

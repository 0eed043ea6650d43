//! What runs in the client's process: a client with watches, which does what it is told on its standard input.

use std::{
    io::{BufRead, Write, stdin, stdout},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use etcd_watch_tokio::{Client, KeyRange, ResponseKind, Watch, WatchConfig, WatchRequest, WatchState};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::process::{self, Figures, Settings};

/// What the client is told to do. Each is answered when it is done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Open so many watches, and wait until all are created.
    Watch { keys: Keys, count: usize },
    /// Watch a key, and take all that comes in a task of its own.
    Consume { key: String },
    /// Take from each watch until it is past the revision, from so many at once.
    TakeThrough { revision: i64, at_once: usize },
    /// Say what is held.
    Figures,
}

/// Which keys the watches have.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Keys {
    /// One each.
    OneEach { prefix: String },
    /// The same for all.
    Prefix(String),
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// How many events each watch has had by `TakeThrough`.
    pub(crate) events: Vec<usize>,
    pub(crate) figures: Figures,
}

pub(crate) fn key(prefix: &str, index: usize) -> String {
    format!("{prefix}{index:04}")
}

/// Does what it is told until nobody is there any more to tell it.
pub(crate) fn run(settings: Settings) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("it starts");
    let config = WatchConfig::default().buffer_bytes(settings.total / 2).total_buffer_bytes(settings.total);
    let client = runtime.block_on(async {
        etcd_watch_tokio::builder()
            .endpoints([settings.endpoint])
            .watch_config(config)
            .connect_lazy()
            .expect("a client")
    });
    let mut side = Side { client, watches: Vec::new(), consumed: Arc::default() };
    for line in stdin().lock().lines() {
        let command = serde_json::from_str(&line.expect("it is told something")).expect("it is a command");
        let answer = runtime.block_on(side.perform(command));
        let answer = serde_json::to_string(&answer).expect("it can be said");
        println!("{}{answer}", process::ANSWER);
        stdout().flush().expect("it is said");
    }
}

struct Side {
    client: Client,
    watches: Vec<Watch>,
    consumed: Arc<AtomicUsize>,
}

impl Side {
    async fn perform(&mut self, command: Command) -> Answer {
        match command {
            Command::Watch { keys, count } => {
                for index in 0..count {
                    let range = match &keys {
                        Keys::OneEach { prefix } => KeyRange::key(key(prefix, index)),
                        Keys::Prefix(prefix) => KeyRange::prefix(prefix.clone()),
                    };
                    self.watches.push(self.open(range));
                }
                for watch in &mut self.watches {
                    is_created(watch).await;
                }
                Answer::default()
            }
            Command::Consume { key } => {
                let mut watch = self.open(KeyRange::key(key));
                is_created(&mut watch).await;
                let consumed = self.consumed.clone();
                tokio::spawn(async move {
                    while let Ok(Some(response)) = watch.try_next().await {
                        consumed.fetch_add(response.len(), Ordering::Relaxed);
                    }
                });
                Answer::default()
            }
            Command::TakeThrough { revision, at_once } => {
                let events = self.take_through(revision, at_once).await;
                Answer { events, ..Answer::default() }
            }
            Command::Figures => Answer { figures: self.figures(), ..Answer::default() },
        }
    }

    fn open(&self, range: KeyRange) -> Watch {
        let request = WatchRequest::new(range).created_notify(true).prev_kv(true);
        self.client.watch(request).expect("a lawful request")
    }

    async fn take_through(&mut self, revision: i64, at_once: usize) -> Vec<usize> {
        let mut events = vec![0; self.watches.len()];
        let mut taking = JoinSet::new();
        let mut watches = self.watches.drain(..).enumerate();
        loop {
            while taking.len() < at_once
                && let Some((index, mut watch)) = watches.next()
            {
                taking.spawn(async move { (index, take_through(&mut watch, revision).await) });
            }
            let Some(taken) = taking.join_next().await else { return events };
            let (index, taken) = taken.expect("it takes");
            events[index] = taken;
        }
    }

    fn figures(&self) -> Figures {
        let stats = self.client.stats();
        let of_each = || self.watches.iter().filter_map(Watch::stats);
        Figures {
            queued_bytes: stats.queued_bytes,
            overflows: stats.overflows,
            creates: stats.creates,
            consumed: self.consumed.load(Ordering::Relaxed),
            waiting: of_each().filter(|stats| stats.queued_events > 0).count(),
            overflowed: of_each().filter(|stats| stats.state == WatchState::Overflowed).count(),
            ..Figures::of_process()
        }
    }
}

async fn is_created(watch: &mut Watch) {
    let response = watch.try_next().await.expect("the watch is created").expect("it says so");
    assert_eq!(response.kind(), ResponseKind::Created);
}

/// How many events came until the watch was past the revision.
async fn take_through(watch: &mut Watch, revision: i64) -> usize {
    let mut events = 0;
    while watch.resume_revision().is_none_or(|next| next <= revision) {
        let response = watch.try_next().await.expect("the watch goes on").expect("it has a response");
        events += response.len();
    }
    events
}

//! A watch whose every response is written down and in the end compared with the store's history.

use etcd_watch_client::{
    Client, CloseReason, Event, EventKind, Filters, KeyRange, ResponseKind, Watch, WatchRequest,
    WatchResponse,
};
use etcd_watch_proto::mvccpb::Event as WireEvent;
use etcd_watch_testkit::checks::{Received, Watched, check, wire_event};
use tokio::time::timeout;

use crate::world::{DEADLINE, World};

/// What to watch: the request, and the same in the checker's terms.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    request: WatchRequest,
    watched: Watched,
}

impl Ask {
    /// A watch from now on that tells when it has been created.
    pub(crate) fn range(range: KeyRange) -> Self {
        let watched = Watched::range(&range);
        Self { request: WatchRequest::new(range).created_notify(true), watched }
    }

    pub(crate) fn prefix(prefix: &str) -> Self {
        Self::range(KeyRange::prefix(prefix.as_bytes().to_vec()))
    }

    pub(crate) fn key(key: &str) -> Self {
        Self::range(KeyRange::key(key.as_bytes().to_vec()))
    }

    pub(crate) fn from(mut self, revision: i64) -> Self {
        self.request = self.request.start_revision(revision);
        self.watched.from = revision;
        self
    }

    pub(crate) fn prev_kv(mut self) -> Self {
        self.request = self.request.prev_kv(true);
        self.watched.prev_kv = true;
        self
    }

    pub(crate) fn no_put(mut self) -> Self {
        self.request = self.request.filters(Filters { no_put: true, no_delete: false });
        self.watched.no_put = true;
        self
    }

    pub(crate) fn no_delete(mut self) -> Self {
        self.request = self.request.filters(Filters { no_put: false, no_delete: true });
        self.watched.no_delete = true;
        self
    }

    /// Any other option.
    pub(crate) fn with(mut self, change: impl FnOnce(WatchRequest) -> WatchRequest) -> Self {
        self.request = change(self.request);
        self
    }

    pub(crate) fn open(self, client: &Client) -> Observer {
        let watch = client.watch(self.request).expect("a lawful request");
        Observer { watch, watched: self.watched, received: Vec::new(), created: 0, progress: 0, last: 0 }
    }
}

/// A watch, and all it has delivered.
pub(crate) struct Observer {
    pub(crate) watch: Watch,
    pub(crate) watched: Watched,
    received: Vec<Received>,
    /// How many `Created` responses came.
    pub(crate) created: usize,
    /// The revision of the last progress response.
    pub(crate) progress: i64,
    /// The revision of the last event.
    pub(crate) last: i64,
}

impl Observer {
    /// Takes the next response.
    pub(crate) async fn step(&mut self) -> Result<(), CloseReason> {
        let response = timeout(DEADLINE, self.watch.next()).await.unwrap_or_else(|_| {
            panic!("nothing came for {DEADLINE:?}; the last event was of revision {}", self.last)
        });
        let response = response.expect("the watch goes on, or says why not");
        self.record(&response.map_err(|error| error.into_reason())?);
        Ok(())
    }

    fn record(&mut self, response: &WatchResponse) {
        assert_eq!(Some(response.resume_revision()), self.watch.resume_revision());
        match response.kind() {
            ResponseKind::Created => {
                self.created += 1;
                assert!(self.received.is_empty(), "Created comes first");
            }
            ResponseKind::Progress => self.progress = response.revision(),
            _ => assert!(!response.is_empty(), "a response with events has some"),
        }
        assert_eq!(response.len(), response.events().count());
        let events: Vec<WireEvent> = response.events().map(wire).collect();
        if let Some(last) = response.events().last() {
            self.last = last.mod_revision();
        }
        // Where to resume is a bookmark in all responses.
        self.received.push(Received { events, bookmark: Some(response.revision()) });
    }

    /// Waits until the watch has been created; one from now on has to see all that is written afterwards.
    pub(crate) async fn created(&mut self, world: &World) {
        while self.created == 0 {
            self.step().await.expect("the watch is created");
        }
        if self.watched.from == 0 {
            self.watched.from = world.revision().await + 1;
        }
    }

    /// Takes responses until an event of this revision has come.
    pub(crate) async fn through(&mut self, revision: i64) {
        while self.last < revision {
            self.step().await.expect("the watch goes on");
        }
    }

    /// Takes responses until progress at or above this revision is reported.
    pub(crate) async fn progress_to(&mut self, revision: i64) {
        while self.progress < revision {
            self.step().await.expect("the watch goes on");
        }
    }

    /// Takes responses until the watch ends, and returns why.
    pub(crate) async fn end(&mut self) -> CloseReason {
        loop {
            if let Err(reason) = self.step().await {
                let after = timeout(DEADLINE, self.watch.next()).await.expect("the end is known");
                assert!(after.is_none(), "the end comes once, and last");
                return reason;
            }
        }
    }

    /// How many events came.
    pub(crate) fn events(&self) -> usize {
        self.received.iter().map(|response| response.events.len()).sum()
    }

    /// Compares all that came with what had to come up to `through`.
    pub(crate) async fn check(&self, world: &World, through: i64) {
        let history = world.history().await;
        let watched = Watched { through, ..self.watched.clone() };
        if let Err(violations) = check(&history, &watched, &self.received) {
            let list: Vec<String> = violations.iter().take(20).map(ToString::to_string).collect();
            let count = violations.len();
            panic!("{count} violations by the watch of {watched:?}, the first:\n{}", list.join("\n"));
        }
        assert!(self.created <= 1, "Created came {} times", self.created);
    }

    /// [`through`](Observer::through) a revision, then [`check`](Observer::check).
    pub(crate) async fn check_through(&mut self, world: &World, revision: i64) {
        self.through(revision).await;
        self.check(world, revision).await;
    }
}

fn wire(event: Event<'_>) -> WireEvent {
    let is_create = event.kind() == EventKind::Put && event.create_revision() == event.mod_revision();
    assert_eq!(event.is_create(), is_create);
    wire_event(event)
}

//! A peer that a watch meets.

use std::time::Duration;

use etcd_watch_client::proto::mvccpb::Event;
use etcd_watch_client::{BoxError, Client, KeyRange, OwnedEvent, Watch, WatchRequest};
use etcd_watch_testkit::sim::{Etcd, Socket, World};

use crate::figures::Bounds;
use crate::lawful::{self, CHANGES};
use crate::peer::{MINUTE, Peer, Scenario, Script, script};

/// So long nothing more may come, once all has come.
const QUIET: Duration = Duration::from_secs(10);

/// What becomes of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It goes on: it waits while the peer is alone, and is right as soon as a lawful member answers.
    GoesOn,
    /// It waits: nothing tells the peer from a lawful member that has nothing to say.
    Waits,
    /// It ends, with this variant of `CloseReason`.
    Ends(&'static str),
}

/// A peer that a watch meets, and what becomes of the watch.
#[derive(Clone)]
pub(crate) struct Case {
    name: String,
    script: Script,
    alone: Then,
    /// Once a lawful member is in the peer's place.
    after: Then,
    beside: Then,
    is_believed: bool,
    bounds: Bounds,
}

impl Case {
    /// One that every watch survives, within the usual bounds.
    pub(crate) fn new<F, S>(name: impl Into<String>, serve: F) -> Self
    where
        F: Fn(Socket) -> S + Send + Sync + 'static,
        S: Future + Send + 'static,
    {
        Self {
            name: name.into(),
            script: script(serve),
            alone: Then::GoesOn,
            after: Then::GoesOn,
            beside: Then::GoesOn,
            is_believed: false,
            bounds: Bounds::USUAL,
        }
    }

    /// Nothing tells the peer from a lawful member that has nothing to say: the watch stays with it.
    pub(crate) fn quiet(mut self) -> Self {
        self.beside = Then::Waits;
        self
    }

    /// What the peer makes up is delivered, or taken for progress: a lawful member of another history could say it. The
    /// bounds are all that is checked.
    pub(crate) fn believed(mut self) -> Self {
        self.is_believed = true;
        self
    }

    /// The watch ends for this reason while the peer is alone; with a lawful member beside it, it goes on.
    pub(crate) fn ends_alone(mut self, reason: &'static str) -> Self {
        self.alone = Then::Ends(reason);
        self
    }

    /// The watch ends for this reason once a lawful member answers.
    pub(crate) fn ends_after(mut self, reason: &'static str) -> Self {
        self.after = Then::Ends(reason);
        self
    }

    /// A watch ends for this reason, with a lawful member beside the peer too: what the peer says is final.
    pub(crate) fn ends(mut self, reason: &'static str) -> Self {
        self.alone = Then::Ends(reason);
        self.beside = Then::Ends(reason);
        self
    }

    /// Other bounds than the usual ones.
    pub(crate) fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }
}

impl Scenario for Case {
    fn name(&self) -> &str {
        &self.name
    }

    fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn fill(&self, etcd: &Etcd) {
        lawful::put_changes(etcd);
    }

    fn script(&self, _world: &World) -> Script {
        self.script.clone()
    }

    /// The peer is hostile for a minute; then a lawful member is in its place.
    async fn alone(&self, world: &World, peer: &Peer, client: Client) -> Result<(), BoxError> {
        let mut watch = client.watch(request())?;
        let mut received = Vec::new();
        let ended = receive(&mut watch, &mut received).await;
        if self.is_believed {
            return Ok(());
        }
        hold(world, &received)?;
        if ends_as(self.alone, ended)? {
            return Ok(());
        }
        peer.give_way();
        let ended = receive(&mut watch, &mut received).await;
        hold(world, &received)?;
        if ends_as(self.after, ended)? { Ok(()) } else { come_right(&received) }
    }

    fn has_beside(&self) -> bool {
        !self.is_believed
    }

    async fn beside(&self, world: &World, client: Client) -> Result<(), BoxError> {
        let mut watch = client.watch(request())?;
        let mut received = Vec::new();
        let ended = receive(&mut watch, &mut received).await;
        hold(world, &received)?;
        if ends_as(self.beside, ended)? {
            return Ok(());
        }
        if self.beside == Then::Waits {
            return if received.is_empty() { Ok(()) } else { Err("it doesn't wait".into()) };
        }
        come_right(&received)?;
        if self.alone == Then::GoesOn {
            let read = client.get("k").await?;
            if read.first().map(|kv| kv.value.clone()) != Some(vec![CHANGES].into()) {
                return Err(format!("read {read:?}").into());
            }
        }
        Ok(())
    }
}

fn request() -> WatchRequest {
    WatchRequest::new(KeyRange::prefix("k")).start_revision(1)
}

/// Takes what comes for a minute, or until all of the history has come and nothing else for a while; how the watch ended,
/// if it did.
async fn receive(watch: &mut Watch, received: &mut Vec<OwnedEvent>) -> Option<String> {
    let end = tokio::time::sleep(MINUTE);
    tokio::pin!(end);
    loop {
        let response = tokio::select! {
            biased;
            response = watch.try_next() => response,
            () = &mut end => return None,
        };
        match response {
            Ok(Some(response)) => received.extend(response.events().map(|event| event.to_owned())),
            Ok(None) => return Some("without a reason".into()),
            Err(error) => return Some(format!("{:?}", error.reason())),
        }
        if received.len() == usize::from(CHANGES) {
            end.as_mut().reset(tokio::time::Instant::now() + QUIET);
        }
    }
}

/// Nothing was delivered but the history from its beginning on.
fn hold(world: &World, received: &[OwnedEvent]) -> Result<(), BoxError> {
    let history = world.etcd().history();
    let same = |(event, lawful): (&OwnedEvent, &Event)| {
        lawful.kv.as_ref().is_some_and(|kv| {
            (event.kv.mod_revision, &event.kv.key[..], &event.kv.value[..])
                == (kv.mod_revision, &kv.key[..], &kv.value[..])
        })
    };
    let is_lawful = received.len() <= history.len() && received.iter().zip(&history).all(same);
    if is_lawful { Ok(()) } else { Err(format!("was delivered: {received:?}").into()) }
}

/// Whether the watch has ended, and as it should.
fn ends_as(expected: Then, ended: Option<String>) -> Result<bool, BoxError> {
    match (expected, ended) {
        (Then::GoesOn | Then::Waits, None) => Ok(false),
        (Then::Ends(reason), Some(ended)) if ended.split([' ', '{']).next() == Some(reason) => Ok(true),
        (_, None) => Err("the watch did not end".into()),
        (_, Some(ended)) => Err(format!("the watch ended: {ended}").into()),
    }
}

fn come_right(received: &[OwnedEvent]) -> Result<(), BoxError> {
    if received.len() == usize::from(CHANGES) {
        return Ok(());
    }
    Err(format!("of {CHANGES} events {} came", received.len()).into())
}

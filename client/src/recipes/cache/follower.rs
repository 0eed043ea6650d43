//! The cache's one task: takes from the mirror, and asks the server for what is waited for.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use etcd_watch_core::{Instant, MirrorEvent};
use futures_core::Stream;

use super::{
    catch_up::{CatchUp, Proof},
    error::CacheError,
    fold::Fold,
    shared::Shared,
};
use crate::{BoxFuture, CallError, Client, Get, GetResponse, Mirror, SortBy, SortOrder};

/// How many of the mirror's events are taken in one go, before other tasks have their turn.
const TURN: usize = 32;

type Read = BoxFuture<'static, Result<GetResponse, CallError>>;

pub(super) struct Follower<P> {
    client: Client,
    mirror: Mirror,
    fold: Fold<P>,
    shared: Arc<Shared<P>>,
    catch_up: CatchUp,
    /// The cluster that the watch speaks for; 0 while it is not known.
    cluster_id: u64,
    /// A read of the store's revision, and its number.
    revision_read: Option<(u64, Read)>,
    /// A read of the keys.
    keys_read: Option<Read>,
    timer: Option<(Instant, BoxFuture<'static, ()>)>,
    #[cfg(feature = "metrics")]
    exported: Option<super::metrics::Exported>,
    #[cfg(feature = "metrics")]
    readiness: Option<super::metrics::Readiness>,
}

impl<P> Follower<P> {
    pub(super) fn new(client: Client, mirror: Mirror, fold: Fold<P>) -> Self {
        Self {
            client,
            mirror,
            shared: fold.shared.clone(),
            fold,
            catch_up: CatchUp::default(),
            cluster_id: 0,
            revision_read: None,
            keys_read: None,
            timer: None,
            #[cfg(feature = "metrics")]
            exported: None,
            #[cfg(feature = "metrics")]
            readiness: None,
        }
    }

    #[cfg(feature = "metrics")]
    pub(super) fn exporting(mut self, name: &str, monitor: crate::Monitor) -> Self {
        self.exported = Some(super::metrics::Exported::new(name));
        self.readiness = Some(super::metrics::Readiness::new(name, monitor));
        self
    }

    /// Runs until the cache has ended.
    pub(super) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.task.register(cx.waker());
        if self.shared.has_ended() {
            return Poll::Ready(());
        }
        let polled = self.poll_mirror(cx);
        self.shared.counters.list_progress.set(self.mirror.list_progress());
        if let Err(error) = polled {
            tracing::warn!(name: "cache_ended", range = ?self.shared.range.start(), reason = %error, "a cache ended");
            self.shared.end(error);
            #[cfg(feature = "metrics")]
            if let Some(readiness) = &mut self.readiness {
                readiness.poll(cx);
            }
            return Poll::Ready(());
        }
        self.poll_revision_read(cx);
        self.poll_catching_up(cx);
        #[cfg(feature = "metrics")]
        if let Some(exported) = &mut self.exported {
            exported.export(self.shared.stats());
        }
        #[cfg(feature = "metrics")]
        if let Some(readiness) = &mut self.readiness {
            readiness.poll(cx);
        }
        Poll::Pending
    }

    fn poll_mirror(&mut self, cx: &mut Context<'_>) -> Result<(), CacheError> {
        for _ in 0..TURN {
            match std::pin::Pin::new(&mut self.mirror).poll_next(cx) {
                Poll::Ready(Some(Ok(event))) => self.event(&event)?,
                Poll::Ready(Some(Err(error))) => return Err(error.into()),
                Poll::Ready(None) => return Err(CacheError::Closed),
                Poll::Pending => return Ok(()),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn event(&mut self, event: &MirrorEvent) -> Result<(), CacheError> {
        match event {
            MirrorEvent::Listing { reason, .. } => {
                if reason.is_other_store() {
                    self.cluster_id = 0;
                    // What it tells may be of the store before.
                    self.keys_read = None;
                    self.catch_up.read(self.client.runtime().now(), None);
                }
                self.catch_up.listing(reason.is_other_store());
            }
            MirrorEvent::Synced { .. } => self.catch_up.progressed(self.client.runtime().now()),
            MirrorEvent::Changes(response) => self.cluster_id = response.header().cluster_id,
            _ => {}
        }
        self.fold.take(event)
    }

    /// Reads the store's revision for those who want to be as new as it.
    fn poll_revision_read(&mut self, cx: &mut Context<'_>) {
        loop {
            if self.revision_read.is_none()
                && let Some(number) = self.shared.read_wanted()
            {
                self.shared.counters.revision_reads.add(1);
                // Any linearizable read tells it. One key is the cheapest, and whoever may read the range may
                // read its first key.
                let get = Get::key(self.shared.range.start().clone()).count_only(true);
                self.revision_read = Some((number, self.read(get)));
            }
            let Some((number, read)) = &mut self.revision_read else { return };
            let Poll::Ready(result) = read.as_mut().poll(cx) else { return };
            let number = *number;
            self.revision_read = None;
            let revision = result.map_err(CacheError::Read).and_then(|response| {
                Some(response.revision()).filter(|&revision| revision > 0).ok_or(CacheError::NoRevision)
            });
            self.shared.read_done(number, revision);
        }
    }

    /// Sees to it that those who wait for a revision hear of it.
    fn poll_catching_up(&mut self, cx: &mut Context<'_>) {
        loop {
            self.poll_keys_read(cx);
            let at = self.fold.at();
            if let Some((at, keys)) = at
                && let Some(revision) = self.catch_up.proven(at, keys)
            {
                self.fold.synced(revision);
                continue;
            }
            let wanted = self.shared.waiters.highest();
            let is_wanted = at.is_some_and(|(at, _)| wanted.is_some_and(|wanted| wanted > at));
            let now = self.client.runtime().now();
            let ask = self.catch_up.poll(now, is_wanted);
            if ask.progress {
                self.shared.counters.progress_requests.add(1);
                self.mirror.request_progress();
            }
            if ask.keys {
                self.shared.counters.proof_reads.add(1);
                let get = Get::new(self.shared.range.clone())
                    .keys_only(true)
                    .sort(SortBy::ModRevision, SortOrder::Descending)
                    .limit(1);
                self.keys_read = Some(self.read(get));
                continue;
            }
            if !self.poll_timer(cx, now, ask.again) {
                return;
            }
        }
    }

    fn poll_keys_read(&mut self, cx: &mut Context<'_>) {
        let Some(read) = &mut self.keys_read else { return };
        let Poll::Ready(result) = read.as_mut().poll(cx) else { return };
        self.keys_read = None;
        let proof = result.ok().and_then(|response| {
            let header = response.header();
            if !header.is_present() {
                return None;
            }
            // Another cluster's keys show nothing.
            let is_ours = [0, header.cluster_id].contains(&self.cluster_id) || header.cluster_id == 0;
            let newest = response.first().map_or(0, |kv| kv.mod_revision);
            let keys = usize::try_from(response.count()).ok()?;
            // A server that only counts what it returns would never agree, and one that counts nothing could.
            (is_ours && keys >= response.kvs().len()).then_some(Proof {
                revision: header.revision,
                keys,
                newest,
            })
        });
        self.catch_up.read(self.client.runtime().now(), proof);
    }

    /// Whether it is time.
    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Instant, at: Option<Instant>) -> bool {
        let Some(at) = at else {
            self.timer = None;
            return false;
        };
        if self.timer.as_ref().is_none_or(|(set, _)| *set != at) {
            self.timer = Some((at, self.client.runtime().sleep(at.since(now))));
        }
        let rang = self.timer.as_mut().is_some_and(|(_, sleep)| sleep.as_mut().poll(cx).is_ready());
        if rang {
            self.timer = None;
        }
        rang
    }

    fn read(&self, get: Get) -> Read {
        let client = self.client.clone();
        Box::pin(async move { client.get(get).await })
    }
}

impl<P> Drop for Follower<P> {
    /// Nobody is to wait for a task that a runtime has dropped, or that has panicked. What is left of the cache is not
    /// to hold the task.
    fn drop(&mut self) {
        self.shared.end(CacheError::Stopped);
        drop(self.shared.task.take());
    }
}

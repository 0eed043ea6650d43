//! Where changes come from.

use anyhow::{Context, bail};
use etcd_watch_tokio::{
    Client, CloseReason, ListProgress, Mirror, MirrorEvent, MirrorRequest, ResponseKind, Watch, WatchRequest,
};

use super::{checkpoint::Checkpoint, mapping::Mapping};

/// The source's keys: watched from a checkpoint on for as long as that goes, else listed and then watched.
pub(super) struct Source {
    client: Client,
    request: MirrorRequest,
    from: From,
    /// The highest revision known to have been the source's.
    known: i64,
}

enum From {
    Watch(Watch),
    Mirror(Box<Mirror>),
}

impl Source {
    /// Goes on from a checkpoint.
    pub(super) fn open(client: Client, mapping: &Mapping, checkpoint: &Checkpoint) -> anyhow::Result<Self> {
        // What is at the destination is the index.
        let request = MirrorRequest::new(mapping.source().clone()).keep_index(false);
        let from = if checkpoint.is_exact {
            let watch = WatchRequest::new(mapping.source().clone())
                .start_revision(checkpoint.revision + 1)
                .known_store(checkpoint.cluster_id, checkpoint.revision)
                .progress_notify(true);
            From::Watch(client.watch(watch)?)
        } else {
            From::Mirror(Box::new(client.mirror(request.clone())?))
        };
        Ok(Self { client, request, from, known: checkpoint.revision })
    }

    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// The source can't be followed any more, or is not what it was.
    pub(super) async fn next(&mut self) -> anyhow::Result<MirrorEvent> {
        let event = loop {
            match &mut self.from {
                From::Mirror(mirror) => {
                    let event = mirror.try_next().await.context("the source can't be mirrored")?;
                    break event.context("the source can't be mirrored: the client was closed")?;
                }
                From::Watch(watch) => match watch.try_next().await {
                    Ok(Some(response)) if response.kind() == ResponseKind::Progress => {
                        break MirrorEvent::Synced { revision: response.revision() };
                    }
                    Ok(Some(response)) if response.is_empty() => {}
                    Ok(Some(response)) => break MirrorEvent::Changes(response),
                    Ok(None) => bail!("the source can't be watched: the client was closed"),
                    Err(error) if listing_helps(error.reason()) => {
                        self.from = From::Mirror(Box::new(self.client.mirror(self.request.clone())?));
                    }
                    Err(error) => return Err(error).context("the source can't be watched"),
                },
            }
        };
        self.check(&event)?;
        Ok(event)
    }

    /// How far the list has come that is being copied, if one is.
    pub(super) fn list_progress(&self) -> Option<ListProgress> {
        match &self.from {
            From::Watch(_) => None,
            From::Mirror(mirror) => mirror.list_progress(),
        }
    }

    pub(super) fn request_progress(&mut self) {
        match &mut self.from {
            // A watch that has ended says so itself.
            From::Watch(watch) => watch.request_progress(),
            From::Mirror(mirror) => mirror.request_progress(),
        }
    }

    /// Refuses lists of another store: it may be older than what was copied.
    fn check(&mut self, event: &MirrorEvent) -> anyhow::Result<()> {
        if let MirrorEvent::Listing { revision, reason } = event {
            if reason.is_other_store() {
                bail!("the source is not what it was: {reason}; nothing of that was copied");
            }
            if *revision < self.known {
                bail!(
                    "the source is at revision {revision}, and revision {} was copied: it has gone back",
                    self.known
                );
            }
        }
        self.known = self.known.max(event.synced_revision().unwrap_or_default());
        Ok(())
    }
}

/// Whether a list has what the watch can't bring any more.
fn listing_helps(reason: &CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::Compacted { .. } | CloseReason::Lagged { .. } | CloseReason::TooLarge { .. }
    )
}

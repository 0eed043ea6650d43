//! `mirror --to`: writes what the source has to the destination.

use std::{
    cell::Cell,
    io::{self, Write},
    mem,
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use etcd_watch_tokio::{
    Client, EventKind, Get, KeyRange, MirrorEvent, SnapshotPart, WatchConfig, WatchResponse,
};
use tokio::time::Instant;

use super::{
    batch::Changes,
    checkpoint::{self, Checkpoint},
    destination::{Destination, Refused},
    difference::difference,
    mapping::{Mapping, overlap},
    opposite,
    report::{Progress, Statistics},
    source::Source,
};
use crate::{
    args::{Global, MirrorArgs},
    connect::{self, Access},
    ending::Ending,
    errors::Flags,
    signals::Stop,
    until::Until,
};

/// How often to write down that nothing has changed: so that little history is needed after a restart.
const IDLE_CHECKPOINT: Duration = Duration::from_secs(60);

pub(super) async fn run(
    global: &Global,
    args: &MirrorArgs,
    source: Client,
    range: KeyRange,
    stop: &mut Stop,
) -> anyhow::Result<Ending> {
    let mapping = Mapping::new(args, range);
    let asked_for = args.to.checkpoint.as_deref().map(connect::bytes);
    let key = checkpoint::key(&mapping, asked_for)?;
    let to = &args.to;
    let access = Access {
        flags: Flags::Destination,
        endpoints: &to.to,
        cacert: to.dest_cacert.as_deref(),
        cert: to.dest_cert.as_deref(),
        key: to.dest_key.as_deref(),
        tls_server_name: None,
        log_tls_keys: global.log_tls_keys,
        user: to.dest_user.as_ref(),
        password: to.dest_password.as_ref(),
    };
    let opening = async {
        let client = connect::connect_to(&access, global, WatchConfig::default()).await;
        let client = client.context("can't connect to the destination")?;
        let begun = begin(&source, client.clone(), &mapping, key, args).await?;
        anyhow::Ok((client, begun))
    };
    let (client, destination) = tokio::select! {
        opened = opening => opened?,
        signal = stop.asked() => return Ok(Ending::Signal(signal)),
    };
    let from = Source::open(source.clone(), &mapping, destination.checkpoint())?;
    let mut replica = Replica {
        args,
        mapping: &mapping,
        source: from,
        destination,
        until: args.until_rev.map(Until::new),
        waiting: Changes::default(),
        upto: 0,
        is_listing: false,
        progress: Progress::new(),
        statistics: Statistics::default(),
        last_write: Instant::now(),
    };
    let result = tokio::select! {
        result = replica.run() => result.map(|()| Ending::Done),
        // A transaction under way is executed or not, and the checkpoint tells the next run which.
        signal = stop.asked() => Ok(Ending::Signal(signal)),
    };
    replica.progress.done();
    let Checkpoint { revision, is_exact, .. } = *replica.destination.checkpoint();
    let transactions = replica.destination.transactions;
    let line = replica.statistics.line(global, revision, is_exact, transactions);
    let printed = io::stdout().write_all(line.as_bytes());
    tokio::join!(connect::close(&source), connect::close(&client));
    let status = result?;
    printed?;
    Ok(status)
}

/// Looks at both sides, and takes the destination over.
async fn begin(
    source: &Client,
    destination: Client,
    mapping: &Mapping,
    key: Bytes,
    args: &MirrorArgs,
) -> anyhow::Result<Destination> {
    let max_ops = usize::try_from(args.to.max_txn_ops).unwrap_or(usize::MAX);
    let destination_id = Cell::new(0);
    let name = key.escape_ascii().to_string();
    // The source is read after the checkpoint: it must have come further than that.
    let begin = async |known: Option<Checkpoint>, there: u64| {
        let count = Get::new(mapping.source().clone()).count_only(true);
        let here = source.get(count).await.context("can't read the source")?;
        let (cluster_id, revision) = (here.header().cluster_id, here.revision());
        if cluster_id == there && overlap(mapping.source(), mapping.destination()) {
            bail!("source and destination are the same keys of the same cluster: give another --dest-prefix");
        }
        opposite::refuse(source, there, mapping, &key).await?;
        destination_id.set(there);
        let first = Checkpoint::first(cluster_id, mapping);
        let Some(known) = known else { return Ok(first) };
        let instead = "to copy from this one instead, delete that key or give another --checkpoint";
        if known.cluster_id != cluster_id {
            let of = known.cluster_id;
            bail!("the checkpoint {name} is of cluster {of:x}, and the source is {cluster_id:x}: {instead}");
        }
        if known.range != *mapping.source() {
            bail!("the checkpoint {name} is of other keys of the source: {instead}");
        }
        if known.revision > revision {
            let copied = known.revision;
            bail!(
                "the source is at revision {revision}, and the checkpoint {name} at {copied}: it was restored \
                 from a backup, and would replace what is newer; {instead}"
            );
        }
        Ok(Checkpoint { destination: first.destination, ..known })
    };
    let destination = Destination::take_over(destination, key.clone(), max_ops, begin).await?;
    // Of two that begin at once, each may have looked before the other's checkpoint was there.
    if let Err(refused) = opposite::refuse(source, destination_id.get(), mapping, &key).await {
        destination.withdraw().await;
        return Err(refused);
    }
    Ok(destination)
}

/// A replication under way.
struct Replica<'a> {
    args: &'a MirrorArgs,
    mapping: &'a Mapping,
    source: Source,
    destination: Destination,
    until: Option<Until>,
    /// Whole revisions that are to be written, and the last of them.
    waiting: Changes,
    upto: i64,
    is_listing: bool,
    progress: Progress,
    statistics: Statistics,
    last_write: Instant,
}

impl Replica<'_> {
    /// Goes on until everything that was wanted has been written.
    async fn run(&mut self) -> anyhow::Result<()> {
        loop {
            let checkpoint = self.destination.checkpoint();
            let exact = checkpoint.is_exact && self.waiting.is_empty();
            if exact && self.until.as_ref().is_some_and(|until| until.reached(checkpoint.revision)) {
                return Ok(());
            }
            let next = tokio::select! {
                biased;
                next = self.source.next() => Some(next?),
                // Nothing more is there: time to write what was.
                () = std::future::ready(()), if !self.waiting.is_empty() => None,
                () = Until::time_to_ask(&mut self.until) => {
                    self.source.request_progress();
                    continue;
                }
            };
            match next {
                None => self.flush().await?,
                Some(event) => self.handle(event).await?,
            }
        }
    }

    async fn handle(&mut self, event: MirrorEvent) -> anyhow::Result<()> {
        match event {
            MirrorEvent::Listing { revision, .. } => {
                self.flush().await?;
                self.is_listing = true;
                self.statistics.lists += 1;
                self.statistics.left_alone = 0;
                self.progress.restart();
                self.write(Changes::default(), revision, false).await
            }
            MirrorEvent::Snapshot(part) => self.copy(part).await,
            MirrorEvent::Synced { revision } => self.synced(revision).await,
            MirrorEvent::Changes(response) => self.changed(&response).await,
            _ => Ok(()),
        }
    }

    async fn copy(&mut self, part: SnapshotPart) -> anyhow::Result<()> {
        let revision = self.destination.checkpoint().revision;
        let found = difference(part, self.mapping, &self.destination, self.args.to.delete_extra).await?;
        for part in found.changes.split(self.destination.changes_per_transaction()) {
            self.write(part, revision, false).await?;
        }
        self.statistics.left_alone += found.left_alone;
        self.progress.expect(self.source.list_progress());
        self.progress.add(found.keys);
        Ok(())
    }

    async fn synced(&mut self, revision: i64) -> anyhow::Result<()> {
        self.flush().await?;
        if self.is_listing {
            self.is_listing = false;
            self.progress.done();
            return self.write(Changes::default(), revision, true).await;
        }
        let is_news = revision > self.destination.checkpoint().revision;
        let is_wanted = self.until.as_ref().is_some_and(|until| until.reached(revision));
        if is_news && (is_wanted || self.last_write.elapsed() >= IDLE_CHECKPOINT) {
            self.write(Changes::default(), revision, true).await?;
        }
        Ok(())
    }

    /// Puts whole revisions together, and writes them when they are enough.
    async fn changed(&mut self, response: &WatchResponse) -> anyhow::Result<()> {
        let mut events = response.events().peekable();
        while let Some(first) = events.peek() {
            let revision = first.mod_revision();
            let mut changes = Changes::default();
            while let Some(event) = events.next_if(|event| event.mod_revision() == revision) {
                let key = self.mapping.key(&event.kv().key_bytes())?;
                let value = (event.kind() == EventKind::Put).then(|| event.kv().value_bytes());
                if key != *self.destination.checkpoint_key() {
                    changes.add(key, value);
                }
            }
            if !self.waiting.fits(&changes, self.destination.changes_per_transaction()) {
                self.flush().await?;
            }
            self.waiting.append(changes);
            self.upto = revision;
        }
        Ok(())
    }

    /// Writes the revisions that wait.
    async fn flush(&mut self) -> anyhow::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let (changes, revision) = (mem::take(&mut self.waiting), self.upto);
        let count = changes.len();
        // Beside the checkpoint there is room for one less; a revision that needs it all gets it nested.
        if count > self.destination.changes_per_transaction() + 1 {
            return self.write_split(changes, revision, &format!("{count} changes")).await;
        }
        match self.destination.write(&changes, revision, true).await {
            Ok(()) => {
                self.count(&changes);
                Ok(())
            }
            Err(Refused::TooLarge(error)) if count > 1 => {
                self.write_split(changes, revision, &error.to_string()).await
            }
            Err(refused) => Err(refused.into()),
        }
    }

    /// Writes a revision in several transactions, because one can't hold it. Until the last, the checkpoint
    /// stays at the revision before: interrupted, it is all written again.
    async fn write_split(&mut self, changes: Changes, revision: i64, why: &str) -> anyhow::Result<()> {
        let before = self.destination.checkpoint().revision;
        let mut parts = changes.split(self.destination.changes_per_transaction());
        let text = format!("revision {revision} is split over {} transactions: {why}", parts.len());
        self.progress.warning(&text);
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            self.write(part, before, true).await?;
        }
        self.write(last, revision, true).await
    }

    async fn write(&mut self, changes: Changes, revision: i64, is_exact: bool) -> anyhow::Result<()> {
        self.destination.write(&changes, revision, is_exact).await?;
        self.count(&changes);
        Ok(())
    }

    fn count(&mut self, changes: &Changes) {
        let (puts, deletes) = changes.counts();
        self.statistics.puts += puts;
        self.statistics.deletes += deletes;
        self.last_write = Instant::now();
    }
}

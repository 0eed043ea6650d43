//! `mirror` without `--to`: prints.

use std::io::{self, Write};

use anyhow::Context;
use etcd_watch_tokio::{Client, KeyRange, Mirror, MirrorEvent, MirrorRequest};

use super::report::Progress;
use crate::{
    args::{Global, MirrorArgs},
    connect,
    ending::Ending,
    output::Printer,
    signals::Stop,
    until::Until,
};

/// Output that has become so long is written before more is added to it.
const FLUSH_BYTES: usize = 256 << 10;

pub(super) async fn run(
    global: &Global,
    args: &MirrorArgs,
    client: Client,
    range: KeyRange,
    stop: &mut Stop,
) -> anyhow::Result<Ending> {
    let session = Session {
        printer: Printer::new(global),
        mirror: client.mirror(MirrorRequest::new(range))?,
        until: args.until_rev.map(Until::new),
        progress: Progress::beside_output(),
        listed_at: 0,
        output: Vec::new(),
    };
    let result = session.run(stop).await;
    connect::close(&client).await;
    result
}

/// A mirror, and what is printed of it.
struct Session {
    printer: Printer,
    mirror: Mirror,
    until: Option<Until>,
    progress: Progress,
    /// The revision of the list under way, or of the last.
    listed_at: i64,
    /// Printed, not yet written.
    output: Vec<u8>,
}

impl Session {
    async fn run(mut self, stop: &mut Stop) -> anyhow::Result<Ending> {
        loop {
            let next = tokio::select! {
                biased;
                signal = stop.asked() => {
                    self.flush()?;
                    return Ok(Ending::Signal(signal));
                }
                next = self.mirror.try_next() => next,
                // Nothing more is there: time to write what was.
                () = std::future::ready(()), if !self.output.is_empty() => {
                    self.flush()?;
                    continue;
                }
                () = Until::time_to_ask(&mut self.until) => {
                    self.mirror.request_progress();
                    continue;
                }
            };
            match next {
                Ok(Some(event)) => {
                    if self.handle(&event)? {
                        self.flush()?;
                        return Ok(Ending::Done);
                    }
                }
                Ok(None) => return Ok(Ending::Done),
                Err(error) => {
                    self.flush()?;
                    return Err(error).context("the mirror ended");
                }
            }
        }
    }

    /// Prints an event. Whether it was the last that was wanted.
    fn handle(&mut self, event: &MirrorEvent) -> anyhow::Result<bool> {
        match event {
            MirrorEvent::Listing { revision, .. } => {
                self.listed_at = *revision;
                self.progress.restart();
            }
            MirrorEvent::Snapshot(_) => self.progress.at(self.mirror.list_progress()),
            MirrorEvent::Synced { .. } => self.progress.done(),
            _ => {}
        }
        self.printer.mirror(&mut self.output, event, self.listed_at);
        if self.output.len() >= FLUSH_BYTES {
            self.flush()?;
        }
        let reached = |revision| self.until.as_ref().is_some_and(|until| until.reached(revision));
        Ok(event.synced_revision().is_some_and(reached))
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&self.output)?;
        stdout.flush()?;
        self.output.clear();
        Ok(())
    }
}

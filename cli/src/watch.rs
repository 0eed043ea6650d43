//! `watch`.

use std::{
    io::{self, Write},
    time::Duration,
};

use etcd_watch_tokio::{
    CloseReason, Header, ResponseKind, Watch, WatchConfig, WatchError, WatchRequest, WatchResponse,
};
use tokio::time::timeout;

use crate::{
    args::{Global, WatchArgs},
    command, connect,
    ending::Ending,
    output::Printer,
    signals::{self, Stop},
    until::Until,
};

/// Output that has become so long is written before more is added to it.
const FLUSH_BYTES: usize = 256 << 10;

pub(crate) async fn run(global: &Global, args: &WatchArgs) -> anyhow::Result<Ending> {
    let request = WatchRequest::new(connect::range(&args.keys)?)
        .start_revision(args.rev)
        .prev_kv(args.prev_kv)
        .progress_notify(args.progress_notify || args.until_rev.is_some());
    request.validate()?;
    let mut stop = signals::listen(true);
    // As with etcdctl, what is printed together came together.
    let client = tokio::select! {
        client = connect::connect(global, WatchConfig::default().batch_events(1)) => client?,
        signal = stop.asked() => return Ok(Ending::Signal(signal)),
    };
    let result = Session::new(global, args, client.watch(request)?).run(&mut stop).await;
    connect::close(&client).await;
    result
}

/// How far apart the command and the tool may notice the same Ctrl-C.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// A watch, and what is printed of it.
struct Session<'a> {
    args: &'a WatchArgs,
    printer: Printer,
    watch: Watch,
    until: Option<Until>,
    /// Printed, not yet written.
    output: Vec<u8>,
    header: Header,
}

impl<'a> Session<'a> {
    fn new(global: &Global, args: &'a WatchArgs, watch: Watch) -> Self {
        Self {
            args,
            printer: Printer::new(global),
            watch,
            until: args.until_rev.map(Until::new),
            output: Vec::new(),
            header: Header::default(),
        }
    }

    async fn run(mut self, stop: &mut Stop) -> anyhow::Result<Ending> {
        loop {
            let next = tokio::select! {
                biased;
                signal = stop.asked() => {
                    self.flush()?;
                    return Ok(Ending::Signal(signal));
                }
                next = self.watch.next() => next,
                // Nothing more is there: time to write what was.
                () = std::future::ready(()), if !self.output.is_empty() => {
                    self.flush()?;
                    continue;
                }
                () = Until::time_to_ask(&mut self.until) => {
                    // A watch that has ended says so itself.
                    self.watch.request_progress();
                    continue;
                }
            };
            match next {
                Some(Ok(response)) => {
                    let handled = tokio::select! {
                        handled = self.handle(&response) => handled,
                        signal = stop.asked() => return Ok(Ending::Signal(signal)),
                    };
                    if let Err(error) = handled {
                        // A terminal sends Ctrl-C to the command as well, which may have ended first.
                        let signal = timeout(SAME_SIGNAL, stop.asked()).await;
                        return signal.map(Ending::Signal).map_err(|_| error);
                    }
                    if self.until.as_ref().is_some_and(|until| until.reached(response.revision())) {
                        self.flush()?;
                        return Ok(Ending::Done);
                    }
                }
                Some(Err(error)) => return Err(self.ended(error)),
                None => return Ok(Ending::Done),
            }
        }
    }

    async fn handle(&mut self, response: &WatchResponse) -> anyhow::Result<()> {
        self.header = response.header();
        if response.kind() == ResponseKind::Progress && !self.args.progress_notify {
            return Ok(());
        }
        self.printer.watch(&mut self.output, response);
        if self.output.len() >= FLUSH_BYTES || !self.args.command.is_empty() {
            self.flush()?;
        }
        if !self.args.command.is_empty() {
            for event in response.events() {
                command::run(&self.args.command, response.header(), &event).await?;
            }
        }
        Ok(())
    }

    fn ended(&mut self, error: WatchError) -> anyhow::Error {
        let mut what = "the watch was canceled";
        if let CloseReason::Compacted { compact_revision, .. } = error.reason() {
            self.printer.compacted(&mut self.output, self.header, *compact_revision);
            what = "the watch was canceled (etcdserver: mvcc: required revision has been compacted)";
        }
        let flushed = self.flush();
        let error = anyhow::Error::from(error).context(what);
        flushed.err().unwrap_or(error)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&self.output)?;
        stdout.flush()?;
        self.output.clear();
        Ok(())
    }
}

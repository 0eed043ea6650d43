//! The consumer: prints what watches deliver, and knows when it has had enough.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
};

use etcd_watch_core::{CloseReason, Delivery, Event, EventKind};

/// Prints events to standard output, one a line, each delivery flushed.
#[derive(Debug)]
pub struct Printer {
    left: Option<usize>,
    end: Option<Result<(), Box<dyn Error>>>,
}

impl Printer {
    /// One that has had enough after so many `events`.
    #[must_use]
    pub fn new(events: Option<usize>) -> Self {
        Self { left: events, end: (events == Some(0)).then_some(Ok(())) }
    }

    /// Prints what a watch has delivered.
    pub fn deliver(&mut self, delivery: Delivery) {
        if self.end.is_some() {
            return;
        }
        match delivery {
            Delivery::Response(response) => {
                if let Err(error) = self.print(response.events()) {
                    self.end = Some(Err(error.into()));
                } else if self.left == Some(0) {
                    self.end = Some(Ok(()));
                }
            }
            Delivery::Closed(CloseReason::Cancelled | CloseReason::ShutDown) => self.end = Some(Ok(())),
            Delivery::Closed(reason) => self.end = Some(Err(reason.into())),
            other => log(format_args!("unknown delivery: {other:?}")),
        }
    }

    fn print<'a>(&mut self, events: impl Iterator<Item = Event<'a>>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for event in events.take(self.left.unwrap_or(usize::MAX)) {
            let (key, revision) = (String::from_utf8_lossy(event.key()), event.mod_revision());
            match event.kind() {
                EventKind::Delete => writeln!(out, "DELETE {key} @{revision}")?,
                _ => writeln!(out, "PUT {key} {} @{revision}", String::from_utf8_lossy(event.value()))?,
            }
            self.left = self.left.map(|left| left - 1);
        }
        out.flush()
    }

    /// How the program is to end, once it is to.
    pub fn end(&mut self) -> Option<Result<(), Box<dyn Error>>> {
        self.end.take()
    }
}

/// A line on standard error, for the one who wonders what the program is doing.
pub fn log(what: fmt::Arguments<'_>) {
    // If nobody can be told, there is nothing to be done about it.
    let _ = writeln!(io::stderr(), "{what}");
}

/// Reads standard input, blocking, until it is closed: the sign to end.
pub fn until_stdin_closes() {
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
}

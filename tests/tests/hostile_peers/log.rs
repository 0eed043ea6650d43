//! Counts what the client logs, on the thread that a world runs on.

use std::cell::Cell;
use std::sync::Once;

use tracing::{Level, Subscriber};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt};

thread_local! {
    static LINES: Cell<Lines> = const { Cell::new(Lines { told: 0, debug: 0 }) };
}

/// How many lines were logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    /// Of level info and above: what operators see.
    pub(crate) told: u64,
    /// Of level debug.
    pub(crate) debug: u64,
}

struct Counting;

impl<S: Subscriber> Layer<S> for Counting {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if !metadata.target().starts_with("etcd_watch") {
            return;
        }
        let mut lines = LINES.get();
        match *metadata.level() {
            Level::ERROR | Level::WARN | Level::INFO => lines.told += 1,
            Level::DEBUG => lines.debug += 1,
            Level::TRACE => {}
        }
        LINES.set(lines);
    }
}

/// Begins to count from zero on this thread.
pub(crate) fn begin() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(Counting);
        tracing::subscriber::set_global_default(subscriber).expect("there is no other");
    });
    LINES.set(Lines::default());
}

/// The lines since then.
pub(crate) fn lines() -> Lines {
    LINES.get()
}

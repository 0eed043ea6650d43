//! What the client logs.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use tracing::{Subscriber, field::Visit, subscriber::DefaultGuard};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt};

/// The events of the client on the thread that made it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(&'static str, String)>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target().starts_with("etcd_watch_client") {
            let mut text = Text(String::new());
            event.record(&mut text);
            self.0.lock().expect("no panic").push((event.metadata().name(), text.0));
        }
    }
}

impl Log {
    /// Listens on this thread, until the guard is dropped.
    pub(crate) fn listen() -> (Self, DefaultGuard) {
        let log = Self::default();
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
        (log, guard)
    }

    /// The fields of every event of this name, as text.
    pub(crate) fn named(&self, name: &str) -> Vec<String> {
        let events = self.0.lock().expect("no panic");
        events.iter().filter(|(each, _)| *each == name).map(|(_, text)| text.clone()).collect()
    }
}

//! What the client logs, as a test reads it.

use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
};

use tracing::{Event, Subscriber, field::Visit, subscriber::DefaultGuard};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt};

/// What the client has logged on this thread since [`Log::start`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(&'static str, String)>>>);

impl Log {
    /// Listens to this thread until the guard is dropped.
    pub(crate) fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
        (log, guard)
    }

    /// The fields of the events of this name.
    pub(crate) fn named(&self, name: &str) -> Vec<String> {
        let all = self.0.lock().expect("no panic");
        all.iter().filter(|(found, _)| *found == name).map(|(_, fields)| fields.clone()).collect()
    }
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target().starts_with("etcd_watch_client") {
            let mut fields = String::new();
            event.record(&mut Fields(&mut fields));
            self.0.lock().expect("no panic").push((event.metadata().name(), fields));
        }
    }
}

//! Whom the watch streams are connected to, and what went wrong with them: what health is told from.

use std::{collections::BTreeMap, error::Error as StdError, sync::Arc};

use etcd_watch_core::{Instant, StreamId};

use crate::{
    Endpoint,
    health::{Contact, Told},
};

/// Whom each of the machine's streams is connected to. Only the driver changes it, and only when a connection comes or
/// goes.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: BTreeMap<StreamId, Link>,
    /// Why a read of the store for watches from now on failed last.
    read_error: Option<Told>,
    changes: u64,
}

/// Whom a stream is connected to.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    contact: Contact,
    /// Since when it is connected, or isn't.
    since: Instant,
}

impl Links {
    /// A stream is being opened.
    pub(crate) fn opening(&mut self, stream: StreamId, now: Instant) {
        let changes = &mut self.changes;
        self.links.entry(stream).or_insert_with(|| {
            *changes += 1;
            Link { contact: Contact::default(), since: now }
        });
    }

    /// The member has answered on its connection for the first time. One that hangs can be connected to.
    pub(crate) fn answered(&mut self, stream: StreamId, endpoint: &Arc<Endpoint>, now: Instant) {
        let Some(link) = self.links.get_mut(&stream) else { return };
        link.contact.connect(endpoint, now);
        link.contact.hear(now);
        link.since = now;
        self.changes += 1;
    }

    /// It isn't open any more, or could not be opened; `heard` is when the last frame came. `error` is one of the
    /// client's own.
    pub(crate) fn closed(
        &mut self,
        stream: StreamId,
        now: Instant,
        heard: Option<Instant>,
        error: Option<Arc<dyn StdError + Send + Sync>>,
    ) {
        let Some(link) = self.links.get_mut(&stream) else { return };
        if link.contact.connected().is_some() {
            link.since = now;
        }
        link.contact.disconnect();
        link.contact.hear(heard);
        if let Some(error) = error {
            let _ = link.contact.failed(now, error);
        }
        self.changes += 1;
    }

    /// A read of the store for watches from now on failed.
    pub(crate) fn read_failed(&mut self, now: Instant, error: Arc<dyn StdError + Send + Sync>) {
        self.read_error = Some((now, error));
        self.changes += 1;
    }

    pub(crate) fn read_error(&self) -> Option<&Told> {
        self.read_error.as_ref()
    }

    /// Counts the changes.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn get(&self, stream: StreamId) -> Option<&Link> {
        self.links.get(&stream)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (StreamId, &Link)> {
        self.links.iter().map(|(stream, link)| (*stream, link))
    }

    /// Forgets the streams that are gone.
    pub(crate) fn retain(&mut self, is_there: impl Fn(StreamId) -> bool) {
        self.links.retain(|stream, _| is_there(*stream));
    }
}

impl Link {
    pub(crate) fn contact(&self) -> &Contact {
        &self.contact
    }

    /// Since when it has not been connected; `None` while it is.
    pub(crate) fn away(&self) -> Option<Instant> {
        self.contact.connected().is_none().then_some(self.since)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use etcd_watch_core::{Failure, KeyRange, WatchConfig, WatchRequest, Watcher};

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    /// The id of a stream: only a machine makes one.
    fn stream() -> StreamId {
        let mut machine = Watcher::new(WatchConfig::default(), 1).unwrap();
        let watch = machine.watch(at(0), WatchRequest::new(KeyRange::key("k"))).unwrap();
        machine.watch_stats(watch).and_then(|stats| stats.stream).unwrap().stream()
    }

    #[test]
    fn attempts_that_fail_do_not_shorten_the_time_away() {
        let (mut links, stream) = (Links::default(), stream());
        let endpoint: Arc<Endpoint> = Arc::new("http://a:1".parse().unwrap());
        let away = |links: &Links| links.get(stream).and_then(Link::away);
        let failure = || Some(Arc::new(Failure::EndOfStream) as Arc<dyn StdError + Send + Sync>);
        links.opening(stream, at(1));
        links.closed(stream, at(2), None, failure());
        links.opening(stream, at(3));
        assert_eq!(away(&links), Some(at(1)));
        links.answered(stream, &endpoint, at(4));
        assert_eq!(away(&links), None);
        links.closed(stream, at(9), Some(at(7)), failure());
        links.opening(stream, at(10));
        links.closed(stream, at(11), None, failure());
        assert_eq!(away(&links), Some(at(9)));
        let contact = links.get(stream).unwrap().contact();
        assert_eq!((contact.heard(), contact.error().map(|(at, _)| *at)), (Some(at(7)), Some(at(11))));
        links.retain(|_| false);
        assert_eq!(links.len(), 0);
    }
}

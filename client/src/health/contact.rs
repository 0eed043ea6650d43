//! Whom something is connected to, and what was heard of it last.

use std::{error::Error as StdError, sync::Arc};

use etcd_watch_core::Instant;

use crate::Endpoint;

/// An error, and when it came.
pub(crate) type Told = (Instant, Arc<dyn StdError + Send + Sync>);

/// Whom something is connected to, and what was heard of it last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contact {
    connected: Option<(Arc<Endpoint>, Instant)>,
    heard: Option<Instant>,
    error: Option<Told>,
}

impl Contact {
    /// It is connected to this endpoint from now on, or still is.
    pub(crate) fn connect(&mut self, endpoint: &Arc<Endpoint>, now: Instant) {
        if self.connected.as_ref().is_none_or(|(before, _)| before != endpoint) {
            self.connected = Some((endpoint.clone(), now));
        }
    }

    /// It is connected to nobody.
    pub(crate) fn disconnect(&mut self) {
        self.connected = None;
    }

    /// Something was heard.
    pub(crate) fn hear(&mut self, at: impl Into<Option<Instant>>) {
        self.heard = self.heard.max(at.into());
    }

    /// Something went wrong. Returns the error that is not kept: where errors may be the application's, it is to be
    /// dropped without a lock.
    #[must_use = "it may be the application's: drop it without a lock"]
    pub(crate) fn failed(&mut self, at: Instant, error: Arc<dyn StdError + Send + Sync>) -> Option<Told> {
        if self.error.as_ref().is_some_and(|(before, _)| *before > at) {
            return Some((at, error));
        }
        self.error.replace((at, error))
    }

    /// The endpoint, and since when.
    pub(crate) fn connected(&self) -> Option<(&Endpoint, Instant)> {
        self.connected.as_ref().map(|(endpoint, since)| (&**endpoint, *since))
    }

    pub(crate) fn heard(&self) -> Option<Instant> {
        self.heard
    }

    pub(crate) fn error(&self) -> Option<&Told> {
        self.error.as_ref()
    }

    /// The two as one: the connection of the first if it has one, and the later of what was heard.
    pub(crate) fn or(mut self, other: Self) -> Self {
        self.connected = self.connected.or(other.connected);
        self.hear(other.heard);
        if let Some((at, error)) = other.error {
            let _ = self.failed(at, error);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn failed(contact: &mut Contact, seconds: u64, text: &'static str) {
        drop(contact.failed(at(seconds), Arc::new(io::Error::other(text))));
    }

    #[test]
    fn of_two_the_later_word_counts() {
        let endpoint = |name: &str| Arc::new(format!("http://{name}:1").parse::<Endpoint>().unwrap());
        let (mut one, mut two) = (Contact::default(), Contact::default());
        two.connect(&endpoint("b"), at(1));
        assert_eq!(one.clone().or(two.clone()).connected(), Some((&*endpoint("b"), at(1))));
        one.connect(&endpoint("a"), at(2));
        one.connect(&endpoint("a"), at(3));
        one.hear(at(5));
        two.hear(at(4));
        failed(&mut one, 6, "early");
        failed(&mut two, 7, "late");
        failed(&mut two, 6, "older");
        for both in [one.clone().or(two.clone()), two.or(one.clone())] {
            assert_eq!(both.heard(), Some(at(5)));
            assert_eq!(
                both.error().map(|(at, error)| (*at, error.to_string())),
                Some((at(7), "late".into()))
            );
        }
        assert_eq!(one.connected(), Some((&*endpoint("a"), at(2))), "it was connected all the time");
    }
}

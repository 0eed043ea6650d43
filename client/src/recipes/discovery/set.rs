//! The endpoints of a service as far as they are known.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    endpoint::{DecodeError, ServiceEndpoint},
    garbage::Garbage,
};

/// Endpoints by name. Sharing names and endpoints makes a copy of the map cheap.
pub type EndpointMap = BTreeMap<Arc<str>, Arc<ServiceEndpoint>>;

/// What has become of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointChange {
    /// It is new.
    Added {
        /// Its name: the key without the target.
        name: Arc<str>,
        /// The endpoint.
        endpoint: Arc<ServiceEndpoint>,
    },
    /// It has another address or other metadata.
    Updated {
        /// Its name.
        name: Arc<str>,
        /// As it is now.
        endpoint: Arc<ServiceEndpoint>,
        /// As it was.
        before: Arc<ServiceEndpoint>,
    },
    /// It is gone.
    Removed {
        /// Its name.
        name: Arc<str>,
        /// As it was.
        endpoint: Arc<ServiceEndpoint>,
    },
    /// Its new value can't be decoded, so it stays as it was; if it was not there, it is not there now.
    Undecodable {
        /// Its name; what is not UTF-8 in it is replaced.
        name: Arc<str>,
        /// What is wrong with it.
        error: DecodeError,
        /// As it was, and stays.
        kept: Option<Arc<ServiceEndpoint>>,
    },
}

/// Applies changes of keys, and tells what they come to.
#[derive(Debug)]
pub(super) struct Set {
    prefix_bytes: usize,
    endpoints: Arc<EndpointMap>,
    /// The hash of each value that can't be decoded, so that listing it again is no news.
    known_garbage: HashMap<Vec<u8>, u64>,
    undecodable: u64,
    garbage: Garbage,
}

impl Set {
    /// Nothing is known yet. Names are what is left of a key after the target and a slash.
    pub(super) fn new(target: &str) -> Self {
        Self {
            prefix_bytes: target.len() + 1,
            endpoints: Arc::default(),
            known_garbage: HashMap::new(),
            undecodable: 0,
            garbage: Garbage::of(target),
        }
    }

    pub(super) fn endpoints(&self) -> &Arc<EndpointMap> {
        &self.endpoints
    }

    /// How many values could not be decoded so far.
    pub(super) fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// A key has this value now, or is gone.
    pub(super) fn apply(&mut self, key: &Bytes, value: Option<&Bytes>) -> Option<EndpointChange> {
        let Some(value) = value else {
            self.known_garbage.remove(&key[..]);
            let name = std::str::from_utf8(self.name(key)).ok()?;
            let (name, endpoint) = self.take(name)?;
            return Some(EndpointChange::Removed { name, endpoint });
        };
        let decoded = match std::str::from_utf8(self.name(key)) {
            Ok(name) => ServiceEndpoint::decode(value).map(|endpoint| (name, endpoint)),
            Err(_) => Err(DecodeError::NotText),
        };
        match decoded {
            Ok((name, endpoint)) => {
                self.known_garbage.remove(&key[..]);
                self.put(name, endpoint)
            }
            Err(error) => self.keep(key, value, error),
        }
    }

    fn name<'a>(&self, key: &'a Bytes) -> &'a [u8] {
        key.get(self.prefix_bytes..).unwrap_or_default()
    }

    fn take(&mut self, name: &str) -> Option<(Arc<str>, Arc<ServiceEndpoint>)> {
        if !self.endpoints.contains_key(name) {
            return None;
        }
        Arc::make_mut(&mut self.endpoints).remove_entry(name)
    }

    fn put(&mut self, name: &str, endpoint: ServiceEndpoint) -> Option<EndpointChange> {
        let before = self.endpoints.get_key_value(name).map(|(name, before)| (name.clone(), before.clone()));
        if before.as_ref().is_some_and(|(_, before)| **before == endpoint) {
            return None;
        }
        let endpoint = Arc::new(endpoint);
        let (name, change) = match before {
            Some((name, before)) => {
                let change =
                    EndpointChange::Updated { name: name.clone(), endpoint: endpoint.clone(), before };
                (name, change)
            }
            None => {
                let name = Arc::<str>::from(name);
                (name.clone(), EndpointChange::Added { name, endpoint: endpoint.clone() })
            }
        };
        Arc::make_mut(&mut self.endpoints).insert(name, endpoint);
        Some(change)
    }

    fn keep(&mut self, key: &Bytes, value: &Bytes, error: DecodeError) -> Option<EndpointChange> {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        let hash = hasher.finish();
        if self.known_garbage.insert(key.to_vec(), hash) == Some(hash) {
            return None;
        }
        self.undecodable += 1;
        let name = String::from_utf8_lossy(self.name(key));
        let kept = self.endpoints.get(&*name).filter(|_| error != DecodeError::NotText).cloned();
        self.garbage.found(&name, &error);
        Some(EndpointChange::Undecodable { name: name.into(), error, kept })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> Set {
        Set::new("t")
    }

    fn put(set: &mut Set, name: &str, value: impl Into<Bytes>) -> Option<EndpointChange> {
        set.apply(&Bytes::from(format!("t/{name}")), Some(&value.into()))
    }

    fn delete(set: &mut Set, name: &str) -> Option<EndpointChange> {
        set.apply(&Bytes::from(format!("t/{name}")), None)
    }

    fn at(addr: &str) -> Arc<ServiceEndpoint> {
        Arc::new(ServiceEndpoint::new(addr))
    }

    #[test]
    fn puts_and_deletes_are_told_as_what_they_come_to() {
        let mut set = set();
        let name = Arc::<str>::from("a");
        let added = put(&mut set, "a", at("1").encode());
        assert_eq!(added, Some(EndpointChange::Added { name: name.clone(), endpoint: at("1") }));
        assert_eq!(put(&mut set, "a", at("1").encode()), None);
        let updated = put(&mut set, "a", at("2").encode());
        let expected = EndpointChange::Updated { name: name.clone(), endpoint: at("2"), before: at("1") };
        assert_eq!(updated, Some(expected));
        assert_eq!(delete(&mut set, "a"), Some(EndpointChange::Removed { name, endpoint: at("2") }));
        assert_eq!(delete(&mut set, "a"), None);
        assert!(set.endpoints().is_empty());
    }

    #[test]
    fn a_value_that_can_not_be_decoded_leaves_the_last_good_one_and_is_told_once() {
        let mut set = set();
        put(&mut set, "a", at("1").encode());
        let change = put(&mut set, "a", "nonsense").expect("it is told");
        assert!(matches!(change, EndpointChange::Undecodable { kept: Some(kept), .. } if kept == at("1")));
        assert_eq!(put(&mut set, "a", "nonsense"), None);
        assert_eq!(set.endpoints()["a"], at("1"));
        let change = put(&mut set, "b", "nonsense").expect("it is told");
        assert!(matches!(change, EndpointChange::Undecodable { kept: None, .. }));
        assert_eq!((set.endpoints().len(), set.undecodable()), (1, 2));
        assert_eq!(put(&mut set, "a", at("1").encode()), None);
        assert!(matches!(delete(&mut set, "a"), Some(EndpointChange::Removed { .. })));
        assert_eq!(delete(&mut set, "b"), None);
        assert!(set.known_garbage.is_empty());
    }

    #[test]
    fn a_name_that_is_no_text_is_no_endpoint() {
        let mut set = set();
        let key = Bytes::from_static(b"t/\xff");
        let change = set.apply(&key, Some(&at("1").encode())).expect("it is told");
        assert!(matches!(change, EndpointChange::Undecodable { error: DecodeError::NotText, .. }));
        assert_eq!(set.apply(&key, None), None);
        assert!(set.endpoints().is_empty());
    }

    #[test]
    fn a_copy_held_by_the_consumer_stays_as_it_was() {
        let mut set = set();
        put(&mut set, "a", at("1").encode());
        let held = set.endpoints().clone();
        delete(&mut set, "a");
        assert_eq!((held.len(), set.endpoints().len()), (1, 0));
    }
}

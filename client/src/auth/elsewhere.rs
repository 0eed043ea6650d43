//! Tokens for endpoints that are not the client's.

use std::sync::{Arc, Mutex};

use super::{authenticator::Authenticator, credentials::Credentials};
use crate::{Endpoint, sync::lock};

/// For so many endpoints tokens are kept. If calls go to more, the first one's is forgotten.
const MOST: usize = 16;

/// An authenticator for each endpoint outside of the client's that calls went to. It may be in another cluster: a
/// token that is refused there says nothing of the client's own, and one that is fetched there may be good only there.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere(Mutex<Vec<(Endpoint, Arc<Authenticator>)>>);

impl Elsewhere {
    /// The authenticator for this endpoint; for the first call there it is made.
    pub(crate) fn at(&self, endpoint: &Endpoint, make: impl FnOnce() -> Authenticator) -> Arc<Authenticator> {
        let mut known = lock(&self.0);
        if let Some((_, authenticator)) = known.iter().find(|(at, _)| at == endpoint) {
            return authenticator.clone();
        }
        let authenticator = Arc::new(make());
        let forgotten = (known.len() >= MOST).then(|| known.remove(0));
        known.push((endpoint.clone(), authenticator.clone()));
        drop(known);
        drop(forgotten);
        authenticator
    }

    /// The client has these credentials: forgets the tokens of others, and those that were refused. Calls that are under
    /// way are made again with these.
    pub(crate) fn set(&self, credentials: &Credentials) {
        let mut known = std::mem::take(&mut *lock(&self.0));
        known.retain(|(_, authenticator)| !authenticator.replace(credentials.clone()));
        lock(&self.0).append(&mut known);
    }
}

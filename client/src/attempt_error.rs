//! How one attempt failed, with the error that it came from.

use std::{error::Error as StdError, fmt, sync::Arc};

use etcd_watch_core::Failure;

/// How an attempt at a call or a connection failed.
///
/// Its text is complete. Its [`source`](StdError::source) is for code that wants types: it leads to the errors of
/// HTTP/2, of TLS and of the socket, down to a [`std::io::Error`] where there is one. Two of them are equal if their
/// failures are.
#[derive(Clone)]
pub struct AttemptError {
    failure: Failure,
    source: Option<Source>,
}

#[derive(Clone)]
enum Source {
    Error(Arc<dyn StdError + Send + Sync>),
    /// What is under a status that tonic has made.
    Status(Arc<tonic::Status>),
}

impl AttemptError {
    /// A failure that comes from this error.
    pub(crate) fn new(failure: Failure, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { failure, source: Some(Source::Error(source.into().into())) }
    }

    /// A failure that comes from an error which others have, too.
    pub(crate) fn shared(failure: Failure, source: Arc<dyn StdError + Send + Sync>) -> Self {
        Self { failure, source: Some(Source::Error(source)) }
    }

    /// A failure that comes from a status, or from the error under it.
    pub(crate) fn of_status(failure: Failure, status: tonic::Status) -> Self {
        Self { failure, source: Some(Source::Status(Arc::new(status))) }
    }

    /// What went wrong, as the watches' machine sees it.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        &self.failure
    }

    /// [`failure`](Self::failure), by value.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        self.failure
    }
}

impl From<Failure> for AttemptError {
    fn from(failure: Failure) -> Self {
        Self { failure, source: None }
    }
}

impl From<AttemptError> for Failure {
    fn from(error: AttemptError) -> Self {
        error.failure
    }
}

impl PartialEq for AttemptError {
    fn eq(&self, other: &Self) -> bool {
        self.failure == other.failure
    }
}

impl Eq for AttemptError {}

impl fmt::Debug for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AttemptError").field(&self.failure).finish()
    }
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl StdError for AttemptError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self.source.as_ref()? {
            Source::Error(error) => Some(&**error),
            Source::Status(status) => status.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_source_is_the_error_itself_and_not_a_pointer_to_it() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let failure = Failure::connection("refused");
        let of_error = AttemptError::new(failure.clone(), refused());
        let of_status =
            AttemptError::of_status(failure.clone(), tonic::Status::from_error(Box::new(refused())));
        for error in [of_error, of_status] {
            let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
            assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::ConnectionRefused), "{error:?}");
            assert_eq!(error, failure.clone().into());
        }
    }
}

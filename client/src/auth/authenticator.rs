//! Gets auth tokens for the present credentials, and keeps the last one.

use std::{future::Future, sync::Mutex, time::Duration};

use etcd_watch_core::{Code, Failure, Instant, Refusal, refusal};
use etcd_watch_proto::etcdserverpb::AuthenticateRequest;
use tonic::metadata::AsciiMetadataValue;

use super::{
    credentials::{Credentials, User, token_header},
    state::State,
    token::{AfterRefusal, Generation, Token},
};
use crate::{
    AttemptError, Endpoint, Runtime, Scheme,
    runtime::{Backoff, Pace, pause, timeout},
    sync::{WaitList, lock},
    transport::{connection::Connection, rpc, wire},
};

/// How long a member may take to check the password. Others wait for the result too, so one that hangs must
/// not take long; but many clients that come at once wait for each other's bcrypt.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// No token is larger: it is a header of every request.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// How long a token is waited for in all: long enough to ask another member after one that hangs.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// A wrong password is not sent again so soon: whoever asks meanwhile is told the same.
const REJECTION_HOLDS: Duration = Duration::from_secs(1);

/// The pauses between tokens that are refused as soon as they are there.
pub(crate) const PACE: Pace =
    Pace::new(Duration::from_millis(50), Duration::from_millis(100), Duration::from_secs(1));

/// Gets tokens for the client's credentials, and keeps the last one.
#[derive(Debug)]
pub(crate) struct Authenticator {
    state: Mutex<State>,
    /// Held by the one that fetches: the others wait for it.
    fetching: futures_util::lock::Mutex<()>,
    /// Tasks that wait for other credentials.
    waiting: WaitList,
}

impl Authenticator {
    /// The backoff has [`PACE`]. The credentials have been checked.
    pub(crate) fn new(credentials: Option<Credentials>, backoff: Backoff) -> Self {
        Self {
            state: Mutex::new(State::new(credentials, backoff)),
            fetching: futures_util::lock::Mutex::new(()),
            waiting: WaitList::default(),
        }
    }

    /// Another one with the same credentials, which begins with the present token.
    pub(crate) fn fork(&self, backoff: Backoff) -> Self {
        let forked = Self::new(None, backoff);
        let mut state = lock(&forked.state);
        let own = lock(&self.state);
        state.credentials.clone_from(&own.credentials);
        state.warned = own.warned;
        if let Some(token) = &own.token {
            state.keep(token.value());
        }
        drop((own, state));
        forked
    }

    /// Whether requests are to carry tokens.
    pub(crate) fn has_credentials(&self) -> bool {
        lock(&self.state).credentials.is_some()
    }

    /// Uses these credentials from now on, which have been checked. Whether they are others than before, or those
    /// before had been refused.
    pub(crate) fn set(&self, credentials: Credentials) -> bool {
        let label = credentials.label().to_owned();
        let is_change = self.replace(credentials);
        if is_change {
            tracing::info!(name: "credentials_changed", user = %label, "using other credentials");
        }
        is_change
    }

    /// The same, without logging.
    pub(super) fn replace(&self, credentials: Credentials) -> bool {
        let mut state = lock(&self.state);
        let is_same = state.credentials.as_ref() == Some(&credentials);
        if is_same && state.rejected.is_none() && state.refused.is_none() {
            return false;
        }
        let before = state.set(credentials);
        drop(state);
        drop(before);
        self.waiting.wake_all();
        true
    }

    /// A server did not accept the token. Says nothing about the ones after it.
    pub(crate) fn refused(&self, now: Instant, generation: Generation) -> AfterRefusal {
        let mut state = lock(&self.state);
        let refused = state.token.take_if(|token| token.generation() == Some(generation));
        if generation < state.since || !state.has_given_token() {
            drop(state);
            drop(refused);
            return AfterRefusal::Another;
        }
        let is_first = refused.is_some() && state.given_token_refused(now);
        drop(state);
        if is_first {
            tracing::warn!(name: "token_refused", "etcd refuses the auth token that the client was given; give it another with Client::set_credentials");
        }
        AfterRefusal::Same
    }

    /// Whether a stream that carries this token was opened with other credentials than the present ones.
    pub(crate) fn is_stale(&self, generation: Option<Generation>) -> bool {
        let state = lock(&self.state);
        state.credentials.is_some() && generation.is_none_or(|generation| generation < state.since)
    }

    /// After a refusal of the token that the application gave: waits until there are other credentials, or until it is
    /// time to try the same token once more. Cancel-safe.
    pub(crate) async fn settle(&self, runtime: &dyn Runtime) {
        let Some((wait, since)) = lock(&self.state).unsettled(runtime.now()) else { return };
        let changed = self.waiting.until((), || (lock(&self.state).since != since).then_some(()));
        // In a box: it is rare, and part of the future of every list and stream.
        let _ = Box::pin(timeout(runtime, wait, changed)).await;
    }

    /// The token for a request on this connection, of the member at its other end if there is none yet; `None` without
    /// credentials.
    pub(crate) async fn token(
        &self,
        runtime: &dyn Runtime,
        connection: &Connection,
        endpoint: &Endpoint,
    ) -> Result<Option<Token>, AttemptError> {
        if let Some(known) = self.known(runtime.now()) {
            return known;
        }
        let fetch = |user| self.authenticate(runtime, connection.clone(), endpoint, user);
        // Rare, and large: in a box it doesn't make the future of every call large.
        let token = Box::pin(self.token_or(runtime, fetch));
        let late = || Err(Failure::connection(format!("no auth token within {TOKEN_TIMEOUT:?}")).into());
        timeout(runtime, TOKEN_TIMEOUT, token).await.unwrap_or_else(late)
    }

    /// The token there is, or what `fetch` gets; `None` is that none is needed. What was fetched for credentials that
    /// have been replaced meanwhile is dropped.
    async fn token_or<F>(
        &self,
        runtime: &dyn Runtime,
        fetch: impl Fn(User) -> F,
    ) -> Result<Option<Token>, AttemptError>
    where
        F: Future<Output = Result<Option<String>, AttemptError>>,
    {
        loop {
            if let Some(known) = self.known(runtime.now()) {
                return known;
            }
            let _fetching = self.fetching.lock().await;
            if let Some(known) = self.known(runtime.now()) {
                return known;
            }
            let wait = lock(&self.state).next_pause(runtime.now());
            if !wait.is_zero() && pause(runtime, wait).await.is_err() {
                return Err(Failure::connection("the runtime of the client has shut down").into());
            }
            let Some((user, since)) = lock(&self.state).user() else { continue };
            let value = match fetch(user).await {
                Ok(text) => text.map(fetched_header).transpose().map_err(AttemptError::from),
                Err(error) => Err(error),
            };
            let taken = lock(&self.state).fetched(runtime.now(), since, value);
            if let Some(token) = taken {
                return token.map(Some);
            }
        }
    }

    /// What needs no fetching: the token, that there are no credentials, or that the password is wrong.
    fn known(&self, now: Instant) -> Option<Result<Option<Token>, AttemptError>> {
        let mut state = lock(&self.state);
        if state.credentials.is_none() {
            return Some(Ok(None));
        }
        if let Some(token) = &state.token {
            return Some(Ok(Some(token.clone())));
        }
        if let Some(value) = state.given_token() {
            return Some(value.map(|value| Some(state.keep(Some(value)))));
        }
        let recent = state.rejected.as_ref().filter(|(at, _)| now.since(*at) < REJECTION_HOLDS);
        recent.map(|(_, error)| Err(error.clone()))
    }

    /// Asks the member for a token.
    async fn authenticate(
        &self,
        runtime: &dyn Runtime,
        connection: Connection,
        endpoint: &Endpoint,
        user: User,
    ) -> Result<Option<String>, AttemptError> {
        let late =
            || Failure::connection(format!("the password was not checked within {FETCH_TIMEOUT:?}")).into();
        if self.is_silent(endpoint, runtime.now()) {
            return Err(late());
        }
        self.warn_of_plain_text(endpoint);
        let User { name, password } = user;
        let request = AuthenticateRequest { name: name.clone(), password: password.to_string() };
        let metadata = wire::metadata(true);
        let answer = rpc::unary(connection, endpoint, request, metadata, MAX_ANSWER_BYTES);
        match timeout(runtime, FETCH_TIMEOUT, answer).await {
            Some(Ok(answer)) => {
                tracing::debug!(name: "token_fetched", %endpoint, user = %name, "got an auth token");
                Ok(Some(answer.token))
            }
            Some(Err(failed)) if says_not_enabled(failed.failure()) => {
                tracing::debug!(name: "token_not_needed", %endpoint, user = %name, "authentication is not enabled: going on without a token");
                Ok(None)
            }
            Some(Err(failed)) => {
                tracing::debug!(name: "token_not_fetched", %endpoint, user = %name, reason = %failed.error, "got no auth token");
                Err(not_of_the_call(failed.error))
            }
            None => {
                lock(&self.state).silent = Some((runtime.now(), endpoint.clone()));
                Err(late())
            }
        }
    }

    /// Whether the member was asked in vain just now. All who have waited for that would otherwise do the
    /// same, one after the other.
    fn is_silent(&self, endpoint: &Endpoint, now: Instant) -> bool {
        let state = lock(&self.state);
        state.silent.as_ref().is_some_and(|(at, silent)| silent == endpoint && now.since(*at) < FETCH_TIMEOUT)
    }

    fn warn_of_plain_text(&self, endpoint: &Endpoint) {
        let plain = endpoint.scheme() == Scheme::Http;
        if plain && !std::mem::replace(&mut lock(&self.state).warned, true) {
            tracing::warn!(name: "password_in_plain_text", %endpoint, "password and token go over the network in plain text; use https");
        }
    }
}

/// The header of a token that a server has made.
fn fetched_header(token: String) -> Result<AsciiMetadataValue, Failure> {
    let invalid = || Failure::status(Code::Internal, "the server's auth token is no valid header");
    token_header(&token).ok_or_else(invalid)
}

/// An answer over the limit is the password's, and not that of the call which needs the token.
fn not_of_the_call(error: AttemptError) -> AttemptError {
    match error.failure() {
        Failure::ResponseTooLarge { .. } => Failure::status(
            Code::Internal,
            format!("the server's auth token is over {MAX_ANSWER_BYTES} bytes"),
        )
        .into(),
        _ => error,
    }
}

fn says_not_enabled(failure: &Failure) -> bool {
    refusal(failure) == Some(Refusal::AuthNotEnabled)
}

#[cfg(test)]
#[path = "authenticator_tests.rs"]
mod tests;

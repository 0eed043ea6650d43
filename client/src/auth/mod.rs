//! Users: the credentials, and the token they are exchanged for.
//!
//! One [`Authenticator`] serves everything a client does. Whoever is about to make a request asks it for the
//! token; whoever is told that the token is not good says so ([`Authenticator::refused`]), and the next to ask
//! makes it fetch another. A token is not renewed ahead of time: a refused request is cheap, was not executed,
//! and is needed in any case, since a token may go bad long before its time.
//!
//! # What servers do
//!
//! Seen on etcd 3.4.23 and 3.5.30.
//!
//! | request with | answer to a call; `cancel_reason` of a create, after `rpc error: code = … desc = ` |
//! |---|---|
//! | no token | `InvalidArgument`, `etcdserver: user name is empty` |
//! | an unknown or expired token | `Unauthenticated`, `etcdserver: invalid auth token` |
//! | a JWT from before any change of a user or role | `InvalidArgument`, `etcdserver: revision of auth store is old` |
//! | a key the user may not have | `PermissionDenied`, `etcdserver: permission denied` |
//! | a wrong password or unknown user, to Authenticate | `InvalidArgument`, `etcdserver: authentication failed, invalid user ID or password` |
//! | Authenticate while authentication is off | `FailedPrecondition`, `etcdserver: authentication is not enabled` |
//!
//! - All of these are said before anything is executed, writes included.
//! - A token is looked at when a call is made and when a watch is created, and then never again: a watch that
//!   runs goes on when its token expires, its user loses the role or is deleted. A refused create leaves the
//!   stream and its other watches alone.
//! - A stream has the token it was opened with for all its life, so another token takes another stream.
//! - Simple tokens go through raft, so all members know them. A member that lags waits for what came before a
//!   token, and refuses it if it is one entry behind. One that is restarted and replays its log knows the tokens
//!   in it again, but not those from before its last snapshot.
//! - The time a simple token lasts (5 minutes by default) is counted by each member from when it last saw it. A new
//!   password, and a user's end, make it unknown; a role given or taken does not.
//! - While authentication is off, 3.4 refuses a token that it doesn't know, 3.5 doesn't look.
//! - Without a token 3.4 lets everything pass that names no key (leases, Status); 3.5.28 and newer nothing.
//! - Checking a password takes 60 to 80 ms of a core (bcrypt); an unknown user is refused at once.

use std::{fmt, future::Future, sync::Mutex, time::Duration};

use etcd_watch_core::{Code, Failure, Instant, Refusal, Remedy, refusal, remedy};
use etcd_watch_proto::etcdserverpb::AuthenticateRequest;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use zeroize::Zeroizing;

use crate::{
    AttemptError, Endpoint, Runtime, Scheme,
    runtime::{Backoff, Pace, pause, timeout},
    sync::lock,
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

/// Tokens that are refused as soon as they are there are fetched with growing pauses; one that has lasted
/// this long is replaced at once.
const SETTLED: Duration = Duration::from_secs(1);
pub(crate) const PACE: Pace =
    Pace::new(Duration::from_millis(50), Duration::from_millis(100), Duration::from_secs(1));

/// A user's name and password. The password is shown nowhere, and overwritten in memory when this is dropped
/// (the copies in a request and in the network's buffers are not).
#[derive(Clone)]
pub(crate) struct Credentials {
    name: String,
    password: Zeroizing<String>,
}

impl Credentials {
    pub(crate) fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self { name: name.into(), password: Zeroizing::new(password.into()) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Which of a client's tokens: they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(u64);

/// A token; or that none is needed, as far as is known.
#[derive(Clone)]
pub(crate) struct Token {
    generation: Generation,
    value: Option<AsciiMetadataValue>,
}

impl Token {
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether there is one.
    pub(crate) fn is_present(&self) -> bool {
        self.value.is_some()
    }

    /// Puts it on a request, in the place of one that was there.
    pub(crate) fn attach(&self, metadata: &mut MetadataMap) {
        if let Some(value) = &self.value {
            metadata.insert("token", value.clone());
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// Gets tokens for a user, and keeps the last one.
#[derive(Debug)]
pub(crate) struct Authenticator {
    credentials: Credentials,
    state: Mutex<State>,
    /// Held by the one that fetches: the others wait for it.
    fetching: futures_util::lock::Mutex<()>,
}

#[derive(Debug)]
struct State {
    token: Option<Token>,
    generations: u64,
    /// When the last token came.
    fetched: Option<Instant>,
    backoff: Backoff,
    rejected: Option<(Instant, AttemptError)>,
    /// When a member took too long, and where.
    silent: Option<(Instant, Endpoint)>,
    warned: bool,
}

impl Authenticator {
    /// The backoff has [`PACE`].
    pub(crate) fn new(credentials: Credentials, backoff: Backoff) -> Self {
        let state = State {
            token: None,
            generations: 0,
            fetched: None,
            backoff,
            rejected: None,
            silent: None,
            warned: false,
        };
        Self { credentials, state: Mutex::new(state), fetching: futures_util::lock::Mutex::new(()) }
    }

    /// A server did not accept the token. Says nothing about the ones after it.
    pub(crate) fn refused(&self, generation: Generation) {
        let refused = lock(&self.state).token.take_if(|token| token.generation == generation);
        drop(refused);
    }

    /// The token for a request on this connection, of the member at its other end if there is none yet.
    pub(crate) async fn token(
        &self,
        runtime: &dyn Runtime,
        connection: &Connection,
        endpoint: &Endpoint,
    ) -> Result<Token, AttemptError> {
        if let Some(known) = self.known(runtime.now()) {
            return known;
        }
        // Rare, and large: in a box it doesn't make the future of every call large.
        let fetch = Box::pin(self.authenticate(runtime, connection.clone(), endpoint));
        let token = self.token_or(runtime, fetch);
        let late = || Err(Failure::connection(format!("no auth token within {TOKEN_TIMEOUT:?}")).into());
        timeout(runtime, TOKEN_TIMEOUT, token).await.unwrap_or_else(late)
    }

    /// The token there is, or what `fetch` gets; `None` is that none is needed.
    async fn token_or(
        &self,
        runtime: &dyn Runtime,
        fetch: impl Future<Output = Result<Option<String>, AttemptError>>,
    ) -> Result<Token, AttemptError> {
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
        let value = match fetch.await {
            Ok(text) => text.map(header).transpose().map_err(AttemptError::from),
            Err(error) => Err(error),
        };
        lock(&self.state).fetched(runtime.now(), value)
    }

    /// What needs no fetching: the token, or that the password is wrong.
    fn known(&self, now: Instant) -> Option<Result<Token, AttemptError>> {
        let state = lock(&self.state);
        if let Some(token) = &state.token {
            return Some(Ok(token.clone()));
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
    ) -> Result<Option<String>, AttemptError> {
        let late =
            || Failure::connection(format!("the password was not checked within {FETCH_TIMEOUT:?}")).into();
        if self.is_silent(endpoint, runtime.now()) {
            return Err(late());
        }
        self.warn_of_plain_text(endpoint);
        let Credentials { name, password } = &self.credentials;
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
                Err(failed.error)
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

impl State {
    fn next_pause(&mut self, now: Instant) -> Duration {
        let settled = self.fetched.is_none_or(|fetched| now.since(fetched) >= SETTLED);
        if settled {
            self.backoff.reset();
            return Duration::ZERO;
        }
        self.backoff.next_pause()
    }

    fn fetched(
        &mut self,
        now: Instant,
        value: Result<Option<AsciiMetadataValue>, AttemptError>,
    ) -> Result<Token, AttemptError> {
        self.rejected = None;
        match value {
            Ok(value) => {
                self.generations += 1;
                self.fetched = Some(now);
                let token = Token { generation: Generation(self.generations), value };
                self.token = Some(token.clone());
                Ok(token)
            }
            Err(error) => {
                if remedy(error.failure()) == Remedy::BadCredentials {
                    self.rejected = Some((now, error.clone()));
                }
                Err(error)
            }
        }
    }
}

/// The token as a header that isn't shown by `Debug` and isn't kept by HTTP/2's compression.
fn header(token: String) -> Result<AsciiMetadataValue, Failure> {
    let invalid = |_| Failure::status(Code::Internal, "the server's auth token is no valid header");
    let mut value = AsciiMetadataValue::try_from(token).map_err(invalid)?;
    value.set_sensitive(true);
    Ok(value)
}

fn says_not_enabled(failure: &Failure) -> bool {
    refusal(failure) == Some(Refusal::AuthNotEnabled)
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::atomic::{AtomicU32, Ordering},
    };

    use futures_util::{FutureExt, future::join_all};

    use super::*;
    use crate::testing::NoNetwork;

    fn authenticator() -> Authenticator {
        Authenticator::new(Credentials::new("alice", "secret-password"), Backoff::with_seed(PACE, 7))
    }

    /// Asks for a token when the answer would be this; the answer, if it came at once.
    fn ask(auth: &Authenticator, answer: Result<Option<&str>, Failure>) -> Option<Result<Token, Failure>> {
        let answer = answer.map(|token| token.map(Into::into)).map_err(Into::into);
        let token = auth.token_or(&NoNetwork, ready(answer)).now_or_never()?;
        Some(token.map_err(AttemptError::into_failure))
    }

    fn good(auth: &Authenticator, token: &str) -> Token {
        ask(auth, Ok(Some(token))).expect("at once").expect("a token")
    }

    fn wrong_password() -> Failure {
        Failure::status(3, "etcdserver: authentication failed, invalid user ID or password")
    }

    #[test]
    fn a_token_is_kept_until_it_is_refused() {
        let auth = authenticator();
        let first = good(&auth, "one");
        assert_eq!(good(&auth, "two").generation(), first.generation());
        auth.refused(first.generation());
        lock(&auth.state).fetched = None;
        let second = good(&auth, "two");
        assert!(second.generation() > first.generation());
        auth.refused(first.generation());
        assert_eq!(good(&auth, "three").generation(), second.generation(), "the first says nothing of it");
    }

    #[test]
    fn all_who_ask_at_once_share_one_fetch() {
        let auth = authenticator();
        let fetches = AtomicU32::new(0);
        let mut answer = Some(futures_util::future::poll_fn(|cx| {
            // Not at once: the others have to come before it is there.
            if fetches.fetch_add(1, Ordering::Relaxed) < 3 {
                cx.waker().wake_by_ref();
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready(Ok(Some("token".into())))
        }));
        let one = auth.token_or(&NoNetwork, answer.take().expect("taken once"));
        let others = (0..9).map(|_| auth.token_or(&NoNetwork, pending()));
        let all = async { (one.await, join_all(others).await) };
        let (one, others) = driven(all).now_or_never().expect("done");
        let generation = one.expect("a token").generation();
        assert!(others.into_iter().all(|token| token.expect("a token").generation() == generation));
    }

    /// Polls until it is done, without a runtime.
    async fn driven<T>(future: impl Future<Output = T>) -> T {
        futures_util::pin_mut!(future);
        loop {
            if let Some(output) = future.as_mut().now_or_never() {
                return output;
            }
        }
    }

    #[test]
    fn tokens_that_are_refused_at_once_are_fetched_with_growing_pauses() {
        let auth = authenticator();
        let first = good(&auth, "one");
        auth.refused(first.generation());
        assert!(ask(&auth, Ok(Some("two"))).is_none(), "it is put off");
        let mut state = lock(&auth.state);
        let pauses: Vec<_> = (0..20).map(|_| state.next_pause(Instant::ZERO).as_millis()).collect();
        assert!(pauses.iter().all(|pause| (50..=1_000).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|&pause| pause > 200), "{pauses:?}");
        assert_eq!(state.next_pause(Instant::ZERO + SETTLED), Duration::ZERO);
        assert!(state.next_pause(Instant::ZERO).as_millis() <= 100, "and from the start again");
    }

    #[test]
    fn a_wrong_password_is_not_sent_again_and_again() {
        let auth = authenticator();
        assert_eq!(ask(&auth, Err(wrong_password())).expect("at once").unwrap_err(), wrong_password());
        assert_eq!(ask(&auth, Ok(Some("two"))).expect("at once").unwrap_err(), wrong_password());
        let later = Instant::ZERO + REJECTION_HOLDS;
        assert!(auth.known(later).is_none());
        let broken = authenticator();
        assert!(ask(&broken, Err(Failure::EndOfStream)).expect("at once").is_err());
        assert!(good(&broken, "one").is_present(), "a broken connection says nothing of the password");
    }

    #[test]
    fn where_authentication_is_off_there_is_no_token_until_one_is_asked_for() {
        let auth = authenticator();
        let none = ask(&auth, Ok(None)).expect("at once").expect("that none is needed");
        assert!(!none.is_present());
        let mut metadata = MetadataMap::new();
        none.attach(&mut metadata);
        assert!(metadata.is_empty());
        auth.refused(none.generation());
        lock(&auth.state).fetched = None;
        good(&auth, "one").attach(&mut metadata);
        assert_eq!(metadata.get("token").expect("it is there"), "one");
        assert!(says_not_enabled(&Failure::status(9, "etcdserver: authentication is not enabled")));
        assert!(says_not_enabled(&Failure::status(2, "etcdserver: authentication is not enabled")));
        assert!(!says_not_enabled(&Failure::status(14, "etcdserver: authentication is not enabled")));
        assert!(!says_not_enabled(&Failure::status(9, "the gateway's authentication is not enabled")));
        assert!(!says_not_enabled(&wrong_password()));
    }

    #[test]
    fn neither_password_nor_token_is_shown() {
        let auth = authenticator();
        let token = good(&auth, "secret-token");
        let mut metadata = MetadataMap::new();
        token.attach(&mut metadata);
        let shown = format!(
            "{auth:?} {token:?} {metadata:?} {:#?}",
            tonic::Request::from_parts(metadata.clone(), Default::default(), ())
        );
        assert!(shown.contains("alice") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_token_that_is_no_header_is_the_servers_fault() {
        let failed = ask(&authenticator(), Ok(Some("two\nlines"))).expect("at once").unwrap_err();
        assert_eq!(remedy(&failed), Remedy::RetryElsewhere);
        assert!(!failed.to_string().contains("lines"));
    }
}

//! What is known of the present credentials and their token.

use std::time::Duration;

use etcd_watch_core::{Failure, Instant, Remedy, remedy};
use tonic::metadata::AsciiMetadataValue;

use super::{
    credentials::{Credentials, Kind, User, token_header},
    token::{Generation, Token},
};
use crate::{AttemptError, Endpoint, runtime::Backoff};

/// Tokens that are refused as soon as they are there are fetched with growing pauses; one that has lasted
/// this long is replaced at once.
pub(super) const SETTLED: Duration = Duration::from_secs(1);

/// How long watches and mirrors wait for other credentials before they try a token again that was given and refused: the
/// first time, and at most. With the machine's limit of 8 refusals in a row they go on for about half a minute.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(1);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// A given token that has not been refused for this long has been good meanwhile.
pub(super) const REFUSALS_FORGOTTEN: Duration = Duration::from_secs(60);

/// What is known of the present credentials and their token.
#[derive(Debug)]
pub(super) struct State {
    pub(super) credentials: Option<Credentials>,
    /// The tokens of generations before this one are those of other credentials.
    pub(super) since: Generation,
    pub(super) token: Option<Token>,
    /// The last generation that was given out.
    pub(super) last: Generation,
    /// When the last token came.
    pub(super) fetched: Option<Instant>,
    pub(super) backoff: Backoff,
    pub(super) rejected: Option<(Instant, AttemptError)>,
    /// When the token that the application gave was refused last, and how often in a row.
    pub(super) refused: Option<(Instant, u32)>,
    /// When a member took too long, and where.
    pub(super) silent: Option<(Instant, Endpoint)>,
    pub(super) warned: bool,
}

impl State {
    pub(super) fn new(credentials: Option<Credentials>, backoff: Backoff) -> Self {
        Self {
            credentials,
            since: Generation::default(),
            token: None,
            last: Generation::default(),
            fetched: None,
            backoff,
            rejected: None,
            refused: None,
            silent: None,
            warned: false,
        }
    }

    /// Takes other credentials; what is to be dropped after unlocking.
    pub(super) fn set(&mut self, credentials: Credentials) -> (Option<Credentials>, Option<Token>) {
        // A number of its own, so that credentials for which no token was fetched are told apart, too.
        self.last.0 += 1;
        self.since = self.last;
        self.fetched = None;
        self.rejected = None;
        self.refused = None;
        (self.credentials.replace(credentials), self.token.take())
    }

    /// The user whose tokens are fetched, and since when they are its.
    pub(super) fn user(&self) -> Option<(User, Generation)> {
        match &self.credentials.as_ref()?.0 {
            Kind::User(user) => Some((user.clone(), self.since)),
            Kind::Token(_) => None,
        }
    }

    pub(super) fn has_given_token(&self) -> bool {
        matches!(self.credentials, Some(Credentials(Kind::Token(_))))
    }

    /// The token that the application gave, if it gave one.
    pub(super) fn given_token(&self) -> Option<Result<AsciiMetadataValue, AttemptError>> {
        let Kind::Token(token) = &self.credentials.as_ref()?.0 else { return None };
        let invalid = || Failure::invalid_request("the auth token is no valid header").into();
        Some(token_header(token).ok_or_else(invalid))
    }

    /// Notes that the given token was refused; whether it is for the first time.
    pub(super) fn given_token_refused(&mut self, now: Instant) -> bool {
        let times = match self.refused {
            Some((at, times)) if now.since(at) < REFUSALS_FORGOTTEN => times.saturating_add(1),
            _ => 1,
        };
        self.refused = Some((now, times));
        times == 1
    }

    /// How long to wait for other credentials than those that began with this generation, if the given token was
    /// refused.
    pub(super) fn unsettled(&self, now: Instant) -> Option<(Duration, Generation)> {
        let (at, times) = self.refused?;
        let wait = FIRST_WAIT.saturating_mul(1 << (times - 1).min(16)).min(LONGEST_WAIT);
        let left = wait.saturating_sub(now.since(at));
        (!left.is_zero()).then_some((left, self.since))
    }

    pub(super) fn next_pause(&mut self, now: Instant) -> Duration {
        let settled = self.fetched.is_none_or(|fetched| now.since(fetched) >= SETTLED);
        if settled {
            self.backoff.reset();
            return Duration::ZERO;
        }
        self.backoff.next_pause()
    }

    pub(super) fn keep(&mut self, value: Option<AsciiMetadataValue>) -> Token {
        self.last.0 += 1;
        let token = Token::of_client(self.last, value);
        self.token = Some(token.clone());
        token
    }

    /// What was fetched; `None` if it was for credentials that have been replaced.
    pub(super) fn fetched(
        &mut self,
        now: Instant,
        since: Generation,
        value: Result<Option<AsciiMetadataValue>, AttemptError>,
    ) -> Option<Result<Token, AttemptError>> {
        if since != self.since {
            return None;
        }
        self.rejected = None;
        Some(match value {
            Ok(value) => {
                self.fetched = Some(now);
                Ok(self.keep(value))
            }
            Err(error) => {
                if remedy(error.failure()) == Remedy::BadCredentials {
                    self.rejected = Some((now, error.clone()));
                }
                Err(error)
            }
        })
    }
}

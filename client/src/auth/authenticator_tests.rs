//! Tests of [`Authenticator`].

use std::{
    future::{pending, ready},
    sync::atomic::{AtomicU32, Ordering},
    task::Context,
};

use futures_util::{FutureExt, future::join_all};
use tonic::metadata::MetadataMap;

use super::{
    super::state::{FIRST_WAIT, REFUSALS_FORGOTTEN, SETTLED},
    *,
};
use crate::testing::{CountedWaker, NoNetwork};
use etcd_watch_core::{Remedy, remedy};

fn authenticator() -> Authenticator {
    with(Credentials::user("alice", "secret-password"))
}

fn with(credentials: impl Into<Option<Credentials>>) -> Authenticator {
    Authenticator::new(credentials.into(), Backoff::with_seed(PACE, 7))
}

/// Asks for a token when the answer would be this; the answer, if it came at once.
fn ask(auth: &Authenticator, answer: Result<Option<&str>, Failure>) -> Option<Result<Token, Failure>> {
    let answer: Result<Option<String>, AttemptError> =
        answer.map(|token| token.map(Into::into)).map_err(Into::into);
    let token = auth.token_or(&NoNetwork, |_| ready(answer.clone())).now_or_never()?;
    Some(token.map(|token| token.expect("there are credentials")).map_err(AttemptError::into_failure))
}

fn good(auth: &Authenticator, token: &str) -> Token {
    ask(auth, Ok(Some(token))).expect("at once").expect("a token")
}

fn refuse(auth: &Authenticator, token: &Token) -> AfterRefusal {
    auth.refused(Instant::ZERO, token.generation().expect("it is the client's own"))
}

/// What requests are sent with.
fn text(token: &Token) -> String {
    let mut metadata = MetadataMap::new();
    token.attach(&mut metadata);
    metadata.get("token").map_or("", |value| value.to_str().expect("letters")).into()
}

fn wrong_password() -> Failure {
    Failure::status(3, "etcdserver: authentication failed, invalid user ID or password")
}

#[test]
fn a_token_is_kept_until_it_is_refused() {
    let auth = authenticator();
    let first = good(&auth, "one");
    assert_eq!(good(&auth, "two").generation(), first.generation());
    assert_eq!(refuse(&auth, &first), AfterRefusal::Another);
    lock(&auth.state).fetched = None;
    let second = good(&auth, "two");
    assert!(second.generation() > first.generation());
    refuse(&auth, &first);
    assert_eq!(good(&auth, "three").generation(), second.generation(), "the first says nothing of it");
}

#[test]
fn all_who_ask_at_once_share_one_fetch() {
    let auth = authenticator();
    let fetches = AtomicU32::new(0);
    let answer = |_| {
        futures_util::future::poll_fn(|cx| {
            // Not at once: the others have to come before it is there.
            if fetches.fetch_add(1, Ordering::Relaxed) < 3 {
                cx.waker().wake_by_ref();
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready(Ok(Some("token".into())))
        })
    };
    let one = auth.token_or(&NoNetwork, answer);
    let others = (0..9).map(|_| auth.token_or(&NoNetwork, |_| pending()));
    let all = async { (one.await, join_all(others).await) };
    let (one, others) = driven(all).now_or_never().expect("done");
    let generation = |token: Result<Option<Token>, AttemptError>| {
        token.expect("it is there").expect("there are credentials").generation()
    };
    let first = generation(one);
    assert!(others.into_iter().all(|token| generation(token) == first));
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
    refuse(&auth, &first);
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
    refuse(&auth, &none);
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

#[test]
fn without_credentials_there_is_no_token() {
    let auth = with(None);
    let token = auth.token_or(&NoNetwork, |_| pending()).now_or_never().expect("at once");
    assert!(token.expect("none is needed").is_none());
    assert!(!auth.is_stale(None));
    assert!(auth.set(Credentials::token("one")));
    assert!(auth.is_stale(None), "a stream without a token is moved once there is one");
}

#[test]
fn a_given_token_is_used_as_it_is_and_never_fetched() {
    let auth = with(Credentials::token("given"));
    let given = ask(&auth, Ok(Some("fetched"))).expect("at once").expect("a token");
    assert_eq!(text(&given), "given");
    assert_eq!(refuse(&auth, &given), AfterRefusal::Same);
    let again = good(&auth, "fetched");
    assert_eq!(text(&again), "given", "there is no other");
    assert!(again.generation() > given.generation());
}

#[test]
fn other_credentials_replace_a_token_and_what_was_said_of_the_ones_before() {
    let auth = authenticator();
    assert!(!auth.set(Credentials::user("alice", "secret-password")), "they are the same");
    let fetched = good(&auth, "fetched");
    assert!(!auth.is_stale(fetched.generation()));
    assert!(auth.set(Credentials::token("given")));
    assert!(auth.is_stale(fetched.generation()));
    assert_eq!(refuse(&auth, &fetched), AfterRefusal::Another, "another was given meanwhile");
    let given = good(&auth, "fetched");
    assert_eq!(text(&given), "given");
    assert!(!auth.is_stale(given.generation()));

    let rejected = authenticator();
    ask(&rejected, Err(wrong_password())).expect("at once").unwrap_err();
    assert!(rejected.set(Credentials::user("alice", "the-right-one")));
    assert_eq!(text(&good(&rejected, "fetched")), "fetched", "at once, with the new password");
}

#[test]
fn a_token_that_comes_for_replaced_credentials_is_dropped() {
    let auth = authenticator();
    let fetch = |user: User| {
        let is_last = *user.password == "the last";
        // They are replaced while the member checks the ones before, twice.
        let is_first = *user.password == "secret-password";
        auth.set(Credentials::user("alice", if is_first { "the next" } else { "the last" }));
        ready(if is_last { Ok(Some("new".into())) } else { Err(wrong_password().into()) })
    };
    let token = auth.token_or(&NoNetwork, fetch).now_or_never().expect("at once").expect("it is right");
    assert_eq!(text(&token.expect("there are credentials")), "new");
}

#[test]
fn whoever_waits_after_a_refused_token_goes_on_with_the_next_credentials() {
    let auth = with(Credentials::token("given"));
    assert!(auth.settle(&NoNetwork).now_or_never().is_some(), "nothing was refused yet");
    let given = good(&auth, "");
    refuse(&auth, &given);
    let mut waiting = Box::pin(auth.settle(&NoNetwork));
    let counted = CountedWaker::default();
    let waker = counted.waker();
    let mut cx = Context::from_waker(&waker);
    assert!(waiting.as_mut().poll(&mut cx).is_pending(), "time stands still on this runtime");
    auth.set(Credentials::token("next"));
    assert_eq!(counted.woken(), 1);
    assert!(waiting.as_mut().poll(&mut cx).is_ready());
    assert_eq!(text(&good(&auth, "")), "next");
    assert!(auth.settle(&NoNetwork).now_or_never().is_some());
}

#[test]
fn a_refused_token_is_tried_again_after_pauses_that_grow() {
    let auth = with(Credentials::token("given"));
    let mut now = Instant::ZERO;
    let mut waits = Vec::new();
    for _ in 0..5 {
        let token = good(&auth, "");
        auth.refused(now, token.generation().expect("it is the client's own"));
        // The stream and the read that had the same token say the same.
        auth.refused(now, token.generation().expect("it is the client's own"));
        let (wait, _) = lock(&auth.state).unsettled(now).expect("it was refused");
        waits.push(wait.as_secs());
        now = now + wait;
        assert_eq!(lock(&auth.state).unsettled(now), None);
    }
    assert_eq!(waits, [1, 2, 4, 4, 4]);
    now = now + REFUSALS_FORGOTTEN;
    let token = good(&auth, "");
    auth.refused(now, token.generation().expect("it is the client's own"));
    assert_eq!(lock(&auth.state).unsettled(now).map(|(wait, _)| wait), Some(FIRST_WAIT));
}

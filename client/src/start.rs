//! Waiting for a cluster to answer for the first time.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use etcd_watch_core::{Failure, Remedy, remedy};
use etcd_watch_proto::etcdserverpb as pb;

use crate::{
    Endpoint, EndpointFailure, StartError,
    calls::{
        attempts::{Calls, no_answer},
        judge::members_fault,
    },
    cluster::{dialer::Unreached, pool::Pooled},
    runtime::{Pace, pause},
    transport::rpc::Fate,
};

/// Between two rounds over the endpoints.
const PACE: Pace = Pace::new(Duration::from_millis(20), Duration::from_millis(100), Duration::from_secs(1));

/// Where every endpoint has turned the client away, a second round is made after this, for a server that is just being
/// restarted; then the addresses are taken for wrong ones.
const TURNED_AWAY_PAUSE: Duration = Duration::from_millis(500);
const TURNED_AWAY_ROUNDS: u32 = 2;

/// What an attempt came to.
enum Round {
    Answered,
    Again,
    /// Every endpoint has turned the client away.
    TurnedAway,
    Failed(StartError),
}

/// Waits until a member has answered a request that needs a user where the cluster has users. Fails at once where
/// trying again changes nothing, else when the time is over.
pub(crate) async fn answered(calls: &Calls, within: Duration) -> Result<(), StartError> {
    let began = calls.runtime().now();
    // In the application's order: failures change that of the list.
    let given = calls.pool.dialer.endpoints.all_given();
    match calls.while_open(within, rounds(calls, &given)).await {
        Ok(Some(Ok(()))) => Ok(()),
        Ok(Some(Err(Some(error)))) => Err(error),
        Ok(Some(Err(None))) => {
            let after = calls.runtime().now().since(began);
            Err(StartError::Unreachable { endpoints: failures(calls, &given, after), after })
        }
        Ok(None) => {
            Err(StartError::Unreachable { endpoints: failures(calls, &given, within), after: within })
        }
        // Nobody else has the client yet, to close it.
        Err(_) => Err(StartError::RuntimeGone),
    }
}

/// Fails without an error of its own when it is turned away everywhere.
async fn rounds(calls: &Calls, given: &[Arc<Endpoint>]) -> Result<(), Option<StartError>> {
    let mut avoid = None;
    let mut backoff = calls.backoff(PACE);
    let mut turned_away = 0;
    loop {
        let round = match calls.pool.get(avoid.as_deref()).await {
            Ok(pooled) => {
                avoid = Some(pooled.endpoint().clone());
                ask(calls, &pooled).await
            }
            Err(unreached) => {
                avoid = None;
                unreachable(calls, given, &unreached)
            }
        };
        let wait = match round {
            Round::Answered => return Ok(()),
            Round::Failed(error) => return Err(Some(error)),
            Round::TurnedAway => {
                turned_away += 1;
                if turned_away >= TURNED_AWAY_ROUNDS {
                    return Err(None);
                }
                TURNED_AWAY_PAUSE
            }
            Round::Again => {
                turned_away = 0;
                backoff.next_pause()
            }
        };
        if pause(&**calls.runtime(), wait).await.is_err() {
            return Err(Some(StartError::RuntimeGone));
        }
    }
}

/// Asks the member for something that it has at hand, leader or not.
async fn ask(calls: &Calls, pooled: &Pooled) -> Round {
    // A key, since servers before etcd 3.5.28 answer what names none without a user.
    let request = pb::RangeRequest {
        key: Bytes::from_static(b"\0"),
        limit: 1,
        count_only: true,
        serializable: true,
        ..Default::default()
    };
    let failed = match Box::pin(calls.ask(pooled, request, calls.limits())).await {
        Ok(_) => return answer(calls, pooled),
        Err(failed) => failed,
    };
    calls.note(Some(pooled), &failed);
    if members_fault(failed.failure()) {
        return Round::Again;
    }
    match (remedy(failed.failure()), failed.failure().clone()) {
        (Remedy::BadCredentials, Failure::Status { message, .. }) => {
            Round::Failed(StartError::AuthenticationFailed { message })
        }
        (Remedy::Reauthenticate, Failure::Status { message, .. })
            if failed.fate == Fate::GivenTokenRefused =>
        {
            Round::Failed(StartError::TokenRefused { message })
        }
        // With a user: the next attempt has another token.
        (Remedy::Reauthenticate, _) if failed.fate == Fate::TokenRefused => Round::Again,
        (Remedy::Reauthenticate, Failure::Status { message, .. }) => {
            Round::Failed(StartError::UserRequired { message })
        }
        // A refusal is an answer, too.
        _ => answer(calls, pooled),
    }
}

fn answer(calls: &Calls, pooled: &Pooled) -> Round {
    calls.pool.answered(pooled);
    Round::Answered
}

fn unreachable(calls: &Calls, given: &[Arc<Endpoint>], unreached: &Unreached) -> Round {
    let all_tls = unreached.causes().all(|error| error.is_tls_refusal());
    let hopeless = unreached.causes().all(|error| error.is_tls_refusal() || error.is_turned_away());
    if all_tls {
        return Round::Failed(StartError::Tls { endpoints: failures(calls, given, Duration::ZERO) });
    }
    if hopeless { Round::TurnedAway } else { Round::Again }
}

/// Why each endpoint can't be used; one of which nothing was heard hasn't answered within the time given.
fn failures(calls: &Calls, given: &[Arc<Endpoint>], within: Duration) -> Vec<EndpointFailure> {
    let endpoints = &calls.pool.dialer.endpoints;
    let silent = || no_answer(within).into();
    let failure = |endpoint: &Arc<Endpoint>| EndpointFailure {
        endpoint: (**endpoint).clone(),
        cause: endpoints.last_failure(endpoint).unwrap_or_else(silent),
    };
    given.iter().map(failure).collect()
}

//! Clients, and how a refusal is looked at.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use etcd_watch_client::{CallError, Client, ClientBuilder, Refusal};
use etcd_watch_testkit::harness::EtcdVersion;

use crate::runtime::On;

/// For any one thing that a test waits for: much longer than it takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A scenario that takes longer hangs.
pub(crate) const SCENARIO_DEADLINE: Duration = Duration::from_secs(300);

/// The servers that a scenario is to start, and what its clients run on.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) version: EtcdVersion,
    pub(crate) on: On,
}

impl Setup {
    pub(crate) fn builder(&self, endpoints: impl IntoIterator<Item = String>) -> ClientBuilder {
        self.on.builder().endpoints(endpoints).request_timeout(Duration::from_secs(20))
    }

    pub(crate) fn client(&self, endpoints: impl IntoIterator<Item = String>) -> Client {
        self.builder(endpoints).connect_lazy().expect("valid settings")
    }
}

/// The refusal that a call ended with, which was surely not executed.
#[track_caller]
pub(crate) fn refusal<T: Debug>(result: Result<T, CallError>) -> Refusal {
    let error = result.expect_err("it is refused");
    assert!(
        matches!(error, CallError::Refused { .. } | CallError::AuthenticationFailed { .. }),
        "not refused: {error:?}"
    );
    assert!(!error.may_have_executed(), "{error}");
    error.refusal().unwrap_or_else(|| panic!("no refusal of etcd's that is known: {error:?}"))
}

/// Which argument a call was refused for, before it was sent.
#[track_caller]
pub(crate) fn invalid<T: Debug>(result: Result<T, CallError>) -> &'static str {
    match result {
        Err(CallError::InvalidArgument { field, .. }) => field,
        other => panic!("not an invalid argument: {other:?}"),
    }
}

/// Makes the call until it isn't refused in this way any more.
pub(crate) async fn once_not<T, F>(passing: &[Refusal], mut call: impl FnMut() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>>,
{
    let end = Instant::now() + DEADLINE;
    loop {
        match call().await {
            Err(error) if error.refusal().is_some_and(|refusal| passing.contains(&refusal)) => {
                assert!(Instant::now() < end, "still refused: {error}");
            }
            result => return result,
        }
    }
}

//! The question for a member's version, which says what its replies to progress requests are worth.

use std::{sync::Arc, time::Duration};

use etcd_watch_core::{Code, Failure, Remedy, ServerVersion, remedy};
use etcd_watch_proto::etcdserverpb as pb;
use tonic::metadata::MetadataMap;

use crate::{
    Endpoint, Runtime,
    cluster::dialer::Dialer,
    runtime::BoxFuture,
    transport::{connection::Connection, rpc},
};

/// The largest answer that is taken for one: it has some numbers, the version, and what is wrong with the member.
const MOST_BYTES: usize = 64 << 10;

/// How long after a failure the member is asked again.
const PAUSE: Duration = Duration::from_secs(10);

/// How many more answers are waited for after the stream was opened.
const MOST_ANSWERS: usize = 30;

/// What stands for the version of a member that knows its user and yet keeps it from all but root: only
/// servers from this one on do that (the repair of CVE-2026-33413, taken back later, and all of 3.6 before
/// that).
const KEEPS_ITS_VERSION: ServerVersion = ServerVersion::new(3, 5, 28);

/// The version, which may be told in a way that means nothing.
pub(crate) type Told = Result<Option<ServerVersion>, Failure>;

/// Asks a member for its version.
pub(crate) struct VersionQuery {
    runtime: Arc<dyn Runtime>,
    ask: Box<dyn Fn() -> BoxFuture<'static, Told> + Send>,
    /// The call that has not been answered yet.
    call: Option<BoxFuture<'static, Told>>,
}

impl VersionQuery {
    /// Asks on this connection, as a user if there is a token in the metadata.
    pub(crate) fn on(
        dialer: &Dialer,
        connection: Connection,
        endpoint: Arc<Endpoint>,
        metadata: MetadataMap,
        is_user: bool,
    ) -> Self {
        let most_bytes = dialer.max_message_bytes.min(MOST_BYTES);
        let ask = move || -> BoxFuture<'static, Told> {
            let (connection, endpoint, metadata) = (connection.clone(), endpoint.clone(), metadata.clone());
            Box::pin(async move {
                let request = pb::StatusRequest {};
                match rpc::unary(connection, &endpoint, request, metadata, most_bytes).await {
                    Ok(status) => Ok(status.version.parse().ok()),
                    Err(failure) => judge(failure.into_failure(), is_user),
                }
            })
        };
        Self { runtime: dialer.runtime().clone(), ask: Box::new(ask), call: None }
    }

    /// The answer. When this is dropped, the call goes on with the next one.
    pub(crate) async fn answer(&mut self) -> Told {
        let told = self.call.get_or_insert_with(&self.ask).await;
        self.call = None;
        told
    }

    /// Waits for the answer, and asks again after a failure that may pass; `None` if the version stays unknown.
    pub(crate) async fn until_told(mut self) -> Option<ServerVersion> {
        for _ in 0..MOST_ANSWERS {
            if self.call.is_none() {
                self.runtime.sleep(PAUSE).await;
            }
            match self.answer().await {
                Ok(version) => return version,
                Err(failure) if may_pass(&failure) => {}
                Err(_) => return None,
            }
        }
        None
    }
}

fn judge(failure: Failure, is_user: bool) -> Told {
    match failure {
        Failure::Status { code: Code::PermissionDenied, message }
            if is_user && message == "etcdserver: permission denied" =>
        {
            Ok(Some(KEEPS_ITS_VERSION))
        }
        failure => Err(failure),
    }
}

/// Whether a member that has not told its version may tell it when it is asked again.
pub(crate) fn may_pass(failure: &Failure) -> bool {
    matches!(remedy(failure), Remedy::Retry | Remedy::RetryElsewhere | Remedy::NoLeader)
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Mutex};

    use futures_util::FutureExt;

    use super::*;
    use crate::{sync::lock, testing::NoTime};

    const VERSION: ServerVersion = ServerVersion::new(3, 5, 30);

    fn status(code: Code, message: &str) -> Failure {
        Failure::Status { code, message: message.into() }
    }

    fn unavailable() -> Told {
        Err(status(Code::Unavailable, "a proxy has no member"))
    }

    /// What comes of it where these are the answers; how many of them are left.
    fn asked(answers: impl IntoIterator<Item = Told>) -> (Option<ServerVersion>, usize) {
        let answers: Arc<Mutex<VecDeque<Told>>> = Arc::new(Mutex::new(answers.into_iter().collect()));
        let left = answers.clone();
        let ask = move || -> BoxFuture<'static, Told> {
            let answer = lock(&answers).pop_front().expect("it is asked so often");
            Box::pin(async { answer })
        };
        let asking = VersionQuery { runtime: Arc::new(NoTime), ask: Box::new(ask), call: None };
        let told = asking.until_told().now_or_never().expect("no timer takes any time");
        let left = lock(&left).len();
        (told, left)
    }

    #[test]
    fn a_member_is_asked_again_after_failures_that_may_pass() {
        assert_eq!(asked([unavailable(), unavailable(), Ok(Some(VERSION))]), (Some(VERSION), 0));
        assert_eq!(asked([Ok(Some(VERSION)), unavailable()]), (Some(VERSION), 1));
    }

    #[test]
    fn a_member_that_will_not_tell_is_not_asked_again() {
        let unknown = || Err(status(Code::Unimplemented, "unknown service etcdserverpb.Maintenance"));
        assert_eq!(asked([unavailable(), unknown(), Ok(Some(VERSION))]), (None, 1));
        assert_eq!(asked([Ok(None), Ok(Some(VERSION))]), (None, 1), "it told what means nothing");
    }

    #[test]
    fn a_member_is_not_asked_for_ever() {
        let answers = std::iter::repeat_with(unavailable).take(MOST_ANSWERS + 1);
        assert_eq!(asked(answers), (None, 1));
    }

    #[test]
    fn only_a_user_learns_from_a_denial_how_new_the_member_is() {
        let denied = || status(Code::PermissionDenied, "etcdserver: permission denied");
        assert_eq!(judge(denied(), true), Ok(Some(KEEPS_ITS_VERSION)));
        assert_eq!(judge(denied(), false), Err(denied()));
        let proxys = || status(Code::PermissionDenied, "no");
        assert_eq!(judge(proxys(), true), Err(proxys()));
    }
}

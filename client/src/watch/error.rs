//! Why watches end, and what to do about it.

use etcd_watch_core::CloseReason;

/// Why a watch or a mirror ended against the application's will: [`reason`](Self::reason) says what happened,
/// [`recovery`](Self::recovery) what to do about it.
///
/// A lost connection, a member that restarts, a lost leader or a server that breaks the protocol ends no watch. What does
/// comes once, after everything else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct WatchError {
    reason: CloseReason,
    of: Of,
}

/// What has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// A watch, and the revision after what was taken from it, if that is known.
    Watch {
        resume: Option<i64>,
    },
    Mirror,
}

/// What to do after a watch or a mirror has ended: [`WatchError::recovery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// The watch can go on where it was, and nothing is lost: watch again, from this
    /// [`start_revision`](etcd_watch_core::WatchRequest::start_revision). `None` is a watch from now on that had
    /// delivered nothing: watch from now on again.
    ///
    /// After [`Lagged`](CloseReason::Lagged), [`NoLeader`](CloseReason::NoLeader) and
    /// [`Unreachable`](CloseReason::Unreachable); the last two come only with a deadline that you set.
    WatchAgain {
        /// The revision.
        from: Option<i64>,
    },
    /// There is a gap in the history, or the history is another one now. Read the keys and watch from the read's
    /// revision + 1, or open the mirror again.
    ///
    /// After [`Compacted`](CloseReason::Compacted), [`StoreChanged`](CloseReason::StoreChanged) and
    /// [`StoreRegressed`](CloseReason::StoreRegressed); for a mirror, which lists again by itself after those, also
    /// after [`NoLeader`](CloseReason::NoLeader) and [`Unreachable`](CloseReason::Unreachable).
    ListAgain,
    /// It would end in the same way again until the program or its settings change; the error's text says what.
    ///
    /// After [`TooLarge`](CloseReason::TooLarge), [`KeyTooLarge`](CloseReason::KeyTooLarge) and
    /// [`TooManyKeys`](CloseReason::TooManyKeys) (raise the limit, or watch fewer keys),
    /// [`AuthenticationFailed`](CloseReason::AuthenticationFailed) (build a client with the right name and password),
    /// [`Refused`](CloseReason::Refused) (the server's text says why) and [`Unsupported`](CloseReason::Unsupported) (check
    /// the endpoints: they are not etcd's).
    FixProgram,
    /// It would end in the same way again until the cluster's settings change; the error's text says what.
    ///
    /// After [`PermissionDenied`](CloseReason::PermissionDenied) (grant the user these keys),
    /// [`TokenRefused`](CloseReason::TokenRefused) (check the members' clocks and token settings; if the client has no
    /// user, give it one; if it was given a token, give it a valid one) and [`CancelledByServer`](CloseReason::CancelledByServer) (the server's text says why).
    FixCluster,
    /// The client has ended. To go on, build another one, and watch from where this watch was.
    ///
    /// After [`ShutDown`](CloseReason::ShutDown), which `Client::close` asks for, and
    /// [`RuntimeGone`](CloseReason::RuntimeGone).
    NewClient,
}

impl WatchError {
    /// The end of a watch, of which everything before `resume` was taken.
    pub(crate) fn of_watch(reason: CloseReason, resume: Option<i64>) -> Self {
        Self { reason, of: Of::Watch { resume } }
    }

    pub(crate) fn of_mirror(reason: CloseReason) -> Self {
        Self { reason, of: Of::Mirror }
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> &CloseReason {
        &self.reason
    }

    /// The reason, by value.
    #[must_use]
    pub fn into_reason(self) -> CloseReason {
        self.reason
    }

    /// What to do about it.
    ///
    /// ```
    /// use etcd_watch_client::{Client, Recovery, WatchError, WatchRequest};
    ///
    /// fn go_on(client: &Client, request: WatchRequest, error: WatchError) -> Result<(), Box<dyn std::error::Error>> {
    ///     match error.recovery() {
    ///         Recovery::WatchAgain { from } => {
    ///             let watch = client.watch(request.start_revision(from.unwrap_or(0)))?;
    ///             // Take from it as before.
    /// #           drop(watch);
    ///         }
    ///         Recovery::ListAgain => { /* read the keys, then watch from the read's revision + 1 */ }
    ///         _ => return Err(error.into()),
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match &self.reason {
            CloseReason::Lagged { next_revision, .. } => match self.of {
                Of::Watch { .. } => Recovery::WatchAgain { from: Some(*next_revision) },
                Of::Mirror => Recovery::ListAgain,
            },
            CloseReason::Cancelled | CloseReason::NoLeader { .. } | CloseReason::Unreachable { .. } => {
                match self.of {
                    Of::Watch { resume } => Recovery::WatchAgain { from: resume },
                    Of::Mirror => Recovery::ListAgain,
                }
            }
            CloseReason::Compacted { .. }
            | CloseReason::StoreChanged { .. }
            | CloseReason::StoreRegressed { .. } => Recovery::ListAgain,
            CloseReason::TooLarge { .. }
            | CloseReason::KeyTooLarge { .. }
            | CloseReason::TooManyKeys { .. }
            | CloseReason::AuthenticationFailed { .. }
            | CloseReason::Refused { .. }
            | CloseReason::Unsupported { .. } => Recovery::FixProgram,
            CloseReason::ShutDown | CloseReason::RuntimeGone => Recovery::NewClient,
            // What it is, the text says; so does that of a reason to come.
            _ => Recovery::FixCluster,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_was_given_up_goes_on_where_it_was_and_a_mirror_lists() {
        let unreachable = || CloseReason::Unreachable { millis: 1, last: String::new() };
        for resume in [None, Some(7)] {
            let error = WatchError::of_watch(unreachable(), resume);
            assert_eq!(error.recovery(), Recovery::WatchAgain { from: resume });
        }
        assert_eq!(WatchError::of_mirror(unreachable()).recovery(), Recovery::ListAgain);
        let lagged = CloseReason::Lagged { queued_bytes: 9, next_revision: 5 };
        // What waited was dropped: the reason knows better than what was taken.
        let error = WatchError::of_watch(lagged, Some(3));
        assert_eq!(error.recovery(), Recovery::WatchAgain { from: Some(5) });
    }

    #[test]
    fn every_other_end_says_who_has_to_do_something() {
        let recovery = |reason| WatchError::of_watch(reason, Some(7)).recovery();
        let message = String::new;
        let gone = CloseReason::Compacted { compact_revision: 9, next_revision: 7 };
        assert_eq!(recovery(gone), Recovery::ListAgain);
        assert_eq!(recovery(CloseReason::PermissionDenied { message: message() }), Recovery::FixCluster);
        assert_eq!(
            recovery(CloseReason::TokenRefused { tokens: 8, message: message() }),
            Recovery::FixCluster
        );
        assert_eq!(recovery(CloseReason::CancelledByServer { message: message() }), Recovery::FixCluster);
        assert_eq!(recovery(CloseReason::AuthenticationFailed { message: message() }), Recovery::FixProgram);
        assert_eq!(recovery(CloseReason::Unsupported { message: message() }), Recovery::FixProgram);
        for ended in [CloseReason::ShutDown, CloseReason::RuntimeGone] {
            assert_eq!(recovery(ended), Recovery::NewClient);
        }
    }
}

//! Denials that may be due to a connection's old token.
//!
//! A server looks at a connection's auth token when a watch is created on it, and some say "permission denied" when
//! they mean that it has expired. Whether the user may have the keys is found out by a read of them, for which the
//! driver uses its newest token: if that is denied too, the watch ends; if it is not, the connection is replaced by
//! one with a new token. One read at a time, so that many denials make no flood.
//!
//! ```text
//!   Creating --denied, with a token--> Denied --read denied, or refused otherwise--> Closed
//!                                        |  |
//!                                        |  +--read fails in a way that may pass--> Denied, after a backoff
//!                                        |
//!                                        +--read allowed, or its token refused--> Queued, connection replaced
//! ```
//!
//! A watch that is denied for the third time in a row ends without a read.

use crate::{CloseReason, Failure, RangeDone, Remedy, failure::final_reason, remedy};

/// What the read of denied keys comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The user may not have them: the watches end.
    Stands,
    /// The user may have them, so the connections' tokens are old.
    TokensExpired {
        /// Whether the token of reads is an old one, too.
        is_ours: bool,
    },
    /// The user's name or password is wrong: every watch that waits ends.
    BadCredentials(CloseReason),
    /// That remains to be seen.
    Unknown(Failure),
}

/// What the answer to a read of denied keys comes to.
pub(crate) fn judge(result: Result<RangeDone, Failure>) -> Denied {
    let Err(failure) = result else { return Denied::TokensExpired { is_ours: false } };
    let remedy = remedy(&failure);
    match (remedy, final_reason(remedy, &failure)) {
        (Remedy::Reauthenticate, _) => Denied::TokensExpired { is_ours: true },
        (Remedy::BadCredentials, Some(reason)) => Denied::BadCredentials(reason),
        (_, Some(_)) => Denied::Stands,
        (_, None) => Denied::Unknown(failure),
    }
}

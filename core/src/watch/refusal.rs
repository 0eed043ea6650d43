//! What it comes to when the server says no: it refuses to create a watch, or ends one that was running.

use alloc::string::{String, ToString};

use super::Watch;
use crate::{CloseReason, Instant, Remedy, StreamEnd, WatchConfig, failure::TOKEN_LIMIT};

/// How often in a row a watch may be refused, or ended by the server before it brought anything new, until that
/// counts as final.
const REFUSAL_LIMIT: u8 = 8;

/// How often in a row a watch may be refused before a denial is taken for what it says.
const DENIAL_LIMIT: u8 = 3;

/// What is said of a member that gives no reason.
const UNSAID: &str = "it sends watches away and does not say why";

/// What the machine must do about a watch, or because of it.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// End the watch.
    End(CloseReason),
    /// Create it again: at once, or after a pause when the server has sent it away before.
    Recreate {
        /// How often in a row the server had sent it away before this time.
        before: u32,
    },
    /// Replace the connection, since another member may do better; if this one serves other watches well, create the
    /// watch again there.
    TryElsewhere {
        /// How often in a row the server had sent it away before this time.
        before: u32,
        /// What the log is told.
        end: StreamEnd,
    },
    /// Find out whether the denial stands.
    LookInto {
        /// The server's text.
        message: String,
    },
    /// The server does not accept the connection's token.
    TokenRefused {
        /// The server's text.
        message: String,
    },
    /// The member is of no use: replace the connection.
    Replace {
        /// Where to go next.
        remedy: Remedy,
        /// What the log is told.
        end: StreamEnd,
    },
}

/// A create that was refused, or the end of a running watch by the server, without a compaction.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The server's text.
    pub(crate) message: String,
    /// Whether the watch was running.
    pub(crate) is_running: bool,
    /// Whether the connection carries a token, which may have expired.
    pub(crate) has_token: bool,
    /// Whether that is the last new token that the stream may have refused.
    pub(crate) is_last_token: bool,
}

impl Watch {
    /// What a refusal, or an end by the server, comes to.
    pub(crate) fn judge_refusal(&mut self, now: Instant, config: &WatchConfig, refusal: Refusal) -> Verdict {
        let Refusal { message, is_running, has_token, is_last_token } = refusal;
        let remedy = crate::failure::remedy_of_cancel(&message);
        if let Some(remedy @ (Remedy::NoLeader | Remedy::RetryElsewhere)) = remedy {
            // That concerns the member, and says nothing against the watch.
            return Verdict::Replace { remedy, end: StreamEnd::Unavailable { message } };
        }
        if self.live().is_some() && now.since(self.counts.since) >= config.backoff_ceiling {
            self.cancels = 0;
        }
        let times = if is_running { &mut self.cancels } else { &mut self.refusals };
        *times = times.saturating_add(1);
        let times = *times;
        // Without a reason, or with one that says nothing against the watch.
        let is_groundless = remedy == Some(Remedy::Retry) || (remedy.is_none() && message.is_empty());
        if is_groundless && times < REFUSAL_LIMIT {
            let before = u32::from(times) - 1;
            if before == 0 {
                return Verdict::Recreate { before };
            }
            let message = if message.is_empty() { UNSAID.to_string() } else { message };
            return Verdict::TryElsewhere { before, end: StreamEnd::Unavailable { message } };
        }
        // Other watches of the stream may do well with its tokens.
        let is_alone = u32::from(times) > TOKEN_LIMIT && !is_last_token;
        match remedy {
            Some(Remedy::Denied) if has_token && !is_running && times < DENIAL_LIMIT => {
                Verdict::LookInto { message }
            }
            Some(Remedy::BadCredentials) => Verdict::End(CloseReason::AuthenticationFailed { message }),
            Some(Remedy::Denied) => Verdict::End(CloseReason::PermissionDenied { message }),
            Some(Remedy::Reauthenticate) if is_alone => {
                Verdict::End(CloseReason::TokenRefused { tokens: TOKEN_LIMIT, message })
            }
            Some(Remedy::Reauthenticate) => Verdict::TokenRefused { message },
            None if is_running => Verdict::End(CloseReason::CancelledByServer { message }),
            _ => Verdict::End(CloseReason::Refused { message }),
        }
    }
}

//! Waiting out what may pass.

use std::{future::Future, time::Duration};

use etcd_watch_core::CloseReason;

use crate::{
    CallError, Client,
    toolkit::{self, Backoff, Pace, RuntimeGone},
};

/// Between two attempts at a call, which has waited for endpoints itself.
const PACE: Pace = Pace::new(Duration::from_millis(20), Duration::from_millis(100), Duration::from_secs(1));

/// The pauses of one wait.
pub(super) fn backoff(client: &Client) -> Backoff {
    client.backoff(PACE)
}

/// Waits before another attempt at a call. A loop that waits by this ends with its runtime.
pub(super) async fn pause(
    client: &Client,
    backoff: &mut Backoff,
    method: &'static str,
) -> Result<(), CallError> {
    let paused = toolkit::pause(client.runtime(), backoff.next_pause()).await;
    paused.map_err(|RuntimeGone| CallError::RuntimeGone { method })
}

/// Waits before a watch takes the place of one that has ended for this reason. History that is gone is no reason to
/// wait.
pub(super) async fn start_over(
    client: &Client,
    backoff: &mut Backoff,
    ended: &CloseReason,
) -> Result<(), CallError> {
    match ended {
        CloseReason::Compacted { .. } => Ok(()),
        _ => pause(client, backoff, "Watch").await,
    }
}

/// Makes a call until it goes well or can't.
pub(super) async fn persist<T, F: Future<Output = Result<T, CallError>>>(
    client: &Client,
    call: impl FnMut() -> F,
) -> Result<T, CallError> {
    persist_for(client, Duration::MAX, call).await
}

/// Makes a call until it goes well, can't, or has failed for so long.
pub(super) async fn persist_for<T, F: Future<Output = Result<T, CallError>>>(
    client: &Client,
    limit: Duration,
    mut call: impl FnMut() -> F,
) -> Result<T, CallError> {
    let began = client.runtime().now();
    let mut backoff = backoff(client);
    loop {
        match call().await {
            Err(error) if error.is_transient() && client.runtime().now().since(began) < limit => {
                let paused = toolkit::pause(client.runtime(), backoff.next_pause()).await;
                paused.map_err(|RuntimeGone| error)?;
            }
            result => return result,
        }
    }
}

//! Waiting out what may pass.

use std::{future::Future, time::Duration};

use super::error::may_pass;
use crate::{CallError, Client};

/// Between two attempts at a call, which has waited for endpoints itself.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// The client's runtime has shut down: there is nothing to wait for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RuntimeGone;

/// Waits. A loop that waits by this ends with its runtime: timers ring at once there, and the loop would never yield.
/// Half of the time is left to timers that are not exact.
pub(super) async fn pause(client: &Client, duration: Duration) -> Result<(), RuntimeGone> {
    let runtime = client.runtime();
    let began = runtime.now();
    runtime.sleep(duration).await;
    if runtime.now().since(began) < duration / 2 { Err(RuntimeGone) } else { Ok(()) }
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
    loop {
        match call().await {
            Err(error) if may_pass(&error) && client.runtime().now().since(began) < limit => {
                pause(client, PAUSE).await.map_err(|RuntimeGone| error)?;
            }
            result => return result,
        }
    }
}

//! The tools that locks, caches, configuration and discovery are built with, beside [`Client`](crate::Client),
//! [`Watch`](crate::Watch) and [`Mirror`](crate::Mirror). They are public so that recipes can live in crates of their
//! own: this crate's recipes use nothing that another crate can't use, and the project's tests compile them as another
//! crate to make sure of it.
//!
//! None of them wakes a task or drops a value of the application under a lock, and a task that stops waiting leaves
//! nothing behind. Three methods call their closure under a lock: [`WaitList::wake_if`], [`WaitList::max`] and
//! [`Watchable::change`], which also clones the value there. Such a closure must not use the same list or value.
//!
//! # Example
//!
//! Tries a call again, with the client's jitter, until it succeeds, fails for good, or the runtime shuts down:
//!
//! ```
//! use std::time::Duration;
//! use etcd_watch_client::{CallError, Client, GetResponse, toolkit::{Pace, RuntimeGone, pause}};
//!
//! const PACE: Pace =
//!     Pace::new(Duration::from_millis(20), Duration::from_millis(100), Duration::from_secs(1));
//!
//! async fn get_at_last(client: &Client, key: &str) -> Result<GetResponse, CallError> {
//!     let mut backoff = client.backoff(PACE);
//!     loop {
//!         match client.get(key).await {
//!             Err(error) if error.is_transient() => {
//!                 let paused = pause(client.runtime(), backoff.next_pause()).await;
//!                 paused.map_err(|RuntimeGone| error)?;
//!             }
//!             result => return result,
//!         }
//!     }
//! }
//! ```

#[cfg(feature = "metrics")]
pub use crate::metrics::{counter, gauge, histogram};
pub use crate::{
    health::Monitored,
    runtime::{Backoff, Moment, Pace, RuntimeGone, pause, timeout},
    sync::{Latch, LatchWait, WaitList, Waiter, Watchable, lock, wake_all},
};

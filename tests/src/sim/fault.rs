//! A fault that lasts for as long as somebody holds it.

use std::fmt;
use std::time::Duration;

/// A fault that lasts for as long as this value: dropping it ends the fault.
#[must_use = "dropping it ends the fault"]
pub struct Fault {
    end: Option<Box<dyn FnOnce() + Send>>,
}

impl Fault {
    pub(super) fn new(end: impl FnOnce() + Send + 'static) -> Self {
        Self { end: Some(Box::new(end)) }
    }

    /// Keeps the fault for so long in virtual time, and ends it. It ends at once if the future is dropped.
    pub async fn lasting(self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").finish_non_exhaustive()
    }
}

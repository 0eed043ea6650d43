//! What is tested: the user's code that takes what a mirror or a watch hands out.

use etcd_watch_core::{CloseReason, KeyRange, MirrorEvent, MirrorRequest, WatchRequest, WatchResponse};

use super::StoreAt;

/// Something that folds what a mirror hands out. What it may rely on is [`MirrorEvent`]'s documentation, and
/// it gets nothing but what that allows.
///
/// A panic is a failure too, so assertions may be anywhere.
pub trait MirrorConsumer {
    /// The mirror it wants. Default: one with every option at its default. The size of pages is the
    /// history's; what the request leaves open about a slow consumer is, too.
    fn request(&self, range: &KeyRange) -> MirrorRequest {
        MirrorRequest::new(range.clone())
    }

    /// Takes the next thing.
    fn handle(&mut self, event: MirrorEvent);

    /// Whether what it has made of all that is right. Called when the fold is exactly the store at a
    /// revision, and `store` is that: after `Synced` and after `Changes`. For a map of keys to values,
    /// [`StoreAt::expect_pairs`] is all; for what is derived from them, derive it from
    /// [`StoreAt::pairs`] in the most obvious way and compare.
    ///
    /// # Errors
    /// What is wrong, for the transcript.
    fn check(&self, store: &StoreAt) -> Result<(), String>;

    /// Whether what others see of it is right while it is told of a mix, after `Listing` and `Snapshot`, and
    /// after `Closed`. `last` is the store as it was when the fold was exactly that for the last time, if it
    /// ever was. Default: whatever it shows is right.
    ///
    /// # Errors
    /// What is wrong, for the transcript.
    fn check_between(&self, last: Option<&StoreAt>) -> Result<(), String> {
        let _ = last;
        Ok(())
    }

    /// Its process was stopped and started again, and a new mirror begins with its first list. `fresh` is
    /// what a start without any data makes. Default: it takes this one's place. A consumer that keeps
    /// something on disk hands that over.
    fn restart(&mut self, fresh: Self)
    where
        Self: Sized,
    {
        *self = fresh;
    }
}

/// Something that folds what a watch hands out, and sees itself to where it begins, to listing the keys, and
/// to what it stores for its next start.
///
/// ```text
///   start, restart, after closed --> watch() --- None ---> list(..) --> watch() --+
///                                       |                                         |
///                                       +--- Some(request) ----------------+      |
///                                                                          v      v
///                                                    handle(..), handle(..), ... closed(..)
/// ```
///
/// A panic is a failure too, so assertions may be anywhere.
pub trait WatchConsumer {
    /// The watch to open, by what is stored: of this range, from the revision that is next. `None` if nothing
    /// is stored, or nothing that can be gone on from: then the keys are listed first.
    ///
    /// A new watch knows nothing of the store that the last one watched, unless it is told by
    /// [`known_store`](WatchRequest::known_store): without, it goes on in whatever store answers by now.
    fn watch(&self, range: &KeyRange) -> Option<WatchRequest>;

    /// Takes the list of all keys of the range at one revision, in place of whatever it had.
    ///
    /// # Errors
    /// [`Crashed`] from [`Crash::point`]; nothing else is an error.
    fn list(&mut self, listed: &StoreAt, crash: &mut Crash) -> Result<(), Crashed>;

    /// Takes the next response.
    ///
    /// # Errors
    /// [`Crashed`] from [`Crash::point`]; nothing else is an error.
    fn handle(&mut self, response: &WatchResponse, crash: &mut Crash) -> Result<(), Crashed>;

    /// The watch has ended; [`watch`](Self::watch) is asked next, but for
    /// [`Cancelled`](CloseReason::Cancelled), which is how a history ends.
    fn closed(&mut self, reason: &CloseReason);

    /// Whether what it has made of all that is right: after a list and after each response, with the store
    /// as it was then. For a map of keys to values, [`StoreAt::expect_pairs`] is all; for what is derived
    /// from them, derive it from [`StoreAt::pairs`] in the most obvious way and compare.
    ///
    /// A consumer that stores the revision after what it made of the response comes to see a response again
    /// after a crash. So after a restart this isn't called before the watch has come to where it was.
    ///
    /// # Errors
    /// What is wrong, for the transcript.
    fn check(&self, store: &StoreAt) -> Result<(), String>;

    /// Its process was stopped and started again, between two responses or at a crash point. `fresh` is what
    /// a start without any data makes. Default: it takes this one's place. A consumer that keeps something on
    /// disk hands that over, and nothing else.
    fn restart(&mut self, fresh: Self)
    where
        Self: Sized,
    {
        *self = fresh;
    }
}

/// Where a process may crash, and whether it does.
#[derive(Debug, Default)]
pub struct Crash {
    countdown: Option<u32>,
    has_fired: bool,
}

impl Crash {
    /// Call this between two things that are stored one after the other.
    ///
    /// # Errors
    /// The process crashes here: return at once. [`restart`](WatchConsumer::restart) is called next.
    pub fn point(&mut self) -> Result<(), Crashed> {
        match &mut self.countdown {
            None => Ok(()),
            Some(0) => {
                self.has_fired = true;
                Err(Crashed(()))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    /// Crashes at the point after so many others; never, if there are none.
    pub(super) fn after(points: Option<u32>) -> Self {
        Self { countdown: points, has_fired: false }
    }

    pub(super) fn has_fired(&self) -> bool {
        self.has_fired
    }
}

/// The process has crashed, at a [`Crash::point`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process crashed")]
pub struct Crashed(());

//! A consumer of a watch: the real machine, the lists, and the one who takes.

use etcd_watch_core::{
    CloseReason, Delivery, Instant, ResponseKind, StartAt, WatchKey, WatchRequest, WatchResponse,
};

use super::sights;
use super::world::{Side, World, guarded};
use super::{Broken, Crash, Crashed, Sight, StoreAt, WatchConsumer, record};

/// How often in a row a consumer's watches may end without a word before it counts as never to go on.
const CLOSES: u32 = 20;

const UNNOTICED: &str = " (another store answers by now, and the consumer was not told so: a new watch only \
    notices if its request says what was known, by `WatchRequest::known_store`)";

pub(super) struct WatchSide<'a, C, F> {
    make: &'a F,
    consumer: C,
    /// `None` while the keys are to be listed.
    watch: Option<WatchKey>,
    /// Where the watch began.
    start: i64,
    /// The revision that the consumer has everything up to, as its watch and lists say.
    reached: i64,
    /// The same, but for what it only claims by where it begins.
    told: i64,
    /// The highest revision of the consumer's store that it has been told of.
    highest: i64,
    /// What the consumer has by now may be anything until it has come to this revision again.
    again: i64,
    crash: Crash,
    /// Watches that ended since the last response.
    closes: u32,
    has_ended: bool,
    sights: sights::Seen,
}

impl<'a, C: WatchConsumer, F: Fn() -> C> WatchSide<'a, C, F> {
    pub(super) fn new(world: &mut World, make: &'a F) -> Result<Self, Broken> {
        let mut side = Self {
            make,
            consumer: guarded(make)?,
            watch: None,
            start: 0,
            reached: 0,
            told: 0,
            highest: 0,
            again: 0,
            crash: Crash::default(),
            closes: 0,
            has_ended: false,
            sights: sights::Seen::default(),
        };
        side.begin(world)?;
        Ok(side)
    }

    /// Opens the watch that the consumer wants, if it wants one.
    fn begin(&mut self, world: &mut World) -> Result<(), Broken> {
        let range = &world.history.keyspace.range;
        let Some(request) = guarded(|| self.consumer.watch(range))? else { return Ok(()) };
        let wrong = |message: String| Broken::Request { message };
        if request.range() != range {
            return Err(wrong(
                "it is for another range than the history's: use the one that is given".to_owned(),
            ));
        }
        let StartAt::Revision(start) = request.start_at() else {
            let what = "a watch from now on misses what came before: use the revision behind what is stored";
            return Err(wrong(what.to_owned()));
        };
        self.open(world, request, start)
    }

    fn open(&mut self, world: &mut World, request: WatchRequest, start: i64) -> Result<(), Broken> {
        (self.start, self.reached, self.told) = (start, start - 1, 0);
        world.stores.dispel_doubt(self.reached);
        let opened = world.link.watcher.watch(world.now, request);
        self.watch = Some(opened.map_err(|error| Broken::Request { message: error.to_string() })?);
        world.record.note("consumer", || format!("watches from revision {start} on"));
        Ok(())
    }

    /// The consumer has been told of this revision, of the store it believes in.
    fn tell(&mut self, revision: i64) {
        (self.reached, self.told) = (revision, revision);
        self.highest = self.highest.max(revision);
    }

    fn check(&mut self, world: &mut World) -> Result<(), Broken> {
        let revision = self.reached;
        if revision < self.again {
            world.record.saw(Sight::SeenAgain);
            return Ok(());
        }
        self.again = 0;
        let hint = if world.stores.is_noticed() { "" } else { UNNOTICED };
        let Some(store) = world.stores.believed_at(revision) else {
            return Err(Broken::NoSuchRevision { revision, hint });
        };
        let checked = guarded(|| self.consumer.check(&store))?;
        checked.map_err(|message| Broken::Check { revision, message, hint })
    }

    fn response(&mut self, world: &mut World, response: &WatchResponse) -> Result<(), Broken> {
        world.record.note("consumer", || record::response(response));
        self.closes = 0;
        match response.kind() {
            ResponseKind::Events => self.sights.response(&mut world.record, response),
            ResponseKind::Progress => world.record.saw(Sight::ProgressOnly),
            _ => {}
        }
        let outcome = guarded(|| self.consumer.handle(response, &mut self.crash))?;
        self.tell(response.revision());
        if self.has_crashed(world, outcome)? { Ok(()) } else { self.check(world) }
    }

    fn list(&mut self, world: &mut World, listed: &StoreAt) -> Result<(), Broken> {
        world.record.note("consumer", || format!("a list at {}", record::contents(listed)));
        if listed.revision() < self.highest {
            world.record.saw(Sight::RevisionsFell);
        }
        let gone = self.sights.keys_not_in(listed);
        self.sights.removed(&mut world.record, gone.iter());
        listed.pairs().keys().for_each(|key| self.sights.has(key));
        world.stores.believe(world.stores.number_of_present());
        (self.highest, self.again) = (listed.revision(), 0);
        let outcome = guarded(|| self.consumer.list(listed, &mut self.crash))?;
        self.tell(listed.revision());
        if self.has_crashed(world, outcome)? {
            return Ok(());
        }
        self.check(world)?;
        self.begin(world)?;
        if self.watch.is_none() {
            let message = "after a list, `watch` must ask for the revision behind it".to_owned();
            return Err(Broken::Request { message });
        }
        Ok(())
    }

    /// Whether the process has crashed in a call; then it is started again.
    fn has_crashed(&mut self, world: &mut World, outcome: Result<(), Crashed>) -> Result<bool, Broken> {
        match outcome {
            Ok(()) if self.crash.has_fired() => Err(Broken::OutlivedACrash),
            Ok(()) => Ok(false),
            Err(crashed) => {
                world.record.saw(Sight::Crashed);
                world.record.note("consumer", || crashed.to_string());
                self.restart(world)?;
                Ok(true)
            }
        }
    }

    fn closed(&mut self, world: &mut World, reason: &CloseReason) -> Result<(), Broken> {
        world.record.note("consumer", || format!("Closed: {reason}"));
        let sight = match reason {
            CloseReason::Compacted { .. } => Some(Sight::Compacted),
            CloseReason::Lagged { .. } => Some(Sight::Lagged),
            CloseReason::TooLarge { .. } => Some(Sight::TooLarge),
            CloseReason::StoreChanged { .. } => Some(Sight::StoreChanged),
            CloseReason::StoreRegressed { .. } => Some(Sight::StoreRegressed),
            _ => None,
        };
        sight.into_iter().for_each(|sight| world.record.saw(sight));
        self.sights.compacted(matches!(reason, CloseReason::Compacted { .. }));
        self.watch = None;
        guarded(|| self.consumer.closed(reason))?;
        if self.has_ended {
            return Ok(());
        }
        self.closes += 1;
        if self.closes >= CLOSES {
            let message = format!(
                "its watch ended {CLOSES} times in a row, and it begins at revision {} again; the last time: {reason}",
                self.start
            );
            let newest = world.stores.present().revision();
            return Err(Broken::Stalled { newest, reached: self.told, message });
        }
        self.begin(world)
    }
}

impl<C: WatchConsumer, F: Fn() -> C> Side for WatchSide<'_, C, F> {
    fn settle(&mut self, world: &mut World) -> Result<(), Broken> {
        world.link.settle(world.stores.present_mut());
        Ok(())
    }

    fn answer(&mut self, world: &mut World) -> Result<bool, Broken> {
        if self.watch.is_some() || self.has_ended {
            return Ok(false);
        }
        let listed = world.stores.now();
        self.list(world, &listed)?;
        Ok(true)
    }

    /// The consumer's own read fails, which it repeats: nothing comes of that.
    fn refuse(&mut self, _world: &mut World) -> bool {
        false
    }

    fn take(&mut self, world: &mut World) -> Result<bool, Broken> {
        let Some(watch) = self.watch else { return Ok(false) };
        match world.link.watcher.next(world.now, watch) {
            Some(Delivery::Response(response)) => self.response(world, &response)?,
            Some(Delivery::Closed(reason)) => self.closed(world, &reason)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn ask_progress(&mut self, _world: &mut World) {}

    fn restart(&mut self, world: &mut World) -> Result<(), Broken> {
        world.restart_client();
        let fresh = guarded(self.make)?;
        guarded(|| self.consumer.restart(fresh))?;
        (self.watch, self.crash, self.again) = (None, Crash::default(), self.highest);
        self.begin(world)
    }

    fn crash(&mut self, points: Option<u32>) {
        self.crash = Crash::after(points);
    }

    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn seen(&self) -> i64 {
        self.reached
    }

    fn reached(&self) -> i64 {
        if self.watch.is_some() { self.told } else { 0 }
    }

    fn stalled(&self, world: &World) -> Broken {
        if !world.stores.is_noticed() {
            return Broken::Unnoticed { start: self.start };
        }
        let message = format!("its watch began at revision {}", self.start);
        Broken::Stalled { newest: world.stores.present().revision(), reached: self.told, message }
    }

    fn end(&mut self, world: &mut World) -> Result<(), Broken> {
        self.has_ended = true;
        if let Some(watch) = self.watch {
            let cancelled = world.link.watcher.cancel(world.now, watch);
            cancelled.map_err(|error| Broken::Request { message: error.to_string() })?;
        }
        while self.take(world)? {}
        Ok(())
    }
}

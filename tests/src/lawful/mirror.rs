//! A consumer of a mirror: the real machine, its driver, and the one who takes.

use etcd_watch_client::fuzzing::page;
use etcd_watch_core::{
    Code, Delivery, Failure as Fault, Instant, ListKey, ListReason, ListRequest, Mirror, MirrorAction,
    MirrorEvent, WatchKey,
};

use super::sights;
use super::world::{Side, World, guarded};
use super::{Broken, MirrorConsumer, Sight, StoreAt, record};

pub(super) struct MirrorSide<'a, C, F> {
    make: &'a F,
    consumer: C,
    mirror: Mirror,
    watch: Option<WatchKey>,
    asked: Option<(ListKey, ListRequest)>,
    /// The store that answered the list's first page.
    listed: usize,
    /// The revision of the list that is not complete.
    listing: Option<i64>,
    announced: i64,
    /// What the consumer was last told that its fold is.
    last: Option<StoreAt>,
    seen: sights::Seen,
}

impl<'a, C: MirrorConsumer, F: Fn() -> C> MirrorSide<'a, C, F> {
    pub(super) fn new(world: &World, make: &'a F) -> Result<Self, Broken> {
        let consumer = guarded(make)?;
        let mirror = new_mirror(world, &consumer)?;
        Ok(Self {
            make,
            consumer,
            mirror,
            watch: None,
            asked: None,
            listed: 0,
            listing: None,
            announced: 0,
            last: None,
            seen: sights::Seen::default(),
        })
    }

    fn act(&mut self, world: &mut World, action: MirrorAction) -> Result<(), Broken> {
        let refused = |error: etcd_watch_core::ApiMisuse| Broken::Request { message: error.to_string() };
        match action {
            MirrorAction::List { list, request } => self.asked = Some((list, request)),
            // Every answer is a page.
            MirrorAction::CloseList { .. } => {}
            MirrorAction::Watch(request) => {
                self.watch = Some(world.link.watcher.watch(world.now, request).map_err(refused)?);
            }
            MirrorAction::Cancel => {
                if let Some(watch) = self.watch.take() {
                    world.link.watcher.cancel(world.now, watch).map_err(refused)?;
                }
            }
            MirrorAction::RequestProgress => {
                if let Some(watch) = self.watch {
                    world.link.watcher.request_progress(world.now, watch).map_err(refused)?;
                }
            }
        }
        Ok(())
    }

    /// The driver hands on what the watch has, as far as the mirror wants it.
    fn feed(&mut self, world: &mut World) -> Result<(), Broken> {
        while self.mirror.wants_delivery()
            && let Some(watch) = self.watch
            && let Some(delivery) = world.link.watcher.next(world.now, watch)
        {
            if matches!(delivery, Delivery::Closed(_)) {
                self.watch = None;
            }
            self.mirror.handle_delivery(world.now, delivery);
            self.settle(world)?;
        }
        Ok(())
    }

    /// What an event means for the comparison, and for what has been seen.
    fn follow(&mut self, world: &mut World, event: &MirrorEvent) {
        match event {
            MirrorEvent::Listing { revision, reason } => self.follow_listing(world, *revision, reason),
            MirrorEvent::Snapshot(part) => {
                self.seen.removed(&mut world.record, part.deletes().iter());
                part.puts().iter().for_each(|kv| self.seen.has(&kv.key_bytes()));
            }
            MirrorEvent::Changes(response) => self.seen.response(&mut world.record, response),
            MirrorEvent::Synced { .. } if self.listing.take().is_none() => {
                world.record.saw(Sight::ProgressOnly);
            }
            _ => {}
        }
    }

    fn follow_listing(&mut self, world: &mut World, revision: i64, reason: &ListReason) {
        if self.listing.replace(revision).is_some() {
            world.record.saw(Sight::ListInList);
        }
        world.stores.believe(self.listed);
        let sight = match reason {
            ListReason::Compacted => Some(Sight::Compacted),
            ListReason::Lagged => Some(Sight::Lagged),
            ListReason::TooLarge => Some(Sight::TooLarge),
            ListReason::StoreChanged { .. } => Some(Sight::StoreChanged),
            ListReason::StoreRegressed { .. } => Some(Sight::StoreRegressed),
            _ => None,
        };
        sight.into_iter().for_each(|sight| world.record.saw(sight));
        self.seen.compacted(matches!(reason, ListReason::Compacted));
        if revision < self.announced {
            world.record.saw(Sight::RevisionsFell);
        }
        if reason.is_other_store() {
            self.announced = 0;
        }
    }

    fn check(&mut self, world: &World, synced: Option<i64>) -> Result<(), Broken> {
        let Some(revision) = synced else {
            let between = guarded(|| self.consumer.check_between(self.last.as_ref()))?;
            return between.map_err(|message| Broken::Between { message });
        };
        self.announced = revision;
        let Some(store) = world.stores.believed_at(revision) else {
            return Err(Broken::NoSuchRevision { revision, hint: "" });
        };
        let checked = guarded(|| self.consumer.check(&store))?;
        self.last = Some(store);
        checked.map_err(|message| Broken::Check { revision, message, hint: "" })
    }
}

impl<C: MirrorConsumer, F: Fn() -> C> Side for MirrorSide<'_, C, F> {
    fn settle(&mut self, world: &mut World) -> Result<(), Broken> {
        while let Some(action) = self.mirror.poll_action() {
            self.act(world, action)?;
        }
        world.link.settle(world.stores.present_mut());
        Ok(())
    }

    fn answer(&mut self, world: &mut World) -> Result<bool, Broken> {
        let Some((list, request)) = self.asked.take() else { return Ok(false) };
        if request.revision == 0 {
            self.listed = world.stores.number_of_present();
        }
        let answer = match world.stores.list(&request) {
            Ok(answer) => Ok(page(&answer)),
            Err(error) => Err(Fault::status(Code::OutOfRange as i32, error.to_string())),
        };
        self.mirror.handle_page(world.now, list, answer);
        Ok(true)
    }

    fn refuse(&mut self, world: &mut World) -> bool {
        let Some((list, _)) = self.asked.take() else { return false };
        self.mirror.handle_page(world.now, list, Err(Fault::connection("refused")));
        true
    }

    fn take(&mut self, world: &mut World) -> Result<bool, Broken> {
        self.feed(world)?;
        let Some(event) = self.mirror.next(world.now) else { return Ok(false) };
        world.record.note("consumer", || record::mirror_event(&event));
        self.follow(world, &event);
        let synced = event.synced_revision();
        guarded(|| self.consumer.handle(event))?;
        self.check(world, synced)?;
        Ok(true)
    }

    fn ask_progress(&mut self, world: &mut World) {
        self.mirror.request_progress(world.now);
    }

    fn restart(&mut self, world: &mut World) -> Result<(), Broken> {
        world.restart_client();
        let fresh = guarded(self.make)?;
        guarded(|| self.consumer.restart(fresh))?;
        self.mirror = new_mirror(world, &self.consumer)?;
        (self.watch, self.asked, self.listing, self.announced) = (None, None, None, 0);
        self.last = None;
        self.seen = sights::Seen::default();
        Ok(())
    }

    fn crash(&mut self, _points: Option<u32>) {}

    fn next_timeout(&self) -> Option<Instant> {
        self.mirror.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.mirror.handle_timeout(now);
    }

    fn seen(&self) -> i64 {
        self.announced.max(self.listing.unwrap_or(0))
    }

    fn reached(&self) -> i64 {
        if self.listing.is_none() { self.announced } else { 0 }
    }

    fn stalled(&self, world: &World) -> Broken {
        let (newest, reached) = (world.stores.present().revision(), self.announced);
        let message =
            "the mirror stands still, which is not the consumer's fault: please report it".to_owned();
        Broken::Stalled { newest, reached, message }
    }

    fn end(&mut self, world: &mut World) -> Result<(), Broken> {
        self.mirror.cancel(world.now);
        while self.take(world)? {}
        Ok(())
    }
}

fn new_mirror(world: &World, consumer: &impl MirrorConsumer) -> Result<Mirror, Broken> {
    let plan = world.history.plan();
    let range = &world.history.keyspace.range;
    let request = guarded(|| consumer.request(range))?.page_bytes(plan.page_bytes);
    if request.range() != range {
        let message = "it is for another range than the history's: use the one that is given".to_owned();
        return Err(Broken::Request { message });
    }
    Mirror::new(&world.config, request, plan.seed)
        .map_err(|error| Broken::Request { message: error.to_string() })
}

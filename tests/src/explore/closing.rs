//! Where nothing is left to happen: everybody has everything, and after that nothing is left behind.

use super::{
    step::Step,
    violation::{Broken, Promise, ensure},
    world::{Link, World},
};

/// More steps than it takes to end everything.
const STEPS_TO_END: usize = 200;

impl World<'_> {
    /// Holds a state in which nothing is left to happen to what it must be.
    pub(super) fn check_end(&self) -> Result<(), Broken> {
        for consumer in &self.consumers {
            let watch = consumer.watch;
            let state = || consumer.key.and_then(|key| self.machine.watch_stats(key));
            if !consumer.is_closed {
                let is_open = consumer.is_open() && consumer.cursor.is_some();
                ensure(is_open, Promise::Live, || {
                    format!("watch {watch} has not begun, or not ended: {:?}", state())
                })?;
                let lacks = consumer.lacks(self.plan, &self.store);
                ensure(lacks.is_empty(), Promise::Live, || {
                    format!("watch {watch} never gets {lacks:?}: {:?}", state())
                })?;
            }
            let served = self.served(watch);
            let wanted = usize::from(!consumer.is_closed);
            ensure(served == wanted, Promise::Leak, || {
                format!("the server has {served} watches that stand for watch {watch}, not {wanted}")
            })?;
        }
        let mut closing = Self { log: None, ..self.clone() };
        closing.end_all()?;
        closing.check_nothing_left()
    }

    /// How many watches the server has for one of the plan's.
    fn served(&self, watch: usize) -> usize {
        match &self.link {
            Link::Open { server, .. } => {
                server.watches.iter().filter(|served| usize::from(served.watch) == watch).count()
            }
            Link::None | Link::Opening(_) => 0,
        }
    }

    /// Cancels every watch and goes on until nothing happens any more.
    fn end_all(&mut self) -> Result<(), Broken> {
        for watch in 0..self.consumers.len() {
            if self.consumers[watch].is_open() {
                self.cancel(watch)?;
                self.settle()?;
            }
        }
        for _ in 0..STEPS_TO_END {
            let moves = self.moves();
            // The grace time of an empty stream comes last, after the server's answers.
            let next = moves.due.iter().find(|step| **step != Step::Timeout).or_else(|| moves.due.first());
            let Some(&step) = next else { return Ok(()) };
            self.apply(step)?;
        }
        Err(Broken::new(Promise::Ends, "after everything was cancelled, it goes on and on"))
    }

    fn check_nothing_left(&self) -> Result<(), Broken> {
        let stats = self.machine.stats();
        let is_empty = matches!(self.link, Link::None)
            && (stats.watches, stats.streams, stats.queued_bytes) == (0, 0, 0)
            && self.machine.poll_timeout().is_none()
            && self.consumers.iter().all(|consumer| consumer.is_closed);
        ensure(is_empty, Promise::Leak, || {
            format!("after everything was cancelled, this is left: {:?} {:?}", self.link, self.machine)
        })
    }
}

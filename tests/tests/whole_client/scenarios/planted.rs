//! Services and clients with a bug, which a scenario has to find.

use super::Scenario;
use super::alone::{agreement, config, consumer, discovery, election, linearizable, queue, session};
use super::configs::Reader;
use super::consumers::Saves;
use super::discoveries::Instance;
use super::elections::Candidate;
use super::linearizable::Puts;
use super::queue::Contender;
use super::register::{self, Holder};
use super::sessions::Service;
use super::told::Told;

/// What the bug is, what is told when it is found, and the scenario.
pub(crate) const PLANTED: [(&str, &str, Scenario); 22] = [
    ("watch: an event is left out", "a0 lacks an event of it", |world, _| {
        Box::pin(agreement(world, Told::WithoutAnEvent))
    }),
    ("watch: a revision in parts", "a0 has it in parts", |world, _| {
        Box::pin(agreement(world, Told::InParts))
    }),
    ("watch: it stops", "unknown whether they agree: a0 is at", |world, _| {
        Box::pin(agreement(world, Told::NotToTheEnd))
    }),
    ("consumer: a checkpoint within a revision", "never seen", |world, lasts| {
        Box::pin(consumer(world, lasts, Saves::Events))
    }),
    ("calls: a put that may have been executed is made again", "Once was broken", |world, _| {
        Box::pin(linearizable(world, Puts::Repeated))
    }),
    ("calls: a lost answer is taken for a refusal", "NotExecuted was broken", |world, _| {
        Box::pin(linearizable(world, Puts::Denied))
    }),
    ("session: an answer is remembered", "believes in a lease", |world, lasts| {
        Box::pin(session(world, lasts, Service::Remembers))
    }),
    ("session: a clock that sleeps", "believes in a lease", |world, lasts| {
        Box::pin(session(world, lasts, Service::SleepyClock))
    }),
    ("session: a timer that sleeps", "the lease had ended", |world, lasts| {
        Box::pin(session(world, lasts, Service::Timer))
    }),
    ("mutex: no look after the wait", "before its turn", |world, lasts| {
        Box::pin(queue(world, lasts, Contender::WithoutLooking))
    }),
    ("mutex: no fencing token", "the owner", |world, lasts| {
        Box::pin(queue(world, lasts, Contender::Unconditional))
    }),
    ("mutex: additions without the fencing token", "additions are lost", |world, lasts| {
        Box::pin(register::nothing_is_lost(world, lasts, Holder::Believes))
    }),
    ("queue: a place that is given up", "had to queue again", |world, lasts| {
        Box::pin(queue(world, lasts, Contender::Impatient))
    }),
    ("queue: a lock that is never unlocked", "everybody has had the lock", |world, lasts| {
        Box::pin(queue(world, lasts, Contender::Forgets))
    }),
    ("election: a value without the lease", "everybody has led", |world, lasts| {
        Box::pin(election(world, lasts, Candidate::PlainPut))
    }),
    ("election: no fencing token", "the owner", |world, lasts| {
        Box::pin(election(world, lasts, Candidate::Unconditional))
    }),
    ("election: an observer that polls", "missed a leader", |world, lasts| {
        Box::pin(election(world, lasts, Candidate::Polled))
    }),
    ("config: two values for one", "not the last good value", |world, lasts| {
        Box::pin(config(world, lasts, Reader::TwoValues))
    }),
    ("config: nought for nonsense", "not the last good value", |world, lasts| {
        Box::pin(config(world, lasts, Reader::Defaults))
    }),
    ("discovery: no lease", "after its end", |world, lasts| {
        Box::pin(discovery(world, lasts, Instance::WithoutLease))
    }),
    ("discovery: one put", "are alive", |world, lasts| Box::pin(discovery(world, lasts, Instance::PutsOnce))),
    ("discovery: nothing is removed", "are known", |world, lasts| {
        Box::pin(discovery(world, lasts, Instance::OnlyAdded))
    }),
];

//! What a soak is to be like.

use std::time::Duration;

use etcd_watch_testkit::harness::EtcdVersion;

use crate::faults::Fault;

/// What a soak is to be like. Start from [`Settings::new`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server.
    pub version: EtcdVersion,
    /// How long faults and writes go on. A run goes on for longer if by then not every kind of fault has been used.
    pub duration: Duration,
    /// Decides what is written, watched and broken. When each of it happens is up to the machine.
    pub seed: u64,
    /// How many watches there are at any time.
    pub watches: usize,
    /// How many writes a second, about, all writers together.
    pub writes_per_second: u32,
    /// For how long a fault lasts, at least and at most.
    pub fault: (Duration, Duration),
    /// How long the cluster is left in peace between two faults, at least and at most.
    pub peace: (Duration, Duration),
    /// How often all members go back to a snapshot; the first time is when every other fault has been used.
    pub restore_every: Duration,
    /// The kinds of faults: each is used. One that can't be had on this machine, or with this server, is left out, and the
    /// report tells of it.
    pub faults: Vec<Fault>,
    /// Whether this process has a network and mounts of its own: some kinds of faults need them.
    pub is_apart: bool,
    /// How long anything may take before it counts as hanging.
    pub patience: Duration,
    /// What is done to deliveries, calls or contenders before they are checked, to show that the checks notice.
    pub sabotage: Option<Sabotage>,
}

/// A way to make a soak fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// One event in so many, over all watches, is lost.
    DropEvent(u64),
    /// One call in so many is not written down, as if its client had made it in secret.
    ForgetCall(u64),
    /// Contenders write once more after they have left, without the condition that they hold the lock.
    WriteUnfenced,
    /// Contenders write before their turn, by the condition that their key is there.
    JumpQueue,
    /// Contenders believe in their turn though their lease was taken away.
    Believe,
    /// One leader in so many, over all observers, is not seen.
    MissLeader(u64),
}

impl Settings {
    /// Some 240 watches, 250 writes a second, and a fault every few seconds.
    #[must_use]
    pub fn new(version: EtcdVersion, duration: Duration, seed: u64) -> Self {
        Self {
            version,
            duration,
            seed,
            watches: 240,
            writes_per_second: 250,
            fault: (Duration::from_millis(500), Duration::from_secs(8)),
            peace: (Duration::from_millis(500), Duration::from_secs(4)),
            restore_every: Duration::from_secs(240),
            faults: Fault::ALL.to_vec(),
            is_apart: false,
            patience: Duration::from_secs(120),
            sabotage: None,
        }
    }

    /// The same on a machine that is busy with other things, with short faults.
    #[must_use]
    pub fn light(self) -> Self {
        Self {
            watches: 60,
            writes_per_second: 60,
            fault: (Duration::from_millis(300), Duration::from_millis(1500)),
            peace: (Duration::from_millis(200), Duration::from_millis(600)),
            ..self
        }
    }
}

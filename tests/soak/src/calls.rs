//! Calls that are written down, and checked as a whole when everything comes to rest.

use std::{sync::Arc, time::Duration};

use etcd_watch_testkit::{
    harness::binaries::Version,
    linearizable::{Checked, Kinds, RecordedClient, Recorder, Truth, Workload, check},
    model::ModelConfig,
};
use tokio::{task::JoinHandle, time::MissedTickBehavior};

use crate::{
    clients::NamedClient, clock::Clock, finding::Finding, keys::CALLS, sabotage::Saboteur,
    settings::Settings, writers::Gate,
};

/// Few, so that calls meet.
const KEYS: u32 = 8;

/// No renewals: a member that was frozen and has lost its lead meanwhile may still answer one. Nothing is renewed then, and
/// the lease would seem to end before its time. No bare reads: a cluster may have members of 3.7 and of the lines before.
const KINDS: Kinds = Kinds { leases: true, renewals: false, past: true, bare_reads: false, given_up: 40 };

/// A part of the load: one call for so many writes.
const WRITES_PER_CALL: u32 = 4;

/// Tasks that make calls until they are dropped.
pub(crate) struct Callers {
    recorder: Recorder,
    saboteur: Saboteur,
    tasks: Vec<JoinHandle<()>>,
}

impl Callers {
    pub(crate) fn start(clients: &[NamedClient], gate: &Gate, settings: &Settings) -> Self {
        let (writes_per_second, seed) = (settings.writes_per_second, settings.seed);
        let recorder = Recorder::new();
        let count = u32::try_from(clients.len()).unwrap_or(u32::MAX).max(1);
        let pace = Duration::from_secs(1) * count * WRITES_PER_CALL / writes_per_second.max(1);
        let tasks = (0..).zip(clients).map(|(number, client)| {
            let recorded = recorder.client(client.client.clone());
            tokio::spawn(call_on(recorded, gate.clone(), pace, seed.wrapping_add(number)))
        });
        let saboteur = Saboteur::new(settings.sabotage, seed);
        Self { tasks: tasks.collect(), recorder, saboteur }
    }

    /// Holds what was written down against what happened, and forgets it. Nobody may call meanwhile.
    ///
    /// # Errors
    /// Every promise that was broken.
    pub(crate) fn check(&self, truth: &Truth, version: Version) -> Result<Checked, Vec<Finding>> {
        let mut history = self.recorder.history();
        self.recorder.clear();
        self.saboteur.meddle_with_calls(&mut history);
        check(&history, truth, &ModelConfig::like(version)).map_err(|violations| {
            let finding = |violation: etcd_watch_testkit::linearizable::Violation| {
                let operation = violation.operation.and_then(|operation| history.get(operation));
                Finding {
                    details: operation.map(|operation| format!("{operation:?}")).into_iter().collect(),
                    ..Finding::of("calls", violation.to_string())
                }
            };
            violations.into_iter().map(finding).collect()
        })
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Makes calls, but none while somebody holds the gate for writing. Each store has a clock of its own. When there is another
/// one, it begins anew: leases and revisions that it has heard of are those of the store before.
async fn call_on(client: RecordedClient, gate: Gate, pace: Duration, seed: u64) {
    let mut known: Option<(Arc<Clock>, Workload)> = None;
    let mut stores = 0;
    let mut ticks = tokio::time::interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let clock = gate.read().await;
        let workload = match &mut known {
            Some((of, workload)) if Arc::ptr_eq(of, &clock) => workload,
            known => {
                let seed = seed.wrapping_add(stores * 1_000);
                stores += 1;
                let workload = Workload::new(client.clone(), CALLS, KEYS, KINDS, seed);
                &mut known.insert((clock.clone(), workload)).1
            }
        };
        workload.step(None).await;
    }
}

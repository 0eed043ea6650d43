//! What the client promises, each as a scenario that runs with any seed: here a few of them, and thousands by the
//! example `simulate-client`.

pub(crate) mod agreement;
mod caches;
mod calls;
pub(crate) mod linearizable;
mod locks;
mod sleepers;
pub(crate) mod told;
mod watch;

use std::time::Duration;

use etcd_watch_client::{BoxError, BoxFuture};
use etcd_watch_testkit::sim::{Failure, Report, Sim, World};

use linearizable::Puts;
use told::Told;

/// A promise, and what checks it.
pub(crate) type Scenario = fn(World) -> BoxFuture<'static, Result<(), BoxError>>;

/// All of them, by name.
pub(crate) const ALL: [(&str, Scenario); 7] = [
    ("watch", |world| Box::pin(watch::receives_exactly_the_history(world))),
    ("agreement", |world| Box::pin(agreement::watches_agree(world, Told::Truly))),
    ("calls", |world| Box::pin(calls::tell_what_became_of_them(world))),
    ("linearizable", |world| Box::pin(linearizable::calls_are_those_of_one_store(world, Puts::AsTheyAre))),
    ("lock", |world| Box::pin(locks::one_holder_at_a_time(world))),
    ("sleeper", |world| Box::pin(sleepers::a_session_is_lost_when_its_host_wakes_up(world))),
    ("cache", |world| Box::pin(caches::always_the_store_at_one_revision(world))),
];

/// Runs one of them with seeds.
pub(crate) fn run(name: &str, seeds: impl IntoIterator<Item = u64>) -> Result<Report, Box<Failure>> {
    let (_, scenario) = ALL.into_iter().find(|(known, _)| *known == name).expect("a scenario");
    // Hosts may be suspended for an hour at a time.
    Sim::new().limit(Duration::from_secs(7 * 86_400)).run_seeds(seeds, scenario)
}

/// Waits for what has to come once all is well.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> Result<T, BoxError> {
    let waited = tokio::time::timeout(Duration::from_secs(300), future).await;
    waited.map_err(|_| format!("not within five minutes of calm: {what}").into())
}

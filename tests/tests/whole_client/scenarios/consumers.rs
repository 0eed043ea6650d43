//! A consumer whose process is killed again and again, and goes on behind its checkpoint.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_watch_client::{BoxError, Client, KeyRange, WatchRequest};
use etcd_watch_proto::etcdserverpb::{PutRequest, request_op::Request};
use etcd_watch_testkit::sim::{Etcd, Host};

use super::stage::{Stage, lock, up_to};
use super::truth;

/// When a consumer saves its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Saves {
    /// After all events of a revision.
    Revisions,
    /// After each event, though the revision may have more of them.
    Events,
}

/// What outlives a process.
#[derive(Debug, Default)]
struct Disk {
    checkpoint: i64,
    seen: BTreeSet<(i64, Vec<u8>)>,
}

type Shared = Arc<Mutex<Disk>>;

fn with<T>(disk: &Shared, work: impl FnOnce(&mut Disk) -> T) -> T {
    work(&mut lock(disk))
}

/// The consumer's process is killed now and then; in the end it has seen everything. The storm must not compact.
pub(super) async fn everything_is_seen(stage: Stage, host: Host, saves: Saves) -> Result<(), BoxError> {
    let (world, disk, mut rng) = (stage.world(), Shared::default(), stage.world().rng());
    let start = || {
        let client = host.client().connect_lazy()?;
        Ok::<_, BoxError>(host.spawn(consume(client, host.clone(), disk.clone(), saves)))
    };
    let mut process = start()?;
    let mut dies = world.now() + up_to(&mut rng, 6000);
    while !stage.is_calm() {
        write(world.etcd());
        stage.pause(&mut rng, 1000).await;
        if world.now() > dies {
            host.kill();
            assert!(process.await.is_none(), "it is killed");
            process = start()?;
            dies = world.now() + up_to(&mut rng, 6000);
        }
    }
    world.sleep(Duration::from_secs(60)).await;
    for event in world.etcd().history() {
        let kv = event.kv.unwrap_or_default();
        if !with(&disk, |disk| disk.seen.contains(&(kv.mod_revision, kv.key.to_vec()))) {
            return Err(format!("never seen: {:?} at {}", kv.key, kv.mod_revision).into());
        }
    }
    Ok(())
}

/// Three keys at one revision.
fn write(etcd: &Etcd) {
    let put = |key: u8| PutRequest { key: vec![b'k', b'0' + key].into(), ..PutRequest::default() };
    truth::write(etcd, (0..3).map(|key| Request::RequestPut(put(key))));
}

/// Works on events, and goes on behind the checkpoint.
async fn consume(client: Client, host: Host, disk: Shared, saves: Saves) -> Result<(), BoxError> {
    let from = with(&disk, |disk| disk.checkpoint) + 1;
    let mut watch = client.watch(WatchRequest::new(KeyRange::prefix("k")).start_revision(from))?;
    while let Some(response) = watch.try_next().await? {
        let events: Vec<_> =
            response.events().map(|event| (event.mod_revision(), event.key().to_vec())).collect();
        let last = events.last().map(|(revision, _)| *revision);
        for (revision, key) in events {
            host.sleep(Duration::from_millis(20)).await;
            with(&disk, |disk| disk.seen.insert((revision, key)));
            if saves == Saves::Events {
                with(&disk, |disk| disk.checkpoint = revision);
            }
        }
        if let Some(last) = last {
            with(&disk, |disk| disk.checkpoint = last);
        }
    }
    Ok(())
}

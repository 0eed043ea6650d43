//! A call tells what became of it.

use std::time::Duration;

use etcd_watch_client::BoxError;
use etcd_watch_testkit::sim::{Faults, World};

use super::soon;

/// What a put has told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Done(i64),
    NotDone,
    MaybeDone,
}

/// Each key is put once: it is in the history once if that went well, never if it surely did not, and never twice.
pub(super) async fn tell_what_became_of_them(world: World) -> Result<(), BoxError> {
    const HOSTS: [&str; 3] = ["a", "b", "c"];
    let writers: Vec<_> = HOSTS.into_iter().map(|name| (name, world.host(name))).collect();
    world.faults(Faults::all().every(Duration::from_secs(1))).await;
    let mut tasks = Vec::new();
    for (name, host) in writers {
        let (client, mut rng) = (host.client().connect_lazy()?, world.rng());
        tasks.push(host.spawn(async move {
            let mut told = Vec::new();
            for count in 0..40 {
                let key = format!("{name}{count}");
                let became = match client.put(key.clone(), vec![b'v'; rng.usize(..5000)]).await {
                    Ok(put) => Told::Done(put.revision()),
                    Err(error) if error.may_have_executed() => Told::MaybeDone,
                    Err(_) => Told::NotDone,
                };
                told.push((key, became));
                tokio::time::sleep(Duration::from_millis(rng.u64(..500))).await;
            }
            (client, told)
        }));
    }
    world.sleep(Duration::from_secs(60)).await;
    world.calm().await;
    for task in tasks {
        let (client, told) = soon("the writers' end", task).await?.ok_or("a writer has died")?;
        // The first ones may go out on a connection that is half-open.
        let put = async { while client.put("calm", "").await.is_err() {} };
        soon("a put in calm", put).await?;
        let history = world.etcd().history();
        for (key, became) in told {
            let kvs = history.iter().filter_map(|event| event.kv.as_ref()).filter(|kv| kv.key == key);
            let revisions: Vec<i64> = kvs.map(|kv| kv.mod_revision).collect();
            let is_true = match became {
                Told::Done(revision) => revisions == [revision],
                Told::NotDone => revisions.is_empty(),
                Told::MaybeDone => revisions.len() <= 1,
            };
            if !is_true {
                return Err(format!("{key} was told to be {became:?}, and was put at {revisions:?}").into());
            }
        }
    }
    Ok(())
}

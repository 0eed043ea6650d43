//! A call tells what became of it.

use etcd_watch_client::{BoxError, Client};
use etcd_watch_testkit::sim::Etcd;

use super::stage::{Site, Stage, soon};

/// What a put has told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Done(i64),
    NotDone,
    MaybeDone,
}

/// Each key is put once: it is in the history once if that went well, never if it surely did not, and never twice.
pub(super) async fn tell_what_became_of_them(stage: Stage, sites: Vec<Site>) -> Result<(), BoxError> {
    let (mut tasks, mut count) = (Vec::new(), 0);
    for Site { host, client } in sites {
        let puts = put_once_each(stage.clone(), host.name().to_owned(), client.clone());
        tasks.push((client, host.spawn(puts)));
    }
    stage.calm().await;
    for (client, task) in tasks {
        let told = soon("the writers' end", task).await?.ok_or("a writer has died")?;
        // The first ones may go out on a connection that is half-open.
        let put = async { while client.put("calm", "").await.is_err() {} };
        soon("a put in calm", put).await?;
        check(stage.world().etcd(), &told)?;
        count += told.len();
    }
    // A host may be suspended for nearly all of the time.
    if count < 10 { Err(format!("hardly anything was put: {count} keys").into()) } else { Ok(()) }
}

async fn put_once_each(stage: Stage, name: String, client: Client) -> Vec<(String, Told)> {
    let (mut rng, mut told) = (stage.world().rng(), Vec::new());
    while !stage.is_calm() {
        let key = format!("{name}{}", told.len());
        let became = match client.put(key.clone(), vec![b'v'; rng.usize(..5000)]).await {
            Ok(put) => Told::Done(put.revision()),
            Err(error) if error.may_have_executed() => Told::MaybeDone,
            Err(_) => Told::NotDone,
        };
        told.push((key, became));
        stage.pause(&mut rng, 500).await;
    }
    told
}

fn check(etcd: &Etcd, told: &[(String, Told)]) -> Result<(), BoxError> {
    let history = etcd.history();
    for (key, became) in told {
        let kvs = history.iter().filter_map(|event| event.kv.as_ref()).filter(|kv| kv.key == *key);
        let revisions: Vec<i64> = kvs.map(|kv| kv.mod_revision).collect();
        let is_true = match became {
            Told::Done(revision) => revisions == [*revision],
            Told::NotDone => revisions.is_empty(),
            Told::MaybeDone => revisions.len() <= 1,
        };
        if !is_true {
            return Err(format!("{key} was told to be {became:?}, and was put at {revisions:?}").into());
        }
    }
    Ok(())
}

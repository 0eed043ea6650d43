//! A lock, a cache and a mirror on smol: writes a key while it holds a lock, and reads it back in both ways.
//! `cargo run -p etcd-watch-smol --example recipes -- http://127.0.0.1:2379 settings/`
//!
//! Run it several times at once: one after the other gets the lock, and sees what those before it have written.
#![allow(clippy::print_stdout, reason = "it is what the example is for")]

use std::collections::BTreeMap;

use etcd_watch_smol::{
    BoxError, Client, EventKind, KeyRange, MirrorEvent, MirrorRequest, Put, Txn,
    cache::CacheRequest,
    concurrency::{Mutex, MutexGuard, Name, Session},
};

fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().unwrap_or_else(|| "http://127.0.0.1:2379".into());
    let prefix = arguments.next().unwrap_or_else(|| "settings/".into());
    smol::block_on(async {
        for (key, value) in recipes(&endpoint, &prefix).await? {
            println!("{key} = {value}");
        }
        Ok(())
    })
}

/// What is under the prefix once it has written there.
pub(crate) async fn recipes(endpoint: &str, prefix: &str) -> Result<BTreeMap<String, String>, BoxError> {
    let client = etcd_watch_smol::connect([endpoint]).await?;
    let name = Name::new("locks/recipes")?;
    let session = Session::open(&client).await?;
    println!("waiting for the lock");
    let guard = Mutex::new(&session, name).lock().await?;
    println!("holding {}, fencing token {}", guard.key().escape_ascii(), guard.fencing_token());
    let written = write(&client, &guard, format!("{prefix}{}", guard.fencing_token())).await?;

    // A cache answers from memory, at least as new as is asked for.
    let range = KeyRange::prefix(prefix.to_owned());
    let cache = client.cache(CacheRequest::new(range.clone()))?;
    println!("{} keys are cached", cache.wait_for(written).await?.len());

    let keys = mirrored(&client, range, written).await?;
    guard.unlock().await?;
    session.close().await?;
    client.close().await;
    Ok(keys)
}

/// Writes only if the lock is still held when the server executes it.
async fn write(client: &Client, guard: &MutexGuard, key: String) -> Result<i64, BoxError> {
    let write = Txn::new().when(guard.is_owner()).and_then(Put::new(key, "written under the lock"));
    let written = client.txn(write).await?;
    if !written.succeeded() {
        return Err("the lock was lost".into());
    }
    Ok(written.revision())
}

/// Folds a mirror until it is past a revision.
async fn mirrored(
    client: &Client,
    range: KeyRange,
    revision: i64,
) -> Result<BTreeMap<String, String>, BoxError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut mirror = client.mirror(MirrorRequest::new(range))?;
    let mut keys = BTreeMap::new();
    while let Some(event) = mirror.try_next().await? {
        match &event {
            MirrorEvent::Snapshot(part) => {
                part.deletes().iter().for_each(|key| drop(keys.remove(&text(key))));
                keys.extend(part.puts().iter().map(|kv| (text(kv.key()), text(kv.value()))));
            }
            MirrorEvent::Changes(response) => {
                for event in response.events() {
                    match event.kind() {
                        EventKind::Delete => keys.remove(&text(event.key())),
                        _ => keys.insert(text(event.key()), text(event.value())),
                    };
                }
            }
            _ => {}
        }
        if event.synced_revision() >= Some(revision) {
            break;
        }
    }
    Ok(keys)
}

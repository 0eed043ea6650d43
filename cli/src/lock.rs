//! `lock`.

use anyhow::{Context, anyhow, bail};
use etcd_watch_tokio::{
    Client, Get, WatchConfig,
    concurrency::{Mutex, MutexGuard, Name, Session},
};

use crate::{
    args::{Global, LockArgs},
    connect,
    ending::Ending,
    held,
    kv::print,
    output::{Printer, Show},
    signals::Signals,
};

pub(crate) async fn run(global: &Global, args: &LockArgs) -> anyhow::Result<Ending> {
    let name = Name::new(&args.name)?;
    let mut signals = Signals::listen();
    let client = tokio::select! {
        client = connect::connect(global, WatchConfig::default()) => client?,
        signal = signals.next() => return Ok(Ending::Signal(signal)),
    };
    let ending = contend(global, args, name, &client, &mut signals).await;
    connect::close(&client).await;
    ending
}

/// Takes the lock, and leaves it at the end.
async fn contend(
    global: &Global,
    args: &LockArgs,
    name: Name,
    client: &Client,
    signals: &mut Signals,
) -> anyhow::Result<Ending> {
    let session = tokio::select! {
        session = Session::builder(client).ttl(args.ttl).open() => session.context("can't open a session")?,
        signal = signals.next() => return Ok(Ending::Signal(signal)),
    };
    let mutex = Mutex::new(&session, name);
    let guard = tokio::select! {
        guard = mutex.lock() => guard.context("can't take the lock")?,
        signal = signals.next() => {
            // The place in the queue goes with the lease.
            connect::close_session(&session).await;
            return Ok(Ending::Signal(signal));
        }
    };
    let held = if args.command.is_empty() {
        hold(global, &session, &guard, signals).await
    } else {
        held::run(&args.command, &guard, signals).await
    };
    match held {
        Ok(status) => {
            tokio::select! {
                unlocked = guard.unlock() => unlocked.context("can't unlock")?,
                // Somebody is in a hurry.
                signal = signals.next() => return Ok(Ending::Signal(signal)),
            }
            // Its lease is of no more use; if it can't be revoked, it ends by itself.
            connect::close_session(&session).await;
            Ok(status)
        }
        Err(error) => {
            // Nobody else has to wait for what has failed; the key goes with the lease.
            connect::close_session(&session).await;
            Err(error)
        }
    }
}

/// Prints the key that holds the lock, and waits for a signal.
async fn hold(
    global: &Global,
    session: &Session,
    guard: &MutexGuard,
    signals: &mut Signals,
) -> anyhow::Result<Ending> {
    let response = session.client().get(Get::key(guard.key().clone())).await?;
    if response.kvs().is_empty() {
        bail!("the lock was lost at once: its key is gone");
    }
    print(|out| Printer::new(global).get(out, &response, Show::Pairs))?;
    tokio::select! {
        signal = signals.next() => Ok(Ending::Signal(signal)),
        lost = guard.lost() => Err(anyhow!(lost).context("the lock is lost")),
    }
}

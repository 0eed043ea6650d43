//! `lock`.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, anyhow, bail};
use etcd_watch_tokio::{
    Config, Get,
    concurrency::{Mutex, MutexGuard, Name, Session},
};
use tokio::time::timeout;

use crate::{
    args::{Global, LockArgs},
    connect, held,
    kv::print,
    output::{Printer, Show},
    signals::Signals,
};

/// How long the server may take to hear that nobody waits any more.
const GOODBYE: Duration = Duration::from_secs(1);

pub(crate) async fn run(global: &Global, args: &LockArgs) -> anyhow::Result<ExitCode> {
    let name = Name::new(&args.name)?;
    let mut signals = Signals::listen();
    let opening = async {
        let client = connect::connect(global, Config::default()).await?;
        Session::builder(&client).ttl(args.ttl).open().await.context("can't open a session")
    };
    let session = tokio::select! {
        session = opening => session?,
        signal = signals.next() => return Ok(signal.exit_code()),
    };
    let mutex = Mutex::new(&session, name);
    let guard = tokio::select! {
        guard = mutex.lock() => guard.context("can't take the lock")?,
        signal = signals.next() => {
            // The place in the queue goes with the lease.
            let _ = timeout(GOODBYE, session.close()).await;
            return Ok(signal.exit_code());
        }
    };
    let held = if args.command.is_empty() {
        hold(global, &session, &guard, &mut signals).await
    } else {
        held::run(&args.command, &guard, &mut signals).await
    };
    match held {
        Ok(status) => {
            tokio::select! {
                unlocked = guard.unlock() => unlocked.context("can't unlock")?,
                // Somebody is in a hurry.
                signal = signals.next() => return Ok(signal.exit_code()),
            }
            // Its lease is of no more use; if it can't be revoked, it ends by itself.
            let _ = timeout(GOODBYE, session.close()).await;
            Ok(status)
        }
        Err(error) => {
            // Nobody else has to wait for what has failed; the key goes with the lease.
            let _ = timeout(GOODBYE, session.close()).await;
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
) -> anyhow::Result<ExitCode> {
    let response = session.client().get(Get::key(guard.key().clone())).await?;
    if response.kvs.is_empty() {
        bail!("the lock was lost at once: its key is gone");
    }
    print(|out| Printer::new(global).get(out, &response, Show::Pairs))?;
    tokio::select! {
        _ = signals.next() => Ok(ExitCode::SUCCESS),
        lost = guard.lost() => Err(anyhow!(lost).context("the lock is lost")),
    }
}

//! `get`, `put` and `del`.

use std::io::{self, IsTerminal, Read, Write};

use anyhow::{Context, bail};
use bytes::Bytes;
use etcd_watch_tokio::{Delete, Get, Put, WatchConfig};

use crate::{
    args::{DelArgs, GetArgs, Global, PutArgs},
    connect,
    ending::Ending,
    output::{Printer, Show},
};

pub(crate) async fn get(global: &Global, args: &GetArgs) -> anyhow::Result<Ending> {
    let get = Get::new(connect::range(&args.keys)?)
        .revision(args.rev)
        .limit(args.limit)
        .keys_only(args.keys_only)
        .count_only(args.count_only);
    let show = match args {
        GetArgs { count_only: true, .. } => Show::Count,
        GetArgs { print_value_only: true, .. } => Show::Values,
        _ => Show::Pairs,
    };
    let client = connect::connect(global, WatchConfig::default()).await?;
    let response = client.get(get).await;
    connect::close(&client).await;
    let response = response?;
    print(|out| Printer::new(global).get(out, &response, show))
}

pub(crate) async fn put(global: &Global, args: PutArgs) -> anyhow::Result<Ending> {
    let key = connect::key(&args.key)?;
    let value = match args.value {
        Some(value) => connect::bytes(&value),
        None => tokio::task::spawn_blocking(standard_input).await.context("can't read the value")??,
    };
    let put = Put::new(key, value).lease(args.lease).prev_kv(args.prev_kv);
    let client = connect::connect(global, WatchConfig::default()).await?;
    let response = client.put_with(put).await;
    connect::close(&client).await;
    let response = response?;
    print(|out| Printer::new(global).put(out, &response))
}

pub(crate) async fn delete(global: &Global, args: &DelArgs) -> anyhow::Result<Ending> {
    let delete = Delete::new(connect::range(&args.keys)?).prev_kv(args.prev_kv);
    let client = connect::connect(global, WatchConfig::default()).await?;
    let response = client.delete(delete).await;
    connect::close(&client).await;
    let response = response?;
    print(|out| Printer::new(global).delete(out, &response))
}

/// The value that is piped in.
///
/// # Errors
/// Nothing is: an empty value is more often a mistake than meant.
fn standard_input() -> anyhow::Result<Bytes> {
    let instead = "give the value as an argument or pipe it in; for an empty value: put KEY \"\"";
    if io::stdin().is_terminal() {
        bail!("no value: {instead}");
    }
    let mut value = Vec::new();
    io::stdin().read_to_end(&mut value).context("can't read the value from standard input")?;
    if value.is_empty() {
        bail!("no value, and standard input is empty: {instead}");
    }
    Ok(value.into())
}

/// Writes to standard output.
pub(crate) fn print(write: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<Ending> {
    let mut out = Vec::new();
    write(&mut out);
    let mut stdout = io::stdout().lock();
    stdout.write_all(&out)?;
    stdout.flush()?;
    Ok(Ending::Done)
}

//! `get`, `put` and `del`.

use std::{
    io::{self, Read, Write},
    process::ExitCode,
};

use anyhow::Context;
use bytes::Bytes;
use etcd_watch_tokio::{Config, Delete, Get, Put};

use crate::{
    args::{DelArgs, GetArgs, Global, PutArgs},
    connect,
    output::{Printer, Show},
};

pub(crate) async fn get(global: &Global, args: &GetArgs) -> anyhow::Result<ExitCode> {
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
    let response = connect::connect(global, Config::default()).await?.get(get).await?;
    print(|out| Printer::new(global).get(out, &response, show))
}

pub(crate) async fn put(global: &Global, args: PutArgs) -> anyhow::Result<ExitCode> {
    let key = connect::bytes(&args.key);
    let value = match args.value {
        Some(value) => connect::bytes(&value),
        None => tokio::task::spawn_blocking(standard_input).await.context("can't read the value")??,
    };
    let put = Put::new(key, value).lease(args.lease).prev_kv(args.prev_kv);
    let response = connect::connect(global, Config::default()).await?.put(put).await?;
    print(|out| Printer::new(global).put(out, &response))
}

pub(crate) async fn delete(global: &Global, args: &DelArgs) -> anyhow::Result<ExitCode> {
    let delete = Delete::new(connect::range(&args.keys)?).prev_kv(args.prev_kv);
    let response = connect::connect(global, Config::default()).await?.delete(delete).await?;
    print(|out| Printer::new(global).delete(out, &response))
}

fn standard_input() -> anyhow::Result<Bytes> {
    let mut value = Vec::new();
    io::stdin().read_to_end(&mut value).context("can't read the value from standard input")?;
    Ok(value.into())
}

/// Writes to standard output.
pub(crate) fn print(write: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<ExitCode> {
    let mut out = Vec::new();
    write(&mut out);
    let mut stdout = io::stdout().lock();
    stdout.write_all(&out)?;
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

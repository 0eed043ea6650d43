//! `snapshot save`.

use etcd_watch_tokio::WatchConfig;

use crate::{
    args::{Global, SnapshotArgs, SnapshotCommand},
    connect,
    ending::Ending,
    kv,
};

pub(crate) async fn run(global: &Global, args: SnapshotArgs) -> anyhow::Result<Ending> {
    let SnapshotCommand::Save { path } = args.command;
    let client = connect::connect(global, WatchConfig::default()).await?;
    let saved = match client.maintenance().snapshot().await {
        Ok(snapshot) => snapshot.save(path).await.map_err(anyhow::Error::from),
        Err(error) => Err(error.into()),
    };
    connect::close(&client).await;
    let saved = saved?;
    kv::print(|out| out.extend(format!("Snapshot saved at {}\n", saved.path().display()).into_bytes()))
}

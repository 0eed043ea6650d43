//! `endpoints`.

use etcd_watch_tokio::{WatchConfig, discovery::Discovery};

use crate::{
    args::{EndpointsArgs, Global, refuse_fields},
    connect,
    ending::Ending,
    kv::print,
    output::Printer,
    signals::{self, Stop},
};

pub(crate) async fn run(global: &Global, args: &EndpointsArgs) -> anyhow::Result<Ending> {
    refuse_fields(global, "endpoints")?;
    let mut stop = signals::listen(true);
    let printer = Printer::new(global);
    let client = tokio::select! {
        client = connect::connect(global, WatchConfig::default()) => client?,
        signal = stop.asked() => return Ok(Ending::Signal(signal)),
    };
    let discovery = Discovery::new(&client, &args.target)?;
    let ending = match args.watch {
        true => follow(&discovery, &printer, &mut stop).await,
        false => list(&discovery, &printer).await,
    };
    connect::close(&client).await;
    ending
}

async fn list(discovery: &Discovery, printer: &Printer) -> anyhow::Result<Ending> {
    let endpoints = discovery.list().await?;
    print(|out| printer.endpoints(out, &endpoints))
}

async fn follow(discovery: &Discovery, printer: &Printer, stop: &mut Stop) -> anyhow::Result<Ending> {
    let mut watch = discovery.watch();
    loop {
        let update = tokio::select! {
            update = watch.try_next() => update?,
            signal = stop.asked() => return Ok(Ending::Signal(signal)),
        };
        match update {
            Some(update) => print(|out| printer.endpoint_update(out, &update))?,
            None => return Ok(Ending::Done),
        };
    }
}

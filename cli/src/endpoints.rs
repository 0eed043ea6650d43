//! `endpoints`.

use std::process::ExitCode;

use etcd_watch_tokio::{Config, discovery::Discovery};

use crate::{
    args::{EndpointsArgs, Global, refuse_fields},
    connect,
    kv::print,
    output::Printer,
    signals,
};

pub(crate) async fn run(global: &Global, args: &EndpointsArgs) -> anyhow::Result<ExitCode> {
    refuse_fields(global, "endpoints")?;
    let mut stop = signals::listen(true);
    let printer = Printer::new(global);
    let client = tokio::select! {
        client = connect::connect(global, Config::default()) => client?,
        signal = stop.asked() => return Ok(signal.exit_code()),
    };
    let discovery = Discovery::new(&client, &args.target)?;
    if !args.watch {
        let endpoints = discovery.list().await?;
        return print(|out| printer.endpoints(out, &endpoints));
    }
    let mut watch = discovery.watch();
    loop {
        let update = tokio::select! {
            update = watch.try_next() => update?,
            _ = stop.asked() => return Ok(ExitCode::SUCCESS),
        };
        match update {
            Some(update) => print(|out| printer.endpoint_update(out, &update))?,
            None => return Ok(ExitCode::SUCCESS),
        };
    }
}

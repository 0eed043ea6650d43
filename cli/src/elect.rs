//! `elect`.

use anyhow::{Context, anyhow, bail};
use etcd_watch_tokio::{
    Client, Get, GetResponse, WatchConfig,
    concurrency::{Election, Leader, Leadership, Name, Session, observe},
    proto::{etcdserverpb::RangeResponse, mvccpb::KeyValue},
};

use crate::{
    args::{ElectArgs, Global},
    connect,
    ending::Ending,
    kv::print,
    output::{Printer, Show},
    signals::{self, Stop},
};

pub(crate) async fn run(global: &Global, args: &ElectArgs) -> anyhow::Result<Ending> {
    let name = Name::new(&args.name)?;
    let mut stop = signals::listen(true);
    let client = tokio::select! {
        client = connect::connect(global, WatchConfig::default()) => client?,
        signal = stop.asked() => return Ok(Ending::Signal(signal)),
    };
    let ending = match args.listen {
        true => listen(global, &name, &client, &mut stop).await,
        false => stand(global, args, name, &client, &mut stop).await,
    };
    connect::close(&client).await;
    ending
}

/// Takes part until a signal ends it, and resigns then.
async fn stand(
    global: &Global,
    args: &ElectArgs,
    name: Name,
    client: &Client,
    stop: &mut Stop,
) -> anyhow::Result<Ending> {
    let proposal = args.proposal.as_deref().map(connect::bytes).unwrap_or_default();
    let session = tokio::select! {
        session = Session::builder(client).ttl(args.ttl).open() => session.context("can't open a session")?,
        signal = stop.asked() => return Ok(Ending::Signal(signal)),
    };
    let election = Election::new(&session, name);
    let leadership = tokio::select! {
        leadership = election.campaign(proposal) => leadership.context("can't be elected")?,
        signal = stop.asked() => {
            // The candidacy goes with the lease.
            connect::close_session(&session).await;
            return Ok(Ending::Signal(signal));
        }
    };
    let led = lead(global, client, &leadership, stop).await;
    let resigned = if led.is_ok() { leadership.resign().await.context("can't resign") } else { Ok(()) };
    // Its lease is of no more use; if it can't be revoked, it ends by itself.
    connect::close_session(&session).await;
    let status = led?;
    resigned?;
    Ok(status)
}

/// Prints the leader's key and proposal, and waits for a signal.
async fn lead(
    global: &Global,
    client: &Client,
    leadership: &Leadership,
    stop: &mut Stop,
) -> anyhow::Result<Ending> {
    let response = client.get(Get::key(leadership.key().clone())).await?;
    if response.kvs().is_empty() {
        bail!("the leadership was lost at once: its key is gone");
    }
    print(|out| Printer::new(global).get(out, &response, Show::Pairs))?;
    tokio::select! {
        signal = stop.asked() => Ok(Ending::Signal(signal)),
        lost = leadership.lost() => Err(anyhow!(lost).context("the leadership is lost")),
    }
}

async fn listen(global: &Global, name: &Name, client: &Client, stop: &mut Stop) -> anyhow::Result<Ending> {
    let mut leaders = observe(client, name);
    let printer = Printer::new(global);
    loop {
        let leader = tokio::select! {
            leader = leaders.next() => leader,
            signal = stop.asked() => return Ok(Ending::Signal(signal)),
        };
        match leader {
            Some(leader) => {
                let response = found(leader.context("can't follow the election")?);
                print(|out| printer.get(out, &response, Show::Pairs))?;
            }
            None => return Ok(Ending::Done),
        }
    }
}

/// A leader as the read that would have found it.
fn found(leader: Leader) -> GetResponse {
    let Leader { key, value, create_revision, mod_revision, .. } = leader;
    let kv = KeyValue { key, value, create_revision, mod_revision, ..KeyValue::default() };
    RangeResponse { kvs: vec![kv], count: 1, ..RangeResponse::default() }.into()
}

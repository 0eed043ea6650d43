//! One connection's life, and how it ends.

use std::{
    future,
    pin::pin,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{oneshot, watch},
    time::timeout,
};

use super::{
    Cut,
    faults::{Faults, Way},
    pump::{Direction, Pump},
    shared::Shared,
};

/// How long an orderly close waits for the other end to close too, so that what it still sends causes no reset.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Both ends have closed it.
    Finished,
    /// One of them reset it.
    Reset,
    /// It was cut on command.
    Cut(Cut),
}

/// A connection that was accepted; struck off when dropped.
pub(super) struct Connection {
    shared: Arc<Shared>,
    id: u64,
    cut: oneshot::Receiver<Cut>,
    faults: watch::Receiver<Faults>,
    /// How many black holes there were before it.
    black_holes: u64,
    /// Whether it was made into a black hole, so that the upstream never hears of it.
    is_stillborn: bool,
}

impl Connection {
    /// Enters a connection, unless connections are refused.
    pub(super) fn enter(shared: Arc<Shared>) -> Option<Self> {
        let (id, cut) = shared.enter()?;
        let faults = shared.watch_faults();
        let (black_holes, way) = {
            let faults = faults.borrow();
            (faults.black_holes, faults.way)
        };
        Some(Self { shared, id, cut, faults, black_holes, is_stillborn: way == Way::BlackHole })
    }

    pub(super) async fn run(mut self, mut client: TcpStream) {
        if self.is_stillborn {
            let cut = tokio::select! {
                cut = commanded(&mut self.cut) => Some(cut),
                () = swallow(&mut client) => None,
            };
            end(cut.map_or(Ending::Finished, Ending::Cut), &mut [&mut client]).await;
            return;
        }
        let address = self.shared.upstream().0;
        let mut connecting = pin!(TcpStream::connect(address));
        let connected = tokio::select! {
            biased;
            connected = &mut connecting => connected,
            cut = commanded(&mut self.cut) => {
                end(Ending::Cut(cut), &mut [&mut client]).await;
                // The upstream may have accepted already, and is to see the same.
                if let Ok(Ok(mut upstream)) = timeout(CLOSE_PATIENCE, connecting).await {
                    end(Ending::Cut(cut), &mut [&mut upstream]).await;
                }
                return;
            }
        };
        let Ok(mut upstream) = connected else {
            self.shared.counters.count_refused();
            let cut = tokio::select! {
                cut = commanded(&mut self.cut) => cut,
                () = open(&mut self.faults) => Cut::Reset,
            };
            end(Ending::Cut(cut), &mut [&mut client]).await;
            return;
        };
        // The proxy adds no delay of its own.
        let _ = upstream.set_nodelay(true);
        let ending = self.forward(&mut client, &mut upstream).await;
        self.shared.leave(self.id);
        end(ending, &mut [&mut client, &mut upstream]).await;
    }

    async fn forward(&mut self, client: &mut TcpStream, upstream: &mut TcpStream) -> Ending {
        let (client_broken, upstream_broken) = (AtomicBool::new(false), AtomicBool::new(false));
        let (client_source, client_sink) = client.split();
        let (upstream_source, upstream_sink) = upstream.split();
        let up = Pump {
            direction: Direction::Upstream,
            source: client_source,
            source_broken: &client_broken,
            sink: upstream_sink,
            sink_broken: &upstream_broken,
            faults: self.faults.clone(),
            black_holes: self.black_holes,
            shared: &self.shared,
            id: self.id,
        };
        let down = Pump {
            direction: Direction::Downstream,
            source: upstream_source,
            source_broken: &upstream_broken,
            sink: client_sink,
            sink_broken: &client_broken,
            faults: self.faults.clone(),
            black_holes: self.black_holes,
            shared: &self.shared,
            id: self.id,
        };
        tokio::select! {
            biased;
            cut = commanded(&mut self.cut) => Ending::Cut(cut),
            forwarded = async { tokio::try_join!(up.run(), down.run()) } => {
                forwarded.map_or_else(|ending| ending, |_| Ending::Finished)
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.leave(self.id);
    }
}

/// Waits for the command to cut. A connection that cuts itself is struck off without one.
async fn commanded(cut: &mut oneshot::Receiver<Cut>) -> Cut {
    match cut.await {
        Ok(cut) => cut,
        Err(_) => future::pending().await,
    }
}

/// Waits until news passes.
async fn open(faults: &mut watch::Receiver<Faults>) {
    // An error means that the proxy is gone, and with it what kept the news.
    let _ = faults.wait_for(|faults| faults.way == Way::Open).await;
}

async fn end(ending: Ending, streams: &mut [&mut TcpStream]) {
    match ending {
        Ending::Finished => {}
        Ending::Reset | Ending::Cut(Cut::Reset) => {
            for stream in streams {
                // Dropping it sends a reset then. It fails only where the other end is gone already.
                let _ = stream.set_zero_linger();
            }
        }
        Ending::Cut(Cut::Close) => {
            for stream in &mut *streams {
                let _ = stream.shutdown().await;
            }
            let drain = async {
                for stream in streams {
                    swallow(stream).await;
                }
            };
            let _ = timeout(CLOSE_PATIENCE, drain).await;
        }
    }
}

/// Reads until the end, and forgets it.
async fn swallow(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(1..) = stream.read(&mut buffer).await {}
}

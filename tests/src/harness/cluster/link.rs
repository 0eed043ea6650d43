//! One connection between two members.

use std::{io, net::SocketAddr, sync::OnceLock};

use tokio::{
    io::{AsyncWriteExt, copy},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
};

use super::{head::Heads, network::Rules};

/// A connection to a member, from whoever says so in its requests.
pub(super) struct Link {
    to: usize,
    member: SocketAddr,
    rules: watch::Receiver<Rules>,
    /// The id of the member that dialed, once it is known.
    from: OnceLock<u64>,
}

/// Why forwarding stopped.
enum Stop {
    /// The ends are done with each other, or one of them is gone.
    Ended,
    /// A partition has come between them.
    Separated,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Ended
    }
}

impl Link {
    pub(super) fn new(to: usize, member: SocketAddr, rules: watch::Receiver<Rules>) -> Self {
        Self { to, member, rules, from: OnceLock::new() }
    }

    pub(super) async fn run(self, mut dialer: TcpStream) {
        let mut heads = Heads::new();
        // Nothing is connected before it is known who dials: a member must not hear of a connection that a
        // partition swallows.
        let opening = loop {
            match heads.read(&mut dialer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let whole = heads.take();
            if !whole.is_empty() {
                break whole;
            }
        };
        if self.learn_sender(&heads) {
            return self.hold().await;
        }
        let Ok(mut member) = TcpStream::connect(self.member).await else { return };
        // The proxy adds no delay of its own.
        let _ = member.set_nodelay(true);
        if member.write_all(&opening).await.is_err() {
            return;
        }
        match self.forward(heads, &mut dialer, &mut member).await {
            Stop::Ended => {}
            Stop::Separated => self.hold().await,
        }
    }

    async fn forward(&self, heads: Heads, dialer: &mut TcpStream, member: &mut TcpStream) -> Stop {
        let (dialer_source, mut dialer_sink) = dialer.split();
        let (mut member_source, member_sink) = member.split();
        let answers = async {
            copy(&mut member_source, &mut dialer_sink).await?;
            Ok(dialer_sink.shutdown().await?)
        };
        let requests = self.requests(heads, dialer_source, member_sink);
        tokio::select! {
            biased;
            () = self.wait_until(true) => Stop::Separated,
            stopped = async { tokio::try_join!(requests, answers) } => stopped.err().unwrap_or(Stop::Ended),
        }
    }

    /// Forwards what the dialer sends: while it hasn't said who it is, whole heads of requests only, so that none gets
    /// past a partition.
    async fn requests(
        &self,
        mut heads: Heads,
        mut source: ReadHalf<'_>,
        mut sink: WriteHalf<'_>,
    ) -> Result<(), Stop> {
        while !heads.is_settled() {
            if heads.read(&mut source).await? == 0 {
                break;
            }
            let whole = heads.take();
            if self.learn_sender(&heads) {
                return Err(Stop::Separated);
            }
            sink.write_all(&whole).await?;
        }
        sink.write_all(&heads.rest()).await?;
        copy(&mut source, &mut sink).await?;
        Ok(sink.shutdown().await?)
    }

    /// Takes note of who dialed; whether a partition is between the ends.
    fn learn_sender(&self, heads: &Heads) -> bool {
        if let Some(sender) = heads.sender() {
            // Once it is known, it isn't looked for again.
            let _ = self.from.set(sender);
        }
        self.is_separated(&self.rules.borrow())
    }

    fn is_separated(&self, rules: &Rules) -> bool {
        rules.separate(self.from.get().copied(), self.to)
    }

    /// Lets the connection hang as long as the partition lasts: nothing is read, so nothing arrives, and neither end
    /// hears that the other is gone. It is over then, so that another is made.
    async fn hold(&self) {
        self.wait_until(false).await;
    }

    /// Waits until the ends are separated, or aren't any more.
    async fn wait_until(&self, separated: bool) {
        let mut rules = self.rules.clone();
        // An error means that the network is gone, and with it all links.
        let _ = rules.wait_for(|rules| self.is_separated(rules) == separated).await;
    }
}

//! The network between the members of a cluster: a proxy in front of each member's peer port.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use super::link::Link;

/// Who may talk to whom; connections watch it.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// The members' ids, by number; none before the cluster has told them.
    pub(super) ids: Arc<[u64]>,
    /// The members of one side, if the network is partitioned.
    pub(super) side: Option<Vec<usize>>,
}

impl Rules {
    /// Whether what a member sends to another is lost. A sender that is not known is nobody's, and never cut off.
    pub(super) fn separate(&self, from: Option<u64>, to: usize) -> bool {
        let Some(side) = &self.side else { return false };
        let from = from.and_then(|id| self.ids.iter().position(|&known| known == id));
        from.is_some_and(|from| side.contains(&from) != side.contains(&to))
    }
}

/// The proxies of all members. They run on a thread of their own, so that a test that blocks its runtime's only
/// thread doesn't hold up the members' heartbeats.
pub(super) struct PeerNetwork {
    addresses: Vec<SocketAddr>,
    /// Once it is dropped, the thread ends.
    rules: Option<watch::Sender<Rules>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl PeerNetwork {
    /// Listens on each of these, and forwards to the member behind it, which need not be there yet.
    pub(super) fn start(proxies: Vec<(StdListener, SocketAddr)>) -> io::Result<Self> {
        let addresses =
            proxies.iter().map(|(listener, _)| listener.local_addr()).collect::<io::Result<_>>()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let rules = watch::Sender::new(Rules::default());
        let watching = rules.subscribe();
        let listeners = proxies
            .into_iter()
            .map(|(listener, member)| {
                listener.set_nonblocking(true)?;
                let _context = runtime.enter();
                Ok((TcpListener::from_std(listener)?, member))
            })
            .collect::<io::Result<Vec<_>>>()?;
        let thread = thread::Builder::new().name("peer network".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut listening = JoinSet::new();
                for (to, (listener, member)) in listeners.into_iter().enumerate() {
                    listening.spawn(listen(listener, to, member, watching.clone()));
                }
                while listening.join_next().await.is_some() {}
            });
        })?;
        Ok(Self { addresses, rules: Some(rules), thread: Some(thread) })
    }

    /// Where the others reach a member.
    pub(super) fn address(&self, member: usize) -> SocketAddr {
        self.addresses[member]
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Rules)) {
        if let Some(rules) = &self.rules {
            rules.send_modify(change);
        }
    }
}

impl Drop for PeerNetwork {
    fn drop(&mut self) {
        self.rules = None;
        if let Some(thread) = self.thread.take() {
            // It panics only with a test that does so too.
            let _ = thread.join();
        }
    }
}

async fn listen(listener: TcpListener, to: usize, member: SocketAddr, rules: watch::Receiver<Rules>) {
    let mut links = JoinSet::new();
    let mut over = rules.clone();
    loop {
        tokio::select! {
            () = dropped(&mut over) => return,
            accepted = listener.accept() => match accepted {
                Ok((dialer, _)) => {
                    // The proxy adds no delay of its own.
                    let _ = dialer.set_nodelay(true);
                    links.spawn(Link::new(to, member, rules.clone()).run(dialer));
                }
                // No descriptors are left, say: let links end before the next attempt.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = links.join_next() => {}
        }
    }
}

/// Waits until the network is dropped.
async fn dropped(rules: &mut watch::Receiver<Rules>) {
    let _ = rules.wait_for(|_| false).await;
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::timeout,
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const A_WHILE: Duration = Duration::from_millis(150);

    /// A network of two, whose ids are 11 and 22; the second one's peer port is the listener.
    async fn network_of_two() -> (PeerNetwork, TcpListener) {
        let any = (Ipv4Addr::LOCALHOST, 0);
        let member = TcpListener::bind(any).await.unwrap();
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let front = || StdListener::bind(any).unwrap();
        let proxies = vec![(front(), nowhere), (front(), member.local_addr().unwrap())];
        let network = PeerNetwork::start(proxies).unwrap();
        network.change(|rules| rules.ids = [11, 22].into());
        (network, member)
    }

    fn stream_request(id: &str) -> String {
        format!("GET /raft/stream/message/22 HTTP/1.1\r\nX-Server-From: {id}\r\n\r\n")
    }

    /// Dials the second member and sends this; the dialer's end.
    async fn dial(network: &PeerNetwork, request: &str) -> TcpStream {
        let mut dialer = TcpStream::connect(network.address(1)).await.unwrap();
        dialer.write_all(request.as_bytes()).await.unwrap();
        dialer
    }

    /// The member's end, once it has received this.
    async fn accept(member: &TcpListener, request: &str) -> TcpStream {
        let (mut stream, _) = timeout(SOON, member.accept()).await.expect("it is dialed").unwrap();
        assert_eq!(receive(&mut stream, request.len()).await, request);
        stream
    }

    async fn receive(stream: &mut TcpStream, count: usize) -> String {
        let mut bytes = vec![0; count];
        timeout(SOON, stream.read_exact(&mut bytes)).await.expect("bytes come").unwrap();
        String::from_utf8(bytes).unwrap()
    }

    async fn assert_silent(stream: &mut TcpStream) {
        let read = timeout(A_WHILE, stream.read(&mut [0; 16])).await;
        assert!(read.is_err(), "{read:?}");
    }

    async fn assert_over(stream: &mut TcpStream) {
        let read = timeout(SOON, stream.read(&mut [0; 16])).await.expect("it ends");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }

    #[test]
    fn only_members_on_different_sides_are_separated() {
        let mut rules = Rules { ids: [11, 22, 33].into(), side: None };
        assert!(!rules.separate(Some(11), 1));
        rules.side = Some(vec![0]);
        assert!(rules.separate(Some(11), 1) && rules.separate(Some(33), 0));
        assert!(!rules.separate(Some(22), 2) && !rules.separate(Some(33), 1));
        assert!(!rules.separate(None, 0) && !rules.separate(Some(99), 0));
        rules.side = Some(vec![1, 2]);
        assert!(rules.separate(Some(11), 1) && !rules.separate(Some(22), 2));
    }

    #[tokio::test]
    async fn a_partition_silences_a_connection_both_ways_and_healing_ends_it() {
        let (network, member) = network_of_two().await;
        let request = stream_request("b");
        let mut near = dial(&network, &request).await;
        let mut far = accept(&member, &request).await;
        far.write_all(b"answer").await.unwrap();
        assert_eq!(receive(&mut near, 6).await, "answer");

        network.change(|rules| rules.side = Some(vec![0]));
        near.write_all(b"lost").await.unwrap();
        far.write_all(b"lost").await.unwrap();
        assert_silent(&mut near).await;
        assert_silent(&mut far).await;

        network.change(|rules| rules.side = None);
        assert_over(&mut near).await;
        assert_over(&mut far).await;
        let mut near = dial(&network, &request).await;
        accept(&member, &request).await.write_all(b"answer").await.unwrap();
        assert_eq!(receive(&mut near, 6).await, "answer");
    }

    #[tokio::test]
    async fn in_a_partition_a_member_hears_neither_of_new_connections_nor_of_the_end_of_old_ones() {
        let (network, member) = network_of_two().await;
        let request = stream_request("b");
        let near = dial(&network, &request).await;
        let mut far = accept(&member, &request).await;
        network.change(|rules| rules.side = Some(vec![1]));
        drop(near);
        assert_silent(&mut far).await;
        let mut late = dial(&network, &request).await;
        assert_silent(&mut late).await;
        assert!(timeout(A_WHILE, member.accept()).await.is_err(), "the member heard of it");
        network.change(|rules| rules.side = None);
        assert_over(&mut late).await;
        assert_over(&mut far).await;
    }

    #[tokio::test]
    async fn a_partition_leaves_alone_who_is_on_the_same_side_or_nobody() {
        let (network, member) = network_of_two().await;
        network.change(|rules| rules.side = Some(vec![0]));
        let own = stream_request("16");
        accept_and_answer(&network, &member, &own).await;
        accept_and_answer(&network, &member, "GET /members HTTP/1.1\r\n\r\n").await;
    }

    #[tokio::test]
    async fn a_connection_that_names_its_sender_late_is_cut_off_then() {
        let (network, member) = network_of_two().await;
        network.change(|rules| rules.side = Some(vec![0]));
        let probe = "GET /raft/probing HTTP/1.1\r\n\r\n";
        let mut near = dial(&network, probe).await;
        let mut far = accept(&member, probe).await;
        far.write_all(b"alive").await.unwrap();
        assert_eq!(receive(&mut near, 5).await, "alive");
        near.write_all(stream_request("b").as_bytes()).await.unwrap();
        assert_silent(&mut far).await;
    }

    async fn accept_and_answer(network: &PeerNetwork, member: &TcpListener, request: &str) {
        let mut near = dial(network, request).await;
        let mut far = accept(member, request).await;
        far.write_all(b"answer").await.unwrap();
        assert_eq!(receive(&mut near, 6).await, "answer");
    }

    #[tokio::test]
    async fn dropping_the_network_ends_its_connections() {
        let (network, member) = network_of_two().await;
        let request = stream_request("b");
        let mut near = dial(&network, &request).await;
        let mut far = accept(&member, &request).await;
        drop(network);
        assert_over(&mut near).await;
        assert_over(&mut far).await;
    }
}

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
    pub(super) fn start(proxies: Vec<(StdListener, SocketAddr)>) -> io::Result<PeerNetwork> {
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
        Ok(PeerNetwork { addresses, rules: Some(rules), thread: Some(thread) })
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
    use super::*;

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
}

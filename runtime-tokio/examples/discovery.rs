//! Servers come and go, a client follows:
//! `cargo run -p etcd-watch-tokio --features tonic-channel --example discovery`
//!
//! Give it an etcd: it talks to http://127.0.0.1:2379 unless told otherwise by its first argument.
#![allow(clippy::print_stdout, reason = "it is there to be read")]

use std::{net::SocketAddr, time::Duration};

use etcd_watch_proto::etcdserverpb::{
    WatchRequest, WatchResponse,
    watch_client::WatchClient,
    watch_server::{Watch, WatchServer},
};
use etcd_watch_tokio::{
    BoxError, balance,
    discovery::{Discovery, Registration, ServiceEndpoint},
};
use tokio::{net::TcpListener, runtime::Runtime, time::timeout};
use tonic::{
    Request, Response, Status, Streaming,
    codegen::{BoxStream, tokio_stream as stream},
    transport::{Channel, Server, server::TcpIncoming},
};

/// How long an instance that has crashed stays listed: 2 s is the least that etcd allows by default.
const TTL: Duration = Duration::from_secs(2);

/// A service of one method: it says who answers.
struct Greeter(String);

#[tonic::async_trait]
impl Watch for Greeter {
    type WatchStream = BoxStream<WatchResponse>;

    async fn watch(
        &self,
        _: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let greeting = WatchResponse { cancel_reason: self.0.clone(), ..Default::default() };
        Ok(Response::new(Box::pin(stream::iter([Ok(greeting)]))))
    }
}

/// An instance of the service: a server, and its registration. It has a runtime of its own, as it would have
/// a process, so that it can crash.
#[derive(Debug)]
pub(crate) struct Instance {
    runtime: Runtime,
    registration: Registration,
    address: SocketAddr,
}

impl Instance {
    /// Starts a server and registers it.
    pub(crate) async fn start(
        etcd: &str,
        service: &str,
        name: &str,
        ttl: Duration,
    ) -> Result<Self, BoxError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (etcd, service, greeter) = (etcd.to_owned(), service.to_owned(), Greeter(name.to_owned()));
        let started = runtime.spawn(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let server = Server::builder().add_service(WatchServer::new(greeter));
            tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
            let service = Discovery::new(&etcd_watch_tokio::connect([etcd]).await?, service)?;
            let endpoint = ServiceEndpoint::new(address.to_string());
            let registration = service.register_with_ttl(address.to_string(), endpoint, ttl)?;
            registration.registered().await?;
            Ok::<_, BoxError>((registration, address))
        });
        let (registration, address) = started.await??;
        Ok(Self { runtime, registration, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Deregisters first, so that no more calls come, and stops then.
    pub(crate) async fn leave(self, clients_know: impl Future<Output = ()>) -> Result<(), BoxError> {
        self.registration.deregister().await?;
        clients_know.await;
        self.runtime.shutdown_background();
        Ok(())
    }

    /// Stops without a word. It stays listed until its lease is over.
    pub(crate) fn crash(self) {
        self.runtime.shutdown_background();
    }
}

/// Asks who answers. An instance that has just crashed doesn't: another is asked then.
pub(crate) async fn ask(channel: &Channel) -> Result<String, BoxError> {
    const ATTEMPTS: u32 = 50;
    let mut attempt = 1;
    loop {
        let mut client = WatchClient::new(channel.clone());
        let answer = timeout(Duration::from_secs(2), async {
            client.watch(stream::empty()).await?.into_inner().message().await
        });
        match answer.await {
            Ok(Ok(answer)) => return Ok(answer.unwrap_or_default().cancel_reason),
            Ok(Err(status)) if attempt == ATTEMPTS => return Err(status.into()),
            Err(late) if attempt == ATTEMPTS => return Err(late.into()),
            _ => attempt += 1,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn ask_a_few_times(channel: &Channel, after: &str) -> Result<(), BoxError> {
    let mut answers = Vec::new();
    for _ in 0..8 {
        answers.push(ask(channel).await?);
    }
    println!("{after}: {}", answers.join(", "));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let etcd = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:2379".into());
    let service = Discovery::new(&etcd_watch_tokio::connect([etcd.clone()]).await?, "examples/greeter")?;
    let (channel, handle) = balance::channel(&service)?;

    let anna = Instance::start(&etcd, service.target(), "anna", TTL).await?;
    let ben = Instance::start(&etcd, service.target(), "ben", TTL).await?;
    let both = [anna.address(), ben.address()];
    handle.until(|known| both.iter().all(|address| known.contains(address))).await;
    ask_a_few_times(&channel, "anna and ben are there").await?;

    let address = anna.address();
    anna.leave(handle.until(|known| !known.contains(&address))).await?;
    ask_a_few_times(&channel, "anna has left").await?;

    let cleo = Instance::start(&etcd, service.target(), "cleo", TTL).await?;
    handle.until(|known| known.contains(&cleo.address())).await;
    ask_a_few_times(&channel, "cleo has come").await?;

    let address = ben.address();
    ben.crash();
    ask_a_few_times(&channel, "ben has crashed").await?;
    handle.until(|known| !known.contains(&address)).await;
    ask_a_few_times(&channel, "ben's lease is over").await?;

    cleo.leave(async {}).await
}

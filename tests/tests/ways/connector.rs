//! Connectors that the application gives.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use etcd_watch_client::{BuildError, ClientBuilder, Endpoint, StartError, Tls};
use etcd_watch_testkit::{
    certificates::TestCa,
    harness::{EtcdServer, ServerTls, wait_until},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{DuplexStream, copy_bidirectional, duplex},
    net::TcpStream,
    runtime::Handle,
    sync::broadcast,
};

use crate::{DEADLINE, nothing_is_lost, on_every_runtime, runtime::On, versions};

on_every_runtime! {
    everything_goes_through_the_connector
    a_connector_that_fails_or_panics_is_told
    a_connector_that_hangs_takes_the_dial_timeout_and_is_given_up
}

/// A connector that carries bytes to a server by pipes in memory, for what the test has of it.
#[derive(Clone)]
struct Pipes {
    to: SocketAddr,
    handle: Handle,
    asked: Arc<Mutex<Vec<String>>>,
    cut: broadcast::Sender<()>,
}

impl Pipes {
    fn to(to: SocketAddr) -> Self {
        let cut = broadcast::Sender::new(1);
        Self { to, handle: Handle::current(), asked: Arc::default(), cut }
    }

    async fn connect(self, endpoint: Endpoint) -> io::Result<TokioIo<DuplexStream>> {
        self.asked.lock().expect("no panic").push(endpoint.to_string());
        let (ours, mut theirs) = duplex(64 << 10);
        let mut cut = self.cut.subscribe();
        self.handle.spawn(async move {
            let Ok(mut socket) = TcpStream::connect(self.to).await else { return };
            tokio::select! {
                _ = copy_bidirectional(&mut theirs, &mut socket) => {}
                _ = cut.recv() => {}
            }
        });
        Ok(TokioIo::new(ours))
    }
}

async fn everything_goes_through_the_connector(on: On) {
    for version in versions() {
        let ca = TestCa::new();
        let tls = ServerTls::new(&ca.server(["etcd.invalid"]));
        let server = EtcdServer::builder(version).tls(tls).start_async().await.expect("etcd starts");
        let pipes = Pipes::to(server.address());
        let connector = pipes.clone();
        let client = on
            .builder()
            .endpoints(["https://etcd.invalid:2379"])
            .tls(Tls::new().ca_pem(ca.pem()))
            .connector(move |endpoint| connector.clone().connect(endpoint))
            .request_timeout(DEADLINE);
        let client = client.connect().await.expect("it answers");
        nothing_is_lost(&client, 2, || drop(pipes.cut.send(()))).await;
        let asked = pipes.asked.lock().expect("no panic").clone();
        assert!(
            asked.len() >= 6 && asked.iter().all(|each| each == "https://etcd.invalid:2379"),
            "{asked:?}"
        );
    }
}

fn builder(on: On) -> ClientBuilder {
    on.builder().endpoints(["http://etcd.invalid:2379"]).connect_timeout(DEADLINE)
}

async fn a_connector_that_fails_or_panics_is_told(on: On) {
    let began = Instant::now();
    let failing = |_| async { Err::<TokioIo<DuplexStream>, _>(io::ErrorKind::ConnectionRefused.into()) };
    let error = builder(on).connector(failing).connect().await.expect_err("it fails");
    assert!(matches!(error, StartError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("connection refused"), "{error}");
    assert!(began.elapsed() < DEADLINE / 2, "a refusal is not tried again and again");
    let panicking = |_| async {
        if true { panic!("on purpose") } else { Err::<TokioIo<DuplexStream>, _>(io::ErrorKind::Other.into()) }
    };
    let error = builder(on).connector(panicking).connect_timeout(Duration::from_secs(1)).connect().await;
    let error = error.expect_err("it panics").to_string();
    assert!(error.contains("the connector has panicked"), "{error}");
}

async fn a_connector_that_hangs_takes_the_dial_timeout_and_is_given_up(on: On) {
    struct Hanging(Arc<AtomicUsize>);
    impl Drop for Hanging {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let hanging = Arc::new(AtomicUsize::new(0));
    let count = hanging.clone();
    let connector = move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        let hanging = Hanging(count.clone());
        async move {
            let _hanging = hanging;
            std::future::pending::<io::Result<TokioIo<DuplexStream>>>().await
        }
    };
    let short = Duration::from_millis(200);
    let builder = builder(on).connector(connector).dial_timeout(short).connect_timeout(3 * short);
    let error = builder.connect().await.expect_err("it hangs").to_string();
    assert!(error.contains("no answer within 200ms"), "{error}");
    wait_until("all are given up", DEADLINE, || hanging.load(Ordering::Relaxed) == 0).await;
}

#[tokio::test]
async fn a_connector_and_a_proxy_exclude_each_other() {
    let connector = |_| async { Err::<TokioIo<DuplexStream>, _>(io::ErrorKind::Unsupported.into()) };
    let both = builder(On::Tokio).connector(connector).proxy("http://proxy:3128").connect_lazy();
    assert_eq!(both.expect_err("it is refused"), BuildError::ProxyAndConnector);
    builder(On::Tokio).connector(connector).no_proxy().connect_lazy().expect("there is no contradiction");
}

//! A simulated network (the crate `turmoil`), by way of a connector: virtual time, partitions on command.

use std::time::Duration;

use etcd_watch_client::{Address, KeyRange, WatchRequest};
use etcd_watch_testkit::{
    model::{ModelConfig, ModelEtcd},
    server::EmbeddedEtcd,
};
use hyper_util::rt::TokioIo;
use turmoil::{Builder, net};

const PORT: u16 = 2379;

#[test]
fn a_watch_goes_on_after_a_partition_of_a_simulated_network() {
    let mut sim = Builder::new().simulation_duration(Duration::from_secs(600)).rng_seed(7).build();
    sim.host("etcd", || async {
        let etcd = EmbeddedEtcd::unbound(ModelEtcd::new(ModelConfig::default()));
        let listener = net::TcpListener::bind(("0.0.0.0", PORT)).await?;
        loop {
            let (socket, _) = listener.accept().await?;
            tokio::spawn(etcd.serve_on(socket));
        }
    });
    sim.client("application", async {
        let builder = etcd_watch_tokio::builder().endpoints([format!("http://etcd:{PORT}")]);
        let client = builder.connector(|endpoint| async move {
            let Address::Tcp { host, port } = endpoint.address() else {
                return Err(std::io::ErrorKind::Unsupported.into());
            };
            Ok(TokioIo::new(net::TcpStream::connect((host, port)).await?))
        });
        let client = client.connect().await?;
        let mut watch = client.watch(WatchRequest::new(KeyRange::key("k")).start_revision(1))?;
        let mut expected = Vec::new();
        for round in 0..3 {
            let put = loop {
                match client.put("k", round.to_string()).await {
                    Ok(put) => break put,
                    Err(error) => assert!(!error.may_have_executed(), "{error}"),
                }
            };
            expected.push(put.revision());
            if round == 1 {
                turmoil::partition("application", "etcd");
                tokio::time::sleep(Duration::from_secs(60)).await;
                turmoil::repair("application", "etcd");
            }
        }
        let mut received = Vec::new();
        while received.len() < expected.len() {
            let next = watch.next().await.expect("it goes on")?;
            received.extend(next.events().map(|event| event.mod_revision()));
        }
        assert_eq!(received, expected);
        assert!(client.stats().reconnects > 0, "the partition was noticed");
        Ok(())
    });
    sim.run().expect("the simulation ends well");
}

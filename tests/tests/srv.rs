//! Endpoints from DNS SRV records, told by a DNS server of the test's own.

#![cfg(unix)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use etcd_watch_client::{Client, SrvError, SrvLookup};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion, wait_until},
    model::ModelConfig,
    server::EmbeddedEtcd,
};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::SRV},
};
use tokio::{net::UdpSocket, task::JoinHandle};

/// What a DNS server says of a name.
#[derive(Clone, Debug)]
enum Says {
    /// SRV records: priority, port and target.
    Records(Vec<(u16, u16, &'static str)>),
    /// There is such a name, without such records.
    Nothing,
    /// The server has failed.
    Failure,
    /// No answer.
    Silence,
}

/// What is said of each name.
type Zone = BTreeMap<&'static str, Says>;

/// A DNS server. A name that it has not been told of does not exist.
struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    /// How many lookups have begun.
    lookups: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Dns {
    async fn start(zone: impl IntoIterator<Item = (&'static str, Says)>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let zone = Arc::new(Mutex::new(Zone::from_iter(zone)));
        let lookups = Arc::new(AtomicUsize::new(0));
        let (says, count) = (zone.clone(), lookups.clone());
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..length]).expect("it is DNS");
                let answer = answer(&says.lock().expect("no panic"), &query);
                let name = query.queries.first().expect("it asks for something").name().to_ascii();
                if name.starts_with("_etcd-client-ssl.") {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                if let Some(answer) = answer {
                    socket.send_to(&answer.to_vec().expect("it is DNS"), from).await.expect("it is there");
                }
            }
        });
        Self { address, zone, lookups, serving }
    }

    /// Says something else of a name from now on.
    fn change(&self, name: &'static str, says: Says) {
        self.zone.lock().expect("no panic").insert(name, says);
    }

    /// How many lookups have begun. Each asks once for records with TLS, of which there are none.
    fn lookups(&self) -> usize {
        self.lookups.load(Ordering::Relaxed)
    }

    fn lookup(&self, domain: &str) -> SrvLookup {
        SrvLookup::new(domain).name_servers([self.address]).timeout(Duration::from_secs(30))
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn answer(zone: &Zone, query: &Message) -> Option<Message> {
    let asked = query.queries.first().expect("it asks for something");
    let name = asked.name().to_ascii().to_lowercase();
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.add_query(asked.clone());
    answer.metadata.response_code = match zone.get(name.trim_end_matches('.')) {
        None => ResponseCode::NXDomain,
        Some(Says::Silence) => return None,
        Some(Says::Failure) => ResponseCode::ServFail,
        Some(Says::Nothing) => ResponseCode::NoError,
        Some(Says::Records(records)) => {
            if asked.query_type() == RecordType::SRV {
                for &(priority, port, target) in records {
                    let target = Name::from_ascii(target).expect("a name");
                    let data = RData::SRV(SRV::new(priority, 1, port, target));
                    answer.add_answer(Record::from_rdata(asked.name().clone(), 60, data));
                }
            }
            ResponseCode::NoError
        }
    };
    Some(answer)
}

async fn urls(lookup: SrvLookup) -> Vec<String> {
    let endpoints = lookup.endpoints().await.expect("there are records");
    endpoints.into_iter().map(String::from).collect()
}

#[tokio::test]
async fn clients_on_each_runtime_find_a_real_server() {
    let etcd = EtcdServer::builder(EtcdVersion::V3_7).start_async().await.expect("it starts");
    let port: u16 = etcd.endpoint().rsplit_once(':').expect("a port").1.parse().expect("a port");
    // One that is down comes first; the client goes on to the next.
    let records = Says::Records(vec![(2, port, "localhost."), (1, 1, "localhost.")]);
    let dns = Dns::start([("_etcd-client._tcp.etcd.test", records)]).await;
    assert_eq!(
        urls(dns.lookup("etcd.test")).await,
        ["http://localhost:1".to_owned(), format!("http://localhost:{port}")]
    );
    for builder in [etcd_watch_tokio::builder(), etcd_watch_smol::builder()] {
        let endpoints = dns.lookup("etcd.test.").endpoints().await.expect("there are records");
        let client = builder.endpoints(endpoints).connect().await.expect("it is there");
        client.put("key", "value").await.expect("it is put");
        // The records may have changed.
        client.set_endpoints(urls(dns.lookup("etcd.test")).await).expect("they can be used");
        client.get("key").await.expect("it is read");
    }
    // And without any runtime.
    let lookup = dns.lookup("etcd.test");
    let found = tokio::task::spawn_blocking(move || {
        std::thread::spawn(move || futures_executor(lookup)).join().expect("no panic")
    });
    assert_eq!(found.await.expect("no panic"), 2);
}

/// The number of endpoints, by an executor that knows no runtime.
fn futures_executor(lookup: SrvLookup) -> usize {
    let mut future = Box::pin(async move { lookup.endpoints().await.expect("there are records").len() });
    let thread = std::thread::current();
    let waker = std::task::Waker::from(Arc::new(Unpark(thread)));
    let mut cx = std::task::Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(found) => return found,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[tokio::test]
async fn a_client_that_looks_again_follows_the_records() {
    let etcd = EtcdServer::builder(EtcdVersion::V3_7).start_async().await.expect("it starts");
    let port: u16 = etcd.endpoint().rsplit_once(':').expect("a port").1.parse().expect("a port");
    let dns =
        Dns::start([("_etcd-client._tcp.etcd.test", Says::Records(vec![(1, port, "localhost.")]))]).await;
    for builder in [etcd_watch_tokio::builder(), etcd_watch_smol::builder()] {
        // The endpoint that the client begins with has gone.
        let client = builder
            .endpoints(["http://localhost:1"])
            .srv_lookup_every(dns.lookup("etcd.test"), Duration::from_secs(1))
            .request_timeout(Duration::from_secs(60))
            .connect_lazy()
            .expect("the settings are valid");
        client.put("key", "value").await.expect("it is found");
        let endpoints: Vec<String> = client.endpoints().into_iter().map(String::from).collect();
        assert_eq!(endpoints, [format!("http://localhost:{port}")]);
    }
}

const PLAIN: &str = "_etcd-client._tcp.etcd.test";

/// The endpoints that a client uses.
fn used(client: &Client) -> Vec<String> {
    client.endpoints().into_iter().map(String::from).collect()
}

#[tokio::test]
async fn records_that_change_between_two_lookups_replace_the_endpoints_and_a_failed_lookup_keeps_them() {
    const PATIENCE: Duration = Duration::from_secs(60);
    let mut first = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let second = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let record = |etcd: &EmbeddedEtcd| Says::Records(vec![(1, etcd.address().port(), "localhost.")]);
    let url = |etcd: &EmbeddedEtcd| format!("http://localhost:{}", etcd.address().port());
    let dns = Dns::start([(PLAIN, record(&first))]).await;
    let client = etcd_watch_tokio::builder()
        .endpoints(urls(dns.lookup("etcd.test")).await)
        .srv_lookup_every(dns.lookup("etcd.test"), Duration::from_secs(1))
        .connect()
        .await
        .expect("it is there");
    assert_eq!(used(&client), [url(&first)]);

    // A server that fails, and one that says nothing.
    for says in [Says::Failure, Says::Nothing] {
        dns.change(PLAIN, says);
        let before = dns.lookups();
        // The first may have been answered before; the third begins when the second has ended.
        wait_until("it has looked twice", PATIENCE, || dns.lookups() >= before + 3).await;
        assert_eq!(used(&client), [url(&first)]);
    }
    client.get("key").await.expect("it is read where it was");

    dns.change(PLAIN, record(&second));
    wait_until("the endpoints are others", PATIENCE, || used(&client) == [url(&second)]).await;
    first.stop().await;
    client.put("key", "value").await.expect("it is put");
    assert_eq!(second.with_model(|model| model.revision()), 2, "at the second");
}

#[tokio::test]
async fn records_with_tls_are_used_alone_and_best_first() {
    let with_tls =
        vec![(20, 2381, "c.example.test."), (5, 2379, "a.example.test."), (10, 2380, "b.example.test.")];
    let without = vec![(1, 2379, "plain.example.test.")];
    let dns = Dns::start([
        ("_etcd-client-ssl._tcp.both.test", Says::Records(with_tls)),
        ("_etcd-client._tcp.both.test", Says::Records(without.clone())),
        ("_etcd-client-blue._tcp.both.test", Says::Records(without)),
    ])
    .await;
    let expected =
        ["https://a.example.test:2379", "https://b.example.test:2380", "https://c.example.test:2381"];
    assert_eq!(urls(dns.lookup("both.test")).await, expected);
    assert_eq!(urls(dns.lookup("both.test").name("blue")).await, ["http://plain.example.test:2379"]);
}

#[tokio::test]
async fn every_failure_has_its_name() {
    let dns = Dns::start([
        ("empty.test", Says::Nothing),
        ("closed.test", Says::Nothing),
        ("_etcd-client._tcp.closed.test", Says::Records(vec![(0, 0, ".")])),
        ("_etcd-client-ssl._tcp.broken.test", Says::Failure),
        // Whoever could keep the answer back must not have passwords sent in plain text.
        ("_etcd-client-ssl._tcp.silent.test", Says::Silence),
        ("_etcd-client._tcp.silent.test", Says::Records(vec![(1, 2379, "plain.example.test.")])),
    ])
    .await;
    let failed = async |lookup: SrvLookup| lookup.endpoints().await.expect_err("there are no endpoints");
    let error = failed(dns.lookup("nowhere.test")).await;
    assert_eq!(error, SrvError::NoSuchDomain { domain: "nowhere.test".into() });
    for domain in ["empty.test", "closed.test"] {
        let error = failed(dns.lookup(domain)).await;
        assert!(matches!(&error, SrvError::NoRecords { .. }), "{error}");
        assert!(error.to_string().contains(&format!("_etcd-client-ssl._tcp.{domain}")), "{error}");
    }
    let error = failed(dns.lookup("broken.test")).await;
    assert!(matches!(error, SrvError::Failed { .. }), "{error}");
    let limit = Duration::from_millis(300);
    let error = failed(dns.lookup("silent.test").timeout(limit)).await;
    assert_eq!(error, SrvError::Timeout { domain: "silent.test".into(), after: limit });
    let error = failed(dns.lookup("no..domain")).await;
    assert!(matches!(error, SrvError::Failed { .. }), "{error}");
}

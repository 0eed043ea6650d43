//! HTTP proxies: a small one, in front of real servers that are known to it by a name that nobody else knows.

use std::time::{Duration, Instant};

use etcd_watch_client::{BuildError, ClientBuilder, Proxy, ProxyError, StartError, Tls};
use etcd_watch_testkit::{
    certificates::TestCa,
    connect_proxy::ConnectProxy,
    harness::{EtcdServer, EtcdVersion, ServerTls},
    model::ModelConfig,
    server::EmbeddedEtcd,
};

use crate::{DEADLINE, LIMIT, log::Log, nothing_is_lost, on_every_runtime, runtime::On, versions};

/// A name that no resolver knows (RFC 6761).
const NAME: &str = "etcd.invalid";

on_every_runtime! {
    a_member_that_only_the_proxy_knows_is_watched_through_cuts
}

async fn start() -> ConnectProxy {
    ConnectProxy::start().await.expect("a free port")
}

fn builder(proxy: impl Into<Proxy>) -> ClientBuilder {
    let builder = etcd_watch_tokio::builder().endpoints([format!("http://{NAME}:2379")]);
    builder.proxy(proxy).dial_timeout(LIMIT).connect_timeout(LIMIT).request_timeout(LIMIT)
}

async fn a_member_that_only_the_proxy_knows_is_watched_through_cuts(on: On) {
    for version in versions() {
        let ca = TestCa::new();
        let tls = EtcdServer::builder(version.clone()).tls(ServerTls::new(&ca.server([NAME])));
        let secure = tls.start_async().await.expect("etcd starts");
        let plain = EtcdServer::builder(version).start_async().await.expect("etcd starts");
        for (server, scheme) in [(&plain, "http"), (&secure, "https")] {
            let proxy = start().await;
            proxy.knows(NAME, server.address());
            proxy.require("alice", "s3cret@:%");
            let endpoint = format!("{scheme}://{NAME}:2379");
            let mut builder = on.builder().endpoints([endpoint]).proxy(proxy.url_with("alice:s3cret%40:%25"));
            if scheme == "https" {
                builder = builder.tls(Tls::new().ca_pem(ca.pem()));
            }
            let client = builder.request_timeout(DEADLINE).connect().await.expect("it is let in");
            nothing_is_lost(&client, 2, || proxy.cut_all()).await;
            let asked = proxy.asked();
            assert!(asked.iter().all(|target| *target == format!("{NAME}:2379")), "{asked:?}");
            // The calls' connection and the watch's, and both again after each cut.
            assert!(proxy.tunnels() >= 6, "{}", proxy.tunnels());
        }
    }
}

/// What a client says that is refused; at once, although its time limits are long.
async fn refused(builder: ClientBuilder) -> String {
    let began = Instant::now();
    let error = builder.connect().await.expect_err("it is refused");
    assert!(began.elapsed() < LIMIT / 2, "{error}");
    let StartError::Unreachable { endpoints, .. } = &error else { panic!("{error:?}") };
    assert_eq!(endpoints.len(), 1);
    let told = format!("{error} {error:?} {}", endpoints[0].cause);
    assert!(!told.contains("s3cret") && !told.contains("czNj"), "{told}");
    error.to_string()
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_with_what_it_wants() {
    let (log, _guard) = Log::start();
    let proxy = start().await;
    proxy.require("alice", "s3cret");
    let none = refused(builder(proxy.url())).await;
    assert!(none.contains("407") && none.contains("write http://user:password@127.0.0.1"), "{none}");
    let wrong = refused(builder(proxy.url_with("alice:s3cret2"))).await;
    assert!(wrong.contains("407") && wrong.contains("does not accept the user and the password"), "{wrong}");
    let authority = proxy.url().replace("http://", "");
    for told in [&none, &wrong] {
        assert!(told.contains(&format!("the proxy {authority} (proxy)")), "{told}");
    }
    for (answer, words) in [
        (
            "HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate x\r\n\r\n",
            &["NTLM, Negotiate", "Basic"][..],
        ),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nNo",
            &["403 Forbidden", "etcd.invalid:2379", "allow CONNECT"],
        ),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", &["502 Bad Gateway", "can't connect to etcd.invalid:2379"]),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", &["503", "can't connect to etcd.invalid:2379"]),
        ("HTTP/1.0 405 Method Not Allowed\r\n\r\n", &["405", "is it an HTTP proxy that allows CONNECT?"]),
        ("SSH-2.0-OpenSSH_9.2\r\n", &["does not answer in HTTP/1.1: is it an HTTP proxy?"]),
    ] {
        proxy.answer(Some(answer));
        let told = refused(builder(proxy.url_with("alice:s3cret"))).await;
        assert!(words.iter().all(|word| told.contains(word)), "{words:?} in {told}");
    }
    let logged = log.named("endpoint_failed").concat() + &log.named("endpoint_failed_again").concat();
    assert!(logged.contains("the proxy 127.0.0.1"), "{logged}");
    assert!(!logged.contains("s3cret") && !logged.contains("alice"), "{logged}");
}

#[tokio::test]
async fn a_member_that_the_proxy_does_not_reach_is_told_apart_from_the_proxy() {
    let proxy = start().await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    proxy.knows(NAME, dead);
    let told = refused(builder(proxy.url())).await;
    assert!(told.contains("502") && told.contains("can't connect to etcd.invalid:2379"), "{told}");
    let gone = proxy.url();
    drop(proxy);
    // Its port is closed once its task is gone.
    let told = loop {
        let told = refused(builder(gone.clone())).await;
        if told.contains("refused") {
            break told;
        }
    };
    assert!(told.contains("can't be reached") && told.contains("leave proxy out"), "{told}");
    let told = refused(builder("http://proxy.invalid:3128")).await;
    assert!(told.contains("the proxy proxy.invalid:3128") && told.contains("looking up"), "{told}");
}

#[tokio::test]
async fn a_proxy_that_hangs_takes_the_dial_timeout() {
    let proxy = start().await;
    proxy.fall_silent();
    let short = Duration::from_millis(300);
    let connecting = builder(proxy.url()).dial_timeout(short).connect_timeout(4 * short).connect();
    let error = connecting.await.expect_err("nobody answers").to_string();
    assert!(error.contains("no answer within 300ms by way of the proxy 127.0.0.1"), "{error}");
    assert!(error.contains("leave proxy out"), "{error}");
}

#[tokio::test]
async fn a_proxy_that_hangs_up_is_told() {
    let proxy = start().await;
    proxy.answer(Some(""));
    let error = builder(proxy.url()).connect_timeout(Duration::from_secs(1)).connect().await;
    let error = error.expect_err("nobody answers").to_string();
    assert!(error.contains("hung up when it was asked to connect to etcd.invalid:2379"), "{error}");
}

#[tokio::test]
async fn exceptions_and_unix_sockets_are_connected_to_without_the_proxy() {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let server =
        EtcdServer::builder(EtcdVersion::V3_5).unix_socket().start_async().await.expect("etcd starts");
    let proxy = start().await;
    let excepting = builder(Proxy::new(proxy.url()).except("example, 127.0.0.0/8"));
    let client = excepting.endpoints([etcd.endpoint()]).connect().await.expect("it answers");
    client.put("k", "v").await.expect("it is put");
    let client = builder(proxy.url()).endpoints([server.endpoint()]).connect().await.expect("it answers");
    client.put("k", "v").await.expect("it is put");
    assert_eq!(proxy.asked(), [""; 0]);
    let client = builder(proxy.url()).endpoints([etcd.endpoint()]).connect().await.expect("it answers");
    client.put("k", "v").await.expect("it is put");
    assert_eq!(proxy.asked(), [etcd.address().to_string()], "a proxy that is given is for this machine, too");
}

/// An endpoint that comes up later, from the member list or by hand.
#[tokio::test]
async fn endpoints_that_come_later_go_by_the_proxy_too() {
    let first = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let second = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let proxy = start().await;
    proxy.knows(NAME, first.address());
    proxy.knows("other.invalid", second.address());
    let client = builder(proxy.url()).connect().await.expect("it answers");
    first.with_model(|model| model.config_mut().client_urls = vec!["http://other.invalid:1".into()]);
    client.sync_endpoints().await.expect("the member answers there");
    assert_eq!(client.endpoints()[0].to_string(), "http://other.invalid:1");
    client.put("k", "v").await.expect("it is put");
    assert!(proxy.asked().contains(&"other.invalid:1".to_owned()), "{:?}", proxy.asked());
    client.set_endpoints(["http://[fd00::1%25eth0]:7"]).expect("it can be used");
    proxy.knows("[fd00::1]", first.address());
    client.put("k", "v").await.expect("it is put");
    assert!(
        proxy.asked().contains(&"[fd00::1]:7".to_owned()),
        "a zone is this machine's: {:?}",
        proxy.asked()
    );
}

#[test]
fn a_proxy_that_can_not_be_used_is_refused_before_anything_is_tried() {
    let refused = |proxy: &str| match builder(proxy).connect_lazy().expect_err("it is refused") {
        BuildError::Proxy(error) => error,
        other => panic!("{other}"),
    };
    let socks = refused("socks5://alice:s3cret@127.0.0.1:1080");
    assert!(matches!(socks, ProxyError::UnsupportedScheme { option: "proxy", .. }), "{socks}");
    assert!(socks.to_string().contains("connector") && !format!("{socks:?}").contains("s3cret"), "{socks:?}");
    let malformed = refused("http://proxy:x");
    assert!(matches!(malformed, ProxyError::Malformed { option: "proxy", .. }), "{malformed}");
    let shown = format!("{:?}", builder("http://alice:s3cret@proxy:3128"));
    assert!(shown.contains("proxy:3128") && !shown.contains("s3cret") && !shown.contains("alice"), "{shown}");
}

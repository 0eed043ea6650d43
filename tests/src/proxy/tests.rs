//! Each fault, seen from both ends of a connection.

use std::{io::ErrorKind, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

use super::*;

/// How long anything that has to happen may take.
const SOON: Duration = Duration::from_secs(60);
/// How long nothing has to happen, to be taken for never.
const A_WHILE: Duration = Duration::from_millis(60);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"))
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A server that sends back what it gets.
async fn echo_server() -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut source, mut sink) = stream.split();
                let _ = tokio::io::copy(&mut source, &mut sink).await;
                let _ = sink.shutdown().await;
            });
        }
    });
    address
}

/// Both ends of a connection through the proxy.
async fn pair(proxy: &FaultProxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    let (server, _) = soon("the upstream is connected to", listener.accept()).await.unwrap();
    (client, server)
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    soon("bytes are sent", stream.write_all(bytes)).await.unwrap();
}

async fn receive(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    soon("bytes arrive", stream.read_exact(&mut bytes)).await.unwrap();
    bytes
}

async fn exchange(stream: &mut TcpStream, bytes: &[u8]) {
    send(stream, bytes).await;
    assert_eq!(receive(stream, bytes.len()).await, bytes);
}

async fn assert_silent(stream: &mut TcpStream) {
    let mut byte = [0];
    let read = timeout(A_WHILE, stream.read(&mut byte)).await;
    assert!(read.is_err(), "something arrived: {read:?}");
}

async fn assert_reset(stream: &mut TcpStream) {
    let mut byte = [0];
    let error = soon("a reset arrives", stream.read(&mut byte)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

async fn assert_ended(stream: &mut TcpStream) {
    let mut byte = [0];
    assert_eq!(soon("the end arrives", stream.read(&mut byte)).await.unwrap(), 0);
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Reads to the end, whichever it is.
async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = soon("the connection ends", stream.read_to_end(&mut bytes)).await;
    bytes
}

fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index % 251) as u8).collect()
}

#[test]
fn an_upstream_is_an_address_or_an_endpoint() {
    let expected = Upstream("127.0.0.1:2379".to_owned());
    assert_eq!(Upstream::from("127.0.0.1:2379"), expected);
    assert_eq!(Upstream::from("http://127.0.0.1:2379"), expected);
    assert_eq!(Upstream::from("http://127.0.0.1:2379/".to_owned()), expected);
    assert_eq!(Upstream::from(SocketAddr::from(([127, 0, 0, 1], 2379))), expected);
}

#[tokio::test]
async fn without_faults_bytes_pass_both_ways_and_are_counted() {
    let (listener, address) = listener().await;
    let proxy = FaultProxy::start(address).await.unwrap();
    assert_eq!(proxy.endpoint(), format!("http://{}", proxy.address()));
    let (mut client, mut server) = pair(&proxy, &listener).await;
    send(&mut client, b"hello").await;
    assert_eq!(receive(&mut server, 5).await, b"hello");
    send(&mut server, b"and good day").await;
    assert_eq!(receive(&mut client, 12).await, b"and good day");
    until("bytes are counted", || (proxy.bytes_upstream(), proxy.bytes_downstream()) == (5, 12)).await;
    assert_eq!((proxy.connections(), proxy.accepted(), proxy.cuts()), (1, 1, 0));
}

#[tokio::test]
async fn an_orderly_end_is_passed_on_one_direction_at_a_time() {
    let (listener, address) = listener().await;
    let proxy = FaultProxy::start(address).await.unwrap();
    let (mut client, mut server) = pair(&proxy, &listener).await;
    send(&mut client, b"last words").await;
    client.shutdown().await.unwrap();
    assert_eq!(receive(&mut server, 10).await, b"last words");
    assert_ended(&mut server).await;
    send(&mut server, b"answer").await;
    drop(server);
    assert_eq!(receive(&mut client, 6).await, b"answer");
    assert_ended(&mut client).await;
    until("the connection is gone", || proxy.connections() == 0).await;
    assert_eq!(proxy.cuts(), 0);
}

#[tokio::test]
async fn a_reset_by_one_end_is_passed_on_as_one() {
    let (listener, address) = listener().await;
    let proxy = FaultProxy::start(address).await.unwrap();
    let (mut client, server) = pair(&proxy, &listener).await;
    server.set_zero_linger().unwrap();
    drop(server);
    assert_reset(&mut client).await;
    until("the connection is gone", || proxy.connections() == 0).await;
}

#[tokio::test]
async fn a_reset_that_a_write_finds_out_about_is_passed_on_too() {
    let (listener, address) = listener().await;
    let proxy = FaultProxy::start(address).await.unwrap();
    let (mut client, server) = pair(&proxy, &listener).await;
    let flood = tokio::spawn(async move {
        let chunk = pattern(64 << 10);
        while client.write_all(&chunk).await.is_ok() {}
    });
    until("a flood has started", || proxy.bytes_upstream() > 64 << 10).await;
    server.set_zero_linger().unwrap();
    drop(server);
    soon("the client hears of it", flood).await.unwrap();
    until("the connection is gone", || proxy.connections() == 0).await;
}

#[tokio::test]
async fn cutting_all_resets_every_connection_at_both_ends_and_later_ones_work() {
    let (listener, address) = listener().await;
    let proxy = FaultProxy::start(address).await.unwrap();
    let (mut first, mut first_server) = pair(&proxy, &listener).await;
    let (mut second, mut second_server) = pair(&proxy, &listener).await;
    assert_eq!(proxy.cut_all(Cut::Reset), 2);
    assert_eq!((proxy.connections(), proxy.cuts()), (0, 2));
    for stream in [&mut first, &mut first_server, &mut second, &mut second_server] {
        assert_reset(stream).await;
    }
    let (mut third, mut third_server) = pair(&proxy, &listener).await;
    send(&mut third_server, b"works").await;
    assert_eq!(receive(&mut third, 5).await, b"works");
    assert_eq!((proxy.connections(), proxy.accepted(), proxy.cuts()), (1, 3, 2));
}

#[tokio::test]
async fn cutting_all_in_an_orderly_way_ends_the_stream_even_of_an_end_that_is_still_sending() {
    let (listener, address) = listener().await;
    let proxy = FaultProxy::start(address).await.unwrap();
    let (mut client, mut server) = pair(&proxy, &listener).await;
    send(&mut server, b"half a fr").await;
    until("it was forwarded", || proxy.bytes_downstream() == 9).await;
    assert_eq!(proxy.cut_all(Cut::Close), 1);
    send(&mut client, b"still sending").await;
    assert_eq!(receive(&mut client, 9).await, b"half a fr");
    assert_ended(&mut client).await;
    assert_ended(&mut server).await;
}

#[tokio::test]
async fn cutting_the_next_after_bytes_cuts_one_connection_exactly_there() {
    let (listener, address) = listener().await;
    let proxy = FaultProxy::start(address).await.unwrap();
    let (mut cut, mut cut_server) = pair(&proxy, &listener).await;
    let (mut spared, mut spared_server) = pair(&proxy, &listener).await;
    send(&mut cut_server, &pattern(500)).await;
    assert_eq!(receive(&mut cut, 500).await.len(), 500);

    proxy.cut_next_after_bytes(100_003, Cut::Close);
    send(&mut cut_server, &pattern(300_000)).await;
    assert_eq!(read_all(&mut cut).await, &pattern(300_000)[..100_003]);
    assert_eq!(proxy.cuts(), 1);

    send(&mut spared_server, &pattern(300_000)).await;
    assert_eq!(receive(&mut spared, 300_000).await, pattern(300_000));
    assert_eq!((proxy.connections(), proxy.cuts()), (1, 1));
}

#[tokio::test]
async fn a_cut_after_bytes_comes_right_after_the_last_one_and_does_not_wait_for_more() {
    let (listener, address) = listener().await;
    let proxy = FaultProxy::start(address).await.unwrap();
    let (mut client, mut server) = pair(&proxy, &listener).await;
    proxy.cut_next_after_bytes(10, Cut::Reset);
    send(&mut server, &pattern(10)).await;
    assert!(read_all(&mut client).await.len() <= 10);
    assert_reset(&mut server).await;
}

#[tokio::test]
async fn a_cut_after_no_bytes_comes_before_the_next_one() {
    let (listener, address) = listener().await;
    let proxy = FaultProxy::start(address).await.unwrap();
    let (mut client, mut server) = pair(&proxy, &listener).await;
    proxy.cut_next_after_bytes(0, Cut::Close);
    assert_silent(&mut client).await;
    send(&mut server, b"x").await;
    assert_ended(&mut client).await;
    assert_eq!((proxy.bytes_downstream(), proxy.cuts()), (0, 1));
}

#[tokio::test]
async fn cutting_each_after_bytes_goes_on_until_restored() {
    let proxy = FaultProxy::start(echo_server().await).await.unwrap();
    proxy.cut_each_after_bytes(777, Cut::Close);
    for cuts in 1..=3 {
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        send(&mut client, &pattern(5_000)).await;
        assert_eq!(read_all(&mut client).await, &pattern(5_000)[..777]);
        assert_eq!(proxy.cuts(), cuts);
    }
    proxy.restore();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    exchange(&mut client, &pattern(5_000)).await;
    assert_eq!(proxy.cuts(), 3);
}

#[tokio::test]
async fn a_delay_counts_in_both_directions_keeps_the_order_and_takes_no_bandwidth() {
    let proxy = FaultProxy::start(echo_server().await).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    exchange(&mut client, b"x").await;

    let delay = Duration::from_millis(500);
    proxy.set_delay(delay);
    let start = Instant::now();
    let (mut source, mut sink) = client.split();
    let writes = async {
        // Many small writes while the first is on its way: one after the other, their delays would add up to 20 s.
        for number in 0..20u8 {
            sink.write_all(&[number]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let mut bytes = vec![0; 20];
    let (_, read) =
        soon("all comes back", async { tokio::join!(writes, source.read_exact(&mut bytes)) }).await;
    read.unwrap();
    let took = start.elapsed();
    assert_eq!(bytes, (0..20).collect::<Vec<u8>>());
    assert!(took >= 2 * delay, "{took:?}");
    assert!(took < 30 * delay, "{took:?}");
}

#[tokio::test]
async fn a_delay_that_is_taken_away_lets_go_of_what_is_on_its_way() {
    let proxy = FaultProxy::start(echo_server().await).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    proxy.set_delay(Duration::from_secs(3600));
    send(&mut client, b"slow").await;
    assert_silent(&mut client).await;
    proxy.set_delay(Duration::ZERO);
    assert_eq!(receive(&mut client, 4).await, b"slow");
}

#[tokio::test]
async fn what_is_held_is_forwarded_when_released_and_its_end_too() {
    let (listener, address) = listener().await;
    let proxy = FaultProxy::start(address).await.unwrap();
    let (mut client, mut server) = pair(&proxy, &listener).await;
    proxy.hold();
    send(&mut server, &pattern(200_000)).await;
    drop(server);
    assert_silent(&mut client).await;
    let (mut late, mut late_server) = pair(&proxy, &listener).await;
    send(&mut late, b"late").await;
    assert_silent(&mut late_server).await;
    assert_eq!((proxy.connections(), proxy.bytes_downstream(), proxy.bytes_upstream()), (2, 0, 0));

    proxy.release();
    assert_eq!(read_all(&mut client).await, pattern(200_000));
    assert_eq!(receive(&mut late_server, 4).await, b"late");
}

#[tokio::test]
async fn holding_makes_a_sender_wait_in_the_end() {
    let (listener, address) = listener().await;
    let proxy = FaultProxy::start(address).await.unwrap();
    let (mut client, mut server) = pair(&proxy, &listener).await;
    proxy.hold();
    let total = 64 << 20;
    let mut sent = tokio::spawn(async move {
        server.write_all(&pattern(total)).await.unwrap();
    });
    // The proxy's own bound and the kernel's buffers together are less than 64 MiB.
    assert!(timeout(Duration::from_millis(300), &mut sent).await.is_err(), "the sender did not have to wait");
    proxy.release();
    assert_eq!(receive(&mut client, total).await, pattern(total));
    soon("all is sent", sent).await.unwrap();
}

#[tokio::test]
async fn a_black_hole_silences_old_and_new_connections_without_a_reset() {
    let (listener, address) = listener().await;
    let proxy = FaultProxy::start(address).await.unwrap();
    let (mut old, mut old_server) = pair(&proxy, &listener).await;
    proxy.black_hole();
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    for stream in [&mut old, &mut old_server, &mut new] {
        // More than fits into the kernel's buffers: it is taken, and goes nowhere.
        send(stream, &pattern(16 << 20)).await;
        assert_silent(stream).await;
    }
    assert!(timeout(A_WHILE, listener.accept()).await.is_err(), "the upstream heard of the new connection");
    until("both are accepted", || proxy.connections() == 2).await;
    assert_eq!((proxy.bytes_upstream(), proxy.bytes_downstream(), proxy.cuts()), (0, 0, 0));
}

#[tokio::test]
async fn in_a_black_hole_the_other_ends_death_is_not_heard_of() {
    let (listener, address) = listener().await;
    let proxy = FaultProxy::start(address).await.unwrap();
    let (mut first, first_server) = pair(&proxy, &listener).await;
    let (mut second, second_server) = pair(&proxy, &listener).await;
    proxy.black_hole();
    drop(first_server);
    second_server.set_zero_linger().unwrap();
    drop(second_server);
    assert_silent(&mut first).await;
    assert_silent(&mut second).await;
    // Once packets pass again, the kernel would answer for a process that is gone.
    proxy.restore();
    assert_reset(&mut first).await;
    assert_reset(&mut second).await;
}

#[tokio::test]
async fn a_connection_that_was_in_a_black_hole_stays_dead_until_it_is_cut() {
    let (listener, address) = listener().await;
    let proxy = FaultProxy::start(address).await.unwrap();
    let (mut dead, mut dead_server) = pair(&proxy, &listener).await;
    proxy.black_hole();
    let mut stillborn = TcpStream::connect(proxy.address()).await.unwrap();
    until("both are accepted", || proxy.connections() == 2).await;
    proxy.restore();

    let (mut alive, mut alive_server) = pair(&proxy, &listener).await;
    send(&mut alive, b"works").await;
    assert_eq!(receive(&mut alive_server, 5).await, b"works");
    send(&mut dead_server, b"lost").await;
    for stream in [&mut dead, &mut stillborn] {
        assert_silent(stream).await;
    }
    assert_eq!(proxy.cut_all(Cut::Reset), 3);
    for stream in [&mut dead, &mut dead_server, &mut stillborn, &mut alive] {
        assert_reset(stream).await;
    }
}

#[tokio::test]
async fn a_throttle_limits_the_rate_until_it_is_lifted() {
    let (listener, address) = listener().await;
    let proxy = FaultProxy::start(address).await.unwrap();
    let (mut client, mut server) = pair(&proxy, &listener).await;
    proxy.throttle(10_000);
    let start = Instant::now();
    send(&mut server, &pattern(1 << 20)).await;
    let mut bytes = receive(&mut client, 20_000).await;
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1_000), "20,000 bytes at 10,000 a second took {took:?}");
    proxy.restore();
    // The rest would take 100 s, which is longer than anything is waited for here.
    bytes.extend(receive(&mut client, (1 << 20) - 20_000).await);
    assert_eq!(bytes, pattern(1 << 20));
}

#[tokio::test]
async fn refusing_resets_new_connections_and_leaves_the_others() {
    let proxy = FaultProxy::start(echo_server().await).await.unwrap();
    let mut old = TcpStream::connect(proxy.address()).await.unwrap();
    exchange(&mut old, b"before").await;
    proxy.refuse();
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert_reset(&mut new).await;
    exchange(&mut old, b"meanwhile").await;
    assert_eq!((proxy.connections(), proxy.accepted(), proxy.refused()), (1, 1, 1));
    proxy.restore();
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    exchange(&mut new, b"after").await;
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_reset_and_another_can_be_set() {
    let (gone, address) = listener().await;
    drop(gone);
    let proxy = FaultProxy::start(address).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert_reset(&mut client).await;
    assert_eq!(proxy.refused(), 1);

    proxy.set_upstream(echo_server().await.to_string());
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    exchange(&mut client, b"there").await;
}

#[tokio::test]
async fn faults_that_lose_nothing_change_no_byte() {
    let proxy = FaultProxy::start(echo_server().await).await.unwrap();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    let sent: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(6 << 20).collect();
    let (mut source, mut sink) = client.split();
    let mut received = vec![0; sent.len()];
    let faults = async {
        loop {
            match random.u32(..5) {
                0 => proxy.hold(),
                1 => proxy.release(),
                2 => proxy.set_delay(Duration::from_millis(random.u64(..20))),
                3 => proxy.throttle(random.u64(1_000_000..100_000_000)),
                _ => proxy.restore(),
            }
            tokio::time::sleep(Duration::from_millis(random.u64(1..10))).await;
        }
    };
    let transfer = async { tokio::join!(sink.write_all(&sent), source.read_exact(&mut received)) };
    let (written, read) = soon(&format!("all comes back (seed {seed})"), async {
        tokio::select! {
            done = transfer => done,
            () = faults => unreachable!("faults go on"),
        }
    })
    .await;
    written.unwrap();
    read.unwrap();
    assert!(sent == received, "bytes were changed (seed {seed})");
}

#[tokio::test]
async fn dropping_the_proxy_ends_its_connections_and_frees_its_port() {
    let proxy = FaultProxy::start(echo_server().await).await.unwrap();
    let address = proxy.address();
    let mut client = TcpStream::connect(address).await.unwrap();
    exchange(&mut client, b"x").await;
    drop(proxy);
    assert_eq!(read_all(&mut client).await, b"");
    soon("the port is free", async {
        while TcpListener::bind(address).await.is_err() {
            tokio::task::yield_now().await
        }
    })
    .await;
}

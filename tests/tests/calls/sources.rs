//! What errors tell a program.

use std::{error::Error, io};

use etcd_watch_client::{CallError, OpenError, StartError};
use etcd_watch_testkit::{
    harness::wait_until,
    proxy::{Cut, FaultProxy},
};

use crate::world::{Answer, DEADLINE, SECOND, Scripted, builder, client, healthy};

/// The I/O error among an error's sources.
fn io_error(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        next = error.source();
    }
    None
}

/// An endpoint that nobody listens on.
/// Where nobody listens.
pub(crate) async fn dead_endpoint() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    format!("http://{}", listener.local_addr().expect("it is bound"))
}

#[tokio::test]
async fn the_sources_of_an_error_lead_to_the_refused_connection() {
    // By one address, and by a name that may have several.
    let by_address = dead_endpoint().await;
    let by_name = by_address.replace("127.0.0.1", "localhost");
    for endpoint in [by_address, by_name] {
        let builder = builder([&endpoint[..]]).request_timeout(SECOND);
        let client = builder.clone().connect_lazy().expect("it is valid");
        let error = client.get("key").await.expect_err("nobody is there");
        assert!(matches!(error, CallError::Timeout { last: Some(_), .. }), "{error}");
        assert_eq!(io_error(&error), Some(io::ErrorKind::ConnectionRefused), "{endpoint}: {error}");
        let StartError::Unreachable { endpoints, .. } = builder.connect().await.expect_err("nobody is there")
        else {
            panic!("it is not reachable")
        };
        assert_eq!(io_error(&endpoints[0].cause), Some(io::ErrorKind::ConnectionRefused), "{endpoint}");
    }
}

#[tokio::test]
async fn the_sources_of_a_write_that_was_cut_lead_to_the_reset_connection() {
    let hanging = Scripted::start(|_| Answer::Silence).await;
    let proxy = FaultProxy::start(hanging.endpoint()).await.expect("a free port");
    let client = client([proxy.endpoint()]);
    let put = client.put("key", "value");
    let cut = async {
        wait_until("the write has come", DEADLINE, || hanging.requests() == 1).await;
        proxy.cut_all(Cut::Reset);
    };
    let (put, ()) = tokio::join!(put, cut);
    let error = put.expect_err("its answer is lost");
    assert!(matches!(error, CallError::MaybeExecuted { .. }), "{error}");
    assert_eq!(io_error(&error), Some(io::ErrorKind::ConnectionReset), "{error}");
}

#[tokio::test]
async fn a_closed_client_says_that_it_is_closed() {
    let etcd = healthy().await;
    let client = client([etcd.endpoint()]);
    client.close().await;
    assert_eq!(client.watch("key").err(), Some(OpenError::Closed));
    let request = etcd_watch_client::MirrorRequest::new("key");
    assert_eq!(client.mirror(request).err(), Some(OpenError::Closed));
    let error = client.get("key").await.expect_err("it is closed");
    assert!(matches!(error, CallError::Closed { .. }) && !error.is_transient(), "{error}");
}

#[tokio::test]
async fn closing_a_client_wakes_the_calls_that_wait_for_an_endpoint() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let client = client([format!("http://{}", silent.local_addr().expect("it is bound"))]);
    let close = async {
        let _connected = silent.accept().await.expect("the client connects");
        client.close().await;
    };
    let (read, write, ()) = tokio::join!(client.get("key"), client.put("key", "value"), close);
    for error in [read.err(), write.err()] {
        assert!(matches!(error, Some(CallError::Closed { .. })), "{error:?}");
    }
}

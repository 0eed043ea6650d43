//! The tunnel through a proxy: the CONNECT request (RFC 9110, section 9.3.6), and what its answers mean.

use std::{io, pin::pin};

use etcd_watch_core::printable;
use futures_util::future::{Either, select};
use http::{HeaderMap, Request, StatusCode, header};
use hyper::{client::conn::http1, upgrade};
use tonic::body::Body;

use super::{super::error::ConnectError, via::Via};
use crate::{Endpoint, runtime::Io};

/// Asks the proxy at the other end of the socket for a tunnel to the endpoint.
pub(in super::super) async fn open(
    socket: Box<dyn Io>,
    via: &Via,
    endpoint: &Endpoint,
) -> Result<Box<dyn Io>, ConnectError> {
    let target = endpoint.uri().authority().map_or("", |authority| authority.as_str());
    let (mut sender, connection) =
        http1::handshake(socket).await.map_err(|error| broken(via, target, &error))?;
    let mut request = Request::connect(target).header(header::HOST, target);
    if let Some(credentials) = via.credentials() {
        request = request.header(header::PROXY_AUTHORIZATION, credentials.clone());
    }
    let request = request.body(Body::empty()).map_err(ConnectError::new)?;
    let answer = pin!(async move {
        let response = sender.send_request(request).await.map_err(|error| broken(via, target, &error))?;
        if !response.status().is_success() {
            return Err(refused(via, target, response.status(), response.headers()));
        }
        upgrade::on(response).await.map_err(|error| broken(via, target, &error))
    });
    let tunnel = match select(answer, pin!(connection.with_upgrades())).await {
        Either::Left((tunnel, _)) => tunnel?,
        // The connection has ended, and has handed the socket and all unread bytes to the answer.
        Either::Right((_, answer)) => answer.await?,
    };
    Ok(Box::new(tunnel))
}

/// The proxy itself can't be connected to.
pub(in super::super) fn unreachable(via: &Via, error: ConnectError) -> ConnectError {
    let text = format!("{via} can't be reached: {error}; {}", around(via));
    error.with_text(text)
}

/// Nothing has come from the proxy, or through it.
pub(in super::super) fn silent(via: &Via, silence: &str) -> ConnectError {
    ConnectError::new(format!("{silence} by way of {via}; {}", around(via)))
}

/// How to do without the proxy.
fn around(via: &Via) -> &'static str {
    match via.option() {
        "proxy" => "to connect without it, leave proxy out or except the endpoint from it",
        _ => "to connect without it, name the endpoint in NO_PROXY, or set no_proxy",
    }
}

/// The proxy has answered, and there is no tunnel.
fn refused(via: &Via, target: &str, status: StatusCode, headers: &HeaderMap) -> ConnectError {
    match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            ConnectError::turned_away(format!("{via} {} ({status})", wants(via, headers)))
        }
        StatusCode::FORBIDDEN => ConnectError::turned_away(format!(
            "{via} does not allow connections to {target} ({status}): have it allow CONNECT there; {}",
            around(via)
        )),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => ConnectError::turned_away(format!(
            "{via} can't connect to {target} ({status}): is a member up there, and does the proxy know it by this name?"
        )),
        StatusCode::GATEWAY_TIMEOUT => ConnectError::new(format!(
            "{via} gets no answer from {target} ({status}): is a member up there, and does the proxy reach it?"
        )),
        status => ConnectError::turned_away(format!(
            "{via} answers CONNECT {target} with {status}: is it an HTTP proxy that allows CONNECT? {}",
            around(via)
        )),
    }
}

/// What the proxy wants to know of the user, and what to do about it.
fn wants(via: &Via, headers: &HeaderMap) -> String {
    let asked = headers.get_all(header::PROXY_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let kinds: Vec<&str> = asked.filter_map(|value| value.split([' ', ',']).next()).collect();
    let authority = via.authority();
    if !kinds.is_empty() && !kinds.iter().any(|kind| kind.eq_ignore_ascii_case("basic")) {
        let kinds = printable(kinds.join(", "));
        return format!(
            "wants users to show themselves by {kinds}, and this client only can by Basic: have the proxy allow that"
        );
    }
    match via.credentials() {
        None => format!("wants a user and a password: write http://user:password@{authority}"),
        Some(_) => "does not accept the user and the password in its URL: check them; in a URL, %40 stands for @, %3A for : and %25 for %"
            .to_owned(),
    }
}

/// What is at the proxy's address has not answered as a proxy does.
fn broken(via: &Via, target: &str, error: &hyper::Error) -> ConnectError {
    let is_stranger = error.is_parse();
    let problem = match () {
        () if is_stranger => "does not answer in HTTP/1.1: is it an HTTP proxy?".to_owned(),
        () if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => {
            format!(
                "hung up when it was asked to connect to {target}: is it an HTTP proxy that allows CONNECT?"
            )
        }
        () => format!("broke the connection: {}", super::super::causes::chain(error)),
    };
    let text = format!("{via} {problem}");
    if is_stranger { ConnectError::turned_away(text) } else { ConnectError::new(io::Error::other(text)) }
}

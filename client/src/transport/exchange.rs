//! A connection as one unary call sees it. It notes when the request's message leaves, and looks at the head of the
//! response before tonic takes its body for gRPC's.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use etcd_watch_core::{Failure, wire::check_head};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body, codegen::Service};

use super::{answer::Answer, connection::Connection};
use crate::{BoxError, runtime::BoxFuture};

/// Whether the message of a request has begun to leave. Until then nobody can have executed it: HTTP/2 asks for the
/// message only when the request has a stream of its own, which takes a connection that is up and a peer that allows one
/// more stream.
///
/// A request that nobody waits for any longer is withdrawn: it may still have a place in the connection's queue, and
/// without that its message would leave as soon as the peer allows one more stream, long after the request was made
/// elsewhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<AtomicU8>);

/// The message may still leave.
const WAITING: u8 = 0;
const SENT: u8 = 1;
/// It never will.
const WITHDRAWN: u8 = 2;

impl Sent {
    /// Whether it has begun to leave. Once the call's future is gone the answer is final.
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire) == SENT
    }

    /// The message is asked for. Whether it may leave.
    fn leave(&self) -> bool {
        self.change(SENT) != WITHDRAWN
    }

    fn withdraw(&self) {
        self.change(WITHDRAWN);
    }

    /// Changes what is still open; what it is then.
    fn change(&self, to: u8) -> u8 {
        match self.0.compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => to,
            Err(decided) => decided,
        }
    }
}

/// Withdraws the request when it is dropped, if its message has not begun to leave.
struct Withdrawing(Sent);

impl Drop for Withdrawing {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

/// The connection, for one call.
pub(crate) struct Exchange {
    connection: Connection,
    sent: Sent,
}

impl Exchange {
    pub(crate) fn new(connection: Connection, sent: Sent) -> Self {
        Self { connection, sent }
    }
}

impl Service<Request<Body>> for Exchange {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Answer>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connection.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let sent = self.sent.clone();
        let withdrawing = Withdrawing(self.sent.clone());
        let response = self.connection.call(request.map(|body| Body::new(Leaving { body, sent })));
        Box::pin(async move {
            let _withdrawing = withdrawing;
            let response = response.await?;
            NotGrpc::check(&response)?;
            Ok(response)
        })
    }
}

/// A request's body, which says when it is asked for, and gives nothing of a request that was withdrawn.
struct Leaving {
    body: Body,
    sent: Sent,
}

impl http_body::Body for Leaving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.sent.leave() {
            return Poll::Ready(Some(Err(Status::cancelled("the request was withdrawn"))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The response is not gRPC's: something between the client and etcd has made it.
#[derive(Debug, thiserror::Error)]
#[error("{failure}")]
pub(crate) struct NotGrpc {
    failure: Failure,
    http_status: u16,
}

impl NotGrpc {
    fn check<B>(response: &Response<B>) -> Result<(), Self> {
        let headers = response.headers();
        if headers.contains_key("grpc-status") {
            return Ok(());
        }
        let http_status = response.status().as_u16();
        check_head(http_status, |name| headers.get(name).map(http::HeaderValue::as_bytes))
            .map_err(|failure| Self { failure, http_status })
    }

    pub(crate) fn failure(&self) -> &Failure {
        &self.failure
    }

    /// Whether whoever has answered has not passed the request on: it redirects, or refuses it by its own rules. What is
    /// wrong with a server (5xx) may have gone wrong after the request had reached etcd.
    pub(crate) fn is_refusal(&self) -> bool {
        (300..500).contains(&self.http_status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, headers: &[(&str, &str)]) -> Option<NotGrpc> {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        NotGrpc::check(&response.body(()).expect("it is a response")).err()
    }

    #[test]
    fn the_message_of_a_request_that_nobody_waits_for_does_not_leave() {
        use http_body::Body as _;
        let leaving = |sent: &Sent| {
            let mut body = Leaving { body: Body::default(), sent: sent.clone() };
            let mut cx = Context::from_waker(std::task::Waker::noop());
            matches!(Pin::new(&mut body).poll_frame(&mut cx), Poll::Ready(Some(Err(_))))
        };
        let given_up = Sent::default();
        drop(Withdrawing(given_up.clone()));
        assert!(leaving(&given_up) && !given_up.get(), "it is refused, and was not sent");
        let on_its_way = Sent::default();
        assert!(!leaving(&on_its_way) && on_its_way.get());
        drop(Withdrawing(on_its_way.clone()));
        assert!(on_its_way.get() && !leaving(&on_its_way), "too late to withdraw it");
    }

    #[test]
    fn what_is_not_grpcs_is_told_by_its_head() {
        let html = ("content-type", "text/html");
        let grpc = ("content-type", "application/grpc");
        for (status, headers, refusal) in [
            (503, vec![html], false),
            (502, vec![grpc], false),
            (429, vec![html], true),
            (404, vec![], true),
            (301, vec![html], true),
            (200, vec![html], false),
        ] {
            let found = check(status, &headers).expect("it is not gRPC's");
            assert_eq!(found.is_refusal(), refusal, "{found}");
        }
        assert!(check(200, &[grpc]).is_none());
        assert!(check(503, &[("grpc-status", "14")]).is_none(), "gRPC's status goes before HTTP's");
    }
}

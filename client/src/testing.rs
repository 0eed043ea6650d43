//! A runtime for unit tests of what needs none.

use std::{future::Future, time::Duration};

use etcd_watch_core::Instant;
use tonic::body::Body;

use crate::{AmbientRuntime, ConnectError, ConnectOptions, Endpoint, NoRuntime, Runtime};

/// Nothing can be reached, and nothing is ever run.
#[derive(Clone, Debug)]
pub(crate) struct NoNetwork;

/// A connection that can't exist.
#[derive(Clone, Debug)]
pub(crate) enum Never {}

impl tonic::codegen::Service<http::Request<Body>> for Never {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        match *self {}
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        match *self {}
    }
}

impl Runtime for NoNetwork {
    type Transport = Never;

    async fn connect(&self, _: &Endpoint, _: &ConnectOptions) -> Result<Never, ConnectError> {
        Err(ConnectError::new("no network"))
    }

    async fn sleep(&self, _: Duration) {
        std::future::pending().await
    }

    fn spawn(&self, _: impl Future<Output = ()> + Send + 'static) {}

    fn now(&self) -> Instant {
        Instant::ZERO
    }
}

impl AmbientRuntime for NoNetwork {
    fn ambient() -> Result<Self, NoRuntime> {
        Ok(Self)
    }
}

//! Connecting to whichever of a name's addresses answers.

use std::{io, net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};

use crate::{
    Runtime,
    runtime::{Io, Peer, timeout},
};

/// How long one of a name's addresses is waited for before the next is tried beside it (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to the first of the addresses that answers. They are tried in order, each a quarter of a
/// second after the one before it or as soon as that has failed.
///
/// # Errors
/// The last failure, when all have failed or there is none.
pub(super) async fn first_to_connect(
    runtime: &dyn Runtime,
    addresses: impl IntoIterator<Item = SocketAddr>,
) -> io::Result<Box<dyn Io>> {
    let mut addresses = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        let next = addresses.next();
        let more = next.is_some();
        attempts.extend(next.map(|address| runtime.connect(Peer::Tcp(address))));
        let finished =
            if more { timeout(runtime, STAGGER, attempts.next()).await } else { Some(attempts.next().await) };
        match finished {
            Some(Some(Ok(stream))) => return Ok(stream),
            Some(Some(Err(error))) => failure = error,
            Some(None) => return Err(failure),
            // Still under way: the next address beside it.
            None => {}
        }
    }
}

//! HTTP/2 alone, with the settings of this project's client: data is read, counted and dropped.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use etcd_watch_bench::{
    CONNECTION_WINDOW, STREAM_WINDOW,
    meter::{Figures, Meter},
};
use etcd_watch_core::wire::{PREFIX_BYTES, frame};
use etcd_watch_proto::prost::Message;
use http::Request;
use http_body::{Body, Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::{Events, raw};

/// Counts messages by their lengths, and decodes none.
pub(crate) async fn events(endpoint: &str, watches: usize, task: &Events) -> Result<Figures> {
    let address = endpoint.strip_prefix("http://").context("an address with http://")?;
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut http = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    http.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let (mut sender, connection) = http.handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    let request = Request::post(format!("{}/etcdserverpb.Watch/Watch", endpoint))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Creates(Some(creates(watches))))?;
    let response = sender.send_request(request).await?;
    let mut body = pin!(response.into_body());
    let mut meter = Meter::new(task.events, false);
    // Each create is answered.
    let mut answers = watches as u64;
    let mut messages = Messages::default();
    while !meter.is_done() {
        let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        let data = frame.context("the stream has ended")??.into_data().ok().context("only data is sent")?;
        let ended = messages.end_in(&data);
        let answered = ended.min(answers);
        answers -= answered;
        if answers == 0 {
            meter.response();
            meter.undecoded((ended - answered) * task.events_per_response, data.len() as u64);
        }
    }
    meter.figures()
}

fn creates(watches: usize) -> Bytes {
    let mut bytes = BytesMut::new();
    for _ in 0..watches {
        bytes.extend_from_slice(&frame(&raw::create().encode_to_vec()));
    }
    bytes.freeze()
}

/// The requests; their side of the stream stays open.
struct Creates(Option<Bytes>);

impl Body for Creates {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // Nothing wakes it: there will be no more.
        self.get_mut().0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
    }
}

/// Where messages end.
#[derive(Default)]
struct Messages {
    head: Vec<u8>,
    /// Bytes of the message that are to come.
    rest: usize,
}

impl Messages {
    /// How many messages end in this data.
    fn end_in(&mut self, mut data: &[u8]) -> u64 {
        let mut ended = 0;
        while !data.is_empty() {
            if self.rest == 0 {
                let (head, behind) = data.split_at(data.len().min(PREFIX_BYTES - self.head.len()));
                self.head.extend_from_slice(head);
                data = behind;
                let Some(length) = self.head.get(1..PREFIX_BYTES).and_then(|bytes| bytes.first_chunk())
                else {
                    break;
                };
                self.rest = u32::from_be_bytes(*length) as usize;
                self.head.clear();
            }
            let taken = data.len().min(self.rest);
            data = &data[taken..];
            self.rest -= taken;
            ended += u64::from(self.rest == 0);
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let bytes: Vec<u8> =
            (1..9_u8).flat_map(|n| [&[0, 0, 0, 0, n][..], &vec![1; n as usize]].concat()).collect();
        for cut in 1..bytes.len() {
            let mut messages = Messages::default();
            let ended: u64 = bytes.chunks(cut).map(|data| messages.end_in(data)).sum();
            assert_eq!(ended, 8, "in pieces of {cut}");
        }
    }
}

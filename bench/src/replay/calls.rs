//! The calls of a client, as far as they are needed before a watch runs.

use std::{future::poll_fn, sync::Arc};

use anyhow::{Context, Result};
use bytes::Bytes;
use etcd_watch_core::wire::{Messages, frame};
use etcd_watch_proto::{
    etcdserverpb::{
        Member, MemberListResponse, RangeResponse, ResponseHeader, StatusResponse, WatchRequest,
        WatchResponse, watch_request::RequestUnion,
    },
    prost::Message,
};
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::sync::watch;

use crate::{
    link::Link,
    message::{CLUSTER_ID, FIRST_REVISION, MEMBER_ID, RAFT_TERM, Shape},
    tap::Tap,
};

/// The largest request that is taken, in bytes.
const LARGEST: usize = 1 << 20;

/// Says when as many watches are there as the plan wants.
pub(crate) struct Gate {
    pub(crate) missing: std::sync::atomic::AtomicUsize,
    pub(crate) started: watch::Sender<bool>,
    pub(crate) shape: Shape,
}

impl Gate {
    fn created(&self) {
        use std::sync::atomic::Ordering;
        let before = self.missing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if before == Ok(1) {
            self.started.send_replace(true);
        }
    }
}

/// Answers the calls of a connection until it is closed.
pub(crate) async fn serve(tap: Tap, link: Arc<Link>, gate: Arc<Gate>, address: String) -> Result<()> {
    let mut server = h2::server::Builder::new();
    server.initial_window_size(1 << 20).initial_connection_window_size(1 << 24);
    let mut connection = server.handshake::<_, Bytes>(tap).await?;
    while let Some(call) = connection.accept().await {
        let (request, respond) = call?;
        let (link, gate, address) = (link.clone(), gate.clone(), address.clone());
        tokio::spawn(async move {
            if let Err(error) = answer(request, respond, &link, &gate, address).await
                && !has_left(&error)
            {
                eprintln!("replay: a call was not answered: {error:#}");
            }
        });
    }
    Ok(())
}

/// Whether the client has ended the call or the connection.
fn has_left(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<h2::Error>();
    error.is_some_and(|error| error.is_remote() || error.is_io())
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { cluster_id: CLUSTER_ID, member_id: MEMBER_ID, revision, raft_term: RAFT_TERM })
}

async fn answer(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    link: &Link,
    gate: &Gate,
    address: String,
) -> Result<()> {
    let header = header(FIRST_REVISION - 1);
    let message = match request.uri().path() {
        "/etcdserverpb.Watch/Watch" => return watches(request.into_body(), respond, link, gate).await,
        "/etcdserverpb.Maintenance/Status" => {
            let version = "3.5.30".to_owned();
            let mut status = StatusResponse { header, version, leader: MEMBER_ID, ..Default::default() };
            status.raft_term = RAFT_TERM;
            status.encode_to_vec()
        }
        "/etcdserverpb.KV/Range" => RangeResponse { header, ..Default::default() }.encode_to_vec(),
        "/etcdserverpb.Cluster/MemberList" => {
            let client_urls = vec![address];
            let member =
                Member { id: MEMBER_ID, name: "replay".to_owned(), client_urls, ..Default::default() };
            MemberListResponse { header, members: vec![member] }.encode_to_vec()
        }
        path => return unimplemented_call(respond, path),
    };
    let mut stream = head(respond)?;
    stream.send_data(frame(&message), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)?;
    Ok(())
}

fn head(mut respond: SendResponse<Bytes>) -> Result<SendStream<Bytes>> {
    let head = Response::builder().header("content-type", "application/grpc").body(())?;
    Ok(respond.send_response(head, false)?)
}

fn unimplemented_call(mut respond: SendResponse<Bytes>, path: &str) -> Result<()> {
    let head = Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", "12")
        .header("grpc-message", format!("replay has no {path}"));
    respond.send_response(head.body(())?, true)?;
    Ok(())
}

async fn watches(mut body: RecvStream, respond: SendResponse<Bytes>, link: &Link, gate: &Gate) -> Result<()> {
    let id = respond.stream_id().as_u32();
    // Lives as long as the stream does: without it `h2` would reset that.
    let mut stream = head(respond)?;
    let index = link.state().stream(id).context("the tap has seen the stream")?;
    let mut arrived = Messages::new(LARGEST);
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        arrived.push(data);
        while let Some(message) = arrived.pop()? {
            handle(WatchRequest::decode(message)?, index, link, gate);
        }
    }
    poll_fn(|cx| stream.poll_reset(cx)).await?;
    Ok(())
}

fn handle(request: WatchRequest, stream: usize, link: &Link, gate: &Gate) {
    let (answer, is_new) = match request.request_union {
        Some(RequestUnion::CreateRequest(create)) => {
            let watch_id = link.state().create(stream, create.watch_id, create.start_revision, gate.shape);
            (WatchResponse { watch_id, created: true, ..Default::default() }, true)
        }
        Some(RequestUnion::CancelRequest(cancel)) => {
            let watch_id = cancel.watch_id;
            if !link.state().cancel(stream, watch_id) {
                return;
            }
            (WatchResponse { watch_id, canceled: true, ..Default::default() }, false)
        }
        Some(RequestUnion::ProgressRequest(_)) => {
            (WatchResponse { watch_id: -1, ..Default::default() }, false)
        }
        None => return,
    };
    let header = header(link.state().sent());
    link.answer(stream, &frame(&WatchResponse { header, ..answer }.encode_to_vec()));
    if is_new {
        gate.created();
    }
}

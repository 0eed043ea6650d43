//! tonic and prost, as one writes it by hand.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_watch_bench::{
    CONNECTION_WINDOW, PREFIX,
    meter::{Figures, Meter},
};
use etcd_watch_proto::etcdserverpb::{
    RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse, kv_client::KvClient,
    watch_client::WatchClient, watch_request::RequestUnion,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use crate::Events;

/// Takes events of any number of watches on one stream.
pub(crate) async fn events(endpoint: &str, watches: usize, task: &Events) -> Result<Figures> {
    let creates = (0..watches).map(|_| create());
    let (_requests, mut responses) = watch(connect(endpoint).await?, creates).await?;
    let mut meter = Meter::new(task.events, task.stamped);
    while !meter.is_done() {
        let response = responses.message().await?.context("the stream has ended")?;
        ensure!(!response.canceled, "a watch was cancelled: {}", response.cancel_reason);
        if response.events.is_empty() {
            continue;
        }
        meter.response();
        for event in &response.events {
            let kv = event.kv.as_ref().context("an event without a key")?;
            meter.event(&kv.key, &kv.value, kv.mod_revision);
        }
    }
    meter.figures()
}

/// The seconds until watches of a key each are created, all requested before the first answer.
pub(crate) async fn create_all(endpoint: &str, watches: usize) -> Result<f64> {
    let channel = connect(endpoint).await?;
    // The connection is there before the time begins, as it is for others.
    KvClient::new(channel.clone()).range(RangeRequest { key: "warm".into(), ..Default::default() }).await?;
    let begun = Instant::now();
    let creates = (0..watches).map(|index| watch_of(format!("bench/{index}").into(), Bytes::new()));
    let (_requests, mut responses) = watch(channel, creates).await?;
    let mut created = 0;
    while created < watches {
        let response = responses.message().await?.context("the stream has ended")?;
        ensure!(!response.canceled, "a watch was cancelled: {}", response.cancel_reason);
        created += usize::from(response.created);
    }
    Ok(begun.elapsed().as_secs_f64())
}

async fn connect(endpoint: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned())?.tcp_nodelay(true);
    // By default h2 ends a connection on which the answers to a hundred thousand creates wait.
    Ok(endpoint.initial_connection_window_size(CONNECTION_WINDOW).connect().await?)
}

/// Opens a stream of watches. It lasts as long as the sender does.
async fn watch(
    channel: Channel,
    creates: impl ExactSizeIterator<Item = WatchRequest>,
) -> Result<(mpsc::Sender<WatchRequest>, Streaming<WatchResponse>)> {
    // tonic's own limit of 4 MiB is below what etcd sends.
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    let (requests, to_send) = mpsc::channel(creates.len());
    for create in creates {
        requests.try_send(create)?;
    }
    let responses = client.watch(ReceiverStream::new(to_send)).await?.into_inner();
    Ok((requests, responses))
}

/// A request for a watch of all keys of the run.
pub(crate) fn create() -> WatchRequest {
    let mut range_end = PREFIX.as_bytes().to_vec();
    if let Some(last) = range_end.last_mut() {
        *last += 1;
    }
    watch_of(PREFIX.into(), range_end.into())
}

fn watch_of(key: Bytes, range_end: Bytes) -> WatchRequest {
    let create = WatchCreateRequest { key, range_end, ..WatchCreateRequest::default() };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

//! One of the two servers, as clients reach it.

use std::time::Duration;

use etcd_watch_proto::etcdserverpb::{
    WatchRequest, WatchResponse, watch_client::WatchClient, watch_request::RequestUnion,
};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::AbortHandle,
    time::{Instant, timeout_at},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::log::StreamLog;

/// One of the two servers, as clients reach it.
pub(crate) struct Side {
    pub(crate) channel: Channel,
    pub(crate) streams: Vec<Stream>,
    overtaking: bool,
    patience: Duration,
    heard: UnboundedReceiver<Heard>,
    ear: UnboundedSender<Heard>,
}

/// One stream of it.
pub(crate) struct Stream {
    pub(crate) log: StreamLog,
    requests: Option<UnboundedSender<WatchRequest>>,
    reader: AbortHandle,
}

/// What came on a stream.
struct Heard {
    stream: usize,
    response: Result<WatchResponse, Status>,
}

impl Side {
    pub(crate) fn new(endpoint: String, overtaking: bool, patience: Duration) -> Self {
        let channel = Endpoint::from_shared(endpoint).expect("a URL").connect_lazy();
        let (ear, heard) = mpsc::unbounded_channel();
        Self { channel, streams: Vec::new(), overtaking, patience, heard, ear }
    }

    pub(crate) fn open(&mut self) {
        let (requests, outbound) = mpsc::unbounded_channel();
        let client = WatchClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        let outbound = UnboundedReceiverStream::new(outbound);
        let reader = tokio::spawn(read(client, outbound, self.streams.len(), self.ear.clone()));
        self.streams.push(Stream {
            log: StreamLog::new(self.overtaking),
            requests: Some(requests),
            reader: reader.abort_handle(),
        });
    }

    pub(crate) fn close(&mut self, stream: usize) {
        let stream = &mut self.streams[stream];
        stream.requests = None;
        stream.reader.abort();
    }

    /// Closes all streams and forgets them.
    pub(crate) fn start_over(&mut self) {
        (0..self.streams.len()).for_each(|stream| self.close(stream));
        self.streams.clear();
        (self.ear, self.heard) = mpsc::unbounded_channel();
    }

    pub(crate) fn send(&self, stream: usize, request: RequestUnion) {
        let request = WatchRequest { request_union: Some(request) };
        if let Some(requests) = &self.streams[stream].requests {
            // A stream that has failed says so where it is listened to.
            let _failed = requests.send(request);
        }
    }

    /// Listens until it is enough, or something was said that no server may say. False if neither comes.
    pub(crate) async fn hear_until(&mut self, mut enough: impl FnMut(&[Stream]) -> bool) -> bool {
        let end = Instant::now() + self.patience;
        loop {
            while let Ok(heard) = self.heard.try_recv() {
                self.absorb(heard);
            }
            let illegal = self.streams.iter().any(|stream| !stream.log.illegal.is_empty());
            if illegal || enough(&self.streams) {
                return true;
            }
            match timeout_at(end, self.heard.recv()).await {
                Ok(Some(heard)) => self.absorb(heard),
                Ok(None) | Err(_) => return false,
            }
        }
    }

    fn absorb(&mut self, heard: Heard) {
        let stream = &mut self.streams[heard.stream];
        match heard.response {
            _ if stream.requests.is_none() => {}
            Ok(response) => stream.log.absorb(response),
            Err(status) => stream.log.failed(&format!("{:?} {}", status.code(), status.message())),
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.start_over();
    }
}

async fn read(
    mut client: WatchClient<Channel>,
    requests: UnboundedReceiverStream<WatchRequest>,
    stream: usize,
    ear: UnboundedSender<Heard>,
) {
    let hear = |response| ear.send(Heard { stream, response }).is_ok();
    let mut responses = match client.watch(requests).await {
        Ok(responses) => responses.into_inner(),
        Err(status) => {
            hear(Err(status));
            return;
        }
    };
    loop {
        let heard = match responses.message().await {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(Status::ok("the end")),
            Err(status) => Err(status),
        };
        let over = heard.is_err();
        if !hear(heard) || over {
            return;
        }
    }
}

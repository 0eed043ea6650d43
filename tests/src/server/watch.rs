//! The watch service.

use std::sync::Arc;

use etcd_watch_proto::etcdserverpb::watch_server::Watch;
use etcd_watch_proto::etcdserverpb::{WatchRequest, WatchResponse};
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::guard::{Caller, caller};
use super::replies::{Replies, replies};
use super::shared::Shared;
use super::status::status;
use crate::model::ModelStream;

/// The watch service.
#[derive(Debug)]
pub(super) struct WatchService(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = Replies<WatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.0.check_leader()?;
        // One response at a time: what the client doesn't take has to wait in the model, which bounds it.
        let (responses, outbound) = mpsc::channel(1);
        let caller = caller(&request);
        tokio::spawn(serve(Arc::clone(&self.0), caller, request.into_inner(), responses));
        replies(outbound).await
    }
}

type Responses = mpsc::Sender<Result<WatchResponse, Status>>;

/// Serves one stream until its client or its member is gone.
async fn serve(shared: Arc<Shared>, caller: Caller, requests: Streaming<WatchRequest>, responses: Responses) {
    let (stream, output) = shared.open_watch_stream();
    let room = Notify::new();
    tokio::select! {
        biased;
        () = receive(&shared, &caller, stream, requests, &room) => {}
        () = send(&shared, stream, &output, &room, &responses) => {}
        () = responses.closed() => {}
    }
    shared.close_watch_stream(stream);
}

/// Reads requests while there is room for the replies. A client that has said its last goes on listening.
async fn receive(
    shared: &Shared,
    caller: &Caller,
    stream: ModelStream,
    mut requests: Streaming<WatchRequest>,
    room: &Notify,
) {
    loop {
        while !shared.with_model(|model| model.wants_watch_request(stream)) {
            room.notified().await;
        }
        match requests.message().await {
            Ok(Some(request)) => {
                let refusal = caller.refusal(&request);
                shared.with_model(|model| match refusal {
                    Some(reason) => model.refuse_watch_request(stream, request, &reason),
                    None => model.handle_watch_request(stream, request),
                });
            }
            Ok(None) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}

/// Sends responses at the client's pace.
async fn send(shared: &Shared, stream: ModelStream, output: &Notify, room: &Notify, responses: &Responses) {
    loop {
        // The place is had first, so that the model keeps what can't be sent yet.
        let Ok(place) = responses.reserve().await else { return };
        let next = shared.with_model(|model| match model.watch_stream_failure(stream) {
            Some(error) => Err(status(error)),
            None if !model.has_watch_stream(stream) => Err(Status::unavailable("etcdserver: server stopped")),
            None => Ok(model.poll_watch_response(stream)),
        });
        match next {
            Ok(Some(response)) => {
                place.send(Ok(response));
                room.notify_one();
            }
            Ok(None) => {
                drop(place);
                output.notified().await;
            }
            Err(failure) => return place.send(Err(failure)),
        }
    }
}

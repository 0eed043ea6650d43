//! What goes back on a stream of requests.

use tokio::sync::mpsc::Receiver;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Once, StreamExt, adapters::Chain};
use tonic::{Response, Status};

type Reply<T> = Result<T, Status>;

/// What goes back on a stream of requests.
pub(super) type Replies<T> = Chain<Once<Reply<T>>, ReceiverStream<Reply<T>>>;

/// Waits for the first reply and makes a response of it and all that follow.
///
/// Like etcd, which sends a response's headers along with its first message: a client that waits for them
/// before its first request waits for ever.
pub(super) async fn replies<T: Send + 'static>(
    mut outbound: Receiver<Reply<T>>,
) -> Reply<Response<Replies<T>>> {
    match outbound.recv().await {
        Some(Ok(first)) => {
            Ok(Response::new(tokio_stream::once(Ok(first)).chain(ReceiverStream::new(outbound))))
        }
        Some(Err(status)) => Err(status),
        None => Err(Status::cancelled("the client has said its last")),
    }
}

//! tokio, as the client sees it.

use std::{
    future::{Future, pending, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::Duration,
};

use etcd_watch_client::{BoxFuture, Instant, Io, NoRuntime, Peer, Runtime};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, runtime::Handle, sync::oneshot, task::JoinHandle};

/// A tokio runtime, with its I/O and time drivers enabled.
#[derive(Clone, Debug)]
pub struct TokioRuntime {
    handle: Handle,
    epoch: tokio::time::Instant,
    presence: Presence,
}

impl TokioRuntime {
    /// The runtime of this handle.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        let presence = Presence::of(&handle);
        Self { handle, epoch: tokio::time::Instant::now(), presence }
    }

    /// The runtime that the caller is on.
    ///
    /// # Errors
    /// When it isn't on one.
    pub fn ambient() -> Result<Self, NoRuntime> {
        Handle::try_current().map(Self::new).map_err(|_| NoRuntime { name: "tokio" })
    }

    /// Does something in a task of the runtime, whose driver of I/O it needs, and gives it up when it is dropped.
    fn in_task<T: Send + 'static>(
        &self,
        work: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        let mut task = AbortOnDrop(self.handle.spawn(work));
        Box::pin(async move {
            (&mut task.0).await.map_err(|error| {
                if error.is_cancelled() {
                    io::Error::other("the tokio runtime of this client has shut down")
                } else {
                    io::Error::other(error)
                }
            })?
        })
    }
}

impl Runtime for TokioRuntime {
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        self.in_task(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }

    fn connect(&self, peer: Peer) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        self.in_task(open_socket(peer))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let sleep = {
            let _context = self.handle.enter();
            tokio::time::sleep(duration)
        };
        let presence = self.presence.clone();
        Box::pin(async move {
            let mut sleep = pin!(sleep);
            poll_fn(|cx| presence.poll_timer(sleep.as_mut(), cx)).await;
        })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.handle.spawn(task);
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.epoch.elapsed()
    }
}

async fn open_socket(peer: Peer) -> io::Result<Box<dyn Io>> {
    match peer {
        Peer::Tcp(address) => {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Ok(Box::new(TokioIo::new(socket)))
        }
        #[cfg(unix)]
        Peer::Unix(path) => Ok(Box::new(TokioIo::new(tokio::net::UnixStream::connect(path).await?))),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no such sockets")),
    }
}

/// Whether the runtime is there: tokio's timers panic when they are polled after its end.
#[derive(Clone, Debug)]
struct Presence {
    gone: Arc<RwLock<bool>>,
    /// Ends the watchman when nobody looks any more.
    _watchman: Arc<oneshot::Sender<()>>,
}

impl Presence {
    fn of(handle: &Handle) -> Self {
        let gone = Arc::new(RwLock::new(false));
        let (sender, nobody_looks) = oneshot::channel::<()>();
        let end = TellGone(gone.clone());
        // A runtime that shuts down drops all of its tasks first, and then stops its timers: in tokio, `shutdown2` of
        // the current-thread scheduler, `shutdown_core` of the one with threads. On one that has shut down a task is
        // dropped at once.
        handle.spawn(async move {
            let _end = end;
            if nobody_looks.await.is_ok() {
                pending().await
            }
        });
        Self { gone, _watchman: Arc::new(sender) }
    }

    /// Polls a timer of the runtime; it has rung when the runtime is gone.
    fn poll_timer(&self, timer: Pin<&mut tokio::time::Sleep>, cx: &mut Context<'_>) -> Poll<()> {
        let gone = self.gone.read().unwrap_or_else(PoisonError::into_inner);
        if *gone { Poll::Ready(()) } else { timer.poll(cx) }
    }
}

/// Says that the runtime is gone. Whoever polls a timer meanwhile is waited for.
struct TellGone(Arc<RwLock<bool>>);

impl Drop for TellGone {
    fn drop(&mut self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

/// A dropped attempt to connect doesn't go on in the background.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

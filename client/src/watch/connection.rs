//! One connection of a watch stream: connecting, being opened, open. After a reconnect the stream has another one.
//!
//! ```text
//! Connecting --connected, member asked for its version--> Opening --response headers--> Open
//! ```
//!
//! etcd sends its response headers only together with the first response, and that comes only after the
//! first request. So the stream is reported as opened when the connection is up, the machine's first
//! request goes out while the headers are still awaited, and awaiting them is part of polling.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use etcd_watch_core::{
    DecodeError, Failure, Frame, Instant, Opened, Remedy, Request, ServerVersion, StreamKey, StreamOptions,
    remedy, wire::Method,
};
use http::{HeaderValue, header, uri::PathAndQuery};
use tonic::{body::Body, codegen::Service, metadata::MetadataMap};
use tracing::Span;

use crate::{
    AttemptError, BoxError, Endpoint,
    auth::{AfterRefusal, Authenticator, Generation, Token},
    cluster::{
        aside::{Aside, Tried},
        dialer::{Dialed, Dialer},
    },
    runtime::{BoxFuture, timeout},
    transport::{answer::Answer, connection::Connection, wire},
    watch::codec::Frames,
    watch::log,
    watch::outbox::{Outbox, Requests, outbox},
    watch::version::{VersionQuery, may_pass},
};

/// How long the member may take to tell its version. One that takes longer may hang, and is passed over for
/// another that isn't known to be down. Where there is none it is used all the same: its manual progress
/// replies are not believed until it has told its version.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// One connection of a watch stream. Dropping it resets the call, and closes the connection unless that was put aside.
pub(crate) struct StreamConnection {
    pub(crate) key: StreamKey,
    /// What it is to be connected to first.
    first: Arc<Endpoint>,
    /// What it has been connected to.
    tried: Arc<OnceLock<Tried>>,
    /// The connections of all streams to members without a leader.
    aside: Arc<Aside>,
    pub(crate) span: Span,
    phase: Phase,
    outbox: Outbox,
    max_message_bytes: usize,
    opened: bool,
    /// The member's version, if the stream was opened without it.
    version: Option<BoxFuture<'static, Option<ServerVersion>>>,
    /// Whether the member has answered anything.
    answered: bool,
    /// When the last frame came.
    heard: Option<Instant>,
    /// Whether only a member with a leader serves the stream.
    requires_leader: bool,
    /// Whether the member has been seen to have a leader.
    found_leader: bool,
    /// Which of the client's auth tokens the stream carries.
    token: Option<Generation>,
    /// Whether it carries a token of its options instead.
    has_own_token: bool,
    /// Frames that the machine had no room for when they came.
    left: VecDeque<Result<Frame, DecodeError>>,
}

enum Phase {
    Connecting(BoxFuture<'static, Result<Connected, Failure>>),
    Opening(BoxFuture<'static, Result<Frames<Answer>, Failure>>),
    Open(Frames<Answer>),
    /// It has failed; `None` once that was told. Frames that came before are told first.
    Failed(Option<Failure>),
}

/// What is to be connected, and to what.
struct Connecting {
    candidates: Vec<Arc<Endpoint>>,
    aside: Arc<Aside>,
    /// Set to the connection once there is one.
    tried: Arc<OnceLock<Tried>>,
    options: Arc<StreamOptions>,
    requests: Requests,
}

struct Connected {
    connection: Connection,
    opened: Opened,
    /// Of a member that hasn't told it yet.
    version: Option<BoxFuture<'static, Option<ServerVersion>>>,
    token: Option<Generation>,
    origin: http::Uri,
    metadata: MetadataMap,
    requests: Requests,
}

/// What has happened on a connection.
#[derive(Debug)]
pub(crate) enum StreamNews {
    Opened(Opened),
    /// The member has told its version after the stream was opened.
    Version(ServerVersion),
    /// Frames were added to the batch.
    Frames {
        /// Whether there may be more at once. If not, the connection wakes its task when there are.
        more: bool,
    },
    Failed(Failure),
}

/// How many frames, and bytes of frames, are handed out together; at least one frame is. The machine is given them under
/// one lock, which consumers wait for meanwhile.
const BATCH_FRAMES: usize = 16;
const BATCH_BYTES: usize = 64 << 10;

/// Frames of one connection that came together, decoded.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) frames: VecDeque<Result<Frame, DecodeError>>,
    /// How many bytes of frames have been received for it.
    pub(crate) bytes: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.frames.len() >= BATCH_FRAMES || self.bytes >= BATCH_BYTES
    }
}

impl StreamConnection {
    /// Begins to connect, to the first of the candidates that is up. There is at least one.
    pub(crate) fn open(
        dialer: &Arc<Dialer>,
        candidates: Vec<Arc<Endpoint>>,
        aside: Arc<Aside>,
        key: StreamKey,
        options: Arc<StreamOptions>,
    ) -> Self {
        let first = candidates[0].clone();
        let tried = Arc::new(OnceLock::new());
        let span = log::stream_span(key, &first);
        let (outbox, requests) = outbox();
        let (has_own_token, requires_leader) = (wire::has_token(&options), options.require_leader);
        let connecting =
            Connecting { candidates, aside: aside.clone(), tried: tried.clone(), options, requests };
        let connecting = connect(dialer.clone(), connecting, span.clone());
        let phase = Phase::Connecting(Box::pin(connecting));
        let max_message_bytes = dialer.max_message_bytes;
        Self {
            key,
            first,
            tried,
            aside,
            span,
            phase,
            outbox,
            max_message_bytes,
            opened: false,
            version: None,
            answered: false,
            heard: None,
            requires_leader,
            found_leader: false,
            token: None,
            has_own_token,
            left: VecDeque::new(),
        }
    }

    pub(crate) fn send(&self, request: &Request) {
        self.outbox.send(request);
    }

    /// The endpoint that it goes to; until it is connected, the one that is tried first.
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        self.tried.get().map_or(&self.first, |tried| &tried.dialed.endpoint)
    }

    /// Whether some endpoint could be connected to.
    pub(crate) fn is_connected(&self) -> bool {
        self.tried.get().is_some()
    }

    /// The stream leaves its member. If the member has no leader, the connection is put aside and used again, as long as
    /// [`Tried`] allows it. Otherwise the next connection to the endpoint tries another of its addresses first.
    pub(crate) fn leave(&self, dialer: &Dialer, remedy: Remedy) {
        let Some(tried) = self.tried.get() else { return };
        let leaderless = if self.found_leader { 0 } else { tried.leaderless };
        match (Tried { leaderless, ..tried.clone() }).again(remedy, dialer) {
            Some(again) => self.aside.put(again),
            None => tried.dialed.connection.blame(),
        }
    }

    /// Whether the connection was up.
    pub(crate) fn is_opened(&self) -> bool {
        self.opened
    }

    /// Which of the client's auth tokens the stream carries, once it is opened.
    pub(crate) fn token(&self) -> Option<Generation> {
        self.token
    }

    /// Whether it was opened with other credentials than the present ones of the client.
    pub(crate) fn is_stale(&self, auth: &Authenticator) -> bool {
        self.opened && !self.has_own_token && auth.is_stale(self.token)
    }

    /// Whether an answer that has just come is the first of the member's.
    pub(crate) fn is_first_answer(&mut self) -> bool {
        !std::mem::replace(&mut self.answered, true)
    }

    /// A frame has come.
    pub(crate) fn hear(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// The member serves the stream. If that takes a leader, other members are connected to again when they are needed.
    pub(crate) fn serves(&mut self) {
        if self.requires_leader && !std::mem::replace(&mut self.found_leader, true) {
            self.aside.clear();
        }
    }

    /// When the last frame came.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Takes frames back that the machine has no room for; they come again first.
    pub(crate) fn take_back(&mut self, frames: &mut VecDeque<Result<Frame, DecodeError>>) {
        self.left.append(frames);
    }

    /// Whether polling may yield frames: then it is done only while the machine wants some.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_) | Phase::Failed(_))
    }

    /// What has happened since the last call. Frames are added to the `batch`, which is empty.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<StreamNews> {
        if !self.left.is_empty() {
            batch.frames.append(&mut self.left);
            return Poll::Ready(StreamNews::Frames { more: true });
        }
        if let Some(version) = &mut self.version
            && let Poll::Ready(told) = version.as_mut().poll(cx)
        {
            self.version = None;
            if let Some(version) = told {
                return Poll::Ready(StreamNews::Version(version));
            }
        }
        loop {
            match &mut self.phase {
                Phase::Connecting(connecting) => match connecting.as_mut().poll(cx) {
                    Poll::Ready(Ok(mut connected)) => {
                        let opened = connected.opened;
                        self.version = connected.version.take();
                        self.opened = true;
                        self.token = connected.token;
                        self.phase = Phase::Opening(Box::pin(open(connected, self.max_message_bytes)));
                        return Poll::Ready(StreamNews::Opened(opened));
                    }
                    Poll::Ready(Err(failure)) => self.phase = Phase::Failed(Some(failure)),
                    Poll::Pending => return Poll::Pending,
                },
                Phase::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Ready(Ok(frames)) => self.phase = Phase::Open(frames),
                    Poll::Ready(Err(failure)) => self.phase = Phase::Failed(Some(failure)),
                    Poll::Pending => return Poll::Pending,
                },
                Phase::Open(frames) => match frames.poll_next(cx) {
                    Poll::Ready(Ok(frame)) => {
                        batch.bytes += frame.len();
                        // Here and not under the lock: a frame may have many events.
                        batch.frames.push_back(Frame::decode(frame));
                        if batch.is_full() {
                            return Poll::Ready(StreamNews::Frames { more: true });
                        }
                    }
                    Poll::Ready(Err(failure)) => {
                        self.phase = Phase::Failed(Some(failure));
                        if !batch.frames.is_empty() {
                            return Poll::Ready(StreamNews::Frames { more: true });
                        }
                    }
                    Poll::Pending if batch.frames.is_empty() => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(StreamNews::Frames { more: false }),
                },
                Phase::Failed(failure) => {
                    return failure
                        .take()
                        .map_or(Poll::Pending, |failure| Poll::Ready(StreamNews::Failed(failure)));
                }
            }
        }
    }
}

/// Connects, gets an auth token if one is needed, and asks the member for its version on the same
/// connection. A member that looks at the token then saves the stream from being opened with one that has
/// expired.
async fn connect(dialer: Arc<Dialer>, connecting: Connecting, span: Span) -> Result<Connected, Failure> {
    let Connecting { candidates, aside, tried: connected_to, options, requests } = connecting;
    let extra = || options.metadata.iter().map(|(name, value)| (&name[..], &value[..]));
    let has_own_token = wire::has_token(&options);
    if !has_own_token {
        // Before anything is connected to.
        dialer.auth.settle(&**dialer.runtime()).await;
    }
    let mut metadata = wire::metadata_with(options.require_leader, extra())?;
    let first = candidates[0].clone();
    let dial = |candidates, kept| dialer.dial_any(candidates, kept);
    let tried = aside.connect(candidates, dial).await.map_err(AttemptError::from)?;
    let Dialed { endpoint, connection } = tried.dialed.clone();
    if endpoint != first {
        span.record("endpoint", tracing::field::display(&endpoint));
    }
    let _ = connected_to.set(tried);
    let mut later = None;
    let mut ask = async |token: &Option<Token>| {
        let mut metadata = wire::metadata_with(false, extra())?;
        if let Some(token) = token {
            token.attach(&mut metadata);
        }
        let is_user = token.is_some() || has_own_token;
        let mut query = VersionQuery::on(&dialer, connection.clone(), endpoint.clone(), metadata, is_user);
        match timeout(dialer.runtime(), STATUS_TIMEOUT, query.answer()).await {
            Some(Err(failure)) if may_pass(&failure) => {
                later = Some(query);
                Err(failure)
            }
            Some(version) => version,
            None if dialer.endpoints.another_is_up(&endpoint) => {
                Err(Failure::connection(format!("the member has told nothing within {STATUS_TIMEOUT:?}")))
            }
            None => {
                later = Some(query);
                Ok(None)
            }
        }
    };
    let mut token = if has_own_token { None } else { dialer.token(&connection, &endpoint).await? };
    let mut version = ask(&token).await;
    if let (Err(failure), Some(refused)) = (&version, token.as_ref().and_then(Token::generation))
        && remedy(failure) == Remedy::Reauthenticate
        && dialer.token_refused(refused) == AfterRefusal::Another
    {
        token = dialer.token(&connection, &endpoint).await?;
        version = ask(&token).await;
    }
    let version = match version {
        Ok(version) => version,
        Err(dead @ (Failure::Connection { .. } | Failure::Tls { .. } | Failure::EndOfStream)) => {
            return Err(dead);
        }
        Err(failure) => {
            tracing::debug!(name: "version_unknown", %endpoint, reason = %failure, "the member does not tell its version");
            None
        }
    };
    if let Some(token) = &token {
        token.attach(&mut metadata);
    }
    Ok(Connected {
        connection,
        opened: Opened {
            version,
            authenticated: has_own_token || token.as_ref().is_some_and(Token::is_present),
        },
        version: later.map(|query| Box::pin(query.until_told()) as BoxFuture<'static, _>),
        token: token.as_ref().and_then(Token::generation),
        origin: endpoint.uri().clone(),
        metadata,
        requests,
    })
}

/// Makes the streaming call; completes with the response's headers.
async fn open(connected: Connected, max_message_bytes: usize) -> Result<Frames<Answer>, Failure> {
    let Connected { mut connection, origin, metadata, requests, .. } = connected;
    let request = watch_call(origin, metadata, requests)?;
    let broken = |error: BoxError| wire::broken(&*error);
    poll_fn(|cx| connection.poll_ready(cx)).await.map_err(broken)?;
    let response = connection.call(request).await.map_err(broken)?;
    Frames::of(response, max_message_bytes)
}

/// The head of the call, and its requests as the body.
fn watch_call(
    origin: http::Uri,
    metadata: MetadataMap,
    requests: Requests,
) -> Result<http::Request<Body>, Failure> {
    let mut uri = origin.into_parts();
    uri.path_and_query = Some(PathAndQuery::from_static(Method::Watch.path()));
    let uri = http::Uri::from_parts(uri)
        .map_err(|error| Failure::invalid_request(format!("the endpoint's URI: {error}")))?;
    let mut request = http::Request::new(Body::new(requests));
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = uri;
    *request.headers_mut() = metadata.into_headers();
    request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(request)
}

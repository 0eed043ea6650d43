//! A machine's reads: of the current revision, and of lists, by pages or by a stream. Each is one attempt, and the
//! machine decides on the next. What is answered is decoded by the core, where it was received.
//!
//! A list is read by a stream (`KV.RangeStream`, etcd 3.7) only on the connection that brought its last page: see
//! [`ListRequest::may_stream`]. A connection whose member has no `RangeStream` is remembered as such, so that a member
//! that is upgraded, which breaks its connections, is asked again.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use etcd_watch_core::{
    Code, Failure, ListRequest, Page, RangeDone, StreamOptions,
    wire::{Encode, ListStreamRequest, Method, RevisionRequest},
};
use tonic::metadata::MetadataMap;

use super::{
    attempts::{Calls, Identity, Prepared, ended, no_answer},
    limits::{Cut, Limits, runtimes_end, within},
    observation::Observation,
    outcome::Outcome,
};
use crate::{
    Endpoint,
    cluster::pool::Pooled,
    transport::{messages::Messages, raw::RawCall, rpc::CallFailure, wire},
};

/// What came of a read: which endpoint was asked, if any could be, and its answer.
pub(crate) type Asked<T> = (Option<Arc<Endpoint>>, Result<T, Failure>);

/// What came of asking for a list: the connection that was asked, if there was one, and the answer.
pub(crate) struct Listed {
    pub(crate) at: Option<Pooled>,
    pub(crate) answer: ListAnswer,
}

/// The answer to a list.
pub(crate) enum ListAnswer {
    Page(Result<Page, Failure>),
    Stream(Result<Box<ListStream>, Failure>),
}

/// A list that is read by a stream. Dropping it resets the stream.
pub(crate) struct ListStream {
    calls: Arc<Calls>,
    prepared: Prepared,
    messages: Messages<Bytes>,
    observation: Observation,
}

impl ListStream {
    /// The next message, or the end: [`Failure::EndOfStream`] if it is a good one.
    pub(crate) async fn next(mut self: Box<Self>) -> (Box<Self>, Result<Page, Failure>) {
        let limit = self.calls.request_timeout;
        let message = match self.calls.answered(limit, self.messages.next()).await {
            // A good end says nothing against the member.
            Err(failed) if *failed.failure() == Failure::EndOfStream => {
                self.observation.end(|| Outcome::OK);
                Err(failed.into_failure())
            }
            result => {
                let message = self.calls.noted(&self.prepared, result);
                if let Err(failure) = &message {
                    self.observation.end(|| Outcome::of_failure(failure));
                }
                message
            }
        };
        (self, message.and_then(|message| Ok(Page::decode_chunk(&message)?)))
    }
}

/// How a read is sent.
struct Read {
    /// Without the client's token.
    metadata: MetadataMap,
    /// Whether a token of its own is among the metadata, in the place of the client's.
    has_own_token: bool,
    max_bytes: usize,
}

impl Read {
    fn new(options: &StreamOptions, max_bytes: usize) -> Result<Self, Failure> {
        let extra = options.metadata.iter().map(|(name, value)| (&name[..], &value[..]));
        let metadata = wire::metadata_with(options.require_leader, extra)?;
        Ok(Self { metadata, has_own_token: wire::has_token(options), max_bytes })
    }

    fn call<Q: Encode>(&self, prepared: &Prepared, request: &Q) -> RawCall {
        let mut metadata = self.metadata.clone();
        prepared.attach_token(&mut metadata);
        RawCall { method: Q::METHOD, message: request.to_bytes(), metadata, max_bytes: self.max_bytes }
    }
}

impl Calls {
    /// The machine's read of the current revision, or of a key.
    pub(crate) async fn revision(
        &self,
        request: RevisionRequest,
        options: &StreamOptions,
        avoid: Option<Arc<Endpoint>>,
    ) -> Asked<RangeDone> {
        // Before anything is connected to.
        let read = match Read::new(options, self.pool.dialer.max_message_bytes) {
            Ok(read) => read,
            Err(failure) => return (None, Err(failure)),
        };
        let mut observation = self.observe(Method::Range.path());
        observation.attempt();
        let (at, result) = match self.prepared(&read, avoid.as_deref()).await {
            Ok((prepared, limits)) => {
                let result = self.unary(&prepared, &read, &request, &limits).await;
                (Some(prepared.into_pooled()), result)
            }
            Err((at, failure)) => (at, Err(failure)),
        };
        observation.end_at(at.as_ref().map(Pooled::endpoint), || Outcome::of_attempt(&result));
        let done = result.and_then(|message| Ok(RangeDone::decode(&message)?));
        (at.map(|at| at.endpoint().clone()), done)
    }

    /// A list, or a page of it. `proven` is the connection that brought the list's last page.
    pub(crate) async fn list(
        self: Arc<Self>,
        request: ListRequest,
        avoid: Option<Arc<Endpoint>>,
        proven: Option<Pooled>,
    ) -> Listed {
        let failed = |at, failure| Listed { at, answer: ListAnswer::Page(Err(failure)) };
        // Before anything is connected to.
        let max_bytes = request.max_bytes.min(self.pool.dialer.max_message_bytes);
        let read = match Read::new(&request.options, max_bytes) {
            Ok(read) => read,
            Err(failure) => return failed(None, failure),
        };
        let mut observation = self.observe(Method::Range.path());
        let (prepared, limits) = match self.prepared(&read, avoid.as_deref()).await {
            Ok(prepared) => prepared,
            Err((at, failure)) => {
                observation.attempt();
                observation.end_at(at.as_ref().map(Pooled::endpoint), || Outcome::of_failure(&failure));
                return failed(at, failure);
            }
        };
        let is_proven = proven.is_some_and(|proven| proven.is_same(prepared.pooled()));
        if request.may_stream && is_proven && prepared.pooled().connection().may_have_streams() {
            observation.becomes(Method::RangeStream.path());
            if let Some(messages) =
                self.stream(&prepared, &read, &request, &limits, &mut observation).await.transpose()
            {
                let at = Some(prepared.pooled().clone());
                let stream = messages
                    .map(|messages| Box::new(ListStream { calls: self, prepared, messages, observation }));
                return Listed { at, answer: ListAnswer::Stream(stream) };
            }
            observation = self.observe(Method::Range.path());
        }
        observation.attempt();
        let result = self.unary(&prepared, &read, &request, &limits).await;
        observation.end_at(Some(prepared.pooled().endpoint()), || Outcome::of_attempt(&result));
        let answer = ListAnswer::Page(result.and_then(|message| Ok(Page::decode(&message)?)));
        Listed { at: Some(prepared.into_pooled()), answer }
    }

    /// A connection for a read, and the limits of the read; a page of a list may be large, so its answer may take all
    /// that is left of the request timeout.
    async fn prepared(
        &self,
        read: &Read,
        avoid: Option<&Endpoint>,
    ) -> Result<(Prepared, Limits), (Option<Pooled>, Failure)> {
        if !read.has_own_token {
            // An end of the client is found again right after it.
            let settled = self.pool.dialer.auth.settle(&**self.runtime());
            let _ = self.while_open(self.request_timeout, settled).await;
        }
        let limits = self.limits();
        let identity = if read.has_own_token { Identity::OfRequest } else { Identity::OfClient };
        match self.prepare(avoid, identity, &limits).await {
            Ok(prepared) => Ok((prepared, limits)),
            Err(unsent) => Err(self.unsent(unsent)),
        }
    }

    async fn unary<Q: Encode>(
        &self,
        prepared: &Prepared,
        read: &Read,
        request: &Q,
        limits: &Limits,
    ) -> Result<Bytes, Failure> {
        let call = read.call(prepared, request);
        let (connection, endpoint) = (prepared.pooled().connection().clone(), prepared.pooled().endpoint());
        let limit = limits.left(self.now());
        let result = self.answered(limit, Box::pin(call.unary(connection, endpoint))).await;
        self.noted(prepared, result)
    }

    /// `None` if the member has no streams, which says nothing against it.
    async fn stream(
        &self,
        prepared: &Prepared,
        read: &Read,
        request: &ListRequest,
        limits: &Limits,
        observation: &mut Observation,
    ) -> Result<Option<Messages<Bytes>>, Failure> {
        observation.attempt();
        observation.at(prepared.pooled().endpoint());
        let call = read.call(prepared, &ListStreamRequest(request));
        let (connection, endpoint) = (prepared.pooled().connection(), prepared.pooled().endpoint());
        let limit = limits.left(self.now());
        let result = self.answered(limit, Box::pin(call.stream(connection.clone(), endpoint))).await;
        if let Err(failed) = &result
            && let Failure::Status { code: Code::Unimplemented, message } = failed.failure()
        {
            tracing::debug!(name: "no_range_stream", %endpoint, reason = %message, "lists are read by pages");
            connection.has_no_streams();
            observation.end(|| Outcome::answered(Code::Unimplemented));
            return Ok(None);
        }
        let messages = self.noted(prepared, result);
        if let Err(failure) = &messages {
            observation.end(|| Outcome::of_failure(failure));
        }
        messages.map(Some)
    }

    /// Waits for an answer, no longer than `limit` and than the runtime lasts.
    pub(super) async fn answered<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = Result<T, CallFailure>>,
    ) -> Result<T, CallFailure> {
        match within(&**self.runtime(), limit, self.ending(), runtimes_end, answer).await {
            Ok(result) => result,
            Err(Cut::TimeOver) => Err(CallFailure::sent(no_answer(limit))),
            Err(Cut::Ended(end)) => Err(CallFailure::sent(ended(end))),
        }
    }

    /// Notes of the endpoint, and of the token, what an answer says of them.
    fn noted<T>(&self, prepared: &Prepared, result: Result<T, CallFailure>) -> Result<T, Failure> {
        match result {
            Ok(answer) => {
                self.pool.answered(prepared.pooled());
                Ok(answer)
            }
            Err(failed) => {
                let failed = self.of_token(prepared, failed);
                self.note(Some(prepared.pooled()), &failed);
                Err(failed.into_failure())
            }
        }
    }
}

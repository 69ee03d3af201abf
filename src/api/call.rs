//! What every call goes through, whichever service it is for: a request id, the gate, the counters,
//! and an end to panics.
//!
//! One layer and one allocation, because it is on both hot paths. The gate decides before the
//! service sees anything; a panic in a handler becomes `INTERNAL` for that call alone; a stream
//! that would outlast a drain is ended with `UNAVAILABLE`.

use std::{
    any::Any,
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Frame, SizeHint};
use thiserror::Error;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use uuid::Uuid;

use super::{
    audit::attempt::{Attempt, Within},
    status::{refused, to_status},
};
use crate::{
    audit::attempts::Attempts,
    identity::{
        Access, Gate, IdentityError,
        permissions::{OPEN_SERVICES, Permission, permission_for},
    },
    problem::{Problem, ProblemKind},
    tasks::panic_message,
    telemetry::{
        metrics::CallMetrics,
        served::{ServedCall, serving},
    },
};

/// The metadata that carries the request id, both ways.
pub const REQUEST_ID: &str = "x-request-id";
/// The most characters of a request id that a caller gives; a longer one is replaced.
const REQUEST_ID_LENGTH: usize = 128;
/// What a path that is not ours counts as, so that nobody can make up metric labels.
const OTHER_RPC: &str = "other";
/// When a caller may try again whom a server that stops has turned away.
const RETRY_AFTER_CLOSING: Duration = Duration::from_secs(1);
const GRPC_STATUS: &str = "grpc-status";

/// When streams end, whether or not they are done.
#[derive(Debug, Clone)]
pub struct Endings {
    /// The door is closed. Watching health or reading the contract ends at once; streams of the
    /// domain answer what they received and end by themselves.
    pub closing: CancellationToken,
    /// They have had their time: whatever still streams is cut.
    pub cut: CancellationToken,
}

impl Endings {
    fn of(&self, rpc: &str) -> &CancellationToken {
        if OPEN_SERVICES.contains(&rpc) { &self.closing } else { &self.cut }
    }
}

/// Puts a [`CallService`] around the services. Each call takes a clone, which is one pointer.
#[derive(Debug, Clone)]
pub struct CallLayer {
    shared: Arc<Shared>,
}

/// What the calls of a thread have in common.
#[derive(Debug)]
struct Shared {
    gate: Arc<Gate>,
    metrics: CallMetrics,
    endings: Endings,
    attempts: Attempts,
}

impl CallLayer {
    /// A layer that lets in whom `gate` admits, and notes what becomes of changes.
    #[must_use]
    pub fn new(
        gate: Arc<Gate>,
        metrics: CallMetrics,
        endings: Endings,
        attempts: Attempts,
    ) -> Self {
        Self { shared: Arc::new(Shared { gate, metrics, endings, attempts }) }
    }

    /// The same for one more thread: the pointer that its calls count and the lock that they look
    /// under are its own, so that threads do not wait for each other's.
    #[must_use]
    pub fn of_a_thread(&self) -> Self {
        let Shared { gate, metrics, endings, attempts } = &*self.shared;
        let endings =
            Endings { closing: endings.closing.child_token(), cut: endings.cut.child_token() };
        Self::new(Arc::clone(gate), metrics.clone(), endings, attempts.clone())
    }
}

impl Shared {
    /// What the audit trail is to know of a call, if it is one of a change.
    fn attempt(&self, request: &Request<Body>, served: &Arc<ServedCall>) -> Arc<Attempt> {
        let authorization = sole_authorization(request.headers()).ok().flatten();
        Attempt::begin(served, self.gate.whose(authorization), request.extensions())
    }

    fn admit(&self, request: &Request<Body>) -> Result<Access, Status> {
        if self.endings.cut.is_cancelled() {
            // What would answer it is being stopped.
            return Err(to_status(&ShuttingDown));
        }
        let authorization = sole_authorization(request.headers()).map_err(refused)?;
        self.gate.admit(request.uri().path(), authorization).map_err(refused)
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallService { inner, shared: Arc::clone(&self.shared) }
    }
}

/// The services behind the gate.
#[derive(Debug, Clone)]
pub struct CallService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = CallFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let request_id = request_id(request.headers());
        let permission = permission_for(request.uri().path());
        let rpc = known_rpc(permission, request.uri().path());
        let call = Call::begin(ServedCall { request_id, rpc }, &self.shared);
        let _serving = serving(&call.served);

        let attempt = permission
            .is_some_and(|permission| permission.audited)
            .then(|| self.shared.attempt(&request, &call.served));
        let state = match self.shared.admit(&request) {
            Err(refusal) => State::Refused(Some(refusal.into_http())),
            Ok(access) => {
                if let Access::Granted(caller) = access {
                    request.extensions_mut().insert(caller);
                }
                request.extensions_mut().insert(Arc::clone(&call.served));
                match &attempt {
                    None => State::Running(self.inner.call(request)),
                    Some(attempt) => {
                        let request = request.map(|body| attempt.listen(body));
                        State::Audited(Box::pin(attempt.scope(self.inner.call(request))))
                    }
                }
            }
        };
        CallFuture { state, call: Some(call), attempt }
    }
}

/// One call until its answer begins.
#[derive(Debug)]
pub struct CallFuture<F> {
    state: State<F>,
    call: Option<Call>,
    attempt: Option<Arc<Attempt>>,
}

#[derive(Debug)]
enum State<F> {
    Refused(Option<Response<Body>>),
    Running(F),
    Audited(Pin<Box<Within<F>>>),
}

impl<F: Future + Unpin> State<F> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<F::Output>> {
        match self {
            Self::Refused(_) => Poll::Ready(None),
            Self::Running(future) => Pin::new(future).poll(context).map(Some),
            Self::Audited(future) => future.as_mut().poll(context).map(Some),
        }
    }
}

impl<F> Future for CallFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let _serving = this.call.as_ref().map(|call| serving(&call.served));
        let mut response = match &mut this.state {
            State::Refused(response) => response.take().unwrap_or_default(),
            running => match catch_unwind(AssertUnwindSafe(|| running.poll(context))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(Some(Ok(response)))) => response,
                Ok(Poll::Ready(None)) => Response::default(),
                Err(panic) => panicked(&*panic).into_http(),
            },
        };
        let Some(mut call) = this.call.take() else {
            return Poll::Ready(Ok(response));
        };
        if let Ok(mut id) = HeaderValue::from_str(&call.served.request_id) {
            // No other answer has the same: it is not worth a place in the table of headers that a
            // connection has seen.
            id.set_sensitive(true);
            response.headers_mut().insert(REQUEST_ID, id);
        }
        // A refusal has its status in the headers and no body.
        if let Some(code) = code_in(response.headers()) {
            if let Some(attempt) = this.attempt.take().filter(|_| code != Code::Ok) {
                attempt.failed(&call.shared.attempts, response.headers(), code_name(code));
            }
            call.end(code);
            return Poll::Ready(Ok(response));
        }
        Poll::Ready(Ok(response.map(|body| Body::new(WatchedBody { body, call, ending: None }))))
    }
}

/// An answer's body, watched to its end for the code in its trailers.
struct WatchedBody {
    body: Body,
    call: Call,
    /// What ends a stream. A unary answer never waits, so it never pays for it.
    ending: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl WatchedBody {
    fn poll_ending(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Call { shared, served, .. } = &self.call;
        let ending = self.ending.get_or_insert_with(|| {
            Box::pin(shared.endings.of(served.rpc).clone().cancelled_owned())
        });
        ending.as_mut().poll(context)
    }

    /// The stream's last frame, instead of whatever it would have said.
    fn end_with(&mut self, status: &Status) -> Frame<Bytes> {
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        // Only a message that is no header value could fail; ours is one.
        let _ = status.add_header(&mut trailers);
        Frame::trailers(trailers)
    }
}

impl http_body::Body for WatchedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let _serving = serving(&this.call.served);
        let body = &mut this.body;
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(context)));
        let frame = match polled {
            Ok(Poll::Pending) => {
                if this.poll_ending(context).is_pending() {
                    return Poll::Pending;
                }
                Some(Ok(this.end_with(&to_status(&ShuttingDown))))
            }
            Ok(Poll::Ready(frame)) => frame,
            Err(panic) => Some(Ok(this.end_with(&panicked(&*panic)))),
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(code) = frame.trailers_ref().and_then(code_in) {
                    this.call.end(code);
                }
            }
            Some(Err(status)) => this.call.end(status.code()),
            None => this.call.end(Code::Ok),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Counts one call, once: when it ends, or as cancelled when it is dropped before.
#[derive(Debug)]
struct Call {
    served: Arc<ServedCall>,
    started: Instant,
    shared: Arc<Shared>,
    ended: bool,
}

impl Call {
    fn begin(served: ServedCall, shared: &Arc<Shared>) -> Self {
        shared.metrics.in_flight.inc();
        let (served, shared) = (Arc::new(served), Arc::clone(shared));
        Self { served, started: Instant::now(), shared, ended: false }
    }

    fn end(&mut self, code: Code) {
        if self.ended {
            return;
        }
        self.ended = true;
        let (elapsed, rpc) = (self.started.elapsed(), self.served.rpc);
        let metrics = &self.shared.metrics;
        metrics.in_flight.dec();
        metrics.ended.get_or_create(&[("rpc", rpc), ("code", code_name(code))]).inc();
        metrics.seconds.get_or_create(&[("rpc", rpc)]).observe(elapsed.as_secs_f64());
        let _serving = serving(&self.served);
        tracing::debug!(code = code_name(code), ?elapsed, "the call ended");
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Status {
    to_status(&HandlerPanic(panic_message(panic).to_owned()))
}

#[derive(Debug, Error)]
#[error("a handler panicked: {0}")]
struct HandlerPanic(String);

impl Problem for HandlerPanic {
    fn kind(&self) -> ProblemKind {
        ProblemKind::Internal
    }

    fn reason(&self) -> &'static str {
        "PANIC"
    }
}

#[derive(Debug, Error)]
#[error("the server is shutting down; try again, on another one if there is one")]
struct ShuttingDown;

impl Problem for ShuttingDown {
    fn kind(&self) -> ProblemKind {
        ProblemKind::Unavailable
    }

    fn reason(&self) -> &'static str {
        "SHUTTING_DOWN"
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(RETRY_AFTER_CLOSING)
    }
}

/// The caller's request id where it is one, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|text| {
        (1..=REQUEST_ID_LENGTH).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte))
    });
    given.map_or_else(|| Uuid::now_v7().to_string(), ToOwned::to_owned)
}

/// The one `authorization` header. With several it is not clear who is calling.
fn sole_authorization(headers: &HeaderMap) -> Result<Option<&str>, IdentityError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(IdentityError::NotBearer);
    }
    first.map(|value| value.to_str().map_err(|_| IdentityError::NotBearer)).transpose()
}

fn known_rpc(permission: Option<Permission>, path: &str) -> &'static str {
    permission
        .map(|permission| permission.rpc)
        .or_else(|| OPEN_SERVICES.into_iter().find(|service| path.starts_with(service)))
        .unwrap_or(OTHER_RPC)
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers.get(GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}

/// A code as gRPC spells it.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;

//! What happens around a handler: panics, request ids, counters, streams that outlast a drain.

use http_body_util::BodyExt as _;
use tower::{ServiceExt as _, service_fn};

use super::*;
use crate::identity::{
    Caller, Role,
    keyring::{KeyRing, TrustedKey},
    secret::Secret,
    token::{TokenAuthority, TokenRequest},
};

const RECORD: &str = "/tollgate.v1.UsageService/RecordUsage";
const STREAM: &str = "/tollgate.v1.UsageService/RecordUsageStream";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

fn secret() -> Secret {
    Secret::new(&"s".repeat(32), "the test").unwrap()
}

fn layer() -> CallLayer {
    let endings = Endings { closing: CancellationToken::new(), cut: CancellationToken::new() };
    let keys = KeyRing::new(vec![TrustedKey::of_secret(&secret())]);
    let gate = Gate::new(keys, Arc::default(), |service| service.contains("health"));
    let metrics = crate::telemetry::metrics::Metrics::new().calls;
    CallLayer::new(Arc::new(gate), metrics, endings, crate::audit::attempts::channel().0)
}

fn request(path: &str) -> Request<Body> {
    let token = TokenAuthority::new(&secret())
        .mint(&TokenRequest {
            subject: "edge".to_owned(),
            roles: vec![Role::Gateway],
            account: None,
            lifetime: Duration::from_mins(1),
        })
        .unwrap();
    Request::builder()
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .body(Body::empty())
        .unwrap()
}

/// A service whose calls this function answers.
fn handler<Handler, Answering>(
    mut answer: Handler,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Unpin> + Clone
where
    Handler: FnMut(Request<Body>) -> Answering + Clone,
    Answering: Future<Output = Result<Response<Body>, Infallible>>,
{
    service_fn(move |request| Box::pin(answer(request)))
}

/// An answer whose body never has anything to say.
fn silent() -> Response<Body> {
    Response::new(Body::new(Silent))
}

struct Silent;

impl http_body::Body for Silent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Pending
    }
}

struct PanicsInTheMiddle;

impl http_body::Body for PanicsInTheMiddle {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        panic!("on purpose")
    }
}

fn counted(layer: &CallLayer, rpc: &'static str, code: &'static str) -> u64 {
    layer.shared.metrics.ended.get_or_create(&[("rpc", rpc), ("code", code)]).get()
}

async fn code_at_the_end(response: Response<Body>) -> Code {
    let collected = response.into_body().collect().await.unwrap();
    code_in(collected.trailers().unwrap()).unwrap()
}

#[tokio::test]
async fn a_panic_in_a_handler_is_internal_for_that_call_alone() {
    let layer = layer();
    let service = layer.layer(handler(|request: Request<Body>| async move {
        assert!(!request.headers().contains_key("panic"), "on purpose");
        Ok(Status::not_found("nothing").into_http())
    }));
    let mut panics = request(RECORD);
    panics.headers_mut().insert("panic", HeaderValue::from_static("yes"));
    let answer = service.clone().oneshot(panics).await.unwrap();
    assert_eq!(code_in(answer.headers()), Some(Code::Internal));
    let answer = service.oneshot(request(RECORD)).await.unwrap();
    assert_eq!(code_in(answer.headers()), Some(Code::NotFound));
    assert_eq!(counted(&layer, RECORD, "INTERNAL"), 1);
    assert_eq!(counted(&layer, RECORD, "NOT_FOUND"), 1);
    assert_eq!(layer.shared.metrics.in_flight.get(), 0);
}

#[tokio::test]
async fn a_panic_in_the_middle_of_a_stream_ends_it_with_internal() {
    let layer = layer();
    let service = layer.layer(handler(|_: Request<Body>| async {
        Ok(Response::new(Body::new(PanicsInTheMiddle)))
    }));
    let answer = service.oneshot(request(STREAM)).await.unwrap();
    assert_eq!(code_at_the_end(answer).await, Code::Internal);
    assert_eq!(counted(&layer, STREAM, "INTERNAL"), 1);
}

#[tokio::test]
async fn a_handler_is_told_who_calls_and_under_which_id() {
    let service = layer().layer(handler(|request: Request<Body>| async move {
        let caller = request.extensions().get::<Caller>().unwrap();
        let served = request.extensions().get::<Arc<ServedCall>>().unwrap();
        let seen = format!("{} {}", caller.subject, served.request_id);
        Ok(Status::not_found(seen).into_http())
    }));
    let mut named = request(RECORD);
    named.headers_mut().insert(REQUEST_ID, HeaderValue::from_static("order-66"));
    let answer = service.clone().oneshot(named).await.unwrap();
    assert_eq!(answer.headers()["grpc-message"], "edge%20order-66");
    assert_eq!(answer.headers()[REQUEST_ID], "order-66");

    // What is no id, or would forge lines of the log, is replaced.
    for bad in ["", "two words", "a\"b", &"x".repeat(129)] {
        let mut named = request(RECORD);
        named.headers_mut().insert(REQUEST_ID, HeaderValue::from_str(bad).unwrap());
        let answer = service.clone().oneshot(named).await.unwrap();
        let id = answer.headers()[REQUEST_ID].to_str().unwrap();
        assert!(id.parse::<Uuid>().is_ok(), "{id}");
    }
}

#[tokio::test]
async fn a_refusal_never_reaches_the_handler_and_still_has_an_id() {
    let layer = layer();
    let service = layer.layer(handler(async |_: Request<Body>| -> Result<_, Infallible> {
        panic!("it was let in")
    }));
    let nameless = Request::builder().uri(RECORD).body(Body::empty()).unwrap();
    let answer = service.oneshot(nameless).await.unwrap();
    assert_eq!(code_in(answer.headers()), Some(Code::Unauthenticated));
    assert!(answer.headers().contains_key(REQUEST_ID));
    assert_eq!(counted(&layer, RECORD, "UNAUTHENTICATED"), 1);
}

#[tokio::test]
async fn a_path_that_is_not_ours_makes_no_label() {
    let layer = layer();
    let service = layer.layer(handler(|_: Request<Body>| async { Ok(Status::ok("").into_http()) }));
    let answer = service.oneshot(request("/any.Service/Name")).await.unwrap();
    assert_eq!(code_in(answer.headers()), Some(Code::Unimplemented));
    assert_eq!(counted(&layer, OTHER_RPC, "UNIMPLEMENTED"), 1);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a stream that this test alone waits for")]
async fn watching_health_ends_when_the_door_closes_and_a_stream_of_ours_only_when_cut() {
    let layer = layer();
    let service = layer.layer(handler(|_: Request<Body>| async { Ok(silent()) }));
    let watch = service.clone().oneshot(request(WATCH)).await.unwrap();
    let stream = service.clone().oneshot(request(STREAM)).await.unwrap();
    let stream = tokio::spawn(code_at_the_end(stream));

    layer.shared.endings.closing.cancel();
    assert_eq!(code_at_the_end(watch).await, Code::Unavailable);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!stream.is_finished(), "it may still answer what it received");

    layer.shared.endings.cut.cancel();
    assert_eq!(stream.await.unwrap(), Code::Unavailable);
    let late = service.oneshot(request(RECORD)).await.unwrap();
    assert_eq!(code_in(late.headers()), Some(Code::Unavailable));
}

#[tokio::test]
async fn a_call_whose_caller_went_away_counts_as_cancelled() {
    let layer = layer();
    let service = layer.layer(handler(|_: Request<Body>| async { Ok(silent()) }));
    drop(service.oneshot(request(STREAM)).await.unwrap());
    assert_eq!(counted(&layer, STREAM, "CANCELLED"), 1);
    assert_eq!(layer.shared.metrics.in_flight.get(), 0);
}

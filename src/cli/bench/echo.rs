//! The limit of the wire: a bare tonic server that takes the same messages and answers each with
//! the same bytes, without a gate, a log or a rule. It runs as our server does, on threads of this
//! process with a runtime each, and shares the machine with the client in the same way.

use std::{convert::Infallible, net::SocketAddr, pin::Pin, thread};

use futures_util::{Stream, StreamExt as _};
use http::{Request, Response};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{
    Status, Streaming,
    body::Body,
    server::Grpc,
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::{
    cli::error::CliError,
    proto::{
        AuthorizeRequest, AuthorizeResponse, AuthorizeStreamRequest, AuthorizeStreamResponse,
        RecordUsageRequest, RecordUsageResponse, authorize_stream_response::Result as Item,
    },
};

/// What it answers: real answers of a real server, so that the sizes are the same.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    pub(super) grant: AuthorizeResponse,
    pub(super) recorded: RecordUsageResponse,
}

/// A running echo; dropping it ends it.
#[derive(Debug)]
pub(super) struct Echo {
    /// Where it answers.
    pub(super) endpoint: String,
    _running: DropGuard,
}

impl Echo {
    /// Starts answering.
    pub(super) async fn start(answers: Answers) -> Result<Self, CliError> {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (bound, address) = tokio::sync::oneshot::channel();
        thread::Builder::new().name("echo".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(serve(answers, bound, stopped));
        })?;
        let address = address.await.map_err(|_| CliError::failed("the echo did not start"))?;
        Ok(Self { endpoint: format!("http://{address}"), _running: stop.drop_guard() })
    }
}

async fn serve(
    answers: Answers,
    bound: tokio::sync::oneshot::Sender<SocketAddr>,
    stopped: CancellationToken,
) {
    let Ok(incoming) = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))) else { return };
    let Ok(address) = incoming.local_addr() else { return };
    let _ = bound.send(address);
    let service = service_fn(move |request| answer(answers.clone(), request));
    let serving = Server::builder().serve_with_incoming(
        tower::ServiceBuilder::new().service(service),
        incoming.with_nodelay(Some(true)),
    );
    let _ = stopped.run_until_cancelled(serving).await;
}

type Answered<T> = Result<tonic::Response<T>, Status>;

async fn answer(answers: Answers, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let Answers { grant, recorded } = answers;
    Ok(match request.uri().path() {
        "/tollgate.v1.AuthorizationService/Authorize" => {
            let echo = service_fn(move |_: tonic::Request<AuthorizeRequest>| {
                let grant = grant.clone();
                async move { Answered::Ok(tonic::Response::new(grant)) }
            });
            Grpc::new(ProstCodec::default()).unary(echo, request).await
        }
        "/tollgate.v1.UsageService/RecordUsage" => {
            let echo = service_fn(move |_: tonic::Request<RecordUsageRequest>| {
                let recorded = recorded.clone();
                async move { Answered::Ok(tonic::Response::new(recorded)) }
            });
            Grpc::new(ProstCodec::default()).unary(echo, request).await
        }
        "/tollgate.v1.AuthorizationService/AuthorizeStream" => {
            let echo = service_fn(move |request: tonic::Request<Streaming<_>>| {
                let answers = streamed(request.into_inner(), grant.clone());
                async move { Answered::Ok(tonic::Response::new(answers)) }
            });
            Grpc::new(ProstCodec::default()).streaming(echo, request).await
        }
        path => Status::unimplemented(path.to_owned()).into_http(),
    })
}

type Streamed = Pin<Box<dyn Stream<Item = Result<AuthorizeStreamResponse, Status>> + Send>>;

fn streamed(requests: Streaming<AuthorizeStreamRequest>, grant: AuthorizeResponse) -> Streamed {
    Box::pin(requests.map(move |request| {
        let request_id = request?.request.unwrap_or_default().request_id;
        Ok(AuthorizeStreamResponse { request_id, result: Some(Item::Response(grant.clone())) })
    }))
}

//! The limit of the wire: a bare tonic server that takes the same messages and answers each with
//! the same bytes, without a gate, a log or a rule. A process of its own, as the server is, with one
//! thread and one runtime, which is the fastest that was found.

use std::{
    convert::Infallible,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::SocketAddr,
    pin::Pin,
    process::{Child, ChildStdin, Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{Stream, StreamExt as _};
use http::{Request, Response};
use prost::Message;
use tonic::{
    Status, Streaming,
    body::Body,
    server::Grpc,
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::stage::failed;
use crate::{
    cli::{error::CliError, output::line},
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
    child: Child,
    /// When this is closed, by whatever way this process ends, the echo ends.
    _stdin: Option<ChildStdin>,
}

impl Echo {
    /// Starts answering.
    pub(super) fn start(answers: &Answers) -> Result<Self, CliError> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "--serve-echo"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(stdin) = &mut child.stdin {
            writeln!(stdin, "{}", STANDARD.encode(answers.grant.encode_to_vec()))?;
            writeln!(stdin, "{}", STANDARD.encode(answers.recorded.encode_to_vec()))?;
        }
        let mut address = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut address)?;
        }
        let stdin = child.stdin.take();
        Ok(Self { endpoint: format!("http://{}", address.trim()), child, _stdin: stdin })
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The echo's own life: answers with what it reads, until there is nothing more to read.
pub(super) async fn serve() -> Result<(), CliError> {
    let mut stdin = std::io::stdin().lock();
    let mut read = || {
        let mut text = String::new();
        stdin.read_line(&mut text)?;
        STANDARD.decode(text.trim()).map_err(failed)
    };
    let grant = AuthorizeResponse::decode(read()?.as_slice()).map_err(failed)?;
    let recorded = RecordUsageResponse::decode(read()?.as_slice()).map_err(failed)?;
    let answers = Answers { grant, recorded };

    let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(failed)?;
    line(&incoming.local_addr()?.to_string())?;
    drop(stdin);
    let ended =
        tokio::task::spawn_blocking(|| std::io::stdin().lock().read_to_end(&mut Vec::new()));
    let service = service_fn(move |request| answer(answers.clone(), request));
    let serving = Server::builder().serve_with_incoming(service, incoming.with_nodelay(Some(true)));
    tokio::select! {
        served = serving => served.map_err(failed),
        _ = ended => Ok(()),
    }
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

//! What a gateway does, as load: asks the gate, records usage, or both, in each of the ways that the
//! contract offers.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    echo::Answers,
    load::{Slice, closed_loop, histogram, joined, note, paced},
    population::Population,
};
use crate::{
    cli::{args::required, client::Client, error::CliError},
    proto::{
        AuthorizeRequest, AuthorizeResponse, AuthorizeStreamRequest, AuthorizeStreamResponse,
        Outcome, Quantities, RecordUsageBatchRequest, RecordUsageRequest, RecordUsageResponse,
        RecordUsageResult, RecordUsageStreamRequest, RecordUsageStreamResponse,
        authorize_response::Decision,
        authorize_stream_response::Result as Item,
        record_usage_request::{Source, Usage},
        record_usage_result,
    },
};

/// Connections of a gateway.
pub(super) const CONNECTIONS: usize = 4;
/// Items on their way on one stream.
const STREAM_WINDOW: usize = 1_000;
/// Usages in one `RecordUsageBatch`.
const BATCH: usize = 500;
/// Calls with [`BATCH`] usages on their way.
const BATCHES_IN_FLIGHT: usize = 4;

/// How often each key is touched, keys that are touched before their usage is recorded, and calls on
/// their way meanwhile.
const TOUCHES: usize = 2;
const TOUCHED_AT_A_TIME: usize = 10_000;
const LANES: usize = 64;

/// A gateway with its connections.
#[derive(Debug, Clone)]
pub(super) struct Gateway {
    clients: Arc<[Client]>,
    population: Arc<Population>,
    whose: Whose,
}

/// Of whom requests are.
#[derive(Debug, Clone, Copy)]
enum Whose {
    /// Of the first so many customers, at random.
    Active(usize),
    /// Of this customer.
    One(usize),
    /// Of one customer after another, from this one on.
    InTurn(usize),
}

impl Gateway {
    /// A gateway that serves the first `active` accounts.
    pub(super) fn new(
        clients: &Arc<[Client]>,
        population: &Arc<Population>,
        active: usize,
    ) -> Self {
        Self {
            clients: Arc::clone(clients),
            population: Arc::clone(population),
            whose: Whose::Active(active.max(1)),
        }
    }

    /// The same gateway with requests of this account alone.
    pub(super) fn of(&self, account: usize) -> Self {
        Self { whose: Whose::One(account), ..self.clone() }
    }

    fn client(&self, number: u64) -> Result<&Client, CliError> {
        let place = usize::try_from(number).unwrap_or(0) % self.clients.len().max(1);
        self.clients.get(place).ok_or_else(|| CliError::failed("there is no connection"))
    }

    fn api_key(&self, number: u64) -> Result<&str, CliError> {
        let place = match self.whose {
            Whose::Active(active) => return self.population.api_key(number, active),
            Whose::One(place) => place,
            Whose::InTurn(first) => first + usize::try_from(number).unwrap_or(0),
        };
        Ok(&self.population.customer(place)?.api_key)
    }

    fn request(&self, number: u64) -> AuthorizeRequest {
        AuthorizeRequest {
            // Without accounts there is nothing to ask for; the server says so.
            api_key: self.api_key(number).unwrap_or_default().to_owned(),
            model: self.population.model.to_owned(),
            request_id: format!("bench-{:08x}-{number:08}", self.population.run()),
            input_tokens: 1_200,
            max_output_tokens: Some(500),
            ..AuthorizeRequest::default()
        }
    }

    /// One real answer of each kind.
    pub(super) async fn sample(&self) -> Result<Answers, CliError> {
        self.population.new_run();
        let client = self.client(0)?;
        let grant = client.authorization().authorize(self.request(0)).await?.into_inner();
        let record = used(token(grant.clone())?);
        let recorded = client.usage().record_usage(record).await?.into_inner();
        Ok(Answers { grant, recorded })
    }

    /// A few requests of nearly every active account.
    pub(super) async fn touch(&self) -> Result<(), CliError> {
        let touched = self.authorize_stream(4 * self.active() as u64).await?.1;
        self.record_stream(touched).await?;
        Ok(())
    }

    /// How many customers may be meant.
    fn active(&self) -> usize {
        match self.whose {
            Whose::Active(active) => active.min(self.population.count()),
            Whose::One(_) | Whose::InTurn(_) => 1,
        }
    }

    /// A few requests with every active key, one after the other and never many of them outstanding: that
    /// so many wake up at once is not what is measured.
    pub(super) async fn touch_all(&self) -> Result<(), CliError> {
        let keys = self.active();
        for first in (0..TOUCHES).flat_map(|_| (0..keys).step_by(TOUCHED_AT_A_TIME)) {
            let these = Self { whose: Whose::InTurn(first), ..self.clone() };
            let calls = TOUCHED_AT_A_TIME.min(keys - first) as u64;
            let (_, tokens) = these.authorize(LANES, calls).await?;
            self.record_stream(tokens).await?;
        }
        Ok(())
    }

    /// `Authorize`, one by one; returns the grants' tokens.
    pub(super) async fn authorize(
        &self,
        in_flight: usize,
        calls: u64,
    ) -> Result<(Slice, Vec<String>), CliError> {
        let gateway = self.clone();
        self.population.new_run();
        closed_loop(in_flight, calls, move |number| {
            let gateway = gateway.clone();
            async move { gateway.authorize_one(number).await }
        })
        .await
    }

    async fn authorize_one(&self, number: u64) -> Result<String, CliError> {
        let mut client = self.client(number)?.authorization();
        token(client.authorize(self.request(number)).await?.into_inner())
    }

    /// The requests that follow are other ones than those before.
    pub(super) fn begin(&self) {
        self.population.new_run();
    }

    /// One `Authorize`, with whatever it is refused with. A denial counts as refused for now.
    pub(super) async fn try_authorize(&self, number: u64) -> Result<Option<String>, Status> {
        let client = self.client(number).map_err(|error| Status::internal(error.to_string()))?;
        let answer = client.authorization().authorize(self.request(number)).await?.into_inner();
        token(answer).map(Some).map_err(|error| Status::resource_exhausted(error.to_string()))
    }

    /// One `RecordUsage`, again if need be, with whatever it is refused with.
    pub(super) async fn try_record(&self, number: u64, token: String) -> Result<(), Status> {
        let client = self.client(number).map_err(|error| Status::internal(error.to_string()))?;
        client.usage().record_usage(used(token)).await.map(drop)
    }

    /// `RecordUsage`, one by one.
    pub(super) async fn record(
        &self,
        in_flight: usize,
        tokens: Vec<String>,
    ) -> Result<Slice, CliError> {
        let (gateway, tokens) = (self.clone(), Arc::<[String]>::from(tokens));
        let calls = tokens.len() as u64;
        let (slice, _) = closed_loop(in_flight, calls, move |number| {
            let (gateway, tokens) = (gateway.clone(), Arc::clone(&tokens));
            async move {
                let token = tokens.get(usize::try_from(number).unwrap_or(0)).cloned();
                gateway.record_one(number, token.unwrap_or_default()).await
            }
        })
        .await?;
        Ok(slice)
    }

    async fn record_one(&self, number: u64, token: String) -> Result<(), CliError> {
        let mut client = self.client(number)?.usage();
        charged(&client.record_usage(used(token)).await?.into_inner())
    }

    /// Both for each request, as a gateway that serves it would.
    pub(super) async fn cycle(&self, in_flight: usize, calls: u64) -> Result<Slice, CliError> {
        let gateway = self.clone();
        self.population.new_run();
        let (slice, _) = closed_loop(in_flight, calls, move |number| {
            let gateway = gateway.clone();
            async move {
                let token = gateway.authorize_one(number).await?;
                gateway.record_one(number, token).await
            }
        })
        .await?;
        Ok(slice)
    }

    /// Both, so many a second for so long; the times of the two, from when each was due.
    pub(super) async fn paced(
        &self,
        rate: u64,
        duration: Duration,
    ) -> Result<(Histogram<u64>, Histogram<u64>), CliError> {
        self.population.new_run();
        let calls = paced(rate, duration, |number, due| {
            let gateway = self.clone();
            async move {
                let token = gateway.authorize_one(number).await?;
                let authorized = due.elapsed();
                let begun = Instant::now();
                gateway.record_one(number, token).await?;
                Ok::<_, CliError>((authorized, begun.elapsed()))
            }
        })
        .await;
        let (mut authorized, mut recorded) = (histogram()?, histogram()?);
        for call in calls {
            let (authorizing, recording) = call?;
            note(&mut authorized, authorizing);
            note(&mut recorded, recording);
        }
        Ok((authorized, recorded))
    }

    /// `RecordUsageBatch`.
    pub(super) async fn record_batches(&self, tokens: Vec<String>) -> Result<Slice, CliError> {
        let calls = tokens.len() as u64;
        let batches: Arc<[Vec<String>]> = tokens.chunks(BATCH).map(<[_]>::to_vec).collect();
        let (gateway, count) = (self.clone(), batches.len() as u64);
        let (mut slice, _) = closed_loop(BATCHES_IN_FLIGHT, count, move |number| {
            let (gateway, batches) = (gateway.clone(), Arc::clone(&batches));
            async move {
                let batch = batches.get(usize::try_from(number).unwrap_or(0)).cloned();
                let usages = batch.unwrap_or_default().into_iter().map(used).collect();
                let mut client = gateway.client(number)?.usage();
                let request = RecordUsageBatchRequest { usages };
                let answer = client.record_usage_batch(request).await?.into_inner();
                answer.results.into_iter().try_for_each(recorded)
            }
        })
        .await?;
        slice.calls = calls;
        Ok(slice)
    }

    /// `AuthorizeStream` over every connection; returns the grants' tokens.
    pub(super) async fn authorize_stream(
        &self,
        calls: u64,
    ) -> Result<(Slice, Vec<String>), CliError> {
        self.population.new_run();
        let gateway = self.clone();
        let item = move |number| AuthorizeStreamRequest { request: Some(gateway.request(number)) };
        let gateway = self.clone();
        let open = move |number, requests| {
            let gateway = gateway.clone();
            async move {
                let mut client = gateway.client(number)?.authorization();
                Ok(client.authorize_stream(requests).await?.into_inner())
            }
        };
        self.stream(calls, item, open, |answer: AuthorizeStreamResponse| {
            let number = answer.request_id.rsplit('-').next().and_then(|text| text.parse().ok());
            Ok((number.unwrap_or(0), streamed_token(answer)?))
        })
        .await
    }

    /// `RecordUsageStream` over every connection.
    pub(super) async fn record_stream(&self, tokens: Vec<String>) -> Result<Slice, CliError> {
        let (calls, tokens) = (tokens.len() as u64, Arc::<[String]>::from(tokens));
        let item = move |sequence| {
            let token = tokens.get(usize::try_from(sequence).unwrap_or(0)).cloned();
            RecordUsageStreamRequest { sequence, usage: Some(used(token.unwrap_or_default())) }
        };
        let gateway = self.clone();
        let open = move |number, requests| {
            let gateway = gateway.clone();
            async move {
                let mut client = gateway.client(number)?.usage();
                Ok(client.record_usage_stream(requests).await?.into_inner())
            }
        };
        let (slice, _) = self
            .stream(calls, item, open, |answer: RecordUsageStreamResponse| {
                Ok((answer.sequence, recorded(required(answer.result, "result")?)?))
            })
            .await?;
        Ok(slice)
    }

    /// Sends so many items over a stream on each connection, and takes the answers.
    async fn stream<Question, Opened, Answer, T>(
        &self,
        calls: u64,
        item: impl Fn(u64) -> Question + Clone + Send + 'static,
        open: impl Fn(u64, ReceiverStream<Question>) -> Opened + Clone + Send + 'static,
        take: impl Fn(Answer) -> Result<(u64, T), CliError> + Copy + Send + 'static,
    ) -> Result<(Slice, Vec<T>), CliError>
    where
        Question: Send + 'static,
        Opened: Future<Output = Result<Streaming<Answer>, CliError>> + Send + 'static,
        Answer: Send + 'static,
        T: Send + 'static,
    {
        let share = calls.div_ceil(self.clients.len() as u64).max(1);
        let mut streams = JoinSet::new();
        let begun = Instant::now();
        let firsts = (0..calls).step_by(usize::try_from(share).unwrap_or(usize::MAX));
        for (connection, first) in (0..).zip(firsts) {
            let (send, questions) = mpsc::channel(STREAM_WINDOW);
            let answers = open(connection, ReceiverStream::new(questions));
            let flow = Flow::new(first..(first + share).min(calls));
            let item = item.clone();
            streams.spawn(async move {
                let sending = flow.send(send, item);
                let ((), taken) = tokio::try_join!(sending, flow.receive(answers, take))?;
                Ok(taken)
            });
        }
        let (mut latencies, mut answers) = (histogram()?, Vec::new());
        while let Some(stream) = streams.join_next().await {
            let (measured, taken) = joined(stream)?;
            let _ = latencies.add(&measured);
            answers.extend(taken);
        }
        if answers.len() as u64 != calls {
            let got = answers.len();
            let message = format!("{got} of {calls} items of a stream were answered");
            return Err(CliError::failed(message));
        }
        Ok((Slice::since(begun, calls, latencies), answers))
    }
}

/// The items of one stream: never more than [`STREAM_WINDOW`] on their way.
struct Flow {
    numbers: Range<u64>,
    room: Semaphore,
    /// When each was sent, in their order.
    times: Mutex<Vec<Instant>>,
}

impl Flow {
    fn new(numbers: Range<u64>) -> Self {
        Self { numbers, room: Semaphore::new(STREAM_WINDOW), times: Mutex::default() }
    }

    async fn send<Question>(
        &self,
        send: mpsc::Sender<Question>,
        item: impl Fn(u64) -> Question,
    ) -> Result<(), CliError> {
        for number in self.numbers.clone() {
            // A stream that is closed is told of by its answers.
            let Ok(permit) = self.room.acquire().await else { break };
            permit.forget();
            lock(&self.times).push(Instant::now());
            if send.send(item(number)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn receive<Answer, T>(
        &self,
        answers: impl Future<Output = Result<Streaming<Answer>, CliError>>,
        take: impl Fn(Answer) -> Result<(u64, T), CliError>,
    ) -> Result<(Histogram<u64>, Vec<T>), CliError> {
        let mut answers = answers.await?;
        let (mut latencies, mut taken) = (histogram()?, Vec::new());
        while let Some(answer) = answers.message().await? {
            self.room.add_permits(1);
            let (number, answer) = take(answer)?;
            let place = usize::try_from(number.saturating_sub(self.numbers.start)).unwrap_or(0);
            if let Some(sent) = lock(&self.times).get(place) {
                note(&mut latencies, sent.elapsed());
            }
            taken.push(answer);
        }
        Ok((latencies, taken))
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a request of the benchmark used.
fn used(token: String) -> RecordUsageRequest {
    let quantities =
        Quantities { input: 1_000, cache_read: 200, output: 310, ..Quantities::default() };
    RecordUsageRequest {
        source: Some(Source::Token(token)),
        usage: Some(Usage::Quantities(quantities)),
        outcome: Outcome::Success.into(),
        provider: "openai".to_owned(),
        served_model: "gpt-4o-2024-11-20".to_owned(),
        region: "eu-central".to_owned(),
        latency: Some(prost_types::Duration { seconds: 1, nanos: 250_000_000 }),
        ..RecordUsageRequest::default()
    }
}

/// The token of a grant; a denial would be measured as something that it is not.
fn token(answer: AuthorizeResponse) -> Result<String, CliError> {
    match required(answer.decision, "decision")? {
        Decision::Grant(grant) => Ok(grant.token),
        Decision::Denial(denial) => {
            Err(CliError::failed(format!("a request was denied: {}", denial.message)))
        }
    }
}

fn streamed_token(answer: AuthorizeStreamResponse) -> Result<String, CliError> {
    match required(answer.result, "result")? {
        Item::Response(response) => token(response),
        Item::Error(error) => Err(CliError::failed(error.message)),
    }
}

fn charged(answer: &RecordUsageResponse) -> Result<(), CliError> {
    if answer.duplicate {
        return Err(CliError::failed(format!("{} had been recorded before", answer.event_id)));
    }
    Ok(())
}

fn recorded(result: RecordUsageResult) -> Result<(), CliError> {
    match required(result.result, "result")? {
        record_usage_result::Result::Response(response) => charged(&response),
        record_usage_result::Result::Error(error) => Err(CliError::failed(error.message)),
    }
}

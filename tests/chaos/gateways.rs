//! Gateways that replay a trace: authorize, serve, record; some again, late, elsewhere, too much, or
//! never.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use fastrand::Rng;
use rust_decimal::Decimal;
use tollgate::{
    api::convert::timestamp,
    cli::client::Client,
    proto::{
        AuthorizeRequest, CancelAuthorizationRequest, ExtendAuthorizationRequest, Grant,
        UnauthorizedUsage, authorize_response::Decision,
        extend_authorization_response::Decision as Extended, record_usage_request::Source,
    },
};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    auditor::{Promise, Receipt, Witness, Work},
    fleet::{GRACE, LIFETIME},
    harness::world::{authorize, decimal, usage},
};

/// A gateway waits so long for one answer, and then asks another server.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// Once the faults are over, what was served is recorded within this or never.
const RECORDED_WITHIN: Duration = Duration::from_mins(1);

/// What may be asked for.
pub(crate) struct Customer {
    pub(crate) account: Uuid,
    /// Its present key, id and text; another after a revocation.
    pub(crate) key: Mutex<(Uuid, String)>,
}

pub(crate) struct World {
    pub(crate) customers: Vec<Customer>,
    pub(crate) models: Vec<String>,
    pub(crate) witness: Arc<Witness>,
    /// (prompt tokens, generated tokens) of requests.
    pub(crate) trace: Vec<(u64, u64)>,
    pub(crate) servers: Vec<Client>,
    /// Nothing new is asked for any more.
    pub(crate) closing: AtomicBool,
}

/// Makes a call until it is answered; `None` once there is no more time. An answer is a success, or a
/// refusal that another attempt would not change.
pub(crate) async fn answered<T, F>(
    world: &World,
    rng: &mut Rng,
    deadline: Option<Instant>,
    call: impl Fn(Client) -> F,
) -> Option<Result<T, Status>>
where
    F: Future<Output = Result<T, Status>>,
{
    loop {
        let server = world.servers[rng.usize(..world.servers.len())].clone();
        match tokio::time::timeout(PATIENCE, call(server)).await {
            Err(_) => world.witness.retried("no answer in time"),
            Ok(Err(status)) if is_passing(status.code()) => {
                world.witness.retried(&format!("{:?}", status.code()));
            }
            Ok(answer) => return Some(answer),
        }
        if deadline.is_some_and(|deadline| deadline < Instant::now()) {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::Unknown
            | Code::Cancelled
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Aborted
    )
}

/// One gateway's worker, until the run closes.
pub(crate) async fn gateway(world: Arc<World>, mut rng: Rng) {
    while !world.closing.load(Ordering::Acquire) {
        // One customer is busier than all others together.
        let customer = if rng.bool() { 0 } else { rng.usize(..world.customers.len()) };
        if rng.u32(..100) == 0 {
            without_a_grant(&world, &mut rng, &world.customers[customer], Utc::now()).await;
        } else {
            request(&world, &mut rng, &world.customers[customer]).await;
        }
    }
}

async fn request(world: &World, rng: &mut Rng, customer: &Customer) {
    let (input, output) = world.trace[rng.usize(..world.trace.len())];
    let (_, key) = customer.key.lock().unwrap().clone();
    let asked = AuthorizeRequest {
        api_key: key,
        model: world.models[rng.usize(..world.models.len())].clone(),
        request_id: Uuid::from_u128(rng.u128(..)).to_string(),
        input_tokens: input,
        max_output_tokens: Some(output.max(1)),
        ..AuthorizeRequest::default()
    };
    let until = Instant::now() + PATIENCE * 2;
    let decision = answered(world, rng, Some(until), |server| {
        let asked = asked.clone();
        async move {
            // The moment of the attempt that is answered.
            let sent = Instant::now();
            Ok((sent, authorize(&server, &asked).await?))
        }
    });
    match decision.await {
        Some(Ok((sent, Decision::Grant(grant)))) => {
            let promise = promise(&grant);
            assert_eq!(promise.account, customer.account);
            world.witness.granted(id(&grant), promise, sent);
            serve(world, rng, grant, Work { input: signed(input), output: signed(output) }).await;
        }
        Some(Ok((_, Decision::Denial(denial)))) => {
            world.witness.denied(denial.reason().as_str_name());
            tokio::time::sleep(PAUSE).await;
        }
        Some(Err(status)) => world.witness.complain(format!("Authorize was refused: {status:?}")),
        None => {}
    }
}

/// What becomes of a request that was granted.
async fn serve(world: &World, rng: &mut Rng, mut grant: Grant, mut work: Work) {
    // The model thinks.
    tokio::time::sleep(Duration::from_millis(rng.u64(..60))).await;
    match rng.u32(..100) {
        // It is never heard of again.
        0..4 => return,
        4..8 => return cancel(world, rng, &grant).await,
        // It goes on for longer than was asked for.
        8..14 => {
            extend(world, rng, &mut grant, &mut work).await;
        }
        // It generates more than it was allowed.
        14..17 => work.output = work.output * 2 + 100,
        // Its usage is reported in the grace, or after it.
        17..19 => tokio::time::sleep(LIFETIME + GRACE / 2).await,
        19..21 => tokio::time::sleep(LIFETIME + GRACE * 2).await,
        _ => {}
    }
    let times = if rng.u32(..10) == 0 { 2 } else { 1 };
    for _ in 0..times {
        world.witness.sends(id(&grant), work);
        record(world, rng, id(&grant), Source::Token(grant.token.clone()), work).await;
    }
}

async fn record(world: &World, rng: &mut Rng, event: Uuid, source: Source, work: Work) {
    let usage = usage(source, unsigned(work.input), unsigned(work.output));
    let until = Instant::now() + RECORDED_WITHIN;
    let answer = answered(world, rng, Some(until), |server| {
        let usage = usage.clone();
        async move { Ok(server.usage().record_usage(usage).await?.into_inner()) }
    });
    match answer.await {
        Some(Ok(answer)) => {
            let receipt = Receipt {
                work,
                charged: decimal(answer.charged.as_ref()),
                overrun: decimal(answer.overrun.as_ref()),
                answered_at: Utc::now(),
            };
            if answer.event_id != event.to_string() {
                let other = answer.event_id;
                world.witness.complain(format!("{event} was acknowledged as {other}"));
            }
            world.witness.acknowledged(event, receipt);
        }
        Some(Err(status)) => {
            world.witness.complain(format!("the usage of {event} was refused: {status:?}"));
        }
        None => world.witness.retried("given up"),
    }
}

async fn cancel(world: &World, rng: &mut Rng, grant: &Grant) {
    // It stands in the books as work that took nothing.
    let event = id(grant);
    world.witness.sends(event, Work { input: 0, output: 0 });
    let until = Instant::now() + RECORDED_WITHIN;
    let answer = answered(world, rng, Some(until), |server| {
        let request = CancelAuthorizationRequest { token: grant.token.clone() };
        async move { Ok(server.authorization().cancel_authorization(request).await?.into_inner()) }
    });
    match answer.await {
        Some(Ok(answer)) => world.witness.cancelled(event, decimal(answer.charged.as_ref())),
        // It has expired meanwhile.
        Some(Err(status)) if status.code() == Code::FailedPrecondition => {}
        Some(Err(status)) => {
            world.witness.complain(format!("cancelling {event} was refused: {status:?}"));
        }
        None => world.witness.retried("given up"),
    }
}

async fn extend(world: &World, rng: &mut Rng, grant: &mut Grant, work: &mut Work) {
    let request = ExtendAuthorizationRequest {
        token: grant.token.clone(),
        max_output_tokens: grant.max_output_tokens + 500,
        allow_reduced_output: false,
    };
    let until = Instant::now() + PATIENCE;
    let answer = answered(world, rng, Some(until), |server| {
        let request = request.clone();
        async move { Ok(server.authorization().extend_authorization(request).await?.into_inner()) }
    });
    match answer.await {
        Some(Ok(answer)) => match answer.decision.unwrap() {
            Extended::Grant(raised) => {
                let promise = promise(&raised);
                world.witness.extended(id(grant), promise.amount, promise.expires_at);
                work.output += 500;
                *grant = raised;
            }
            Extended::Denial(_) => world.witness.denied("an extension"),
        },
        Some(Err(status)) if status.code() == Code::FailedPrecondition => {}
        Some(Err(status)) => {
            world.witness.complain(format!("an extension was refused: {status:?}"));
        }
        None => {}
    }
}

/// Work that nobody asked for beforehand, as a batch job's.
pub(crate) async fn without_a_grant(
    world: &World,
    rng: &mut Rng,
    customer: &Customer,
    occurred_at: DateTime<Utc>,
) {
    let event = Uuid::now_v7();
    let work = Work { input: rng.i64(1..500), output: rng.i64(1..100) };
    let (key, _) = customer.key.lock().unwrap().clone();
    let source = UnauthorizedUsage {
        event_id: event.to_string(),
        account: customer.account.to_string(),
        key_id: key.to_string(),
        model: world.models[0].clone(),
        occurred_at: Some(timestamp(occurred_at)),
    };
    world.witness.sends_unauthorized(event, work);
    record(world, rng, event, Source::Unauthorized(source), work).await;
}

fn promise(grant: &Grant) -> Promise {
    let expires_at = grant.expires_at.unwrap();
    Promise {
        account: grant.account_id.parse().unwrap(),
        key: grant.key_id.parse().unwrap(),
        price_version: grant.price_version,
        amount: decimal(grant.reserved.as_ref()),
        expires_at: DateTime::from_timestamp(
            expires_at.seconds,
            u32::try_from(expires_at.nanos).unwrap(),
        )
        .unwrap(),
    }
}

fn id(grant: &Grant) -> Uuid {
    grant.authorization_id.parse().unwrap()
}

fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap()
}

fn unsigned(tokens: i64) -> u64 {
    u64::try_from(tokens).unwrap()
}

/// An amount in cents.
pub(crate) fn cents(number: i64) -> Decimal {
    Decimal::new(number, 2)
}

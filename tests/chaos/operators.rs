//! What people do meanwhile: they open accounts, top up, revoke keys, change prices and budgets, look
//! at reports, and close the last month.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Datelike as _, SubsecRound as _, Utc};
use fastrand::Rng;
use rust_decimal::Decimal;
use tollgate::{
    api::convert::timestamp,
    cli::client::Client,
    proto::{
        Address, Budget, BudgetEnforcement, BudgetPeriod, ClosePeriodRequest, Contract,
        IssueKeyRequest, KeyLimits, Model, PaymentMethod, PaymentTerms, Price,
        PublishPricesRequest, Rates, RevokeKeyRequest, Seller, SetBudgetRequest, SetSellerRequest,
        SummarizeUsageRequest, Tier, TopUpRequest,
    },
};
use uuid::Uuid;

use crate::{
    auditor::Witness,
    gateways::{Customer, World, answered, cents, without_a_grant},
    harness::world::{create, issue, usd},
};

const MODELS: [&str; 3] = ["chaos/small", "chaos/large", "chaos/thinking"];
/// Customers who pay in advance, the busy one first.
const PREPAID: usize = 8;
/// Customers who pay by invoice, and what they may owe.
const INVOICED: usize = 3;
const CREDIT_LIMIT_CENTS: i64 = 6_000;
/// The customer whose budget ends before the money does.
const BUDGETED: usize = 1;
const LAST_MONTHS_EVENTS: usize = 20;
/// Between two of their actions.
const PAUSE: Duration = Duration::from_millis(400);

/// Models with prices, the seller, customers with keys and their first funds.
pub(crate) async fn set_up(
    servers: Vec<Client>,
    witness: Arc<Witness>,
    trace: Vec<(u64, u64)>,
    rng: &mut Rng,
) -> World {
    let first = servers[0].clone();
    let seller = Seller {
        legal_name: "Gateway GmbH".to_owned(),
        address: Some(Address {
            line_1: "Weg 1".to_owned(),
            city: "Berlin".to_owned(),
            country_code: "DE".to_owned(),
            ..Address::default()
        }),
        tax_id: "DE123456789".to_owned(),
        ..Seller::default()
    };
    let request = SetSellerRequest { seller: Some(seller), idempotency_key: String::new() };
    first.seller().set_seller(request).await.unwrap();
    let mut customers = Vec::new();
    for number in 0..PREPAID + INVOICED {
        let limit = if number < PREPAID { Decimal::ZERO } else { cents(CREDIT_LIMIT_CENTS) };
        let contract = if number < PREPAID { Contract::default() } else { net_30(limit) };
        let handle = format!("customer-{number}");
        let account: Uuid = create(&first, &handle, contract).await.parse().unwrap();
        witness.opened(account, limit);
        let (key, text) = issue(&first, &handle, Tier::Standard, KeyLimits::default()).await;
        let key = Mutex::new((key.key_id.parse().unwrap(), text));
        customers.push(Customer { account, key });
    }
    let world = World {
        customers,
        models: MODELS.map(str::to_owned).to_vec(),
        witness,
        trace,
        servers,
        closing: AtomicBool::new(false),
    };
    let long_ago = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    for model in MODELS {
        publish(&world, rng, model, long_ago).await;
    }
    for number in 0..PREPAID {
        let amount = if number == BUDGETED { cents(1_000_000) } else { cents(500) };
        top_up(&world, rng, &world.customers[number], amount).await;
    }
    set_budget(&world, rng, cents(1_000)).await;
    let last_month = Utc::now().with_day(1).unwrap() - chrono::TimeDelta::days(3);
    for customer in &world.customers[PREPAID..] {
        for _ in 0..LAST_MONTHS_EVENTS {
            without_a_grant(&world, rng, customer, last_month).await;
        }
    }
    world
}

fn net_30(credit_limit: Decimal) -> Contract {
    Contract {
        payment_terms: PaymentTerms::Net30.into(),
        credit_limit: usd(&credit_limit.to_string()),
        legal_name: "Kunde AG".to_owned(),
        address: Some(Address { country_code: "DE".to_owned(), ..Address::default() }),
        ..Contract::default()
    }
}

/// Acts until the run closes, then finishes what was begun.
pub(crate) async fn operators(world: Arc<World>, mut rng: Rng, close_at: std::time::Instant) {
    let mut closed = false;
    while !world.closing.load(Ordering::Acquire) {
        tokio::time::sleep(PAUSE.mul_f32(rng.f32() * 2.0)).await;
        if !closed && close_at < std::time::Instant::now() {
            close_last_month(&world, &mut rng).await;
            closed = true;
        }
        let customer = &world.customers[rng.usize(..world.customers.len())];
        match rng.u32(..10) {
            0..2 => top_up(&world, &mut rng, &world.customers[0], cents(400)).await,
            2..4 => {
                let customer = &world.customers[rng.usize(..PREPAID)];
                let amount = cents(rng.i64(1..300));
                top_up(&world, &mut rng, customer, amount).await;
            }
            4..6 => replace_key(&world, &mut rng, customer).await,
            6 => {
                let model = MODELS[rng.usize(..MODELS.len())];
                publish(&world, &mut rng, model, Utc::now()).await;
            }
            7 => {
                let limit = cents(rng.i64(1_000..4_000));
                set_budget(&world, &mut rng, limit).await;
            }
            _ => report(&world, &mut rng, customer).await,
        }
    }
    if !closed {
        close_last_month(&world, &mut rng).await;
    }
}

/// Makes a call of an operator until it is answered with a success.
async fn done<T, F>(
    world: &World,
    rng: &mut Rng,
    what: &str,
    call: impl Fn(Client) -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, tonic::Status>>,
{
    match answered(world, rng, None, call).await? {
        Ok(answer) => Some(answer),
        Err(status) => {
            world.witness.complain(format!("{what} was refused: {status:?}"));
            None
        }
    }
}

async fn top_up(world: &World, rng: &mut Rng, customer: &Customer, amount: Decimal) {
    let request = TopUpRequest {
        account: customer.account.to_string(),
        amount: usd(&amount.to_string()),
        method: PaymentMethod::Wire.into(),
        external_reference: Uuid::from_u128(rng.u128(..)).to_string(),
        idempotency_key: Uuid::from_u128(rng.u128(..)).to_string(),
        ..TopUpRequest::default()
    };
    let answer = done(world, rng, "a top-up", |server| {
        let request = request.clone();
        async move { server.credits().top_up(request).await }
    });
    if answer.await.is_some() {
        world.witness.paid_in(customer.account, amount);
    }
}

async fn replace_key(world: &World, rng: &mut Rng, customer: &Customer) {
    let (revoked, _) = customer.key.lock().unwrap().clone();
    let request = RevokeKeyRequest {
        key_id: revoked.to_string(),
        reason: "leaked".to_owned(),
        idempotency_key: Uuid::from_u128(rng.u128(..)).to_string(),
    };
    let answer = done(world, rng, "a revocation", |server| {
        let request = request.clone();
        async move { server.keys().revoke_key(request).await }
    });
    if answer.await.is_some() {
        world.witness.revoked(revoked);
    }
    // One whose answer was lost stays unused.
    let request = IssueKeyRequest {
        account: customer.account.to_string(),
        name: "next".to_owned(),
        tier: Tier::Standard.into(),
        ..IssueKeyRequest::default()
    };
    let answer = done(world, rng, "a key", |server| {
        let request = request.clone();
        async move { Ok(server.keys().issue_key(request).await?.into_inner()) }
    });
    if let Some(issued) = answer.await {
        let id = issued.key.unwrap().key_id.parse().unwrap();
        *customer.key.lock().unwrap() = (id, issued.api_key);
    }
}

async fn publish(world: &World, rng: &mut Rng, model: &str, from: DateTime<Utc>) {
    let rate = |rng: &mut Rng| Decimal::new(rng.i64(1_000_000..30_000_000), 6);
    let (input, output) = (rate(rng), rate(rng));
    let request = PublishPricesRequest {
        models: vec![Model {
            name: model.to_owned(),
            max_output_tokens: 8_192,
            context_tokens: 200_000,
            ..Model::default()
        }],
        prices: vec![Price {
            model: model.to_owned(),
            currency_code: "USD".to_owned(),
            // To the microsecond, as prices are kept.
            effective_from: Some(timestamp(from.trunc_subsecs(6))),
            rates: Some(Rates {
                input: input.to_string(),
                output: output.to_string(),
                ..Rates::default()
            }),
            source: "chaos".to_owned(),
            ..Price::default()
        }],
        idempotency_key: Uuid::from_u128(rng.u128(..)).to_string(),
    };
    // Before it is sent: it may be charged before its answer is read.
    world.witness.priced(model, from.timestamp_micros(), input, output);
    done(world, rng, "a price", |server| {
        let request = request.clone();
        async move { server.catalog().publish_prices(request).await }
    })
    .await;
}

async fn set_budget(world: &World, rng: &mut Rng, limit: Decimal) {
    let account = world.customers[BUDGETED].account;
    let request = SetBudgetRequest {
        account: account.to_string(),
        period: BudgetPeriod::Total.into(),
        enforcement: BudgetEnforcement::Hard.into(),
        limit: usd(&limit.to_string()),
        idempotency_key: Uuid::from_u128(rng.u128(..)).to_string(),
        ..SetBudgetRequest::default()
    };
    world.witness.budgeted(account, limit);
    let _: Option<Option<Budget>> = done(world, rng, "a budget", |server| {
        let request = request.clone();
        async move { Ok(server.budgets().set_budget(request).await?.into_inner().budget) }
    })
    .await;
}

async fn report(world: &World, rng: &mut Rng, customer: &Customer) {
    let request = SummarizeUsageRequest {
        account: customer.account.to_string(),
        ..SummarizeUsageRequest::default()
    };
    done(world, rng, "a report", |server| {
        let request = request.clone();
        async move { server.usage().summarize_usage(request).await }
    })
    .await;
}

async fn close_last_month(world: &World, rng: &mut Rng) {
    let last = Utc::now().date_naive().with_day(1).unwrap().pred_opt().unwrap();
    let request = ClosePeriodRequest { period: last.format("%Y-%m").to_string(), max_accounts: 4 };
    loop {
        let progress = done(world, rng, "the closing", |server| {
            let request = request.clone();
            async move { Ok(server.billing().close_period(request).await?.into_inner()) }
        });
        let Some(progress) = progress.await else { return };
        if progress.stalled {
            return world.witness.complain(format!("the closing is stalled: {progress:?}"));
        }
        if progress.finished {
            return;
        }
    }
}

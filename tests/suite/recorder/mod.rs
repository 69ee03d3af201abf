//! The recorder and its writers, over a real Postgres: the right charge from the right funds, nothing
//! lost, nothing twice, and nobody held up by somebody else's trouble.

mod adversity;
mod postings;

use std::{
    str::FromStr,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tollgate::{
    clock,
    ids::{AccountId, AuthorizationId, InstanceId, KeyId, ModelId, PriceVersionId},
    metering::{
        error::MeteringError,
        event::{Authorized, Detail, Fingerprint, NewEvent, Outcome, Recorded, Served},
        quantities::Quantities,
        recorder::{Recorder, RecorderOptions},
        window::UsageWindow,
    },
    money::{Amount, Currency},
    problem::{Problem, ProblemKind},
    tasks::Tasks,
    telemetry::metrics::Metrics,
};
use uuid::Uuid;

use crate::harness::postgres::fresh_database;

/// How long anything here may take before a test calls it failed.
const PATIENCE: Duration = Duration::from_secs(30);

type Settled = Arc<Mutex<Vec<(AccountId, AuthorizationId, Amount)>>>;

/// A database with one model at one price, a recorder on it, and what was settled.
struct Books {
    pool: PgPool,
    database: PgConnectOptions,
    recorder: Recorder,
    tasks: Tasks,
    settled: Settled,
    instance: InstanceId,
    window: UsageWindow,
}

impl Books {
    async fn open() -> Self {
        Self::on(fresh_database().await).await
    }

    async fn on(database: PgConnectOptions) -> Self {
        let pool = PgPoolOptions::new().max_connections(4).connect_lazy_with(database.clone());
        sqlx::raw_sql(
            "INSERT INTO models (name) VALUES ('gpt-4o'), ('Qwen/Qwen3-32B');
             INSERT INTO price_versions (model_id, currency, effective_from, input, output)
             VALUES (1, 'USD', '2026-01-01', 10, 10)",
        )
        .execute(&pool)
        .await
        .unwrap();
        let tasks = Tasks::new();
        let window = UsageWindow::open(pool.clone(), &tasks).await.unwrap();
        let settled = Settled::default();
        let instance = InstanceId::generate();
        let recorder = start(&database, instance, &window, &settled, &tasks);
        Self { pool, database, recorder, tasks, settled, instance, window }
    }

    /// Another server on the same database.
    fn another_server(&self) -> (Recorder, InstanceId) {
        let instance = InstanceId::generate();
        let recorder =
            start(&self.database, instance, &self.window, &Settled::default(), &self.tasks);
        (recorder, instance)
    }

    async fn account(&self, funds: &str) -> AccountId {
        self.account_with("0", funds, false).await
    }

    async fn account_with(&self, promotional: &str, credits: &str, net_30: bool) -> AccountId {
        let account = AccountId::generate();
        sqlx::query(
            "WITH account AS (
                 INSERT INTO accounts (account_id, handle, display_name, currency, payment_terms)
                 VALUES ($1, 'a' || replace(right($1::text, 20), '-', ''), 'Acme', 'USD',
                         CASE WHEN $4 THEN 'net_30' ELSE 'prepaid' END))
             INSERT INTO account_funds (account_id, currency, promotional, credits, net_30)
             VALUES ($1, 'USD', $2, $3, $4)",
        )
        .bind(account.0)
        .bind(Decimal::from_str(promotional).unwrap())
        .bind(Decimal::from_str(credits).unwrap())
        .bind(net_30)
        .execute(&self.pool)
        .await
        .unwrap();
        account
    }

    async fn ask<T>(&self, sql: &'static str, account: AccountId) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        sqlx::query_scalar(sql).bind(account.0).fetch_one(&self.pool).await.unwrap()
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.pool).await.unwrap();
    }

    /// Promotional, credits, overdrawn, unbilled.
    async fn balances(&self, account: AccountId) -> [String; 4] {
        let balances: Vec<Decimal> = self
            .ask(
                "SELECT ARRAY[promotional, credits, overdrawn, unbilled] FROM account_funds
                 WHERE account_id = $1",
                account,
            )
            .await;
        let texts: Vec<_> = balances.iter().map(|one| one.normalize().to_string()).collect();
        texts.try_into().unwrap()
    }

    /// Whether events, transfers, balances and posting numbers of an account agree. Gives the sum
    /// of its charges.
    async fn prove(&self, account: AccountId) -> Decimal {
        let charged: Decimal = self
            .ask("SELECT coalesce(sum(charge), 0) FROM usage_events WHERE account_id = $1", account)
            .await;
        let moved: Decimal = self
            .ask("SELECT coalesce(sum(amount), 0) FROM transfers WHERE account_id = $1", account)
            .await;
        assert_eq!(charged, moved, "transfers do not sum to the events");
        let differing: i64 = self
            .ask(
                "SELECT count(*) FROM
                     (SELECT posting, sum(charge) AS charged, min(period) AS period
                      FROM usage_events WHERE account_id = $1 AND posting > 0 GROUP BY posting) e
                 FULL JOIN
                     (SELECT posting, sum(amount) AS moved, min(period) AS period
                      FROM transfers WHERE account_id = $1 GROUP BY posting) t USING (posting)
                 WHERE charged IS DISTINCT FROM moved OR e.period IS DISTINCT FROM t.period",
                account,
            )
            .await;
        assert_eq!(differing, 0, "a posting's transfers do not sum to its events");
        let gaps: bool = self
            .ask(
                "SELECT (SELECT coalesce(array_agg(DISTINCT posting ORDER BY posting), '{}')
                         FROM transfers WHERE account_id = $1)
                        <> (SELECT ARRAY(SELECT generate_series(1, posting))
                            FROM account_funds WHERE account_id = $1)",
                account,
            )
            .await;
        assert!(!gaps, "posting numbers have gaps");
        charged
    }

    async fn stop(self) {
        assert!(self.tasks.stop(PATIENCE).await, "the writers did not end");
        assert_eq!(self.tasks.failure(), None);
        self.pool.close().await;
    }
}

fn start(
    database: &PgConnectOptions,
    instance: InstanceId,
    window: &UsageWindow,
    settled: &Settled,
    tasks: &Tasks,
) -> Recorder {
    let settled = Arc::clone(settled);
    let options = RecorderOptions {
        instance,
        database: database.clone(),
        window: window.clone(),
        settle: Arc::new(move |account, authorization, charge| {
            settled.lock().unwrap().push((account, authorization, charge));
        }),
        admission: Arc::default(),
        metrics: Metrics::new().metering.clone(),
    };
    Recorder::start(options, tasks)
}

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

/// Usage of 1,000 input tokens under an authorization of 1, which costs so much.
fn usage(account: AccountId, charge: &str) -> NewEvent {
    usage_at(account, charge, clock::now())
}

fn usage_at(account: AccountId, charge: &str, occurred_at: DateTime<Utc>) -> NewEvent {
    NewEvent {
        account_id: account,
        event_id: AuthorizationId::generate(),
        occurred_at,
        fingerprint: Fingerprint {
            key_id: KeyId(Uuid::from_u128(7)),
            model: "gpt-4o".to_owned(),
            quantities: Quantities { input: 1_000, ..Quantities::default() },
            outcome: Outcome::Success,
            cache_hit: false,
        },
        model_id: ModelId(1),
        price_version: PriceVersionId(1),
        currency: Currency::USD,
        charge: amount(charge),
        saving: Amount::ZERO,
        tier_above: None,
        authorized: Some(Authorized {
            issuer: InstanceId(Uuid::from_u128(1)),
            reserved: amount("1"),
            covered_until: clock::now() + TimeDelta::minutes(15),
        }),
        budgets: Vec::new(),
        served: Served::default(),
        detail: Detail::default(),
    }
}

/// Records all at once and gives the answers in order.
async fn record_all(
    recorder: &Recorder,
    events: Vec<NewEvent>,
) -> Vec<Result<Recorded, MeteringError>> {
    let receipts: Vec<_> = events.into_iter().map(|event| recorder.submit(event)).collect();
    let mut answers = Vec::new();
    for receipt in receipts {
        answers.push(match receipt {
            Ok(receipt) => receipt.answer().await,
            Err(error) => Err(error),
        });
    }
    answers
}

/// Records as a gateway must: whatever is answered UNAVAILABLE is sent again.
async fn insist(recorder: &Recorder, mut events: Vec<NewEvent>) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answers = record_all(recorder, events.clone()).await;
        let mut unconfirmed = Vec::new();
        for (event, answer) in events.into_iter().zip(answers) {
            if let Err(error) = answer {
                assert_eq!(error.kind(), ProblemKind::Unavailable);
                assert!(error.retry_after().is_some());
                unconfirmed.push(event);
            }
        }
        if unconfirmed.is_empty() {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{} not recorded", unconfirmed.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
        events = unconfirmed;
    }
}

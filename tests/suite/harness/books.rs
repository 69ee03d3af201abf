//! A database with accounts and a priced model in it, and what happens to their money.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tollgate::{
    database::reports::{ReportPool, Reports},
    ids::AccountId,
    ledger::{
        chart::PaymentMethod,
        credits::{self, PromotionalChange, TopUp, ToppedUp},
        error::LedgerError,
        seals,
        store::{self, Funds},
    },
    metering::rollups::{self, Bounds},
    money::{Amount, Currency},
};
use uuid::Uuid;

use super::postgres::fresh_database;

/// The books of a new database. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Books {
    pub(crate) pool: PgPool,
    pub(crate) reports: ReportPool,
}

/// How an account pays.
#[derive(Clone, Copy)]
pub(crate) enum Terms {
    Prepaid,
    /// Net-30, with this credit limit.
    Invoiced(i64),
}

pub(crate) fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

impl Books {
    /// A database with one model at 1 per million input tokens, so that a charge of 2.5 is the use
    /// of 2,500,000 tokens.
    pub(crate) async fn open() -> Self {
        let options = fresh_database().await;
        let reports = Reports::open(&options).all();
        let pool = PgPoolOptions::new().max_connections(20).connect_with(options).await.unwrap();
        let books = Self { pool, reports };
        books.run("INSERT INTO models (name) VALUES ('acme/parrot')").await;
        books
            .run(
                "INSERT INTO price_versions (model_id, currency, effective_from, input, output)
                 VALUES (1, 'USD', '2020-01-01', 1, 2)",
            )
            .await;
        books
    }

    /// Runs a statement that takes no parameters.
    pub(crate) async fn run(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&self.pool).await.unwrap();
    }

    pub(crate) async fn account(&self, handle: &str, terms: Terms) -> AccountId {
        let account = AccountId::generate();
        let (net_30, limit) = match terms {
            Terms::Prepaid => (false, 0),
            Terms::Invoiced(limit) => (true, limit),
        };
        sqlx::query(
            "INSERT INTO accounts (account_id, handle, display_name, currency, payment_terms,
                                   credit_limit)
             VALUES ($1, $2, $2, 'USD', CASE WHEN $3 THEN 'net_30' ELSE 'prepaid' END, $4)",
        )
        .bind(account)
        .bind(handle)
        .bind(net_30)
        .bind(rust_decimal::Decimal::from(limit))
        .execute(&self.pool)
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO account_funds (account_id, currency, net_30, credit_limit)
             VALUES ($1, 'USD', $2, $3)",
        )
        .bind(account)
        .bind(net_30)
        .bind(rust_decimal::Decimal::from(limit))
        .execute(&self.pool)
        .await
        .unwrap();
        // A key of the same id, so that its usage has one.
        sqlx::query(
            "INSERT INTO api_keys (key_id, account_id, name, tier, key_hash, hint, lineage)
             VALUES ($1, $1, 'test', 'standard', sha256(uuid_send($1)), '', $1)",
        )
        .bind(account)
        .execute(&self.pool)
        .await
        .unwrap();
        account
    }

    /// A prepaid account with so much on it.
    pub(crate) async fn funded(&self, handle: &str, credits: &str) -> AccountId {
        let account = self.account(handle, Terms::Prepaid).await;
        self.top_up(&visa(account, credits, &format!("first-of-{handle}"))).await.unwrap();
        account
    }

    pub(crate) async fn top_up(&self, order: &TopUp) -> Result<ToppedUp, LedgerError> {
        let mut transaction = self.pool.begin().await?;
        let done = credits::top_up(&mut transaction, order).await?;
        transaction.commit().await?;
        Ok(done)
    }

    pub(crate) async fn grant(&self, account: AccountId, credits: &str) -> Funds {
        let order = promotional(account, credits);
        let mut transaction = self.pool.begin().await.unwrap();
        let (_, funds) = credits::grant(&mut transaction, &order).await.unwrap();
        transaction.commit().await.unwrap();
        funds
    }

    pub(crate) async fn funds(&self, account: AccountId) -> Funds {
        store::funds(&mut self.pool.acquire().await.unwrap(), account).await.unwrap()
    }

    /// Records usage of these charges in one batch, as the batch writer does. Returns the events.
    pub(crate) async fn record(&self, account: AccountId, charges: &[&str]) -> Vec<Uuid> {
        let events: Vec<Uuid> = charges.iter().map(|_| Uuid::now_v7()).collect();
        let charges: Vec<Amount> = charges.iter().map(|charge| amount(charge)).collect();
        sqlx::query(POST)
            .bind(account)
            .bind(&events)
            .bind(&charges)
            .execute(&self.pool)
            .await
            .unwrap();
        events
    }

    /// Lets a server of this id hold a lease.
    pub(crate) async fn lease(&self, account: AccountId, held: &str) {
        for statement in [
            "INSERT INTO leases (account_id, instance_id, amount, sequence)
             VALUES ($1, gen_random_uuid(), $2, 1)",
            "UPDATE account_funds SET leased = leased + $2 WHERE account_id = $1",
        ] {
            let query = sqlx::query(statement).bind(account).bind(amount(held));
            query.execute(&self.pool).await.unwrap();
        }
    }

    /// The account's transfers from this posting on, like `2000→4000 2.5`.
    pub(crate) async fn transfers_from(&self, account: AccountId, posting: i64) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT debit || '→' || credit || ' ' || trim_scale(amount)
             FROM transfers
             WHERE account_id = $1 AND posting >= $2
             ORDER BY posting, line",
        )
        .bind(account)
        .bind(posting)
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// Takes all usage that is recorded by now into the daily sums, as the background task does.
    pub(crate) async fn roll_up(&self) {
        roll_up(&self.pool).await;
    }

    pub(crate) async fn count(&self, statement: &'static str) -> i64 {
        sqlx::query_scalar(statement).fetch_one(&self.pool).await.unwrap()
    }
}

/// Takes all usage that is recorded by now into the daily sums, in steps of a few events.
pub(crate) async fn roll_up(pool: &PgPool) {
    let now: DateTime<Utc> =
        sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(pool).await.unwrap();
    let bounds = Bounds { margin: Duration::ZERO, events: 50 };
    loop {
        let step = rollups::step(pool, bounds).await.unwrap();
        let done: bool =
            sqlx::query_scalar("SELECT recorded_before >= $1 FROM usage_rollup_watermark")
                .bind(now)
                .fetch_one(pool)
                .await
                .unwrap();
        if done {
            return;
        }
        if !step.behind {
            // Transactions of other tests, in other databases, may hold it up for a moment.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Seals all that is recorded by now, in turns of a few rows.
pub(crate) async fn seal(pool: &PgPool) {
    let now: DateTime<Utc> =
        sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(pool).await.unwrap();
    roll_up(pool).await;
    loop {
        let turn = seals::turn(pool, 7).await.unwrap();
        if turn.sealed_before.is_some_and(|before| before >= now) {
            return;
        }
        if !turn.behind {
            // The server of the same test may be at it.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A top-up by Visa.
pub(crate) fn visa(account: AccountId, credits: &str, reference: &str) -> TopUp {
    TopUp {
        account,
        amount: amount(credits),
        currency: Currency::USD,
        method: PaymentMethod::Visa,
        external_reference: reference.to_owned(),
        note: String::new(),
        idempotency_key: String::new(),
    }
}

pub(crate) fn promotional(account: AccountId, credits: &str) -> PromotionalChange {
    PromotionalChange {
        account,
        amount: amount(credits),
        currency: Currency::USD,
        reason: "welcome".to_owned(),
        idempotency_key: String::new(),
    }
}

/// A row for `post_usage` of these expressions: usage of one model and nothing but its input, charged and
/// authorized alike, by nobody.
macro_rules! usage_to_post {
    ($slot:literal, $event_id:literal, $key_id:literal, $at:literal, $input:literal, $charge:literal) => {
        concat!(
            "(", $slot, ", ", $event_id, ", ", $key_id, ", ", $at, ", 1, 1, ", $input,
            ", 0, 0, 0, 0, 0, 0, 0, 0, NULL, 1, false, ", $charge, ", 0, ", $charge,
            ", now() + interval '1 hour', NULL, '', '', '', '', '', NULL, NULL, '', NULL, NULL, NULL)\
             ::usage_to_post"
        )
    };
}
pub(crate) use usage_to_post;

/// One batch of one account; every event used as many input tokens as its charge has millionths.
const POST: &str = concat!(
    "
    SELECT post_usage('00000000-0000-0000-0000-000000000000', false, ARRAY[$1::uuid], array_agg(",
    usage_to_post!("1", "event_id", "$1", "now()", "(charge * 1000000)::bigint", "charge"),
    " ORDER BY event_id))
    FROM unnest($2::uuid[], $3::numeric[]) AS event (event_id, charge)"
);

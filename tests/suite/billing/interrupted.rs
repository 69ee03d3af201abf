//! Closings that are killed at random points, and closings of many accounts.

use std::{sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, ConnectOptions as _, PgPool, postgres::PgPoolOptions};
use tollgate::{
    billing::{closing::Closing, error::BillingError},
    catalog::book::PriceBook,
    proto::{Contract, PaymentTerms},
};

use super::{a_seller, customer, month, noon, work, world};
use crate::harness::{books::usage_to_post, postgres::fresh_database, world::usd};

/// How often a closing is killed.
const KILLS: u32 = 60;
/// Accounts of it; a closing of all takes longer than any of the spans below.
const ACCOUNTS: u32 = 40;
/// Where the kills come from; changing it kills elsewhere.
const SEED: u64 = 20_261_101;

/// The documents of a database in the order of their numbers, without ids.
async fn frozen(pool: &PgPool) -> Vec<(String, String)> {
    sqlx::query_as("SELECT number, content FROM billing_documents ORDER BY series, year, sequence")
        .fetch_all(pool)
        .await
        .unwrap()
}

async fn closing(pool: &PgPool) -> Closing {
    Closing::new(pool.clone(), Arc::new(PriceBook::open(pool.clone()).await.unwrap()))
}

/// Closes the last month to its end.
async fn close_all(closing: &Closing) -> i64 {
    loop {
        match closing.step(month(1), 1_000).await {
            Ok(progress) if progress.finished => return progress.documents,
            Ok(progress) => assert!(!progress.stalled, "{progress:?}"),
            // The session of a call that was killed may not have ended yet.
            Err(BillingError::ClosingRuns) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_closing_that_is_killed_anywhere_ends_with_the_same_documents_and_numbers() {
    let world = world().await;
    let client = &world.client;
    for number in 0..ACCOUNTS {
        let contract = Contract {
            payment_terms: PaymentTerms::Net30.into(),
            credit_limit: usd("100000"),
            ..Contract::default()
        };
        let one = customer(client, &format!("customer-{number}"), contract).await;
        // Some use nothing.
        if number % 5 != 0 {
            let tokens = u64::from(number) * 1_003;
            work(client, &one, noon(month(1), 1 + number % 28), tokens, 7).await.unwrap();
        }
    }
    // The same accounts again, in a database of their own.
    let database = world.server.database.clone();
    let original = database.get_database().unwrap().to_owned();
    world.server.drain().await.unwrap();
    let copy = format!("{original}_killed");
    let mut admin = database.clone().database("postgres").connect().await.unwrap();
    let clone = format!("CREATE DATABASE {copy} TEMPLATE {original} STRATEGY file_copy");
    sqlx::raw_sql(AssertSqlSafe(clone)).execute(&mut admin).await.unwrap();

    let open = |name: &str| {
        let options = database.clone().database(name);
        PgPoolOptions::new().max_connections(4).connect_lazy_with(options)
    };
    let (undisturbed, disturbed) = (open(&original), open(&copy));
    let documents = close_all(&closing(&undisturbed).await).await;
    assert_eq!(documents, i64::from(ACCOUNTS - ACCOUNTS / 5));

    let killed = closing(&disturbed).await;
    let (mut random, mut kills, mut mid) = (SEED, 0, 0);
    while kills < KILLS {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let span = Duration::from_micros(1_000 + (random >> 33) % 30_000);
        let step = killed.step(month(1), 3);
        kills += 1;
        if random >> 32 & 1 == 0 {
            // The caller is gone: the call is dropped wherever it is.
            if tokio::time::timeout(span, step).await.is_err() {
                mid += 1;
            }
            continue;
        }
        // The database ends its session wherever it is.
        let terminate = async {
            tokio::time::sleep(span).await;
            sqlx::query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()
                   AND query NOT LIKE '%pg_terminate_backend%'",
            )
            .execute(&disturbed)
            .await
        };
        let (step, _) = tokio::join!(step, terminate);
        if step.is_err() {
            mid += 1;
        }
    }
    eprintln!("of {KILLS} kills {mid} met a closing at work (seed {SEED})");
    assert!(mid >= 10, "only {mid} kills met a closing at work");
    assert_eq!(close_all(&killed).await, documents);
    assert_eq!(frozen(&disturbed).await, frozen(&undisturbed).await);
    let (last, count): (i64, i64) = sqlx::query_as(
        "SELECT max(last), (SELECT count(*) FROM billing_documents) FROM document_counters",
    )
    .fetch_one(&disturbed)
    .await
    .unwrap();
    assert_eq!(last, count, "a number was lost");
}

/// Accounts with three events each, in one statement of the writers' function.
const POPULATE: &str = "
    WITH made AS (
        INSERT INTO accounts (account_id, handle, display_name, currency, payment_terms)
        SELECT lpad(to_hex(number), 32, '0')::uuid, 'customer-' || number, 'Customer', 'USD', 'net_30'
        FROM generate_series(1, $1) AS number
        RETURNING account_id
    ), funds AS (
        INSERT INTO account_funds (account_id, currency, net_30) SELECT account_id, 'USD', true FROM made
    )
    INSERT INTO api_keys (key_id, account_id, name, tier, key_hash, hint, lineage)
    SELECT account_id, account_id, 'test', 'standard', sha256(uuid_send(account_id)), '', account_id
    FROM made";
const USE: &str = concat!(
    "
    WITH batch AS (
        SELECT array_agg(DISTINCT account_id) AS accounts, count(*)::integer AS events
        FROM accounts
    ), event AS (
        SELECT slot, account_id, first_id_at($1) AS base, part
        FROM batch
        CROSS JOIN LATERAL unnest(accounts) WITH ORDINALITY AS one (account_id, slot)
        CROSS JOIN generate_series(1, 3) AS part
    ), events AS (
        SELECT array_agg(",
    usage_to_post!(
        "slot",
        "(substr(base::text, 1, 14) || '7' || substr(base::text, 16, 4) || '8'
          || lpad(to_hex(slot * 10 + part), 15, '0'))::uuid",
        "account_id",
        "$1::timestamptz + part * interval '1 day'",
        "1000003 * part",
        "1.000003 * part"
    ),
    " ORDER BY slot, part) AS rows
        FROM event
    )
    SELECT post_usage('00000000-0000-0000-0000-000000000000', false, accounts, rows)
    FROM events, batch"
);

#[tokio::test]
async fn thousands_of_accounts_are_closed_in_one_run() {
    const MANY: i32 = 2_000;
    let pool = PgPoolOptions::new().max_connections(4).connect_lazy_with(fresh_database().await);
    sqlx::raw_sql(
        "SELECT ensure_usage_partitions(3);
         INSERT INTO models (name) VALUES ('acme/parrot');
         INSERT INTO price_versions (model_id, currency, effective_from, input, output)
         VALUES (1, 'USD', '2020-01-01', 1, 2)",
    )
    .execute(&pool)
    .await
    .unwrap();
    let seller = a_seller();
    let party = serde_json::json!({
        "party": { "legal_name": seller.legal_name, "trading_name": "", "registration_id": "",
            "tax_id": "", "electronic_address": null, "email": "", "telephone": "", "contact": "",
            "address": { "line_1": "Weg 1", "line_2": "", "city": "Berlin", "postal_code": "",
                "subdivision": "", "country_code": "DE" } },
        "remittance": { "terms": "", "account_name": "", "account_number": "", "bank_code": "",
            "bank_name": "", "payment_reference": "" },
    });
    let set = sqlx::query("INSERT INTO seller_versions (seller) VALUES ($1)").bind(party);
    set.execute(&pool).await.unwrap();
    sqlx::query(POPULATE).bind(MANY).execute(&pool).await.unwrap();
    sqlx::query(USE).bind(noon(month(1), 10)).execute(&pool).await.unwrap();

    let begun = std::time::Instant::now();
    let documents = close_all(&closing(&pool).await).await;
    let took = begun.elapsed();
    assert_eq!(documents, i64::from(MANY));
    let rate = f64::from(MANY) / took.as_secs_f64();
    eprintln!("{MANY} accounts closed in {took:.1?}: {rate:.0} a second");
    let unbilled: i64 =
        sqlx::query_scalar("SELECT count(*) FROM account_funds WHERE unbilled <> 0")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(unbilled, 0);
}

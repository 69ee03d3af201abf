//! What the business needs to go on: months, prices, usage that arrives, servers that live.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool};
use tollgate::{
    authorization::lifetime::Lifetime,
    database::migrate::newest_known,
    proto::{KeyLimits, Price, PublishPricesRequest, Rates, Tier},
};
use uuid::Uuid;

use super::{found, gone, one};
use crate::{
    billing::{close, customer, month, name, net_30, noon, set_seller, work},
    harness::{
        books::roll_up,
        postgres::fresh_database,
        server::TestServer,
        world::{MODEL, World, request},
    },
};

async fn execute(pool: &PgPool, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(pool).await.unwrap();
}

#[tokio::test]
async fn a_month_without_its_partition_is_found_and_the_remedy_attaches_it() {
    let world = World::start().await;
    let pool = world.server.pool();
    for (months, severity) in [(0, "critical"), (1, "critical"), (2, "warning")] {
        let partition: String = sqlx::query_scalar(
            "SELECT 'usage_events_' || to_char(now() AT TIME ZONE 'UTC'
                                               + make_interval(months => $1), 'YYYY_MM')",
        )
        .bind(months)
        .fetch_one(&pool)
        .await
        .unwrap();
        gone(&world.client, "partitions").await;
        execute(&pool, format!("ALTER TABLE usage_events DETACH PARTITION {partition}")).await;
        let begins = format!("{severity}: partition {partition} is detached: ");
        let told = one(&found(&world.client, "partitions").await, &begins);
        let (_, remedy) = told.split_once(" → ").unwrap();
        let (attach, _) = remedy.split_once(';').unwrap();
        execute(&pool, attach.to_owned()).await;
        gone(&world.client, "partitions").await;

        execute(&pool, format!("ALTER TABLE usage_events DETACH PARTITION {partition}")).await;
        execute(&pool, format!("DROP TABLE {partition}")).await;
        let begins = format!("{severity}: partition {partition} is missing: ");
        let told = one(&found(&world.client, "partitions").await, &begins);
        let (_, remedy) = told.split_once(" → ").unwrap();
        let (make, _) = remedy.split_once(';').unwrap();
        execute(&pool, make.to_owned()).await;
        gone(&world.client, "partitions").await;
    }
}

#[tokio::test]
async fn usage_that_was_not_reported_or_was_refused_is_found_until_it_is_recorded() {
    let short = Lifetime { authorization: Duration::from_secs(1), grace: Duration::from_secs(1) };
    let server = TestServer::start_with(fresh_database().await, short).await;
    let world = World::on(server).await;
    let account = world.startup("acme", "1").await;
    let grant = world.granted(&request(&world.key("acme").await, 100)).await;
    assert_eq!(found(&world.client, "unsettled").await, [""; 0]);
    let mut told = Vec::new();
    while told.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        told = found(&world.client, "unsettled").await;
    }
    let told = one(&told, "warning: 1 authorization of 1 account expired in the last 24 hours ");
    assert!(told.contains("up to 0.012 USD was served"), "{told}");

    let pool = world.server.pool();
    let refused = format!(
        "INSERT INTO quarantined_usage (quarantine_id, account_id, event_id, event, error)
         VALUES (gen_random_uuid(), '{account}', '{}', '{{}}', 'a test')",
        grant.authorization_id
    );
    execute(&pool, refused).await;
    one(&found(&world.client, "quarantine").await, "critical: the database refused 1 usage event ");

    world.record(&grant.token, 1_000, 100).await.unwrap();
    gone(&world.client, "unsettled").await;
    gone(&world.client, "quarantine").await;
}

fn price(currency: &str, from: chrono::DateTime<chrono::Utc>, withdrawn: bool) -> Price {
    let rate = if withdrawn { "0" } else { "10" }.to_owned();
    Price {
        model: MODEL.to_owned(),
        currency_code: currency.to_owned(),
        effective_from: Some(tollgate::api::convert::timestamp(from)),
        rates: Some(Rates { input: rate.clone(), output: rate, ..Rates::default() }),
        withdrawn,
        source: "a test".to_owned(),
        ..Price::default()
    }
}

#[tokio::test]
async fn models_in_use_whose_price_is_gone_or_ends_are_found() {
    let world = World::start().await;
    let publish = async |price: Price| {
        let request = PublishPricesRequest { prices: vec![price], ..Default::default() };
        world.client.catalog().publish_prices(request).await.unwrap();
    };
    let now = chrono::Utc::now();
    world.startup("acme", "1").await;
    let grant = world.granted(&request(&world.key("acme").await, 100)).await;
    world.record(&grant.token, 1_000, 100).await.unwrap();
    roll_up(&world.server.pool()).await;
    assert_eq!(found(&world.client, "prices").await, [""; 0]);

    publish(price("USD", now + chrono::Duration::days(7), true)).await;
    let ends = found(&world.client, "prices").await;
    one(&ends, "warning: the price of test/plain in USD ends at 20");
    assert!(ends[0].contains("it is used by acme"), "{ends:?}");
    publish(price("USD", now - chrono::Duration::seconds(2), true)).await;
    let begins = "warning: model test/plain has no price in USD, and it is used by acme: ";
    one(&found(&world.client, "prices").await, begins);
    publish(price("USD", now - chrono::Duration::seconds(1), false)).await;
    let left = found(&world.client, "prices").await;
    one(&left, "warning: the price of test/plain in USD ends at 20");
    execute(
        &world.server.pool(),
        "UPDATE accounts SET currency = 'EUR' WHERE handle = 'acme'".to_owned(),
    )
    .await;
    one(&found(&world.client, "prices").await, "warning: model test/plain has no price in EUR, ");
    publish(price("EUR", now - chrono::Duration::seconds(1), false)).await;
    gone(&world.client, "prices").await;

    // Nobody has called it yet; a key names it.
    let limits = KeyLimits {
        allowed_models: vec!["test/unknown".to_owned(), "Pro/*".to_owned()],
        ..KeyLimits::default()
    };
    world.issue("acme", Tier::Standard, limits).await;
    let begins = "warning: model test/unknown is not in the catalogue, and it is on the allowlist of a \
                  key of acme: ";
    one(&found(&world.client, "prices").await, begins);
    execute(
        &world.server.pool(),
        "UPDATE api_keys SET revoked_at = now() WHERE allowed_models <> '{}'".to_owned(),
    )
    .await;
    gone(&world.client, "prices").await;
}

#[tokio::test]
async fn a_month_that_should_have_been_closed_is_found_until_it_is() {
    let world = World::start().await;
    let client = &world.client;
    let acme = customer(client, "acme", net_30()).await;
    work(client, &acme, noon(month(0), 1), 1_000_000, 0).await.unwrap();
    roll_up(&world.server.pool()).await;
    assert_eq!(found(client, "closing").await, [""; 0], "this month goes on");
    work(client, &acme, noon(month(1), 3), 1_000_000, 0).await.unwrap();
    roll_up(&world.server.pool()).await;
    let begins = format!(
        "warning: a month of 1 account is not closed and not invoiced, from {} on. ",
        name(month(1))
    );
    let told = one(&found(client, "closing").await, &begins);
    assert!(told.ends_with("`tollgate seller set`."), "{told}");
    set_seller(client).await;
    let told = one(&found(client, "closing").await, &begins);
    assert!(told.contains(&format!("invoice close --period {}`", name(month(1)))), "{told}");
    close(client, month(1)).await;
    gone(client, "closing").await;
}

#[tokio::test]
async fn what_lags_in_the_background_is_found() {
    let world = World::start().await;
    let pool = world.server.pool();
    for (table, what) in [("seal_watermark", "seals"), ("usage_rollup_watermark", "rollups")] {
        // Until the server has taken its first turn, what is set here would be taken for that.
        let begun = format!("SELECT coalesce(isfinite(recorded_before), false) FROM {table}");
        while !sqlx::query_scalar::<_, bool>(AssertSqlSafe(begun.clone()))
            .fetch_one(&pool)
            .await
            .unwrap()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut other = pool.begin().await.unwrap();
        let back = format!("UPDATE {table} SET recorded_before = now() - interval '1 hour'");
        execute(&pool, back).await;
        // Whoever takes turns leaves out a row that somebody else has.
        let hold = format!("SELECT FROM {table} FOR UPDATE");
        sqlx::raw_sql(AssertSqlSafe(hold)).execute(&mut *other).await.unwrap();
        let begins = format!("warning: {what} are 60 min behind: ");
        one(&found(&world.client, "background").await, &begins);
        other.rollback().await.unwrap();
        gone(&world.client, "background").await;
    }
}

#[tokio::test]
async fn a_server_that_fell_silent_and_a_newer_program_are_found() {
    let world = World::start().await;
    let pool = world.server.pool();
    let id = Uuid::now_v7();
    execute(
        &pool,
        format!(
            "INSERT INTO instances (instance_id, heartbeat_at, description, promises_for)
             VALUES ('{id}', now() - interval '1 minute', 'tollgate 0.1.0 pid 7', '16 minutes')"
        ),
    )
    .await;
    let begins = "warning: a server (tollgate 0.1.0 pid 7) was last heard of 6";
    let told = one(&found(&world.client, "servers").await, begins);
    assert!(told.contains("0 leases of customers' funds for 1"), "{told}");
    execute(&pool, format!("DELETE FROM instances WHERE instance_id = '{id}'")).await;
    gone(&world.client, "servers").await;

    let newer = newest_known() + 1;
    execute(
        &pool,
        format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES ({newer}, 'from the future', true, '', 0)"
        ),
    )
    .await;
    let begins =
        format!("critical: the database is at migration {newer} and this server's program ");
    one(&found(&world.client, "schema").await, &begins);
    execute(&pool, format!("DELETE FROM _sqlx_migrations WHERE version = {newer}")).await;
    gone(&world.client, "schema").await;
}

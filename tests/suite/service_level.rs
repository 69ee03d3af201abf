//! What finance reads of a month: the service level of Pro models, revenue, deferred revenue.

use chrono::{Datelike as _, NaiveDate, Utc};
use rust_decimal::Decimal;
use tollgate::billing::{
    reports::{self, Column, Deferred},
    sla,
};

use crate::harness::books::{Books, Terms, amount};

fn this_month() -> NaiveDate {
    Utc::now().date_naive().with_day(1).unwrap()
}

#[tokio::test]
async fn the_service_level_is_of_pro_requests_that_count_and_names_the_bad_intervals() {
    let books = Books::open().await;
    let account = books.account("acme", Terms::Invoiced(1_000)).await;
    books.run("UPDATE models SET route = 'dedicated', name = 'Pro/acme/parrot'").await;
    for outcome in ["1, false", "1, false", "3, false", "4, true", "2, false", "6, false"] {
        let (number, hit) = outcome.split_once(", ").unwrap();
        sqlx::query(
            "INSERT INTO usage_events (account_id, event_id, key_id, occurred_at, posting,
                 price_version, input, output, cache_read, cache_write, reasoning, audio_input,
                 audio_output, images, model_id, period, outcome, cache_hit, charge, authorized)
             VALUES ($1, $2, $1, date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC',
                 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, $3, $4, $5, 0, 0)",
        )
        .bind(account)
        .bind(uuid::Uuid::now_v7())
        .bind(this_month())
        .bind(number.parse::<i16>().unwrap())
        .bind(hit == "true")
        .execute(&books.pool)
        .await
        .unwrap();
    }
    books.record(account, &["2.5", "1.25"]).await;
    let before = sla::report(&books.reports, account, this_month()).await.unwrap();
    books.roll_up().await;
    let report = sla::report(&books.reports, account, this_month()).await.unwrap();
    assert_eq!(before, report, "whether the daily sums have them or not");

    assert_eq!((report.requests, report.failures), (5, 1));
    assert_eq!(report.evidence.len(), 1);
    assert_eq!(report.charges, amount("3.75"));
    assert!(report.availability_percent > Decimal::new(999, 1), "{report:?}");
    assert_eq!(report.credit, amount("0"));

    let last_month = this_month().pred_opt().unwrap().with_day(1).unwrap();
    let none = sla::report(&books.reports, account, last_month).await.unwrap();
    assert_eq!(none.availability_percent, Decimal::ONE_HUNDRED);
    assert!(none.evidence.is_empty() && none.charges.is_zero());
}

#[tokio::test]
async fn revenue_and_deferred_revenue_agree_with_the_ledger() {
    let books = Books::open().await;
    let acme = books.funded("acme", "10").await;
    books.grant(acme, "1").await;
    let umbrella = books.account("umbrella", Terms::Invoiced(1_000)).await;
    books.record(acme, &["2.5", "0.000001"]).await;
    books.record(umbrella, &["7"]).await;

    let revenue = reports::revenue(&books.reports, this_month()).await.unwrap();
    assert!(revenue.agrees(), "{revenue:?}");
    assert_eq!(revenue.models.len(), 1);
    assert_eq!(revenue.models[0].charged, "9.500001".parse::<Decimal>().unwrap());
    assert_eq!(revenue.models[0].requests, 3);

    let rolls = reports::deferred_revenue(&books.reports, this_month()).await.unwrap();
    let paid = &rolls[&(Deferred::Paid, "USD".to_owned())];
    let given = &rolls[&(Deferred::Promotional, "USD".to_owned())];
    assert_eq!(paid.opening, Decimal::ZERO);
    assert_eq!(paid.columns[&Column::Added], Decimal::TEN);
    let funds = books.funds(acme).await;
    assert_eq!(paid.closing(), funds.balances.credits.decimal());
    assert_eq!(given.closing(), funds.balances.promotional.decimal());
    let taxes = reports::taxes(&books.reports, this_month()).await.unwrap();
    assert_eq!(taxes, reports::TaxSummary::default());

    let next = this_month().checked_add_months(chrono::Months::new(1)).unwrap();
    let later = reports::deferred_revenue(&books.reports, next).await.unwrap();
    assert_eq!(later[&(Deferred::Paid, "USD".to_owned())].opening, paid.closing());
}

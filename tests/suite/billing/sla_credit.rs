//! What missed availability takes off a month's document.

use chrono::{NaiveDate, TimeDelta, Utc};
use futures_util::future::join_all;
use tollgate::{
    cli::client::Client,
    proto::{
        Contract, DocumentKind, GetRevenueRequest, GetSlaReportRequest, ListTransfersRequest,
        Outcome, PreviewInvoiceRequest, RecordUsageRequest, SlaReport, UnauthorizedUsage,
        VerifyLedgerRequest, record_usage_request::Source,
    },
};

use super::{
    Customer, close, customer, dec, decimal, documents, german, id_at, month, name, net_30, noon,
    set_tax_rate, show, work, world,
};
use crate::harness::world::{PRO_MODEL, top_up, usage};

/// Pro requests that ended like this, one in each interval of five minutes from noon of the 5th on.
pub(super) async fn pro_requests(
    client: &Client,
    customer: &Customer,
    month: NaiveDate,
    outcome: Outcome,
    intervals: std::ops::Range<i32>,
    tokens: u64,
) {
    for begin in intervals.clone().step_by(100) {
        let part = begin..intervals.end.min(begin + 100);
        let calls = part.map(|interval| async move {
            let done = noon(month, 5) + TimeDelta::minutes(5) * interval;
            let source = UnauthorizedUsage {
                event_id: id_at(done).to_string(),
                account: customer.account.clone(),
                key_id: customer.key_id.clone(),
                model: PRO_MODEL.to_owned(),
                occurred_at: Some(tollgate::api::convert::timestamp(done)),
            };
            let request = RecordUsageRequest {
                outcome: outcome.into(),
                ..usage(Source::Unauthorized(source), tokens, 0)
            };
            client.usage().record_usage(request).await.unwrap();
        });
        join_all(calls).await;
    }
}

pub(super) async fn sla_report(client: &Client, account: &str, month: NaiveDate) -> SlaReport {
    let request = GetSlaReportRequest {
        account: account.to_owned(),
        period: name(month),
        ..GetSlaReportRequest::default()
    };
    client.billing().get_sla_report(request).await.unwrap().into_inner().report.unwrap()
}

/// What was posted on 4900, like `4900→1100 2.5`.
async fn credited(client: &Client, account: &str) -> Vec<String> {
    let request = ListTransfersRequest {
        account: account.to_owned(),
        ledger_account: "4900".to_owned(),
        ..ListTransfersRequest::default()
    };
    let listed = client.ledger().list_transfers(request).await.unwrap().into_inner().transfers;
    let line = |one: &tollgate::proto::Transfer| {
        let amount = decimal(one.amount.as_ref()).normalize();
        format!("{}→{} {amount}", one.debit, one.credit)
    };
    listed.iter().rev().map(line).collect()
}

#[tokio::test]
async fn an_outage_comes_off_the_invoice_in_percent_of_the_discounted_pro_charges() {
    let world = world().await;
    let client = &world.client;
    let contract = Contract { discount_percent: "20".to_owned(), ..net_30() };
    let acme = customer(client, "acme", contract).await;
    work(client, &acme, noon(month(1), 3), 2_000_000, 0).await.unwrap();
    pro_requests(client, &acme, month(1), Outcome::Success, 500..501, 1_000_000).await;
    pro_requests(client, &acme, month(1), Outcome::Timeout, 0..100, 0).await;

    let request = PreviewInvoiceRequest { account: "acme".to_owned(), period: name(month(1)) };
    let preview = client.billing().preview_invoice(request).await.unwrap().into_inner();
    close(client, month(1)).await;
    let invoice = documents(client, "acme").await.pop().unwrap();
    let shown = show(client, &invoice).await;
    assert_eq!(preview.invoice.unwrap().allowances, shown.allowances);
    let [allowance] = shown.allowances.as_slice() else { panic!("{:?}", shown.allowances) };
    // A quarter of 8, the price of a million tokens less a fifth; the plain model's 16 do not count.
    assert_eq!(allowance.kind, "service_level_credit");
    assert_eq!(decimal(allowance.amount.as_ref()), dec("2"));
    for part in ["below 99.0%", "25% of 8 USD", &name(month(1))] {
        assert!(allowance.reason.contains(part), "{}", allowance.reason);
    }
    let evidence = "100 of 101 requests failed in 100 intervals";
    assert!(shown.notes.iter().any(|note| note.contains(evidence)), "{:?}", shown.notes);
    assert_eq!(decimal(invoice.due.as_ref()), dec("22"));
    assert_eq!(credited(client, "acme").await, ["4900→1100 2"]);
    let balance = world.balance("acme").await;
    assert_eq!(decimal(balance.unbilled.as_ref()), dec("0"));
    assert_eq!(decimal(balance.receivable.as_ref()), dec("22"));

    let report = sla_report(client, "acme", month(1)).await;
    assert_eq!((report.missed_percent.as_str(), report.credit_percent.as_str()), ("99", "25"));
    assert_eq!(decimal(report.credit.as_ref()), dec("2"));
    assert_eq!((report.requests, report.failures, report.bad_intervals), (101, 100, 100));
    let request = GetRevenueRequest { period: name(month(1)) };
    let totals = client.billing().get_revenue(request).await.unwrap().into_inner().totals;
    assert_eq!(decimal(totals[0].sla_credits.as_ref()), dec("2"));
    assert_eq!(decimal(totals[0].net.as_ref()), dec("22"));
    world.verify().await;

    let tamper = "SET session_replication_role = replica;
                  UPDATE transfers SET amount = 1 WHERE kind = 'sla_credit'";
    sqlx::raw_sql(tamper).execute(&world.server.pool()).await.unwrap();
    let verified = client.ledger().verify_ledger(VerifyLedgerRequest::default()).await.unwrap();
    let checks = verified.into_inner().checks;
    let check = checks.iter().find(|one| one.name == "service_level_credits_recompute").unwrap();
    assert_eq!((check.examined, check.violations), (1, 1), "{check:?}");
}

#[tokio::test]
async fn a_credit_beyond_what_is_unbilled_becomes_credits() {
    let world = world().await;
    let client = &world.client;
    let acme = customer(client, "acme", net_30()).await;
    top_up(client, "acme", "3").await;
    pro_requests(client, &acme, month(1), Outcome::Success, 500..501, 1_000_600).await;
    pro_requests(client, &acme, month(1), Outcome::Timeout, 0..450, 0).await;
    close(client, month(1)).await;

    let invoice = documents(client, "acme").await.pop().unwrap();
    assert_eq!((invoice.kind(), decimal(invoice.due.as_ref())), (DocumentKind::Invoice, dec("0")));
    // 10.006 became a line of 10.01: credited whole, as it was charged.
    assert_eq!(credited(client, "acme").await, ["4900→1100 7.006", "4900→2000 3.004"]);
    assert_eq!(decimal(show(client, &invoice).await.allowances[0].amount.as_ref()), dec("10.01"));
    let balance = world.balance("acme").await;
    assert_eq!(decimal(balance.unbilled.as_ref()), dec("0"));
    assert_eq!(decimal(balance.credits.as_ref()), dec("3.004"));
    world.verify().await;
}

#[tokio::test]
async fn a_credit_for_what_credits_paid_becomes_credits_again_without_tax() {
    let world = world().await;
    let client = &world.client;
    set_tax_rate(client, "DE", "19", true).await;
    let acme = customer(client, "acme", german(Contract::default())).await;
    top_up(client, "acme", "119").await;
    pro_requests(client, &acme, month(1), Outcome::Success, 500..501, 1_000_000).await;
    pro_requests(client, &acme, month(1), Outcome::ProviderError, 0..450, 0).await;
    assert_eq!(decimal(world.balance("acme").await.credits.as_ref()), dec("90"));
    close(client, month(1)).await;

    let statement = documents(client, "acme").await.pop().unwrap();
    assert_eq!(statement.kind(), DocumentKind::UsageStatement);
    assert_eq!(decimal(statement.gross.as_ref()), dec("0"));
    let shown = show(client, &statement).await;
    let off: Vec<_> = shown
        .allowances
        .iter()
        .map(|one| (one.kind.as_str(), decimal(one.amount.as_ref())))
        .collect();
    assert_eq!(off, [("service_level_credit", dec("10"))]);
    assert!(shown.notes.iter().any(|note| note.contains("10 USD")), "{:?}", shown.notes);
    assert_eq!(credited(client, "acme").await, ["4900→2000 10"]);
    assert_eq!(decimal(world.balance("acme").await.credits.as_ref()), dec("100"));
    world.verify().await;

    // All 100 were taxed when they were paid for: using them all is not taxed again.
    work(client, &acme, Utc::now(), 10_000_000, 0).await.unwrap();
    let this = name(Utc::now().date_naive());
    let request = PreviewInvoiceRequest { account: "acme".to_owned(), period: this };
    let preview = client.billing().preview_invoice(request).await.unwrap().into_inner();
    let next = preview.invoice.unwrap().invoice.unwrap();
    assert_eq!(decimal(next.gross.as_ref()), dec("0"));
}

#[tokio::test]
async fn what_is_learned_after_the_closing_is_in_the_report_and_not_on_the_invoice() {
    let world = world().await;
    let client = &world.client;
    let acme = customer(client, "acme", net_30()).await;
    pro_requests(client, &acme, month(2), Outcome::Success, 500..501, 1_000_000).await;
    // A handful of bad intervals is within the service level.
    pro_requests(client, &acme, month(2), Outcome::Timeout, 0..5, 0).await;
    close(client, month(2)).await;
    let invoice = documents(client, "acme").await.pop().unwrap();
    assert!(show(client, &invoice).await.allowances.is_empty());
    assert!(credited(client, "acme").await.is_empty());

    // Told late, with work that was never reported until now: that work is credited.
    pro_requests(client, &acme, month(2), Outcome::Timeout, 10..40, 0).await;
    pro_requests(client, &acme, month(2), Outcome::Success, 501..502, 2_000_000).await;
    assert_eq!(sla_report(client, "acme", month(2)).await.credit_percent, "10");
    close(client, month(1)).await;
    let late = documents(client, "acme").await.pop().unwrap();
    let shown = show(client, &late).await;
    assert_eq!(decimal(shown.allowances[0].amount.as_ref()), dec("2"));
    assert!(shown.allowances[0].reason.contains(&name(month(2))), "{:?}", shown.allowances);
    assert_eq!(credited(client, "acme").await, ["4900→1100 2"]);
    world.verify().await;
}

//! Closing a month: once, in order, and with usage that comes meanwhile and afterwards.

use futures_util::future::join_all;
use rust_decimal::Decimal;
use tollgate::proto::{
    ClosePeriodRequest, GetInvoiceRequest, ListInvoicesRequest, ReverseUsageRequest,
};
use tonic::Code;

use super::{
    close, customer, dec, decimal, documents, id_at, month, name, net_30, noon, set_seller, show,
    try_close, work, work_as, world,
};
use crate::harness::{server::refusal, world::World};

#[tokio::test]
async fn a_month_is_closed_once_and_only_when_it_is_over() {
    let world = World::start().await;
    let client = &world.client;
    let acme = customer(client, "acme", net_30()).await;
    customer(client, "idle", net_30()).await;
    work(client, &acme, noon(month(1), 3), 1_000_000, 0).await.unwrap();
    let refused = try_close(client, month(1)).await.unwrap_err();
    assert_eq!(
        (refused.code(), refusal(&refused).1.as_str()),
        (Code::FailedPrecondition, "SELLER_NOT_SET")
    );
    set_seller(client).await;
    let refused = try_close(client, month(0)).await.unwrap_err();
    let expected = (Code::FailedPrecondition, "PERIOD_NOT_OVER".to_owned(), "period".to_owned());
    assert_eq!(refusal(&refused), expected);
    for text in ["", "2026", "2026-13", "2026-1", "2026-10-01"] {
        let request = ClosePeriodRequest { period: text.to_owned(), max_accounts: 0 };
        let refused = client.billing().close_period(request).await.unwrap_err();
        assert_eq!(refusal(&refused).1, "INVALID_PERIOD", "{text}");
    }

    let first = close(client, month(1)).await;
    assert_eq!((first.accounts, first.documents), (2, 1), "who used nothing gets nothing");
    assert_eq!(close(client, month(1)).await, first);
    assert_eq!(documents(client, "acme").await.len(), 1);
    assert!(documents(client, "idle").await.is_empty());
    world.verify().await;
}

#[tokio::test]
async fn an_account_that_cannot_be_closed_holds_up_nobody() {
    let world = world().await;
    let client = &world.client;
    for handle in ["first", "broken", "last"] {
        let one = customer(client, handle, net_30()).await;
        work(client, &one, noon(month(1), 3), 1_000_000, 0).await.unwrap();
    }
    for number in 0..120 {
        customer(client, &format!("idle-{number}"), net_30()).await;
    }
    let pool = world.server.pool();
    let charge = |sign: &str| {
        format!(
            "SET LOCAL session_replication_role = 'replica';
             UPDATE usage_events SET charge = charge {sign} 1
             WHERE account_id = (SELECT account_id FROM accounts WHERE handle = 'broken')"
        )
    };
    let run = |text: String| sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&pool);
    run(charge("+")).await.unwrap();

    let request = ClosePeriodRequest { period: name(month(1)), max_accounts: 0 };
    let progress = client.billing().close_period(request.clone()).await.unwrap().into_inner();
    assert_eq!((progress.accounts, progress.documents, progress.remaining), (122, 2, 1));
    assert!(progress.stalled && !progress.finished, "{progress:?}");
    let [broken] = progress.passed_over.as_slice() else { panic!("{progress:?}") };
    assert!(broken.problem.contains("the books do not agree"), "{broken:?}");

    // A closing in small steps comes to the same.
    let mut steps = Vec::new();
    loop {
        let request = ClosePeriodRequest { max_accounts: 1, ..request.clone() };
        steps.push(client.billing().close_period(request).await.unwrap().into_inner());
        if steps.last().unwrap().stalled {
            break;
        }
        assert!(steps.len() < 10, "{steps:?}");
    }
    assert_eq!(steps.iter().map(|step| step.passed_over.len()).sum::<usize>(), 1, "{steps:?}");
    run(charge("-")).await.unwrap();
    let done = close(client, month(1)).await;
    assert_eq!((done.accounts, done.documents), (123, 3));
    assert_eq!(documents(client, "broken").await[0].number[9..], *"000003");
    world.verify().await;
}

#[tokio::test]
async fn usage_that_comes_late_is_in_the_next_invoice_with_its_own_days() {
    let world = world().await;
    let client = &world.client;
    let acme = customer(client, "acme", net_30()).await;
    work(client, &acme, noon(month(2), 3), 1_000_000, 0).await.unwrap();
    close(client, month(2)).await;
    let late = id_at(noon(month(2), 5));
    work_as(client, &acme, late, noon(month(2), 5), 200_000, 0).await.unwrap();
    work(client, &acme, noon(month(1), 7), 300_000, 0).await.unwrap();
    close(client, month(1)).await;

    let listed = documents(client, "acme").await;
    let numbers: Vec<&str> = listed.iter().map(|one| &one.number[9..]).collect();
    assert_eq!(numbers, ["000001", "000002"]);
    let shown = show(client, &listed[1]).await;
    let lines: Vec<_> =
        shown.lines.iter().map(|line| (line.first_day.clone(), line.quantity.as_str())).collect();
    let day = |back, day| noon(month(back), day).date_naive().to_string();
    assert_eq!(lines, [(day(1, 7), "300000"), (day(2, 5), "200000")]);

    // What an invoice asked for is taken back by a credit note, not by a reversal.
    let reversal = ReverseUsageRequest {
        account: "acme".to_owned(),
        event_id: late.to_string(),
        reason: "late".to_owned(),
        ..ReverseUsageRequest::default()
    };
    let refused = client.usage().reverse_usage(reversal).await.unwrap_err();
    assert_eq!(refusal(&refused).1, "EVENT_INVOICED");
    world.verify().await;
}

#[tokio::test]
async fn months_that_nobody_closed_get_a_document_each() {
    let world = world().await;
    let client = &world.client;
    let acme = customer(client, "acme", net_30()).await;
    work(client, &acme, noon(month(2), 3), 1_000_000, 0).await.unwrap();
    work(client, &acme, noon(month(1), 3), 2_000_000, 0).await.unwrap();
    let closed = close(client, month(1)).await;
    assert_eq!((closed.accounts, closed.documents), (1, 2));
    let periods: Vec<String> =
        documents(client, "acme").await.into_iter().map(|one| one.period).collect();
    assert_eq!(periods, [name(month(2)), name(month(1))]);
    assert_eq!(decimal(world.balance("acme").await.unbilled.as_ref()), dec("0"));
    world.verify().await;
}

#[tokio::test]
async fn usage_that_races_with_a_closing_is_in_exactly_one_invoice() {
    const CALLS: u64 = 120;
    let world = world().await;
    let client = &world.client;
    let acme = customer(client, "acme", net_30()).await;
    work(client, &acme, noon(month(2), 1), 1_000, 0).await.unwrap();
    let racing = join_all((1..=CALLS).map(|call| {
        let done = noon(month(2), u32::try_from(1 + call % 28).unwrap());
        let acme = &acme;
        async move {
            tokio::time::sleep(std::time::Duration::from_millis(call % 40)).await;
            work(client, acme, done, 1_000, 0).await.unwrap();
        }
    }));
    let closing = async {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        close(client, month(2)).await
    };
    tokio::join!(racing, closing);
    close(client, month(1)).await;

    let mut tokens = Decimal::ZERO;
    for document in documents(client, "acme").await {
        let shown = show(client, &document).await;
        tokens += shown.lines.iter().map(|line| dec(&line.quantity)).sum::<Decimal>();
    }
    assert_eq!(tokens, Decimal::from(1_000 * (CALLS + 1)));
    assert_eq!(decimal(world.balance("acme").await.unbilled.as_ref()), dec("0"));
    world.verify().await;
}

#[tokio::test]
async fn a_tenant_sees_its_own_documents_and_nobody_elses() {
    let world = world().await;
    let client = &world.client;
    let acme = customer(client, "acme", net_30()).await;
    let other = customer(client, "umbrella", net_30()).await;
    for customer in [&acme, &other] {
        work(client, customer, noon(month(1), 3), 1_000_000, 0).await.unwrap();
    }
    close(client, month(1)).await;
    let foreign = documents(client, "umbrella").await.pop().unwrap();
    let tenant = world.server.tenant(acme.account.parse().unwrap()).await;

    let own = tenant.billing().list_invoices(ListInvoicesRequest::default()).await.unwrap();
    let own = own.into_inner().invoices;
    assert_eq!(own.len(), 1);
    assert_eq!(own[0].account_id, acme.account);
    show(&tenant, &own[0]).await;
    for invoice in [foreign.number.as_str(), &foreign.document_id, "INV-1999-000001"] {
        let request = GetInvoiceRequest { invoice: invoice.to_owned() };
        let refused = tenant.billing().get_invoice(request).await.unwrap_err();
        let expected = (Code::NotFound, "DOCUMENT_NOT_FOUND".to_owned(), "invoice".to_owned());
        assert_eq!(refusal(&refused), expected);
    }
    let request = ListInvoicesRequest { account: "umbrella".to_owned(), ..Default::default() };
    assert_eq!(tenant.billing().list_invoices(request).await.unwrap_err().code(), Code::NotFound);
    let request = ClosePeriodRequest { period: name(month(1)), max_accounts: 0 };
    let refused = tenant.billing().close_period(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_frozen_document_and_a_closed_period_cannot_be_changed() {
    let world = world().await;
    let client = &world.client;
    let acme = customer(client, "acme", net_30()).await;
    work(client, &acme, noon(month(1), 3), 1_000_000, 0).await.unwrap();
    close(client, month(1)).await;
    let pool = world.server.pool();
    for statement in [
        "UPDATE billing_documents SET content = ''",
        "DELETE FROM billing_documents",
        "TRUNCATE billing_documents CASCADE",
        "UPDATE closed_periods SET document_id = NULL",
        "DELETE FROM closed_periods",
    ] {
        let refused = sqlx::raw_sql(statement).execute(&pool).await.unwrap_err();
        let code = tollgate::database::failure::sqlstate(&refused).unwrap();
        assert_eq!(code, "23001", "{statement}");
    }
}

#[tokio::test]
async fn verification_names_what_was_tampered_with() {
    let world = world().await;
    let client = &world.client;
    let acme = customer(client, "acme", net_30()).await;
    work(client, &acme, noon(month(1), 3), 1_000_000, 0).await.unwrap();
    close(client, month(1)).await;
    let pool = world.server.pool();
    for (tamper, check) in [
        (
            "UPDATE billing_documents
             SET content = replace(content, '\"quantity\":\"1000000\"', '\"quantity\":\"900000\"')",
            "documents_recompute",
        ),
        ("UPDATE document_counters SET last = last + 1", "document_numbers_without_gaps"),
        (
            "UPDATE transfers SET amount = amount - 0.01 WHERE kind = 'invoice'",
            "closed_periods_clear",
        ),
        (
            "UPDATE transfers SET amount = amount - 0.01 WHERE kind = 'invoice'",
            "documents_equal_transfers",
        ),
        (
            "UPDATE billing_documents SET net = net + 1, gross = gross + 1, due = due + 1",
            "documents_add_up",
        ),
        (
            "INSERT INTO transfers (account_id, posting, line, debit, credit, amount, currency, kind,
                                    period, idempotency_key)
             SELECT account_id, posting, 99, '5200', '2200', 1, 'EUR', 'provider_cost', period, ''
             FROM transfers WHERE kind = 'invoice'",
            "costs_recompute",
        ),
    ] {
        let whole = format!("SET session_replication_role = replica; {tamper}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(whole)).execute(&pool).await.unwrap();
        let request = tollgate::proto::VerifyLedgerRequest::default();
        let verified = client.ledger().verify_ledger(request).await.unwrap().into_inner();
        let found = verified.checks.iter().find(|one| one.name == check).unwrap();
        assert!(found.violations > 0, "{check} did not find: {tamper}");
    }
}

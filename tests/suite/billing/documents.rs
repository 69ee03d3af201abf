//! What the documents of a month and of a top-up say.

use tollgate::proto::{
    Contract, DocumentKind, GrantCreditRequest, Invoice, PreviewInvoiceRequest, ReverseUsageRequest,
};

use super::{
    close, customer, dec, decimal, documents, german, id_at, month, name, net_30, noon,
    set_tax_rate, show, work, work_as, world,
};
use crate::harness::world::{top_up, usd};

#[tokio::test]
async fn a_month_of_a_net_30_customer_becomes_an_invoice_with_tax() {
    let world = world().await;
    let client = &world.client;
    set_tax_rate(client, "DE", "19", true).await;
    let acme = customer(client, "acme", german(net_30())).await;
    work(client, &acme, noon(month(1), 3), 1_234_567, 0).await.unwrap();
    work(client, &acme, noon(month(1), 20), 1_000_000, 100).await.unwrap();
    let before = world.balance("acme").await;

    let request = PreviewInvoiceRequest { account: "acme".to_owned(), period: String::new() };
    let preview = client.billing().preview_invoice(request).await.unwrap().into_inner();
    let preview = preview.invoice.unwrap();
    assert_eq!(preview.invoice.as_ref().unwrap().number, "");
    assert!(documents(client, "acme").await.is_empty(), "a preview leaves nothing behind");

    let closed = close(client, month(1)).await;
    assert_eq!((closed.accounts, closed.documents), (1, 1));
    let listed = documents(client, "acme").await;
    let [invoice] = listed.as_slice() else { panic!("{listed:?}") };
    let year = &invoice.issue_date[..4];
    assert_eq!(invoice.number, format!("INV-{year}-000001"));
    assert_eq!((invoice.kind(), &invoice.period), (DocumentKind::Invoice, &name(month(1))));
    let shown = show(client, invoice).await;
    let lines: Vec<_> = shown
        .lines
        .iter()
        .map(|line| (line.line_class.as_str(), line.quantity.as_str(), decimal(line.net.as_ref())))
        .collect();
    assert_eq!(lines, [("input", "2234567", dec("22.35")), ("output", "100", dec("0.00"))]);
    assert_eq!(shown.lines[0].first_day, month(1).to_string().replace("-01", "-03"));
    assert_eq!(decimal(invoice.net.as_ref()), dec("22.35"));
    assert_eq!(decimal(invoice.tax.as_ref()), dec("4.25"));
    assert_eq!(decimal(invoice.due.as_ref()), dec("26.60"));
    assert_eq!(
        (shown.taxes[0].category.as_str(), shown.taxes[0].rate_percent.as_str()),
        ("S", "19")
    );
    assert_eq!(shown.lines, preview.lines);

    let after = world.balance("acme").await;
    assert_eq!(decimal(after.unbilled.as_ref()), dec("0"));
    assert_eq!(decimal(after.receivable.as_ref()), dec("26.60"));
    // But for the rounded cent's part, issuing an invoice does not change what can be spent.
    let moved = decimal(after.available.as_ref()) - decimal(before.available.as_ref());
    assert!(moved.abs() < dec("0.02"), "{moved}");
    world.verify().await;
}

#[tokio::test]
async fn a_discount_is_shown_by_list_price_and_percent() {
    let world = world().await;
    let client = &world.client;
    let contract = Contract { discount_percent: "12.5".to_owned(), ..net_30() };
    let acme = customer(client, "acme", contract).await;
    work(client, &acme, noon(month(1), 3), 1_000_000, 0).await.unwrap();
    close(client, month(1)).await;
    let shown = show(client, &documents(client, "acme").await[0]).await;
    let line = &shown.lines[0];
    let said = (line.price.as_str(), line.list_price.as_str(), line.discount_percent.as_str());
    assert_eq!(said, ("8.75", "10", "12.5"));
    assert_eq!(decimal(line.net.as_ref()), dec("8.75"));
    world.verify().await;
}

#[tokio::test]
async fn what_credits_and_grants_paid_comes_off_a_hybrid_customers_invoice() {
    let world = world().await;
    let client = &world.client;
    let acme = customer(client, "acme", net_30()).await;
    top_up(client, "acme", "3").await;
    let grant = GrantCreditRequest {
        account: "acme".to_owned(),
        amount: usd("1.005"),
        ..GrantCreditRequest::default()
    };
    client.credits().grant_credit(grant).await.unwrap();
    work(client, &acme, noon(month(1), 3), 1_000_000, 0).await.unwrap();
    close(client, month(1)).await;

    let listed = documents(client, "acme").await;
    let kinds: Vec<_> = listed.iter().map(Invoice::kind).collect();
    assert_eq!(kinds, [DocumentKind::Receipt, DocumentKind::Invoice]);
    let shown = show(client, &listed[1]).await;
    let off: Vec<_> = shown
        .allowances
        .iter()
        .map(|one| (one.kind.as_str(), decimal(one.amount.as_ref())))
        .collect();
    assert_eq!(off, [("prepaid_credits", dec("3")), ("promotional_credits", dec("1.01"))]);
    assert_eq!(decimal(listed[1].due.as_ref()), dec("5.99"));
    world.verify().await;
}

#[tokio::test]
async fn tax_that_falls_due_on_payment_has_a_prepayment_invoice_and_is_not_asked_for_again() {
    let world = world().await;
    let client = &world.client;
    set_tax_rate(client, "DE", "19", true).await;
    let acme = customer(client, "acme", german(Contract::default())).await;
    top_up(client, "acme", "119").await;
    assert_eq!(decimal(world.balance("acme").await.credits.as_ref()), dec("100"));
    work(client, &acme, noon(month(1), 3), 4_000_000, 0).await.unwrap();
    close(client, month(1)).await;

    let listed = documents(client, "acme").await;
    let [prepayment, statement] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!(prepayment.kind(), DocumentKind::PrepaymentInvoice);
    assert!(prepayment.number.starts_with("PRE-"));
    assert_eq!(decimal(prepayment.tax.as_ref()), dec("19"));
    assert_eq!(decimal(prepayment.due.as_ref()), dec("0"));
    assert_eq!((statement.kind(), statement.number.as_str()), (DocumentKind::UsageStatement, ""));
    let shown = show(client, statement).await;
    assert!(shown.allowances[0].reason.contains(&prepayment.number));
    assert_eq!(decimal(statement.gross.as_ref()), dec("0"));
    world.verify().await;
}

#[tokio::test]
async fn usage_that_untaxed_credits_paid_is_taxed_by_the_months_invoice() {
    let world = world().await;
    let client = &world.client;
    set_tax_rate(client, "DE", "19", false).await;
    let acme = customer(client, "acme", german(Contract::default())).await;
    top_up(client, "acme", "100").await;
    work(client, &acme, noon(month(1), 3), 4_000_000, 0).await.unwrap();
    close(client, month(1)).await;
    let invoice = documents(client, "acme").await.pop().unwrap();
    assert_eq!(invoice.kind(), DocumentKind::Invoice);
    assert_eq!(decimal(invoice.net.as_ref()), dec("40"));
    assert_eq!(decimal(invoice.paid.as_ref()), dec("40"));
    assert_eq!(decimal(invoice.due.as_ref()), dec("7.6"));
    assert_eq!(decimal(world.balance("acme").await.receivable.as_ref()), dec("7.6"));
    world.verify().await;
}

#[tokio::test]
async fn what_was_reversed_before_the_closing_is_not_billed() {
    let world = world().await;
    let client = &world.client;
    let acme = customer(client, "acme", net_30()).await;
    let event = id_at(noon(month(1), 3));
    work_as(client, &acme, event, noon(month(1), 3), 1_000_000, 0).await.unwrap();
    work(client, &acme, noon(month(1), 4), 500_000, 0).await.unwrap();
    let reversal = ReverseUsageRequest {
        account: "acme".to_owned(),
        event_id: event.to_string(),
        reason: "served twice".to_owned(),
        ..ReverseUsageRequest::default()
    };
    client.usage().reverse_usage(reversal).await.unwrap();
    close(client, month(1)).await;
    let shown = show(client, &documents(client, "acme").await[0]).await;
    assert_eq!(shown.lines.len(), 1);
    assert_eq!(shown.lines[0].quantity, "500000");
    world.verify().await;
}

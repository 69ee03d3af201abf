//! A customer who leaves: the final invoice, what is too little to be paid back, and the end.

use tollgate::proto::{
    CloseAccountRequest, InvoiceDetails, IssueFinalInvoiceRequest, KeyLimits, PaymentMethod,
    RecordPaymentRequest, SuspendAccountRequest, Tier, authorize_response::Decision,
};
use tonic::{Code, Status};

use super::{
    close, customer, dec, decimal, documents, id_at, month, name, net_30, noon, work, work_as,
    world,
};
use crate::harness::{
    server::refusal,
    world::{World, usd},
};

async fn suspend(world: &World, account: &str) {
    let request = SuspendAccountRequest {
        account: account.to_owned(),
        reason: "leaves".to_owned(),
        ..SuspendAccountRequest::default()
    };
    world.client.accounts().suspend_account(request).await.unwrap();
}

async fn final_invoices(world: &World, account: &str) -> Result<Vec<InvoiceDetails>, Status> {
    let request =
        IssueFinalInvoiceRequest { account: account.to_owned(), idempotency_key: String::new() };
    let answer = world.client.billing().issue_final_invoice(request).await?;
    Ok(answer.into_inner().invoices)
}

async fn leave(world: &World, account: &str) -> Result<(), Status> {
    let request = CloseAccountRequest {
        account: account.to_owned(),
        reason: "left".to_owned(),
        ..CloseAccountRequest::default()
    };
    world.client.accounts().close_account(request).await.map(drop)
}

#[tokio::test]
async fn who_leaves_is_invoiced_before_the_month_is_over() {
    let world = world().await;
    let client = &world.client;
    let acme = customer(client, "acme", net_30()).await;
    work(client, &acme, noon(month(1), 3), 1_000_000, 0).await.unwrap();
    let now = chrono::Utc::now();
    work(client, &acme, now, 2_000_000, 0).await.unwrap();

    let refused = final_invoices(&world, "acme").await.unwrap_err();
    let expected =
        (Code::FailedPrecondition, "ACCOUNT_NOT_SUSPENDED".to_owned(), "account".to_owned());
    assert_eq!(refusal(&refused), expected);
    suspend(&world, "acme").await;
    let made = final_invoices(&world, "acme").await.unwrap();
    let nets: Vec<_> = made
        .iter()
        .filter_map(|details| details.invoice.as_ref())
        .map(|invoice| (invoice.period.clone(), decimal(invoice.net.as_ref())))
        .collect();
    let this = now.format("%Y-%m").to_string();
    assert_eq!(nets, [(name(month(1)), dec("10")), (this.clone(), dec("20"))]);
    assert!(decimal(world.balance("acme").await.unbilled.as_ref()).is_zero());

    // Nothing is billed twice: not by another one, and not by the month's run.
    let refused = final_invoices(&world, "acme").await.unwrap_err();
    assert_eq!(refusal(&refused).1, "NOTHING_TO_BILL");
    close(client, month(1)).await;
    assert_eq!(documents(client, "acme").await.len(), 2);

    // What is reported late is billed late.
    let late = now - chrono::Duration::minutes(1);
    work_as(client, &acme, id_at(late), late, 500_000, 0).await.unwrap();
    let more = final_invoices(&world, "acme").await.unwrap();
    assert_eq!(more.len(), 1);
    assert_eq!(more[0].lines[0].first_day, late.date_naive().to_string());
    assert_eq!(decimal(more[0].invoice.as_ref().unwrap().net.as_ref()), dec("5"));

    let refused = leave(&world, "acme").await.unwrap_err();
    assert!(refused.message().contains("receivable is 35 "), "{}", refused.message());
    let payment = RecordPaymentRequest {
        account: "acme".to_owned(),
        amount: usd("35"),
        method: PaymentMethod::Wire.into(),
        external_reference: "final".to_owned(),
        oldest_first: true,
        ..RecordPaymentRequest::default()
    };
    client.billing().record_payment(payment).await.unwrap();
    let periods =
        "SELECT DISTINCT to_char(period, 'YYYY-MM') FROM transfers WHERE kind = 'payment'";
    let periods: Vec<String> =
        sqlx::query_scalar(periods).fetch_all(&world.server.pool()).await.unwrap();
    assert_eq!(periods, [this], "what is paid now belongs to this month");
    leave(&world, "acme").await.unwrap();
    world.verify().await;
}

#[tokio::test]
async fn what_is_still_authorized_is_settled_before_the_final_invoice() {
    let world = world().await;
    let acme = world.enterprise("acme", "1000").await;
    let key = world.key(&acme).await;
    let Decision::Grant(grant) = world.ask(&key, 1_000).await else { panic!("denied") };
    suspend(&world, "acme").await;
    let refused = final_invoices(&world, "acme").await.unwrap_err();
    assert_eq!(refusal(&refused).0, Code::FailedPrecondition);
    assert_eq!(refusal(&refused).1, "ACCOUNT_STILL_AUTHORIZED");
    world.record(&grant.token, 1_000, 1_000).await.unwrap();
    let made = final_invoices(&world, "acme").await.unwrap();
    assert_eq!(decimal(made[0].invoice.as_ref().unwrap().net.as_ref()), dec("0.02"));
    world.verify().await;
}

#[tokio::test]
async fn less_than_the_smallest_unit_is_given_up_and_a_whole_one_is_not() {
    let world = world().await;
    for (handle, tokens, left) in [("rest", 999_600, "0.004"), ("cent", 999_000, "0.01")] {
        let account = world.startup(handle, "10").await;
        let (key, _) = world.issue(&account, Tier::Standard, KeyLimits::default()).await;
        let one = super::Customer { account, key_id: key.key_id };
        work(&world.client, &one, chrono::Utc::now(), tokens, 0).await.unwrap();
        assert_eq!(decimal(world.balance(handle).await.credits.as_ref()), dec(left));
    }
    leave(&world, "rest").await.unwrap();
    let refused = leave(&world, "cent").await.unwrap_err();
    assert!(refused.message().contains("credits is 0.01 "), "{}", refused.message());
    let given_up = "SELECT debit || ' ' || credit || ' ' || trim_scale(amount)::text FROM transfers
                    WHERE kind = 'account_closing'";
    let given_up: Vec<String> =
        sqlx::query_scalar(given_up).fetch_all(&world.server.pool()).await.unwrap();
    assert_eq!(given_up, ["2000 5900 0.004"]);
    world.verify().await;
}

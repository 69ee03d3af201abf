//! Credits that were bought taxed go back with their tax: refunds, and disputes of top-ups.

use rust_decimal::Decimal;
use tollgate::{
    cli::client::Client,
    proto::{
        ChargebackStage, Contract, DocumentKind, ExportFormat, GetAccountRequest,
        GetTaxSummaryRequest, Invoice, PaymentMethod, RecordChargebackRequest,
        RecordChargebackResponse, RefundRequest, RefundResponse, TopUpRequest,
        UpdateAccountRequest,
    },
};
use tonic::{Code, Status};

use super::{
    Customer, close, customer, dec, decimal, documents,
    export::{export, invoice},
    german, month, name, noon, set_tax_rate, show, work, world,
};
use crate::{
    cli::Shell,
    harness::{
        server::refusal,
        world::{World, top_up, usd},
    },
    journals::assert_hledger_agrees,
};

/// A prepaid customer in Germany, where tax falls due on payment.
async fn a_german() -> (World, Customer) {
    let world = world().await;
    set_tax_rate(&world.client, "DE", "19", true).await;
    let acme = customer(&world.client, "acme", german(Contract::default())).await;
    (world, acme)
}

fn refund_of(credits: &str, reference: &str) -> RefundRequest {
    RefundRequest {
        account: "acme".to_owned(),
        amount: usd(credits),
        method: PaymentMethod::Visa.into(),
        external_reference: reference.to_owned(),
        reason: "asked for".to_owned(),
        ..RefundRequest::default()
    }
}

async fn refund(client: &Client, credits: &str) -> Result<RefundResponse, Status> {
    let reference = uuid::Uuid::now_v7().to_string();
    let done = client.credits().refund(refund_of(credits, &reference)).await?;
    Ok(done.into_inner())
}

/// The tax of a refund and how many credit notes it has.
async fn tax_back(client: &Client, credits: &str) -> (Decimal, usize) {
    let done = refund(client, credits).await.unwrap();
    let (tax, payout) = (decimal(done.tax.as_ref()), decimal(done.payout.as_ref()));
    assert_eq!(payout, dec(credits) + tax, "{done:?}");
    (tax, done.credit_notes.len())
}

/// "2000→1000.VISA 100" for each transfer from a posting on.
async fn transfers_from(world: &World, posting: i64) -> Vec<String> {
    let statement = "
        SELECT debit || '→' || credit || ' ' || trim_scale(amount) FROM transfers
        WHERE posting >= $1
        ORDER BY posting, line";
    let query = sqlx::query_scalar(statement).bind(posting);
    query.fetch_all(&world.server.pool()).await.unwrap()
}

async fn credit_notes(client: &Client) -> Vec<Invoice> {
    let mut notes = documents(client, "acme").await;
    notes.retain(|document| document.kind() == DocumentKind::CreditNote);
    notes
}

/// Every proof: the books, this month's tax by documents and by ledger, and the journal.
async fn assert_proven(world: &World) {
    world.verify().await;
    let request = GetTaxSummaryRequest { period: name(chrono::Utc::now().date_naive()) };
    let taxes = world.client.billing().get_tax_summary(request).await.unwrap().into_inner();
    assert!(taxes.agrees, "{taxes:?}");
    assert_hledger_agrees(world).await;
}

/// Closes the month: all that was used of it is paid already.
async fn assert_credits_paid_for_the_month(client: &Client) {
    close(client, month(1)).await;
    let month = documents(client, "acme").await.pop().unwrap();
    assert_eq!(
        (month.kind(), decimal(month.due.as_ref())),
        (DocumentKind::UsageStatement, dec("0"))
    );
}

#[tokio::test]
async fn a_refund_gives_back_the_tax_and_a_credit_note_says_so() {
    let (world, _) = a_german().await;
    let client = &world.client;
    top_up(client, "acme", "119").await;
    let done = refund(client, "100").await.unwrap();
    assert_eq!(decimal(done.credits.as_ref()), dec("100"));
    assert_eq!(decimal(done.tax.as_ref()), dec("19"));
    assert_eq!(decimal(done.payout.as_ref()), dec("119"));
    assert_eq!(decimal(done.balance.unwrap().credits.as_ref()), dec("0"));
    let moved = transfers_from(&world, 2).await;
    assert_eq!(moved, ["2000→1000.VISA 100", "2100.DE→1000.VISA 19"]);

    let listed = documents(client, "acme").await;
    let [prepayment, note] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!(done.credit_notes, std::slice::from_ref(&note.number));
    assert!(note.number.starts_with("CN-"), "{note:?}");
    let amounts = [&note.net, &note.tax, &note.gross, &note.due].map(|one| decimal(one.as_ref()));
    assert_eq!(amounts, [dec("100"), dec("19"), dec("119"), dec("0")]);
    let shown = show(client, note).await;
    assert_eq!(
        (shown.refers_to, shown.reason),
        (vec![prepayment.number.clone()], "asked for".into())
    );
    assert_eq!(
        (shown.taxes[0].category.as_str(), shown.taxes[0].rate_percent.as_str()),
        ("S", "19")
    );

    for (format, expected) in [
        (ExportFormat::Ubl, "<cbc:CreditNoteTypeCode>381<"),
        (ExportFormat::Cii, ">381<"),
        (ExportFormat::Pdf, "factur-x.xml"),
    ] {
        let file = export(client, invoice(&note.number), format).await.unwrap();
        let found = file.bytes.windows(expected.len()).any(|part| part == expected.as_bytes());
        assert!(found, "{format:?} without {expected}");
    }
    let ubl = export(client, invoice(&note.number), ExportFormat::Ubl).await.unwrap().text();
    assert!(ubl.contains(&prepayment.number) && ubl.contains("Paid back"), "{ubl}");
    assert_proven(&world).await;
}

#[tokio::test]
async fn the_latest_top_up_goes_back_first_and_what_was_used_keeps_its_tax() {
    let (world, acme) = a_german().await;
    let client = &world.client;
    top_up(client, "acme", "119").await;
    top_up(client, "acme", "59.50").await;
    work(client, &acme, noon(month(1), 3), 4_000_000, 0).await.unwrap();

    assert_eq!(tax_back(client, "70").await, (dec("13.30"), 2));
    let of: Vec<_> =
        credit_notes(client).await.iter().map(|one| decimal(one.net.as_ref())).collect();
    assert_eq!(of, [dec("50"), dec("20")]);
    assert_proven(&world).await;
    let refused = refund(client, "40.01").await.unwrap_err();
    assert_eq!(
        (refused.code(), refusal(&refused).1.as_str()),
        (Code::FailedPrecondition, "NOT_REFUNDABLE")
    );
    assert_eq!(tax_back(client, "40").await, (dec("7.60"), 1));

    // The month finds what paid for its usage taxed, and asks for nothing.
    close(client, month(1)).await;
    let statement = documents(client, "acme").await.pop().unwrap();
    assert_eq!(statement.kind(), DocumentKind::UsageStatement);
    assert_eq!(decimal(statement.due.as_ref()), dec("0"));
    let prepayments = documents(client, "acme").await;
    let reason = &show(client, &statement).await.allowances[0].reason;
    assert!(reason.contains(&prepayments[0].number), "{reason}");
    assert!(!reason.contains(&prepayments[1].number), "all of it went back: {reason}");
    assert_proven(&world).await;
}

#[tokio::test]
async fn refunded_credits_do_not_untax_later_usage() {
    let (world, acme) = a_german().await;
    let client = &world.client;
    top_up(client, "acme", "119").await;
    assert_eq!(tax_back(client, "100").await, (dec("19"), 1));
    set_tax_rate(client, "DE", "19", false).await;
    top_up(client, "acme", "100").await;
    work(client, &acme, noon(month(1), 3), 4_000_000, 0).await.unwrap();
    close(client, month(1)).await;
    let month = documents(client, "acme").await.pop().unwrap();
    assert_eq!((month.kind(), decimal(month.due.as_ref())), (DocumentKind::Invoice, dec("7.6")));
    assert_proven(&world).await;
}

#[tokio::test]
async fn untaxed_credits_go_back_last_and_as_they_are() {
    let (world, acme) = a_german().await;
    let client = &world.client;
    top_up(client, "acme", "119").await;
    set_tax_rate(client, "DE", "19", false).await;
    top_up(client, "acme", "50").await;
    work(client, &acme, noon(month(1), 3), 3_000_000, 0).await.unwrap();
    assert_eq!(tax_back(client, "100").await, (dec("13.30"), 1));
    assert_eq!(tax_back(client, "20").await, (dec("0"), 0));
    assert_credits_paid_for_the_month(client).await;
    assert_proven(&world).await;
}

#[tokio::test]
async fn each_top_up_gives_back_the_tax_that_it_bore_where_it_is_owed() {
    let (world, _) = a_german().await;
    let client = &world.client;
    top_up(client, "acme", "119").await;
    set_tax_rate(client, "AT", "20", true).await;
    let named = GetAccountRequest { account: "acme".to_owned() };
    let account = client.accounts().get_account(named).await.unwrap().into_inner();
    let account = account.account.unwrap();
    let mut contract = account.contract.unwrap();
    contract.tax_rate_percent = "20".to_owned();
    contract.address.as_mut().unwrap().country_code = "AT".to_owned();
    let moved = UpdateAccountRequest {
        account: "acme".to_owned(),
        display_name: account.display_name,
        contract: Some(contract),
        version: account.version,
        ..UpdateAccountRequest::default()
    };
    client.accounts().update_account(moved).await.unwrap();
    top_up(client, "acme", "60").await;

    assert_eq!(tax_back(client, "150").await, (dec("29"), 2));
    let moved = transfers_from(&world, 3).await;
    assert_eq!(moved, ["2000→1000.VISA 150", "2100.AT→1000.VISA 10", "2100.DE→1000.VISA 19"],);
    let mut rates = Vec::new();
    for note in credit_notes(client).await {
        rates.push(show(client, &note).await.taxes[0].rate_percent.clone());
    }
    assert_eq!(rates, ["20", "19"]);
    assert_proven(&world).await;
}

#[tokio::test]
async fn the_tax_of_the_parts_is_the_tax_of_the_whole() {
    let (world, _) = a_german().await;
    let client = &world.client;
    top_up(client, "acme", "100").await;
    let mut given = Decimal::ZERO;
    for part in ["33.33", "0.03", "0.03", "0.03", "33.33", "17.28"] {
        given += tax_back(client, part).await.0;
    }
    assert_eq!(given, dec("15.97"), "100 at 19% are 84.03 and 15.97");
    assert_eq!(decimal(world.balance("acme").await.credits.as_ref()), dec("0"));
    assert_proven(&world).await;
}

#[tokio::test]
async fn a_refund_sent_again_is_answered_as_it_was() {
    let (world, _) = a_german().await;
    let client = &world.client;
    top_up(client, "acme", "119").await;
    let request = RefundRequest { idempotency_key: "once".to_owned(), ..refund_of("60", "re_1") };
    let first = client.credits().refund(request.clone()).await.unwrap().into_inner();
    let again = client.credits().refund(request).await.unwrap().into_inner();
    assert_eq!(again, first);
    let by_reference = client.credits().refund(refund_of("60", "re_1")).await.unwrap().into_inner();
    assert_eq!(by_reference.refund_id, first.refund_id);
    assert_eq!((by_reference.tax, by_reference.payout), (first.tax, first.payout));
    assert_eq!(by_reference.credit_notes, first.credit_notes);
    assert_eq!(credit_notes(client).await.len(), 1);
    assert_proven(&world).await;
}

#[tokio::test]
async fn refunds_at_the_same_time_never_credit_more_than_was_sold() {
    let (world, _) = a_german().await;
    top_up(&world.client, "acme", "119").await;
    let mut refunds = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let client = world.client.clone();
        refunds.spawn(async move { refund(&client, "30").await });
    }
    let done = refunds.join_all().await;
    let taxes: Vec<_> = done.iter().flatten().map(|one| decimal(one.tax.as_ref())).collect();
    assert_eq!(taxes, [dec("5.70"); 3]);
    assert_eq!(credit_notes(&world.client).await.len(), 3);
    assert_eq!(tax_back(&world.client, "10").await, (dec("1.90"), 1));
    assert_proven(&world).await;
}

#[tokio::test]
async fn the_command_line_says_what_to_pay_back() {
    let (world, _) = a_german().await;
    top_up(&world.client, "acme", "119").await;
    let shell = Shell::of(&world.server);
    let refund = ["credit", "refund", "acme", "50", "--method", "visa", "--reference", "re_1"];
    let shown = shell.json(&[&refund[..], &["--reason", "asked"]].concat()).await;
    assert_eq!(shown["refunded"]["amount"], "50");
    assert_eq!(shown["tax"]["amount"], "9.5");
    assert_eq!(shown["payout"]["amount"], "59.5");
    assert!(shown["credit_notes"].as_str().unwrap().starts_with("CN-"), "{shown}");
}

async fn paid(client: &Client, amount: &str) -> String {
    let request = TopUpRequest {
        account: "acme".to_owned(),
        amount: usd(amount),
        method: PaymentMethod::Visa.into(),
        external_reference: uuid::Uuid::now_v7().to_string(),
        ..TopUpRequest::default()
    };
    client.credits().top_up(request).await.unwrap().into_inner().payment_id
}

async fn dispute(
    client: &Client,
    payment: &str,
    stage: ChargebackStage,
) -> RecordChargebackResponse {
    let request = RecordChargebackRequest {
        account: "acme".to_owned(),
        payment_id: payment.to_owned(),
        stage: stage.into(),
        external_reference: "dp_1".to_owned(),
        reason: "fraudulent".to_owned(),
        ..RecordChargebackRequest::default()
    };
    client.credits().record_chargeback(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_dispute_of_a_taxed_top_up_corrects_no_tax_until_it_is_lost() {
    let (world, acme) = a_german().await;
    let client = &world.client;
    let payment = paid(client, "119").await;
    work(client, &acme, noon(month(1), 3), 3_000_000, 0).await.unwrap();

    let opened = dispute(client, &payment, ChargebackStage::Opened).await;
    let parts = (decimal(opened.unspent.as_ref()), decimal(opened.spent.as_ref()));
    assert_eq!(parts, (dec("70"), dec("49")), "30 of net credits are spent, and 19 were tax");
    assert!(credit_notes(client).await.is_empty());
    assert_proven(&world).await;

    let lost = dispute(client, &payment, ChargebackStage::Lost).await;
    assert_eq!(decimal(lost.tax_corrected.as_ref()), dec("13.30"));
    let moved = transfers_from(&world, 3).await;
    assert_eq!(
        moved,
        ["2000→1000.VISA 70", "1250→1000.VISA 49", "2100.DE→1250 13.3", "5100→1250 35.7"]
    );
    let notes = credit_notes(client).await;
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    assert_eq!(lost.credit_notes, std::slice::from_ref(&note.number));
    assert_eq!((decimal(note.net.as_ref()), decimal(note.tax.as_ref())), (dec("70"), dec("13.3")));
    export(client, invoice(&note.number), ExportFormat::Ubl).await.unwrap();
    let again = dispute(client, &payment, ChargebackStage::Lost).await;
    assert_eq!((again.tax_corrected, again.credit_notes), (lost.tax_corrected, lost.credit_notes));

    // What was used was taxed by the prepayment invoice, and still is.
    assert_credits_paid_for_the_month(client).await;
    assert_proven(&world).await;
}

#[tokio::test]
async fn a_dispute_of_a_taxed_top_up_that_is_won_is_as_if_it_had_not_been() {
    let (world, acme) = a_german().await;
    let client = &world.client;
    let payment = paid(client, "119").await;
    work(client, &acme, noon(month(1), 3), 3_000_000, 0).await.unwrap();
    dispute(client, &payment, ChargebackStage::Opened).await;
    let won = dispute(client, &payment, ChargebackStage::Won).await;
    assert_eq!(decimal(won.balance.unwrap().credits.as_ref()), dec("70"));
    assert_eq!((decimal(won.tax_corrected.as_ref()), won.credit_notes.len()), (dec("0"), 0));
    assert_proven(&world).await;
    assert_eq!(tax_back(client, "70").await, (dec("13.30"), 1));
    assert_proven(&world).await;
}

#[tokio::test]
async fn what_an_open_dispute_holds_is_not_refunded_or_used_meanwhile() {
    let (world, acme) = a_german().await;
    let client = &world.client;
    let payment = paid(client, "119").await;
    dispute(client, &payment, ChargebackStage::Opened).await;
    set_tax_rate(client, "DE", "19", false).await;
    top_up(client, "acme", "50").await;
    assert_eq!(tax_back(client, "10").await, (dec("0"), 0), "these were never taxed");
    work(client, &acme, noon(month(1), 3), 3_000_000, 0).await.unwrap();
    close(client, month(1)).await;
    let month = documents(client, "acme").await.pop().unwrap();
    assert_eq!(decimal(month.due.as_ref()), dec("5.7"), "untaxed credits paid for it");
    let lost = dispute(client, &payment, ChargebackStage::Lost).await;
    assert_eq!(decimal(lost.tax_corrected.as_ref()), dec("19"));
    assert_proven(&world).await;
}

#[tokio::test]
async fn a_dispute_that_was_opened_before_tax_was_kept_ends_as_it_began() {
    let (world, _) = a_german().await;
    let client = &world.client;
    let payment = paid(client, "119").await;
    dispute(client, &payment, ChargebackStage::Opened).await;
    let older = "SET session_replication_role = replica; UPDATE chargebacks SET taxed = 0";
    sqlx::raw_sql(older).execute(&world.server.pool()).await.unwrap();
    let lost = dispute(client, &payment, ChargebackStage::Lost).await;
    assert_eq!((decimal(lost.tax_corrected.as_ref()), lost.credit_notes.len()), (dec("0"), 0));
    assert_eq!(transfers_from(&world, 3).await, ["5100→1250 19"]);
    assert_proven(&world).await;
}

#[tokio::test]
async fn a_dispute_after_a_refund_corrects_only_what_is_left() {
    let (world, _) = a_german().await;
    let client = &world.client;
    let payment = paid(client, "119").await;
    assert_eq!(tax_back(client, "40").await, (dec("7.60"), 1));
    let opened = dispute(client, &payment, ChargebackStage::Opened).await;
    assert_eq!(decimal(opened.unspent.as_ref()), dec("60"));
    let lost = dispute(client, &payment, ChargebackStage::Lost).await;
    assert_eq!(decimal(lost.tax_corrected.as_ref()), dec("11.40"));
    assert_proven(&world).await;
}

#[tokio::test]
async fn verification_names_tax_that_was_tampered_with() {
    let (world, _) = a_german().await;
    let client = &world.client;
    let payment = paid(client, "119").await;
    refund(client, "40").await.unwrap();
    dispute(client, &payment, ChargebackStage::Opened).await;
    dispute(client, &payment, ChargebackStage::Lost).await;
    world.verify().await;
    for (tamper, check, finding) in [
        (
            "UPDATE transfers SET amount = amount + 1 WHERE kind = 'top_up_tax'",
            "tax_documents_equal_2100",
            "charge tax of 0, and 2100 moved by 1",
        ),
        (
            "UPDATE billing_documents SET taxed_credits_used = net + 1 WHERE kind = 'credit_note'",
            "tax_given_back",
            "sold taxed credits of 100 and took 102",
        ),
        (
            "UPDATE billing_documents SET net = net + 1, gross = gross + 1, paid = paid + 1
             WHERE kind = 'credit_note'",
            "credit_notes_within_invoices",
            "sold 100 with 19 tax, and 102 with 19 tax is credited",
        ),
        (
            "UPDATE refunds SET tax = tax + 1",
            "tax_given_back",
            "gave back credits and 8.6 tax, its credit notes say 41 and 7.6",
        ),
        (
            "UPDATE chargebacks SET taxed = taxed - 1 WHERE stage = 'lost'",
            "tax_given_back",
            "gave back 59 and 11.4 tax, its credit notes say 61 and 11.4",
        ),
        (
            "DELETE FROM credit_notes WHERE purpose = 'refund'",
            "causes_equal_transfers",
            "refund_tax of 7.6 from 2100.DE to 1000.VISA has no record",
        ),
    ] {
        let whole = format!("SET session_replication_role = replica; {tamper}");
        let pool = world.server.pool();
        sqlx::raw_sql(sqlx::AssertSqlSafe(whole)).execute(&pool).await.unwrap();
        let request = tollgate::proto::VerifyLedgerRequest::default();
        let verified = client.ledger().verify_ledger(request).await.unwrap().into_inner();
        let found = verified.checks.iter().find(|one| one.name == check).unwrap();
        let is_named = found.findings.iter().any(|one| one.contains(finding));
        assert!(is_named, "{tamper}: {:?}", found.findings);
    }
}

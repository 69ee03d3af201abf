//! What becomes of invoices: payments, credit notes, voids and write-offs, and what is owed.

use rust_decimal::Decimal;
use tollgate::{
    billing::dunning::{Dunning, Round},
    cli::client::Client,
    proto::{
        AccountStatus, AllocatePaymentRequest, Contract, CreditNoteLine, DocumentKind,
        GetAccountRequest, GetAgingRequest, GetStatementRequest, Invoice, InvoiceStatus,
        IssueCreditNoteRequest, ListDunningEventsRequest, ListInvoicesRequest, ListPaymentsRequest,
        Payment, PaymentAllocation, PaymentMethod, RecordPaymentRequest, ReversePaymentRequest,
        SuspendAccountRequest, TaxTreatment, TopUpRequest, UpdateAccountRequest,
        VoidInvoiceRequest, WriteOffRequest,
    },
};
use tonic::{Code, Status};

use super::{
    close, customer, dec, decimal, documents, german, month, net_30, noon, set_tax_rate, show,
    work, world,
};
use crate::harness::{
    server::refusal,
    world::{World, usd},
};

/// Code and reason of a refusal, which also names a field.
fn why(status: &Status) -> (Code, String) {
    let (code, reason, field) = refusal(status);
    assert!(!field.is_empty(), "{status:?}");
    (code, reason)
}

/// A German Net-30 customer, `acme`, with an invoice of 100 and 19 tax for each of the last months.
async fn invoiced(months: u32) -> (World, Vec<Invoice>) {
    let world = world().await;
    let client = &world.client;
    set_tax_rate(client, "DE", "19", false).await;
    let acme = customer(client, "acme", german(net_30())).await;
    for back in (1..=months).rev() {
        work(client, &acme, noon(month(back), 3), 10_000_000, 0).await.unwrap();
    }
    close(client, month(1)).await;
    let invoices = documents(client, "acme").await;
    (world, invoices)
}

fn wire(reference: &str, amount: &str) -> RecordPaymentRequest {
    RecordPaymentRequest {
        account: "acme".to_owned(),
        amount: usd(amount),
        method: PaymentMethod::Wire.into(),
        external_reference: reference.to_owned(),
        ..RecordPaymentRequest::default()
    }
}

fn to(invoice: &Invoice, amount: Option<&str>) -> PaymentAllocation {
    PaymentAllocation {
        invoice: invoice.number.clone(),
        amount: amount.and_then(usd),
        withheld: None,
    }
}

async fn pay(client: &Client, request: RecordPaymentRequest) -> Result<Payment, Status> {
    let answer = client.billing().record_payment(request).await?.into_inner();
    Ok(answer.payment.unwrap())
}

async fn state(client: &Client, invoice: &Invoice) -> (InvoiceStatus, Decimal) {
    let shown = show(client, invoice).await.invoice.unwrap();
    (shown.status(), decimal(shown.open.as_ref()))
}

async fn owed(world: &World) -> (Decimal, Decimal) {
    let balance = world.balance("acme").await;
    (decimal(balance.receivable.as_ref()), decimal(balance.unapplied.as_ref()))
}

async fn allocate(client: &Client, payment: &str, invoice: &Invoice) -> Result<Decimal, Status> {
    let request = AllocatePaymentRequest {
        payment: payment.to_owned(),
        allocations: vec![to(invoice, None)],
        ..AllocatePaymentRequest::default()
    };
    let answer = client.billing().allocate_payment(request).await?.into_inner();
    Ok(decimal(answer.applied.as_ref()))
}

#[tokio::test]
async fn payments_settle_invoices_in_part_in_full_and_beyond_and_can_be_returned() {
    let (world, invoices) = invoiced(1).await;
    let client = &world.client;
    let [invoice] = invoices.as_slice() else { panic!("{invoices:?}") };
    assert_eq!(state(client, invoice).await, (InvoiceStatus::Open, dec("119")));

    let first = RecordPaymentRequest {
        allocations: vec![to(invoice, Some("19"))],
        fee: usd("0.30"),
        ..wire("one", "19")
    };
    pay(client, first.clone()).await.unwrap();
    assert_eq!(state(client, invoice).await, (InvoiceStatus::PartPaid, dec("100")));
    let again = client.billing().record_payment(first).await.unwrap().into_inner();
    assert!(again.duplicate, "the same reference is the same payment");
    assert_eq!(owed(&world).await, (dec("100"), dec("0")));

    // 95 and 5 withheld settle 100; the rest is nobody's invoice.
    let withheld = PaymentAllocation { withheld: usd("5"), ..to(invoice, None) };
    let second = RecordPaymentRequest { allocations: vec![withheld], ..wire("two", "110") };
    let second = pay(client, second).await.unwrap();
    assert_eq!(state(client, invoice).await, (InvoiceStatus::Paid, dec("0")));
    assert_eq!(decimal(second.unapplied.as_ref()), dec("15"));
    assert_eq!(owed(&world).await, (dec("0"), dec("15")));
    world.verify().await;

    // The overpayment is paid back, and then the bank takes the rest.
    let back = |amount: Option<&str>, reference: &str| ReversePaymentRequest {
        payment_id: second.payment_id.clone(),
        amount: amount.and_then(usd),
        external_reference: reference.to_owned(),
        reason: "returned".to_owned(),
        ..ReversePaymentRequest::default()
    };
    client.billing().reverse_payment(back(Some("15"), "r1")).await.unwrap();
    assert_eq!(owed(&world).await, (dec("0"), dec("0")));
    client.billing().reverse_payment(back(None, "r2")).await.unwrap();
    client.billing().reverse_payment(back(None, "r2")).await.unwrap();
    assert_eq!(state(client, invoice).await, (InvoiceStatus::PartPaid, dec("100")));
    let more = client.billing().reverse_payment(back(Some("1"), "r3")).await.unwrap_err();
    assert_eq!(why(&more), (Code::FailedPrecondition, "MORE_THAN_LEFT".to_owned()));
    world.verify().await;
}

#[tokio::test]
async fn an_unidentified_payment_waits_until_invoices_get_it() {
    let (world, invoices) = invoiced(2).await;
    let client = &world.client;
    let [older, newer] = invoices.as_slice() else { panic!("{invoices:?}") };
    let payment = pay(client, wire("who", "200")).await.unwrap();
    assert_eq!(owed(&world).await, (dec("238"), dec("200")));
    let listing = ListPaymentsRequest { only_unapplied: true, ..ListPaymentsRequest::default() };
    let listed = client.billing().list_payments(listing).await.unwrap().into_inner().payments;
    assert_eq!(listed.len(), 1);

    assert_eq!(allocate(client, &payment.payment_id, newer).await.unwrap(), dec("119"));
    let withheld = PaymentAllocation { withheld: usd("1"), ..to(older, None) };
    let withheld = AllocatePaymentRequest {
        payment: payment.payment_id.clone(),
        allocations: vec![withheld],
        ..AllocatePaymentRequest::default()
    };
    let withheld = client.billing().allocate_payment(withheld).await.unwrap_err();
    assert_eq!(why(&withheld), (Code::InvalidArgument, "INVALID_AMOUNT".to_owned()));
    let nothing = allocate(client, &payment.payment_id, newer).await.unwrap_err();
    assert_eq!(why(&nothing), (Code::FailedPrecondition, "NOTHING_OPEN".to_owned()));
    let rest = AllocatePaymentRequest {
        payment: payment.payment_id,
        oldest_first: true,
        ..AllocatePaymentRequest::default()
    };
    client.billing().allocate_payment(rest).await.unwrap();
    assert_eq!(state(client, older).await, (InvoiceStatus::PartPaid, dec("38")));
    assert_eq!(owed(&world).await, (dec("38"), dec("0")));
    world.verify().await;
}

#[tokio::test]
async fn an_unapplied_receipt_is_never_spendable() {
    let world = world().await;
    let client = &world.client;
    customer(client, "acme", net_30()).await;
    customer(client, "prepaid", Contract::default()).await;
    for (account, spendable) in [("acme", "10000"), ("prepaid", "0")] {
        let request = RecordPaymentRequest { account: account.to_owned(), ..wire(account, "700") };
        pay(client, request).await.unwrap();
        let balance = world.balance(account).await;
        assert_eq!(decimal(balance.unapplied.as_ref()), dec("700"));
        assert_eq!(decimal(balance.available.as_ref()), dec(spendable));
    }
}

#[tokio::test]
async fn a_payment_that_does_not_fit_is_refused_and_leaves_nothing() {
    let (world, invoices) = invoiced(1).await;
    let client = &world.client;
    let invoice = &invoices[0];
    let share = |amount: &str| vec![to(invoice, Some(amount))];
    let unknown = PaymentAllocation { invoice: "INV-1".to_owned(), ..Default::default() };
    let euros = tollgate::proto::Money { currency_code: "EUR".to_owned(), amount: "5".to_owned() };
    for (request, code, reason) in [
        (
            RecordPaymentRequest { allocations: share("120"), ..wire("a", "200") },
            Code::FailedPrecondition,
            "MORE_THAN_OPEN",
        ),
        (
            RecordPaymentRequest { allocations: share("50"), ..wire("a", "40") },
            Code::FailedPrecondition,
            "MORE_THAN_AVAILABLE",
        ),
        (
            RecordPaymentRequest { allocations: share("-1"), ..wire("a", "40") },
            Code::InvalidArgument,
            "INVALID_AMOUNT",
        ),
        (
            RecordPaymentRequest { allocations: vec![unknown], ..wire("a", "40") },
            Code::NotFound,
            "DOCUMENT_NOT_FOUND",
        ),
        (
            RecordPaymentRequest { amount: Some(euros), ..wire("a", "5") },
            Code::InvalidArgument,
            "CURRENCY_MISMATCH",
        ),
        (wire("a", "0.001"), Code::InvalidArgument, "TOO_MANY_DECIMALS"),
        (wire("", "5"), Code::InvalidArgument, "INVALID_TEXT"),
        (
            RecordPaymentRequest { received_on: "2999-01-01".to_owned(), ..wire("a", "5") },
            Code::InvalidArgument,
            "INVALID_DATE",
        ),
        (
            RecordPaymentRequest { received_on: "yesterday".to_owned(), ..wire("a", "5") },
            Code::InvalidArgument,
            "INVALID_DATE",
        ),
        (
            RecordPaymentRequest { fee: usd("6"), ..wire("a", "5") },
            Code::InvalidArgument,
            "INVALID_AMOUNT",
        ),
    ] {
        let refused = pay(client, request).await.unwrap_err();
        assert_eq!(why(&refused), (code, reason.to_owned()));
    }
    assert_eq!(owed(&world).await, (dec("119"), dec("0")));

    // One reference is one payment, whatever it was for.
    let top_up = TopUpRequest {
        account: "acme".to_owned(),
        amount: usd("5"),
        method: PaymentMethod::Wire.into(),
        external_reference: "shared".to_owned(),
        ..TopUpRequest::default()
    };
    pay(client, wire("shared", "5")).await.unwrap();
    let refused = client.credits().top_up(top_up).await.unwrap_err();
    assert_eq!(why(&refused), (Code::AlreadyExists, "RECORDED_DIFFERENTLY".to_owned()));
    world.verify().await;
}

fn credit(invoice: &Invoice) -> IssueCreditNoteRequest {
    IssueCreditNoteRequest {
        invoice: invoice.number.clone(),
        reason: "not as agreed".to_owned(),
        ..IssueCreditNoteRequest::default()
    }
}

#[tokio::test]
async fn credit_notes_take_an_invoice_back_before_and_after_it_was_paid() {
    let (world, invoices) = invoiced(1).await;
    let client = &world.client;
    let invoice = &invoices[0];
    let issue = |request: IssueCreditNoteRequest| async move {
        client.billing().issue_credit_note(request).await.map(tonic::Response::into_inner)
    };
    let partly = issue(IssueCreditNoteRequest { net: usd("10"), ..credit(invoice) }).await.unwrap();
    let note = partly.credit_note.unwrap();
    assert_eq!(
        (note.reason.as_str(), &note.refers_to),
        ("not as agreed", &vec![invoice.number.clone()])
    );
    let note = note.invoice.unwrap();
    assert!(note.number.starts_with("CN-"), "{note:?}");
    assert_eq!((decimal(note.net.as_ref()), decimal(note.tax.as_ref())), (dec("10"), dec("1.90")));
    assert_eq!(state(client, invoice).await, (InvoiceStatus::PartPaid, dec("107.10")));

    let paid = RecordPaymentRequest { oldest_first: true, ..wire("p", "107.10") };
    pay(client, paid).await.unwrap();
    assert_eq!(state(client, invoice).await, (InvoiceStatus::Paid, dec("0")));

    let line = CreditNoteLine { position: 1, net: usd("20") };
    let request = IssueCreditNoteRequest { lines: vec![line], ..credit(invoice) };
    let after = issue(IssueCreditNoteRequest { for_service_level: true, ..request }).await.unwrap();
    assert_eq!(decimal(after.surplus.as_ref()), dec("23.80"));
    assert_eq!(owed(&world).await, (dec("0"), dec("23.80")));

    for (request, code, reason) in [
        (
            IssueCreditNoteRequest { net: usd("70.01"), ..credit(invoice) },
            Code::FailedPrecondition,
            "MORE_THAN_CREDITABLE",
        ),
        (
            IssueCreditNoteRequest { net: usd("0.001"), ..credit(invoice) },
            Code::InvalidArgument,
            "TOO_MANY_DECIMALS",
        ),
        (
            IssueCreditNoteRequest { reason: String::new(), ..credit(invoice) },
            Code::InvalidArgument,
            "INVALID_TEXT",
        ),
        (
            IssueCreditNoteRequest {
                lines: vec![CreditNoteLine { position: 9, net: None }],
                ..credit(invoice)
            },
            Code::NotFound,
            "LINE_NOT_FOUND",
        ),
        (
            IssueCreditNoteRequest { invoice: note.number.clone(), ..credit(invoice) },
            Code::FailedPrecondition,
            "NOT_AN_INVOICE",
        ),
    ] {
        assert_eq!(why(&issue(request).await.unwrap_err()), (code, reason.to_owned()));
    }
    issue(credit(invoice)).await.unwrap();
    assert_eq!(state(client, invoice).await.0, InvoiceStatus::Credited);
    assert_eq!(owed(&world).await, (dec("0"), dec("107.10")));
    let payout = ReversePaymentRequest {
        payment_id: after.credit_note.unwrap().invoice.unwrap().number,
        external_reference: "out".to_owned(),
        reason: "asked for".to_owned(),
        method: PaymentMethod::Wire.into(),
        ..ReversePaymentRequest::default()
    };
    for _ in 0..2 {
        client.billing().reverse_payment(payout.clone()).await.unwrap();
        assert_eq!(owed(&world).await, (dec("0"), dec("83.30")), "paid out once");
    }
    // What is left of credit notes is listed until it is paid out.
    let request = ListInvoicesRequest { only_open: true, ..ListInvoicesRequest::default() };
    let left = client.billing().list_invoices(request).await.unwrap().into_inner().invoices;
    let left: Vec<_> = left.iter().map(|one| (one.kind(), decimal(one.open.as_ref()))).collect();
    assert_eq!(left, [(DocumentKind::CreditNote, dec("83.30"))]);
    let nothing = issue(credit(invoice)).await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument, "{nothing:?}");
    world.verify().await;
}

#[tokio::test]
async fn a_void_invoice_is_billed_again_to_the_customer_as_it_is_now() {
    let (world, invoices) = invoiced(1).await;
    let client = &world.client;
    let invoice = &invoices[0];
    let part = RecordPaymentRequest { oldest_first: true, ..wire("p", "60") };
    pay(client, part).await.unwrap();

    let named = GetAccountRequest { account: "acme".to_owned() };
    let account = client.accounts().get_account(named).await.unwrap().into_inner();
    let account = account.account.unwrap();
    let mut contract = account.contract.clone().unwrap();
    (contract.tax_treatment, contract.tax_rate_percent) =
        (TaxTreatment::ReverseCharge.into(), "0".to_owned());
    contract.tax_id = "ATU12345678".to_owned();
    let update = UpdateAccountRequest {
        account: "acme".to_owned(),
        display_name: account.display_name,
        contract: Some(contract),
        version: account.version,
        ..UpdateAccountRequest::default()
    };
    client.accounts().update_account(update).await.unwrap();
    let void = VoidInvoiceRequest {
        invoice: invoice.number.clone(),
        reason: "reverse charge applies".to_owned(),
        ..VoidInvoiceRequest::default()
    };
    let voided = client.billing().void_invoice(void.clone()).await.unwrap().into_inner();
    assert_eq!(state(client, invoice).await, (InvoiceStatus::Credited, dec("0")));
    let replacement = voided.replacement.unwrap();
    assert_eq!(replacement.taxes[0].category, "AE");
    assert_eq!(replacement.lines, show(client, invoice).await.lines);
    let replacement = replacement.invoice.unwrap();
    assert_eq!(decimal(replacement.due.as_ref()), dec("100"));
    // What had been paid went over.
    assert_eq!(state(client, &replacement).await, (InvoiceStatus::PartPaid, dec("40")));
    assert_eq!(owed(&world).await, (dec("40"), dec("0")));
    let twice = client.billing().void_invoice(void).await.unwrap_err();
    assert_eq!(why(&twice), (Code::FailedPrecondition, "NOT_VOIDABLE".to_owned()));
    world.verify().await;

    let again = VoidInvoiceRequest {
        invoice: replacement.number,
        reason: "another name".to_owned(),
        ..VoidInvoiceRequest::default()
    };
    client.billing().void_invoice(again).await.unwrap();
    assert_eq!(owed(&world).await, (dec("40"), dec("0")));
    world.verify().await;
}

#[tokio::test]
async fn what_is_given_up_takes_the_credit_limit_and_can_be_recovered() {
    let (world, invoices) = invoiced(1).await;
    let client = &world.client;
    let invoice = &invoices[0];
    let request = WriteOffRequest {
        invoice: invoice.number.clone(),
        tax_relief: true,
        reason: "insolvent".to_owned(),
        ..WriteOffRequest::default()
    };
    let given_up = client.billing().write_off(request.clone()).await.unwrap().into_inner();
    let given_up = (decimal(given_up.amount.as_ref()), decimal(given_up.tax.as_ref()));
    assert_eq!(given_up, (dec("119"), dec("19")));
    assert_eq!(state(client, invoice).await, (InvoiceStatus::WrittenOff, dec("0")));
    let limit = world.balance("acme").await.credit_limit;
    assert_eq!(decimal(limit.as_ref()), dec("0"));
    let credited = client.billing().issue_credit_note(credit(invoice)).await.unwrap_err();
    assert_eq!(why(&credited), (Code::FailedPrecondition, "WRITTEN_OFF".to_owned()));
    let twice = client.billing().write_off(request).await.unwrap_err();
    assert_eq!(why(&twice), (Code::FailedPrecondition, "NOTHING_OPEN".to_owned()));
    world.verify().await;

    let late = RecordPaymentRequest { allocations: vec![to(invoice, None)], ..wire("l", "119") };
    let late = pay(client, late).await.unwrap();
    assert_eq!(late.settlements.last().unwrap().kind, "recovery");
    assert_eq!(state(client, invoice).await, (InvoiceStatus::Paid, dec("0")));
    world.verify().await;
    let back = ReversePaymentRequest {
        payment_id: late.payment_id,
        external_reference: "r".to_owned(),
        reason: "bounced".to_owned(),
        ..ReversePaymentRequest::default()
    };
    client.billing().reverse_payment(back).await.unwrap();
    assert_eq!(state(client, invoice).await, (InvoiceStatus::WrittenOff, dec("0")));
    world.verify().await;
}

#[tokio::test]
async fn aging_and_statement_come_to_what_the_ledger_says() {
    let (world, invoices) = invoiced(1).await;
    let client = &world.client;
    pay(client, RecordPaymentRequest { oldest_first: true, ..wire("one", "19") }).await.unwrap();
    pay(client, wire("two", "7")).await.unwrap();

    let now = client.billing().get_aging(GetAgingRequest::default()).await.unwrap().into_inner();
    let [acme] = now.accounts.as_slice() else { panic!("{now:?}") };
    let shown = [&acme.current, &acme.days_1_to_30, &acme.unapplied, &acme.total];
    assert_eq!(shown.map(|one| decimal(one.as_ref())), [dec("100"), dec("0"), dec("7"), dec("93")]);
    assert_eq!(decimal(now.totals[0].total.as_ref()), dec("93"));
    let later = chrono::Utc::now().date_naive() + chrono::Days::new(30 + 45);
    let request = GetAgingRequest { as_of: later.to_string(), ..GetAgingRequest::default() };
    let late = client.billing().get_aging(request).await.unwrap().into_inner();
    assert_eq!(decimal(late.accounts[0].days_31_to_60.as_ref()), dec("100"));

    let request = GetStatementRequest { account: "acme".to_owned(), ..Default::default() };
    let statement = client.billing().get_statement(request).await.unwrap().into_inner();
    let entries: Vec<_> = statement
        .entries
        .iter()
        .map(|entry| {
            (entry.kind.as_str(), entry.reference.as_str(), decimal(entry.amount.as_ref()))
        })
        .collect();
    let expected = [
        ("invoice", invoices[0].number.as_str(), dec("119")),
        ("payment", "one", dec("-19")),
        ("payment", "two", dec("-7")),
    ];
    assert_eq!(entries, expected);
    assert_eq!(decimal(statement.closing.as_ref()), dec("93"));
    let backwards = GetStatementRequest {
        account: "acme".to_owned(),
        from: "2026-02-01".to_owned(),
        until: "2026-01-01".to_owned(),
    };
    let refused = client.billing().get_statement(backwards).await.unwrap_err();
    assert_eq!(why(&refused), (Code::InvalidArgument, "INVALID_DATE".to_owned()));
    let open = ListInvoicesRequest { only_open: true, ..ListInvoicesRequest::default() };
    let open = client.billing().list_invoices(open).await.unwrap().into_inner().invoices;
    assert_eq!(open.len(), 1);
}

#[tokio::test]
async fn an_overdue_customer_is_reminded_suspended_and_released_by_its_payment() {
    let (world, invoices) = invoiced(1).await;
    let client = &world.client;
    let due: chrono::NaiveDate = invoices[0].due_date.parse().unwrap();
    let later = |days: u64| due + chrono::Days::new(days);
    let dunning = Dunning::new(world.server.pool(), Some(14));
    let round = |reminders: usize, suspended: usize| Round { reminders, suspended };
    assert_eq!(dunning.step(due).await.unwrap(), round(0, 0));
    assert_eq!(dunning.step(later(1)).await.unwrap(), round(1, 0));
    assert_eq!(dunning.step(later(7)).await.unwrap(), round(0, 0), "each step is noted once");
    assert_eq!(dunning.step(later(14)).await.unwrap(), round(1, 0));
    assert_eq!(dunning.step(later(15)).await.unwrap(), round(1, 1));
    assert_eq!(dunning.step(later(16)).await.unwrap(), round(0, 0));
    let status = || async {
        let named = GetAccountRequest { account: "acme".to_owned() };
        let account = client.accounts().get_account(named).await.unwrap().into_inner().account;
        let account = account.unwrap();
        (account.status(), account.status_reason)
    };
    let (suspended, reason) = status().await;
    assert_eq!(suspended, AccountStatus::Suspended);
    assert!(reason.contains("15 days past due"), "{reason}");

    let request = RecordPaymentRequest { oldest_first: true, ..wire("p", "119") };
    pay(client, request).await.unwrap();
    assert_eq!(status().await, (AccountStatus::Active, String::new()));
    let request = ListDunningEventsRequest { account: "acme".to_owned(), ..Default::default() };
    let listed = client.billing().list_dunning_events(request).await.unwrap().into_inner();
    let kinds: Vec<_> =
        listed.events.iter().map(|event| (event.kind.as_str(), event.days)).collect();
    let expected =
        [("release", 0), ("suspension", 15), ("reminder", 15), ("reminder", 8), ("reminder", 1)];
    assert_eq!(kinds, expected);

    // Whom a person suspended, no payment releases.
    let request = SuspendAccountRequest {
        account: "acme".to_owned(),
        reason: "fraud".to_owned(),
        ..SuspendAccountRequest::default()
    };
    client.accounts().suspend_account(request).await.unwrap();
    pay(client, wire("q", "1")).await.unwrap();
    assert_eq!(status().await.0, AccountStatus::Suspended);
    world.verify().await;
}

#[tokio::test]
async fn who_is_suspended_stays_so_when_the_debt_is_written_off() {
    let (world, invoices) = invoiced(1).await;
    let client = &world.client;
    let due: chrono::NaiveDate = invoices[0].due_date.parse().unwrap();
    let dunning = Dunning::new(world.server.pool(), Some(0));
    let round = dunning.step(due + chrono::Days::new(1)).await.unwrap();
    assert_eq!(round, Round { reminders: 1, suspended: 1 });
    let request = WriteOffRequest {
        invoice: invoices[0].number.clone(),
        reason: "insolvent".to_owned(),
        ..WriteOffRequest::default()
    };
    client.billing().write_off(request).await.unwrap();
    let named = GetAccountRequest { account: "acme".to_owned() };
    let account = client.accounts().get_account(named).await.unwrap().into_inner().account;
    assert_eq!(account.unwrap().status(), AccountStatus::Suspended);
}

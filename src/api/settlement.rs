//! What becomes of invoices: payments, credit notes, write-offs, and what is owed. The logic of those
//! RPCs of `BillingService`.

use std::collections::HashMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgPool};
use tonic::{Request, Status};

use super::{
    billing_convert::frozen_details,
    caller::caller,
    convert::{BadField, any_amount, id, money, next_page_token, page, timestamp},
    credit::read_method,
    idempotency::{self, Begun, Turn},
    named_account::named_account,
    status::refused,
};
use crate::{
    accounts::directory::Directory,
    billing::{
        closing::Closing,
        document::DocumentKind,
        documents::{Frozen, store as filed},
        dunning::{self, DunningFilter},
        error::BillingError,
        receivables::{self, Aging, AgingFilter},
        settlement::{
            self, AllocationOrder, CreditNoteOrder, CreditScope, LineCredit, Payment,
            PaymentFilter, PaymentOrder, PayoutOrder, ReturnOrder, Share, Standing, VoidOrder,
            WriteOffOrder,
        },
    },
    database::reports::ReportPool,
    ids::{AccountId, CauseId},
    ledger::chart::PaymentMethod,
    money::{Amount, Currency},
    proto,
};

const LIST: &str = "ListPayments";
const AGING: &str = "GetAging";
const DUNNING: &str = "ListDunningEvents";

/// Opens a changing call, or answers it as it was answered before.
macro_rules! begin {
    ($pool:expr, $rpc:literal, $request:expr) => {
        match idempotency::begin($pool, $rpc, &$request.idempotency_key, $request)
            .await
            .map_err(refused)?
        {
            Begun::Repeated(response) => return Ok(response),
            Begun::First(turn) => turn,
        }
    };
}

pub(super) async fn record_payment(
    pool: &PgPool,
    directory: &Directory,
    request: &Request<proto::RecordPaymentRequest>,
) -> Result<proto::RecordPaymentResponse, Status> {
    let name = &request.get_ref().account;
    let account = named_account(directory, caller(request)?, "account", name).await?;
    let request = request.get_ref();
    let (amount, currency) = required_amount("amount", request.amount.as_ref())?;
    let order = PaymentOrder {
        account,
        amount,
        currency,
        method: read_method(request.method)?,
        external_reference: request.external_reference.clone(),
        received_on: read_day("received_on", &request.received_on)?,
        shares: read_shares(&request.allocations, currency)?,
        oldest_first: request.oldest_first,
        fee: amount_in("fee", request.fee.as_ref(), currency)?.unwrap_or_default(),
        note: request.note.clone(),
        idempotency_key: request.idempotency_key.clone(),
    };
    let mut turn: Turn = begin!(pool, "RecordPayment", request);
    let (payment, duplicate) =
        settlement::record(turn.connection(), &order).await.map_err(refused)?;
    let response =
        proto::RecordPaymentResponse { payment: Some(payment_message(&payment)), duplicate };
    turn.commit(&response).await.map_err(refused)?;
    Ok(response)
}

pub(super) async fn allocate_payment(
    pool: &PgPool,
    request: &proto::AllocatePaymentRequest,
) -> Result<proto::AllocatePaymentResponse, Status> {
    let mut turn: Turn = begin!(pool, "AllocatePayment", request);
    let currency =
        request.allocations.iter().find_map(|one| one.amount.as_ref().or(one.withheld.as_ref()));
    let currency = currency.map(|amount| any_amount("allocations.amount", amount)).transpose();
    let currency = currency.map_err(refused)?.map(|(_, currency)| currency);
    let shares = match currency {
        Some(currency) => read_shares(&request.allocations, currency)?,
        None => request.allocations.iter().map(|one| without_amount(&one.invoice)).collect(),
    };
    let order = AllocationOrder {
        payment: request.payment.clone(),
        shares,
        oldest_first: request.oldest_first,
        idempotency_key: request.idempotency_key.clone(),
    };
    let done = settlement::allocate(turn.connection(), &order).await.map_err(refused)?;
    if let Some(given) = currency.filter(|given| *given != done.currency) {
        return Err(other_currency("allocations.amount", given, done.currency));
    }
    let response = proto::AllocatePaymentResponse {
        applied: Some(money(done.applied, done.currency)),
        unapplied: Some(money(done.unapplied, done.currency)),
    };
    turn.commit(&response).await.map_err(refused)?;
    Ok(response)
}

pub(super) async fn reverse_payment(
    pool: &PgPool,
    request: &proto::ReversePaymentRequest,
) -> Result<proto::ReversePaymentResponse, Status> {
    let amount = request.amount.as_ref().map(|amount| any_amount("amount", amount));
    let amount = amount.transpose().map_err(refused)?;
    let mut turn: Turn = begin!(pool, "ReversePayment", request);
    let of_credit_note = match filed::document(turn.connection(), &request.payment_id).await {
        Ok(found) => found.is_some(),
        Err(error) => return Err(refused(error)),
    };
    let response = if of_credit_note {
        let order = PayoutOrder {
            credit_note: request.payment_id.clone(),
            amount,
            method: read_method(request.method)?,
            external_reference: request.external_reference.clone(),
            reason: request.reason.clone(),
            idempotency_key: request.idempotency_key.clone(),
        };
        let (left, currency) =
            settlement::pay_out(turn.connection(), &order).await.map_err(refused)?;
        let unapplied = Some(money(left, currency));
        proto::ReversePaymentResponse { payment: None, unapplied }
    } else {
        let order = ReturnOrder {
            payment: id("payment_id", &request.payment_id).map_err(refused)?,
            amount,
            external_reference: request.external_reference.clone(),
            reason: request.reason.clone(),
            idempotency_key: request.idempotency_key.clone(),
        };
        let payment = settlement::reverse(turn.connection(), &order).await.map_err(refused)?;
        let unapplied = Some(money(payment.unapplied, payment.currency));
        proto::ReversePaymentResponse { payment: Some(payment_message(&payment)), unapplied }
    };
    turn.commit(&response).await.map_err(refused)?;
    Ok(response)
}

pub(super) async fn list_payments(
    reports: &ReportPool,
    directory: &Directory,
    request: &Request<proto::ListPaymentsRequest>,
) -> Result<proto::ListPaymentsResponse, Status> {
    let account = optional_account(directory, request, &request.get_ref().account).await?;
    let request = request.get_ref();
    let page = page(LIST, request.page_size, &request.page_token).map_err(refused)?;
    let only_unapplied = request.only_unapplied;
    let filter = PaymentFilter { account, only_unapplied, before: page.after, limit: page.limit() };
    let mut snapshot = reports.snapshot().await.map_err(refused)?;
    let mut rows = settlement::list_payments(&mut snapshot, &filter).await.map_err(refused)?;
    let next_page_token = next_page_token(LIST, &mut rows, page.size, |last| last.id);
    let payments = rows.iter().map(payment_message).collect();
    Ok(proto::ListPaymentsResponse { payments, next_page_token })
}

pub(super) async fn get_payment(
    reports: &ReportPool,
    request: &proto::GetPaymentRequest,
) -> Result<proto::GetPaymentResponse, Status> {
    let payment: CauseId = id("payment_id", &request.payment_id).map_err(refused)?;
    let mut snapshot = reports.snapshot().await.map_err(refused)?;
    let payment = settlement::payment(&mut snapshot, payment).await.map_err(refused)?;
    Ok(proto::GetPaymentResponse { payment: Some(payment_message(&payment)) })
}

pub(super) async fn issue_credit_note(
    pool: &PgPool,
    request: &proto::IssueCreditNoteRequest,
) -> Result<proto::IssueCreditNoteResponse, Status> {
    let mut turn: Turn = begin!(pool, "IssueCreditNote", request);
    let invoice = document(turn.connection(), &request.invoice).await?;
    let order = CreditNoteOrder {
        invoice: request.invoice.clone(),
        scope: read_scope(request, invoice.document.currency)?,
        for_service_level: request.for_service_level,
        reason: request.reason.clone(),
        idempotency_key: request.idempotency_key.clone(),
    };
    let done = settlement::issue_credit_note(turn.connection(), &order).await.map_err(refused)?;
    let surplus = Some(money(done.surplus, done.note.currency));
    let note = document(turn.connection(), &done.id.to_string()).await?;
    let credit_note = Some(frozen_details(note, None));
    let response = proto::IssueCreditNoteResponse { credit_note, surplus };
    turn.commit(&response).await.map_err(refused)?;
    Ok(response)
}

pub(super) async fn issue_final_invoice(
    pool: &PgPool,
    closing: &Closing,
    account: AccountId,
    request: &proto::IssueFinalInvoiceRequest,
) -> Result<proto::IssueFinalInvoiceResponse, Status> {
    let mut turn: Turn = begin!(pool, "IssueFinalInvoice", request);
    let made = closing.finally(turn.connection(), account).await.map_err(refused)?;
    let standings = settlement::standings_of(turn.connection(), &made).await.map_err(refused)?;
    let mut invoices = Vec::new();
    for id in made {
        let frozen = document(turn.connection(), &id.to_string()).await?;
        let standing = standings.iter().find(|standing| standing.document_id == id);
        invoices.push(frozen_details(frozen, standing));
    }
    let response = proto::IssueFinalInvoiceResponse { invoices };
    turn.commit(&response).await.map_err(refused)?;
    Ok(response)
}

pub(super) async fn void_invoice(
    pool: &PgPool,
    request: &proto::VoidInvoiceRequest,
) -> Result<proto::VoidInvoiceResponse, Status> {
    let order = VoidOrder {
        invoice: request.invoice.clone(),
        reason: request.reason.clone(),
        idempotency_key: request.idempotency_key.clone(),
    };
    let mut turn: Turn = begin!(pool, "VoidInvoice", request);
    let done = settlement::void_invoice(turn.connection(), &order).await.map_err(refused)?;
    let note = document(turn.connection(), &done.credited.id.to_string()).await?;
    let ids = [done.replacement.id];
    let standing = settlement::standings_of(turn.connection(), &ids).await.map_err(refused)?.pop();
    let response = proto::VoidInvoiceResponse {
        credit_note: Some(frozen_details(note, None)),
        replacement: Some(frozen_details(done.replacement, standing.as_ref())),
    };
    turn.commit(&response).await.map_err(refused)?;
    Ok(response)
}

pub(super) async fn write_off(
    pool: &PgPool,
    request: &proto::WriteOffRequest,
) -> Result<proto::WriteOffResponse, Status> {
    let order = WriteOffOrder {
        invoice: request.invoice.clone(),
        tax_relief: request.tax_relief,
        reason: request.reason.clone(),
        idempotency_key: request.idempotency_key.clone(),
    };
    let mut turn: Turn = begin!(pool, "WriteOff", request);
    let done = settlement::write_off(turn.connection(), &order).await.map_err(refused)?;
    let response = proto::WriteOffResponse {
        amount: Some(money(done.amount, done.currency)),
        tax: Some(money(done.tax, done.currency)),
    };
    turn.commit(&response).await.map_err(refused)?;
    Ok(response)
}

pub(super) async fn dunning_events(
    reports: &ReportPool,
    directory: &Directory,
    request: &Request<proto::ListDunningEventsRequest>,
) -> Result<proto::ListDunningEventsResponse, Status> {
    let account = optional_account(directory, request, &request.get_ref().account).await?;
    let request = request.get_ref();
    let page = page(DUNNING, request.page_size, &request.page_token).map_err(refused)?;
    let filter = DunningFilter { account, before: page.after, limit: page.limit() };
    let mut snapshot = reports.snapshot().await.map_err(refused)?;
    let mut rows = dunning::events(&mut snapshot, &filter).await.map_err(refused)?;
    let next_page_token = next_page_token(DUNNING, &mut rows, page.size, |last| last.dunning_event);
    let events = rows
        .into_iter()
        .map(|event| proto::DunningEvent {
            number: event.dunning_event,
            account_id: event.account_id.to_string(),
            open: Some(exact(event.open.decimal(), &event.currency)),
            handle: event.handle,
            accounts_payable_email: event.accounts_payable_email,
            invoice: event.number,
            kind: event.kind,
            days: event.days,
            noted_at: Some(timestamp(event.noted_at)),
        })
        .collect();
    Ok(proto::ListDunningEventsResponse { events, next_page_token })
}

pub(super) async fn aging(
    reports: &ReportPool,
    directory: &Directory,
    request: &Request<proto::GetAgingRequest>,
) -> Result<proto::GetAgingResponse, Status> {
    let account = optional_account(directory, request, &request.get_ref().account).await?;
    let request = request.get_ref();
    let page = page(AGING, request.page_size, &request.page_token).map_err(refused)?;
    let as_of = read_day("as_of", &request.as_of)?;
    let filter = AgingFilter { as_of, account, after: page.after, limit: page.limit() };
    let report = receivables::aging(reports, &filter).await.map_err(refused)?;
    let mut rows = report.accounts;
    let next_page_token = next_page_token(AGING, &mut rows, page.size, |last| last.account_id);
    Ok(proto::GetAgingResponse {
        as_of: report.as_of.to_string(),
        accounts: rows.iter().map(aging_message).collect(),
        totals: report.totals.iter().map(aging_message).collect(),
        next_page_token,
    })
}

pub(super) async fn statement(
    reports: &ReportPool,
    directory: &Directory,
    request: &Request<proto::GetStatementRequest>,
) -> Result<proto::GetStatementResponse, Status> {
    let name = &request.get_ref().account;
    let account = named_account(directory, caller(request)?, "account", name).await?;
    let request = request.get_ref();
    let from = read_day("from", &request.from)?;
    let until = read_day("until", &request.until)?;
    if from.zip(until).is_some_and(|(from, until)| until < from) {
        let problem =
            format!("{} is before from, {}; give a later day", request.until, request.from);
        return Err(refused(BadField::new("until", "INVALID_DATE", problem)));
    }
    let statement = receivables::statement(reports, account, from, until).await.map_err(refused)?;
    let amount = |amount: Decimal| Some(exact(amount, statement.currency.code()));
    let mut balance = statement.opening;
    let mut entries = Vec::with_capacity(statement.entries.len());
    for entry in &statement.entries {
        balance = balance.checked_add(entry.amount).unwrap_or(balance);
        entries.push(proto::StatementEntry {
            date: entry.posted_at.date_naive().to_string(),
            kind: entry.kind.clone(),
            reference: entry.reference.clone(),
            amount: amount(entry.amount),
            balance: amount(balance),
        });
    }
    Ok(proto::GetStatementResponse {
        account_id: account.to_string(),
        from: statement.from.to_string(),
        until: statement.until.to_string(),
        opening: amount(statement.opening),
        entries,
        closing: amount(balance),
    })
}

/// What has become of the invoices among documents.
pub(super) async fn standings(
    connection: &mut PgConnection,
    documents: &[Frozen],
) -> Result<HashMap<CauseId, Standing>, Status> {
    let ids: Vec<CauseId> = documents.iter().map(|document| document.id).collect();
    let standings = settlement::standings_of(connection, &ids).await.map_err(refused)?;
    Ok(standings.into_iter().map(|standing| (standing.document_id, standing)).collect())
}

/// What belongs to no invoice yet of the credit notes among documents.
pub(super) async fn surpluses(
    connection: &mut PgConnection,
    documents: &[Frozen],
) -> Result<HashMap<CauseId, Amount>, Status> {
    let notes = documents.iter().filter(|one| one.document.kind == DocumentKind::CreditNote);
    let ids: Vec<CauseId> = notes.map(|note| note.id).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let surpluses = settlement::surpluses_of(connection, &ids).await.map_err(refused)?;
    Ok(surpluses.into_iter().collect())
}

async fn document(connection: &mut PgConnection, name: &str) -> Result<Frozen, Status> {
    let unknown = || BillingError::UnknownDocument(name.chars().take(60).collect());
    let found = filed::document(connection, name).await.map_err(refused)?;
    found.ok_or_else(|| refused(unknown()))
}

async fn optional_account<T>(
    directory: &Directory,
    request: &Request<T>,
    name: &str,
) -> Result<Option<AccountId>, Status> {
    if name.is_empty() {
        return Ok(None);
    }
    named_account(directory, caller(request)?, "account", name).await.map(Some)
}

fn required_amount(
    field: &str,
    amount: Option<&proto::Money>,
) -> Result<(Amount, Currency), Status> {
    let problem = "is missing; give an amount with its currency, such as 12.50 USD";
    let amount = amount.ok_or_else(|| refused(BadField::new(field, "MISSING_AMOUNT", problem)))?;
    any_amount(field, amount).map_err(refused)
}

fn amount_in(
    field: &str,
    amount: Option<&proto::Money>,
    currency: Currency,
) -> Result<Option<Amount>, Status> {
    let Some(amount) = amount else { return Ok(None) };
    let (amount, given) = any_amount(field, amount).map_err(refused)?;
    if given != currency {
        return Err(other_currency(field, given, currency));
    }
    Ok(Some(amount))
}

fn other_currency(field: &str, given: Currency, currency: Currency) -> Status {
    let problem = format!("is in {given}, and the rest is in {currency}; give it in {currency}");
    refused(BadField::new(field, "CURRENCY_MISMATCH", problem))
}

fn read_day(field: &str, text: &str) -> Result<Option<NaiveDate>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let day = text.parse().ok().filter(|_| text.len() == 10);
    day.map(Some).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        let problem = format!("{shown:?} is no day; write it like 2026-10-31");
        refused(BadField::new(field, "INVALID_DATE", problem))
    })
}

fn without_amount(invoice: &str) -> Share {
    Share { invoice: invoice.to_owned(), amount: None, withheld: Amount::ZERO }
}

fn read_shares(
    allocations: &[proto::PaymentAllocation],
    currency: Currency,
) -> Result<Vec<Share>, Status> {
    allocations
        .iter()
        .map(|one| {
            let withheld = amount_in("allocations.withheld", one.withheld.as_ref(), currency)?;
            Ok(Share {
                amount: amount_in("allocations.amount", one.amount.as_ref(), currency)?,
                withheld: withheld.unwrap_or_default(),
                ..without_amount(&one.invoice)
            })
        })
        .collect()
}

fn read_scope(
    request: &proto::IssueCreditNoteRequest,
    currency: Currency,
) -> Result<CreditScope, Status> {
    let net = amount_in("net", request.net.as_ref(), currency)?;
    match (net, request.lines.is_empty()) {
        (None, true) => Ok(CreditScope::Everything),
        (Some(net), true) => Ok(CreditScope::Net(net)),
        (None, false) => {
            let lines = request.lines.iter().map(|line| {
                let net = amount_in("lines.net", line.net.as_ref(), currency)?;
                Ok::<_, Status>(LineCredit { position: line.position, net })
            });
            Ok(CreditScope::Lines(lines.collect::<Result<_, _>>()?))
        }
        (Some(_), false) => {
            let problem = "is given with lines; give one of them";
            Err(refused(BadField::new("net", "AMBIGUOUS", problem)))
        }
    }
}

const fn method(method: PaymentMethod) -> proto::PaymentMethod {
    match method {
        PaymentMethod::Visa => proto::PaymentMethod::Visa,
        PaymentMethod::Mastercard => proto::PaymentMethod::Mastercard,
        PaymentMethod::Paypal => proto::PaymentMethod::Paypal,
        PaymentMethod::Wire => proto::PaymentMethod::Wire,
        PaymentMethod::Manual => proto::PaymentMethod::Manual,
    }
}

fn payment_message(payment: &Payment) -> proto::Payment {
    let amount = |amount: Amount| Some(money(amount, payment.currency));
    proto::Payment {
        payment_id: payment.id.to_string(),
        account_id: payment.account.to_string(),
        amount: amount(payment.amount),
        method: method(payment.method).into(),
        external_reference: payment.external_reference.clone(),
        received_on: payment.received_on.to_string(),
        fee: amount(payment.fee),
        note: payment.note.clone(),
        unapplied: amount(payment.unapplied),
        returned: amount(payment.returned),
        recorded_at: Some(timestamp(payment.recorded_at)),
        settlements: payment
            .settlements
            .iter()
            .map(|settlement| proto::Settlement {
                kind: settlement.kind.name().to_owned(),
                invoice: settlement.number.clone(),
                amount: amount(settlement.amount),
                settled_at: Some(timestamp(settlement.settled_at)),
            })
            .collect(),
    }
}

/// A sum that may be beyond what one account can hold, or below zero.
fn exact(amount: Decimal, currency: &str) -> proto::Money {
    proto::Money { currency_code: currency.to_owned(), amount: amount.normalize().to_string() }
}

fn aging_message(aging: &Aging) -> proto::AccountAging {
    let amount = |amount: Decimal| Some(exact(amount, &aging.currency));
    proto::AccountAging {
        account_id: aging.account_id.map(|id| id.to_string()).unwrap_or_default(),
        handle: aging.handle.clone(),
        current: amount(aging.current),
        days_1_to_30: amount(aging.days_1_to_30),
        days_31_to_60: amount(aging.days_31_to_60),
        days_61_to_90: amount(aging.days_61_to_90),
        days_over_90: amount(aging.days_over_90),
        unapplied: amount(aging.unapplied),
        total: amount(aging.total),
    }
}

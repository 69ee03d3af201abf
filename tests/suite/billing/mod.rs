//! From usage to invoices, as finance and customers see it over gRPC.

mod closing;
mod documents;
pub(crate) mod export;
mod interrupted;
mod leaving;
mod prepayments;
mod reports;
mod seller;
mod settlement;
mod sla_credit;
mod tampering;
mod year;

use chrono::{DateTime, Datelike as _, Months, NaiveDate, Utc};
use rust_decimal::Decimal;
use tollgate::{
    billing::closing::closes_from,
    cli::client::Client,
    ids::first_id_at,
    proto::{
        ClosePeriodRequest, ClosePeriodResponse, Contract, GetInvoiceRequest, Invoice,
        InvoiceDetails, KeyLimits, ListInvoicesRequest, PaymentTerms, Seller, SetSellerRequest,
        SetTaxRateRequest, TaxRate, Tier, UnauthorizedUsage, record_usage_request::Source,
    },
};
use tonic::Status;
use uuid::Uuid;

use crate::harness::world::{self, MODEL, World, usage};

/// A customer with a key.
pub(crate) struct Customer {
    pub(crate) account: String,
    pub(crate) key_id: String,
}

/// The first day of the month that lies so many months back; 1 is the last that can be closed.
pub(crate) fn month(back: u32) -> NaiveDate {
    let now = Utc::now();
    let this = now.date_naive().with_day(1).unwrap();
    let last = this.checked_sub_months(Months::new(1)).unwrap();
    // In the first hour of a month the one before it is still open.
    let newest = if now < closes_from(last) { last } else { this };
    newest.checked_sub_months(Months::new(back)).unwrap()
}

pub(crate) fn name(month: NaiveDate) -> String {
    month.format("%Y-%m").to_string()
}

/// Noon of a day of the month.
pub(crate) fn noon(month: NaiveDate, day: u32) -> DateTime<Utc> {
    month.with_day(day).unwrap().and_hms_opt(12, 0, 0).unwrap().and_utc()
}

/// An id that was made at this moment.
fn id_at(moment: DateTime<Utc>) -> Uuid {
    let random = Uuid::now_v7().as_u128() & 0xffff_ffff_ffff;
    let version = 7_u128 << 76 | 2_u128 << 62;
    Uuid::from_u128(first_id_at(moment).as_u128() | version | random)
}

pub(crate) fn a_seller() -> Seller {
    Seller {
        legal_name: "Gateway GmbH".to_owned(),
        address: Some(tollgate::proto::Address {
            line_1: "Weg 1".to_owned(),
            city: "Berlin".to_owned(),
            country_code: "DE".to_owned(),
            ..Default::default()
        }),
        tax_id: "DE123456789".to_owned(),
        ..Seller::default()
    }
}

pub(crate) async fn set_seller(client: &Client) {
    let request = SetSellerRequest { seller: Some(a_seller()), idempotency_key: String::new() };
    client.seller().set_seller(request).await.unwrap();
}

pub(crate) async fn set_tax_rate(
    client: &Client,
    jurisdiction: &str,
    percent: &str,
    due_on_payment: bool,
) {
    let tax_rate = TaxRate {
        jurisdiction: jurisdiction.to_owned(),
        effective_from: "2020-01-01".to_owned(),
        rate_percent: percent.to_owned(),
        label: "VAT".to_owned(),
        due_on_payment,
    };
    let request = SetTaxRateRequest { tax_rate: Some(tax_rate), idempotency_key: String::new() };
    client.seller().set_tax_rate(request).await.unwrap();
}

/// A customer in Germany, taxed at 19%.
pub(crate) fn german(contract: Contract) -> Contract {
    Contract {
        legal_name: "Kunde AG".to_owned(),
        address: Some(tollgate::proto::Address {
            country_code: "DE".to_owned(),
            ..Default::default()
        }),
        tax_rate_percent: "19".to_owned(),
        ..contract
    }
}

/// Invoiced, up to 10,000 USD.
pub(crate) fn net_30() -> Contract {
    Contract {
        payment_terms: PaymentTerms::Net30.into(),
        credit_limit: world::usd("10000"),
        ..Contract::default()
    }
}

pub(crate) async fn customer(client: &Client, handle: &str, contract: Contract) -> Customer {
    let account = world::create(client, handle, contract).await;
    let (key, _) = world::issue(client, handle, Tier::Standard, KeyLimits::default()).await;
    Customer { account, key_id: key.key_id }
}

/// Records work of so many tokens that was done then, at 10 USD per million.
pub(crate) async fn work(
    client: &Client,
    customer: &Customer,
    done: DateTime<Utc>,
    input: u64,
    output: u64,
) -> Result<(), Status> {
    work_as(client, customer, id_at(done), done, input, output).await
}

async fn work_as(
    client: &Client,
    customer: &Customer,
    event: Uuid,
    done: DateTime<Utc>,
    input: u64,
    output: u64,
) -> Result<(), Status> {
    let source = UnauthorizedUsage {
        event_id: event.to_string(),
        account: customer.account.clone(),
        key_id: customer.key_id.clone(),
        model: MODEL.to_owned(),
        occurred_at: Some(tollgate::api::convert::timestamp(done)),
    };
    let request = usage(Source::Unauthorized(source), input, output);
    client.usage().record_usage(request).await.map(drop)
}

async fn try_close(client: &Client, period: NaiveDate) -> Result<ClosePeriodResponse, Status> {
    loop {
        let request = ClosePeriodRequest { period: name(period), max_accounts: 0 };
        let progress = client.billing().close_period(request).await?.into_inner();
        assert!(!progress.stalled, "{progress:?}");
        if progress.finished {
            return Ok(progress);
        }
    }
}

pub(crate) async fn close(client: &Client, period: NaiveDate) -> ClosePeriodResponse {
    try_close(client, period).await.unwrap()
}

/// An account's documents, oldest first.
pub(crate) async fn documents(client: &Client, account: &str) -> Vec<Invoice> {
    let request = ListInvoicesRequest { account: account.to_owned(), ..Default::default() };
    let mut listed = client.billing().list_invoices(request).await.unwrap().into_inner().invoices;
    listed.reverse();
    listed
}

async fn show(client: &Client, invoice: &Invoice) -> InvoiceDetails {
    let request = GetInvoiceRequest { invoice: invoice.document_id.clone() };
    let shown = client.billing().get_invoice(request).await.unwrap().into_inner();
    shown.invoice.unwrap()
}

fn decimal(money: Option<&tollgate::proto::Money>) -> Decimal {
    world::decimal(money)
}

fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// A world with a seller.
pub(crate) async fn world() -> World {
    let world = World::start().await;
    set_seller(&world.client).await;
    world
}

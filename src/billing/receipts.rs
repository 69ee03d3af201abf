//! The documents of a top-up. Where no tax falls due on payment, a receipt; where it does, the
//! payment is split into credits and tax and has a prepayment invoice.
//!
//! A payment is gross: what the customer's bank or card was charged, so that it can be compared with
//! the processor's records. Not every payment is a sum of an amount and its rounded tax; what is
//! left, at most a minor unit or what is below one, becomes credits, too.

use rust_decimal::Decimal;
use sqlx::PgConnection;

use crate::{
    accounts,
    billing::{
        assembly::{blank, subtotal},
        document::{Document, DocumentKind, Line, LineClass, TaxCategory, Totals},
        documents::{self, Filing},
        error::BillingError,
        seller::{Seller, store as sellers},
        tax::Taxation,
    },
    ids::CauseId,
    ledger::{
        credits::{self, TopUp, TopUpTax, ToppedUp},
        store,
    },
    money::Amount,
};

/// Credits a payment, once, and issues what confirms it. Without a seller nothing is issued, and
/// nothing can be taxed.
///
/// # Errors
/// As [`credits::top_up`]; [`BillingError::SellerNotSet`] where the payment has to be taxed.
pub async fn top_up(
    connection: &mut PgConnection,
    order: &TopUp,
) -> Result<ToppedUp, BillingError> {
    // The account cannot change between the look at its contract and the posting.
    store::lock(connection, order.account).await?;
    let account = accounts::read(connection, order.account).await?;
    let today = store::today(connection).await?;
    let taxation = sellers::taxation(connection, &account.contract, today).await?;
    let is_taxed = taxation.due_on_payment && !taxation.rate_percent().is_zero();
    let seller = match sellers::seller(connection).await? {
        Some((seller, _)) => seller,
        None if is_taxed => return Err(BillingError::SellerNotSet),
        None => return Ok(credits::top_up(connection, order).await?),
    };
    let decimals = account.currency.minor_unit();
    let (kind, net, tax) = if is_taxed {
        let parts = order.amount.is_positive().then(|| taxation.within(order.amount, decimals));
        let (net, tax) = parts.flatten().unwrap_or((order.amount, Amount::ZERO));
        (DocumentKind::PrepaymentInvoice, net, tax)
    } else {
        (DocumentKind::Receipt, order.amount.rounded(decimals), Amount::ZERO)
    };
    let part = TopUpTax { amount: tax, jurisdiction: taxation.jurisdiction };
    let done = credits::taxed_top_up(connection, order, &part).await?;
    // What is below a minor unit cannot be shown.
    if done.duplicate || !net.is_positive() {
        return Ok(done);
    }
    let document = Document {
        kind,
        ..confirmation(&blank(&account, &seller, today), &seller, &taxation, net, tax, is_taxed)?
    };
    let sold = if is_taxed { net } else { Amount::ZERO };
    let filing = Filing {
        id: CauseId::generate(),
        period: done.funds.period,
        posting: done.funds.posting,
        payment: Some(done.payment),
        taxed_credits_sold: sold,
        taxed_credits_used: Amount::ZERO,
    };
    documents::freeze(connection, document, &filing).await?;
    Ok(done)
}

fn confirmation(
    blank: &Document,
    seller: &Seller,
    taxation: &Taxation,
    net: Amount,
    tax: Amount,
    is_taxed: bool,
) -> Result<Document, BillingError> {
    let gross = net.checked_add(tax).ok_or(BillingError::TooLarge)?;
    let untaxed = Taxation {
        category: TaxCategory::OutsideScope,
        exemption_reason: "No tax falls due on this payment.".to_owned(),
        exemption_code: "VATEX-EU-O".to_owned(),
        ..taxation.clone()
    };
    let taxation = if is_taxed { taxation } else { &untaxed };
    Ok(Document {
        lines: vec![Line {
            position: 1,
            description: "Prepaid credits".to_owned(),
            model: String::new(),
            model_id: None,
            class: LineClass::Credits,
            tier_above: 0,
            price_version: None,
            service_days: None,
            quantity: Decimal::ONE,
            price: net.decimal().normalize(),
            list_price: None,
            discount_percent: None,
            net,
            tax: taxation.category.clone(),
        }],
        taxes: vec![subtotal(taxation, net, tax)],
        totals: Totals {
            lines: net,
            allowances: Amount::ZERO,
            net,
            tax,
            gross,
            paid: gross,
            due: Amount::ZERO,
        },
        notes: vec![format!("Received with thanks by {}.", seller.party.legal_name)],
        ..blank.clone()
    })
}

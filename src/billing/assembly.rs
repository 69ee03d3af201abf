//! The document of an account's month, and what closing that month posts: pure.
//!
//! Usage is exact to 12 decimals; a document's amounts are rounded to the minor unit, once on each
//! line and once for the tax of a category. So sums of lines and exact sums differ, by less than a
//! minor unit for each line, and the difference must go somewhere:
//!
//! - Where nothing was paid in advance, the invoice asks for the sum of its lines, and what that
//!   differs from the exact usage is posted to 5900. The period's 1100 clears to exactly zero.
//! - What credits and grants paid comes off as allowances, each rounded, but never more than the
//!   lines have left: an invoice never asks for less than nothing.
//! - Where they paid everything, nothing is asked for: the last allowance takes up what rounding
//!   left, and nothing is posted to 5900, because 1100 had nothing to clear.
//! - An SLA credit comes off what is unbilled; its rest becomes credits. It lowers the price before
//!   anything paid for it: what credits had paid of it is back among them, and was never taxed or
//!   used. Of what promotional credits paid, the document only notes that it became credits.
//!
//! Credits whose tax was charged when they were paid for come off before tax. Others are money that
//! was received, not a lower price: their usage is taxed, and they come off as paid in advance.

use std::collections::HashMap;

use chrono::{Days as CalendarDays, Months, NaiveDate};
use rust_decimal::Decimal;

use crate::{
    accounts::{account::Account, contract::PaymentTerms},
    billing::{
        document::{
            Allowance, AllowanceKind, Days, Document, DocumentKind, ElectronicAddress, Line,
            LineClass, Party, Reference, Remittance, TaxCategory, TaxSubtotal, Totals,
        },
        error::BillingError,
        seller::Seller,
        tax::Taxation,
    },
    catalog::version::PricedModel,
    ids::{ModelId, PriceVersionId},
    ledger::posting::ClosingParts,
    metering::quantities::TokenClass,
    money::Amount,
};

/// Days from the issue of an invoice to when it is due.
pub const PAYMENT_DAYS: u64 = 30;
/// Prepayment invoices that an allowance names; the newest.
pub const NAMED_PREPAYMENTS: usize = 10;

/// What an account used of one model at one price, in one context tier and one month of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSum {
    /// The model.
    pub model_id: ModelId,
    /// Its name.
    pub model: String,
    /// What it was charged by.
    pub price_version: PriceVersionId,
    /// The context tier; 0 is the base price.
    pub tier_above: i64,
    /// Answered from the gateway's own cache.
    pub cache_hit: bool,
    /// The month in which the work was done: an earlier one for late usage.
    pub month: NaiveDate,
    /// The first and the last day of it.
    pub days: Days,
    /// How many requests.
    pub requests: Decimal,
    /// How many tokens of each class.
    pub tokens: [(TokenClass, Decimal); 7],
    /// How many images.
    pub images: Decimal,
    /// The exact sum of the charges.
    pub charge: Amount,
}

/// Who paid for a period's usage, exactly; the three sum to its charges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Funding {
    /// Nobody yet: the period's 1100.
    pub unbilled: Amount,
    /// Credits, including those that will cure what was overdrawn.
    pub prepaid: Amount,
    /// Promotional credits.
    pub promotional: Amount,
    /// Promotional credits that left the books in the period, less what came back to them, which may
    /// be of usage of an earlier period.
    pub promotional_moved: Decimal,
}

/// A credit for missed availability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlaCredit {
    /// In whole minor units.
    pub amount: Amount,
    /// What was missed, in words.
    pub reason: String,
    /// How often and when, in words.
    pub evidence: String,
}

/// All that a month's document is made of.
#[derive(Debug, Clone, Copy)]
pub struct Month<'a> {
    /// Its first day.
    pub period: NaiveDate,
    /// When the document is issued.
    pub issue_date: NaiveDate,
    /// The customer.
    pub account: &'a Account,
    /// We.
    pub seller: &'a Seller,
    /// How it is taxed.
    pub taxation: &'a Taxation,
    /// What was used.
    pub usage: &'a [UsageSum],
    /// Every price version that `usage` names, and those they are discounted from.
    pub prices: &'a HashMap<PriceVersionId, PricedModel>,
    /// Who paid for it.
    pub funding: Funding,
    /// Credits whose tax was charged when they were paid for and that no document has used yet.
    pub taxed_credits: Amount,
    /// The prepayment invoices of these credits, newest first.
    pub prepayments: &'a [String],
    /// What is credited for missed availability.
    pub sla: Option<&'a SlaCredit>,
}

/// What closing a month makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// The document, without a number; `None` where there are no lines.
    pub document: Option<Document>,
    /// What is posted.
    pub parts: ClosingParts,
    /// How much of the taxed credits it used.
    pub taxed_credits_used: Amount,
}

/// Makes the document and the postings of a month.
///
/// # Errors
/// [`BillingError::Inconsistent`] where usage, prices and transfers contradict each other, and
/// [`BillingError::TooLarge`].
pub fn assemble(month: &Month<'_>) -> Result<Assembled, BillingError> {
    let decimals = month.account.currency.minor_unit();
    let category = &month.taxation.category;
    let lines = lines(month.period, month.usage, month.prices, category, decimals)?;
    let Funding { unbilled, prepaid, promotional, promotional_moved } = month.funding;
    let charged = sum(month.usage.iter().map(|usage| usage.charge))?;
    if charged != sum([unbilled, prepaid, promotional])? {
        return Err(BillingError::Inconsistent(format!(
            "account {}, {}: events of {charged} were funded with {unbilled} + {prepaid} + \
             {promotional}",
            month.account.handle, month.period
        )));
    }

    let total = sum(lines.iter().map(|line| line.net))?;
    let settled = settle(month, total, decimals)?;
    let moved =
        |moved: Decimal| Amount::new(moved.max(Decimal::ZERO)).map_err(|_| BillingError::TooLarge);
    let mut parts = ClosingParts {
        unbilled,
        invoiced: Amount::ZERO,
        tax: Amount::ZERO,
        jurisdiction: month.taxation.jurisdiction,
        promotional_used: moved(promotional_moved)?,
        promotional_returned: moved(-promotional_moved)?,
        sla_unbilled: settled.sla_unbilled,
        sla_credits: settled.sla_credits,
    };
    if lines.is_empty() {
        return Ok(Assembled { document: None, parts, taxed_credits_used: Amount::ZERO });
    }
    parts.invoiced = settled.net.minus_to_zero(settled.paid);
    parts.tax = settled.tax;
    let taxed_credits_used = settled.taxed_credits_used;
    let document = Some(document(month, lines, total, &settled)?);
    Ok(Assembled { document, parts, taxed_credits_used })
}

/// The lines of a month: one for each model, class, context tier, price version and month of work,
/// those of the period itself first.
///
/// # Errors
/// As [`assemble`].
pub(crate) fn lines(
    period: NaiveDate,
    usage: &[UsageSum],
    prices: &HashMap<PriceVersionId, PricedModel>,
    tax: &TaxCategory,
    decimals: u32,
) -> Result<Vec<Line>, BillingError> {
    let mut usage: Vec<&UsageSum> = usage.iter().collect();
    usage.sort_by_key(|sum| {
        let late = sum.month != period;
        (late, sum.month, &sum.model, sum.price_version, sum.tier_above, sum.cache_hit)
    });
    let mut lines = Vec::new();
    for sum in usage {
        let mut exact = Amount::ZERO;
        let price = priced(prices, sum.price_version)?;
        let list = match price.derivation {
            Some(derivation) => Some((priced(prices, derivation.from)?, derivation.percent)),
            None => None,
        };
        for class in LineClass::ALL {
            let quantity = count_of(sum, class);
            let rate = rate_of(price, class, sum)?;
            if quantity.is_zero() || rate.is_zero() {
                continue;
            }
            let amount = worth(quantity, rate, class)?;
            exact = exact.checked_add(amount).ok_or(BillingError::TooLarge)?;
            let list_price = list.map(|(list, _)| rate_of(list, class, sum)).transpose()?;
            let position = u32::try_from(lines.len()).unwrap_or(u32::MAX).saturating_add(1);
            lines.push(Line {
                position,
                description: describe(sum, class),
                model: sum.model.clone(),
                model_id: Some(sum.model_id),
                class,
                tier_above: sum.tier_above,
                price_version: Some(sum.price_version),
                service_days: Some(sum.days),
                quantity: quantity.normalize(),
                price: rate.normalize(),
                list_price: list_price.map(|price| price.normalize()),
                discount_percent: list.map(|(_, percent)| percent),
                net: amount.rounded(decimals),
                tax: tax.clone(),
            });
        }
        if exact != sum.charge {
            let UsageSum { model, price_version, charge, .. } = sum;
            return Err(BillingError::Inconsistent(format!(
                "{model} at price version {price_version}: events of {charge} recompute to {exact}"
            )));
        }
    }
    Ok(lines)
}

/// How much of a class was used. An answer from the gateway's own cache counts as that alone.
fn count_of(sum: &UsageSum, class: LineClass) -> Decimal {
    match class {
        LineClass::CachedResponse if sum.cache_hit => sum.requests,
        _ if sum.cache_hit => Decimal::ZERO,
        LineClass::Image => sum.images,
        LineClass::Request => sum.requests,
        _ => {
            let found = sum.tokens.iter().find(|(tokens, _)| class.token_class() == Some(*tokens));
            found.map_or(Decimal::ZERO, |(_, count)| *count)
        }
    }
}

fn priced(
    prices: &HashMap<PriceVersionId, PricedModel>,
    version: PriceVersionId,
) -> Result<&PricedModel, BillingError> {
    prices.get(&version).ok_or_else(|| {
        BillingError::Inconsistent(format!("price version {version} does not exist"))
    })
}

/// The price of a class's base quantity.
fn rate_of(price: &PricedModel, class: LineClass, sum: &UsageSum) -> Result<Decimal, BillingError> {
    let card = price.price.card();
    let rates = match u64::try_from(sum.tier_above) {
        Ok(0) => card.rates(),
        Ok(above) => card
            .tiers()
            .iter()
            .find(|tier| tier.above == above)
            .map(|tier| &tier.rates)
            .ok_or_else(|| no_tier(price, sum))?,
        Err(_) => return Err(no_tier(price, sum)),
    };
    let per_token = class.token_class().map(|tokens| rates.of(tokens).decimal());
    Ok(match class {
        LineClass::Image => price.price.image().decimal(),
        LineClass::Request => price.price.request().decimal(),
        LineClass::CachedResponse => price.price.cached_response().decimal(),
        _ => per_token.unwrap_or_default(),
    })
}

fn no_tier(price: &PricedModel, sum: &UsageSum) -> BillingError {
    let (version, above) = (price.version, sum.tier_above);
    BillingError::Inconsistent(format!("price version {version} has no context tier {above}"))
}

/// quantity × price ÷ base quantity, exact: a rate has 6 decimals and a million tokens 6 more.
fn worth(quantity: Decimal, rate: Decimal, class: LineClass) -> Result<Amount, BillingError> {
    let per_unit = match class.base_quantity() {
        1_000_000 => Decimal::new(1, 6),
        _ => Decimal::ONE,
    };
    let exact = quantity.normalize().checked_mul(rate.normalize());
    let exact = exact.and_then(|worth| worth.normalize().checked_mul(per_unit));
    exact.and_then(|worth| Amount::new(worth).ok()).ok_or(BillingError::TooLarge)
}

fn describe(sum: &UsageSum, class: LineClass) -> String {
    let words = format!("{} – {}", sum.model, class.label());
    if sum.tier_above > 0 {
        return format!("{words}, prompts above {} tokens", sum.tier_above);
    }
    words
}

/// What comes off the lines, and what is left to ask for.
struct Settled {
    allowances: Vec<Allowance>,
    /// Of the SLA credit, what is not asked for, exactly.
    sla_unbilled: Amount,
    /// Of the SLA credit, what becomes credits.
    sla_credits: Amount,
    net: Amount,
    tax: Amount,
    /// What credits that were not taxed yet paid.
    paid: Amount,
    taxed_credits_used: Amount,
}

fn settle(month: &Month<'_>, lines: Amount, decimals: u32) -> Result<Settled, BillingError> {
    let Funding { unbilled, prepaid, promotional, .. } = month.funding;
    let mut left = lines;
    let mut take = |wanted: Amount| {
        let taken = wanted.min(left);
        left = left.minus_to_zero(taken);
        taken
    };

    let wanted = month.sla.map_or(Amount::ZERO, |sla| sla.amount.rounded(decimals));
    let sla_unbilled = wanted.min(unbilled);
    let sla_credits = wanted.minus_to_zero(sla_unbilled);
    let returned = sla_credits.min(prepaid);
    let mut sla = take(sla_unbilled.saturating_add(returned).rounded(decimals));
    let prepaid = prepaid.minus_to_zero(returned);
    let is_all_paid = unbilled.minus_to_zero(sla_unbilled).is_zero();

    let taxed_credits_used = prepaid.min(month.taxed_credits);
    let is_taxed = !month.taxation.rate_percent().is_zero();
    let untaxed = if is_taxed { prepaid.minus_to_zero(taxed_credits_used) } else { Amount::ZERO };
    let mut promotional = take(promotional.rounded(decimals));
    let mut credits = take(prepaid.minus_to_zero(untaxed).rounded(decimals));
    if is_all_paid && untaxed.is_zero() {
        let last = [&mut credits, &mut promotional, &mut sla];
        if let Some(last) = last.into_iter().find(|allowance| allowance.is_positive()) {
            *last = last.saturating_add(take(Amount::largest()));
        }
    }
    let net = left;
    let paid = match (untaxed.is_zero(), is_all_paid) {
        (true, _) => Amount::ZERO,
        (false, true) => net,
        (false, false) => untaxed.rounded(decimals).min(net),
    };
    let tax = month.taxation.on(net, decimals).ok_or(BillingError::TooLarge)?;

    let allowances = [
        (AllowanceKind::PrepaidCredits, prepaid_reason(month), credits),
        (
            AllowanceKind::PromotionalCredits,
            "Paid with promotional credits".to_owned(),
            promotional,
        ),
        (
            AllowanceKind::ServiceLevelCredit,
            month.sla.map(|sla| sla.reason.clone()).unwrap_or_default(),
            sla,
        ),
    ];
    let allowances = allowances
        .into_iter()
        .filter(|(_, _, amount)| amount.is_positive())
        .map(|(kind, reason, amount)| Allowance {
            kind,
            reason,
            amount,
            tax: month.taxation.category.clone(),
        })
        .collect();
    Ok(Settled { allowances, sla_unbilled, sla_credits, net, tax, paid, taxed_credits_used })
}

fn prepaid_reason(month: &Month<'_>) -> String {
    let named: Vec<&str> =
        month.prepayments.iter().take(NAMED_PREPAYMENTS).map(String::as_str).collect();
    if named.is_empty() {
        return "Paid with prepaid credits".to_owned();
    }
    format!("Paid with prepaid credits, invoiced by {}", named.join(", "))
}

fn document(
    month: &Month<'_>,
    lines: Vec<Line>,
    total: Amount,
    settled: &Settled,
) -> Result<Document, BillingError> {
    let contract = &month.account.contract;
    let gross = sum([settled.net, settled.tax])?;
    let due = gross.minus_to_zero(settled.paid);
    let is_invoice = contract.payment_terms == PaymentTerms::Net30
        || month.funding.unbilled.is_positive()
        || due.is_positive();
    let kind = if is_invoice { DocumentKind::Invoice } else { DocumentKind::UsageStatement };
    let mut period = days_of(month.period);
    for days in lines.iter().filter_map(|line| line.service_days) {
        period.first = period.first.min(days.first);
        period.last = period.last.max(days.last);
    }
    Ok(Document {
        kind,
        due_date: due_date(due, month.issue_date),
        service_period: Some(period),
        lines,
        allowances: settled.allowances.clone(),
        taxes: vec![subtotal(month.taxation, settled.net, settled.tax)],
        totals: Totals {
            lines: total,
            allowances: sum(settled.allowances.iter().map(|allowance| allowance.amount))?,
            net: settled.net,
            tax: settled.tax,
            gross,
            paid: settled.paid,
            due,
        },
        remittance: due.is_positive().then(|| remittance(month.seller)),
        notes: notes(month, settled),
        ..blank(month.account, month.seller, month.issue_date)
    })
}

/// A document of this customer that says nothing yet.
pub(super) fn blank(account: &Account, seller: &Seller, issue_date: NaiveDate) -> Document {
    let contract = &account.contract;
    Document {
        kind: DocumentKind::Invoice,
        number: None,
        account_id: account.account_id,
        account_handle: account.handle.clone(),
        currency: account.currency,
        issue_date,
        due_date: None,
        service_period: None,
        seller: seller.party.clone(),
        buyer: buyer(account),
        purchase_order: contract.purchase_order.clone(),
        buyer_reference: account.handle.clone(),
        cost_centre: contract.cost_centre.clone(),
        preceding: Vec::new(),
        reason: String::new(),
        lines: Vec::new(),
        allowances: Vec::new(),
        taxes: Vec::new(),
        totals: Totals {
            lines: Amount::ZERO,
            allowances: Amount::ZERO,
            net: Amount::ZERO,
            tax: Amount::ZERO,
            gross: Amount::ZERO,
            paid: Amount::ZERO,
            due: Amount::ZERO,
        },
        remittance: None,
        notes: Vec::new(),
    }
}

/// An invoice that was wrong as a document, billed again: the same lines and allowances, to the
/// customer and with the tax as they are now.
///
/// # Errors
/// [`BillingError::TooLarge`].
pub(super) fn billed_again(
    invoice: &Document,
    account: &Account,
    seller: &Seller,
    taxation: &Taxation,
    issue_date: NaiveDate,
) -> Result<Document, BillingError> {
    let Totals { net, paid, .. } = invoice.totals;
    let decimals = account.currency.minor_unit();
    let tax = taxation.on(net, decimals).ok_or(BillingError::TooLarge)?;
    let gross = sum([net, tax])?;
    let due = gross.minus_to_zero(paid);
    let category = &taxation.category;
    let number = invoice.number.clone().unwrap_or_default();
    let mut notes = vec![format!("Replaces invoice {number} of {}.", invoice.issue_date)];
    if tax.is_positive() && !taxation.label.is_empty() {
        notes.push(tax_note(taxation));
    }
    let is_told_anew = |note: &&String| note.starts_with(TAX_NOTE) || note.starts_with("Replaces ");
    notes.extend(invoice.notes.iter().filter(|note| !is_told_anew(note)).cloned());
    Ok(Document {
        due_date: due_date(due, issue_date),
        service_period: invoice.service_period,
        preceding: vec![Reference { number, issue_date: invoice.issue_date }],
        lines: invoice
            .lines
            .iter()
            .map(|line| Line { tax: category.clone(), ..line.clone() })
            .collect(),
        allowances: invoice
            .allowances
            .iter()
            .map(|allowance| Allowance { tax: category.clone(), ..allowance.clone() })
            .collect(),
        taxes: vec![subtotal(taxation, net, tax)],
        totals: Totals { tax, gross, due, ..invoice.totals },
        remittance: due.is_positive().then(|| remittance(seller)),
        notes,
        ..blank(account, seller, issue_date)
    })
}

fn due_date(due: Amount, issue_date: NaiveDate) -> Option<NaiveDate> {
    due.is_positive()
        .then(|| issue_date.checked_add_days(CalendarDays::new(PAYMENT_DAYS)))
        .flatten()
}

/// How the note of what a tax is called begins.
const TAX_NOTE: &str = "Tax: ";

fn tax_note(taxation: &Taxation) -> String {
    format!("{TAX_NOTE}{}", taxation.label)
}

/// The tax of a document's one category.
pub(super) fn subtotal(taxation: &Taxation, taxable: Amount, amount: Amount) -> TaxSubtotal {
    TaxSubtotal {
        tax: taxation.category.clone(),
        taxable,
        amount,
        exemption_reason: taxation.exemption_reason.clone(),
        exemption_code: taxation.exemption_code.clone(),
    }
}

fn buyer(account: &Account) -> Party {
    let contract = &account.contract;
    let name = [&contract.legal_name, &account.display_name];
    let email = &contract.accounts_payable_email;
    Party {
        legal_name: name.into_iter().find(|name| !name.is_empty()).cloned().unwrap_or_default(),
        address: contract.address.clone(),
        registration_id: contract.registration_id.clone(),
        tax_id: contract.tax_id.clone(),
        electronic_address: (!email.is_empty())
            .then(|| ElectronicAddress { scheme: "EM".to_owned(), address: email.clone() }),
        email: email.clone(),
        ..Party::default()
    }
}

fn remittance(seller: &Seller) -> Remittance {
    let mut remittance = seller.remittance.clone();
    if remittance.terms.is_empty() {
        remittance.terms = format!("Net {PAYMENT_DAYS} days");
    }
    remittance
}

fn notes(month: &Month<'_>, settled: &Settled) -> Vec<String> {
    let mut notes = Vec::new();
    if settled.tax.is_positive() && !month.taxation.label.is_empty() {
        notes.push(tax_note(month.taxation));
    }
    if settled.paid.is_positive() {
        notes.push(format!(
            "{} {} was paid in advance with credits.",
            settled.paid, month.account.currency
        ));
    }
    if let Some(sla) = month.sla {
        notes.push(format!("{}. {}", sla.reason, sla.evidence));
    }
    if settled.sla_credits.is_positive() {
        notes.push(format!(
            "{} {} of the credit for it was added to the account's credits.",
            settled.sla_credits, month.account.currency
        ));
    }
    if month.usage.iter().any(|usage| usage.month != month.period) {
        notes.push("Includes usage of earlier months that was reported late.".to_owned());
    }
    notes
}

/// The first and the last day of a month.
#[must_use]
pub fn days_of(period: NaiveDate) -> Days {
    let last = period.checked_add_months(Months::new(1)).and_then(|next| next.pred_opt());
    Days { first: period, last: last.unwrap_or(period) }
}

fn sum(amounts: impl IntoIterator<Item = Amount>) -> Result<Amount, BillingError> {
    amounts.into_iter().try_fold(Amount::ZERO, Amount::checked_add).ok_or(BillingError::TooLarge)
}

#[cfg(test)]
#[path = "assembly_tests.rs"]
mod tests;

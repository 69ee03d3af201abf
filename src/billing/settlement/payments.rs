//! Payments for invoices: recorded, allocated, returned.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;

use super::{
    SettlementError, Share,
    plan::{Rules, plan},
    store::{self, Entry},
};
use crate::{
    billing::{dunning, error::BillingError},
    ids::{AccountId, CauseId},
    ledger::{
        chart::{LedgerCode, PaymentMethod},
        credits::{MAX_NOTE, MAX_REFERENCE, check_amount, optional, refuse_closed, required},
        error::LedgerError,
        posting::Posting,
        settling::PaymentParts,
        store::{Cause, Funds, announce, lock, post, today},
    },
    money::{Amount, Currency},
};

/// A payment for invoices.
#[derive(Debug, Clone)]
pub struct PaymentOrder {
    /// Who paid.
    pub account: AccountId,
    /// What the customer paid, the fee included.
    pub amount: Amount,
    /// The amount's currency, which must be the account's.
    pub currency: Currency,
    /// How it was paid.
    pub method: PaymentMethod,
    /// The payment's id at its processor or bank; unique per method, also among top-ups.
    pub external_reference: String,
    /// When it reached us; today where it is not said.
    pub received_on: Option<NaiveDate>,
    /// The invoices that it pays.
    pub shares: Vec<Share>,
    /// What the shares leave goes to open invoices, those that are due first.
    pub oldest_first: bool,
    /// What a bank or processor kept of it.
    pub fee: Amount,
    /// A remark.
    pub note: String,
    /// The caller's idempotency key; may be empty.
    pub idempotency_key: String,
}

/// What a part of a payment, credit note or write-off did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettlementKind {
    /// It paid an invoice.
    Payment,
    /// The payer kept it back as tax.
    Withholding,
    /// It belongs to no invoice.
    UnappliedReceipt,
    /// What belonged to none went to an invoice.
    Allocation,
    /// It went back.
    PaymentReturn,
    /// A credit note took it off.
    CreditNote,
    /// It was given up.
    WriteOff,
    /// It paid what had been given up.
    Recovery,
}

impl SettlementKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Payment,
        Self::Withholding,
        Self::UnappliedReceipt,
        Self::Allocation,
        Self::PaymentReturn,
        Self::CreditNote,
        Self::WriteOff,
        Self::Recovery,
    ];

    /// The name in the database and in the contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Withholding => "withholding",
            Self::UnappliedReceipt => "unapplied_receipt",
            Self::Allocation => "allocation",
            Self::PaymentReturn => "payment_return",
            Self::CreditNote => "credit_note",
            Self::WriteOff => "write_off",
            Self::Recovery => "recovery",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One movement of a payment or credit note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// What it did.
    pub kind: SettlementKind,
    /// The invoice; `None` for what belongs to none.
    pub document: Option<CauseId>,
    /// The invoice's number.
    pub number: String,
    /// Above zero what was given, below what was taken back.
    pub amount: Amount,
    /// Of a recovery, the tax in it.
    pub tax: Amount,
    /// When.
    pub settled_at: DateTime<Utc>,
}

/// A payment for invoices and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Its id.
    pub id: CauseId,
    /// Who paid.
    pub account: AccountId,
    /// The currency of every amount.
    pub currency: Currency,
    /// What the customer paid.
    pub amount: Amount,
    /// How.
    pub method: PaymentMethod,
    /// Its id at its processor or bank.
    pub external_reference: String,
    /// When it reached us.
    pub received_on: NaiveDate,
    /// What a bank or processor kept of it.
    pub fee: Amount,
    /// A remark.
    pub note: String,
    /// When it was recorded.
    pub recorded_at: DateTime<Utc>,
    /// What went back.
    pub returned: Amount,
    /// What belongs to no invoice.
    pub unapplied: Amount,
    /// Its movements, oldest first; empty in lists.
    pub settlements: Vec<Settlement>,
}

/// Which payments to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct PaymentFilter {
    /// Only of this account.
    pub account: Option<AccountId>,
    /// Only those of which something belongs to no invoice.
    pub only_unapplied: bool,
    /// Only those before this one.
    pub before: Option<CauseId>,
    /// At most so many.
    pub limit: i64,
}

/// Records a payment, once: the same reference again changes nothing. The second part of the answer
/// says whether it was recorded before.
///
/// # Errors
/// [`SettlementError`] and [`LedgerError`] name what does not fit; [`BillingError::UnknownDocument`].
pub async fn record(
    connection: &mut PgConnection,
    order: &PaymentOrder,
) -> Result<(Payment, bool), BillingError> {
    let reference = required("external_reference", &order.external_reference, MAX_REFERENCE)?;
    let note = optional("note", &order.note, MAX_NOTE)?;
    let mut funds = lock(connection, order.account).await?;
    let decimals = funds.currency.minor_unit();
    check_amount(&funds, order.amount, order.currency)?;
    check_fee(order, decimals)?;
    let today = today(connection).await?;
    let received_on = order.received_on.unwrap_or(today);
    if received_on > today {
        return Err(SettlementError::NotYet(received_on).into());
    }

    let id = CauseId::generate();
    let new = store::NewPayment {
        id,
        account: order.account,
        posting: funds.posting.saturating_add(1),
        method: order.method,
        reference,
        amount: order.amount,
        currency: order.currency,
        fee: order.fee,
        received_on,
        note,
    };
    if !store::insert_payment(connection, &new).await? {
        let id = recorded_before(connection, order, reference).await?;
        return Ok((payment(connection, id).await?, true));
    }
    let names: Vec<&str> = order.shares.iter().map(|share| share.invoice.as_str()).collect();
    let standings = store::standings(connection, order.account, &names, order.oldest_first).await?;
    let rules = Rules { oldest_first: order.oldest_first, can_recover: true, decimals };
    let (planned, unapplied) = plan(order.amount, &order.shares, &standings, rules)?;
    let mut parts = PaymentParts { unapplied, fee: order.fee, ..PaymentParts::default() };
    let mut tax_code = LedgerCode::tax(None);
    let mut entries = vec![Entry::new(SettlementKind::UnappliedReceipt, id, None, unapplied)];
    for one in planned {
        let document = Some(one.invoice);
        if one.recovers {
            let code = store::tax_code(connection, one.invoice).await?;
            if parts.recovered.is_positive() && code != tax_code {
                return Err(SettlementError::SeveralTaxes.into());
            }
            tax_code = code;
            parts.recovered = parts.recovered.saturating_add(one.amount.minus_to_zero(one.tax));
            parts.recovered_tax = parts.recovered_tax.saturating_add(one.tax);
            let recovery = Entry::new(SettlementKind::Recovery, id, document, one.amount);
            entries.push(Entry { tax: one.tax, ..recovery });
        } else {
            parts.applied = parts.applied.saturating_add(one.amount);
            parts.withheld = parts.withheld.saturating_add(one.withheld);
            entries.push(Entry::new(SettlementKind::Payment, id, document, one.amount));
            entries.push(Entry::new(SettlementKind::Withholding, id, document, one.withheld));
        }
    }
    // A closed account owes nothing, but may pay what was written off.
    if parts.applied.is_positive() || parts.unapplied.is_positive() {
        refuse_closed(&funds)?;
    }
    let posting = Posting::payment(&parts, tax_code, order.method);
    let key = &order.idempotency_key;
    settle(connection, &mut funds, posting, (id, key, note), &entries).await?;
    dunning::release(connection, order.account).await?;
    Ok((payment(connection, id).await?, false))
}

fn check_fee(order: &PaymentOrder, decimals: u32) -> Result<(), SettlementError> {
    let PaymentOrder { amount, fee, .. } = order;
    if fee.is_negative() || fee > amount {
        let remedy = "give what was kept out of the payment, at most all of it";
        return Err(SettlementError::Amount { field: "fee", amount: *fee, remedy });
    }
    for (field, amount) in [("amount.amount", *amount), ("fee", *fee)] {
        if amount.rounded(decimals) != amount {
            return Err(SettlementError::TooFine { field, amount, decimals });
        }
    }
    Ok(())
}

async fn recorded_before(
    connection: &mut PgConnection,
    order: &PaymentOrder,
    reference: &str,
) -> Result<CauseId, BillingError> {
    let earlier = store::earlier_payment(connection, order.method, reference).await?;
    let (field, recorded) = if earlier.is_top_up {
        ("purpose", "a top-up".to_owned())
    } else if earlier.account_id != order.account {
        ("account", earlier.account_id.to_string())
    } else if earlier.amount != order.amount {
        ("amount", earlier.amount.to_string())
    } else if earlier.fee != order.fee {
        ("fee", earlier.fee.to_string())
    } else {
        return Ok(earlier.payment_id);
    };
    Err(LedgerError::RecordedDifferently {
        what: "payment",
        id: earlier.payment_id,
        method: order.method,
        reference: reference.to_owned(),
        field,
        recorded,
    }
    .into())
}

/// Posts, and writes what became of invoices beside it.
pub(super) async fn settle(
    connection: &mut PgConnection,
    funds: &mut Funds,
    posting: Posting,
    (id, idempotency_key, description): (CauseId, &str, &str),
    entries: &[Entry],
) -> Result<i64, BillingError> {
    let period = funds.period;
    let cause = Cause { id, idempotency_key, description, period };
    let posting = post(connection, funds, posting, &cause).await?;
    if posting > 0 {
        store::insert_entries(connection, funds.account_id, posting, entries).await?;
    }
    announce(connection, funds.account_id).await?;
    Ok(posting)
}

/// A payment with its movements.
///
/// # Errors
/// [`SettlementError::UnknownPayment`], and failures of the database.
pub async fn payment(connection: &mut PgConnection, id: CauseId) -> Result<Payment, BillingError> {
    let found = store::payment(connection, id).await?;
    found.ok_or_else(|| SettlementError::UnknownPayment(id.to_string()).into())
}

/// Payments for invoices, newest first.
///
/// # Errors
/// Failures of the database.
pub async fn list(
    connection: &mut PgConnection,
    filter: &PaymentFilter,
) -> Result<Vec<Payment>, BillingError> {
    store::payments(connection, filter).await
}

/// What is unapplied of a payment or credit note, for invoices.
#[derive(Debug, Clone)]
pub struct AllocationOrder {
    /// The payment's id, or the credit note's number or id.
    pub payment: String,
    /// The invoices that it pays.
    pub shares: Vec<Share>,
    /// What the shares leave goes to open invoices, those that are due first.
    pub oldest_first: bool,
    /// The caller's idempotency key; may be empty.
    pub idempotency_key: String,
}

/// What an allocation left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocated {
    /// Whose.
    pub account: AccountId,
    /// The currency of every amount.
    pub currency: Currency,
    /// What went to invoices.
    pub applied: Amount,
    /// What still belongs to none.
    pub unapplied: Amount,
}

/// Gives invoices what was unapplied.
///
/// # Errors
/// As [`record`]; [`SettlementError::UnknownPayment`].
pub async fn allocate(
    connection: &mut PgConnection,
    order: &AllocationOrder,
) -> Result<Allocated, BillingError> {
    let source = store::source(connection, &order.payment).await?;
    let source = source.ok_or_else(|| SettlementError::UnknownPayment(order.payment.clone()))?;
    if order.shares.is_empty() && !order.oldest_first {
        return Err(SettlementError::NoInvoices.into());
    }
    if let Some(share) = order.shares.iter().find(|share| !share.withheld.is_zero()) {
        return Err(SettlementError::Amount {
            field: "allocations.withheld",
            amount: share.withheld,
            remedy: "tax is withheld from a payment; record it with RecordPayment",
        }
        .into());
    }
    let mut funds = lock(connection, source.account_id).await?;
    let available = store::unapplied(connection, source.source_id).await?;
    let names: Vec<&str> = order.shares.iter().map(|share| share.invoice.as_str()).collect();
    let standings =
        store::standings(connection, source.account_id, &names, order.oldest_first).await?;
    let decimals = funds.currency.minor_unit();
    let rules = Rules { oldest_first: order.oldest_first, can_recover: false, decimals };
    let (planned, unapplied) = plan(available, &order.shares, &standings, rules)?;
    let applied = available.minus_to_zero(unapplied);
    let id = source.source_id;
    let kind = SettlementKind::Allocation;
    let given = planned.iter().map(|one| Entry::new(kind, id, Some(one.invoice), one.amount));
    let entries: Vec<Entry> =
        given.chain([Entry::new(kind, id, None, applied).taken_back()]).collect();
    let cause = (id, order.idempotency_key.as_str(), "allocation");
    settle(connection, &mut funds, Posting::allocation(applied), cause, &entries).await?;
    dunning::release(connection, source.account_id).await?;
    Ok(Allocated { account: source.account_id, currency: funds.currency, applied, unapplied })
}

/// A payment that went back.
#[derive(Debug, Clone)]
pub struct ReturnOrder {
    /// The payment.
    pub payment: CauseId,
    /// How much of it; all that is left where it is not said.
    pub amount: Option<(Amount, Currency)>,
    /// The return's id at the processor or bank; unique for the payment.
    pub external_reference: String,
    /// Why.
    pub reason: String,
    /// The caller's idempotency key; may be empty.
    pub idempotency_key: String,
}

/// Takes a payment back, once per reference: first what belongs to no invoice, then what invoices got
/// of it, the last first; those are open again. With the last of it the tax that was withheld beside
/// it is owed again, too.
///
/// # Errors
/// [`SettlementError::UnknownPayment`], [`SettlementError::MoreThanLeft`], [`LedgerError`].
pub async fn reverse(
    connection: &mut PgConnection,
    order: &ReturnOrder,
) -> Result<Payment, BillingError> {
    let reference = required("external_reference", &order.external_reference, MAX_REFERENCE)?;
    let reason = required("reason", &order.reason, MAX_NOTE)?;
    let account = payment(connection, order.payment).await?.account;
    let mut funds = lock(connection, account).await?;
    // Again, under the lock.
    let paid = payment(connection, order.payment).await?;
    let left = paid.amount.minus_to_zero(paid.returned);
    let asked = asked(&funds, order.amount)?;
    if let Some(earlier) = store::earlier_return(connection, paid.id, reference).await? {
        same_return(earlier, asked, paid.method, reference)?;
        return Ok(paid);
    }
    let amount = returnable(asked, left, funds.currency)?;
    let (parts, entries, recovered) = taken_back(&paid, amount, amount == left);
    let tax_code = match recovered {
        Some(invoice) => store::tax_code(connection, invoice).await?,
        None => LedgerCode::tax(None),
    };
    let id = CauseId::generate();
    let posting = Posting::payment_return(&parts, tax_code, paid.method);
    let cause = (id, order.idempotency_key.as_str(), reason);
    let posting = settle(connection, &mut funds, posting, cause, &entries).await?;
    let new = store::NewReturn { id, account, posting, source: paid.id, reference, amount, reason };
    store::insert_return(connection, &new).await?;
    payment(connection, paid.id).await
}

/// What a credit note gave beyond what was open, paid out to the customer.
#[derive(Debug, Clone)]
pub struct PayoutOrder {
    /// The credit note's number or id.
    pub credit_note: String,
    /// How much; all that is unapplied where it is not said.
    pub amount: Option<(Amount, Currency)>,
    /// How it is paid out.
    pub method: PaymentMethod,
    /// The payout's id at the processor or bank; unique for the credit note.
    pub external_reference: String,
    /// Why.
    pub reason: String,
    /// The caller's idempotency key; may be empty.
    pub idempotency_key: String,
}

/// Pays out what is unapplied of a credit note, once per reference. What is unapplied after it.
///
/// # Errors
/// [`SettlementError::UnknownPayment`], [`SettlementError::MoreThanLeft`], [`LedgerError`].
pub async fn pay_out(
    connection: &mut PgConnection,
    order: &PayoutOrder,
) -> Result<(Amount, Currency), BillingError> {
    let reference = required("external_reference", &order.external_reference, MAX_REFERENCE)?;
    let reason = required("reason", &order.reason, MAX_NOTE)?;
    let source = store::source(connection, &order.credit_note).await?;
    let source =
        source.ok_or_else(|| SettlementError::UnknownPayment(order.credit_note.clone()))?;
    let mut funds = lock(connection, source.account_id).await?;
    let left = store::unapplied(connection, source.source_id).await?;
    let asked = asked(&funds, order.amount)?;
    if let Some(earlier) = store::earlier_return(connection, source.source_id, reference).await? {
        same_return(earlier, asked, order.method, reference)?;
        return Ok((left, funds.currency));
    }
    let amount = returnable(asked, left, funds.currency)?;
    let id = CauseId::generate();
    let parts = PaymentParts { unapplied: amount, ..PaymentParts::default() };
    let posting = Posting::payment_return(&parts, LedgerCode::tax(None), order.method);
    let kind = SettlementKind::PaymentReturn;
    let entry = Entry::new(kind, source.source_id, None, amount).taken_back();
    let cause = (id, order.idempotency_key.as_str(), reason);
    let posting = settle(connection, &mut funds, posting, cause, &[entry]).await?;
    let (account, source) = (source.account_id, source.source_id);
    let new = store::NewReturn { id, account, posting, source, reference, amount, reason };
    store::insert_return(connection, &new).await?;
    Ok((left.minus_to_zero(amount), funds.currency))
}

/// The amount that was asked for, in the account's currency.
fn asked(funds: &Funds, amount: Option<(Amount, Currency)>) -> Result<Option<Amount>, LedgerError> {
    let Some((amount, currency)) = amount else { return Ok(None) };
    check_amount(funds, amount, currency)?;
    Ok(Some(amount))
}

/// Refuses another amount under a reference that was recorded.
fn same_return(
    (id, recorded): (CauseId, Amount),
    asked: Option<Amount>,
    method: PaymentMethod,
    reference: &str,
) -> Result<(), LedgerError> {
    if asked.is_none_or(|asked| asked == recorded) {
        return Ok(());
    }
    Err(LedgerError::RecordedDifferently {
        what: "return",
        id,
        method,
        reference: reference.to_owned(),
        field: "amount",
        recorded: recorded.to_string(),
    })
}

/// What goes back: as much as was asked for, or all.
fn returnable(
    asked: Option<Amount>,
    left: Amount,
    currency: Currency,
) -> Result<Amount, SettlementError> {
    let amount = asked.unwrap_or(left);
    if amount > left || amount.is_zero() {
        return Err(SettlementError::MoreThanLeft { asked: amount, left });
    }
    let decimals = currency.minor_unit();
    if amount.rounded(decimals) != amount {
        return Err(SettlementError::TooFine { field: "amount.amount", amount, decimals });
    }
    Ok(amount)
}

/// What an invoice has of a payment.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    applied: Amount,
    withheld: Amount,
    recovered: Amount,
    recovered_tax: Amount,
}

/// From where a payment is taken back; also the invoice whose recovery it was.
fn taken_back(
    paid: &Payment,
    amount: Amount,
    is_all: bool,
) -> (PaymentParts, Vec<Entry>, Option<CauseId>) {
    let kind = SettlementKind::PaymentReturn;
    let mut parts =
        PaymentParts { unapplied: paid.unapplied.min(amount), ..PaymentParts::default() };
    let mut left = amount.minus_to_zero(parts.unapplied);
    let mut entries = vec![Entry::new(kind, paid.id, None, parts.unapplied).taken_back()];
    let mut recovery = None;
    for (document, held) in held(paid).into_iter().rev() {
        let applied = held.applied.min(left);
        left = left.minus_to_zero(applied);
        parts.applied = parts.applied.saturating_add(applied);
        entries.push(Entry::new(kind, paid.id, Some(document), applied).taken_back());
        if is_all && held.withheld.is_positive() {
            parts.withheld = parts.withheld.saturating_add(held.withheld);
            let kind = SettlementKind::Withholding;
            entries.push(Entry::new(kind, paid.id, Some(document), held.withheld).taken_back());
        }
        let recovered = held.recovered.min(left);
        if recovered.is_positive() {
            // The tax goes last: less than it was is owed only once all of the rest is back.
            let rest = held.recovered.minus_to_zero(recovered);
            let tax = held.recovered_tax.minus_to_zero(rest);
            left = left.minus_to_zero(recovered);
            recovery = Some(document);
            parts.recovered = parts.recovered.saturating_add(recovered.minus_to_zero(tax));
            parts.recovered_tax = parts.recovered_tax.saturating_add(tax);
            let entry = Entry::new(SettlementKind::Recovery, paid.id, Some(document), recovered);
            entries.push(Entry { tax, ..entry.taken_back() });
        }
    }
    (parts, entries, recovery)
}

/// What each invoice has of a payment, in the order in which they first got something.
fn held(paid: &Payment) -> Vec<(CauseId, Held)> {
    let mut held: Vec<(CauseId, Held)> = Vec::new();
    for settlement in &paid.settlements {
        let Some(document) = settlement.document else { continue };
        let at = held.iter().position(|(id, _)| *id == document).unwrap_or_else(|| {
            held.push((document, Held::default()));
            held.len().saturating_sub(1)
        });
        let Some((_, of)) = held.get_mut(at) else { continue };
        let add = |to: Amount, amount: Amount| to.checked_add(amount).unwrap_or(to);
        match settlement.kind {
            SettlementKind::Payment
            | SettlementKind::Allocation
            | SettlementKind::PaymentReturn => of.applied = add(of.applied, settlement.amount),
            SettlementKind::Withholding => of.withheld = add(of.withheld, settlement.amount),
            SettlementKind::Recovery => {
                of.recovered = add(of.recovered, settlement.amount);
                of.recovered_tax = add(of.recovered_tax, settlement.tax);
            }
            SettlementKind::UnappliedReceipt
            | SettlementKind::CreditNote
            | SettlementKind::WriteOff => {}
        }
    }
    held
}

//! What each kind of business posts. Pure: a flow gives transfers, [`Posting::on`] gives the
//! balances after them, and nothing here knows a database.
//!
//! | flow | transfers (debit → credit) |
//! |---|---|
//! | top-up | 1000 → 2000 |
//! | promotional grant, withdrawal | 1910 → 2010, 2010 → 1910 |
//! | usage | 2010, then 2000, then 1100 (Net-30) or 1150 (prepaid) → 4000 |
//! | reversal of usage | 4000 → 2010, 2000, 1100 or 1150: where it was funded |
//! | refund | 2000 → 1000, and of credits that were bought taxed 2100 → 1000 |
//! | chargeback opened | unspent 2000 → 1000, the rest and the tax 1250 → 1000 |
//! | chargeback won | 1000 → 2000 and 1000 → 1250 |
//! | chargeback lost | the tax of what was unspent 2100 → 1250, the rest 5100 → 1250 |
//! | overdraft cure | 2000 → 1150, whenever credits are added while something is overdrawn |
//! | top-up whose tax falls due on payment | also 1000 → 2100 |
//! | closing a month: invoice | 1200 → 1100, 1200 → 2100, what rounding changed 1100 ↔ 5900 |
//! | closing a month: promotional credits used | 4910 → 1910 |
//! | closing an account: what cannot be paid back | 2000 → 5900 |
//! | closing a month: what it cost ourselves | 5200 → 2200 |
//! | SLA credit | 4900 → 1100 up to what is unbilled, the rest 4900 → 2000 |
//!
//! What settles an invoice or takes it back is posted by [`settling`](crate::ledger::settling).

use crate::{
    ledger::{
        balances::{BalanceError, Balances},
        chart::{Jurisdiction, LedgerCode, Line, PaymentMethod},
        split::Sources,
    },
    money::Amount,
};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, [$($debit:ident -> $credit:ident),+];)*) => {
        /// What kind of business a transfer is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum TransferKind {
            $($(#[$doc])* $kind,)*
        }

        impl TransferKind {
            /// All of them.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// The name in the database and in the contract.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// Between which lines it may move money, as (debit, credit).
            #[must_use]
            pub const fn routes(self) -> &'static [(Line, Line)] {
                match self { $(Self::$kind => &[$((Line::$debit, Line::$credit)),+],)* }
            }
        }
    };
}

kinds! {
    /// A payment becomes credits.
    TopUp = "top_up", [Cash -> Credits];
    /// The tax in a payment.
    TopUpTax = "top_up_tax", [Cash -> TaxPayable];
    /// Credits are given.
    PromotionalGrant = "promotional_grant", [UnusedGrants -> Promotional];
    /// Unused given credits are taken back.
    PromotionalWithdrawal = "promotional_withdrawal", [Promotional -> UnusedGrants];
    /// Usage paid by promotional credits.
    UsagePromotional = "usage_promotional", [Promotional -> Revenue];
    /// Usage paid by credits.
    UsageCredits = "usage_credits", [Credits -> Revenue];
    /// Usage that an invoice will ask for.
    UsageUnbilled = "usage_unbilled", [Unbilled -> Revenue];
    /// Usage beyond prepaid funds.
    UsageOverdrawn = "usage_overdrawn", [Overdrawn -> Revenue];
    /// New credits pay for what was overdrawn.
    OverdraftCure = "overdraft_cure", [Credits -> Overdrawn];
    /// A usage charge goes back to where it was funded.
    Reversal = "reversal", [
        Revenue -> Promotional, Revenue -> Credits, Revenue -> Unbilled, Revenue -> Overdrawn
    ];
    /// Unused credits are paid back.
    Refund = "refund", [Credits -> Cash];
    /// The tax in a refund.
    RefundTax = "refund_tax", [TaxPayable -> Cash];
    /// The unspent part of a disputed payment.
    ChargebackUnspent = "chargeback_unspent", [Credits -> Cash];
    /// The spent part of a disputed payment.
    ChargebackSpent = "chargeback_spent", [Disputed -> Cash];
    /// The bank decided for us: both parts come back.
    ChargebackWon = "chargeback_won", [Cash -> Credits, Cash -> Disputed];
    /// The bank decided for the customer: the spent part will not be paid, and the tax of the unspent
    /// part is not owed.
    ChargebackLost = "chargeback_lost", [BadDebt -> Disputed, TaxPayable -> Disputed];
    /// The rest of a closing account.
    AccountClosing = "account_closing", [Credits -> Rounding];
    /// What an invoice asks for, without tax.
    Invoice = "invoice", [Receivable -> Unbilled];
    /// The tax that an invoice asks for.
    InvoiceTax = "invoice_tax", [Receivable -> TaxPayable];
    /// The rest between exact usage and an invoice's rounded lines.
    InvoiceRounding = "invoice_rounding", [Unbilled -> Rounding, Rounding -> Unbilled];
    /// A period's use of promotional credits becomes a discount; a later reversal takes it back.
    PromotionalUse = "promotional_use", [
        PromotionalDiscount -> UnusedGrants, UnusedGrants -> PromotionalDiscount
    ];
    /// A credit for missed availability.
    SlaCredit = "sla_credit", [SlaCredits -> Unbilled, SlaCredits -> Credits];
    /// An invoice is paid.
    Payment = "payment", [Cash -> Receivable];
    /// A receipt that belongs to no invoice yet.
    UnappliedReceipt = "unapplied_receipt", [Cash -> Unapplied];
    /// An unapplied receipt pays an invoice.
    Allocation = "allocation", [Unapplied -> Receivable];
    /// A payment went back: its invoice is open again, or what belonged to none is less.
    PaymentReturn = "payment_return", [
        Receivable -> Cash, Unapplied -> Cash, BadDebt -> Cash, TaxPayable -> Cash
    ];
    /// The payer kept tax back; a returned payment takes that back.
    Withholding = "withholding", [TaxWithheld -> Receivable, Receivable -> TaxWithheld];
    /// What a processor or bank kept of a payment.
    PaymentFee = "payment_fee", [PaymentFees -> Cash];
    /// What a credit note takes back, without tax.
    CreditNote = "credit_note", [
        Revenue -> Unbilled, SlaCredits -> Unbilled, Unbilled -> Receivable, Receivable -> Unapplied
    ];
    /// The tax that a credit note takes back.
    CreditNoteTax = "credit_note_tax", [TaxPayable -> Receivable];
    /// What an invoice asks for will not be paid.
    WriteOff = "write_off", [BadDebt -> Receivable];
    /// The tax of what will not be paid, where there is relief.
    WriteOffTax = "write_off_tax", [TaxPayable -> Receivable];
    /// What had been written off is paid after all.
    Recovery = "recovery", [Cash -> BadDebt, Cash -> TaxPayable];
    /// What a month's usage cost ourselves, in the currency of that cost.
    ProviderCost = "provider_cost", [CostOfRevenue -> ProviderPayable];
}

/// One movement of money: from one debit account to one credit account, above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// What kind of business it is.
    pub kind: TransferKind,
    /// The account that is debited.
    pub debit: LedgerCode,
    /// The account that is credited.
    pub credit: LedgerCode,
    /// How much, in the account's currency.
    pub amount: Amount,
}

/// The transfers of one posting, in order. Empty where nothing moves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Posting(Vec<Transfer>);

impl Posting {
    /// A payment becomes credits.
    #[must_use]
    pub fn top_up(amount: Amount, method: PaymentMethod) -> Self {
        Self::default().and(TransferKind::TopUp, LedgerCode::cash(method), Line::Credits, amount)
    }

    /// A payment becomes credits, less the tax that falls due on it.
    #[must_use]
    pub fn taxed_top_up(
        credits: Amount,
        tax: Amount,
        jurisdiction: Option<Jurisdiction>,
        method: PaymentMethod,
    ) -> Self {
        Self::top_up(credits, method).and(
            TransferKind::TopUpTax,
            LedgerCode::cash(method),
            LedgerCode::tax(jurisdiction),
            tax,
        )
    }

    /// A month is closed.
    #[must_use]
    pub fn closing(parts: &ClosingParts) -> Self {
        let (tax, billed) = (LedgerCode::tax(parts.jurisdiction), parts.invoiced);
        // What is asked beyond the exact usage is added first: 1100 never falls below zero.
        let left = parts.unbilled.minus_to_zero(parts.sla_unbilled);
        let (promotional, use_of) = (Line::UnusedGrants, TransferKind::PromotionalUse);
        Self::default()
            .and(use_of, Line::PromotionalDiscount, promotional, parts.promotional_used)
            .and(use_of, promotional, Line::PromotionalDiscount, parts.promotional_returned)
            .and(TransferKind::SlaCredit, Line::SlaCredits, Line::Unbilled, parts.sla_unbilled)
            .and(TransferKind::SlaCredit, Line::SlaCredits, Line::Credits, parts.sla_credits)
            .and(
                TransferKind::InvoiceRounding,
                Line::Unbilled,
                Line::Rounding,
                billed.minus_to_zero(left),
            )
            .and(TransferKind::Invoice, Line::Receivable, Line::Unbilled, billed)
            .and(
                TransferKind::InvoiceRounding,
                Line::Rounding,
                Line::Unbilled,
                left.minus_to_zero(billed),
            )
            .and(TransferKind::InvoiceTax, Line::Receivable, tax, parts.tax)
    }

    /// Promotional credits are given.
    #[must_use]
    pub fn grant(amount: Amount) -> Self {
        let (debit, credit) = (Line::UnusedGrants, Line::Promotional);
        Self::default().and(TransferKind::PromotionalGrant, debit, credit, amount)
    }

    /// Unused promotional credits are taken back.
    #[must_use]
    pub fn withdrawal(amount: Amount) -> Self {
        let (debit, credit) = (Line::Promotional, Line::UnusedGrants);
        Self::default().and(TransferKind::PromotionalWithdrawal, debit, credit, amount)
    }

    /// Unused credits are paid back.
    #[must_use]
    pub fn refund(amount: Amount, method: PaymentMethod) -> Self {
        Self::default().and(TransferKind::Refund, Line::Credits, LedgerCode::cash(method), amount)
    }

    /// What a month's usage cost ourselves.
    #[must_use]
    pub fn provider_cost(cost: Amount) -> Self {
        let (debit, credit) = (Line::CostOfRevenue, Line::ProviderPayable);
        Self::default().and(TransferKind::ProviderCost, debit, credit, cost)
    }

    /// What is left of a closing account's credits and is too little to be paid back.
    #[must_use]
    pub fn account_closing(residue: Amount) -> Self {
        let (debit, credit) = (Line::Credits, Line::Rounding);
        Self::default().and(TransferKind::AccountClosing, debit, credit, residue)
    }

    /// Unused credits are paid back with the tax that was paid for them.
    #[must_use]
    pub fn taxed_refund(credits: Amount, taxes: &[TaxBack], method: PaymentMethod) -> Self {
        let cash = LedgerCode::cash(method);
        taxes.iter().fold(Self::refund(credits, method), |posting, tax| {
            posting.and(TransferKind::RefundTax, tax.code, cash, tax.amount)
        })
    }

    /// A charge is taken from the sources that [`Sources::burning`] chose.
    #[must_use]
    pub fn usage(funded: &Sources) -> Self {
        Self::default()
            .and(
                TransferKind::UsagePromotional,
                Line::Promotional,
                Line::Revenue,
                funded.promotional,
            )
            .and(TransferKind::UsageCredits, Line::Credits, Line::Revenue, funded.credits)
            .and(TransferKind::UsageUnbilled, Line::Unbilled, Line::Revenue, funded.unbilled)
            .and(TransferKind::UsageOverdrawn, Line::Overdrawn, Line::Revenue, funded.overdrawn)
    }

    /// A charge goes back to where it was funded.
    #[must_use]
    pub fn reversal(funded: &Sources) -> Self {
        let kind = TransferKind::Reversal;
        Self::default()
            .and(kind, Line::Revenue, Line::Promotional, funded.promotional)
            .and(kind, Line::Revenue, Line::Credits, funded.credits)
            .and(kind, Line::Revenue, Line::Unbilled, funded.unbilled)
            .and(kind, Line::Revenue, Line::Overdrawn, funded.overdrawn)
    }

    /// A payment was disputed and its money is gone from us.
    #[must_use]
    pub fn chargeback_opened(parts: DisputedParts, method: PaymentMethod) -> Self {
        let cash = LedgerCode::cash(method);
        Self::default()
            .and(TransferKind::ChargebackUnspent, Line::Credits, cash, parts.unspent)
            .and(TransferKind::ChargebackSpent, Line::Disputed, cash, parts.spent)
    }

    /// The dispute was decided for us: the money and the credits are back.
    #[must_use]
    pub fn chargeback_won(parts: DisputedParts, method: PaymentMethod) -> Self {
        let cash = LedgerCode::cash(method);
        Self::default().and(TransferKind::ChargebackWon, cash, Line::Credits, parts.unspent).and(
            TransferKind::ChargebackWon,
            cash,
            Line::Disputed,
            parts.spent,
        )
    }

    /// The dispute was decided for the customer: what had been spent will not be paid, with its tax.
    /// That of what was unspent, at most `spent`, is not owed: nothing will be delivered for it.
    #[must_use]
    pub fn chargeback_lost(parts: DisputedParts, tax: Option<TaxBack>) -> Self {
        let kind = TransferKind::ChargebackLost;
        let back = tax.map_or(Amount::ZERO, |tax| tax.amount);
        let posting = match tax {
            Some(tax) => Self::default().and(kind, tax.code, Line::Disputed, tax.amount),
            None => Self::default(),
        };
        posting.and(kind, Line::BadDebt, Line::Disputed, parts.spent.minus_to_zero(back))
    }

    /// The transfers, in order.
    #[must_use]
    pub fn transfers(&self) -> &[Transfer] {
        &self.0
    }

    /// Whether nothing moves.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The posting as it is made on these balances, and the balances after it. Where it adds
    /// credits while something is overdrawn, the credits cure it first: credits and an overdraft
    /// never stand side by side.
    ///
    /// # Errors
    /// [`BalanceError`] names the balance that has too little or would be too large.
    pub fn on(mut self, before: Balances) -> Result<(Self, Balances), BalanceError> {
        let mut after = before;
        for transfer in &self.0 {
            after = after.after(transfer)?;
        }
        let cured = after.credits.min(after.overdrawn);
        if cured.is_positive() {
            let (debit, credit) = (Line::Credits, Line::Overdrawn);
            self = self.and(TransferKind::OverdraftCure, debit, credit, cured);
            after.credits = after.credits.minus_to_zero(cured);
            after.overdrawn = after.overdrawn.minus_to_zero(cured);
        }
        Ok((self, after))
    }

    /// Adds a transfer, unless nothing moves by it.
    pub(super) fn and(
        mut self,
        kind: TransferKind,
        debit: impl Into<LedgerCode>,
        credit: impl Into<LedgerCode>,
        amount: Amount,
    ) -> Self {
        if !amount.is_zero() {
            let (debit, credit) = (debit.into(), credit.into());
            self.0.push(Transfer { kind, debit, credit, amount });
        }
        self
    }
}

/// What the closing of an account's month moves, each part zero or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClosingParts {
    /// The period's balance of 1100, exact; all of it is cleared.
    pub unbilled: Amount,
    /// What the invoice asks for it without tax, rounded.
    pub invoiced: Amount,
    /// The tax that the invoice asks for.
    pub tax: Amount,
    /// Where it is owed.
    pub jurisdiction: Option<Jurisdiction>,
    /// Promotional credits that the period used, less what came back.
    pub promotional_used: Amount,
    /// Where more came back than was used: the rest.
    pub promotional_returned: Amount,
    /// The part of an SLA credit that comes off the invoice; at most `unbilled`.
    pub sla_unbilled: Amount,
    /// The part of an SLA credit that becomes credits.
    pub sla_credits: Amount,
}

/// Tax that is not owed any more, in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaxBack {
    /// How much.
    pub amount: Amount,
    /// Where it was owed.
    pub code: LedgerCode,
}

/// A disputed payment, in its two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DisputedParts {
    /// What left the credits.
    pub unspent: Amount,
    /// The rest of the payment: what had been used or refunded already, and all its tax.
    pub spent: Amount,
    /// Of what left the credits, what was bought taxed.
    pub taxed: Amount,
}

impl DisputedParts {
    /// Credits carry no mark of the payment they came from, so that as much of what it bought counts
    /// as unspent as there are credits. Credits that servers have reserved count, too: the money
    /// behind them is gone, and usage that they promised to pay becomes an overdraft or a receivable.
    #[must_use]
    pub fn of(payment: Amount, tax: Amount, balances: &Balances) -> Self {
        let unspent = payment.minus_to_zero(tax).min(balances.credits);
        Self { unspent, spent: payment.minus_to_zero(unspent), taxed: Amount::ZERO }
    }
}

#[cfg(test)]
#[path = "posting_tests.rs"]
mod tests;

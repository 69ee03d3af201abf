//! What each kind of business posts. Pure: a flow gives transfers, [`Posting::on`] gives the
//! balances after them, and nothing here knows a database.
//!
//! | flow | transfers (debit → credit) |
//! |---|---|
//! | top-up | 1000 → 2000 |
//! | promotional grant, withdrawal | 1910 → 2010, 2010 → 1910 |
//! | usage | 2010, then 2000, then 1100 (Net-30) or 1150 (prepaid) → 4000 |
//! | reversal of usage | 4000 → 2010, 2000, 1100 or 1150: where it was funded |
//! | refund | 2000 → 1000 |
//! | chargeback opened | unspent 2000 → 1000, spent 1250 → 1000 |
//! | chargeback won, lost | 1000 → 2000 and 1000 → 1250, 5100 → 1250 |
//! | overdraft cure | 2000 → 1150, whenever credits are added while something is overdrawn |
//!
//! Where a customer's tax falls due on payment, a top-up will also post 1000 → 2100 and a refund
//! 2100 → 1000; the kinds are there, the documents that go with them are not yet.

use crate::{
    ledger::{
        balances::{BalanceError, Balances},
        chart::{LedgerCode, Line, PaymentMethod},
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
    /// The bank decided for the customer: the spent part will not be paid.
    ChargebackLost = "chargeback_lost", [BadDebt -> Disputed];
    /// The rest of a closing account.
    AccountClosing = "account_closing", [Credits -> Rounding];
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

    /// The dispute was decided for the customer: what had been spent will not be paid.
    #[must_use]
    pub fn chargeback_lost(parts: DisputedParts) -> Self {
        let (debit, credit) = (Line::BadDebt, Line::Disputed);
        Self::default().and(TransferKind::ChargebackLost, debit, credit, parts.spent)
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
    fn and(
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

/// A disputed payment, in its two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DisputedParts {
    /// What left the credits.
    pub unspent: Amount,
    /// What had been used or refunded already.
    pub spent: Amount,
}

impl DisputedParts {
    /// Credits carry no mark of the payment they came from, so that as much of the payment counts
    /// as unspent as there are credits. Credits that servers have reserved count, too: the money
    /// behind them is gone, and usage that they promised to pay becomes an overdraft or a receivable.
    #[must_use]
    pub fn of(payment: Amount, balances: &Balances) -> Self {
        let unspent = payment.min(balances.credits);
        Self { unspent, spent: payment.minus_to_zero(unspent) }
    }
}

#[cfg(test)]
#[path = "posting_tests.rs"]
mod tests;

//! The roll-forward of deferred revenue: what customers' credits were, what became of them in a
//! period, and what they are after it. Pure. Every kind of transfer has one column.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use crate::ledger::{chart::Line, error::LedgerError, posting::TransferKind};

/// Which credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deferred {
    /// Paid in advance (2000).
    Paid,
    /// Given (2010).
    Promotional,
}

impl Deferred {
    /// Its line of the chart.
    #[must_use]
    pub const fn line(self) -> Line {
        match self {
            Self::Paid => Line::Credits,
            Self::Promotional => Line::Promotional,
        }
    }
}

/// Why credits changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// They were bought or given.
    Added,
    /// They paid for usage, which is revenue from then on.
    Recognised,
    /// They paid for usage that had been revenue before them.
    AppliedToOverdraft,
    /// Usage that they had paid for was taken back.
    Reversed,
    /// They were paid back or withdrawn.
    Returned,
    /// They were given for missed availability.
    ServiceLevel,
    /// Their payment was disputed, or the dispute won.
    Disputed,
    /// The rest of a closed account.
    Closed,
    /// It touches no credits.
    Elsewhere,
}

/// The column of a kind of transfer.
#[must_use]
pub const fn column(kind: TransferKind) -> Column {
    use TransferKind as Kind;
    match kind {
        Kind::TopUp | Kind::PromotionalGrant => Column::Added,
        Kind::UsageCredits | Kind::UsagePromotional => Column::Recognised,
        Kind::OverdraftCure => Column::AppliedToOverdraft,
        Kind::Reversal => Column::Reversed,
        Kind::Refund | Kind::PromotionalWithdrawal => Column::Returned,
        Kind::ChargebackUnspent | Kind::ChargebackWon => Column::Disputed,
        Kind::SlaCredit => Column::ServiceLevel,
        Kind::AccountClosing => Column::Closed,
        Kind::TopUpTax
        | Kind::RefundTax
        | Kind::UsageUnbilled
        | Kind::UsageOverdrawn
        | Kind::ChargebackSpent
        | Kind::ChargebackLost
        | Kind::Invoice
        | Kind::InvoiceTax
        | Kind::InvoiceRounding
        | Kind::PromotionalUse
        | Kind::Payment
        | Kind::UnappliedReceipt
        | Kind::Allocation
        | Kind::PaymentReturn
        | Kind::Withholding
        | Kind::PaymentFee
        | Kind::CreditNote
        | Kind::CreditNoteTax
        | Kind::WriteOff
        | Kind::WriteOffTax
        | Kind::Recovery
        | Kind::ProviderCost => Column::Elsewhere,
    }
}

/// The kind of a name in the database.
pub(super) fn kind(name: &str) -> Result<TransferKind, LedgerError> {
    let known = TransferKind::ALL.into_iter().find(|kind| kind.name() == name);
    known.ok_or_else(|| LedgerError::Stored(name.to_owned()))
}

/// A period of one sort of credits in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RollForward {
    /// What there was before the period.
    pub opening: Decimal,
    /// What each column added, below zero for what it took.
    pub columns: BTreeMap<Column, Decimal>,
}

impl RollForward {
    pub(super) fn enter(&mut self, column: Column, before: Decimal, within: Decimal) {
        self.opening += before;
        if !within.is_zero() {
            *self.columns.entry(column).or_default() += within;
        }
    }

    /// What there is after the period.
    #[must_use]
    pub fn closing(&self) -> Decimal {
        self.columns.values().fold(self.opening, |sum, change| sum + change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_elsewhere_exactly_if_it_touches_no_credits() {
        for kind in TransferKind::ALL {
            let touches = kind.routes().iter().any(|(debit, credit)| {
                [Line::Credits, Line::Promotional]
                    .iter()
                    .any(|line| debit == line || credit == line)
            });
            assert_eq!(column(kind) != Column::Elsewhere, touches, "{kind:?}");
            assert_eq!(super::kind(kind.name()).unwrap(), kind);
        }
    }
}

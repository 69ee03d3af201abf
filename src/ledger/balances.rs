//! What an account has and owes: the balances that funds are computed from, and what a transfer
//! does to them. Pure; the row `account_funds` is a copy of it beside the transfers, which
//! `ledger verify` proves by folding them again.

use thiserror::Error;

use crate::{
    ledger::{
        chart::{Line, Side},
        posting::Transfer,
    },
    money::Amount,
};

/// Why a posting cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BalanceError {
    /// A balance would fall below zero.
    #[error("{}, {}, is {balance}, and the transfer takes {amount}", line.code(), line.name())]
    Insufficient {
        /// Whose balance.
        line: Line,
        /// What it has.
        balance: Amount,
        /// What was to be taken.
        amount: Amount,
    },
    /// A balance would pass the largest amount.
    #[error("{}, {}, is {balance}, and {amount} more is beyond the largest amount; give less", line.code(), line.name())]
    TooLarge {
        /// Whose balance.
        line: Line,
        /// What it has.
        balance: Amount,
        /// What was to be added.
        amount: Amount,
    },
}

/// The balances of one account, each zero or more, in the account's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balances {
    /// Credits that were given (2010).
    pub promotional: Amount,
    /// Prepaid credits (2000).
    pub credits: Amount,
    /// Usage beyond prepaid funds (1150); zero while there are credits.
    pub overdrawn: Amount,
    /// Net-30 usage that no invoice has taken up yet (1100).
    pub unbilled: Amount,
    /// What invoices ask for (1200).
    pub receivable: Amount,
    /// Receipts that belong to no invoice (2050).
    pub unapplied: Amount,
}

impl Balances {
    /// The lines that have a balance here; the others concern no funds.
    pub const LINES: [Line; 6] = [
        Line::Promotional,
        Line::Credits,
        Line::Overdrawn,
        Line::Unbilled,
        Line::Receivable,
        Line::Unapplied,
    ];

    /// The balance of a line; `None` for a line that has none here.
    #[must_use]
    pub const fn of(&self, line: Line) -> Option<Amount> {
        match line {
            Line::Promotional => Some(self.promotional),
            Line::Credits => Some(self.credits),
            Line::Overdrawn => Some(self.overdrawn),
            Line::Unbilled => Some(self.unbilled),
            Line::Receivable => Some(self.receivable),
            Line::Unapplied => Some(self.unapplied),
            _ => None,
        }
    }

    /// The balances after one transfer more.
    pub fn after(mut self, transfer: &Transfer) -> Result<Self, BalanceError> {
        self.enter(transfer.debit.line(), Side::Debit, transfer.amount)?;
        self.enter(transfer.credit.line(), Side::Credit, transfer.amount)?;
        Ok(self)
    }

    fn enter(&mut self, line: Line, side: Side, amount: Amount) -> Result<(), BalanceError> {
        let Some(balance) = self.slot(line) else { return Ok(()) };
        let before = *balance;
        *balance = if side == line.kind().normal_side() {
            before.checked_add(amount).ok_or(BalanceError::TooLarge {
                line,
                balance: before,
                amount,
            })?
        } else {
            before
                .checked_sub(amount)
                .filter(|rest| !rest.is_negative())
                .ok_or(BalanceError::Insufficient { line, balance: before, amount })?
        };
        Ok(())
    }

    const fn slot(&mut self, line: Line) -> Option<&mut Amount> {
        match line {
            Line::Promotional => Some(&mut self.promotional),
            Line::Credits => Some(&mut self.credits),
            Line::Overdrawn => Some(&mut self.overdrawn),
            Line::Unbilled => Some(&mut self.unbilled),
            Line::Receivable => Some(&mut self.receivable),
            Line::Unapplied => Some(&mut self.unapplied),
            _ => None,
        }
    }
}

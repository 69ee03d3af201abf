//! What settles an invoice or takes it back posts. Pure, as [`posting`](crate::ledger::posting).
//!
//! | flow | transfers (debit → credit) |
//! |---|---|
//! | payment, over- or unidentified payment, later allocation | 1000 → 1200, 1000 → 2050, 2050 → 1200 |
//! | tax kept back by the payer, fee kept by a bank | 1300 → 1200, 5300 → 1000 |
//! | payment returned | 2050 → 1000, 1200 → 1000, and 1200 → 1300 |
//! | credit note | beyond what is open 1200 → 2050; 1100 → 1200, 2100 → 1200; 4000 or 4900 → 1100 |
//! | write-off, recovery | 5100 → 1200, with relief 2100 → 1200; 1000 → 5100, 1000 → 2100 |
//!
//! The order keeps every balance at zero or more at each step.

use crate::{
    ledger::{
        chart::{LedgerCode, Line, PaymentMethod},
        posting::{Posting, TransferKind},
    },
    money::Amount,
};

/// A payment for invoices, by what becomes of it; each part zero or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PaymentParts {
    /// Pays invoices.
    pub applied: Amount,
    /// Belongs to none yet.
    pub unapplied: Amount,
    /// Pays what had been written off, without the tax in it.
    pub recovered: Amount,
    /// The tax in that, which is owed again.
    pub recovered_tax: Amount,
    /// What the payer kept back as tax, beside the payment.
    pub withheld: Amount,
    /// What a bank or processor kept, out of the payment.
    pub fee: Amount,
}

/// What a credit note takes back, each part zero or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreditParts {
    /// Without tax.
    pub net: Amount,
    /// Its tax.
    pub tax: Amount,
    /// Of both, what is beyond the open amount: it is the customer's to use.
    pub surplus: Amount,
    /// Where the tax was owed.
    pub tax_code: LedgerCode,
    /// What it lessens. `None` where the usage is billed again.
    pub lessens: Option<Line>,
}

impl Posting {
    /// A customer paid for invoices. `tax_code` is where the tax of what is recovered is owed.
    #[must_use]
    pub fn payment(parts: &PaymentParts, tax_code: LedgerCode, method: PaymentMethod) -> Self {
        let cash = LedgerCode::cash(method);
        Self::default()
            .and(TransferKind::Payment, cash, Line::Receivable, parts.applied)
            .and(TransferKind::UnappliedReceipt, cash, Line::Unapplied, parts.unapplied)
            .and(TransferKind::Recovery, cash, Line::BadDebt, parts.recovered)
            .and(TransferKind::Recovery, cash, tax_code, parts.recovered_tax)
            .and(TransferKind::Withholding, Line::TaxWithheld, Line::Receivable, parts.withheld)
            .and(TransferKind::PaymentFee, Line::PaymentFees, cash, parts.fee)
    }

    /// An unapplied receipt pays invoices.
    #[must_use]
    pub fn allocation(amount: Amount) -> Self {
        let (debit, credit) = (Line::Unapplied, Line::Receivable);
        Self::default().and(TransferKind::Allocation, debit, credit, amount)
    }

    /// A payment went back. The bank's fee stays ours.
    #[must_use]
    pub fn payment_return(
        parts: &PaymentParts,
        tax_code: LedgerCode,
        method: PaymentMethod,
    ) -> Self {
        let (kind, cash) = (TransferKind::PaymentReturn, LedgerCode::cash(method));
        Self::default()
            .and(kind, Line::Unapplied, cash, parts.unapplied)
            .and(kind, Line::Receivable, cash, parts.applied)
            .and(kind, Line::BadDebt, cash, parts.recovered)
            .and(kind, tax_code, cash, parts.recovered_tax)
            .and(TransferKind::Withholding, Line::Receivable, Line::TaxWithheld, parts.withheld)
    }

    /// An invoice is credited.
    #[must_use]
    pub fn credit_note(parts: &CreditParts) -> Self {
        let kind = TransferKind::CreditNote;
        let posting = Self::default()
            .and(kind, Line::Receivable, Line::Unapplied, parts.surplus)
            .and(kind, Line::Unbilled, Line::Receivable, parts.net)
            .and(TransferKind::CreditNoteTax, parts.tax_code, Line::Receivable, parts.tax);
        match parts.lessens {
            Some(line) => posting.and(kind, line, Line::Unbilled, parts.net),
            None => posting,
        }
    }

    /// An invoice will not be paid; `tax` of it is not owed to the tax office any more.
    #[must_use]
    pub fn write_off(amount: Amount, tax: Amount, tax_code: LedgerCode) -> Self {
        let net = amount.minus_to_zero(tax);
        Self::default().and(TransferKind::WriteOff, Line::BadDebt, Line::Receivable, net).and(
            TransferKind::WriteOffTax,
            tax_code,
            Line::Receivable,
            tax,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{balances::Balances, chart::LineKind};

    fn amount(text: &str) -> Amount {
        text.parse().unwrap()
    }

    fn after(posting: Posting, before: Balances) -> Balances {
        for transfer in posting.transfers() {
            let route = (transfer.debit.line(), transfer.credit.line());
            assert!(transfer.kind.routes().contains(&route), "{transfer:?}");
        }
        posting.on(before).unwrap().1
    }

    fn credit(lessens: Option<Line>) -> CreditParts {
        CreditParts {
            net: amount("100"),
            tax: amount("19"),
            surplus: amount("119"),
            tax_code: LedgerCode::tax("DE".parse().ok()),
            lessens,
        }
    }

    #[test]
    fn a_payment_and_its_return_leave_the_balances_as_they_were() {
        let before = Balances { receivable: amount("119"), ..Balances::default() };
        let parts = PaymentParts {
            applied: amount("100"),
            unapplied: amount("7"),
            recovered: amount("10"),
            recovered_tax: amount("1.90"),
            withheld: amount("19"),
            fee: amount("0.30"),
        };
        let code = LedgerCode::tax(None);
        let paid = after(Posting::payment(&parts, code, PaymentMethod::Wire), before);
        assert_eq!((paid.receivable, paid.unapplied), (Amount::ZERO, amount("7")));
        let back = after(Posting::payment_return(&parts, code, PaymentMethod::Wire), paid);
        assert_eq!(back, before);
    }

    #[test]
    fn a_paid_invoice_can_be_credited_and_what_it_gives_is_unapplied() {
        let given = after(Posting::credit_note(&credit(Some(Line::Revenue))), Balances::default());
        assert_eq!(given, Balances { unapplied: amount("119"), ..Balances::default() });
    }

    #[test]
    fn usage_that_is_billed_again_is_unbilled_in_between() {
        let given = after(Posting::credit_note(&credit(None)), Balances::default());
        assert_eq!((given.unbilled, given.unapplied), (amount("100"), amount("119")));
    }

    #[test]
    fn a_write_off_is_an_expense_without_the_tax_that_is_relieved() {
        let before = Balances { receivable: amount("119"), ..Balances::default() };
        let posting = Posting::write_off(amount("119"), amount("19"), LedgerCode::tax(None));
        let expense: Vec<_> = posting
            .transfers()
            .iter()
            .filter(|transfer| transfer.debit.line().kind() == LineKind::Expense)
            .map(|transfer| transfer.amount)
            .collect();
        assert_eq!(expense, [amount("100")]);
        assert_eq!(after(posting, before), Balances::default());
    }
}

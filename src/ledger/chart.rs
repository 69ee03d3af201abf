//! The chart of accounts: every line money can be on, which side makes it grow, and the sub-codes
//! that split a line, such as `1000.VISA` for cash that came by Visa.
//!
//! The table `ledger_accounts` holds the same lines for SQL; a test compares the two.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// What a line of the chart is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LineKind {
    /// What we have or are owed.
    Asset,
    /// What lessens a liability.
    ContraLiability,
    /// What we owe.
    Liability,
    /// What we earned.
    Income,
    /// What lessens income.
    ContraIncome,
    /// What it cost us.
    Expense,
}

/// One of the two sides of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The account that is debited.
    Debit,
    /// The account that is credited.
    Credit,
}

impl LineKind {
    /// The side that makes a line of this kind grow.
    #[must_use]
    pub const fn normal_side(self) -> Side {
        match self {
            Self::Asset | Self::ContraLiability | Self::ContraIncome | Self::Expense => Side::Debit,
            Self::Liability | Self::Income => Side::Credit,
        }
    }

    /// The name in the database and in the contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asset => "asset",
            Self::ContraLiability => "contra-liability",
            Self::Liability => "liability",
            Self::Income => "income",
            Self::ContraIncome => "contra-income",
            Self::Expense => "expense",
        }
    }
}

impl FromStr for LineKind {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let kinds = Line::ALL.into_iter().map(Line::kind);
        kinds.into_iter().find(|kind| kind.name() == text).ok_or_else(|| UnknownCode::new(text))
    }
}

macro_rules! lines {
    ($($(#[$doc:meta])* $line:ident = $code:literal, $name:literal, $kind:ident;)*) => {
        /// A line of the chart of accounts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Line {
            $($(#[$doc])* $line,)*
        }

        impl Line {
            /// The whole chart, by code.
            pub const ALL: [Self; [$($code),*].len()] = [$(Self::$line),*];

            /// The four digits.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$line => $code,)* }
            }

            /// The name in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$line => $name,)* }
            }

            /// What it is.
            #[must_use]
            pub const fn kind(self) -> LineKind {
                match self { $(Self::$line => LineKind::$kind,)* }
            }
        }
    };
}

lines! {
    /// Money received, by payment method.
    Cash = "1000", "Cash", Asset;
    /// Net-30 usage that no invoice has taken up yet.
    Unbilled = "1100", "Unbilled receivable", Asset;
    /// Usage beyond prepaid funds.
    Overdrawn = "1150", "Overdrawn", Asset;
    /// What invoices ask for.
    Receivable = "1200", "Accounts receivable", Asset;
    /// The spent part of payments that a customer disputes.
    Disputed = "1250", "Disputed payments", Asset;
    /// Tax that payers kept back.
    TaxWithheld = "1300", "Tax withheld by payers", Asset;
    /// Grants that nobody has used yet: the other side of promotional credits.
    UnusedGrants = "1910", "Unused promotional grants", ContraLiability;
    /// Prepaid credits, which never expire.
    Credits = "2000", "Customer credits", Liability;
    /// Credits that were given.
    Promotional = "2010", "Promotional credits", Liability;
    /// Receipts that belong to no invoice; never spendable.
    Unapplied = "2050", "Unapplied receipts", Liability;
    /// Tax owed, by jurisdiction and rate.
    TaxPayable = "2100", "Tax payable", Liability;
    /// Our own cost of what was served.
    ProviderPayable = "2200", "Payable to providers", Liability;
    /// Usage at its full charge.
    Revenue = "4000", "Usage revenue", Income;
    /// What was credited for missed availability.
    SlaCredits = "4900", "SLA credits", ContraIncome;
    /// Promotional credits that were used.
    PromotionalDiscount = "4910", "Promotional discount", ContraIncome;
    /// What will not be paid.
    BadDebt = "5100", "Bad debt", Expense;
    /// Our own cost of what was served.
    CostOfRevenue = "5200", "Cost of revenue", Expense;
    /// What processors and banks kept.
    PaymentFees = "5300", "Payment fees", Expense;
    /// The rest between exact usage and rounded documents.
    Rounding = "5900", "Rounding", Expense;
}

impl FromStr for Line {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|line| line.code() == text).ok_or_else(|| UnknownCode::new(text))
    }
}

/// How a payment came in or goes back; each is a sub-code of cash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PaymentMethod {
    /// A Visa card.
    Visa,
    /// A Mastercard.
    Mastercard,
    /// `PayPal`.
    Paypal,
    /// A bank transfer.
    Wire,
    /// Anything else, entered by hand.
    Manual,
}

impl PaymentMethod {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Visa, Self::Mastercard, Self::Paypal, Self::Wire, Self::Manual];

    /// The name in capitals, as in the contract and in sub-codes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Visa => "VISA",
            Self::Mastercard => "MASTERCARD",
            Self::Paypal => "PAYPAL",
            Self::Wire => "WIRE",
            Self::Manual => "MANUAL",
        }
    }
}

impl FromStr for PaymentMethod {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let methods = Self::ALL.into_iter();
        methods
            .into_iter()
            .find(|method| method.name() == text)
            .ok_or_else(|| UnknownCode::new(text))
    }
}

impl fmt::Display for PaymentMethod {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Where a tax is owed: a country, or a part of it as ISO 3166-2 names it, such as `DE` or `US-CA`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Jurisdiction {
    code: [u8; 6],
    length: u8,
}

impl Jurisdiction {
    /// The code, such as `US-CA`.
    #[must_use]
    pub fn code(&self) -> &str {
        // Only ASCII ever gets in.
        let code = self.code.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(code).unwrap_or_default()
    }
}

impl FromStr for Jurisdiction {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (country, part) =
            text.split_once('-').map_or((text, None), |(country, part)| (country, Some(part)));
        let is_country = country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase());
        let is_part = part.is_none_or(|part| {
            (1..=3).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        });
        let (mut code, length) = ([0; 6], u8::try_from(text.len()).unwrap_or(u8::MAX));
        if !is_country || !is_part {
            return Err(UnknownCode::new(text));
        }
        for (place, byte) in code.iter_mut().zip(text.bytes()) {
            *place = byte;
        }
        Ok(Self { code, length })
    }
}

impl fmt::Display for Jurisdiction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl fmt::Debug for Jurisdiction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

/// Where a transfer debits or credits: a line, for cash with the payment method, for tax with the
/// jurisdiction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerCode {
    line: Line,
    part: Option<Part>,
}

/// What splits a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    Method(PaymentMethod),
    Jurisdiction(Jurisdiction),
}

impl LedgerCode {
    /// Cash of one payment method.
    #[must_use]
    pub const fn cash(method: PaymentMethod) -> Self {
        Self { line: Line::Cash, part: Some(Part::Method(method)) }
    }

    /// Tax owed to one jurisdiction, where it is known.
    #[must_use]
    pub fn tax(jurisdiction: Option<Jurisdiction>) -> Self {
        Self { line: Line::TaxPayable, part: jurisdiction.map(Part::Jurisdiction) }
    }

    /// The line it is part of.
    #[must_use]
    pub const fn line(self) -> Line {
        self.line
    }
}

impl From<Line> for LedgerCode {
    fn from(line: Line) -> Self {
        Self { line, part: None }
    }
}

impl fmt::Display for LedgerCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.line.code())?;
        match self.part {
            Some(Part::Method(method)) => write!(formatter, ".{method}"),
            Some(Part::Jurisdiction(jurisdiction)) => write!(formatter, ".{jurisdiction}"),
            None => Ok(()),
        }
    }
}

impl FromStr for LedgerCode {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((line, part)) = text.split_once('.') else {
            return text.parse::<Line>().map(Self::from);
        };
        match line.parse::<Line>() {
            Ok(Line::Cash) => part.parse().map(Self::cash),
            Ok(Line::TaxPayable) => part.parse().map(|place| Self::tax(Some(place))),
            _ => Err(UnknownCode::new(text)),
        }
    }
}

/// A text that the chart does not have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not in the chart of accounts; the trial balance lists its codes")]
pub struct UnknownCode(String);

impl UnknownCode {
    fn new(text: &str) -> Self {
        Self(text.chars().take(40).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_back_as_it_is_written() {
        let codes = Line::ALL.into_iter().map(LedgerCode::from);
        let places = ["DE", "US-CA", "GB-ENG"].map(|place| LedgerCode::tax(place.parse().ok()));
        let cash = PaymentMethod::ALL.into_iter().map(LedgerCode::cash);
        for code in codes.chain(cash).chain(places) {
            assert_eq!(code.to_string().parse(), Ok(code));
        }
        assert_eq!(LedgerCode::cash(PaymentMethod::Visa).to_string(), "1000.VISA");
        assert_eq!(LedgerCode::tax("US-CA".parse().ok()).to_string(), "2100.US-CA");
    }

    #[test]
    fn a_kind_of_line_reads_back_as_it_is_written() {
        for kind in Line::ALL.map(Line::kind) {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!("equity".parse::<LineKind>().is_err());
    }

    #[test]
    fn what_is_not_in_the_chart_is_refused() {
        for text in [
            "",
            "9999",
            "1000.",
            "1000.BARTER",
            "2000.VISA",
            "1000.visa",
            " 1000",
            "2100.",
            "2100.D",
            "2100.DE-",
            "2100.DE-ABCD",
            "2100.de",
            "2000.DE",
        ] {
            assert!(text.parse::<LedgerCode>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn debits_grow_what_we_have_and_what_it_costs_and_credits_the_rest() {
        for (line, side) in [
            (Line::Cash, Side::Debit),
            (Line::UnusedGrants, Side::Debit),
            (Line::SlaCredits, Side::Debit),
            (Line::BadDebt, Side::Debit),
            (Line::Credits, Side::Credit),
            (Line::Revenue, Side::Credit),
        ] {
            assert_eq!(line.kind().normal_side(), side, "{line:?}");
        }
    }

    #[test]
    fn the_migration_has_the_same_chart() {
        let migration = include_str!("../../migrations/0003_ledger.sql");
        let words = migration.split_whitespace().collect::<Vec<_>>().join(" ");
        for line in Line::ALL {
            let row = format!("('{}', '{}', '{}')", line.code(), line.name(), line.kind().name());
            assert!(words.contains(&row), "{row} is missing");
        }
        let rows = words.matches("('").count() - words.matches("IN ('").count();
        assert_eq!(rows, Line::ALL.len());
    }
}

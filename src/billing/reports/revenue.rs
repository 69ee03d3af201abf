//! Revenue by model, what it cost ourselves where that is known, and what the ledger says of all of
//! it.
//!
//! Our cost is in the price book, where a price version may carry what each class of tokens costs
//! ourselves, and is computed here from the events that were charged by that version. So it is known of
//! a request whose version carries a cost in the currency it was charged in, unless it made images,
//! whose cost no version carries. An answer from the gateway's own cache cost nothing. Cost of usage
//! that was taken back stays. Closing a month posts the same cost, 5200 → 2200, in any currency.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::{LIMIT_SECONDS, bounded, store};
use crate::{
    database::reports::ReportPool,
    ledger::{chart::Line, error::LedgerError, posting::TransferKind, store::snapshot},
};

/// What one model earned in a period, in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRevenue {
    /// The model that was charged.
    pub model: String,
    /// The currency of the amounts.
    pub currency: String,
    /// How many events.
    pub requests: i64,
    /// Their prompt tokens, cached and audio ones among them.
    pub input_tokens: i64,
    /// Their answer tokens, reasoning and audio ones among them.
    pub output_tokens: i64,
    /// Their images.
    pub images: i64,
    /// Their charges.
    pub charged: Decimal,
    /// What was taken back in the period, of events of any period.
    pub reversed: Decimal,
    /// The part of it whose cost is known.
    pub costed: Costed,
}

impl ModelRevenue {
    /// What is left of the charges.
    #[must_use]
    pub fn revenue(&self) -> Decimal {
        self.charged - self.reversed
    }
}

/// Events of known cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Costed {
    /// How many.
    pub requests: i64,
    /// Their charges, less what was taken back of such events.
    pub revenue: Decimal,
    /// What they cost ourselves; `None` where the cost of none is known.
    pub cost: Option<Decimal>,
}

impl Costed {
    /// The revenue less the cost.
    #[must_use]
    pub fn margin(&self) -> Option<Decimal> {
        self.cost.map(|cost| self.revenue - cost)
    }

    /// The margin in percent of the revenue, rounded to 2 decimals; `None` without revenue.
    #[must_use]
    pub fn margin_percent(&self) -> Option<Decimal> {
        let share = self.margin()?.checked_div(self.revenue)?;
        Some(share.checked_mul(Decimal::ONE_HUNDRED)?.round_dp(2))
    }

    fn and(self, other: &Self) -> Self {
        let cost = match (self.cost, other.cost) {
            (Some(one), Some(another)) => Some(one + another),
            (one, another) => one.or(another),
        };
        let requests = self.requests.saturating_add(other.requests);
        Self { requests, revenue: self.revenue + other.revenue, cost }
    }
}

/// What the ledger says of a period in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RevenueTotal {
    /// Usage, on 4000.
    pub charged: Decimal,
    /// Usage that was taken back, on 4000.
    pub reversed: Decimal,
    /// What credit notes took back, on 4000.
    pub credit_notes: Decimal,
    /// Credits for missed availability, on 4900.
    pub sla_credits: Decimal,
    /// Promotional credits that were used, on 4910.
    pub promotional_discounts: Decimal,
    /// What usage cost ourselves, on 5200: of accounts whose month is closed.
    pub posted_cost: Decimal,
}

impl RevenueTotal {
    /// What is left of it all.
    #[must_use]
    pub fn net(&self) -> Decimal {
        let Self { charged, reversed, credit_notes, sla_credits, promotional_discounts, .. } = self;
        charged - reversed - credit_notes - sla_credits - promotional_discounts
    }

    fn enter(&mut self, moved: &store::Moved) {
        let touches = |line: Line| {
            let (debit, credit) = (moved.debit == line.code(), moved.credit == line.code());
            let sign = Decimal::from(i8::from(debit)) - Decimal::from(i8::from(credit));
            sign * moved.within
        };
        let usage = touches(Line::Revenue);
        if moved.kind == TransferKind::Reversal.name() {
            self.reversed += usage;
        } else if moved.kind == TransferKind::CreditNote.name() {
            self.credit_notes += usage;
        } else {
            self.charged -= usage;
        }
        self.sla_credits += touches(Line::SlaCredits);
        self.promotional_discounts += touches(Line::PromotionalDiscount);
        self.posted_cost += touches(Line::CostOfRevenue);
    }
}

/// Revenue by model, and what the ledger says of all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevenueReport {
    /// By currency and model.
    pub models: Vec<ModelRevenue>,
    /// By currency.
    pub totals: BTreeMap<String, RevenueTotal>,
}

impl RevenueReport {
    /// Whether the events and the ledger have the same revenue in every currency.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let models = self.models.iter().map(|model| &model.currency);
        self.totals.keys().chain(models).all(|currency| self.agrees_in(currency))
    }

    /// Whether the events and the ledger have the same revenue in this currency.
    #[must_use]
    pub fn agrees_in(&self, currency: &str) -> bool {
        let models = self.models.iter().filter(|model| model.currency == currency);
        let events: Decimal = models.map(ModelRevenue::revenue).sum();
        let ledger = self.totals.get(currency).copied().unwrap_or_default();
        events == ledger.charged - ledger.reversed
    }

    /// What has a known cost in this currency, of all models.
    #[must_use]
    pub fn costed_in(&self, currency: &str) -> Costed {
        let models = self.models.iter().filter(|model| model.currency == currency);
        models.fold(Costed::default(), |sum, model| sum.and(&model.costed))
    }
}

/// Revenue by model in the period that begins on this day.
///
/// # Errors
/// The database failed or took too long, or too many reports are being read.
pub async fn revenue(
    reports: &ReportPool,
    period: NaiveDate,
) -> Result<RevenueReport, LedgerError> {
    let mut snapshot = snapshot(reports, LIMIT_SECONDS).await?;
    let rows = store::earned(&mut snapshot, period).await.map_err(bounded)?;
    let mut report = RevenueReport::default();
    let lines = [Line::Revenue, Line::SlaCredits, Line::PromotionalDiscount, Line::CostOfRevenue];
    for moved in store::moved_within(&mut snapshot, period, &lines).await.map_err(bounded)? {
        report.totals.entry(moved.currency.clone()).or_default().enter(&moved);
    }
    let models = rows.into_iter().map(|row| ModelRevenue {
        model: row.model,
        currency: row.currency,
        requests: row.requests,
        input_tokens: row.input_tokens,
        output_tokens: row.output_tokens,
        images: row.images,
        charged: row.charged,
        reversed: row.reversed,
        costed: Costed {
            requests: row.costed_requests,
            revenue: row.costed_revenue,
            cost: row.cost,
        },
    });
    report.models = models.collect();
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_margin_is_of_the_revenue_whose_cost_is_known() {
        let costed = |requests, revenue: i64, cost: Option<i64>| Costed {
            requests,
            revenue: Decimal::from(revenue),
            cost: cost.map(Decimal::from),
        };
        let model = costed(2, 6, Some(4));
        assert_eq!(model.margin(), Some(Decimal::TWO));
        assert_eq!(model.margin_percent(), Some(Decimal::new(3_333, 2)));
        assert_eq!(costed(1, 0, Some(4)).margin_percent(), None, "nothing to have a share of");
        assert_eq!(costed(0, 0, None).margin(), None);

        let all = [model, costed(0, 0, None), costed(1, 4, Some(1))];
        let sum = all.iter().fold(Costed::default(), Costed::and);
        assert_eq!(sum, costed(3, 10, Some(5)));
    }

    #[test]
    fn revenue_is_net_of_what_was_given_back() {
        let mut total = RevenueTotal::default();
        for (kind, debit, credit, within) in [
            ("usage_credits", "2000", "4000", 50),
            ("usage_unbilled", "1100", "4000", 50),
            ("reversal", "4000", "2000", 7),
            ("credit_note", "4000", "1100", 5),
            ("sla_credit", "4900", "1100", 10),
            ("promotional_use", "4910", "1910", 4),
            ("promotional_use", "1910", "4910", 1),
            ("top_up", "1000.VISA", "2000", 1_000),
            ("provider_cost", "5200", "2200", 30),
        ] {
            total.enter(&store::Moved {
                currency: "USD".to_owned(),
                kind: kind.to_owned(),
                debit: debit.to_owned(),
                credit: credit.to_owned(),
                before: Decimal::from(99),
                within: Decimal::from(within),
            });
        }
        let expected = RevenueTotal {
            charged: Decimal::from(100),
            reversed: Decimal::from(7),
            credit_notes: Decimal::from(5),
            sla_credits: Decimal::from(10),
            promotional_discounts: Decimal::from(3),
            posted_cost: Decimal::from(30),
        };
        assert_eq!(total, expected);
        assert_eq!(total.net(), Decimal::from(75));
    }
}

//! How an account's documents are taxed: pure.
//!
//! The rate is the contract's, which the credit limit counts with, too; so issuing an invoice never
//! changes what can be spent. The jurisdiction's entry says how the tax is shown, where it is owed
//! and whether it falls due when credits are paid for.

use chrono::NaiveDate;
use rust_decimal::Decimal;

use crate::{
    accounts::contract::{Contract, TaxTreatment},
    billing::document::TaxCategory,
    ledger::chart::Jurisdiction,
    money::Amount,
};

/// The sentence that a reverse charge must bear (directive 2006/112/EC, article 226 no. 11a).
const REVERSE_CHARGE: &str =
    "Reverse charge: the customer accounts for VAT (directive 2006/112/EC, article 196).";

/// How a jurisdiction taxes from a day on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaxRate {
    /// Where.
    pub jurisdiction: Jurisdiction,
    /// The first day.
    pub effective_from: NaiveDate,
    /// 0 to 100, at most 4 decimals.
    pub rate_percent: Decimal,
    /// What documents call it.
    pub label: String,
    /// Whether it falls due when credits are paid for.
    pub due_on_payment: bool,
}

/// How one document is taxed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taxation {
    /// The category and its rate.
    pub category: TaxCategory,
    /// Why no tax is charged; empty where it is.
    pub exemption_reason: String,
    /// The reason's code in the VATEX list; may be empty.
    pub exemption_code: String,
    /// Where it is owed.
    pub jurisdiction: Option<Jurisdiction>,
    /// What it is called.
    pub label: String,
    /// Whether it falls due when credits are paid for.
    pub due_on_payment: bool,
}

/// The jurisdictions of a customer's address, the narrowest first: `US-CA`, `US`.
#[must_use]
pub fn jurisdictions_of(contract: &Contract) -> Vec<Jurisdiction> {
    let address = &contract.address;
    let whole = address.country_code.as_str();
    let part = address.subdivision.to_ascii_uppercase();
    let part = part.strip_prefix(&format!("{whole}-")).unwrap_or(&part);
    let part = (!part.is_empty()).then(|| format!("{whole}-{part}"));
    let codes = part.as_deref().into_iter().chain([whole]);
    codes.filter_map(|code| code.parse().ok()).collect()
}

impl Taxation {
    /// How a customer under this contract is taxed, with its jurisdiction's entry where there is one.
    #[must_use]
    pub fn of(contract: &Contract, rate: Option<&TaxRate>) -> Self {
        let percent = contract.tax_rate_percent.normalize();
        let (category, reason, code) = match contract.tax_treatment {
            TaxTreatment::ReverseCharge => {
                (TaxCategory::ReverseCharge, REVERSE_CHARGE, "VATEX-EU-AE")
            }
            TaxTreatment::Exempt => (TaxCategory::Exempt, "The customer is exempt from tax.", ""),
            TaxTreatment::Standard if !percent.is_zero() => {
                (TaxCategory::Standard { rate_percent: percent }, "", "")
            }
            // A jurisdiction that is entered with zero taxes at zero; any other does not tax.
            TaxTreatment::Standard if rate.is_some_and(|rate| rate.rate_percent.is_zero()) => {
                (TaxCategory::ZeroRated, "", "")
            }
            TaxTreatment::Standard => {
                (TaxCategory::OutsideScope, "Not subject to tax.", "VATEX-EU-O")
            }
        };
        let own = jurisdictions_of(contract).last().copied();
        Self {
            category,
            exemption_reason: reason.to_owned(),
            exemption_code: code.to_owned(),
            jurisdiction: rate.map(|rate| rate.jurisdiction).or(own),
            label: rate.map(|rate| rate.label.clone()).unwrap_or_default(),
            due_on_payment: rate.is_some_and(|rate| rate.due_on_payment),
        }
    }

    /// The rate in percent; zero where no tax is charged.
    #[must_use]
    pub fn rate_percent(&self) -> Decimal {
        rate_of(&self.category)
    }

    /// The tax on an amount, rounded half up to so many decimals; `None` beyond the largest amount.
    #[must_use]
    pub fn on(&self, taxable: Amount, decimals: u32) -> Option<Amount> {
        tax_on(taxable, &self.category, decimals)
    }

    /// Splits what was paid into what is taxed and its tax: the largest sum of both, as a document
    /// would show them, that is not above the payment. Not every payment is such a sum; what is left
    /// is below two minor units.
    #[must_use]
    pub fn within(&self, paid: Amount, decimals: u32) -> Option<(Amount, Amount)> {
        let factor = self.rate_percent().checked_mul(Decimal::new(1, 2))?;
        let factor = factor.checked_add(Decimal::ONE)?;
        let step = Amount::new(Decimal::new(1, decimals)).ok()?;
        let quotient = paid.decimal().checked_div(factor)?.trunc_with_scale(decimals);
        // One minor unit more may fit where rounding helps; one less may be needed where it hurts.
        let mut net = Amount::new(quotient).ok()?.checked_add(step)?;
        loop {
            let tax = self.on(net, decimals)?;
            if net.checked_add(tax)? <= paid {
                return Some((net, tax));
            }
            if net.is_zero() {
                return None;
            }
            net = net.minus_to_zero(step);
        }
    }
}

/// The tax of a category on an amount, as [`Taxation::on`].
pub(super) fn tax_on(taxable: Amount, category: &TaxCategory, decimals: u32) -> Option<Amount> {
    let exact = taxable.decimal().checked_mul(rate_of(category))?;
    let exact = exact.checked_mul(Decimal::new(1, 2))?.round_dp(12);
    Some(Amount::new(exact).ok()?.rounded(decimals))
}

const fn rate_of(category: &TaxCategory) -> Decimal {
    match category {
        TaxCategory::Standard { rate_percent } => *rate_percent,
        _ => Decimal::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contract(percent: &str, treatment: TaxTreatment) -> Contract {
        Contract {
            tax_rate_percent: percent.parse().unwrap(),
            tax_treatment: treatment,
            ..Contract::default()
        }
    }

    #[test]
    fn the_narrowest_jurisdiction_of_an_address_comes_first() {
        let mut contract = Contract::default();
        for (country, part, expected) in [
            ("US", "CA", vec!["US-CA", "US"]),
            ("US", "US-NY", vec!["US-NY", "US"]),
            ("US", "California", vec!["US"]),
            ("DE", "", vec!["DE"]),
            ("", "CA", vec![]),
        ] {
            contract.address.country_code = country.to_owned();
            contract.address.subdivision = part.to_owned();
            let codes: Vec<String> =
                jurisdictions_of(&contract).iter().map(ToString::to_string).collect();
            assert_eq!(codes, expected, "{country} {part}");
        }
    }

    #[test]
    fn each_treatment_has_its_category_and_its_sentence() {
        let reverse = Taxation::of(&contract("0", TaxTreatment::ReverseCharge), None);
        assert_eq!(reverse.category, TaxCategory::ReverseCharge);
        assert!(reverse.exemption_reason.contains("Reverse charge"));
        let outside = Taxation::of(&contract("0", TaxTreatment::Standard), None);
        assert_eq!(outside.category, TaxCategory::OutsideScope);
        let rate = TaxRate {
            jurisdiction: "DE".parse().unwrap(),
            effective_from: NaiveDate::default(),
            rate_percent: Decimal::ZERO,
            label: "VAT".to_owned(),
            due_on_payment: true,
        };
        let zero = Taxation::of(&contract("0", TaxTreatment::Standard), Some(&rate));
        assert_eq!(zero.category, TaxCategory::ZeroRated);
        let exempt = Taxation::of(&contract("0", TaxTreatment::Exempt), Some(&rate));
        assert_eq!(exempt.category, TaxCategory::Exempt);
        assert!(exempt.due_on_payment);
    }

    proptest! {
        #[test]
        fn a_payment_splits_into_what_a_document_can_show(
            cents in 1_i64..10_000_000, percent in 1_i64..300_000,
        ) {
            let percent = Decimal::new(percent, 4).to_string();
            let taxation = Taxation::of(&contract(&percent, TaxTreatment::Standard), None);
            let paid = Amount::new(Decimal::new(cents, 2)).unwrap();
            let (net, tax) = taxation.within(paid, 2).unwrap();
            let gross = net.checked_add(tax).unwrap();
            prop_assert_eq!(taxation.on(net, 2).unwrap(), tax);
            prop_assert!(gross <= paid);
            prop_assert!(paid.minus_to_zero(gross) <= Amount::HUNDREDTH);
        }
    }

    #[test]
    fn the_rate_is_told_as_the_contract_has_it() {
        let contract =
            Contract { tax_rate_percent: "19.0".parse().unwrap(), ..Contract::default() };
        assert_eq!(Taxation::of(&contract, None).rate_percent(), Decimal::from(19));
    }
}

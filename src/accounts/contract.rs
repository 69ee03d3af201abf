//! What is agreed with a customer: who they are on paper, how they pay, what they get off.

use chrono::{Days, NaiveDate};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::{
    accounts::{
        error::InvalidField,
        fields::{country, email, text},
    },
    catalog::pattern::ModelDiscount,
    clock,
    money::{Amount, Currency},
};

/// The longest name of a person, company, street or city, in characters.
pub const NAME_LENGTH: usize = 200;
/// The longest registration, tax, order or cost centre number, in characters.
pub const NUMBER_LENGTH: usize = 64;
/// The longest postal code, in characters; the longest in use has ten.
pub const POSTAL_CODE_LENGTH: usize = 20;
/// The longest that details of usage can be kept where somebody says for how long, in days.
pub const MAX_RETENTION_DAYS: u32 = 3_650;
/// The most discounts for single models: each is compared on every first pricing of a model.
pub const MAX_MODEL_DISCOUNTS: usize = 100;

/// How a customer pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PaymentTerms {
    /// Credits in advance; usage stops when they are used up.
    #[default]
    Prepaid,
    /// By invoice within 30 days, up to the credit limit. Credits, if any, burn first.
    Net30,
}

impl PaymentTerms {
    /// As the database spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepaid => "prepaid",
            Self::Net30 => "net_30",
        }
    }

    /// Reads the database's spelling.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        [Self::Prepaid, Self::Net30].into_iter().find(|terms| terms.as_str() == text)
    }
}

/// How the customer is taxed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TaxTreatment {
    /// At the contract's rate.
    #[default]
    Standard,
    /// Not at all.
    Exempt,
    /// The customer accounts for it.
    ReverseCharge,
}

impl TaxTreatment {
    /// As the database spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Exempt => "exempt",
            Self::ReverseCharge => "reverse_charge",
        }
    }

    /// Reads the database's spelling.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        [Self::Standard, Self::Exempt, Self::ReverseCharge]
            .into_iter()
            .find(|treatment| treatment.as_str() == text)
    }
}

/// A postal address in the parts that an electronic invoice needs. Frozen documents hold it as JSON.
/// The numbers are EN 16931's, of the seller and the buyer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Address {
    /// Street and number (BT-35, BT-50).
    pub line_1: String,
    /// Building, floor, suite (BT-36, BT-51).
    pub line_2: String,
    /// Town (BT-37, BT-52).
    pub city: String,
    /// ZIP or postal code (BT-38, BT-53).
    pub postal_code: String,
    /// State, province or canton (BT-39, BT-54).
    pub subdivision: String,
    /// ISO 3166-1 alpha-2, or empty (BT-40, BT-55).
    pub country_code: String,
}

/// What is agreed with a customer. Nothing in it but the payment terms, the limit, the tax and the
/// discounts changes what a request may cost; the rest is for invoices, and about personal data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contract {
    /// The customer's name on an invoice.
    pub legal_name: String,
    /// Where the customer is.
    pub address: Address,
    /// The company register's number.
    pub registration_id: String,
    /// The VAT id or other tax number.
    pub tax_id: String,
    /// How the customer is taxed.
    pub tax_treatment: TaxTreatment,
    /// 0 to 100, at most 4 decimals; zero unless the treatment is standard.
    pub tax_rate_percent: Decimal,
    /// The customer's order number for invoices.
    pub purchase_order: String,
    /// The customer's cost centre for invoices.
    pub cost_centre: String,
    /// Where invoices go.
    pub accounts_payable_email: String,
    /// How the customer pays.
    pub payment_terms: PaymentTerms,
    /// What a Net-30 account may owe, tax included, in the account's currency; zero for prepaid.
    pub credit_limit: Amount,
    /// Off every price; 0 to 100, at most 4 decimals.
    pub discount_percent: Decimal,
    /// Instead of `discount_percent` for these models; the first that matches counts.
    pub model_discounts: Vec<ModelDiscount>,
    /// What is agreed about personal data.
    pub data_protection: DataProtection,
}

/// What is agreed with a customer about personal data that we process for them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DataProtection {
    /// The number of the data processing agreement (GDPR Art. 28), or where it is kept; may be empty.
    pub dpa_reference: String,
    /// The day on which it was signed; there if and only if the reference is.
    pub dpa_signed_on: Option<NaiveDate>,
    /// For how many days details of usage are kept, 1 to [`MAX_RETENTION_DAYS`]; what the server says
    /// where nothing is.
    pub details_retention_days: Option<u32>,
}

impl Contract {
    /// Checks every field that a type does not check already.
    ///
    /// # Errors
    /// The first field at fault, as the contract spells it.
    pub fn check(&self, currency: Currency) -> Result<(), InvalidField> {
        text("contract.legal_name", &self.legal_name, NAME_LENGTH)?;
        self.address.check()?;
        text("contract.registration_id", &self.registration_id, NUMBER_LENGTH)?;
        text("contract.tax_id", &self.tax_id, NUMBER_LENGTH)?;
        text("contract.purchase_order", &self.purchase_order, NUMBER_LENGTH)?;
        text("contract.cost_centre", &self.cost_centre, NUMBER_LENGTH)?;
        email("contract.accounts_payable_email", &self.accounts_payable_email)?;
        self.data_protection.check()?;
        self.check_money(currency)
    }

    fn check_money(&self, currency: Currency) -> Result<(), InvalidField> {
        if self.tax_treatment != TaxTreatment::Standard && !self.tax_rate_percent.is_zero() {
            return Err(InvalidField::new(
                "contract.tax_rate_percent",
                "TAX_RATE_NOT_ALLOWED",
                "must be 0 for a customer who is exempt or under reverse charge",
            ));
        }
        if self.credit_limit.is_negative() {
            return Err(InvalidField::new(
                "contract.credit_limit.amount",
                "NEGATIVE_AMOUNT",
                format!("is {} {currency}; it must be zero or more", self.credit_limit),
            ));
        }
        if self.payment_terms == PaymentTerms::Prepaid && !self.credit_limit.is_zero() {
            return Err(InvalidField::new(
                "contract.credit_limit",
                "CREDIT_LIMIT_NOT_ALLOWED",
                "must be 0 for a prepaid account; set payment_terms to PAYMENT_TERMS_NET_30 to \
                 grant credit",
            ));
        }
        if self.model_discounts.len() > MAX_MODEL_DISCOUNTS {
            return Err(InvalidField::new(
                "contract.model_discounts",
                "TOO_MANY",
                format!(
                    "has {} entries; {MAX_MODEL_DISCOUNTS} are the most, and a pattern that ends \
                     in * covers many models",
                    self.model_discounts.len()
                ),
            ));
        }
        Ok(())
    }

    /// The tax as a factor, 0 to 1, as `account_funds` holds it.
    #[must_use]
    pub fn tax_rate(&self) -> Decimal {
        // A percentage has at most 4 decimals, so that this has at most 6 and is exact.
        self.tax_rate_percent.checked_mul(Decimal::new(1, 2)).unwrap_or(Decimal::ONE).normalize()
    }
}

impl DataProtection {
    fn check(&self) -> Result<(), InvalidField> {
        text("contract.dpa_reference", &self.dpa_reference, NAME_LENGTH)?;
        match (self.dpa_reference.is_empty(), self.dpa_signed_on) {
            (true, Some(_)) => {
                let problem = "is missing; name the agreement that was signed on dpa_signed_on";
                return Err(InvalidField::new("contract.dpa_reference", "MISSING", problem));
            }
            (false, None) => {
                let problem = "is missing; give the day on which the agreement was signed";
                return Err(InvalidField::new("contract.dpa_signed_on", "MISSING", problem));
            }
            // It may be tomorrow already where it was signed.
            (_, Some(day))
                if Some(day) > clock::now().date_naive().checked_add_days(Days::new(1)) =>
            {
                let problem = format!("{day} is to come; give the day on which it was signed");
                let field = "contract.dpa_signed_on";
                return Err(InvalidField::new(field, "DATE_TO_COME", problem));
            }
            _ => {}
        }
        match self.details_retention_days {
            Some(days) if !(1..=MAX_RETENTION_DAYS).contains(&days) => Err(InvalidField::new(
                "contract.details_retention_days",
                "OUT_OF_RANGE",
                format!("is {days}; give 1 to {MAX_RETENTION_DAYS}, or 0 for what the server says"),
            )),
            _ => Ok(()),
        }
    }
}

impl Address {
    fn check(&self) -> Result<(), InvalidField> {
        text("contract.address.line_1", &self.line_1, NAME_LENGTH)?;
        text("contract.address.line_2", &self.line_2, NAME_LENGTH)?;
        text("contract.address.city", &self.city, NAME_LENGTH)?;
        text("contract.address.postal_code", &self.postal_code, POSTAL_CODE_LENGTH)?;
        text("contract.address.subdivision", &self.subdivision, NAME_LENGTH)?;
        country("contract.address.country_code", &self.country_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tax_rate_is_exact_as_a_factor() {
        for (percent, factor) in [("0", "0"), ("19", "0.19"), ("8.8750", "0.08875"), ("100", "1")] {
            let tax_rate_percent = percent.parse().unwrap();
            let contract = Contract { tax_rate_percent, ..Contract::default() };
            assert_eq!(contract.tax_rate().to_string(), factor);
        }
    }

    #[test]
    fn every_spelling_of_the_database_is_read_back() {
        for terms in [PaymentTerms::Prepaid, PaymentTerms::Net30] {
            assert_eq!(PaymentTerms::from_stored(terms.as_str()), Some(terms));
        }
        for tax in [TaxTreatment::Standard, TaxTreatment::Exempt, TaxTreatment::ReverseCharge] {
            assert_eq!(TaxTreatment::from_stored(tax.as_str()), Some(tax));
        }
        assert_eq!(PaymentTerms::from_stored("net_60"), None);
    }
}

//! A customer, and what the hot path needs to know of one.

use std::fmt;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::{
    accounts::{
        budgets::Budget,
        contract::{Contract, NAME_LENGTH, PaymentTerms},
        error::InvalidField,
        fields::required_text,
    },
    catalog::{pattern::ModelDiscount, version::PricingTerms},
    ids::AccountId,
    money::Currency,
};

/// The longest handle, in characters.
pub const HANDLE_LENGTH: usize = 40;
/// The longest reason for a suspension, a closing or a revocation, in characters.
pub const REASON_LENGTH: usize = 500;

/// Whether an account's keys may make requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountStatus {
    /// They may.
    Active,
    /// They may not, until it is resumed.
    Suspended,
    /// They may not, for good.
    Closed,
}

impl AccountStatus {
    /// As the database spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Closed => "closed",
        }
    }

    /// Reads the database's spelling.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        [Self::Active, Self::Suspended, Self::Closed]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

impl fmt::Display for AccountStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub account_id: AccountId,
    /// Unique and short; fixed for the account's life.
    pub handle: String,
    /// What people call it.
    pub display_name: String,
    /// Fixed for the account's life.
    pub currency: Currency,
    /// Whether its keys may make requests.
    pub status: AccountStatus,
    /// Why it is suspended or closed.
    pub status_reason: String,
    /// What is agreed.
    pub contract: Contract,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Rises with every change.
    pub version: i64,
}

/// What the hot path knows of an account, from the [directory](crate::accounts::directory).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRecord {
    /// Its id.
    pub account_id: AccountId,
    /// Unique and short.
    pub handle: String,
    /// Fixed for the account's life.
    pub currency: Currency,
    /// Whether its keys may make requests.
    pub status: AccountStatus,
    /// How it pays.
    pub payment_terms: PaymentTerms,
    /// Off every price, 0 to 100.
    pub discount_percent: Decimal,
    /// Instead of `discount_percent` for these models; the first that matches counts.
    pub model_discounts: Vec<ModelDiscount>,
    /// 0 to 1.
    pub tax_rate: Decimal,
    /// In the order in which they are checked.
    pub budgets: Vec<Budget>,
}

impl AccountRecord {
    /// What decides the account's prices.
    #[must_use]
    pub fn pricing_terms(&self) -> PricingTerms<'_> {
        PricingTerms {
            account_id: Some(self.account_id),
            currency: self.currency,
            discount_percent: self.discount_percent,
            model_discounts: &self.model_discounts,
        }
    }
}

impl AccountRecord {
    /// An account with its budgets.
    #[must_use]
    pub fn of(account: Account, budgets: Vec<Budget>) -> Self {
        Self {
            account_id: account.account_id,
            handle: account.handle,
            currency: account.currency,
            status: account.status,
            payment_terms: account.contract.payment_terms,
            discount_percent: account.contract.discount_percent,
            tax_rate: account.contract.tax_rate(),
            model_discounts: account.contract.model_discounts,
            budgets,
        }
    }
}

/// An account to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    /// 2 to 40 of a-z, 0-9 and -, beginning with a letter.
    pub handle: String,
    /// What people call it; empty means the handle.
    pub display_name: String,
    /// Fixed for the account's life.
    pub currency: Currency,
    /// What is agreed.
    pub contract: Contract,
}

impl NewAccount {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field at fault, as the contract spells it.
    pub fn check(&self) -> Result<(), InvalidField> {
        handle("handle", &self.handle)?;
        required_text("display_name", &self.display_name, NAME_LENGTH)?;
        self.contract.check(self.currency)
    }
}

/// A new contract for an account, and maybe a new name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountUpdate {
    /// Empty leaves it.
    pub display_name: String,
    /// Replaces the whole contract.
    pub contract: Contract,
    /// The version that was read.
    pub version: i64,
}

impl AccountUpdate {
    /// Checks every field against the account's currency.
    ///
    /// # Errors
    /// The first field at fault, as the contract spells it.
    pub fn check(&self, currency: Currency) -> Result<(), InvalidField> {
        if self.version < 1 {
            return Err(InvalidField::new(
                "version",
                "MISSING",
                "is missing; send the version of the account that you read and changed",
            ));
        }
        if !self.display_name.is_empty() {
            required_text("display_name", &self.display_name, NAME_LENGTH)?;
        }
        self.contract.check(currency)
    }
}

/// Checks a short name: 2 to [`HANDLE_LENGTH`] of a-z, 0-9 and -, beginning with a letter.
///
/// # Errors
/// What is wrong with it, under the name of the field.
pub(super) fn handle(field: &str, handle: &str) -> Result<(), InvalidField> {
    let shaped = (2..=HANDLE_LENGTH).contains(&handle.len())
        && handle.starts_with(|first: char| first.is_ascii_lowercase())
        && handle
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let shown: String = handle.chars().take(60).collect();
    if !shaped {
        return Err(InvalidField::new(
            field,
            "INVALID_HANDLE",
            format!(
                "{shown:?} is not a handle: 2 to {HANDLE_LENGTH} of a-z, 0-9 and -, beginning \
                 with a letter, such as acme"
            ),
        ));
    }
    // Wherever an account is asked for an id serves as well, so that neither may look like the other.
    if handle.parse::<Uuid>().is_ok() {
        return Err(InvalidField::new(
            field,
            "INVALID_HANDLE",
            format!("{shown:?} reads as an id; choose a handle that does not"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_short_lower_case_and_no_id() {
        let longest = "a".repeat(40);
        for handle in ["ab", "acme", "a-1", "zoo-42", longest.as_str()] {
            assert_eq!(super::handle("handle", handle), Ok(()), "{handle}");
        }
        let long = "a".repeat(41);
        for handle in [
            "",
            "a",
            "Acme",
            "1ab",
            "-ab",
            "a_b",
            "a.b",
            "a b",
            "åb",
            long.as_str(),
            "a1890a5d-ac96-774b-bcce-b302099a8057",
            "a1890a5dac96774bbcceb302099a8057",
        ] {
            assert_eq!(
                super::handle("handle", handle).unwrap_err().reason,
                "INVALID_HANDLE",
                "{handle}"
            );
        }
    }

    #[test]
    fn every_status_of_the_database_is_read_back() {
        for status in [AccountStatus::Active, AccountStatus::Suspended, AccountStatus::Closed] {
            assert_eq!(AccountStatus::from_stored(status.as_str()), Some(status));
        }
    }
}

//! Who we are on documents, and how jurisdictions tax: both only ever added to. The newest version
//! of us counts for what is issued next; a frozen document has its own copy.

pub(crate) mod store;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::{
    accounts::{
        contract::{NAME_LENGTH, NUMBER_LENGTH, POSTAL_CODE_LENGTH},
        error::InvalidField,
        fields::{country, email, required_text, text},
    },
    billing::{
        document::{Party, Remittance},
        error::BillingError,
        tax::TaxRate,
    },
};

/// The longest label of a tax, in characters.
pub const LABEL_LENGTH: usize = 40;

/// We, and how we are paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seller {
    /// Who we are.
    pub party: Party,
    /// How to pay us; the payment reference is each document's own.
    pub remittance: Remittance,
}

impl Seller {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field at fault, as the contract spells it.
    pub fn check(&self) -> Result<(), InvalidField> {
        let (party, address) = (&self.party, &self.party.address);
        required_text("seller.legal_name", &party.legal_name, NAME_LENGTH)?;
        text("seller.trading_name", &party.trading_name, NAME_LENGTH)?;
        required_text("seller.address.line_1", &address.line_1, NAME_LENGTH)?;
        text("seller.address.line_2", &address.line_2, NAME_LENGTH)?;
        required_text("seller.address.city", &address.city, NAME_LENGTH)?;
        text("seller.address.postal_code", &address.postal_code, POSTAL_CODE_LENGTH)?;
        text("seller.address.subdivision", &address.subdivision, NAME_LENGTH)?;
        required_text("seller.address.country_code", &address.country_code, 2)?;
        country("seller.address.country_code", &address.country_code)?;
        text("seller.registration_id", &party.registration_id, NUMBER_LENGTH)?;
        text("seller.tax_id", &party.tax_id, NUMBER_LENGTH)?;
        if let Some(electronic) = &party.electronic_address {
            required_text("seller.electronic_address.scheme", &electronic.scheme, 10)?;
            required_text("seller.electronic_address.address", &electronic.address, NAME_LENGTH)?;
        }
        email("seller.email", &party.email)?;
        text("seller.telephone", &party.telephone, NUMBER_LENGTH)?;
        text("seller.contact", &party.contact, NAME_LENGTH)?;
        let remittance = &self.remittance;
        text("seller.remittance.account_name", &remittance.account_name, NAME_LENGTH)?;
        text("seller.remittance.account_number", &remittance.account_number, NUMBER_LENGTH)?;
        text("seller.remittance.bank_code", &remittance.bank_code, NUMBER_LENGTH)?;
        text("seller.remittance.bank_name", &remittance.bank_name, NAME_LENGTH)?;
        text("seller.remittance.terms", &remittance.terms, NAME_LENGTH)
    }
}

/// Sets who we are from now on.
///
/// # Errors
/// A field at fault, or the database failed.
pub async fn set(connection: &mut PgConnection, seller: &Seller) -> Result<(), BillingError> {
    seller.check()?;
    store::insert_seller(connection, seller).await
}

/// Adds an entry of a jurisdiction.
///
/// # Errors
/// A field at fault, or the database failed.
pub async fn set_tax_rate(
    connection: &mut PgConnection,
    rate: &TaxRate,
) -> Result<(), BillingError> {
    required_text("tax_rate.label", &rate.label, LABEL_LENGTH)?;
    store::insert_tax_rate(connection, rate).await
}

//! Accounts and contracts between the contract's messages and the domain's types.

use chrono::NaiveDate;
use tonic::Status;

use crate::{
    accounts::{
        account::{Account, AccountStatus},
        contract::{
            Address, Contract, DataProtection, MAX_MODEL_DISCOUNTS, PaymentTerms, TaxTreatment,
        },
        fields::percent,
    },
    api::{
        convert::{self, BadField},
        status::refused,
    },
    catalog::pattern::ModelDiscount,
    money::{Amount, Currency},
    proto,
};

/// An account as the contract carries it.
pub(super) fn account(account: Account) -> proto::Account {
    proto::Account {
        account_id: account.account_id.to_string(),
        handle: account.handle,
        display_name: account.display_name,
        currency_code: account.currency.code().to_owned(),
        status: status(account.status).into(),
        status_reason: account.status_reason,
        contract: Some(contract(account.contract, account.currency)),
        created_at: Some(convert::timestamp(account.created_at)),
        updated_at: Some(convert::timestamp(account.updated_at)),
        version: account.version,
    }
}

fn status(status: AccountStatus) -> proto::AccountStatus {
    match status {
        AccountStatus::Active => proto::AccountStatus::Active,
        AccountStatus::Suspended => proto::AccountStatus::Suspended,
        AccountStatus::Closed => proto::AccountStatus::Closed,
    }
}

fn contract(contract: Contract, currency: Currency) -> proto::Contract {
    proto::Contract {
        legal_name: contract.legal_name,
        address: Some(address(contract.address)),
        registration_id: contract.registration_id,
        tax_id: contract.tax_id,
        tax_treatment: match contract.tax_treatment {
            TaxTreatment::Standard => proto::TaxTreatment::Standard,
            TaxTreatment::Exempt => proto::TaxTreatment::Exempt,
            TaxTreatment::ReverseCharge => proto::TaxTreatment::ReverseCharge,
        }
        .into(),
        tax_rate_percent: contract.tax_rate_percent.to_string(),
        purchase_order: contract.purchase_order,
        cost_centre: contract.cost_centre,
        accounts_payable_email: contract.accounts_payable_email,
        payment_terms: match contract.payment_terms {
            PaymentTerms::Prepaid => proto::PaymentTerms::Prepaid,
            PaymentTerms::Net30 => proto::PaymentTerms::Net30,
        }
        .into(),
        credit_limit: Some(convert::money(contract.credit_limit, currency)),
        discount_percent: contract.discount_percent.to_string(),
        model_discounts: contract
            .model_discounts
            .into_iter()
            .map(|discount| proto::ModelDiscount {
                model: discount.pattern.to_string(),
                percent: discount.percent.to_string(),
            })
            .collect(),
        dpa_reference: contract.data_protection.dpa_reference,
        dpa_signed_on: contract
            .data_protection
            .dpa_signed_on
            .map(|day| day.to_string())
            .unwrap_or_default(),
        details_retention_days: contract.data_protection.details_retention_days.unwrap_or(0),
    }
}

/// Reads a list's filter; unset means all.
pub(super) fn status_filter(value: i32) -> Result<Option<AccountStatus>, BadField> {
    match proto::AccountStatus::try_from(value) {
        Ok(proto::AccountStatus::Unspecified) => Ok(None),
        Ok(proto::AccountStatus::Active) => Ok(Some(AccountStatus::Active)),
        Ok(proto::AccountStatus::Suspended) => Ok(Some(AccountStatus::Suspended)),
        Ok(proto::AccountStatus::Closed) => Ok(Some(AccountStatus::Closed)),
        Err(_) => Err(unknown_choice("status", value)),
    }
}

/// An address as the contract carries it.
pub(super) fn address(address: Address) -> proto::Address {
    proto::Address {
        line_1: address.line_1,
        line_2: address.line_2,
        city: address.city,
        postal_code: address.postal_code,
        subdivision: address.subdivision,
        country_code: address.country_code,
    }
}

/// Reads an address; none is an empty one.
pub(super) fn read_address(message: Option<proto::Address>) -> Address {
    let message = message.unwrap_or_default();
    Address {
        line_1: message.line_1,
        line_2: message.line_2,
        city: message.city,
        postal_code: message.postal_code,
        subdivision: message.subdivision,
        country_code: message.country_code,
    }
}

/// Reads a contract. What its types cannot check, [`Contract::check`] does.
pub(super) fn read_contract(
    message: proto::Contract,
    currency: Currency,
) -> Result<Contract, Status> {
    let credit_limit = "contract.credit_limit";
    let credit_limit = match message.credit_limit {
        // What an empty form sends.
        Some(money) if money == proto::Money::default() => Amount::ZERO,
        money => convert::optional_amount(credit_limit, money.as_ref(), currency)
            .map_err(refused)?
            .unwrap_or_default(),
    };
    Ok(Contract {
        legal_name: message.legal_name,
        address: read_address(message.address),
        registration_id: message.registration_id,
        tax_id: message.tax_id,
        tax_treatment: read_tax_treatment(message.tax_treatment).map_err(refused)?,
        tax_rate_percent: percent("contract.tax_rate_percent", &message.tax_rate_percent)
            .map_err(refused)?,
        purchase_order: message.purchase_order,
        cost_centre: message.cost_centre,
        accounts_payable_email: message.accounts_payable_email,
        payment_terms: read_payment_terms(message.payment_terms).map_err(refused)?,
        credit_limit,
        discount_percent: percent("contract.discount_percent", &message.discount_percent)
            .map_err(refused)?,
        model_discounts: read_discounts(&message.model_discounts)?,
        data_protection: DataProtection {
            dpa_reference: message.dpa_reference,
            dpa_signed_on: read_day("contract.dpa_signed_on", &message.dpa_signed_on)?,
            details_retention_days: Some(message.details_retention_days).filter(|days| *days != 0),
        },
    })
}

/// A day such as `2026-11-22`, or none.
fn read_day(field: &str, text: &str) -> Result<Option<NaiveDate>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let day = Some(text).filter(|text| text.len() == "2026-11-22".len());
    day.and_then(|text| text.parse().ok()).map(Some).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        let problem = format!("{shown:?} is no day; write it like 2026-11-22");
        refused(BadField::new(field, "INVALID_DATE", problem))
    })
}

fn read_tax_treatment(value: i32) -> Result<TaxTreatment, BadField> {
    match proto::TaxTreatment::try_from(value) {
        Ok(proto::TaxTreatment::Unspecified | proto::TaxTreatment::Standard) => {
            Ok(TaxTreatment::Standard)
        }
        Ok(proto::TaxTreatment::Exempt) => Ok(TaxTreatment::Exempt),
        Ok(proto::TaxTreatment::ReverseCharge) => Ok(TaxTreatment::ReverseCharge),
        Err(_) => Err(unknown_choice("contract.tax_treatment", value)),
    }
}

fn read_payment_terms(value: i32) -> Result<PaymentTerms, BadField> {
    match proto::PaymentTerms::try_from(value) {
        Ok(proto::PaymentTerms::Unspecified | proto::PaymentTerms::Prepaid) => {
            Ok(PaymentTerms::Prepaid)
        }
        Ok(proto::PaymentTerms::Net30) => Ok(PaymentTerms::Net30),
        Err(_) => Err(unknown_choice("contract.payment_terms", value)),
    }
}

fn read_discounts(messages: &[proto::ModelDiscount]) -> Result<Vec<ModelDiscount>, Status> {
    messages
        .iter()
        .enumerate()
        // One beyond the bound is enough for the check to refuse them all.
        .take(MAX_MODEL_DISCOUNTS + 1)
        .map(|(index, message)| {
            let parent = format!("contract.model_discounts[{index}]");
            let pattern = message.model.parse().map_err(|error| {
                refused(BadField::new(format!("{parent}.model"), "INVALID_PATTERN", error))
            })?;
            let field = format!("{parent}.percent");
            if message.percent.is_empty() {
                let problem = "is missing; give 0 to 100, such as 7.5";
                return Err(refused(BadField::new(field, "MISSING", problem)));
            }
            Ok(ModelDiscount {
                pattern,
                percent: percent(&field, &message.percent).map_err(refused)?,
            })
        })
        .collect()
}

/// What a choice is refused with that this version does not know.
pub(super) fn unknown_choice(field: &str, value: i32) -> BadField {
    BadField::new(
        field,
        "UNKNOWN_CHOICE",
        format!("{value} is not one of its values; see the contract for them"),
    )
}

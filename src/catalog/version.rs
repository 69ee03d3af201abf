//! A price as the book keeps it: for which model, from when, for whom, and where it comes from.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use crate::{
    catalog::{
        model::{Model, Route},
        pattern::ModelDiscount,
        price::{Cost, Price},
    },
    ids::{AccountId, ModelId, PriceVersionId},
    money::Currency,
};

/// One version of a price. It never changes, so that whatever was charged by it can be computed
/// again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PricedModel {
    /// Its number.
    pub version: PriceVersionId,
    /// What it prices.
    pub model_id: ModelId,
    /// Whose contract price it is; `None` for a list price.
    pub account_id: Option<AccountId>,
    /// The moment from which it holds.
    pub effective_from: DateTime<Utc>,
    /// What is charged.
    pub price: Price,
    /// What it costs ourselves.
    pub cost: Option<Cost>,
    /// Where the price comes from; empty where nobody said.
    pub source: String,
    /// The date it had there; empty where nobody said.
    pub source_date: String,
    /// Set for a price that a discount made.
    pub derivation: Option<Derivation>,
}

/// How a discounted price came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Derivation {
    /// The list price it was made from.
    pub from: PriceVersionId,
    /// Above 0, at most 100, at most 4 decimals.
    pub percent: Decimal,
}

/// A version before it has a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draft<'a> {
    pub model_id: ModelId,
    pub account_id: Option<AccountId>,
    pub effective_from: DateTime<Utc>,
    pub price: &'a Price,
    pub cost: Option<&'a Cost>,
    pub source: &'a str,
    pub source_date: &'a str,
    pub derivation: Option<Derivation>,
}

impl<'a> Draft<'a> {
    /// The same again as this version.
    pub(super) fn of(version: &'a PricedModel) -> Self {
        Self {
            model_id: version.model_id,
            account_id: version.account_id,
            effective_from: version.effective_from,
            price: &version.price,
            cost: version.cost.as_ref(),
            source: &version.source,
            source_date: &version.source_date,
            derivation: version.derivation,
        }
    }
}

/// What a publication says of a model; what is `None` stays as it is, or takes its default where
/// the model is new.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewModel {
    /// Unique; what a request asks for.
    pub name: String,
    /// Who serves it; nobody by default.
    pub provider: Option<String>,
    /// By default what the name says.
    pub route: Option<Route>,
    /// By default yes.
    pub active: Option<bool>,
    /// Prompt and answer together, in tokens.
    pub context_tokens: Option<u64>,
    /// The longest answer, in tokens.
    pub max_output_tokens: Option<u64>,
}

/// A price to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPrice {
    /// The model's name; one that nobody has is added with defaults.
    pub model: String,
    /// Whose contract price it is; `None` for a list price.
    pub account_id: Option<AccountId>,
    /// The moment from which it holds, kept to the microsecond.
    pub effective_from: DateTime<Utc>,
    /// What is charged.
    pub price: Price,
    /// What it costs ourselves.
    pub cost: Option<Cost>,
    /// Where the price comes from.
    pub source: String,
    /// The date it had there.
    pub source_date: String,
}

/// What decides the price for a customer.
#[derive(Debug, Clone, Copy)]
pub struct PricingTerms<'a> {
    /// Whose contract prices count; `None` asks for the list price.
    pub account_id: Option<AccountId>,
    /// A price in another currency does not count.
    pub currency: Currency,
    /// Off every list price, 0 to 100.
    pub discount_percent: Decimal,
    /// Instead of `discount_percent` for these models; the first that matches counts.
    pub model_discounts: &'a [ModelDiscount],
}

impl PricingTerms<'static> {
    /// Terms of nobody in particular: the list price.
    #[must_use]
    pub const fn list(currency: Currency) -> Self {
        Self { account_id: None, currency, discount_percent: Decimal::ZERO, model_discounts: &[] }
    }
}

impl PricingTerms<'_> {
    /// The discount on this model's list price, in percent.
    #[must_use]
    pub fn discount_on(&self, model: &Model) -> Decimal {
        let matching = self.model_discounts.iter().find(|one| one.pattern.matches(&model.name));
        matching.map_or(self.discount_percent, |one| one.percent).normalize()
    }
}

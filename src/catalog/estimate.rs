//! What a request would cost, without making it.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::{
    catalog::{
        book::PriceBook,
        error::CatalogError,
        rating::{self, Rating},
        version::{PricedModel, PricingTerms},
    },
    metering::quantities::Quantities,
};

/// A charge and the price that makes it.
#[derive(Debug, Clone)]
pub struct Estimate {
    /// The price that holds.
    pub priced: Arc<PricedModel>,
    /// What it charges.
    pub rating: Rating,
}

/// Rates quantities at the price that holds for a customer at a moment, just as usage is rated. A
/// model that is not active has its estimate too, for what was used while it was.
pub async fn estimate(
    book: &PriceBook,
    terms: &PricingTerms<'_>,
    model: &str,
    quantities: &Quantities,
    at: DateTime<Utc>,
) -> Result<Estimate, CatalogError> {
    let model = book
        .model(model)
        .ok_or_else(|| CatalogError::ModelNotFound { field: "model", name: shortened(model) })?;
    let priced = book.resolve_or_derive(terms, &model, at).await?;
    let priced = priced.ok_or_else(|| CatalogError::Unpriced {
        model: model.name.clone(),
        currency: terms.currency,
        at,
    })?;
    let rating = rating::rate(&priced.price, quantities, false)?;
    Ok(Estimate { priced, rating })
}

/// Enough of a name to recognise it by.
fn shortened(name: &str) -> String {
    name.chars().take(60).collect()
}

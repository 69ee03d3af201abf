//! `CatalogService`: publishing models and prices, and reading them.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tonic::{Request, Response, Status};

use super::{
    caller::caller,
    catalog_convert::{
        PricedAccount, model_message, price_message, publication, quantities, within_limits,
    },
    convert::{BadField, currency, moment, money, next_page_token, page},
    idempotency::{self, Begun},
    named_account::named_account_record,
    status::refused,
};
use crate::{
    accounts::{
        account::AccountRecord,
        directory::{Directory, DirectoryError},
    },
    catalog::{
        book::PriceBook,
        error::CatalogError,
        estimate::estimate,
        model::{MAX_MODEL_NAME, Model},
        publish::publish_in_transaction,
        version::{PricedModel, PricingTerms},
    },
    clock,
    identity::{Caller, Role},
    money::Currency,
    proto::{
        EstimateCostRequest, EstimateCostResponse, GetModelRequest, GetModelResponse,
        ListModelsRequest, ListModelsResponse, Price, PublishPricesRequest, PublishPricesResponse,
        catalog_service_server::{CatalogService, CatalogServiceServer},
    },
};

/// The largest request, in bytes: the most records of a publication with several tiers each.
const MAX_REQUEST: usize = 32 * 1024 * 1024;
/// The most prices in the history of one model: a change every day for almost three years.
const MAX_HISTORY: usize = 1_000;

/// The service and what it is made of.
#[derive(Debug)]
pub struct CatalogApi {
    pool: PgPool,
    book: Arc<PriceBook>,
    directory: Arc<Directory>,
}

impl CatalogApi {
    /// The service, ready to be added to a server.
    #[must_use]
    pub fn service(
        pool: PgPool,
        book: Arc<PriceBook>,
        directory: Arc<Directory>,
    ) -> CatalogServiceServer<Self> {
        let api = Self { pool, book, directory };
        CatalogServiceServer::new(api).max_decoding_message_size(MAX_REQUEST)
    }

    /// The account that a request names, if it names one and the caller may see it.
    async fn account(
        &self,
        caller: &Caller,
        text: &str,
    ) -> Result<Option<Arc<AccountRecord>>, Status> {
        if text.is_empty() {
            return Ok(None);
        }
        let found = named_account_record(&self.directory, caller, "account", text).await?;
        Ok(Some(found))
    }

    /// The accounts whose contract prices are published; one that nobody has is left out.
    async fn accounts_named(
        &self,
        prices: &[Price],
    ) -> Result<BTreeMap<String, PricedAccount>, Status> {
        let mut accounts = BTreeMap::new();
        for price in prices.iter().filter(|price| !price.account.is_empty()) {
            let Entry::Vacant(entry) = accounts.entry(price.account.clone()) else { continue };
            let account_id = match self.directory.resolve(&price.account).await {
                Ok(account_id) => account_id,
                Err(DirectoryError::UnknownAccount(_)) => continue,
                Err(error) => return Err(refused(error)),
            };
            if let Some(account) = self.directory.account(account_id).await.map_err(refused)? {
                entry.insert(PricedAccount { account_id, currency: account.currency });
            }
        }
        Ok(accounts)
    }

    fn model(&self, name: &str) -> Result<Arc<Model>, Status> {
        self.book.model(name).ok_or_else(|| {
            let name = name.chars().take(MAX_MODEL_NAME).collect();
            refused(CatalogError::ModelNotFound { field: "name", name })
        })
    }
}

#[tonic::async_trait]
impl CatalogService for CatalogApi {
    async fn publish_prices(
        &self,
        request: Request<PublishPricesRequest>,
    ) -> Result<Response<PublishPricesResponse>, Status> {
        let request = request.into_inner();
        within_limits(&request).map_err(refused)?;
        let accounts = self.accounts_named(&request.prices).await?;
        let publication = publication(&request, &accounts).map_err(refused)?;
        let begun =
            idempotency::begin(&self.pool, "PublishPrices", &request.idempotency_key, &request)
                .await
                .map_err(refused)?;
        let response = match begun {
            Begun::Repeated(response) => response,
            Begun::First(mut turn) => {
                let published = publish_in_transaction(turn.connection(), &publication)
                    .await
                    .map_err(refused)?;
                let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
                let response = PublishPricesResponse {
                    models_added: count(published.models_added),
                    models_updated: count(published.models_updated),
                    prices_added: count(published.prices_added),
                    prices_unchanged: count(published.prices_unchanged),
                };
                turn.commit(&response).await.map_err(refused)?;
                response
            }
        };
        // Also for a repeated call: the first may have ended between its commit and here.
        self.book.reload().await.map_err(refused)?;
        Ok(Response::new(response))
    }

    async fn list_models(
        &self,
        request: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        const LIST: &str = "ListModels";
        let caller = caller(&request)?.clone();
        let request = request.into_inner();
        let page = page::<String>(LIST, request.page_size, &request.page_token).map_err(refused)?;
        let currency = currency_or(&request.currency_code, Currency::USD)?;
        let now = clock::now();
        let part = request.name_contains.to_ascii_lowercase();
        let list_price = |model: &Model| self.book.list_price(model, currency, now);
        let wanted = |model: &Model| {
            (part.is_empty() || model.name.to_ascii_lowercase().contains(&part))
                && (request.include_unavailable || (model.active && list_price(model).is_some()))
        };
        let after = page.after.unwrap_or_default();
        let mut models = self.book.models_after(&after, page.size.saturating_add(1), wanted);
        let next_page_token =
            next_page_token(LIST, &mut models, page.size, |model| model.name.clone());
        let message = |model: &Arc<Model>| {
            let mut message = model_message(model, list_price(model).as_deref());
            message.price = message.price.map(|price| shown_to(&caller, price));
            message
        };
        let models = models.iter().map(message).collect();
        Ok(Response::new(ListModelsResponse { models, next_page_token }))
    }

    async fn get_model(
        &self,
        request: Request<GetModelRequest>,
    ) -> Result<Response<GetModelResponse>, Status> {
        let caller = caller(&request)?.clone();
        let request = request.into_inner();
        let account = self.account(&caller, &request.account).await?;
        let usual = account.as_ref().map_or(Currency::USD, |account| account.currency);
        let currency = currency_or(&request.currency_code, usual)?;
        let model = self.model(&request.name)?;
        let mut history = self.book.history(&model, currency, None);
        if let Some(account) = account {
            let percent = account.pricing_terms().discount_on(&model);
            let made = self.book.discounts_of(&history, percent).await.map_err(refused)?;
            history.extend(made);
            history.extend(self.book.history(&model, currency, Some(account.account_id)));
        }
        history.sort_by_key(|version| (version.effective_from, version.version));
        let message =
            |version: &Arc<PricedModel>| shown_to(&caller, price_message(&model.name, version));
        let history = history.iter().rev().take(MAX_HISTORY).map(message).collect();
        let list_price = self.book.list_price(&model, currency, clock::now());
        let mut model = model_message(&model, list_price.as_deref());
        model.price = model.price.map(|price| shown_to(&caller, price));
        Ok(Response::new(GetModelResponse { model: Some(model), history }))
    }

    async fn estimate_cost(
        &self,
        request: Request<EstimateCostRequest>,
    ) -> Result<Response<EstimateCostResponse>, Status> {
        let caller = caller(&request)?.clone();
        let request = request.into_inner();
        let account = self.account(&caller, &request.account).await?;
        let terms = match &account {
            Some(account) => account.pricing_terms(),
            None => PricingTerms::list(currency_or(&request.currency_code, Currency::USD)?),
        };
        if !request.currency_code.is_empty() && request.currency_code != terms.currency.code() {
            let problem =
                format!("is not the account's currency, {}; leave it empty", terms.currency);
            return Err(refused(BadField::new("currency_code", "CURRENCY_MISMATCH", problem)));
        }
        let quantities = quantities(&request.quantities.unwrap_or_default());
        let at = moment_or_now("at", request.at.as_ref())?;
        let estimate =
            estimate(&self.book, &terms, &request.model, &quantities, at).await.map_err(refused)?;
        Ok(Response::new(EstimateCostResponse {
            cost: Some(money(estimate.rating.charge, terms.currency)),
            price_version: estimate.priced.version.0,
            tier_above: estimate.rating.tier_above.unwrap_or(0),
        }))
    }
}

fn currency_or(code: &str, usual: Currency) -> Result<Currency, Status> {
    if code.is_empty() { Ok(usual) } else { currency("currency_code", code).map_err(refused) }
}

fn moment_or_now(
    field: &str,
    timestamp: Option<&prost_types::Timestamp>,
) -> Result<DateTime<Utc>, Status> {
    timestamp.map_or_else(|| Ok(clock::now()), |at| moment(field, at).map_err(refused))
}

/// A customer's own tools see what we charge, not what we pay.
fn shown_to(caller: &Caller, price: Price) -> Price {
    match caller.role {
        Role::Tenant => Price { cost: None, ..price },
        _ => price,
    }
}

//! The price book in memory: which price holds for whom and when.
//!
//! The hot path looks prices up without locks and without I/O. Three things make that safe:
//!
//! - A price version never changes, so a cached version is never stale; only the set of versions
//!   grows. What changes (a model's data, a newer price) is in a snapshot that a reload replaces
//!   whole.
//! - A reload is numbered when it is asked for. A load answers only those requests that were made
//!   before it began: one that began before a publication committed is never taken for newer.
//! - A discounted price is a version of its own, made when first needed. Two instances that make
//!   it at once get the same one, because the database lets only one in.
//!
//! A contract price in force wins over the list price and is not discounted: it is what was agreed.
//! A contract price marked as withdrawn ends the contract, and the list price holds again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgPool;
use tokio::sync::Mutex;

use crate::{
    catalog::{
        error::CatalogError,
        model::Model,
        snapshot::Snapshot,
        store,
        version::{Derivation, Draft, PricedModel, PricingTerms},
    },
    ids::{AccountId, PriceVersionId},
    money::Currency,
};

/// What a model costs a customer at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// This price holds.
    Priced(Arc<PricedModel>),
    /// No price holds, or the model is withdrawn: it must not be sold.
    Unpriced,
    /// A discounted price holds that this instance has not seen yet; ask
    /// [`PriceBook::resolve_or_derive`].
    NeedsDerivation,
}

/// The whole price book. One for each server, shared by all who ask for prices.
#[derive(Debug)]
pub struct PriceBook {
    pool: PgPool,
    current: ArcSwap<Snapshot>,
    /// Every version ever seen, discounted ones too.
    versions: papaya::HashMap<PriceVersionId, Arc<PricedModel>>,
    /// The discounted versions by what they were made from.
    derived: papaya::HashMap<Derivation, Arc<PricedModel>>,
    /// How many reloads were asked for.
    asked: AtomicU64,
    /// Held while a load runs.
    loading: Mutex<()>,
}

impl PriceBook {
    /// Loads the book.
    pub async fn open(pool: PgPool) -> Result<Self, CatalogError> {
        let book = Self {
            pool,
            current: ArcSwap::default(),
            versions: papaya::HashMap::new(),
            derived: papaya::HashMap::new(),
            asked: AtomicU64::new(0),
            loading: Mutex::new(()),
        };
        book.reload().await?;
        Ok(book)
    }

    /// Brings the book up to what is committed when this is called. Calls that come while a load
    /// runs share the next one. After an error the book stays as it was.
    pub async fn reload(&self) -> Result<(), CatalogError> {
        let wanted = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let _loading = self.loading.lock().await;
        if self.current.load().generation >= wanted {
            return Ok(());
        }
        let generation = self.asked.load(Ordering::SeqCst);
        let loaded = store::load(&self.pool).await?;
        let versions: Vec<_> =
            loaded.versions.into_iter().map(|version| self.remember(version)).collect();
        self.current.store(Arc::new(Snapshot::new(generation, loaded.models, &versions)));
        Ok(())
    }

    /// The model of this name, active or not.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<Arc<Model>> {
        self.current.load().model(name)
    }

    /// Up to `limit` models whose names come after this one and that are wanted, by name.
    #[must_use]
    pub fn models_after(
        &self,
        name: &str,
        limit: usize,
        wanted: impl Fn(&Model) -> bool,
    ) -> Vec<Arc<Model>> {
        let current = self.current.load();
        current.models_after(name).filter(|model| wanted(model)).take(limit).cloned().collect()
    }

    /// The list price in force at a moment.
    #[must_use]
    pub fn list_price(
        &self,
        model: &Model,
        currency: Currency,
        at: DateTime<Utc>,
    ) -> Option<Arc<PricedModel>> {
        self.current.load().in_force(model.model_id, currency, None, at).cloned()
    }

    /// Every version of a model's list price (`account` is `None`) or of an account's contract
    /// price, oldest first, withdrawals too.
    #[must_use]
    pub fn history(
        &self,
        model: &Model,
        currency: Currency,
        account: Option<AccountId>,
    ) -> Vec<Arc<PricedModel>> {
        self.current.load().timeline(model.model_id, currency, account).to_vec()
    }

    /// The versions that a discount has made of these, by this instance or another.
    pub async fn discounts_of(
        &self,
        list: &[Arc<PricedModel>],
        percent: Decimal,
    ) -> Result<Vec<Arc<PricedModel>>, CatalogError> {
        let from: Vec<_> = list.iter().map(|version| version.version).collect();
        let made = store::discounts_of(&self.pool, &from, percent).await?;
        Ok(made.into_iter().map(|version| self.remember(version)).collect())
    }

    /// The price for a customer at a moment, from memory alone.
    #[must_use]
    pub fn resolve(
        &self,
        terms: &PricingTerms<'_>,
        model: &Model,
        at: DateTime<Utc>,
    ) -> Resolution {
        match self.base(terms, model, at) {
            Base::Final(priced) => Resolution::Priced(priced),
            Base::Unpriced => Resolution::Unpriced,
            Base::Discounted(list, percent) => self
                .discounted(list.version, percent)
                .map_or(Resolution::NeedsDerivation, Resolution::Priced),
        }
    }

    /// The price for a customer at a moment; makes and keeps the discounted version where there is
    /// none yet. `None` where the model has no price.
    pub async fn resolve_or_derive(
        &self,
        terms: &PricingTerms<'_>,
        model: &Model,
        at: DateTime<Utc>,
    ) -> Result<Option<Arc<PricedModel>>, CatalogError> {
        match self.base(terms, model, at) {
            Base::Final(priced) => Ok(Some(priced)),
            Base::Unpriced => Ok(None),
            Base::Discounted(list, percent) => match self.discounted(list.version, percent) {
                Some(priced) => Ok(Some(priced)),
                None => self.derive(&list, percent).await.map(Some),
            },
        }
    }

    /// A version that this instance has seen.
    #[must_use]
    pub fn version(&self, version: PriceVersionId) -> Option<Arc<PricedModel>> {
        self.versions.pin().get(&version).cloned()
    }

    /// A version, loaded if another instance made it. `None` where there is none of this number.
    pub async fn version_or_load(
        &self,
        version: PriceVersionId,
    ) -> Result<Option<Arc<PricedModel>>, CatalogError> {
        if let Some(seen) = self.version(version) {
            return Ok(Some(seen));
        }
        let loaded = store::version(&self.pool, version).await?;
        Ok(loaded.map(|version| self.remember(version)))
    }

    /// The version that a discount made of another, if this instance has seen it.
    fn discounted(&self, from: PriceVersionId, percent: Decimal) -> Option<Arc<PricedModel>> {
        self.derived.pin().get(&Derivation { from, percent }).cloned()
    }

    fn base(&self, terms: &PricingTerms<'_>, model: &Model, at: DateTime<Utc>) -> Base {
        let current = self.current.load();
        let in_force = |account| current.in_force(model.model_id, terms.currency, account, at);
        let contract = terms.account_id.and_then(|account| in_force(Some(account)));
        if let Some(contract) = contract {
            return Base::Final(Arc::clone(contract));
        }
        let Some(list) = in_force(None) else { return Base::Unpriced };
        let percent = terms.discount_on(model);
        if percent.is_zero() {
            Base::Final(Arc::clone(list))
        } else {
            Base::Discounted(Arc::clone(list), percent)
        }
    }

    async fn derive(
        &self,
        list: &PricedModel,
        percent: Decimal,
    ) -> Result<Arc<PricedModel>, CatalogError> {
        let price = list.price.discounted(percent).map_err(|problem| CatalogError::Field {
            field: "discount_percent".to_owned(),
            problem: problem.to_string(),
        })?;
        let derivation = Derivation { from: list.version, percent };
        let draft = Draft { price: &price, derivation: Some(derivation), ..Draft::of(list) };
        let made = store::derive(&self.pool, draft).await?;
        Ok(self.remember(made))
    }

    /// Keeps a version and returns the one copy that everybody shares.
    fn remember(&self, version: PricedModel) -> Arc<PricedModel> {
        let versions = self.versions.pin();
        let shared = Arc::clone(versions.get_or_insert_with(version.version, || Arc::new(version)));
        if let Some(derivation) = shared.derivation {
            self.derived.pin().get_or_insert_with(derivation, || Arc::clone(&shared));
        }
        shared
    }
}

/// What holds before an unseen discount is made.
enum Base {
    Final(Arc<PricedModel>),
    Unpriced,
    /// The list price and the percentage off it.
    Discounted(Arc<PricedModel>, Decimal),
}

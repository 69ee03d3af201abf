//! The whole price book at one moment, in memory, for look-ups without locks or I/O.
//!
//! A price in force is found by one hash look-up and a binary search over its timeline. Discounted
//! prices are not part of it: they are made when first needed, and `book` keeps them.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use chrono::{DateTime, Utc};

use crate::{
    catalog::{model::Model, version::PricedModel},
    ids::{AccountId, ModelId},
    money::Currency,
};

/// For which model, in which currency, and by whose contract; nobody's is the list price.
type Line = (ModelId, Currency, Option<AccountId>);

/// Models and published prices as one load found them.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// The reload that was asked for last when this load began.
    pub generation: u64,
    by_name: BTreeMap<Arc<str>, Arc<Model>>,
    /// Each timeline is sorted by `effective_from`, which is unique within it.
    timelines: HashMap<Line, Vec<Arc<PricedModel>>>,
}

impl Snapshot {
    /// Arranges what was loaded; versions made by a discount are left out.
    pub(super) fn new(generation: u64, models: Vec<Model>, versions: &[Arc<PricedModel>]) -> Self {
        let by_name =
            models.into_iter().map(|model| (Arc::from(model.name.as_str()), Arc::new(model)));
        let mut timelines: HashMap<Line, Vec<Arc<PricedModel>>> = HashMap::new();
        for version in versions.iter().filter(|version| version.derivation.is_none()) {
            let line = (version.model_id, version.price.currency(), version.account_id);
            timelines.entry(line).or_default().push(Arc::clone(version));
        }
        for timeline in timelines.values_mut() {
            timeline.sort_by_key(|version| version.effective_from);
        }
        Self { generation, by_name: by_name.collect(), timelines }
    }

    pub(super) fn model(&self, name: &str) -> Option<Arc<Model>> {
        self.by_name.get(name).cloned()
    }

    /// The models whose names come after this one, by name.
    pub(super) fn models_after(&self, name: &str) -> impl Iterator<Item = &Arc<Model>> {
        let after = (Bound::Excluded(name), Bound::Unbounded);
        self.by_name.range::<str, _>(after).map(|(_, model)| model)
    }

    /// The price in force at a moment: the latest that holds from then or before, unless it says
    /// that the model is withdrawn.
    pub(super) fn in_force(
        &self,
        model: ModelId,
        currency: Currency,
        account: Option<AccountId>,
        at: DateTime<Utc>,
    ) -> Option<&Arc<PricedModel>> {
        let timeline = self.timeline(model, currency, account);
        let begun = timeline.partition_point(|version| version.effective_from <= at);
        let latest = timeline.get(begun.checked_sub(1)?)?;
        (!latest.price.is_withdrawn()).then_some(latest)
    }

    /// Every version of one line, oldest first, withdrawals too.
    pub(super) fn timeline(
        &self,
        model: ModelId,
        currency: Currency,
        account: Option<AccountId>,
    ) -> &[Arc<PricedModel>] {
        self.timelines.get(&(model, currency, account)).map_or(&[], Vec::as_slice)
    }
}

//! What a model is, apart from its prices.

use thiserror::Error;

use crate::ids::ModelId;

/// The longest name of a model, in bytes.
pub const MAX_MODEL_NAME: usize = 200;
/// What the names of models on dedicated capacity begin with.
pub const DEDICATED_PREFIX: &str = "Pro/";

/// A model that customers may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Its number.
    pub model_id: ModelId,
    /// Unique; what a request asks for.
    pub name: String,
    /// Who serves it; empty where nobody said.
    pub provider: String,
    /// The capacity that serves it.
    pub route: Route,
    /// Whether requests for it are allowed.
    pub active: bool,
    /// Prompt and answer together, in tokens; `None` where nobody said.
    pub context_tokens: Option<u64>,
    /// The longest answer, in tokens; `None` where nobody said.
    pub max_output_tokens: Option<u64>,
}

/// Which capacity serves a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// Shared capacity.
    Standard,
    /// Capacity kept for customers with a `ga_pro_` key.
    Dedicated,
}

impl Route {
    /// What a model's name says about it.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        if name.starts_with(DEDICATED_PREFIX) { Self::Dedicated } else { Self::Standard }
    }
}

/// Whether a model is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ModelStatus {
    /// Served.
    #[default]
    Active,
    /// Served, but its provider has announced the end.
    Deprecated,
    /// Not served any more; a request for it is denied.
    Removed,
}

/// Why a text cannot name a model.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a model name: use 1 to {MAX_MODEL_NAME} visible ASCII characters without spaces"
)]
pub struct ModelNameError(String);

/// Checks that a text can name a model.
pub fn check_name(name: &str) -> Result<(), ModelNameError> {
    let visible = name.bytes().all(|byte| byte.is_ascii_graphic());
    if name.is_empty() || name.len() > MAX_MODEL_NAME || !visible {
        return Err(ModelNameError(name.chars().take(60).collect()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_visible_and_bounded() {
        for name in ["gpt-4o", "Pro/deepseek-ai/DeepSeek-V3.2", "amazon.nova-pro-v1:0", "~x"] {
            assert_eq!(check_name(name), Ok(()));
        }
        let long = "x".repeat(201);
        for name in ["", " ", "a b", "a\n", "é", &long] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn only_pro_names_are_dedicated() {
        assert_eq!(Route::of_name("Pro/zai-org/GLM-5"), Route::Dedicated);
        assert_eq!(Route::of_name("gpt-5-pro"), Route::Standard);
    }
}

//! Names of models as contracts and keys give them: whole, or a beginning that ends in `*`.

use std::{fmt, str::FromStr};

use rust_decimal::Decimal;
use thiserror::Error;

use crate::catalog::model::MAX_MODEL_NAME;

/// Why a text is not a pattern for model names.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} does not name models: give a model's name, or the beginning of names followed by one \
     `*`, with at most {MAX_MODEL_NAME} visible ASCII characters"
)]
pub struct PatternError(String);

/// One model by its name, or all whose names begin alike: `deepseek-ai/*`; `*` is every model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelPattern(String);

impl ModelPattern {
    /// Whether the model is meant. Upper and lower case differ, as they do in names.
    #[must_use]
    pub fn matches(&self, model: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => model == self.0,
        }
    }

    /// The pattern as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let beginning = text.strip_suffix('*').unwrap_or(text);
        let visible = beginning.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*');
        if text.is_empty() || text.len() > MAX_MODEL_NAME || !visible {
            return Err(PatternError(text.chars().take(60).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ModelPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A discount that holds for some models instead of the account's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDiscount {
    /// The models.
    pub pattern: ModelPattern,
    /// 0 to 100, at most 4 decimals.
    pub percent: Decimal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_a_beginning() {
        let name: ModelPattern = "gpt-4o".parse().unwrap();
        assert!(name.matches("gpt-4o") && !name.matches("gpt-4o-mini"));
        let beginning: ModelPattern = "gpt-4o*".parse().unwrap();
        assert!(beginning.matches("gpt-4o") && beginning.matches("gpt-4o-mini"));
        assert!(!beginning.matches("GPT-4o"));
        assert!("*".parse::<ModelPattern>().unwrap().matches("anything"));
    }

    #[test]
    fn a_star_in_the_middle_is_refused_rather_than_misread() {
        for text in ["", "a*b", "**", "a b", "é*", &"x".repeat(201)] {
            assert!(text.parse::<ModelPattern>().is_err(), "{text:?} was taken");
        }
    }
}

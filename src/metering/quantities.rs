//! What a request used, in disjoint classes.
//!
//! Every token is in exactly one class: `input` excludes cached, written and audio tokens, `output`
//! excludes reasoning and audio tokens. Providers count differently, and this is where billing
//! systems go wrong; normalising is the caller's duty, and this type is what it must arrive at.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most tokens one event may have in one class: about a thousand times the longest context a
/// model offers today. More is a client's mistake, and at this bound no charge can overflow.
pub const MAX_TOKENS_PER_CLASS: u64 = 1_000_000_000;
/// The most images one event may have.
pub const MAX_IMAGES: u64 = 1_000_000;

/// A count that no request can have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field} is {count}, and at most {limit} is possible; check the unit and the counter")]
pub struct QuantityError {
    /// The class, named as in [`Quantities`].
    pub field: &'static str,
    /// What was given.
    pub count: u64,
    /// The named bound it passed.
    pub limit: u64,
}

/// The kinds of tokens that have a rate of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenClass {
    /// Prompt text that was neither cached nor audio.
    Input,
    /// Answer text, without reasoning.
    Output,
    /// Prompt tokens read from the provider's cache.
    CacheRead,
    /// Prompt tokens written to the provider's cache.
    CacheWrite,
    /// Tokens the model thought with.
    Reasoning,
    /// Prompt tokens that were audio.
    AudioInput,
    /// Answer tokens that were audio.
    AudioOutput,
}

impl TokenClass {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 7] = [
        Self::Input,
        Self::CacheRead,
        Self::CacheWrite,
        Self::AudioInput,
        Self::Output,
        Self::Reasoning,
        Self::AudioOutput,
    ];

    /// The name, as in the contract and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::CacheRead => "cache_read",
            Self::CacheWrite => "cache_write",
            Self::Reasoning => "reasoning",
            Self::AudioInput => "audio_input",
            Self::AudioOutput => "audio_output",
        }
    }

    /// Whether its tokens are part of the prompt, and so count towards the context tier.
    #[must_use]
    pub const fn is_prompt(self) -> bool {
        matches!(self, Self::Input | Self::CacheRead | Self::CacheWrite | Self::AudioInput)
    }
}

/// What one request used. The token classes are disjoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quantities {
    /// Prompt tokens that are in no other class.
    pub input: u64,
    /// Answer tokens that are in no other class.
    pub output: u64,
    /// Prompt tokens read from the provider's cache.
    pub cache_read: u64,
    /// Prompt tokens written to the provider's cache.
    pub cache_write: u64,
    /// Tokens the model thought with.
    pub reasoning: u64,
    /// Prompt tokens that were audio.
    pub audio_input: u64,
    /// Answer tokens that were audio.
    pub audio_output: u64,
    /// Images made or read, where the model charges by the image.
    pub images: u64,
}

impl Quantities {
    /// Itself, if every class is within its bound.
    ///
    /// # Errors
    /// [`QuantityError`] names the first class that is not.
    pub fn checked(self) -> Result<Self, QuantityError> {
        let tokens = TokenClass::ALL.map(|class| (class.name(), self.of(class)));
        for (field, count) in tokens {
            if count > MAX_TOKENS_PER_CLASS {
                return Err(QuantityError { field, count, limit: MAX_TOKENS_PER_CLASS });
            }
        }
        if self.images > MAX_IMAGES {
            return Err(QuantityError { field: "images", count: self.images, limit: MAX_IMAGES });
        }
        Ok(self)
    }

    /// The tokens of one class.
    #[must_use]
    pub const fn of(&self, class: TokenClass) -> u64 {
        match class {
            TokenClass::Input => self.input,
            TokenClass::Output => self.output,
            TokenClass::CacheRead => self.cache_read,
            TokenClass::CacheWrite => self.cache_write,
            TokenClass::Reasoning => self.reasoning,
            TokenClass::AudioInput => self.audio_input,
            TokenClass::AudioOutput => self.audio_output,
        }
    }

    /// All tokens of the prompt, cached ones counted: what decides the context tier.
    #[must_use]
    pub const fn prompt_tokens(&self) -> u64 {
        self.input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write)
            .saturating_add(self.audio_input)
    }

    /// All tokens of the answer, reasoning included.
    #[must_use]
    pub const fn completion_tokens(&self) -> u64 {
        self.output.saturating_add(self.reasoning).saturating_add(self.audio_output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absurd_count_is_refused_by_its_name() {
        let at_the_bound = Quantities { reasoning: MAX_TOKENS_PER_CLASS, ..Default::default() };
        assert_eq!(at_the_bound.checked(), Ok(at_the_bound));

        let beyond = Quantities { reasoning: MAX_TOKENS_PER_CLASS + 1, ..Default::default() };
        assert_eq!(beyond.checked().unwrap_err().field, "reasoning");
        let images = Quantities { images: u64::MAX, ..Default::default() };
        assert_eq!(images.checked().unwrap_err().field, "images");
    }

    #[test]
    fn the_prompt_counts_cached_and_audio_tokens_but_no_answer() {
        let used = Quantities {
            input: 1,
            cache_read: 10,
            cache_write: 100,
            audio_input: 1000,
            output: 10_000,
            reasoning: 100_000,
            audio_output: 1_000_000,
            images: 5,
        };
        assert_eq!(used.prompt_tokens(), 1111);
        assert_eq!(used.completion_tokens(), 1_110_000);
    }

    #[test]
    fn every_class_is_on_one_side_and_sums_to_it() {
        let used = Quantities {
            input: 3,
            cache_write: 5,
            output: 7,
            audio_output: 11,
            ..Default::default()
        };
        let side = |prompt: bool| -> u64 {
            let classes = TokenClass::ALL.into_iter().filter(|class| class.is_prompt() == prompt);
            classes.map(|class| used.of(class)).sum()
        };
        assert_eq!(side(true), used.prompt_tokens());
        assert_eq!(side(false), used.completion_tokens());
    }
}

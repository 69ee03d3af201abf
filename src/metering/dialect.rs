//! A provider's own usage object, read into disjoint [`Quantities`].
//!
//! The providers count the same things differently, and each difference has cost somebody money:
//!
//! | | cached tokens | reasoning tokens | told apart by |
//! |---|---|---|---|
//! | OpenAI | part of the prompt | part of the completion | – |
//! | xAI, in OpenAI's shape | part of the prompt | beside the completion | the total |
//! | Anthropic | beside the input | part of the output | – |
//! | Gemini, Vertex AI | part of the prompt | beside the candidates | – |
//! | Gemini, older answers | part of the prompt | part of the candidates | the total |
//!
//! What comes out adds up to what the provider counted, no class is ever negative, and no count is
//! guessed: an object whose parts exceed their whole is refused with both fields named.

mod anthropic;
mod gemini;
mod openai;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};
use thiserror::Error;

use super::quantities::{MAX_TOKENS_PER_CLASS, Quantities, QuantityError};

/// The largest usage object, in bytes. Real ones have under 2 KiB; compaction adds some 200 bytes
/// for each pass.
pub const MAX_USAGE_BYTES: usize = 64 * 1024;

/// Whose way of counting a usage object follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Chat completions and responses, and what imitates them.
    OpenAi,
    /// Messages.
    Anthropic,
    /// `usageMetadata` of the Gemini API and Vertex AI.
    Gemini,
}

/// Why a usage object cannot be charged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UsageError {
    /// More than [`MAX_USAGE_BYTES`].
    #[error(
        "the usage object has {0} bytes, and at most {MAX_USAGE_BYTES} are read; send the \
             provider's usage object alone, without the answer"
    )]
    TooLong(usize),
    /// Not JSON at all.
    #[error("the usage object is not JSON: {0}")]
    NotJson(String),
    /// Something else where an object or a list belongs.
    #[error("{field} is not {expected}; send the provider's usage object as it came")]
    WrongShape {
        /// The path of the field.
        field: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// Something else where a number of tokens belongs.
    #[error("{field} is {value}, which is not a whole number of tokens, zero or more")]
    NotACount {
        /// The path of the field.
        field: String,
        /// What was there.
        value: String,
    },
    /// A number of tokens that no request can have.
    #[error("{field} is {value}, and at most {MAX_TOKENS_PER_CLASS} tokens are possible")]
    TooMany {
        /// The path of the field.
        field: String,
        /// What was there.
        value: String,
    },
    /// A count without which nothing can be charged.
    #[error("{field} is missing; send the complete usage object{hint}")]
    Missing {
        /// The path of the field.
        field: String,
        /// How it usually gets lost.
        hint: &'static str,
    },
    /// A part that is larger than its whole.
    #[error(
        "{part} ({part_tokens}) exceeds {whole} ({whole_tokens}), of which it is a part; \
             check that the dialect is the provider's own"
    )]
    PartExceedsWhole {
        /// The field, or fields, counting the part.
        part: String,
        /// Tokens of the part.
        part_tokens: u64,
        /// The field counting the whole.
        whole: String,
        /// Tokens of the whole.
        whole_tokens: u64,
    },
    /// Two fields for the same thing that differ.
    #[error("{first} and {second} count the same tokens and differ; send one of them")]
    Contradiction {
        /// One field.
        first: String,
        /// The other.
        second: String,
    },
    /// The sum of a class is beyond its bound.
    #[error(transparent)]
    Quantities(#[from] QuantityError),
}

/// Reads the usage object of a provider's answer.
///
/// # Errors
/// [`UsageError`] names the field and says what to send instead.
pub fn normalize(dialect: Dialect, json: &str) -> Result<Quantities, UsageError> {
    if json.len() > MAX_USAGE_BYTES {
        return Err(UsageError::TooLong(json.len()));
    }
    let value: Value =
        serde_json::from_str(json).map_err(|error| UsageError::NotJson(error.to_string()))?;
    let Value::Object(map) = &value else {
        return Err(UsageError::WrongShape { field: "usage".into(), expected: "an object" });
    };
    let usage = Fields { map, path: String::new() };
    let quantities = match dialect {
        Dialect::OpenAi => openai::read(&usage),
        Dialect::Anthropic => anthropic::read(&usage),
        Dialect::Gemini => gemini::read(&usage),
    }?;
    Ok(quantities.checked()?)
}

/// An object inside the usage object, and the way to it.
struct Fields<'json> {
    map: &'json Map<String, Value>,
    path: String,
}

/// A count and the field it was read from.
struct Count {
    tokens: u64,
    field: String,
}

impl<'json> Fields<'json> {
    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The first of the names that is there; a field that is null is not there.
    fn first<'name>(&self, names: &[&'name str]) -> Option<(&'name str, &'json Value)> {
        names.iter().find_map(|name| {
            let value = self.map.get(*name).filter(|value| !value.is_null())?;
            Some((*name, value))
        })
    }

    /// The count under the first of the names that is there.
    fn count(&self, names: &[&str]) -> Result<Option<Count>, UsageError> {
        let Some((name, value)) = self.first(names) else { return Ok(None) };
        let field = self.path_of(name);
        let Value::Number(number) = value else {
            return Err(UsageError::NotACount { field, value: shortened(value) });
        };
        let digits = number.to_string();
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(UsageError::NotACount { field, value: shortened(value) });
        }
        match digits.parse() {
            Ok(tokens) if tokens <= MAX_TOKENS_PER_CLASS => Ok(Some(Count { tokens, field })),
            _ => Err(UsageError::TooMany { field, value: shortened(value) }),
        }
    }

    /// The tokens under the first of the names that is there, else none.
    fn tokens(&self, names: &[&str]) -> Result<u64, UsageError> {
        Ok(self.count(names)?.map_or(0, |count| count.tokens))
    }

    /// The count under one of the names, of which the first is the one to ask for.
    fn required(&self, names: &[&str], hint: &'static str) -> Result<Count, UsageError> {
        let missing = || UsageError::Missing {
            field: self.path_of(names.first().copied().unwrap_or_default()),
            hint,
        };
        self.count(names)?.ok_or_else(missing)
    }

    /// The object under the first of the names that is there.
    fn object(&self, names: &[&str]) -> Result<Option<Fields<'json>>, UsageError> {
        match self.first(names) {
            None => Ok(None),
            Some((name, Value::Object(map))) => Ok(Some(Fields { map, path: self.path_of(name) })),
            Some((name, _)) => {
                Err(UsageError::WrongShape { field: self.path_of(name), expected: "an object" })
            }
        }
    }

    /// The objects of the list under the first of the names that is there.
    fn list(&self, names: &[&str]) -> Result<Vec<Fields<'json>>, UsageError> {
        let Some((name, value)) = self.first(names) else { return Ok(Vec::new()) };
        let shape = |field, expected| UsageError::WrongShape { field, expected };
        let path = self.path_of(name);
        let Value::Array(items) = value else { return Err(shape(path, "a list")) };
        let item = |(position, item): (usize, &'json Value)| {
            let path = format!("{path}[{position}]");
            match item {
                Value::Object(map) => Ok(Fields { map, path }),
                _ => Err(shape(path, "an object")),
            }
        };
        items.iter().enumerate().map(item).collect()
    }
}

/// Enough of a value to recognise it in a message.
fn shortened(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}

/// What is left of a whole without its parts.
fn without(whole: &Count, parts: &[&Count]) -> Result<u64, UsageError> {
    let part_tokens = parts.iter().map(|part| part.tokens).sum();
    whole.tokens.checked_sub(part_tokens).ok_or_else(|| {
        let counted = parts.iter().filter(|part| part.tokens > 0);
        let part = counted.map(|part| part.field.as_str()).collect::<Vec<_>>().join(" + ");
        let (whole_tokens, whole) = (whole.tokens, whole.field.clone());
        UsageError::PartExceedsWhole { part, part_tokens, whole, whole_tokens }
    })
}

/// A prompt whose count includes all its parts.
struct Prompt {
    whole: Count,
    cached: Count,
    written: Count,
    audio: Count,
    cached_audio: Option<Count>,
}

impl Prompt {
    /// Splits it into disjoint classes. Audio can be cached as well, and is then charged as cached:
    /// where the provider says how much of it is, that much; where it does not, cached tokens are
    /// taken for text as far as there is text.
    fn split(&self, quantities: Quantities) -> Result<Quantities, UsageError> {
        let fresh = without(&self.whole, &[&self.cached, &self.written])?;
        without(&self.whole, &[&self.audio])?;
        let fresh_audio = match &self.cached_audio {
            Some(cached_audio) => {
                without(&self.cached, &[cached_audio])?;
                without(&self.audio, &[cached_audio])?
            }
            None => self.audio.tokens,
        };
        // Audio beyond what is fresh must have been cached or written: it is counted there.
        let audio_input = fresh_audio.min(fresh);
        Ok(Quantities {
            input: fresh - audio_input,
            audio_input,
            cache_read: self.cached.tokens,
            cache_write: self.written.tokens,
            ..quantities
        })
    }
}

/// A count that may be absent, which then is zero under the name it would have had.
fn or_zero(count: Option<Count>, field: &str) -> Count {
    count.unwrap_or_else(|| Count { tokens: 0, field: field.to_owned() })
}

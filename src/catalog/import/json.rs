//! A JSON document with the way to each value, so that an error can say where it is.

use std::{collections::HashSet, fmt};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::ImportError;

/// The most digits of a number: beyond what any price needs, and few enough that a change of unit
/// stays exact.
const MAX_DIGITS: usize = 22;

/// Parses a document in which no object has the same key twice; JSON itself would let the last one
/// win without a word.
pub(super) fn parse(text: &str) -> Result<Value, ImportError> {
    let broken = |error: serde_json::Error| ImportError::broken("the file", error.to_string());
    serde_json::from_str::<UniqueKeys>(text).map_err(broken)?;
    serde_json::from_str(text).map_err(broken)
}

/// An exact decimal, in plain or scientific notation.
pub(super) fn decimal(text: &str) -> Option<Decimal> {
    let digits = text.bytes().take_while(|byte| !matches!(byte, b'e' | b'E'));
    if digits.filter(u8::is_ascii_digit).count() > MAX_DIGITS {
        return None;
    }
    if text.contains(['e', 'E']) {
        return Decimal::from_scientific(text).ok();
    }
    Decimal::from_str_exact(text).ok()
}

/// A value and the way to it.
#[derive(Clone)]
pub(super) struct Node<'json> {
    pub value: &'json Value,
    pub place: String,
}

impl<'json> Node<'json> {
    pub(super) fn root(value: &'json Value) -> Self {
        Self { value, place: String::new() }
    }

    pub(super) fn broken(&self, problem: impl Into<String>) -> ImportError {
        let place = if self.place.is_empty() { "the file" } else { &self.place };
        ImportError::broken(place, problem)
    }

    fn child(&self, name: &str, value: &'json Value) -> Self {
        let place = match (self.place.is_empty(), name.contains(['.', '/', ':', ' '])) {
            (true, _) => name.to_owned(),
            (false, true) => format!("{}[{name:?}]", self.place),
            (false, false) => format!("{}.{name}", self.place),
        };
        Self { value, place }
    }

    /// The fields of an object.
    pub(super) fn fields(
        &self,
    ) -> Result<impl Iterator<Item = (&'json String, Self)> + '_, ImportError> {
        let Value::Object(map) = self.value else {
            return Err(self.broken("an object belongs here"));
        };
        Ok(map.iter().map(|(name, value)| (name, self.child(name, value))))
    }

    /// The elements of a list.
    pub(super) fn items(&self) -> Result<impl Iterator<Item = Self> + '_, ImportError> {
        let Value::Array(items) = self.value else {
            return Err(self.broken("a list belongs here"));
        };
        let item = |(position, value)| Self { value, place: format!("{}[{position}]", self.place) };
        Ok(items.iter().enumerate().map(item))
    }

    /// A field of an object; one that is null is not there.
    pub(super) fn get(&self, name: &str) -> Result<Option<Self>, ImportError> {
        let Value::Object(map) = self.value else {
            return Err(self.broken("an object belongs here"));
        };
        let value = map.get(name).filter(|value| !value.is_null());
        Ok(value.map(|value| self.child(name, value)))
    }

    /// A field that must be there.
    pub(super) fn require(&self, name: &str) -> Result<Self, ImportError> {
        self.get(name)?.ok_or_else(|| self.broken(format!("{name} is missing")))
    }

    /// Refuses fields that nobody would read: a misspelt rate must not pass for a missing one.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), ImportError> {
        for (name, _) in self.fields()? {
            if !known.contains(&name.as_str()) {
                let problem = format!("{name:?} is not known here; known are {}", known.join(", "));
                return Err(self.broken(problem));
            }
        }
        Ok(())
    }

    pub(super) fn text(&self) -> Result<&'json str, ImportError> {
        self.value.as_str().ok_or_else(|| self.broken("a text belongs here"))
    }

    pub(super) fn boolean(&self) -> Result<bool, ImportError> {
        match self.value {
            Value::Bool(value) => Ok(*value),
            // A cell of a CSV file.
            Value::String(text) if text == "true" => Ok(true),
            Value::String(text) if text == "false" => Ok(false),
            _ => Err(self.broken("true or false belongs here")),
        }
    }

    /// A whole number, zero or more.
    pub(super) fn whole(&self) -> Result<u64, ImportError> {
        let whole = self.decimal()?;
        let count = whole.is_integer().then(|| u64::try_from(whole).ok()).flatten();
        count.ok_or_else(|| self.broken("a whole number, zero or more, belongs here"))
    }

    /// A number, or a text that is one.
    pub(super) fn decimal(&self) -> Result<Decimal, ImportError> {
        let text = match self.value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => return Err(self.broken("a number belongs here")),
        };
        decimal(&text).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            self.broken(format!("{shown:?} is not a number of at most {MAX_DIGITS} digits"))
        })
    }

    pub(super) fn moment(&self) -> Result<DateTime<Utc>, ImportError> {
        let text = self.text()?;
        moment(text).ok_or_else(|| self.broken(not_a_moment(text)))
    }
}

/// An RFC 3339 moment, or a date, which means its beginning in UTC.
pub(super) fn moment(text: &str) -> Option<DateTime<Utc>> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    DateTime::parse_from_rfc3339(&whole).ok().map(|moment| moment.with_timezone(&Utc))
}

pub(super) fn not_a_moment(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    format!("{shown:?} is not a time; write it like 2026-10-26T18:46:35Z or 2026-10-26")
}

/// Reads a document for nothing but the keys of its objects.
struct UniqueKeys;

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = fields.next_key::<String>()? {
            fields.next_value::<Self>()?;
            if let Some(twice) = seen.replace(key) {
                return Err(A::Error::custom(format!("{twice:?} is there twice; keep one")));
            }
        }
        Ok(self)
    }
}

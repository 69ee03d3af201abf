//! Charges over the whole snapshot of real prices, against a computation that shares no code with
//! the importer or the rating: it reads the JSON text again, scans each number's digits into whole
//! units of 10^-12 and adds them up in 128-bit integers.
//!
//! `TOLLGATE_RATING_SEED` repeats a run.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{
    import::{self, BEGINNING, Context, Format, PriceRecord},
    rating::{self, RatingError},
    shared_data,
};
use crate::metering::quantities::Quantities;

const CASES: usize = 4000;

#[test]
fn charges_over_the_whole_snapshot_equal_a_separate_computation() {
    let Some(text) = shared_data::read("model-prices-snapshot.json") else { return };
    let seed = std::env::var("TOLLGATE_RATING_SEED").map_or(20_261_026, |seed| {
        seed.parse::<u64>().expect("TOLLGATE_RATING_SEED is a whole number")
    });
    let context =
        Context { effective_from: BEGINNING, source: String::new(), source_date: String::new() };
    let imported = import::read(Format::ModelPrices, &text, &context).unwrap();
    let mut history = BTreeMap::<&str, Vec<&PriceRecord>>::new();
    for price in &imported.prices {
        history.entry(&price.model).or_default().push(price);
    }
    let facts: Value = serde_json::from_str(&text).unwrap();
    let names: Vec<&str> = history.keys().copied().collect();

    let mut random = Random(seed);
    let mut tally = Tally::default();
    for case in 0..CASES {
        // Every model has its turn before the drawing is by chance.
        let name = *names.get(case).unwrap_or_else(|| &names[random.below(names.len())]);
        let at = random.moment();
        let used = random.quantities();
        let expected = expected_charge(&facts, name, at, &used);
        let price = history[name].iter().rfind(|price| price.effective_from <= at).unwrap();
        let repeat = format!("seed {seed}, case {case}: {name} at {at} with {used:?}");
        match rating::rate(&price.price, &used, false) {
            Ok(rating) => {
                let (units, tier) = expected.unwrap_or_else(|| panic!("not for sale; {repeat}"));
                let charged = rating.charge.decimal();
                let charged = charged.mantissa() * 10_i128.pow(12 - charged.scale());
                assert_eq!(u128::try_from(charged), Ok(units), "{repeat}");
                assert_eq!(rating.tier_above, tier, "{repeat}");
                tally.charged += 1;
                tally.tiered += usize::from(tier.is_some());
                tally.cached += usize::from(used.cache_read > 0 && units > 0);
                tally.written += usize::from(used.cache_write > 0 && units > 0);
                tally.other_modes += usize::from(name.contains(':'));
            }
            Err(RatingError::Withdrawn) => {
                assert_eq!(expected, None, "{repeat}");
                tally.withdrawn += 1;
            }
            Err(error) => panic!("{error}; {repeat}"),
        }
    }
    // The drawing must have been worth something.
    assert!(names.len() < CASES && tally.charged >= 2000, "{tally:?}");
    assert!(tally.tiered >= 100 && tally.cached >= 500 && tally.written >= 500, "{tally:?}");
    assert!(tally.withdrawn >= 50 && tally.other_modes >= 200, "{tally:?}");
}

#[derive(Debug, Default)]
struct Tally {
    charged: usize,
    tiered: usize,
    cached: usize,
    written: usize,
    withdrawn: usize,
    other_modes: usize,
}

/// The charge in 10^-12 and the tier, straight from the file; `None` while it is not for sale.
fn expected_charge(
    facts: &Value,
    name: &str,
    at: DateTime<Utc>,
    used: &Quantities,
) -> Option<(u128, Option<u64>)> {
    let timeline = find_timeline(facts, name);
    // The file writes moments so that they sort as text.
    let at = at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let record = timeline.iter().rfind(|record| record["start"].as_str().unwrap_or("") <= &*at);
    let mut rates = record.map(|record| &record["rates"]).filter(|rates| !rates.is_null())?;
    let prompt = used.input + used.cache_read + used.cache_write + used.audio_input;
    let mut reached = None;
    for tier in rates["tiers"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let above = tier["above"].as_u64().unwrap();
        if prompt > above && reached.is_none_or(|(reached, _)| above > reached) {
            reached = Some((above, tier));
        }
    }
    if let Some((_, tier)) = reached {
        rates = tier;
    }
    let rate = |field: &str, fallback: &str| {
        let value = if rates[field].is_null() { &rates[fallback] } else { &rates[field] };
        millionths(&value.to_string())
    };
    let total = u128::from(used.input + used.audio_input) * rate("input", "input")
        + u128::from(used.cache_read) * rate("cache_read", "input")
        + u128::from(used.cache_write) * rate("cache_write", "input")
        + u128::from(used.output + used.reasoning + used.audio_output) * rate("output", "output");
    Some((total, reached.map(|(above, _)| above)))
}

/// `provider/model` or `provider/model:mode`, where models have slashes and colons of their own.
fn find_timeline<'json>(facts: &'json Value, name: &str) -> &'json Vec<Value> {
    let (provider, model) = name.split_once('/').unwrap();
    let models = &facts["prices"][provider];
    let timeline = match &models[model] {
        Value::Null => {
            let (model, mode) = model.rsplit_once(':').unwrap();
            &models[model][mode]
        }
        found => &found["standard"],
    };
    timeline.as_array().unwrap_or_else(|| panic!("{name} is not in the file"))
}

/// A plain decimal in units of 10^-6, the seventh digit rounded half-up, by its digits alone.
fn millionths(text: &str) -> u128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    assert!(whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()), "{text}");
    let mut digits: Vec<u8> = fraction.bytes().map(|byte| byte - b'0').collect();
    digits.resize(digits.len().max(7), 0);
    let mut value = whole.parse::<u128>().unwrap();
    for digit in &digits[..6] {
        value = value * 10 + u128::from(*digit);
    }
    if digits[6] >= 5 { value + 1 } else { value }
}

/// Draws from a seed, the same on every machine (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    /// A count of any magnitude, none among them.
    fn tokens(&mut self) -> u64 {
        let magnitude = [0, 1, 50, 3000, 100_000, 400_000, 2_000_000][self.below(7)];
        self.next() % (magnitude + 1)
    }

    fn quantities(&mut self) -> Quantities {
        Quantities {
            input: self.tokens(),
            output: self.tokens(),
            cache_read: self.tokens(),
            cache_write: self.tokens(),
            reasoning: self.tokens(),
            audio_input: self.tokens(),
            audio_output: self.tokens(),
            images: 0,
        }
    }

    /// From 2024 to the end of 2026, when all the file's records begin.
    fn moment(&mut self) -> DateTime<Utc> {
        let (first, last) = (1_704_067_200_u64, 1_798_761_600);
        let seconds = first + self.next() % (last - first);
        DateTime::from_timestamp(i64::try_from(seconds).unwrap(), 0).unwrap()
    }
}

#[test]
fn the_separate_computation_reads_digits_as_a_person_would() {
    let cases = [("0.25", 250_000), ("15.0", 15_000_000), ("0.30000000000000004", 300_000)];
    for (text, expected) in cases {
        assert_eq!(millionths(text), expected);
    }
    assert_eq!(
        (millionths("7"), millionths("0.0000005"), millionths("0.0000004")),
        (7_000_000, 1, 0)
    );
}

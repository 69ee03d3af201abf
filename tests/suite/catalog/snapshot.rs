//! The whole snapshot of real prices, imported and asked for through gRPC, against a computation
//! that shares no code with the product: it reads the JSON text by itself, scans each number's
//! digits into whole units of 10^-6, and multiplies and adds in 128-bit integers.
//!
//! `TOLLGATE_RATING_SEED` repeats a run.

use serde_json::Value;
use tollgate::{
    api::catalog_convert::publication_message,
    catalog::import::{self, BEGINNING, Context, Format},
    proto::{EstimateCostRequest, GetModelRequest, Quantities},
};
use tonic::Code;

use super::{account, at, discount, estimate, operator, publish, reason_of};
use crate::harness::{server::TestServer, shared_data};

/// What the second account has off every list price, in percent.
const DISCOUNT: u128 = 15;
/// How many draws: each of the file's timelines has its turn, the rest is by chance.
const CASES: usize = 1_500;

#[tokio::test]
async fn charges_over_the_whole_snapshot_equal_a_separate_computation() {
    let Some(text) = shared_data::read("model-prices-snapshot.json") else { return };
    let seed = std::env::var("TOLLGATE_RATING_SEED").map_or(20_261_122, |seed| {
        seed.parse::<u64>().expect("TOLLGATE_RATING_SEED is a whole number")
    });
    let server = TestServer::start().await;
    account(&server, "acme", discount("15")).await;
    let mut client = operator(&server).await;
    let context =
        Context { effective_from: BEGINNING, source: String::new(), source_date: String::new() };
    let imported = import::read(Format::ModelPrices, &text, &context).unwrap();
    let published = publish(&mut client, publication_message(&imported, "")).await.unwrap();
    let facts: Value = serde_json::from_str(&text).unwrap();
    let timelines = timelines(&facts);
    assert_eq!(usize::try_from(published.models_added).unwrap(), timelines.len());
    let records: usize = timelines.iter().map(|(_, timeline)| timeline.len()).sum();
    assert_eq!(usize::try_from(published.prices_added).unwrap(), records);

    let mut random = Random(seed);
    let (mut charged, mut refused, mut tiered) = (0, 0, 0);
    for case in 0..CASES {
        let drawn = random.below(timelines.len());
        let (name, timeline) = timelines.get(case).unwrap_or(&timelines[drawn]);
        let moment = random.moment();
        let used = random.quantities();
        let off = if case % 2 == 0 { 0 } else { DISCOUNT };
        let repeat = format!("seed {seed}, case {case}: {name} at {moment} less {off}%: {used:?}");
        let request = EstimateCostRequest {
            model: name.clone(),
            quantities: Some(used),
            account: if off == 0 { String::new() } else { "acme".to_owned() },
            at: at(moment),
            ..EstimateCostRequest::default()
        };
        let answer = estimate(&mut client, request).await;
        match (answer, expected(timeline, moment, &used, off)) {
            (Ok(answer), Some((units, tier))) => {
                assert_eq!(units_of(&answer.cost.unwrap().amount), units, "{repeat}");
                assert_eq!(answer.tier_above, tier, "{repeat}");
                charged += 1;
                tiered += usize::from(tier > 0);
            }
            (Err(status), None) => {
                let told = (status.code(), reason_of(&status));
                assert_eq!(told, (Code::FailedPrecondition, "MODEL_UNPRICED".to_owned()));
                refused += 1;
            }
            (answer, expected) => panic!("{answer:?}, but expected {expected:?}; {repeat}"),
        }
    }
    // The drawing must have been worth something.
    assert!(charged >= 500 && refused >= 20 && tiered >= 50, "{charged}, {refused}, {tiered}");

    let (tiered, above) = timelines
        .iter()
        .find_map(|(name, timeline)| {
            let above = &timeline.last()?["rates"]["tiers"][0]["above"];
            above.as_u64().map(|above| (name.clone(), above))
        })
        .unwrap();
    let request = GetModelRequest { name: tiered, ..GetModelRequest::default() };
    let history = client.get_model(request).await.unwrap().into_inner().history;
    assert!(history[0].tiers.iter().any(|tier| tier.above == above), "{history:?}");
}

/// Every timeline of the file under the name that it is imported by.
fn timelines(facts: &Value) -> Vec<(String, &Vec<Value>)> {
    let mut timelines = Vec::new();
    for (provider, models) in facts["prices"].as_object().unwrap() {
        for (model, modes) in models.as_object().unwrap() {
            for (mode, timeline) in modes.as_object().unwrap() {
                let name = match mode.as_str() {
                    "standard" => format!("{provider}/{model}"),
                    mode => format!("{provider}/{model}:{mode}"),
                };
                timelines.push((name, timeline.as_array().unwrap()));
            }
        }
    }
    timelines
}

/// The charge in 10^-12 and the tier's threshold; `None` while the model is not for sale.
fn expected(timeline: &[Value], moment: i64, used: &Quantities, off: u128) -> Option<(u128, u64)> {
    // The file writes moments so that they sort as text.
    let moment = chrono::DateTime::from_timestamp(moment, 0).unwrap();
    let moment = moment.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let begun = |record: &&Value| record["start"].as_str().unwrap_or("") <= moment.as_str();
    let record = timeline.iter().rev().find(begun)?;
    let base = Some(&record["rates"]).filter(|rates| !rates.is_null())?;
    let prompt = used.input + used.cache_read + used.cache_write + used.audio_input;
    let tiers = base["tiers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let reached = tiers.iter().filter(|tier| prompt > tier["above"].as_u64().unwrap());
    let reached = reached.max_by_key(|tier| tier["above"].as_u64());
    let rates = reached.unwrap_or(base);
    let rate = |class: &str, side: &str| {
        let own = if rates[class].is_null() { &rates[side] } else { &rates[class] };
        (millionths(&own.to_string()) * (100 - off) + 50) / 100
    };
    let classes = [
        (used.input, rate("input", "input")),
        (used.cache_read, rate("cache_read", "input")),
        (used.cache_write, rate("cache_write", "input")),
        (used.audio_input, rate("input", "input")),
        (used.output, rate("output", "output")),
        (used.reasoning, rate("output", "output")),
        (used.audio_output, rate("output", "output")),
    ];
    let total = classes.iter().map(|(tokens, rate)| u128::from(*tokens) * rate).sum();
    Some((total, reached.map_or(0, |tier| tier["above"].as_u64().unwrap())))
}

/// A decimal in units of 10^-6, the seventh digit rounded half-up, by its digits alone.
fn millionths(text: &str) -> u128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("0000000".chars()).take(7).collect();
    let tenths: u128 = format!("{whole}{digits}").parse().unwrap();
    (tenths + 5) / 10
}

/// An amount in units of 10^-12, by its digits alone.
fn units_of(text: &str) -> u128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    assert!(fraction.len() <= 12, "{text}");
    format!("{whole}{fraction:0<12}").parse().unwrap()
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
        let magnitude = [0, 1, 50, 3_000, 100_000, 400_000, 2_000_000][self.below(7)];
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

    /// A second between 2024 and the end of 2026, where all the file's changes lie.
    fn moment(&mut self) -> i64 {
        let (first, last) = (1_704_067_200_u64, 1_798_761_600);
        i64::try_from(first + self.next() % (last - first)).unwrap()
    }
}

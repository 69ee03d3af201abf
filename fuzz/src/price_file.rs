//! A file of prices.

use rust_decimal::Decimal;
use tollgate::{
    catalog::{
        import::{BEGINNING, Context, Format, read},
        rating::{ceiling, rate},
    },
    metering::quantities::{MAX_IMAGES, MAX_TOKENS_PER_CLASS, Quantities},
};

/// The format's number and the file. Every price of a file that is taken rates the least and the most
/// that a request can use, names a model of the file, and promises at least what it charges.
///
/// # Panics
/// When that does not hold.
pub fn holds(input: &[u8]) -> bool {
    let Some((format, rest)) = crate::choice(input, 4) else { return false };
    let format = Format::ALL[usize::from(format)];
    let context = Context {
        effective_from: BEGINNING,
        source: "the fuzzer".to_owned(),
        source_date: "2026-11-01".to_owned(),
    };
    let import = match read(format, &String::from_utf8_lossy(rest), &context) {
        Ok(import) => import,
        Err(refusal) => {
            assert!(!refusal.to_string().is_empty());
            return false;
        }
    };
    assert!(!import.prices.is_empty(), "a file without a price was taken");
    for record in &import.prices {
        assert!(import.models.iter().any(|model| model.name == record.model));
        let price = &record.price;
        if price.is_withdrawn() {
            continue;
        }
        for tokens in [0, 1, 200_001, MAX_TOKENS_PER_CLASS] {
            let quantities = Quantities { input: tokens, output: tokens, ..Quantities::default() };
            let charge = rate(price, &quantities, false).expect("a price rates any request").charge;
            assert!(!charge.is_negative());
            let most = ceiling(price, tokens, tokens, Decimal::ZERO).expect("and bounds it");
            assert!(most >= charge, "a charge of {charge} goes beyond its reservation of {most}");
        }
        let everything = Quantities {
            input: MAX_TOKENS_PER_CLASS,
            output: MAX_TOKENS_PER_CLASS,
            cache_read: MAX_TOKENS_PER_CLASS,
            cache_write: MAX_TOKENS_PER_CLASS,
            reasoning: MAX_TOKENS_PER_CLASS,
            audio_input: MAX_TOKENS_PER_CLASS,
            audio_output: MAX_TOKENS_PER_CLASS,
            images: MAX_IMAGES,
        };
        for cache_hit in [false, true] {
            rate(price, &everything, cache_hit).expect("a price rates the most that can be used");
        }
    }
    true
}

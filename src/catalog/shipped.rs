//! The catalogue that comes with the product: 184 models with a price each, in our own format.
//!
//! Models that the launch article names have its prices, one for input and output alike. All
//! others have their provider's list price of late October 2026, `Pro/…` models half as much
//! again for dedicated capacity; each line names its source and the date there. Prices begin on
//! 2025-01-01, so that a first import prices recent usage of any date.

use super::import::{self, BEGINNING, Context, Format, Import, ImportError};

/// The file's name, as reports and price versions show it.
pub const NAME: &str = "catalog/tollgate-184.csv";
/// The file itself.
pub const TEXT: &str = include_str!("../../catalog/tollgate-184.csv");

/// The shipped catalogue, ready to be published.
pub fn read() -> Result<Import, ImportError> {
    // Every line has a date and a source of its own, which a test makes sure of.
    let context =
        Context { effective_from: BEGINNING, source: NAME.to_owned(), source_date: String::new() };
    import::read(Format::Tollgate, TEXT, &context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::{
            import::PriceRecord,
            model::{ModelStatus, Route},
            price::Rate,
            rating,
        },
        metering::quantities::Quantities,
        money::Currency,
    };

    fn catalogue() -> Import {
        read().unwrap_or_else(|error| panic!("{error}"))
    }

    fn price<'import>(import: &'import Import, model: &str) -> &'import PriceRecord {
        let found = import.prices.iter().find(|price| price.model == model);
        found.unwrap_or_else(|| panic!("{model} is not in the catalogue"))
    }

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn it_has_184_models_with_one_price_each() {
        let import = catalogue();
        assert_eq!((import.models.len(), import.prices.len()), (184, 184));
        assert!(import.report.free.is_empty() && import.report.withdrawn == 0);
        for record in &import.prices {
            assert_eq!((record.price.currency(), &record.account), (Currency::USD, &None));
            assert!(!record.source.is_empty() && record.source != NAME, "{}", record.model);
            assert!(record.source_date.starts_with("202"), "{}", record.model);
            assert!(record.effective_from > BEGINNING, "{}", record.model);
        }
        assert!(import.models.iter().all(|model| model.status != ModelStatus::Removed));
    }

    #[test]
    fn the_models_of_the_article_have_its_prices_for_input_and_output_alike() {
        let import = catalogue();
        let named = [
            ("deepseek-ai/DeepSeek-V4-Flash", "0.25"),
            ("Qwen/Qwen3-32B", "0.28"),
            ("deepseek-ai/DeepSeek-R1", "2.50"),
            ("moonshotai/Kimi-K2.5", "2.50"),
            ("gpt-4o", "10.00"),
        ];
        for (model, per_million) in named {
            let card = price(&import, model).price.card();
            assert_eq!(
                *card.rates(),
                super::super::price::Rates::new(rate(per_million), rate(per_million))
            );
            assert!(card.tiers().is_empty());
        }
    }

    #[test]
    fn pro_models_are_dedicated_and_cost_half_as_much_again() {
        let import = catalogue();
        let pro = import.models.iter().filter(|model| model.route == Route::Dedicated);
        let pro: Vec<&str> = pro.map(|model| &*model.name).collect();
        assert!(pro.contains(&"Pro/deepseek-ai/DeepSeek-V3.2") && pro.len() >= 10, "{pro:?}");
        for model in pro {
            assert!(model.starts_with("Pro/"));
            let record = price(&import, model);
            let Some(cost) = record.cost else { continue };
            let marked_up = rate("1.5").decimal() * cost.rates.output.decimal();
            assert_eq!(record.price.rates().output.decimal(), marked_up, "{model}");
        }
        let rates = price(&import, "Pro/deepseek-ai/DeepSeek-V3.2").price.rates();
        assert_eq!((rates.input, rates.output), (rate("0.42"), rate("0.63")));
    }

    #[test]
    fn it_varies_in_makers_tiers_and_cache_rates() {
        let import = catalogue();
        let mut makers: Vec<&str> = import.models.iter().map(|model| &*model.provider).collect();
        makers.sort_unstable();
        makers.dedup();
        assert!(makers.len() >= 15, "{makers:?}");
        let with =
            |what: fn(&PriceRecord) -> bool| import.prices.iter().filter(|p| what(p)).count();
        assert!(with(|record| !record.price.tiers().is_empty()) >= 20);
        assert!(with(|record| record.price.rates().cache_read.is_some()) >= 80);
        assert!(with(|record| record.cost.is_some()) >= 100);
    }

    #[test]
    fn the_articles_comparison_comes_out_to_the_cent() {
        let import = catalogue();
        let table = [
            (5_000_000, "1.25", "50"),
            (50_000_000, "12.5", "500"),
            (500_000_000, "125", "5000"),
            (5_000_000_000, "1250", "50000"),
        ];
        for (tokens, cheap, dear) in table {
            // Half of them asked, half answered, in requests that one event can hold.
            let requests = 10;
            let half = tokens / 2 / requests;
            let used = Quantities { input: half, output: half, ..Default::default() };
            for (model, expected) in [("deepseek-ai/DeepSeek-V4-Flash", cheap), ("gpt-4o", dear)] {
                let rating = rating::rate(&price(&import, model).price, &used, false).unwrap();
                let total = rating.charge.decimal() * rust_decimal::Decimal::from(requests);
                assert_eq!(total, expected.parse().unwrap(), "{model}, {tokens} tokens");
            }
        }
    }
}

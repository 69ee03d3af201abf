//! Small samples of each format, what breaks them, and the whole of the real snapshot.

use super::*;
use crate::{
    catalog::{price::Rate, shared_data},
    money::Amount,
};

fn context() -> Context {
    Context {
        effective_from: "2026-11-01T00:00:00Z".parse().unwrap(),
        source: "prices.json".into(),
        source_date: "2026-10-31".into(),
    }
}

pub(super) fn import(format: Format, text: &str) -> Import {
    read(format, text, &context()).unwrap_or_else(|error| panic!("{error}"))
}

pub(super) fn refusal(format: Format, text: &str) -> String {
    read(format, text, &context()).expect_err(text).to_string()
}

fn price<'import>(import: &'import Import, model: &str) -> &'import PriceRecord {
    let mut of_model = import.prices.iter().filter(|price| price.model == model);
    of_model.next_back().unwrap_or_else(|| panic!("{model} has no price"))
}

fn model<'import>(import: &'import Import, name: &str) -> &'import ModelRecord {
    import.models.iter().find(|model| model.name == name).unwrap()
}

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

#[test]
fn a_format_is_chosen_by_name() {
    for format in Format::ALL {
        assert_eq!(format.name().parse::<Format>(), Ok(format));
    }
    assert!("xml".parse::<Format>().is_err());
}

mod model_prices {
    use super::*;

    pub(super) const SAMPLE: &str = r#"{
      "schema": 1, "updated_at": "2026-10-26T18:46:35Z",
      "aliases": {"models": {}, "providers": {}}, "plans": [{"id": "pro"}],
      "unheard_of": 3,
      "status": {"acme": {"one": "deprecated", "gone": "removed"}},
      "prices": {"acme": {"one": {
        "standard": [
          {"start": null, "rates": {"input": 0.30000000000000004, "output": 1.0, "cache_read": 0.03,
            "cache_write_1h_multiple": 2.0, "source": "https://acme.test/a",
            "valid_from": "2025-06-04T22:41:51Z", "valid_from_basis": "documented",
            "tiers": [{"above": 200000, "input": 0.6, "output": 2.0}]}},
          {"start": "2026-01-01T00:00:00Z", "rates": null},
          {"start": "2026-02-01T00:00:00Z", "rates": {"input": 0.0, "output": 0.0,
            "source": "https://acme.test/b", "valid_from": "2026-02-01T00:00:00Z"},
           "recorded": {"input": 9.0}}],
        "batch": [{"start": null, "rates": {"input": 0.15, "output": 0.5,
            "source": "https://acme.test/a", "valid_from": "2025-06-04T22:41:51Z"}}]}}}}"#;

    #[test]
    fn every_dated_record_and_every_mode_is_imported() {
        let import = import(Format::ModelPrices, SAMPLE);
        let names: Vec<&str> = import.models.iter().map(|model| &*model.name).collect();
        assert_eq!(names, ["acme/one", "acme/one:batch"]);
        assert_eq!(model(&import, "acme/one").status, ModelStatus::Deprecated);
        let [first, withdrawal, free, batch] = &import.prices[..] else { panic!("four prices") };
        assert_eq!(first.effective_from, BEGINNING);
        assert_eq!(first.price.rates().input, rate("0.3"));
        assert_eq!(first.price.rates().cache_read, Some(rate("0.03")));
        assert_eq!(first.price.tiers()[0].above, 200_000);
        assert_eq!(first.price.tiers()[0].rates.cache_read, None);
        assert_eq!(
            (&*first.source, &*first.source_date),
            ("https://acme.test/a", "2025-06-04T22:41:51Z")
        );
        assert!(withdrawal.price.is_withdrawn());
        assert!(free.price.is_free());
        assert_eq!(batch.price.rates().input, rate("0.15"));
    }

    #[test]
    fn the_report_accounts_for_everything_in_the_file() {
        let report = import(Format::ModelPrices, SAMPLE).report;
        assert_eq!((report.models, report.prices, report.withdrawn), (2, 4, 1));
        assert_eq!(report.free, ["acme/one"]);
        assert_eq!(report.changed.len(), 1);
        assert_eq!(
            report.changed[0].text,
            "0.30000000000000004 rounded half-up to 0.3 (6 decimals)"
        );
        let places: Vec<&str> = report.remarks.iter().map(|note| &*note.place).collect();
        assert_eq!(
            places,
            [
                "mode batch",
                "start: null",
                "recorded",
                "cache_write_1h_multiple",
                "status",
                "updated_at",
                "aliases",
                "plans",
                "unheard_of",
            ]
        );
        let text = report.to_string();
        assert!(text.starts_with("2 models, 4 prices (1 withdrawals)\n"), "{text}");
        assert!(text.contains("note: unheard_of: not imported"), "{text}");
    }

    #[test]
    fn a_file_broken_anywhere_is_refused_with_its_place() {
        let cases = [
            ("\"schema\": 1", "\"schema\": 2", "schema: only version 1"),
            (
                "\"input\": 0.15",
                "\"input\": -0.15",
                "prices.acme.one.batch[0].rates.input: rate is -0.15",
            ),
            ("\"input\": 0.15, ", "", "prices.acme.one.batch[0].rates: input is missing"),
            ("\"input\": 0.15", "\"input\": \"x\"", "\"x\" is not a number"),
            ("\"input\": 0.15", "\"input\": 1e29", "is not a number"),
            ("\"input\": 0.15", "\"imput\": 0.15", "\"imput\" is not known here"),
            ("\"above\": 200000", "\"above\": 0", "begins above 0 tokens"),
            ("\"above\": 200000", "\"above\": 1.5", "a whole number"),
            (
                "\"2026-02-01T00:00:00Z\", \"rates\"",
                "\"2025-02-01T00:00:00Z\", \"rates\"",
                "sort by start",
            ),
            ("\"2026-02-01T00:00:00Z\", \"rates\"", "\"yesterday\", \"rates\"", "is not a time"),
            ("\"gone\": \"removed\"", "\"gone\": \"sold\"", "status.acme.gone"),
            ("\"batch\": [", "\"standard\": [", "\"standard\" is there twice"),
            ("\"batch\": [", "\"ba tch\": [", "is not a model name"),
        ];
        for (good, bad, expected) in cases {
            let broken = SAMPLE.replace(good, bad);
            assert_ne!(broken, SAMPLE, "{good}");
            let error = refusal(Format::ModelPrices, &broken);
            assert!(error.contains(expected), "{bad}: {error}");
        }
        let truncated = &SAMPLE[..SAMPLE.len() / 2];
        assert!(refusal(Format::ModelPrices, truncated).contains("line"));
    }

    #[test]
    fn two_prices_of_one_moment_are_refused_with_both_places() {
        let twice = SAMPLE
            .replace("\"2026-02-01T00:00:00Z\", \"rates\"", "\"2026-01-01T00:00:00Z\", \"rates\"");
        assert_eq!(
            refusal(Format::ModelPrices, &twice),
            "prices.acme.one.standard[1] and prices.acme.one.standard[2] are both a price of \
             acme/one from 2026-01-01T00:00:00Z; keep one"
        );
    }

    #[test]
    fn the_whole_snapshot_is_imported() {
        let Some(text) = shared_data::read("model-prices-snapshot.json") else { return };
        let import = import(Format::ModelPrices, &text);
        let report = &import.report;
        let standard = import.models.iter().filter(|model| {
            let modes = [":batch", ":fast", ":flex", ":thinking", ":ultrafast"];
            !modes.iter().any(|mode| model.name.ends_with(mode))
        });
        assert_eq!(standard.count(), 575);
        assert_eq!((report.models, report.prices, report.withdrawn), (803, 1579, 193));
        // Rounding repairs floats and changes no price.
        assert_eq!(report.changed.len(), 17);
        for note in &report.changed {
            let mut values =
                note.text.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
            let (before, after) = (values.next().unwrap(), values.next().unwrap());
            assert!((before - after).abs() < 1e-9, "{note:?}");
        }
        assert!(report.skipped.is_empty(), "{:?}", report.skipped);
        let facts: serde_json::Value = serde_json::from_str(&text).unwrap();
        for section in facts.as_object().unwrap().keys() {
            let named = report.remarks.iter().any(|note| note.place == *section);
            assert!(named || matches!(&**section, "prices" | "schema" | "status"), "{section}");
        }
        let free = import.prices.iter().filter(|price| price.price.is_free()).count();
        assert!(free > 0 && !report.free.is_empty() && !report.removed.is_empty());
        for price in import.prices.iter().filter(|price| !price.price.is_withdrawn()) {
            assert!(price.source.starts_with("https://") && price.source_date.len() == 20);
        }
    }
}

mod openrouter {
    use super::*;

    pub(super) const SAMPLE: &str = r#"{"data": [
      {"id": "openai/gpt-x", "name": "GPT X", "context_length": 400000,
       "top_provider": {"max_completion_tokens": 128000, "is_moderated": true},
       "pricing": {"prompt": "0.00000125", "completion": "0.00001", "request": "0", "image": "0.001238",
         "web_search": "0.01", "internal_reasoning": "0", "input_cache_read": "0.000000125",
         "input_cache_write": "0.0000015625", "audio": "1e-6"}},
      {"id": "openrouter/auto", "pricing": {"prompt": "-1", "completion": "-1"}},
      {"id": "acme/small:free", "context_length": null, "top_provider": {"max_completion_tokens": null},
       "pricing": {"prompt": "0", "completion": "0"}}]}"#;

    #[test]
    fn prices_per_token_become_prices_per_million() {
        let import = import(Format::OpenRouter, SAMPLE);
        let record = price(&import, "openai/gpt-x");
        let rates = record.price.rates();
        assert_eq!((rates.input, rates.output), (rate("1.25"), rate("10")));
        assert_eq!(
            (rates.cache_read, rates.cache_write),
            (Some(rate("0.125")), Some(rate("1.5625")))
        );
        assert_eq!(rates.audio_input, Some(rate("1")));
        // Reasoning that is "not charged apart" is not free: it is output.
        assert_eq!(rates.reasoning, None);
        assert_eq!(record.price.image(), "0.001238".parse::<Amount>().unwrap());
        assert_eq!(record.effective_from, context().effective_from);
        assert_eq!((&*record.source, &*record.source_date), ("prices.json", "2026-10-31"));
        let described = model(&import, "openai/gpt-x");
        assert_eq!(described.provider, "openai");
        assert_eq!(
            (described.context_tokens, described.max_output_tokens),
            (Some(400_000), Some(128_000))
        );
    }

    #[test]
    fn what_depends_on_the_routing_is_skipped_and_what_is_free_is_named() {
        let report = import(Format::OpenRouter, SAMPLE).report;
        assert_eq!((report.models, report.prices), (2, 2));
        assert_eq!(report.skipped[0].place, "data[1]");
        assert!(report.skipped[0].text.contains("openrouter/auto: prompt is -1"));
        assert_eq!(report.free, ["acme/small:free"]);
        assert_eq!(report.remarks[0].place, "pricing.web_search");
    }

    #[test]
    fn a_broken_list_is_refused_with_its_place() {
        let cases = [
            ("\"prompt\": \"0.00000125\", ", "", "data[0].pricing: prompt is missing"),
            ("\"0.00000125\"", "\"-0.5\"", "data[0].pricing.prompt: rate is -500000"),
            ("\"0.00000125\"", "\"1.25\"", "beyond the highest"),
            ("\"0.00000125\"", "\"9e27\"", "no token costs that much"),
            ("\"0.00000125\"", "\"cheap\"", "\"cheap\" is not a number"),
            (
                "acme/small:free",
                "openai/gpt-x",
                "data[2]: describes openai/gpt-x otherwise than data[0]",
            ),
            ("\"data\"", "\"models\"", "the file: data is missing"),
        ];
        for (good, bad, expected) in cases {
            let error = refusal(Format::OpenRouter, &SAMPLE.replacen(good, bad, 1));
            assert!(error.contains(expected), "{bad}: {error}");
        }
        assert!(refusal(Format::OpenRouter, r#"{"data": []}"#).contains("no price"));
    }
}

mod litellm {
    use super::*;

    pub(super) const SAMPLE: &str = r#"{
      "sample_spec": {"input_cost_per_token": 0.0, "max_tokens": "LEGACY parameter", "mode": "one of"},
      "gemini-pro-x": {"mode": "chat", "litellm_provider": "vertex_ai", "max_input_tokens": 1048576,
        "max_output_tokens": 65536, "input_cost_per_token": 1.25e-06, "output_cost_per_token": 1e-05,
        "cache_read_input_token_cost": 3.125e-07, "input_cost_per_audio_token": 7e-07,
        "input_cost_per_token_above_200k_tokens": 2.5e-06,
        "output_cost_per_token_above_200k_tokens": 1.5e-05,
        "input_cost_per_token_batches": 6.25e-07, "source": "https://cloud.google.com/pricing"},
      "o-mini": {"mode": "responses", "input_cost_per_token": 1.1e-6, "output_cost_per_token": 4.4e-6,
        "output_cost_per_reasoning_token": 5e-6, "cache_creation_input_token_cost": 1.375e-06},
      "embed": {"mode": "embedding", "input_cost_per_token": 2.0000000000000001e-08},
      "dall-e-3": {"mode": "image_generation", "input_cost_per_pixel": 2e-8},
      "free-chat": {"mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0},
      "by-the-second": {"mode": "chat", "input_cost_per_second": 0.0001},
      "tiered": {"mode": "chat", "tiered_pricing": [], "input_cost_per_token": 1, "output_cost_per_token": 1}}"#;

    #[test]
    fn scientific_numbers_and_context_tiers_are_exact() {
        let import = import(Format::LiteLlm, SAMPLE);
        let record = price(&import, "gemini-pro-x");
        let rates = record.price.rates();
        assert_eq!((rates.input, rates.output), (rate("1.25"), rate("10")));
        assert_eq!(
            (rates.cache_read, rates.audio_input),
            (Some(rate("0.3125")), Some(rate("0.7")))
        );
        let [tier] = record.price.tiers() else { panic!("one tier") };
        assert_eq!(
            (tier.above, tier.rates.input, tier.rates.output),
            (200_000, rate("2.5"), rate("15"))
        );
        assert_eq!(record.source, "https://cloud.google.com/pricing");
        assert_eq!(model(&import, "gemini-pro-x").context_tokens, Some(1_048_576));
        let rates = price(&import, "o-mini").price.rates();
        assert_eq!((rates.reasoning, rates.cache_write), (Some(rate("5")), Some(rate("1.375"))));
        assert_eq!(price(&import, "embed").price.rates().input, rate("0.02"));
    }

    #[test]
    fn what_is_not_sold_by_the_token_is_skipped_with_a_reason() {
        let report = import(Format::LiteLlm, SAMPLE).report;
        let skipped: Vec<&str> = report.skipped.iter().map(|note| &*note.place).collect();
        assert_eq!(skipped, ["sample_spec", "dall-e-3", "by-the-second", "tiered"]);
        assert_eq!(report.free, ["free-chat"]);
        assert_eq!(report.remarks[0].place, "input_cost_per_token_batches");
        assert_eq!(report.changed.len(), 1, "{:?}", report.changed);
    }

    #[test]
    fn a_broken_map_is_refused_with_its_place() {
        let cases = [
            ("1.25e-06", "-1.25e-06", "gemini-pro-x.input_cost_per_token: rate is -1.25"),
            ("1.25e-06", "\"\"", "is not a number"),
            ("\"o-mini\"", "\"embed\"", "\"embed\" is there twice"),
            ("65536", "-1", "a whole number"),
        ];
        for (good, bad, expected) in cases {
            let error = refusal(Format::LiteLlm, &SAMPLE.replacen(good, bad, 1));
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }
}

mod fuzz {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_damage_to_a_file_makes_it_panic(
            format in prop::sample::select(vec![
                (Format::ModelPrices, super::model_prices::SAMPLE),
                (Format::OpenRouter, super::openrouter::SAMPLE),
                (Format::LiteLlm, super::litellm::SAMPLE),
                (Format::Tollgate, crate::catalog::shipped::TEXT),
            ]),
            at in 0..4000_usize,
            damage in prop_oneof![
                "[-0-9e.\",\\[\\]{}:\\n ]{1,3}",
                Just("1e-99999999999".to_owned()),
                Just("99999999999999999999".to_owned()),
                Just("null".to_owned()),
            ],
            cut in 0..8_usize,
        ) {
            let (format, sample) = format;
            let at = at % sample.len();
            let end = (at + cut).min(sample.len());
            let (Some(before), Some(after)) = (sample.get(..at), sample.get(end..)) else {
                return Ok(());
            };
            if let Err(error) = read(format, &format!("{before}{damage}{after}"), &context()) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}

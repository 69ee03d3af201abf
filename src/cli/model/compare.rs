//! `tollgate model compare`: what volumes of tokens cost with one model and with another.
//!
//! A volume is the sum of many requests, so that it is priced at the base rates: context tiers
//! belong to single long requests.

use clap::Args;
use rust_decimal::{Decimal, RoundingStrategy};

use crate::{
    cli::{
        Session,
        args::{self, required},
        error::CliError,
        output::{Table, Value},
    },
    proto::{GetModelRequest, Rates},
};

const EXAMPLES: &str = "\
Four volumes, each ten times the one before, at today's list prices; the last column says how much
less the first model costs than the last one.

Examples:
  tollgate model compare --tokens 5M deepseek-ai/DeepSeek-V4-Flash gpt-4o
  tollgate model compare --tokens 1B --output-share 25 Qwen/Qwen3-32B gpt-4o-mini gpt-4o";
/// The volumes: the one that was asked for, and three more.
const VOLUMES: [u64; 4] = [1, 10, 100, 1000];

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct CompareArgs {
    /// The smallest volume: 5M, 2.5B …
    #[arg(long, value_name = "TOKENS", default_value = "5M", value_parser = args::parse_tokens)]
    tokens: u64,
    /// How much of it is output, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 25)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100))]
    output_share: u32,
    /// ISO 4217
    #[arg(long, default_value = "USD")]
    currency: String,
    /// Two models or more
    #[arg(required = true, num_args = 2.., value_name = "MODEL")]
    models: Vec<String>,
}

pub(super) async fn run(args: CompareArgs, session: &Session) -> Result<(), CliError> {
    let mut catalog = session.connect().await?.catalog();
    let mut rates = Vec::new();
    for name in &args.models {
        let request = GetModelRequest {
            name: name.clone(),
            currency_code: args.currency.clone(),
            account: String::new(),
        };
        let model = required(catalog.get_model(request).await?.into_inner().model, "model")?;
        let price = model.price.filter(|price| !price.withdrawn).ok_or_else(|| {
            CliError::failed(format!(
                "{name} has no list price in {}; `tollgate model show {name}` shows what it has",
                args.currency
            ))
        })?;
        rates.push(blended(&price.rates.unwrap_or_default(), args.output_share)?);
    }
    let table = table(args.tokens, &args.currency, &args.models, &rates)?;
    session.output.show(&table)
}

/// The price of a million tokens of which so many percent are output.
fn blended(rates: &Rates, output_share: u32) -> Result<Decimal, CliError> {
    let rate = |text: &str| {
        Decimal::from_str_exact(text)
            .map_err(|_| CliError::failed(format!("the server's rate {text:?} is not a decimal")))
    };
    let share = Decimal::from(output_share) / Decimal::ONE_HUNDRED;
    Ok(rate(&rates.input)? * (Decimal::ONE - share) + rate(&rates.output)? * share)
}

fn table(
    tokens: u64,
    currency: &str,
    models: &[String],
    rates: &[Decimal],
) -> Result<Table, CliError> {
    let mut table = Table::comparison("comparison", "tokens", models, "less_percent");
    for factor in VOLUMES {
        let volume = tokens.checked_mul(factor).ok_or_else(|| {
            CliError::usage("--tokens is so large that a thousand times as many cannot be counted")
        })?;
        let mut row = vec![Value::Count(volume)];
        for rate in rates {
            let cost = Decimal::from(volume)
                .checked_mul(*rate)
                .ok_or_else(|| CliError::usage("the volume costs more than can be computed"))?;
            let cost = (cost / Decimal::from(1_000_000)).normalize().to_string();
            row.push(Value::Money(args::money(&cost, currency)));
        }
        row.push(saving(rates));
        table.push(row);
    }
    Ok(table)
}

/// How much less the first costs than the last, in percent with at most two decimals.
fn saving(rates: &[Decimal]) -> Value {
    let (Some(first), Some(last)) = (rates.first(), rates.last()) else { return Value::Nothing };
    let Some(share) = first.checked_div(*last) else { return Value::Nothing };
    let less = (Decimal::ONE - share) * Decimal::ONE_HUNDRED;
    let rounded = less.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
    Value::Decimal(rounded.normalize().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(rate: &str) -> Rates {
        Rates { input: rate.into(), output: rate.into(), ..Rates::default() }
    }

    #[test]
    fn the_table_of_the_launch_article_comes_out() {
        let rates = [blended(&flat("0.25"), 25).unwrap(), blended(&flat("10"), 25).unwrap()];
        let models = ["deepseek-ai/DeepSeek-V4-Flash".to_owned(), "gpt-4o".to_owned()];
        let table = table(5_000_000, "USD", &models, &rates).unwrap();
        let shown = anstream::adapter::strip_str(&table.to_text()).to_string();
        for (line, parts) in shown.lines().skip(2).zip([
            ["5,000,000", "$1.25", "$50.00", "97.5"],
            ["50,000,000", "$12.50", "$500.00", "97.5"],
            ["500,000,000", "$125.00", "$5,000.00", "97.5"],
            ["5,000,000,000", "$1,250.00", "$50,000.00", "97.5"],
        ]) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words, parts, "{shown}");
        }
        assert!(shown.contains("deepseek-ai/DeepSeek-V4-Flash"), "{shown}");
    }

    #[test]
    fn a_blend_weighs_both_sides_exactly() {
        let rates = Rates { input: "1".into(), output: "5".into(), ..Rates::default() };
        assert_eq!(blended(&rates, 25).unwrap(), Decimal::TWO);
        assert_eq!(blended(&rates, 0).unwrap(), Decimal::ONE);
        assert_eq!(blended(&rates, 100).unwrap(), Decimal::from(5));
    }

    #[test]
    fn a_free_last_model_has_no_saving() {
        assert_eq!(saving(&[Decimal::ONE, Decimal::ZERO]), Value::Nothing);
    }
}

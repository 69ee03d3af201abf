//! `tollgate model compare`: what volumes of tokens cost with one model and with another.
//!
//! A volume is the sum of many requests, so that it is priced at the base rates: context tiers
//! belong to single long requests.

use clap::Args;

use crate::{
    api::catalog_convert,
    catalog::{
        compare::{Volume, cost, saved_percent},
        price::Price,
    },
    cli::{
        Session,
        args::{self, required},
        error::CliError,
        output::{Table, Value},
    },
    money::Amount,
    proto::GetModelRequest,
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
    let mut prices = Vec::new();
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
        let price = catalog_convert::price("price", &price).map_err(|problem| {
            CliError::failed(format!("the server's price of {name} cannot be read: {problem}"))
        })?;
        prices.push(price);
    }
    let table = table(&args, &prices)?;
    session.output.show(&table)
}

fn table(args: &CompareArgs, prices: &[Price]) -> Result<Table, CliError> {
    let mut table = Table::comparison("comparison", "tokens", &args.models, "less_percent");
    for factor in VOLUMES {
        let tokens = args.tokens.checked_mul(factor).ok_or_else(|| {
            CliError::usage("--tokens is so large that a thousand times as many cannot be counted")
        })?;
        let volume = Volume::of(tokens, args.output_share);
        let costs: Vec<_> = volume
            .and_then(|volume| prices.iter().map(|price| cost(price, volume)).collect())
            .map_err(|problem| CliError::usage(problem.to_string()))?;
        table.push(row(tokens, &args.currency, &costs));
    }
    Ok(table)
}

/// What the volume costs with each model, and how much less the first costs than the last.
fn row(tokens: u64, currency: &str, costs: &[Amount]) -> Vec<Value> {
    let mut row = vec![Value::Count(tokens)];
    row.extend(costs.iter().map(|cost| Value::Money(args::money(&cost.to_string(), currency))));
    let less = costs.first().zip(costs.last()).and_then(|(one, last)| saved_percent(*one, *last));
    row.push(less.map_or(Value::Nothing, |less| Value::Decimal(less.to_string())));
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::price::{PriceParts, RateCard, Rates},
        money::Currency,
    };

    fn flat(rate: &str) -> Price {
        let rate = rate.parse().unwrap();
        let card = RateCard::new(Rates::new(rate, rate), Vec::new()).unwrap();
        Price::new(PriceParts::of_tokens(Currency::USD, card)).unwrap()
    }

    fn args(tokens: u64) -> CompareArgs {
        CompareArgs {
            tokens,
            output_share: 25,
            currency: "USD".to_owned(),
            models: vec!["deepseek-ai/DeepSeek-V4-Flash".to_owned(), "gpt-4o".to_owned()],
        }
    }

    #[test]
    fn the_table_of_the_launch_article_comes_out() {
        let table = table(&args(5_000_000), &[flat("0.25"), flat("10")]).unwrap();
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
    fn a_volume_that_cannot_be_counted_is_a_mistake_of_the_command_line() {
        for tokens in [u64::MAX / 2, 1_000_000_000_000_000] {
            assert!(table(&args(tokens), &[flat("1"), flat("1")]).is_err());
        }
    }

    #[test]
    fn a_free_last_model_has_no_saving() {
        let row = row(1, "USD", &["1".parse().unwrap(), Amount::ZERO]);
        assert_eq!(row.last(), Some(&Value::Nothing));
    }
}

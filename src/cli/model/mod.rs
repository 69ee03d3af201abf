//! `tollgate model`: models, their dated prices, and what they cost.

mod compare;
mod import;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use crate::{
    cli::{
        Session,
        args::{self, Limit, required},
        error::CliError,
        output::{Table, Value, decimal, moment, money, text, word},
        usage::QuantityArgs,
    },
    proto::{EstimateCostRequest, GetModelRequest, ListModelsRequest, Model, Price, Rates},
};

const LIST_EXAMPLES: &str = "\
Prices are per million tokens.

Examples:
  tollgate model list
  tollgate model list deepseek --all
  tollgate model list gpt --unavailable --output json";
const SHOW_EXAMPLES: &str = "\
Examples:
  tollgate model show gpt-4o
  tollgate model show gpt-4o --account acme";
const ESTIMATE_EXAMPLES: &str = "\
Examples:
  tollgate model estimate gpt-4o --input 1200 --usage-output 350
  tollgate model estimate gpt-4o --input 200K --cache-read 150K --account acme --at 2026-11-01";

#[derive(Debug, Subcommand)]
pub(super) enum ModelCommand {
    /// Publish the prices of a file, all of them or none
    Import(import::ImportArgs),
    /// List models with their prices of today
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show one with its price history
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// The model's name
        model: String,
        /// ISO 4217
        #[arg(long, default_value = "USD")]
        currency: String,
        /// Also this account's contract prices (handle or id)
        #[arg(long)]
        account: Option<String>,
    },
    /// Compare what volumes of tokens cost
    Compare(compare::CompareArgs),
    /// Tell what a request would cost
    #[command(after_help = ESTIMATE_EXAMPLES)]
    Estimate(EstimateArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Part of the name [default: all]
    name: Option<String>,
    /// ISO 4217
    #[arg(long, default_value = "USD")]
    currency: String,
    /// Also those that cannot be called now: not active, or without a price
    #[arg(long)]
    unavailable: bool,
    #[command(flatten)]
    limit: Limit,
}

#[derive(Debug, Args)]
pub(super) struct EstimateArgs {
    /// The model's name
    model: String,
    #[command(flatten)]
    quantities: QuantityArgs,
    /// At this account's prices (handle or id) [default: the list price]
    #[arg(long, conflicts_with = "currency")]
    account: Option<String>,
    /// ISO 4217
    #[arg(long, default_value = "USD")]
    currency: String,
    /// At the prices of this moment [default: now]
    #[arg(long, value_name = "TIME", value_parser = args::parse_moment)]
    at: Option<DateTime<Utc>>,
}

pub(super) async fn run(command: ModelCommand, session: &Session) -> Result<(), CliError> {
    match command {
        ModelCommand::Import(args) => import::run(args, session).await,
        ModelCommand::List(args) => list(args, session).await,
        ModelCommand::Show { model, currency, account } => {
            show(model, currency, account.unwrap_or_default(), session).await
        }
        ModelCommand::Compare(args) => compare::run(args, session).await,
        ModelCommand::Estimate(args) => estimate(args, session).await,
    }
}

async fn list(args: ListArgs, session: &Session) -> Result<(), CliError> {
    let mut catalog = session.connect().await?.catalog();
    let columns = [
        "model",
        "provider",
        "input",
        "output",
        "cache_read",
        "cache_write",
        "currency",
        "context_tokens",
        "price_from",
        "available",
    ];
    let mut table = Table::list("models", &columns);
    let mut pages = args.limit.pages();
    while let Some((page_size, page_token)) = pages.next_page() {
        let request = ListModelsRequest {
            name_contains: args.name.clone().unwrap_or_default(),
            currency_code: args.currency.clone(),
            page_size,
            page_token,
            include_unavailable: args.unavailable,
        };
        let page = catalog.list_models(request).await?.into_inner();
        pages.came(page.models.len(), page.next_page_token);
        for model in page.models {
            let is_available = is_available(&model);
            let price = model.price.unwrap_or_default();
            let rates = price.rates.unwrap_or_default();
            table.row([
                text(model.name),
                text(model.provider),
                decimal(rates.input),
                decimal(rates.output),
                decimal(rates.cache_read.unwrap_or_default()),
                decimal(rates.cache_write.unwrap_or_default()),
                text(price.currency_code),
                limit_of(model.context_tokens),
                moment(price.effective_from),
                Value::Flag(is_available),
            ]);
        }
    }
    session.output.show(&table)?;
    session.tell_if_more(&pages)
}

fn is_available(model: &Model) -> bool {
    model.active() && model.price.as_ref().is_some_and(|price| !price.withdrawn)
}

/// Zero means not known.
fn limit_of(tokens: u64) -> Value {
    if tokens == 0 { Value::Nothing } else { Value::Count(tokens) }
}

async fn show(
    name: String,
    currency_code: String,
    account: String,
    session: &Session,
) -> Result<(), CliError> {
    let mut catalog = session.connect().await?.catalog();
    let request = GetModelRequest { name, currency_code, account };
    let answer = catalog.get_model(request).await?.into_inner();
    let model = required(answer.model, "model")?;
    let route = word(model.route().as_str_name(), "ROUTE_");
    let is_available = is_available(&model);
    let record = Table::record(
        "model",
        vec![
            ("model", text(model.name)),
            ("provider", text(model.provider)),
            ("route", route),
            ("available", Value::Flag(is_available)),
            ("context_tokens", limit_of(model.context_tokens)),
            ("max_output_tokens", limit_of(model.max_output_tokens)),
        ],
    );
    let columns = [
        "price_from",
        "version",
        "account",
        "above_tokens",
        "input",
        "output",
        "cache_read",
        "cache_write",
        "reasoning",
        "image",
        "request",
        "currency",
        "note",
        "source",
    ];
    let mut prices = Table::list("prices", &columns);
    for price in answer.history {
        price_rows(&mut prices, price);
    }
    session.output.show_all(&[record, prices])
}

/// The base price, then a row for each context tier.
fn price_rows(table: &mut Table, price: Price) {
    let note = if price.withdrawn {
        text("withdrawn: denied from here on")
    } else if price.discounted_from != 0 {
        text(format!("{}% off version {}", price.discount_percent, price.discounted_from))
    } else {
        Value::Nothing
    };
    let base = (Value::Nothing, price.rates.unwrap_or_default());
    let tiers = price.tiers.into_iter();
    let tiers = tiers.map(|tier| (Value::Count(tier.above), tier.rates.unwrap_or_default()));
    for (above, rates) in std::iter::once(base).chain(tiers) {
        let Rates { input, output, cache_read, cache_write, reasoning, .. } = rates;
        table.row([
            moment(price.effective_from),
            Value::Number(price.price_version),
            text(&price.account),
            above,
            decimal(input),
            decimal(output),
            decimal(cache_read.unwrap_or_default()),
            decimal(cache_write.unwrap_or_default()),
            decimal(reasoning.unwrap_or_default()),
            decimal(&price.image),
            decimal(&price.request),
            text(&price.currency_code),
            note.clone(),
            text(&price.source),
        ]);
    }
}

async fn estimate(args: EstimateArgs, session: &Session) -> Result<(), CliError> {
    let mut catalog = session.connect().await?.catalog();
    let currency_code = if args.account.is_some() { String::new() } else { args.currency };
    let request = EstimateCostRequest {
        model: args.model,
        quantities: Some(args.quantities.quantities()),
        account: args.account.unwrap_or_default(),
        currency_code,
        at: args.at.map(args::timestamp),
    };
    let answer = catalog.estimate_cost(request).await?.into_inner();
    session.output.show(&Table::record(
        "estimate",
        vec![
            ("cost", money(answer.cost)),
            ("price_version", Value::Number(answer.price_version)),
            ("context_tier_above", limit_of(answer.tier_above)),
        ],
    ))
}

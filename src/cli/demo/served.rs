//! What the gate lets through, and what it costs.

use super::{
    Stage,
    gateway::{Ask, authorize, granted, record, usage_message},
    world::World,
};
use crate::{
    cli::{
        args::new_idempotency_key,
        client::Client,
        error::CliError,
        output::{Table, Value, money, text},
    },
    proto::{
        Dialect, Grant, ProviderUsage, Quantities, RecordUsageResponse, ReverseUsageRequest,
        record_usage_request::Usage,
    },
};

/// A request and what the model used for it.
struct Request<'a> {
    what: &'static str,
    ask: Ask<'a>,
    usage: Usage,
    cache_hit: bool,
}

/// OpenAI counts cached tokens as part of the prompt and reasoning as part of the answer.
const OPENAI_USAGE: &str = r#"{"prompt_tokens": 3000, "completion_tokens": 500, "total_tokens": 3500,
    "prompt_tokens_details": {"cached_tokens": 2000},
    "completion_tokens_details": {"reasoning_tokens": 300}}"#;
/// Anthropic counts cached tokens beside the prompt.
const ANTHROPIC_USAGE: &str = r#"{"input_tokens": 1000, "cache_read_input_tokens": 2000,
    "cache_creation_input_tokens": 0, "output_tokens": 500}"#;

fn counts(input: u64, output: u64) -> Usage {
    Usage::Quantities(Quantities { input, output, ..Quantities::default() })
}

fn provider(dialect: Dialect, json: &str) -> Usage {
    Usage::ProviderUsage(ProviderUsage { dialect: dialect.into(), json: json.to_owned() })
}

fn requests(world: &World) -> Vec<Request<'_>> {
    let ask = |api_key, model, input_tokens, max_output_tokens| Ask {
        api_key,
        model,
        input_tokens,
        max_output_tokens,
        allow_reduced: false,
    };
    let (startup, enterprise) = (world.startup_key.as_str(), world.enterprise_key.as_str());
    let request = |what, ask, usage| Request { what, ask, usage, cache_hit: false };
    vec![
        request(
            "chat",
            ask(startup, "deepseek-ai/DeepSeek-V4-Flash", 1_200, 800),
            counts(1_200, 350),
        ),
        request("long chat", ask(startup, "Qwen/Qwen3-32B", 24_000, 4_000), counts(24_000, 2_750)),
        request(
            "reasoning",
            ask(startup, "deepseek-ai/DeepSeek-R1", 2_000, 6_000),
            counts(2_000, 4_100),
        ),
        request(
            "OpenAI's own usage object",
            ask(startup, "gpt-4o-mini", 3_000, 1_000),
            provider(Dialect::Openai, OPENAI_USAGE),
        ),
        request(
            "Anthropic's own usage object",
            ask(startup, "moonshotai/Kimi-K2.5", 3_000, 1_000),
            provider(Dialect::Anthropic, ANTHROPIC_USAGE),
        ),
        Request {
            what: "answered by our own cache",
            ask: ask(startup, "gpt-4o", 1_000, 500),
            usage: counts(1_000, 400),
            cache_hit: true,
        },
        request(
            "dedicated capacity",
            ask(enterprise, "Pro/deepseek-ai/DeepSeek-V3.2", 60_000, 8_000),
            counts(60_000, 5_000),
        ),
        request("batch", ask(enterprise, "gpt-4o", 40_000, 4_000), counts(40_000, 3_200)),
        Request {
            what: "more than funds cover: reduced",
            ask: Ask { allow_reduced: true, ..ask(startup, "gpt-4o", 4_000, 500_000) },
            usage: counts(4_000, 900),
            cache_hit: false,
        },
    ]
}

/// Authorizes and records each; then the same again, and a reversal.
pub(super) async fn run(client: &Client, world: &World, stage: &mut Stage) -> Result<(), CliError> {
    stage.chapter(
        "Requests that are served",
        "The gate reserves the most a request can cost; the charge is what it used.",
    )?;
    let columns =
        ["request", "model", "input", "max_output", "reserved", "charged", "saved", "answer"];
    let mut table = Table::list("served", &columns);
    let mut first = None;
    for request in requests(world) {
        let Request { what, ask, usage, cache_hit } = request;
        let grant = granted(what, authorize(client, ask).await?)?;
        if ask.allow_reduced != grant.reduced {
            return Err(CliError::failed(format!("{what:?} should have been reduced")));
        }
        let message = usage_message(&grant, usage, cache_hit);
        let recorded = record(client, message.clone()).await?;
        row(&mut table, what, ask, &grant, &recorded);
        first.get_or_insert((message, recorded));
    }
    stage.show(table)?;
    let Some((message, recorded)) = first else { return Ok(()) };
    let again = record(client, message).await?;
    if !again.duplicate || again.charged != recorded.charged {
        return Err(CliError::failed("the same usage was charged twice"));
    }
    reverse(client, world, recorded.event_id, stage).await
}

fn row(table: &mut Table, what: &str, ask: Ask<'_>, grant: &Grant, recorded: &RecordUsageResponse) {
    table.row([
        text(what),
        text(ask.model),
        Value::Count(ask.input_tokens),
        Value::Count(grant.max_output_tokens),
        money(grant.reserved.clone()),
        money(recorded.charged.clone()),
        money(
            recorded
                .saved
                .clone()
                .filter(|saved| saved.amount.contains(|c| matches!(c, '1'..='9'))),
        ),
        text(if grant.reduced { "reduced" } else { "granted" }),
    ]);
}

async fn reverse(
    client: &Client,
    world: &World,
    event_id: String,
    stage: &Stage,
) -> Result<(), CliError> {
    let request = ReverseUsageRequest {
        account: world.startup.clone(),
        event_id,
        reason: "the provider served garbage".to_owned(),
        idempotency_key: new_idempotency_key(),
    };
    let reversed = client.usage().reverse_usage(request).await?.into_inner();
    let amount = reversed.reversed.map_or_else(String::new, |money| money.amount);
    stage.say(&format!(
        "\nThe first one was recorded a second time and charged once. Then it was reversed: ${amount} \
         went back\nto where it came from."
    ))
}

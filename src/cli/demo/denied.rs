//! What the gate denies: each common reason once, with what the gateway should answer.

use super::{
    Stage,
    gateway::{Ask, authorize, denied, granted},
    world::{UNPRICED_MODEL, World},
};
use crate::{
    accounts::key::{ApiKey, Tier},
    cli::{
        args::{money, new_idempotency_key},
        authorization::denial_reason,
        client::Client,
        error::CliError,
        output::{Table, Value, text},
    },
    proto::{
        BudgetEnforcement, BudgetPeriod, CancelAuthorizationRequest, Denial, DenialReason,
        ResumeAccountRequest, SetBudgetRequest, SuspendAccountRequest,
    },
};

/// A request that is denied, and why.
struct Request<'a> {
    what: &'static str,
    ask: Ask<'a>,
    reason: DenialReason,
}

const CHAT_MODEL: &str = "deepseek-ai/DeepSeek-V4-Flash";

fn requests<'a>(world: &'a World, unknown_key: &'a str) -> Vec<Request<'a>> {
    use DenialReason as Reason;
    let request = |what, api_key, model, input_tokens, max_output_tokens, reason| {
        let ask = Ask { api_key, model, input_tokens, max_output_tokens, allow_reduced: false };
        Request { what, ask, reason }
    };
    let startup = world.startup_key.as_str();
    let pro = "Pro/deepseek-ai/DeepSeek-V3.2";
    vec![
        request("not a key at all", "ga_sk_secret", CHAT_MODEL, 500, 100, Reason::MalformedKey),
        request("a key nobody issued", unknown_key, CHAT_MODEL, 500, 100, Reason::UnknownKey),
        request("a leaked key", &world.revoked_key, CHAT_MODEL, 500, 100, Reason::KeyRevoked),
        request("a model we do not have", startup, "gpt-4oo", 500, 100, Reason::ModelNotFound),
        request(
            "a model without a price",
            startup,
            UNPRICED_MODEL,
            500,
            100,
            Reason::ModelUnpriced,
        ),
        request("Pro with a standard key", startup, pro, 500, 100, Reason::ProKeyRequired),
        request(
            "not on the key's list",
            &world.narrow_key,
            "gpt-4o",
            500,
            100,
            Reason::ModelNotAllowed,
        ),
        request(
            "beyond the key's tokens",
            &world.narrow_key,
            CHAT_MODEL,
            9_000,
            500,
            Reason::RequestTooLarge,
        ),
        request(
            "beyond the key's cost",
            &world.thrifty_key,
            "gpt-4o",
            4_000,
            1_000,
            Reason::RequestTooExpensive,
        ),
        request(
            "beyond the credits",
            startup,
            "gpt-4o",
            120_000,
            60_000,
            Reason::InsufficientCredits,
        ),
    ]
}

/// Asks for each, and checks that it is denied for the reason it should be.
pub(super) async fn run(client: &Client, world: &World, stage: &mut Stage) -> Result<(), CliError> {
    stage.chapter(
        "Requests that are denied",
        "A denial is a normal answer: it says what the gateway should tell its caller, and what to do.",
    )?;
    let never_issued = ApiKey::generate(Tier::Standard)
        .map_err(|error| CliError::failed(format!("this machine has no randomness: {error}")))?;
    let mut table = Table::list("denied", &["request", "reason", "http", "message"]);
    for Request { what, ask, reason } in requests(world, never_issued.reveal()) {
        let denial = denied(what, authorize(client, ask).await?)?;
        row(&mut table, what, &denial, reason)?;
    }
    let denial = beyond_the_budget(client, world).await?;
    row(&mut table, "beyond the key's daily budget", &denial, DenialReason::BudgetExceeded)?;
    let denial = beyond_the_limit(client, world).await?;
    row(&mut table, "beyond the credit limit", &denial, DenialReason::CreditLimitExceeded)?;
    let denial = while_suspended(client, world).await?;
    row(&mut table, "while suspended", &denial, DenialReason::AccountSuspended)?;
    stage.show(table)
}

fn row(
    table: &mut Table,
    what: &str,
    denial: &Denial,
    expected: DenialReason,
) -> Result<(), CliError> {
    let reason = denial_reason(denial);
    if denial.reason() != expected {
        return Err(CliError::failed(format!(
            "{what:?} was denied for {reason}, and should have been for {}",
            expected.as_str_name()
        )));
    }
    table.row([
        text(what),
        text(reason),
        Value::Count(denial.http_status.into()),
        text(&denial.message),
    ]);
    Ok(())
}

/// A key with ten cents a day, which one long request passes.
async fn beyond_the_budget(client: &Client, world: &World) -> Result<Denial, CliError> {
    let budget = SetBudgetRequest {
        account: world.startup.clone(),
        key_id: world.budgeted_key_id.clone(),
        period: BudgetPeriod::Day.into(),
        enforcement: BudgetEnforcement::Hard.into(),
        limit: Some(money("0.10", "USD")),
        idempotency_key: new_idempotency_key(),
        ..SetBudgetRequest::default()
    };
    client.budgets().set_budget(budget).await?;
    let ask = Ask {
        api_key: &world.budgeted_key,
        model: "gpt-4o",
        input_tokens: 4_000,
        max_output_tokens: 8_000,
        allow_reduced: false,
    };
    denied("beyond the key's daily budget", authorize(client, ask).await?)
}

/// Two long requests at once are more than the enterprise may owe; the first is cancelled then.
async fn beyond_the_limit(client: &Client, world: &World) -> Result<Denial, CliError> {
    let long = Ask {
        api_key: &world.enterprise_key,
        model: "gpt-4o",
        input_tokens: 100_000,
        max_output_tokens: 16_000,
        allow_reduced: false,
    };
    let first = granted("a long request", authorize(client, long).await?)?;
    let denial = denied("beyond the credit limit", authorize(client, long).await?)?;
    let request = CancelAuthorizationRequest { token: first.token };
    client.authorization().cancel_authorization(request).await?;
    Ok(denial)
}

/// A suspension reaches the gate before the call returns; the account is resumed then.
async fn while_suspended(client: &Client, world: &World) -> Result<Denial, CliError> {
    let suspend = SuspendAccountRequest {
        account: world.startup.clone(),
        reason: "payment disputed".to_owned(),
        idempotency_key: new_idempotency_key(),
    };
    client.accounts().suspend_account(suspend).await?;
    let ask = Ask {
        api_key: &world.startup_key,
        model: CHAT_MODEL,
        input_tokens: 500,
        max_output_tokens: 100,
        allow_reduced: false,
    };
    let decision = authorize(client, ask).await?;
    let resume = ResumeAccountRequest {
        account: world.startup.clone(),
        reason: "dispute withdrawn".to_owned(),
        idempotency_key: new_idempotency_key(),
    };
    client.accounts().resume_account(resume).await?;
    denied("while suspended", decision)
}

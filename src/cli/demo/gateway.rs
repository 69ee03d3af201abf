//! The gateway of a demo: asks the gate, and records what the model used.

use std::collections::HashMap;

use crate::{
    cli::{args::required, client::Client, error::CliError},
    proto::{
        AuthorizeRequest, Denial, Grant, Outcome, RecordUsageRequest, RecordUsageResponse,
        authorize_response::Decision,
        record_usage_request::{Source, Usage},
    },
};

/// A request that a customer sends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) api_key: &'a str,
    pub(super) model: &'a str,
    pub(super) input_tokens: u64,
    pub(super) max_output_tokens: u64,
    pub(super) allow_reduced: bool,
}

/// What the gate says.
pub(super) async fn authorize(client: &Client, ask: Ask<'_>) -> Result<Decision, CliError> {
    let request = AuthorizeRequest {
        api_key: ask.api_key.to_owned(),
        model: ask.model.to_owned(),
        request_id: String::new(),
        input_tokens: ask.input_tokens,
        max_output_tokens: Some(ask.max_output_tokens),
        allow_reduced_output: ask.allow_reduced,
        end_user: "demo-user".to_owned(),
        labels: HashMap::from([("feature".to_owned(), "demo".to_owned())]),
    };
    let answer = client.authorization().authorize(request).await?.into_inner();
    required(answer.decision, "decision")
}

/// The grant that is expected here.
pub(super) fn granted(what: &str, decision: Decision) -> Result<Grant, CliError> {
    match decision {
        Decision::Grant(grant) => Ok(grant),
        Decision::Denial(denial) => Err(CliError::failed(format!(
            "the gate should have granted {what:?}, and denied it: {}",
            denial.message
        ))),
    }
}

/// The denial that is expected here.
pub(super) fn denied(what: &str, decision: Decision) -> Result<Denial, CliError> {
    match decision {
        Decision::Denial(denial) => Ok(denial),
        Decision::Grant(_) => {
            Err(CliError::failed(format!("the gate should have denied {what:?}, and granted it")))
        }
    }
}

/// The message that records a request's usage under its grant.
pub(super) fn usage_message(grant: &Grant, usage: Usage, cache_hit: bool) -> RecordUsageRequest {
    RecordUsageRequest {
        source: Some(Source::Token(grant.token.clone())),
        usage: Some(usage),
        outcome: Outcome::Success.into(),
        cache_hit,
        provider: "demo".to_owned(),
        region: "eu-central".to_owned(),
        ..RecordUsageRequest::default()
    }
}

/// Records it.
pub(super) async fn record(
    client: &Client,
    message: RecordUsageRequest,
) -> Result<RecordUsageResponse, CliError> {
    Ok(client.usage().record_usage(message).await?.into_inner())
}

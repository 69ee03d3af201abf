//! One request of a trace, as a gateway makes it: authorize, let the model answer, record.
//!
//! A call that failed for a reason that passes is repeated with the same ids, so that nothing is
//! charged twice: the same request id gets the same grant while that is outstanding, and the same
//! usage under the same token is recorded once.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    cli::{
        args::required,
        authorization::denial_reason,
        client::Client,
        error::CliError,
        replay::{
            journal::{Acknowledged, Journal, Progress},
            trace::Request,
        },
    },
    proto::{
        AuthorizeRequest, Outcome, Quantities, RecordUsageRequest, RecordUsageResponse,
        authorize_response::Decision,
        record_usage_request::{Source, Usage},
    },
};

/// The first pause before a call is repeated.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause before a call is repeated.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The smallest answer a client asks room for.
const SMALLEST_ANSWER: u64 = 16;

/// The gateway of a replay; shared by all requests that are on their way.
#[derive(Debug)]
pub(super) struct Gateway {
    /// The server.
    pub(super) client: Client,
    /// The customer's key.
    pub(super) api_key: String,
    /// The replay's id.
    pub(super) run: String,
    /// Take less output where funds cover only that.
    pub(super) allow_reduced: bool,
    /// How long a call is repeated before the replay gives up.
    pub(super) patience: Duration,
    /// Where progress is written down.
    pub(super) journal: Journal,
}

/// What became of a request.
#[derive(Debug)]
pub(super) struct Done {
    /// The row in the trace.
    pub(super) row: u64,
    /// Recorded or denied.
    pub(super) progress: Progress,
    /// How long the answer to `Authorize` took, the last time it was asked.
    pub(super) authorize: Option<Duration>,
    /// How long the answer to `RecordUsage` took, the last time it was sent.
    pub(super) record: Option<Duration>,
    /// The usage had been recorded before its answer was lost.
    pub(super) was_duplicate: bool,
    /// Calls that had to be repeated.
    pub(super) repeated: u64,
}

impl Done {
    const fn new(row: u64) -> Self {
        Self {
            row,
            progress: Progress::Denied(String::new()),
            authorize: None,
            record: None,
            was_duplicate: false,
            repeated: 0,
        }
    }
}

impl Gateway {
    /// Makes the request, or takes it up where an earlier run left it.
    pub(super) async fn serve(
        &self,
        request: Request,
        model: &str,
        before: Option<Progress>,
    ) -> Result<Done, CliError> {
        let mut done = Done::new(request.row);
        let before = match before {
            Some(granted @ Progress::Granted { .. }) => granted,
            Some(finished) => {
                done.progress = finished;
                return Ok(done);
            }
            None => self.authorize(request, model, &mut done).await?,
        };
        let Progress::Granted { token, account, max_output } = before else {
            done.progress = before;
            return Ok(done);
        };
        let (answer, input, output) = self.record(request, token, max_output, &mut done).await?;
        done.was_duplicate = answer.duplicate;
        done.progress = Progress::Acknowledged(acknowledged(account, answer, input, output)?);
        self.journal.note(request.row, &done.progress)?;
        Ok(done)
    }

    async fn authorize(
        &self,
        request: Request,
        model: &str,
        done: &mut Done,
    ) -> Result<Progress, CliError> {
        // A client asks for a round limit that its answer then stays below.
        let asked = request.generated_tokens.max(SMALLEST_ANSWER);
        let max_output_tokens = Some(asked.checked_next_power_of_two().unwrap_or(asked));
        let message = AuthorizeRequest {
            api_key: self.api_key.clone(),
            model: model.to_owned(),
            request_id: format!("replay-{}-{}", self.run, request.row),
            input_tokens: request.context_tokens,
            max_output_tokens,
            allow_reduced_output: self.allow_reduced,
            end_user: String::new(),
            labels: std::collections::HashMap::new(),
        };
        let (answer, took) = self
            .patiently(&mut done.repeated, || {
                let (mut client, message) = (self.client.authorization(), message.clone());
                async move { client.authorize(message).await }
            })
            .await?;
        done.authorize = Some(took);
        let progress = match required(answer.decision, "decision")? {
            Decision::Grant(grant) => Progress::Granted {
                token: grant.token,
                account: grant.account_id,
                max_output: grant.max_output_tokens,
            },
            Decision::Denial(denial) => Progress::Denied(denial_reason(&denial).to_owned()),
        };
        self.journal.note(request.row, &progress)?;
        Ok(progress)
    }

    async fn record(
        &self,
        request: Request,
        token: String,
        max_output: u64,
        done: &mut Done,
    ) -> Result<(RecordUsageResponse, u64, u64), CliError> {
        // A reduced grant stops the model earlier.
        let output = request.generated_tokens.min(max_output);
        let input = request.context_tokens;
        let message = RecordUsageRequest {
            source: Some(Source::Token(token)),
            usage: Some(Usage::Quantities(Quantities { input, output, ..Quantities::default() })),
            outcome: Outcome::Success.into(),
            provider: "replay".to_owned(),
            ..RecordUsageRequest::default()
        };
        let (answer, took) = self
            .patiently(&mut done.repeated, || {
                let (mut client, message) = (self.client.usage(), message.clone());
                async move { client.record_usage(message).await }
            })
            .await?;
        done.record = Some(took);
        Ok((answer, input, output))
    }

    /// Repeats a call while what keeps it from succeeding may pass.
    async fn patiently<Answer, Call>(
        &self,
        repeated: &mut u64,
        call: impl Fn() -> Call,
    ) -> Result<(Answer, Duration), CliError>
    where
        Call: Future<Output = Result<tonic::Response<Answer>, Status>>,
    {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let sent = Instant::now();
            let status = match call().await {
                Ok(answer) => return Ok((answer.into_inner(), sent.elapsed())),
                Err(status) => status,
            };
            if !may_pass(&status) || begun.elapsed() >= self.patience {
                return Err(status.into());
            }
            *repeated += 1;
            let advised = status.get_details_retry_info().and_then(|info| info.retry_delay);
            tokio::time::sleep(advised.unwrap_or(pause).clamp(pause, LONGEST_PAUSE)).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }
}

/// A server that is away or full comes back; a connection that broke says so in many codes, all of
/// them with a cause.
fn may_pass(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::ResourceExhausted)
        || std::error::Error::source(status).is_some()
}

fn acknowledged(
    account: String,
    answer: RecordUsageResponse,
    input: u64,
    output: u64,
) -> Result<Acknowledged, CliError> {
    let charged = required(answer.charged, "charge")?;
    Ok(Acknowledged {
        account,
        event_id: answer.event_id,
        currency: charged.currency_code,
        charged: charged.amount,
        overrun: answer.overrun.map_or_else(|| "0".to_owned(), |overrun| overrun.amount),
        input,
        output,
    })
}

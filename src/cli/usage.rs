//! `tollgate usage`: what was used, what it cost, and where revenue leaks.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};

use crate::{
    cli::{
        Session,
        args::{self, Idempotency, Limit, Span},
        client::Authorized,
        error::CliError,
        output::{Table, Value, moment, money, text, word},
    },
    clock,
    ids::AuthorizationId,
    proto::{
        Dialect, ListUnsettledRequest, ListUsageRequest, Outcome, ProviderUsage, Quantities,
        RecordUsageRequest, RecordUsageResponse, ReverseUsageRequest, SummarizeUsageRequest,
        UnauthorizedUsage, UsageGrouping,
        record_usage_request::{Source, Usage},
        usage_service_client::UsageServiceClient,
    },
};

const LIST_EXAMPLES: &str = "Examples:
  tollgate usage list acme
  tollgate usage list acme --from 24h --model gpt-4o --all --output csv";
const SUMMARY_EXAMPLES: &str = "\
Examples:
  tollgate usage summary --from 30d
  tollgate usage summary --account acme --by day --from 2026-11-01 --until 2026-12-01
  tollgate usage summary --by account --output csv";
const UNSETTLED_EXAMPLES: &str = "\
Authorizations that expired without usage: where revenue leaks.

Examples:
  tollgate usage unsettled
  tollgate usage unsettled --account acme";
const REVERSE_EXAMPLES: &str = "\
The event stays; its charge goes back to where it was funded from.

Examples:
  tollgate usage reverse acme 0196f1c2-… --reason 'provider served garbage'";
const RECORD_EXAMPLES: &str = "\
With the token of a grant, the usage settles it. Without one (--account, --key-id, --model) it is
rated at the time it occurred and is wholly an overrun.

Examples:
  tollgate usage record --grant-token eyJ0… --input 1200 --usage-output 350
  tollgate usage record --grant-token eyJ0… --dialect openai --usage-json usage.json
  tollgate usage record --account acme --key-id 0196f1c2-… --model gpt-4o --input 1200";

#[derive(Debug, Subcommand)]
pub(super) enum UsageCommand {
    /// List an account's usage events, newest first
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Totals by model, key, day or account, dearest first
    #[command(after_help = SUMMARY_EXAMPLES)]
    Summary(SummaryArgs),
    /// List authorizations that nobody settled
    #[command(after_help = UNSETTLED_EXAMPLES)]
    Unsettled {
        /// Only of this account (handle or id)
        #[arg(long)]
        account: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Take a usage event's charge back
    #[command(after_help = REVERSE_EXAMPLES)]
    Reverse {
        /// Handle or id
        account: String,
        /// The event's id
        event_id: String,
        /// Why; kept with the reversal
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        idempotency: Idempotency,
    },
    /// Record what a request used
    #[command(after_help = RECORD_EXAMPLES)]
    Record(Box<RecordArgs>),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Handle or id
    account: String,
    /// Only of this key
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
    /// Only of this model
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    limit: Limit,
}

#[derive(Debug, Args)]
pub(super) struct SummaryArgs {
    /// Only of this account (handle or id) [default: all]
    #[arg(long)]
    account: Option<String>,
    /// What is summed up
    #[arg(long, value_enum, default_value = "model")]
    by: Grouping,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    limit: Limit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Grouping {
    Model,
    Key,
    Day,
    Account,
}

#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    /// The token of the grant under which it was served
    #[arg(long, value_name = "JWT", conflicts_with_all = ["account", "key_id", "model"])]
    #[arg(required_unless_present = "account")]
    grant_token: Option<String>,
    /// Without a grant: handle or id of the account
    #[arg(long, requires_all = ["key_id", "model"])]
    account: Option<String>,
    /// Without a grant: the key's id
    #[arg(long, value_name = "ID", requires = "account")]
    key_id: Option<String>,
    /// Without a grant: the model
    #[arg(long, requires = "account")]
    model: Option<String>,
    /// Without a grant: the event's id, a UUIDv7 [default: a new one]
    #[arg(long, value_name = "ID", requires = "account")]
    event_id: Option<String>,
    /// Without a grant: when it happened [default: now]
    #[arg(long, value_name = "TIME", requires = "account", value_parser = args::parse_moment)]
    occurred_at: Option<DateTime<Utc>>,
    #[command(flatten)]
    quantities: QuantityArgs,
    /// The provider's own usage object instead of counts; - reads the standard input
    #[arg(long, value_name = "FILE", requires = "dialect")]
    usage_json: Option<PathBuf>,
    /// Whose usage object it is
    #[arg(long, value_enum, requires = "usage_json")]
    dialect: Option<UsageDialect>,
    /// How the request ended
    #[arg(long, value_enum, default_value = "success")]
    outcome: RequestOutcome,
    /// The gateway answered from its own cache
    #[arg(long)]
    cache_hit: bool,
    /// Who served it
    #[arg(long, default_value = "", hide_default_value = true)]
    provider: String,
    /// The model that was served, where it is another
    #[arg(long, default_value = "", hide_default_value = true)]
    served_model: String,
}

/// Tokens by disjoint class.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Quantities")]
pub(super) struct QuantityArgs {
    /// Prompt tokens that are in no other class
    #[arg(long, value_name = "TOKENS", default_value = "0", value_parser = args::parse_tokens)]
    input: u64,
    /// Answer tokens that are in no other class
    #[arg(long = "usage-output", value_name = "TOKENS", default_value = "0")]
    #[arg(value_parser = args::parse_tokens)]
    output_tokens: u64,
    /// Prompt tokens read from the provider's cache
    #[arg(long, value_name = "TOKENS", default_value = "0", value_parser = args::parse_tokens)]
    cache_read: u64,
    /// Prompt tokens written to the provider's cache
    #[arg(long, value_name = "TOKENS", default_value = "0", value_parser = args::parse_tokens)]
    cache_write: u64,
    /// Tokens the model thought with
    #[arg(long, value_name = "TOKENS", default_value = "0", value_parser = args::parse_tokens)]
    reasoning: u64,
    /// Prompt tokens that were audio
    #[arg(long, value_name = "TOKENS", default_value = "0", value_parser = args::parse_tokens)]
    audio_input: u64,
    /// Answer tokens that were audio
    #[arg(long, value_name = "TOKENS", default_value = "0", value_parser = args::parse_tokens)]
    audio_output: u64,
    /// Images made or read
    #[arg(long, value_name = "N", default_value_t = 0)]
    images: u64,
}

impl QuantityArgs {
    /// As the wire has them.
    pub(super) const fn quantities(self) -> Quantities {
        Quantities {
            input: self.input,
            output: self.output_tokens,
            cache_read: self.cache_read,
            cache_write: self.cache_write,
            reasoning: self.reasoning,
            audio_input: self.audio_input,
            audio_output: self.audio_output,
            images: self.images,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum UsageDialect {
    /// The usage object of chat completions or responses
    Openai,
    /// The usage object of messages
    Anthropic,
    /// usageMetadata of generateContent
    Gemini,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum RequestOutcome {
    Success,
    ClientAborted,
    ProviderError,
    Timeout,
    ContentFiltered,
}

type Usages = UsageServiceClient<Authorized>;

pub(super) async fn run(command: UsageCommand, session: &Session) -> Result<(), CliError> {
    let mut usage = session.connect().await?.usage();
    match command {
        UsageCommand::List(args) => list(&mut usage, args, session).await,
        UsageCommand::Summary(args) => summary(&mut usage, args, session).await,
        UsageCommand::Unsettled { account, limit } => {
            unsettled(&mut usage, account.unwrap_or_default(), &limit, session).await
        }
        UsageCommand::Reverse { account, event_id, reason, idempotency } => {
            let idempotency_key = idempotency.key();
            let request = ReverseUsageRequest { account, event_id, reason, idempotency_key };
            let reversal = usage.reverse_usage(request).await?.into_inner();
            session.output.show(&Table::record(
                "reversal",
                vec![
                    ("event_id", text(reversal.event_id)),
                    ("reversed", money(reversal.reversed)),
                    ("to_promotional", money(reversal.to_promotional)),
                    ("to_credits", money(reversal.to_credits)),
                    ("to_unbilled", money(reversal.to_unbilled)),
                    ("to_overdrawn", money(reversal.to_overdrawn)),
                ],
            ))
        }
        UsageCommand::Record(args) => {
            let request = args.into_request()?;
            let recorded = usage.record_usage(request).await?.into_inner();
            session.output.show(&recorded_table(recorded))
        }
    }
}

impl RecordArgs {
    fn into_request(self) -> Result<RecordUsageRequest, CliError> {
        let usage = match (&self.usage_json, self.dialect) {
            (Some(path), Some(dialect)) => {
                let dialect = match dialect {
                    UsageDialect::Openai => Dialect::Openai,
                    UsageDialect::Anthropic => Dialect::Anthropic,
                    UsageDialect::Gemini => Dialect::Gemini,
                };
                let json = args::read_text(path)?;
                Usage::ProviderUsage(ProviderUsage { dialect: dialect.into(), json })
            }
            _ => Usage::Quantities(self.quantities.quantities()),
        };
        let source = match self.grant_token {
            Some(token) => Source::Token(token),
            None => Source::Unauthorized(UnauthorizedUsage {
                event_id: self.event_id.unwrap_or_else(|| AuthorizationId::generate().to_string()),
                account: self.account.unwrap_or_default(),
                key_id: self.key_id.unwrap_or_default(),
                model: self.model.unwrap_or_default(),
                occurred_at: Some(args::timestamp(self.occurred_at.unwrap_or_else(clock::now))),
            }),
        };
        let outcome = match self.outcome {
            RequestOutcome::Success => Outcome::Success,
            RequestOutcome::ClientAborted => Outcome::ClientAborted,
            RequestOutcome::ProviderError => Outcome::ProviderError,
            RequestOutcome::Timeout => Outcome::Timeout,
            RequestOutcome::ContentFiltered => Outcome::ContentFiltered,
        };
        Ok(RecordUsageRequest {
            source: Some(source),
            usage: Some(usage),
            outcome: outcome.into(),
            cache_hit: self.cache_hit,
            provider: self.provider,
            served_model: self.served_model,
            ..RecordUsageRequest::default()
        })
    }
}

fn recorded_table(recorded: RecordUsageResponse) -> Table {
    Table::record(
        "usage",
        vec![
            ("event_id", text(recorded.event_id)),
            ("charged", money(recorded.charged)),
            ("overrun", money(recorded.overrun)),
            ("saved", money(recorded.saved)),
            ("duplicate", Value::Flag(recorded.duplicate)),
            ("price_version", Value::Number(recorded.price_version)),
        ],
    )
}

async fn list(usage: &mut Usages, args: ListArgs, session: &Session) -> Result<(), CliError> {
    let columns = [
        "occurred_at",
        "event_id",
        "model",
        "input",
        "cache_read",
        "cache_write",
        "output",
        "reasoning",
        "charged",
        "overrun",
        "outcome",
        "provider",
        "region",
        "reversed",
    ];
    let mut table = Table::list("usage_events", &columns);
    let mut pages = args.limit.pages();
    while let Some((page_size, page_token)) = pages.next_page() {
        let request = ListUsageRequest {
            account: args.account.clone(),
            key_id: args.key_id.clone().unwrap_or_default(),
            model: args.model.clone().unwrap_or_default(),
            from: args.span.from(),
            until: args.span.until(),
            page_size,
            page_token,
        };
        let page = usage.list_usage(request).await?.into_inner();
        pages.came(page.events.len(), page.next_page_token);
        for event in page.events {
            let outcome = word(event.outcome().as_str_name(), "OUTCOME_");
            let used = event.quantities.unwrap_or_default();
            table.row([
                moment(event.occurred_at),
                text(event.event_id),
                text(event.model),
                Value::Count(used.input.saturating_add(used.audio_input)),
                Value::Count(used.cache_read),
                Value::Count(used.cache_write),
                Value::Count(used.output.saturating_add(used.audio_output)),
                Value::Count(used.reasoning),
                money(event.charged),
                money(event.overrun),
                outcome,
                text(event.provider),
                text(event.region),
                Value::Flag(event.reversed),
            ]);
        }
    }
    session.output.show(&table)?;
    session.tell_if_more(&pages)
}

async fn summary(usage: &mut Usages, args: SummaryArgs, session: &Session) -> Result<(), CliError> {
    let (group_by, name) = match args.by {
        Grouping::Model => (UsageGrouping::Model, "model"),
        Grouping::Key => (UsageGrouping::Key, "key_id"),
        Grouping::Day => (UsageGrouping::Day, "day"),
        Grouping::Account => (UsageGrouping::Account, "account_id"),
    };
    let mut table = summary_table(name);
    let mut pages = args.limit.pages();
    while let Some((page_size, page_token)) = pages.next_page() {
        let request = SummarizeUsageRequest {
            account: args.account.clone().unwrap_or_default(),
            from: args.span.from(),
            until: args.span.until(),
            group_by: group_by.into(),
            page_size,
            page_token,
        };
        let page = usage.summarize_usage(request).await?.into_inner();
        pages.came(page.summaries.len(), page.next_page_token);
        for summary in page.summaries {
            summary_row(&mut table, summary);
        }
    }
    session.output.show(&table)?;
    session.tell_if_more(&pages)
}

/// A table for [`summary_row`], grouped by what is named.
pub(super) fn summary_table(group: &'static str) -> Table {
    let columns = [
        group,
        "requests",
        "input",
        "cache_read",
        "cache_write",
        "output",
        "reasoning",
        "charged",
        "overrun",
        "saved",
    ];
    Table::list("usage", &columns)
}

/// One group of usage.
pub(super) fn summary_row(table: &mut Table, summary: crate::proto::UsageSummary) {
    let used = summary.quantities.unwrap_or_default();
    table.row([
        text(summary.group),
        Value::Count(summary.requests),
        Value::Count(used.input.saturating_add(used.audio_input)),
        Value::Count(used.cache_read),
        Value::Count(used.cache_write),
        Value::Count(used.output.saturating_add(used.audio_output)),
        Value::Count(used.reasoning),
        money(summary.charged),
        money(summary.overrun),
        money(summary.saved),
    ]);
}

async fn unsettled(
    usage: &mut Usages,
    account: String,
    limit: &Limit,
    session: &Session,
) -> Result<(), CliError> {
    let columns = [
        "authorization_id",
        "account_id",
        "key_id",
        "model",
        "reserved",
        "authorized_at",
        "expired_at",
        "request_id",
    ];
    let mut table = Table::list("unsettled_authorizations", &columns);
    let mut pages = limit.pages();
    while let Some((page_size, page_token)) = pages.next_page() {
        let request = ListUnsettledRequest { account: account.clone(), page_size, page_token };
        let page = usage.list_unsettled(request).await?.into_inner();
        pages.came(page.authorizations.len(), page.next_page_token);
        for authorization in page.authorizations {
            table.row([
                text(authorization.authorization_id),
                text(authorization.account_id),
                text(authorization.key_id),
                text(authorization.model),
                money(authorization.reserved),
                moment(authorization.authorized_at),
                moment(authorization.expired_at),
                text(authorization.request_id),
            ]);
        }
    }
    session.output.show(&table)?;
    session.tell_if_more(&pages)
}

//! `tollgate key`: API keys, which are shown once, when they are issued.

use chrono::{DateTime, Duration, Utc};
use clap::{Args, Subcommand, ValueEnum};

use crate::{
    accounts,
    cli::{
        Session,
        args::{self, Idempotency, Limit, Pages, required},
        client::{Authorized, Client},
        error::CliError,
        leaked,
        output::{Table, Value, moment, money, text, word},
    },
    proto::{
        IssueKeyRequest, Key, KeyLimits, ListKeysRequest, RevokeKeyRequest, RotateKeyRequest,
        SpikeGuardMode, Tier, UpdateKeyRequest, key_service_client::KeyServiceClient,
    },
};

const ISSUE_EXAMPLES: &str = "\
Examples:
  tollgate key issue acme --name production
  tollgate key issue acme --name chatbot --project chat --requests-per-minute 60
  tollgate key issue globex --name batch --tier pro --allow-model 'Pro/*' --max-cost 2.50
  KEY=$(tollgate key issue acme --name ci --expires 90d --output json | jq -r .api_key)";
const LIST_EXAMPLES: &str = "Examples:
  tollgate key list acme";
const UPDATE_EXAMPLES: &str = "\
Only what is named changes.

Examples:
  tollgate key update acme 0196f1c2-… --allow-model 'gpt-*' --max-tokens 200K
  tollgate key update acme 0196f1c2-… --requests-per-minute 600 --spike-multiple 10
  tollgate key update acme 0196f1c2-… --clear models --clear max-tokens";
const ROTATE_EXAMPLES: &str = "\
Issues a successor. Both keys work until the old one's deadline.

Examples:
  tollgate key rotate 0196f1c2-…
  tollgate key rotate 0196f1c2-… --overlap 7d";
const REVOKE_EXAMPLES: &str = "\
For good, and everywhere when the command returns.

Examples:
  tollgate key revoke 0196f1c2-… --reason 'leaked in a log'";
const REVOKE_LEAKED_EXAMPLES: &str = "\
Reads a text of any kind, finds the well-formed keys in it and sends their hashes, not the keys.

Examples:
  tollgate key revoke-leaked scan.json --reason 'public repository'
  git log -p | tollgate key revoke-leaked - --reason 'committed'";
const CHECK_EXAMPLES: &str = "\
Works without a server: it checks prefix, length and checksum, not whether the key was issued.

Examples:
  tollgate key check ga_sk_…
  tollgate key check - < key.txt";

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key; it is shown this once
    #[command(after_help = ISSUE_EXAMPLES)]
    Issue(IssueArgs),
    /// List an account's keys
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Handle or id
        account: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// Change name, expiry, allowlist or caps
    #[command(after_help = UPDATE_EXAMPLES)]
    Update(UpdateArgs),
    /// Replace a key by a new one
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate {
        /// The key's id, as `key list` shows it
        key_id: String,
        /// How long the old key goes on working, up to 30d
        #[arg(long, default_value = "24h", value_name = "SPAN", value_parser = args::parse_span)]
        overlap: Duration,
        #[command(flatten)]
        idempotency: Idempotency,
    },
    /// Deny a key from now on
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke {
        /// The key's id, as `key list` shows it
        key_id: String,
        /// Why; kept with the key
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        idempotency: Idempotency,
    },
    /// Deny all keys that are found in a file from now on
    #[command(after_help = REVOKE_LEAKED_EXAMPLES)]
    RevokeLeaked {
        /// The file, or - to read the standard input
        file: std::path::PathBuf,
        /// Why; kept with each key
        #[arg(long)]
        reason: String,
    },
    /// Tell whether a text can be a key at all
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// The key, or - to read it from the standard input and keep it out of the shell's history
        key: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct IssueArgs {
    /// Handle or id
    account: String,
    /// What it is for
    #[arg(long)]
    name: String,
    /// Standard makes a `ga_sk_` key, pro a `ga_pro_` key
    #[arg(long, value_enum, default_value = "standard")]
    tier: KeyTier,
    /// Which of the customer's projects it belongs to [default: none]
    #[arg(long)]
    project: Option<String>,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    idempotency: Idempotency,
}

#[derive(Debug, Args)]
pub(super) struct UpdateArgs {
    /// Handle or id of the key's account
    account: String,
    /// The key's id, as `key list` shows it
    key_id: String,
    /// What it is for
    #[arg(long)]
    name: Option<String>,
    /// Which of the customer's projects it belongs to
    #[arg(long)]
    project: Option<String>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Take a limit away; repeat for more
    #[arg(long, value_enum, value_name = "LIMIT")]
    clear: Vec<Clearable>,
    #[command(flatten)]
    idempotency: Idempotency,
}

#[derive(Debug, Args)]
struct LimitArgs {
    /// Only this model, or a pattern that ends in *; repeat for more [default: all models]
    #[arg(long, value_name = "MODEL")]
    allow_model: Vec<String>,
    /// Requests in a minute
    #[arg(long, value_name = "N", value_parser = args::parse_tokens)]
    requests_per_minute: Option<u64>,
    /// Tokens in a minute: input, and the output that requests may have
    #[arg(long, value_name = "TOKENS", value_parser = args::parse_tokens)]
    tokens_per_minute: Option<u64>,
    /// A request or a minute that may cost more than so many times the key's recent norm is a spike
    #[arg(long, value_name = "TIMES")]
    spike_multiple: Option<String>,
    /// What becomes of a spike [default: refuse]
    #[arg(long, value_enum, value_name = "MODE")]
    spike_mode: Option<SpikeMode>,
    /// What may cost no more than this is no spike [default: 0.01]
    #[arg(long, value_name = "AMOUNT", value_parser = args::parse_amount)]
    spike_floor: Option<String>,
    /// The most tokens, input and output together, of one request
    #[arg(long, value_name = "TOKENS", value_parser = args::parse_tokens)]
    max_tokens: Option<u64>,
    /// The most one request may cost, in the account's currency
    #[arg(long, value_name = "AMOUNT", value_parser = args::parse_amount)]
    max_cost: Option<String>,
    /// When it stops working: 2027-01-31, an RFC 3339 time, or 90d from now [default: never]
    #[arg(long, value_name = "TIME", value_parser = args::parse_deadline)]
    expires: Option<DateTime<Utc>>,
}

impl LimitArgs {
    /// Puts what was given over what is there.
    async fn apply(
        self,
        client: &Client,
        account: &str,
        limits: &mut KeyLimits,
    ) -> Result<(), CliError> {
        if !self.allow_model.is_empty() {
            limits.allowed_models = self.allow_model;
        }
        if let Some(tokens) = self.max_tokens {
            limits.max_tokens_per_request = tokens;
        }
        if let Some(cost) = self.max_cost {
            let currency = client.currency_of(account).await?;
            limits.max_cost_per_request = Some(args::money(&cost, &currency));
        }
        if let Some(rate) = self.requests_per_minute {
            limits.requests_per_minute = rate;
        }
        if let Some(rate) = self.tokens_per_minute {
            limits.tokens_per_minute = rate;
        }
        let names_guard = self.spike_multiple.is_some()
            || self.spike_mode.is_some()
            || self.spike_floor.is_some();
        if names_guard {
            let guard = limits.spike_guard.get_or_insert_default();
            if let Some(multiple) = self.spike_multiple {
                guard.multiple = multiple;
            }
            match self.spike_mode {
                Some(SpikeMode::Flag) => guard.set_mode(SpikeGuardMode::Flag),
                Some(SpikeMode::Refuse) => guard.set_mode(SpikeGuardMode::Refuse),
                None if guard.mode() == SpikeGuardMode::Unspecified => {
                    guard.set_mode(SpikeGuardMode::Refuse);
                }
                None => {}
            }
            if let Some(floor) = self.spike_floor {
                let currency = client.currency_of(account).await?;
                guard.floor = Some(args::money(&floor, &currency));
            }
        }
        Ok(())
    }
}

/// A limit that can be taken away.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Clearable {
    /// Allow all models
    Models,
    /// No cap on tokens
    MaxTokens,
    /// No cap on cost
    MaxCost,
    /// Any number of requests in a minute
    RequestsPerMinute,
    /// Any number of tokens in a minute
    TokensPerMinute,
    /// Nothing is a spike
    SpikeGuard,
    /// Belongs to no project
    Project,
    /// Never expire
    Expiry,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum SpikeMode {
    /// Deny it before it runs
    Refuse,
    /// Warn in the grant
    Flag,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum KeyTier {
    Standard,
    Pro,
}

type Keys = KeyServiceClient<Authorized>;

pub(super) async fn run(command: KeyCommand, session: &Session) -> Result<(), CliError> {
    if let KeyCommand::Check { key } = command {
        return check(&key, session);
    }
    let client = session.connect().await?;
    let mut keys = client.keys();
    match command {
        KeyCommand::Issue(args) => issue(&client, args, session).await,
        KeyCommand::List { account, limit } => list(&mut keys, account, &limit, session).await,
        KeyCommand::Update(args) => update(&client, args, session).await,
        KeyCommand::Rotate { key_id, overlap, idempotency } => {
            let overlap = prost_types::Duration { seconds: overlap.num_seconds(), nanos: 0 };
            let idempotency_key = idempotency.key();
            let request = RotateKeyRequest { key_id, overlap: Some(overlap), idempotency_key };
            let rotated = keys.rotate_key(request).await?.into_inner();
            let previous = required(rotated.previous, "previous key")?;
            let mut shown = issued(required(rotated.key, "key")?, rotated.api_key);
            shown.push(("previous_works_until", moment(previous.expires_at)));
            session.output.show(&Table::record("key", shown))?;
            session.output.note("store the key now: it is not kept and cannot be shown again")
        }
        KeyCommand::Revoke { key_id, reason, idempotency } => {
            let request = RevokeKeyRequest { key_id, reason, idempotency_key: idempotency.key() };
            let key = keys.revoke_key(request).await?.into_inner().key;
            session.output.show(&Table::record("key", record(required(key, "key")?)))
        }
        KeyCommand::RevokeLeaked { file, reason } => {
            leaked::revoke(&mut keys, &file, &reason, session).await
        }
        KeyCommand::Check { .. } => Ok(()),
    }
}

async fn issue(client: &Client, args: IssueArgs, session: &Session) -> Result<(), CliError> {
    let expires_at = args.limits.expires.map(args::timestamp);
    let mut limits = KeyLimits::default();
    args.limits.apply(client, &args.account, &mut limits).await?;
    let tier = match args.tier {
        KeyTier::Standard => Tier::Standard,
        KeyTier::Pro => Tier::Pro,
    };
    let request = IssueKeyRequest {
        account: args.account,
        name: args.name,
        tier: tier.into(),
        limits: Some(limits),
        expires_at,
        idempotency_key: args.idempotency.key(),
        project: args.project.unwrap_or_default(),
    };
    let answer = client.keys().issue_key(request).await?.into_inner();
    let is_new = !answer.api_key.is_empty();
    let fields = issued(required(answer.key, "key")?, answer.api_key);
    session.output.show(&Table::record("key", fields))?;
    session.output.note(if is_new {
        "store the key now: it is not kept and cannot be shown again"
    } else {
        "this key had been issued before under the same idempotency key; it cannot be shown again"
    })
}

/// The contract replaces all limits of a key, so that what was not named is read first.
async fn update(client: &Client, args: UpdateArgs, session: &Session) -> Result<(), CliError> {
    let found = find(&mut client.keys(), &args.account, &args.key_id).await?;
    let mut limits = found.limits.unwrap_or_default();
    let mut expires_at = found.expires_at;
    let mut project = found.project;
    for limit in args.clear {
        match limit {
            Clearable::Models => limits.allowed_models.clear(),
            Clearable::MaxTokens => limits.max_tokens_per_request = 0,
            Clearable::MaxCost => limits.max_cost_per_request = None,
            Clearable::RequestsPerMinute => limits.requests_per_minute = 0,
            Clearable::TokensPerMinute => limits.tokens_per_minute = 0,
            Clearable::SpikeGuard => limits.spike_guard = None,
            Clearable::Project => project.clear(),
            Clearable::Expiry => expires_at = None,
        }
    }
    let expires_at = args.limits.expires.map(args::timestamp).or(expires_at);
    args.limits.apply(client, &args.account, &mut limits).await?;
    let request = UpdateKeyRequest {
        key_id: args.key_id,
        name: args.name.unwrap_or(found.name),
        limits: Some(limits),
        expires_at,
        idempotency_key: args.idempotency.key(),
        project: args.project.unwrap_or(project),
    };
    let key = client.keys().update_key(request).await?.into_inner().key;
    session.output.show(&Table::record("key", record(required(key, "key")?)))
}

async fn find(keys: &mut Keys, account: &str, key_id: &str) -> Result<Key, CliError> {
    let mut pages = Pages::all();
    while let Some((page_size, page_token)) = pages.next_page() {
        let request = ListKeysRequest { account: account.to_owned(), page_size, page_token };
        let page = keys.list_keys(request).await?.into_inner();
        pages.came(page.keys.len(), page.next_page_token);
        if let Some(key) = page.keys.into_iter().find(|key| key.key_id == key_id) {
            return Ok(key);
        }
    }
    Err(CliError::failed(format!(
        "account {account} has no key {key_id}; `tollgate key list {account}` shows those it has"
    )))
}

async fn list(
    keys: &mut Keys,
    account: String,
    limit: &Limit,
    session: &Session,
) -> Result<(), CliError> {
    let columns = [
        "key_id",
        "name",
        "tier",
        "hint",
        "status",
        "allowed_models",
        "created_at",
        "last_used_at",
        "expires_at",
    ];
    let mut table = Table::list("keys", &columns);
    let mut pages = limit.pages();
    while let Some((page_size, page_token)) = pages.next_page() {
        let request = ListKeysRequest { account: account.clone(), page_size, page_token };
        let page = keys.list_keys(request).await?.into_inner();
        pages.came(page.keys.len(), page.next_page_token);
        for key in page.keys {
            let (tier, status) = (tier_word(&key), status_word(&key));
            table.row([
                text(key.key_id),
                text(key.name),
                tier,
                text(key.hint),
                status,
                Value::List(key.limits.unwrap_or_default().allowed_models),
                moment(key.created_at),
                moment(key.last_used_at),
                moment(key.expires_at),
            ]);
        }
    }
    session.output.show(&table)?;
    session.tell_if_more(&pages)
}

/// Offline: what `Authorize` would say before any look-up.
fn check(key: &str, session: &Session) -> Result<(), CliError> {
    let parsed = accounts::key::parse(&args::read_secret(key)?)
        .map_err(|problem| CliError::failed(problem.to_string()))?;
    let tier = match parsed.tier {
        accounts::key::Tier::Standard => "standard",
        accounts::key::Tier::Pro => "pro",
    };
    session.output.show(&Table::record(
        "key",
        vec![
            ("well_formed", Value::Flag(true)),
            ("tier", text(tier)),
            ("prefix", text(parsed.tier.prefix())),
        ],
    ))
}

fn tier_word(key: &Key) -> Value {
    word(key.tier().as_str_name(), "TIER_")
}

fn status_word(key: &Key) -> Value {
    word(key.status().as_str_name(), "KEY_STATUS_")
}

fn issued(key: Key, api_key: String) -> Vec<(&'static str, Value)> {
    let mut fields = vec![("api_key", text(api_key))];
    fields.extend(record(key));
    fields
}

fn record(key: Key) -> Vec<(&'static str, Value)> {
    let (tier, status) = (tier_word(&key), status_word(&key));
    let limits = key.limits.unwrap_or_default();
    let guard = limits.spike_guard.unwrap_or_default();
    let rate = |rate: u64| if rate == 0 { Value::Nothing } else { Value::Count(rate) };
    vec![
        ("key_id", text(key.key_id)),
        ("account_id", text(key.account_id)),
        ("name", text(key.name)),
        ("project", text(key.project)),
        ("tier", tier),
        ("hint", text(key.hint)),
        ("status", status),
        ("allowed_models", Value::List(limits.allowed_models)),
        ("max_tokens_per_request", rate(limits.max_tokens_per_request)),
        ("max_cost_per_request", money(limits.max_cost_per_request)),
        ("requests_per_minute", rate(limits.requests_per_minute)),
        ("tokens_per_minute", rate(limits.tokens_per_minute)),
        ("spike_mode", word(guard.mode().as_str_name(), "SPIKE_GUARD_MODE_")),
        ("spike_multiple", text(guard.multiple)),
        ("spike_floor", money(guard.floor)),
        ("created_at", moment(key.created_at)),
        ("expires_at", moment(key.expires_at)),
        ("revoked_at", moment(key.revoked_at)),
        ("revoked_reason", text(key.revoked_reason)),
        ("rotated_from", text(key.rotated_from)),
    ]
}

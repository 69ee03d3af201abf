//! `tollgate authorization`: asking the gate by hand, as a gateway does; for engineers.

use std::collections::{BTreeSet, HashMap};

use clap::{Args, Subcommand};

use crate::{
    cli::{
        Session,
        args::{self, Limit, required},
        client::Authorized,
        error::CliError,
        output::{Table, Value, moment, money, text, word},
    },
    proto::{
        AuthorizeRequest, CancelAuthorizationRequest, Denial, ExtendAuthorizationRequest, Grant,
        ListReservationsRequest, authorization_service_client::AuthorizationServiceClient,
        authorize_response::Decision, extend_authorization_response::Decision as Extension,
    },
};

const AUTHORIZE_EXAMPLES: &str = "\
Exits with 0 for a grant and 1 for a denial.

Examples:
  tollgate authorization authorize --key ga_sk_… --model gpt-4o --input 1200 --max-output 400
  tollgate authorization authorize --key - --model gpt-4o --input 20K --allow-reduced < key.txt";
const EXTEND_EXAMPLES: &str = "\
Examples:
  tollgate authorization extend eyJ0… --max-output 8K";
const CANCEL_EXAMPLES: &str = "\
Examples:
  tollgate authorization cancel eyJ0…";
const RESERVATIONS_EXAMPLES: &str = "\
Examples:
  tollgate authorization reservations
  tollgate authorization reservations --account acme";

#[derive(Debug, Subcommand)]
pub(super) enum AuthorizationCommand {
    /// Ask whether a key may make a request
    #[command(after_help = AUTHORIZE_EXAMPLES)]
    Authorize(AuthorizeArgs),
    /// Raise what a grant may cost
    #[command(after_help = EXTEND_EXAMPLES)]
    Extend {
        /// The token of the grant
        #[arg(value_name = "TOKEN")]
        grant_token: String,
        /// The output tokens it may now have in total
        #[arg(long, value_name = "TOKENS", value_parser = args::parse_tokens)]
        max_output: u64,
        /// Take less where funds cover only that
        #[arg(long)]
        allow_reduced: bool,
    },
    /// Give a grant back
    #[command(after_help = CANCEL_EXAMPLES)]
    Cancel {
        /// The token of the grant
        #[arg(value_name = "TOKEN")]
        grant_token: String,
    },
    /// List what is reserved now
    #[command(after_help = RESERVATIONS_EXAMPLES)]
    Reservations {
        /// Only of this account (handle or id)
        #[arg(long)]
        account: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
}

#[derive(Debug, Args)]
pub(super) struct AuthorizeArgs {
    /// The customer's API key; - reads it from the standard input
    #[arg(long)]
    key: String,
    /// The model
    #[arg(long)]
    model: String,
    /// Prompt tokens
    #[arg(long, value_name = "TOKENS", default_value = "0", value_parser = args::parse_tokens)]
    input: u64,
    /// The most tokens the model may generate [default: the model's own maximum]
    #[arg(long, value_name = "TOKENS", value_parser = args::parse_tokens)]
    max_output: Option<u64>,
    /// Take less output where funds cover only that
    #[arg(long)]
    allow_reduced: bool,
    /// The caller's own id of the request
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    request_id: String,
    /// The customer's own user
    #[arg(long, default_value = "", hide_default_value = true)]
    end_user: String,
    /// A label for reports; repeat for more
    #[arg(long, value_name = "NAME=VALUE", value_parser = args::parse_pair)]
    label: Vec<(String, String)>,
}

type Authorizations = AuthorizationServiceClient<Authorized>;

pub(super) async fn run(command: AuthorizationCommand, session: &Session) -> Result<(), CliError> {
    let mut service = session.connect().await?.authorization();
    match command {
        AuthorizationCommand::Authorize(args) => authorize(&mut service, args, session).await,
        AuthorizationCommand::Extend { grant_token, max_output, allow_reduced } => {
            let request = ExtendAuthorizationRequest {
                token: grant_token,
                max_output_tokens: max_output,
                allow_reduced_output: allow_reduced,
            };
            let answer = service.extend_authorization(request).await?.into_inner();
            match required(answer.decision, "decision")? {
                Extension::Grant(grant) => session.output.show(&grant_table(grant)),
                Extension::Denial(denial) => tell_denial(denial, session),
            }
        }
        AuthorizationCommand::Cancel { grant_token } => {
            let request = CancelAuthorizationRequest { token: grant_token };
            let answer = service.cancel_authorization(request).await?.into_inner();
            session.output.show(&Table::record(
                "cancellation",
                vec![
                    ("authorization_id", text(answer.authorization_id)),
                    ("released", money(answer.released)),
                    ("charged", money(answer.charged)),
                ],
            ))
        }
        AuthorizationCommand::Reservations { account, limit } => {
            reservations(&mut service, account.unwrap_or_default(), &limit, session).await
        }
    }
}

async fn authorize(
    service: &mut Authorizations,
    args: AuthorizeArgs,
    session: &Session,
) -> Result<(), CliError> {
    let api_key = args::read_secret(&args.key)?;
    let labels: HashMap<String, String> = args.label.into_iter().collect();
    let request = AuthorizeRequest {
        api_key,
        model: args.model,
        request_id: args.request_id,
        input_tokens: args.input,
        max_output_tokens: args.max_output,
        allow_reduced_output: args.allow_reduced,
        end_user: args.end_user,
        labels,
    };
    let answer = service.authorize(request).await?.into_inner();
    match required(answer.decision, "decision")? {
        Decision::Grant(grant) => session.output.show(&grant_table(grant)),
        Decision::Denial(denial) => tell_denial(denial, session),
    }
}

fn grant_table(grant: Grant) -> Table {
    let tier = word(grant.tier().as_str_name(), "TIER_");
    let route = word(grant.route().as_str_name(), "ROUTE_");
    Table::record(
        "grant",
        vec![
            ("decision", text("granted")),
            ("authorization_id", text(grant.authorization_id)),
            ("reserved", money(grant.reserved)),
            ("max_output_tokens", Value::Count(grant.max_output_tokens)),
            ("reduced", Value::Flag(grant.reduced)),
            ("tier", tier),
            ("route", route),
            ("priority", Value::Count(grant.priority.into())),
            ("price_version", Value::Number(grant.price_version)),
            ("account_id", text(grant.account_id)),
            ("key_id", text(grant.key_id)),
            ("expires_at", moment(grant.expires_at)),
            ("warnings", Value::List(grant.warnings.into_iter().map(|one| one.message).collect())),
            ("token", text(grant.token)),
        ],
    )
}

/// A denial is an answer, and a script wants to see it in the exit code.
fn tell_denial(denial: Denial, session: &Session) -> Result<(), CliError> {
    let reason = denial_reason(&denial);
    let retry_after = denial.retry_after.map_or(Value::Nothing, |after| {
        Value::Decimal(format!("{}.{:03}", after.seconds, after.nanos / 1_000_000))
    });
    session.output.show(&Table::record(
        "denial",
        vec![
            ("decision", text("denied")),
            ("reason", text(reason)),
            ("message", text(denial.message)),
            ("scope", text(denial.scope)),
            ("limit", text(denial.limit)),
            ("used", text(denial.used)),
            ("reserved", text(denial.reserved)),
            ("resets_at", moment(denial.resets_at)),
            ("retryable", Value::Flag(denial.retryable)),
            ("retry_after_seconds", retry_after),
            ("http_status", Value::Count(denial.http_status.into())),
            ("error_code", text(denial.error_code)),
        ],
    ))?;
    Err(CliError::Told)
}

/// The reason as the contract spells it, without its prefix.
pub(super) fn denial_reason(denial: &Denial) -> &'static str {
    let name = denial.reason().as_str_name();
    name.strip_prefix("DENIAL_REASON_").unwrap_or(name)
}

async fn reservations(
    service: &mut Authorizations,
    account: String,
    limit: &Limit,
    session: &Session,
) -> Result<(), CliError> {
    let columns = [
        "authorization_id",
        "account_id",
        "model",
        "reserved",
        "max_output_tokens",
        "authorized_at",
        "expires_at",
        "expired",
        "request_id",
        "instance_id",
    ];
    let mut table = Table::list("reservations", &columns);
    let mut missing = BTreeSet::new();
    let mut pages = limit.pages();
    while let Some((page_size, page_token)) = pages.next_page() {
        let request = ListReservationsRequest { account: account.clone(), page_size, page_token };
        let page = service.list_reservations(request).await?.into_inner();
        pages.came(page.reservations.len(), page.next_page_token);
        missing.extend(page.missing_instance_ids);
        for reservation in page.reservations {
            table.row([
                text(reservation.authorization_id),
                text(reservation.account_id),
                text(reservation.model),
                money(reservation.reserved),
                Value::Count(reservation.max_output_tokens),
                moment(reservation.authorized_at),
                moment(reservation.expires_at),
                Value::Flag(reservation.expired),
                text(reservation.request_id),
                text(reservation.instance_id),
            ]);
        }
    }
    session.output.show(&table)?;
    for instance in missing {
        session.output.warn(&format!(
            "server {instance} did not answer; what it holds is not listed, so try again"
        ))?;
    }
    session.tell_if_more(&pages)
}

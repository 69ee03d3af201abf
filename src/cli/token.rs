//! `tollgate token`: makes a caller's token, offline, with the server's own secret; takes tokens
//! back, and lists those.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};
use serde::Deserialize;

use crate::{
    cli::{
        Session,
        args::{Limit, parse_span, required},
        error::CliError,
        output::{Table, Value, line, moment, text},
    },
    clock,
    config::default_data_dir,
    identity::{
        Role,
        secret::{SECRET_FILE, Secret},
        token::{TokenAuthority, TokenRequest},
    },
    ids::AccountId,
    proto::{ListRevokedTokensRequest, RevokeTokenRequest, RevokedToken},
};

const MINT_EXAMPLES: &str = "\
Examples:
  tollgate token mint --role gateway --subject edge-1 --ttl 90d
  tollgate token mint --role tenant --account 019ad2f0-7c1e-7bb0-9a55-3f5b0c2d9e11 --ttl 1h
  tollgate token mint --role finance --role auditor --secret-file /etc/tollgate/secret";

const REVOKE_EXAMPLES: &str = "\
Examples:
  tollgate token revoke \"$(cat leaked.jwt)\" --reason 'found in a log'
  tollgate token revoke --id 019ad2f0-7c1e-7bb0-9a55-3f5b0c2d9e11";

const LIST_EXAMPLES: &str = "\
Examples:
  tollgate token list-revoked --all";

/// Callers' tokens.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token with the server's secret; the server need not run
    Mint(MintArgs),
    /// Refuse a token on every server from now on
    Revoke(RevokeArgs),
    /// The tokens that were revoked
    ListRevoked(ListRevokedArgs),
}

/// Which token is taken back.
#[derive(Debug, Args)]
#[command(after_help = REVOKE_EXAMPLES)]
pub(super) struct RevokeArgs {
    /// The token itself; only its id and its end are sent
    #[arg(value_name = "JWT", required_unless_present = "id")]
    revoked: Option<String>,
    /// Its id (`jti`), where the token is not at hand
    #[arg(long, value_name = "ID", conflicts_with = "revoked")]
    id: Option<String>,
    /// Why, for whoever reads the list later
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// How much of the list is shown.
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(super) struct ListRevokedArgs {
    #[command(flatten)]
    limit: Limit,
}

/// What a token is to say.
#[derive(Debug, Args)]
#[command(after_help = MINT_EXAMPLES)]
pub(super) struct MintArgs {
    /// gateway, operator, finance, auditor or tenant; give it again for several
    #[arg(long = "role", value_name = "ROLE", required = true, value_parser = parse_role)]
    roles: Vec<Role>,
    /// The account of a tenant, by its id
    #[arg(long, value_name = "ID")]
    account: Option<AccountId>,
    /// Who will use it, as logs and the audit trail show it [default: the role]
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// How long it is valid
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = parse_span)]
    ttl: chrono::Duration,
    /// The file with the server's secret [default: DIR/secret]
    #[arg(long, value_name = "FILE", env = "TOLLGATE_JWT_SECRET_FILE")]
    secret_file: Option<PathBuf>,
}

pub(super) async fn run(command: TokenCommand, session: &Session) -> Result<(), CliError> {
    match command {
        TokenCommand::Mint(args) => mint(args, session),
        TokenCommand::Revoke(args) => revoke(args, session).await,
        TokenCommand::ListRevoked(args) => list_revoked(&args, session).await,
    }
}

async fn revoke(args: RevokeArgs, session: &Session) -> Result<(), CliError> {
    let (token_id, expires_at) = match (args.id, args.revoked) {
        (Some(id), _) => (id, None),
        (None, token) => named_in(token.unwrap_or_default().trim())?,
    };
    let request = RevokeTokenRequest {
        token_id,
        reason: args.reason,
        expires_at: expires_at.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
    };
    let client = session.connect().await?;
    let answer = client.tokens().revoke_token(request).await?.into_inner();
    let cells = cells(required(answer.token, "token")?);
    session.output.show(&Table::record("token", COLUMNS.into_iter().zip(cells).collect()))
}

async fn list_revoked(args: &ListRevokedArgs, session: &Session) -> Result<(), CliError> {
    let client = session.connect().await?;
    let mut pages = args.limit.pages();
    let mut table = Table::list("tokens", &COLUMNS);
    while let Some((page_size, page_token)) = pages.next_page() {
        let request = ListRevokedTokensRequest { page_size, page_token };
        let page = client.tokens().list_revoked_tokens(request).await?.into_inner();
        pages.came(page.tokens.len(), page.next_page_token);
        page.tokens.into_iter().for_each(|token| table.row(cells(token)));
    }
    session.output.show(&table)?;
    session.tell_if_more(&pages)
}

const COLUMNS: [&str; 5] = ["token_id", "revoked_at", "revoked_by", "expires_at", "reason"];

fn cells(token: RevokedToken) -> [Value; COLUMNS.len()] {
    [
        text(token.token_id),
        moment(token.revoked_at),
        text(token.revoked_by),
        moment(token.expires_at),
        text(token.reason),
    ]
}

/// What a token says of itself. It need not be one that would be believed: whoever holds a bad copy
/// of a token may take it back.
#[derive(Deserialize)]
struct OwnClaims {
    jti: Option<String>,
    exp: Option<i64>,
}

/// The id and the end of a token.
fn named_in(token: &str) -> Result<(String, Option<i64>), CliError> {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|json| serde_json::from_slice::<OwnClaims>(&json).ok());
    let claims = claims.ok_or_else(|| {
        CliError::usage("this is no JSON Web Token; pass all of it, or its id with --id")
    })?;
    let id = claims.jti.ok_or_else(|| {
        CliError::usage(
            "the token has no id (jti), so that it cannot be revoked alone; replace the secret or \
             the key that signed it",
        )
    })?;
    Ok((id, claims.exp))
}

fn mint(args: MintArgs, session: &Session) -> Result<(), CliError> {
    let secret = secret(&args, session)?;
    let lifetime = args
        .ttl
        .to_std()
        .ok()
        .filter(|lifetime| !lifetime.is_zero())
        .ok_or_else(|| CliError::usage("--ttl must be longer than nothing, such as 90d"))?;
    let request = TokenRequest {
        subject: args.subject.unwrap_or_else(|| join(&args.roles)),
        roles: args.roles,
        account: args.account,
        lifetime,
    };
    let token = TokenAuthority::new(&secret)
        .mint(&request)
        .map_err(|error| CliError::usage(error.to_string()))?;
    if session.output.is_for_people() {
        // Alone on its line, so that a script can take it as it is.
        return line(&token);
    }
    let expires_at = clock::now() + args.ttl;
    session.output.show(&Table::record(
        "token",
        vec![
            ("token_id", text(named_in(&token)?.0)),
            ("token", text(token)),
            ("subject", text(request.subject)),
            ("roles", text(join(&request.roles))),
            ("expires_at", moment(Some(super::args::timestamp(expires_at)))),
        ],
    ))
}

/// The secret of a variable, a file, or the data directory.
fn secret(args: &MintArgs, session: &Session) -> Result<Secret, CliError> {
    let outcome = match (std::env::var("TOLLGATE_JWT_SECRET"), &args.secret_file) {
        (_, Some(file)) => Secret::read(file),
        (Ok(given), None) => Secret::new(&given, "TOLLGATE_JWT_SECRET"),
        (Err(_), None) => {
            let directory =
                session.global.data_dir.clone().or_else(default_data_dir).ok_or_else(|| {
                    CliError::usage("there is no data directory: name one with --data-dir")
                })?;
            Secret::read(&directory.join(SECRET_FILE))
        }
    };
    outcome.map_err(|error| {
        CliError::failed(format!(
            "{error}; a server's secret is in its data directory: name that with --data-dir, or \
             the file with --secret-file"
        ))
    })
}

fn parse_role(text: &str) -> Result<Role, String> {
    text.parse().map_err(|error: crate::identity::IdentityError| error.to_string())
}

fn join(roles: &[Role]) -> String {
    roles.iter().map(|role| role.name()).collect::<Vec<_>>().join("+")
}

//! `tollgate token mint`: makes a caller's token, offline, with the server's own secret.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{
    cli::{
        Session,
        args::parse_span,
        error::CliError,
        output::{Table, line, moment, text},
    },
    clock,
    config::default_data_dir,
    identity::{
        Role,
        secret::{SECRET_FILE, Secret},
        token::{TokenAuthority, TokenRequest},
    },
    ids::AccountId,
};

const MINT_EXAMPLES: &str = "\
Examples:
  tollgate token mint --role gateway --subject edge-1 --ttl 90d
  tollgate token mint --role tenant --account 019ad2f0-7c1e-7bb0-9a55-3f5b0c2d9e11 --ttl 1h
  tollgate token mint --role finance --role auditor --secret-file /etc/tollgate/secret";

/// Callers' tokens.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token with the server's secret; the server need not run
    Mint(MintArgs),
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

pub(super) fn run(command: TokenCommand, session: &Session) -> Result<(), CliError> {
    let TokenCommand::Mint(args) = command;
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

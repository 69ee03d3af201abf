//! `tollgate audit`: who changed what.

use clap::{Args, Subcommand};

use crate::{
    cli::{
        Session,
        args::{Limit, Span},
        error::CliError,
        output::{Table, Value, moment, text},
    },
    proto::{AuditEntry, ListAuditEntriesRequest},
};

const LIST_EXAMPLES: &str = "\
Examples:
  tollgate audit list --account acme --from 7d
  tollgate audit list --result PERMISSION_DENIED --all
  tollgate audit list --rpc UpdateAccount --output json";

/// Who changed what.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// The entries, newest first; as JSON with requests, answers and rows before and after
    List(ListArgs),
}

/// Which entries.
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(super) struct ListArgs {
    /// Of this account, by its id or handle
    #[arg(long, value_name = "ACCOUNT", default_value = "")]
    account: String,
    /// Of this subject; `tollgate` is the server itself
    #[arg(long, value_name = "NAME", default_value = "")]
    actor: String,
    /// Of this RPC, by its name or its path
    #[arg(long, value_name = "RPC", default_value = "")]
    rpc: String,
    /// With this result: OK, or the code of a refusal as gRPC spells it
    #[arg(long, value_name = "CODE", default_value = "")]
    result: String,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    limit: Limit,
}

pub(super) async fn run(command: AuditCommand, session: &Session) -> Result<(), CliError> {
    match command {
        AuditCommand::List(args) => list(args, session).await,
    }
}

/// What people are shown.
const COLUMNS: [&str; 7] = ["number", "recorded_at", "actor", "peer", "rpc", "target", "result"];
/// What programs get besides.
const MORE: [&str; 10] = [
    "reason",
    "suppressed",
    "token_id",
    "roles",
    "account_ids",
    "request_id",
    "idempotency_key",
    "request",
    "answer",
    "changes",
];

async fn list(args: ListArgs, session: &Session) -> Result<(), CliError> {
    let client = session.connect().await?;
    let mut pages = args.limit.pages();
    let for_people = session.output.is_for_people();
    let columns = [&COLUMNS[..], if for_people { &[] } else { &MORE[..] }].concat();
    let mut table = Table::list("audit_entries", &columns);
    while let Some((page_size, page_token)) = pages.next_page() {
        let request = ListAuditEntriesRequest {
            account: args.account.clone(),
            actor: args.actor.clone(),
            rpc: args.rpc.clone(),
            result: args.result.clone(),
            from: args.span.from(),
            until: args.span.until(),
            page_size,
            page_token,
        };
        let page = client.audit().list_audit_entries(request).await?.into_inner();
        pages.came(page.entries.len(), page.next_page_token);
        for entry in page.entries {
            table.push(if for_people { shown(&entry) } else { whole(&entry) });
        }
    }
    session.output.show(&table)?;
    session.tell_if_more(&pages)
}

fn shown(entry: &AuditEntry) -> Vec<Value> {
    let method = entry.rpc.rsplit('/').next().unwrap_or_default();
    let mut result = entry.result.clone();
    if !entry.reason.is_empty() {
        result = format!("{result} {}", entry.reason);
    }
    if entry.suppressed > 0 {
        result = format!("{result} and {} more", entry.suppressed);
    }
    row(entry, method, &result)
}

fn whole(entry: &AuditEntry) -> Vec<Value> {
    let mut values = row(entry, &entry.rpc, &entry.result);
    values.extend([
        text(&entry.reason),
        Value::Number(entry.suppressed),
        text(&entry.token_id),
        Value::List(entry.roles.clone()),
        Value::List(entry.account_ids.clone()),
        text(&entry.request_id),
        text(&entry.idempotency_key),
        json(&entry.request_json),
        json(&entry.answer_json),
        json(&entry.changes_json),
    ]);
    values
}

fn row(entry: &AuditEntry, rpc: &str, result: &str) -> Vec<Value> {
    vec![
        Value::Number(entry.number),
        moment(entry.recorded_at),
        text(&entry.actor),
        text(&entry.peer),
        text(rpc),
        text(&entry.target),
        text(result),
    ]
}

/// What is no JSON is shown as the text that it is.
fn json(given: &str) -> Value {
    serde_json::from_str(given).map_or_else(|_| text(given), Value::Json)
}

//! `tollgate account export-personal-data` and `erase-personal-data`.

use clap::Args;

use super::{
    Session,
    args::Idempotency,
    client::Authorized,
    error::CliError,
    output::{Table, Value, text, to_stdout},
};
use crate::proto::{
    ErasePersonalDataRequest, ExportPersonalDataRequest,
    account_service_client::AccountServiceClient,
};

pub(super) const EXPORT_EXAMPLES: &str = "\
Lines of JSON go to the standard output whatever --output says; the last one has the kind `end`.

Examples:
  tollgate account export-personal-data acme > acme.jsonl
  tollgate account export-personal-data acme --end-user user-17 > user-17.jsonl";
pub(super) const ERASE_EXAMPLES: &str = "\
The books, issued documents and who did what are kept; the answer says what and why. It cannot be taken
back: export first. Of an account that is not closed, what its invoices need is kept, too.

Examples:
  tollgate account erase-personal-data acme --end-user user-17 --reason 'ticket 4711'
  tollgate account erase-personal-data acme --reason 'ticket 4712'";

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Handle or id
    account: String,
    /// Only the usage of this end user [default: all of the account]
    #[arg(long, value_name = "ID", default_value = "")]
    end_user: String,
}

#[derive(Debug, Args)]
pub(super) struct EraseArgs {
    /// Handle or id
    account: String,
    /// Only details of usage of this end user [default: all of the account]
    #[arg(long, value_name = "ID", default_value = "")]
    end_user: String,
    /// Why; kept in the audit trail for good, so name a ticket and no person
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    idempotency: Idempotency,
}

type Accounts = AccountServiceClient<Authorized>;

pub(super) async fn export(accounts: &mut Accounts, args: ExportArgs) -> Result<(), CliError> {
    let request = ExportPersonalDataRequest { account: args.account, end_user: args.end_user };
    let mut pieces = accounts.export_personal_data(request).await?.into_inner();
    while let Some(piece) = pieces.message().await? {
        to_stdout(|out| out.write_all(piece.text.as_bytes()))?;
    }
    Ok(())
}

/// Calls until all is done.
pub(super) async fn erase(
    accounts: &mut Accounts,
    session: &Session,
    args: EraseArgs,
) -> Result<(), CliError> {
    let key = args.idempotency.key();
    let mut request = ErasePersonalDataRequest {
        account: args.account,
        end_user: args.end_user,
        reason: args.reason,
        page_token: String::new(),
        idempotency_key: key.clone(),
    };
    let mut table = Table::list("personal_data", &["what", "place", "rows", "reason"]);
    for call in 2_u64.. {
        let answer = accounts.erase_personal_data(request.clone()).await?.into_inner();
        for erased in answer.erased {
            let rows = Value::Count(erased.rows);
            table.row([text("erased"), text(erased.place), rows, Value::Nothing]);
        }
        if answer.done {
            for kept in answer.kept {
                let reason = text(kept.reason);
                table.row([text("kept"), text(kept.place), Value::Nothing, reason]);
            }
            break;
        }
        request.page_token = answer.next_page_token;
        request.idempotency_key = format!("{key}/{call}");
    }
    session.output.show(&table)
}

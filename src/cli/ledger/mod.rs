//! `tollgate ledger`: the books, and the proof that they are right.

mod export;
mod heads;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{
    cli::{
        Session,
        args::{Limit, Span},
        client::Authorized,
        error::CliError,
        output::{Table, Value, moment, money, text},
    },
    proto::{
        GetTrialBalanceRequest, GetTrialBalanceResponse, ListTransfersRequest, VerifyLedgerRequest,
        VerifyLedgerResponse, ledger_service_client::LedgerServiceClient,
    },
};

const TRANSFERS_EXAMPLES: &str = "\
Examples:
  tollgate ledger transfers acme
  tollgate ledger transfers acme --ledger-account 2000 --from 7d --all --output csv";
const TRIAL_BALANCE_EXAMPLES: &str = "\
Examples:
  tollgate ledger trial-balance
  tollgate ledger trial-balance acme";
const VERIFY_EXAMPLES: &str = "\
Recomputes balances, event sums, charges, leases and chains of hashes from scratch. With --heads,
an export of `tollgate ledger heads` must still be in today's chains. Exits with 1 when anything
does not agree.

Examples:
  tollgate ledger verify
  tollgate ledger verify acme --output json
  tollgate ledger verify --heads heads-2026-10.txt";

#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// List an account's transfers, newest first
    #[command(after_help = TRANSFERS_EXAMPLES)]
    Transfers(TransfersArgs),
    /// Every ledger account's debits, credits and balance
    #[command(after_help = TRIAL_BALANCE_EXAMPLES)]
    TrialBalance {
        /// Only of this account (handle or id) [default: the whole company]
        account: Option<String>,
    },
    /// Write the books as a journal for hledger, QuickBooks or Xero
    #[command(after_help = export::EXAMPLES)]
    Export(export::ExportArgs),
    /// Prove that the books are right
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify {
        /// Only of this account (handle or id) [default: all]
        account: Option<String>,
        /// An earlier export of `tollgate ledger heads` to compare with
        #[arg(long, value_name = "FILE")]
        heads: Option<PathBuf>,
    },
    /// Write the last hash of every account's chain, to be kept elsewhere
    #[command(after_help = heads::EXAMPLES)]
    Heads,
}

#[derive(Debug, Args)]
pub(super) struct TransfersArgs {
    /// Handle or id
    account: String,
    /// Only those that touch this account of the chart, such as 2000
    #[arg(long, value_name = "CODE")]
    ledger_account: Option<String>,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    limit: Limit,
}

type Ledger = LedgerServiceClient<Authorized>;

pub(super) async fn run(command: LedgerCommand, session: &Session) -> Result<(), CliError> {
    let mut ledger = session.connect().await?.ledger();
    match command {
        LedgerCommand::Transfers(args) => transfers(&mut ledger, args, session).await,
        LedgerCommand::TrialBalance { account } => {
            let request = GetTrialBalanceRequest { account: account.unwrap_or_default() };
            let balance = ledger.get_trial_balance(request).await?.into_inner();
            session.output.show_all(&trial_balance(balance))
        }
        LedgerCommand::Export(args) => export::export(&mut ledger, args).await,
        LedgerCommand::Heads => heads::export(&mut ledger).await,
        LedgerCommand::Verify { account, heads } => {
            let compared = match heads {
                Some(file) => Some(heads::compare(&mut ledger, &file).await?),
                None => None,
            };
            let request = VerifyLedgerRequest { account: account.unwrap_or_default() };
            let mut verified = ledger.verify_ledger(request).await?.into_inner();
            if let Some(check) = compared {
                verified.clean &= check.violations == 0;
                verified.checks.push(check);
            }
            let is_clean = verified.clean;
            session.output.show_all(&verification(verified))?;
            if is_clean {
                return session.output.note("clean: the books prove right");
            }
            Err(CliError::failed(
                "the books do not agree; stop billing from them and find what the findings name",
            ))
        }
    }
}

async fn transfers(
    ledger: &mut Ledger,
    args: TransfersArgs,
    session: &Session,
) -> Result<(), CliError> {
    let columns = [
        "posted_at",
        "posting",
        "line",
        "kind",
        "debit",
        "credit",
        "amount",
        "period",
        "cause_id",
        "description",
    ];
    let mut table = Table::list("transfers", &columns);
    let mut pages = args.limit.pages();
    while let Some((page_size, page_token)) = pages.next_page() {
        let request = ListTransfersRequest {
            account: args.account.clone(),
            ledger_account: args.ledger_account.clone().unwrap_or_default(),
            from: args.span.from(),
            until: args.span.until(),
            page_size,
            page_token,
        };
        let page = ledger.list_transfers(request).await?.into_inner();
        pages.came(page.transfers.len(), page.next_page_token);
        for transfer in page.transfers {
            table.row([
                moment(transfer.posted_at),
                Value::Number(transfer.posting),
                Value::Count(transfer.line.into()),
                text(transfer.kind),
                text(transfer.debit),
                text(transfer.credit),
                money(transfer.amount),
                text(transfer.period),
                text(transfer.cause_id),
                text(transfer.description),
            ]);
        }
    }
    session.output.show(&table)?;
    session.tell_if_more(&pages)
}

/// Lines and totals.
pub(super) fn trial_balance(balance: GetTrialBalanceResponse) -> [Table; 2] {
    let mut lines =
        Table::list("lines", &["code", "account", "kind", "debits", "credits", "balance"]);
    for line in balance.lines {
        lines.row([
            text(line.code),
            text(line.name),
            text(line.kind),
            money(line.debits),
            money(line.credits),
            money(line.balance),
        ]);
    }
    let mut totals = Table::list("totals", &["total_debits", "total_credits", "balanced"]);
    for total in balance.totals {
        let is_balanced = total.debits == total.credits;
        totals.row([money(total.debits), money(total.credits), Value::Flag(is_balanced)]);
    }
    [lines, totals]
}

/// Every check, and what it found.
pub(super) fn verification(verified: VerifyLedgerResponse) -> Vec<Table> {
    let mut checks = Table::list("checks", &["check", "examined", "violations", "description"]);
    let mut findings = Table::list("findings", &["check", "finding"]);
    for check in verified.checks {
        checks.row([
            text(&check.name),
            Value::Count(check.examined),
            Value::Count(check.violations),
            text(check.description),
        ]);
        for finding in check.findings {
            findings.row([text(&check.name), text(finding)]);
        }
    }
    if verified.clean { vec![checks] } else { vec![checks, findings] }
}

//! `tollgate ledger export`: the books as a journal for another program, on the standard output.

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};

use super::Ledger;
use crate::{
    cli::{
        args::{parse_moment, timestamp},
        error::CliError,
        output::data_to_stdout,
    },
    proto::{ExportJournalRequest, JournalFormat},
};

pub(super) const EXAMPLES: &str = "\
The journal goes to the standard output whatever --output says. hledger's is exact. Those of
QuickBooks and Xero are in minor units: what rounding leaves of a day is carried to the next.
The same books give the same bytes; --until fixes a period that is still open.

Examples:
  tollgate ledger export --format hledger > tollgate.journal
  tollgate ledger export --format quickbooks --period 2026-10 > october.csv
  tollgate ledger export --format xero --period 2026-10 --currency EUR > october.csv";

/// For which program.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Plain text, transfer by transfer
    Hledger,
    /// QuickBooks Online's journal import (CSV)
    Quickbooks,
    /// Xero's manual journal (CSV), in one currency
    Xero,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    /// For which program
    #[arg(long, value_enum)]
    format: Format,
    /// Only this billing period, such as 2026-10 [default: all]
    #[arg(long, value_name = "MONTH")]
    period: Option<String>,
    /// Only this account (handle or id) [default: the whole company]
    #[arg(long)]
    account: Option<String>,
    /// Only this currency, such as USD [default: all]
    #[arg(long, value_name = "CODE")]
    currency: Option<String>,
    /// Only what was posted before this moment
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<DateTime<Utc>>,
}

pub(super) async fn export(ledger: &mut Ledger, args: ExportArgs) -> Result<(), CliError> {
    let format = match args.format {
        Format::Hledger => JournalFormat::Hledger,
        Format::Quickbooks => JournalFormat::Quickbooks,
        Format::Xero => JournalFormat::Xero,
    };
    let request = ExportJournalRequest {
        format: format.into(),
        period: args.period.unwrap_or_default(),
        account: args.account.unwrap_or_default(),
        currency_code: args.currency.unwrap_or_default(),
        until: args.until.map(timestamp),
    };
    let mut pieces = ledger.export_journal(request).await?.into_inner();
    while let Some(piece) = pieces.message().await? {
        data_to_stdout(&piece.data)?;
    }
    Ok(())
}

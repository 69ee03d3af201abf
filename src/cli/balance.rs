//! `tollgate balance`: what customers have, owe and can still spend.

use clap::Args;

use crate::{
    cli::{
        Session,
        args::required,
        budget,
        error::CliError,
        output::{Table, Value, moment, money, text},
    },
    proto::{Balance, GetBalanceRequest},
};

const EXAMPLES: &str = "\
Examples:
  tollgate balance acme
  tollgate balance acme globex --output csv";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct BalanceArgs {
    /// Handles or ids; several are shown side by side
    #[arg(required = true, value_name = "ACCOUNT")]
    accounts: Vec<String>,
}

pub(super) async fn run(args: BalanceArgs, session: &Session) -> Result<(), CliError> {
    let mut credits = session.connect().await?.credits();
    let (mut balances, mut budgets) = (Vec::new(), Vec::new());
    for account in args.accounts {
        let answer = credits.get_balance(GetBalanceRequest { account }).await?.into_inner();
        balances.push(required(answer.balance, "balance")?);
        budgets.extend(answer.budgets);
    }
    if balances.len() == 1 {
        let fields = balances.into_iter().flat_map(fields).collect();
        session.output.show(&Table::record("balance", fields))?;
        if budgets.is_empty() || !session.output.is_for_people() {
            return Ok(());
        }
        return session.output.show(&budget::table(budgets));
    }
    session.output.show(&side_by_side(balances))
}

/// One balance, every part of it.
pub(super) fn fields(balance: Balance) -> Vec<(&'static str, Value)> {
    vec![
        ("handle", text(balance.handle)),
        ("account_id", text(balance.account_id)),
        ("promotional", money(balance.promotional)),
        ("credits", money(balance.credits)),
        ("overdrawn", money(balance.overdrawn)),
        ("unbilled", money(balance.unbilled)),
        ("receivable", money(balance.receivable)),
        ("unapplied", money(balance.unapplied)),
        ("credit_limit", money(balance.credit_limit)),
        ("leased", money(balance.leased)),
        ("available", money(balance.available)),
        ("as_of", moment(balance.as_of)),
    ]
}

/// One row for each balance.
pub(super) fn side_by_side(balances: Vec<Balance>) -> Table {
    let columns = [
        "handle",
        "promotional",
        "credits",
        "overdrawn",
        "unbilled",
        "receivable",
        "credit_limit",
        "leased",
        "available",
    ];
    let mut table = Table::list("balances", &columns);
    for balance in balances {
        table.row([
            text(balance.handle),
            money(balance.promotional),
            money(balance.credits),
            money(balance.overdrawn),
            money(balance.unbilled),
            money(balance.receivable),
            money(balance.credit_limit),
            money(balance.leased),
            money(balance.available),
        ]);
    }
    table
}

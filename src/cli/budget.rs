//! `tollgate budget`: what an account, a project or a key may spend in a period.

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    cli::{
        Session,
        args::{self, Idempotency, Limit, required},
        error::CliError,
        output::{Table, Value, moment, money, text, word},
    },
    proto::{
        Budget, BudgetEnforcement, BudgetPeriod, DeleteBudgetRequest, ListBudgetsRequest,
        SetBudgetRequest,
    },
};

const SET_EXAMPLES: &str = "\
Sets the budget of a target, or changes the limit of the one that is there and keeps what was spent.
One target can have several: one of each period, hard and soft.

Examples:
  tollgate budget set acme 500 --per month
  tollgate budget set acme 400 --per month --soft
  tollgate budget set acme 20 --per day --project chatbot
  tollgate budget set acme 5 --per day --key 0196f1c2-…";
const LIST_EXAMPLES: &str = "Examples:
  tollgate budget list acme";
const DELETE_EXAMPLES: &str = "Examples:
  tollgate budget delete acme 0196f1c2-…";

#[derive(Debug, Subcommand)]
pub(super) enum BudgetCommand {
    /// Set what may be spent in a period
    #[command(after_help = SET_EXAMPLES)]
    Set(SetArgs),
    /// Show how an account's budgets stand
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Handle or id
        account: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// Take a budget away
    #[command(after_help = DELETE_EXAMPLES)]
    Delete {
        /// Handle or id
        account: String,
        /// The budget's id, as `budget list` shows it
        budget_id: String,
        #[command(flatten)]
        idempotency: Idempotency,
    },
}

#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// Handle or id
    account: String,
    /// What may be spent in a period, in the account's currency
    #[arg(value_parser = args::parse_amount)]
    limit: String,
    /// How often it starts anew, at midnight UTC
    #[arg(long, value_enum, value_name = "PERIOD")]
    per: Per,
    /// Only warn and announce, instead of denying what would pass the limit
    #[arg(long)]
    soft: bool,
    /// Limits the keys of this project
    #[arg(long, conflicts_with = "key")]
    project: Option<String>,
    /// Limits this key, by its id, and those that succeed it by rotation
    #[arg(long, value_name = "KEY_ID")]
    key: Option<String>,
    #[command(flatten)]
    idempotency: Idempotency,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Per {
    Day,
    Week,
    Month,
    /// Never starts anew
    Total,
}

pub(super) async fn run(command: BudgetCommand, session: &Session) -> Result<(), CliError> {
    let client = session.connect().await?;
    let mut budgets = client.budgets();
    match command {
        BudgetCommand::Set(args) => {
            let currency = client.currency_of(&args.account).await?;
            let period = match args.per {
                Per::Day => BudgetPeriod::Day,
                Per::Week => BudgetPeriod::Week,
                Per::Month => BudgetPeriod::Month,
                Per::Total => BudgetPeriod::Total,
            };
            let enforcement =
                if args.soft { BudgetEnforcement::Soft } else { BudgetEnforcement::Hard };
            let request = SetBudgetRequest {
                account: args.account,
                project: args.project.unwrap_or_default(),
                key_id: args.key.unwrap_or_default(),
                period: period.into(),
                enforcement: enforcement.into(),
                limit: Some(args::money(&args.limit, &currency)),
                idempotency_key: args.idempotency.key(),
            };
            let budget = budgets.set_budget(request).await?.into_inner().budget;
            session
                .output
                .show(&Table::record("budget", record(required(budget, "budget")?).into()))
        }
        BudgetCommand::List { account, limit } => {
            let mut listed = Vec::new();
            let mut pages = limit.pages();
            while let Some((page_size, page_token)) = pages.next_page() {
                let request =
                    ListBudgetsRequest { account: account.clone(), page_size, page_token };
                let page = budgets.list_budgets(request).await?.into_inner();
                pages.came(page.budgets.len(), page.next_page_token);
                listed.extend(page.budgets);
            }
            session.output.show(&table(listed))?;
            session.tell_if_more(&pages)
        }
        BudgetCommand::Delete { account, budget_id, idempotency } => {
            let idempotency_key = idempotency.key();
            let request = DeleteBudgetRequest { account, budget_id, idempotency_key };
            budgets.delete_budget(request).await?;
            session.output.note("the budget limits nothing any more")
        }
    }
}

/// How budgets stand, one row each.
pub(super) fn table(budgets: Vec<Budget>) -> Table {
    let columns = [
        "budget_id",
        "target",
        "period",
        "enforcement",
        "limit",
        "spent",
        "reserved",
        "remaining",
        "resets_at",
        "reached_at",
    ];
    let mut table = Table::list("budgets", &columns);
    for budget in budgets {
        table.row(record(budget).map(|(_, value)| value));
    }
    table
}

fn record(budget: Budget) -> [(&'static str, Value); 10] {
    let target = match (budget.project.as_str(), budget.key_id.as_str()) {
        ("", "") => "account".to_owned(),
        (project, "") => format!("project {project}"),
        (_, key) => format!("key {key}"),
    };
    let period = word(budget.period().as_str_name(), "BUDGET_PERIOD_");
    let enforcement = word(budget.enforcement().as_str_name(), "BUDGET_ENFORCEMENT_");
    [
        ("budget_id", text(budget.budget_id)),
        ("target", text(target)),
        ("period", period),
        ("enforcement", enforcement),
        ("limit", money(budget.limit)),
        ("spent", money(budget.spent)),
        ("reserved", money(budget.reserved)),
        ("remaining", money(budget.remaining)),
        ("resets_at", moment(budget.resets_at)),
        ("reached_at", moment(budget.reached_at)),
    ]
}

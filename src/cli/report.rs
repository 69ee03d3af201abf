//! `tollgate report`: what finance reads of a month.

use clap::{Args, Subcommand};

use crate::{
    cli::{
        Session,
        args::{Limit, required},
        client::Authorized,
        error::CliError,
        output::{Table, Value, decimal, moment, money, text, word},
        receivables,
    },
    proto::{
        DeferredRevenue, GetDeferredRevenueRequest, GetRevenueRequest, GetSlaReportRequest,
        GetStatementRequest, GetTaxSummaryRequest, GetTaxSummaryResponse, ModelRevenue,
        RevenueTotal, SlaInterval, SlaReport, billing_service_client::BillingServiceClient,
    },
};

const REVENUE_EXAMPLES: &str = "\
Examples:
  tollgate report revenue --period 2026-10
  tollgate report revenue --period 2026-10 --output csv";
const MARGIN_EXAMPLES: &str = "\
A cost is known of requests whose price has one, in the currency they were charged in; COSTED REVENUE
is the revenue of those alone. `tollgate model import` takes costs with prices.

Examples:
  tollgate report margin --period 2026-10";
const DEFERRED_REVENUE_EXAMPLES: &str = "\
Opening and columns sum to closing; what lessens credits is below zero.

Examples:
  tollgate report deferred-revenue --period 2026-10
  tollgate report deferred-revenue --period 2026-10 --output csv";
const TAX_EXAMPLES: &str = "\
What documents charged, and beside it what the ledger has on 2100. CSV has the documents alone.

Examples:
  tollgate report tax --period 2026-10
  tollgate report tax --period 2026-10 --output json";
const SLA_EXAMPLES: &str = "\
The availability of Pro models, what it credits, and the intervals of five minutes that failed. Below
99.9% 10%, below 99.0% 25% and below 95.0% all of the month's Pro charges are credited. CSV has no
intervals.

Examples:
  tollgate report sla acme --period 2026-10
  tollgate report sla acme --period 2026-10 --all --output json";

const AGING_EXAMPLES: &str = "\
Days past due; TOTAL is the buckets less what is unapplied, and is 1200 − 2050 of the ledger. CSV has no
totals.

Examples:
  tollgate report aging
  tollgate report aging --as-of 2026-10-31 --all --output csv";
const DUNNING_EXAMPLES: &str = "\
Examples:
  tollgate report dunning
  tollgate report dunning acme --output json";
const STATEMENT_EXAMPLES: &str = "\
Examples:
  tollgate report statement acme
  tollgate report statement acme --from 2026-01-01 --until 2026-12-31 --output csv";

#[derive(Debug, Subcommand)]
pub(super) enum ReportCommand {
    /// What each model earned in a month, and what the ledger says of it
    #[command(after_help = REVENUE_EXAMPLES)]
    Revenue(Month),
    /// What is left of each model's revenue after our own cost
    #[command(after_help = MARGIN_EXAMPLES)]
    Margin(Month),
    /// What customers' credits were, what became of them in a month, and what they are
    #[command(after_help = DEFERRED_REVENUE_EXAMPLES)]
    DeferredRevenue(Month),
    /// Tax by jurisdiction and rate
    #[command(after_help = TAX_EXAMPLES)]
    Tax(Month),
    /// What customers owe, by how long it is overdue
    #[command(after_help = AGING_EXAMPLES)]
    Aging {
        /// Handle or id [default: all accounts]
        account: Option<String>,
        /// At the end of this day, such as 2026-10-31 [default: today]
        #[arg(long, value_name = "DAY", default_value = "", hide_default_value = true)]
        as_of: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// Reminders of overdue invoices, suspensions and releases, newest first
    #[command(after_help = DUNNING_EXAMPLES)]
    Dunning {
        /// Handle or id [default: all accounts]
        account: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// An account's invoices, payments and credit notes
    #[command(after_help = STATEMENT_EXAMPLES)]
    Statement {
        /// Handle or id
        account: String,
        /// The first day [default: of this month]
        #[arg(long, value_name = "DAY", default_value = "", hide_default_value = true)]
        from: String,
        /// The last day [default: today]
        #[arg(long, value_name = "DAY", default_value = "", hide_default_value = true)]
        until: String,
    },
    /// How available Pro models were to an account in a month
    #[command(after_help = SLA_EXAMPLES)]
    Sla {
        /// Handle or id
        account: String,
        #[command(flatten)]
        month: Month,
        #[command(flatten)]
        limit: Limit,
    },
}

#[derive(Debug, Args)]
pub(super) struct Month {
    /// The month, such as 2026-10
    #[arg(long, value_name = "MONTH")]
    period: String,
}

type Billing = BillingServiceClient<Authorized>;

pub(super) async fn run(command: ReportCommand, session: &Session) -> Result<(), CliError> {
    let mut billing = session.connect().await?.billing();
    match command {
        ReportCommand::Revenue(Month { period }) => {
            let report = billing.get_revenue(GetRevenueRequest { period }).await?.into_inner();
            let agrees = report.totals.iter().all(|total| total.agrees);
            session.output.show_all(&[revenue(report.models), revenue_totals(report.totals)])?;
            tell_unless(agrees, "usage and the ledger do not agree", session)
        }
        ReportCommand::Margin(Month { period }) => {
            let report = billing.get_revenue(GetRevenueRequest { period }).await?.into_inner();
            session.output.show_all(&[margins(report.models), margin_totals(report.totals)])
        }
        ReportCommand::DeferredRevenue(Month { period }) => {
            let request = GetDeferredRevenueRequest { period };
            let report = billing.get_deferred_revenue(request).await?.into_inner();
            session.output.show(&roll_forwards(report.credits))
        }
        ReportCommand::Tax(Month { period }) => {
            let report = billing.get_tax_summary(GetTaxSummaryRequest { period }).await?;
            let report = report.into_inner();
            let agrees = report.agrees;
            session.output.show_all(&taxes(report))?;
            tell_unless(agrees, "documents and the ledger do not agree", session)
        }
        ReportCommand::Aging { account, as_of, limit } => {
            let account = account.unwrap_or_default();
            receivables::aging(&mut billing, account, as_of, &limit, session).await
        }
        ReportCommand::Dunning { account, limit } => {
            let account = account.unwrap_or_default();
            receivables::dunning(&mut billing, account, &limit, session).await
        }
        ReportCommand::Statement { account, from, until } => {
            let request = GetStatementRequest { account, from, until };
            let statement = billing.get_statement(request).await?.into_inner();
            session.output.show(&receivables::statement(statement))
        }
        ReportCommand::Sla { account, month, limit } => {
            sla(&mut billing, &account, &month.period, &limit, session).await
        }
    }
}

fn tell_unless(agrees: bool, warning: &str, session: &Session) -> Result<(), CliError> {
    if agrees {
        return Ok(());
    }
    session.output.warn(&format!("{warning}; `tollgate ledger verify` says where"))
}

fn revenue(models: Vec<ModelRevenue>) -> Table {
    let columns = [
        "model",
        "requests",
        "input_tokens",
        "output_tokens",
        "images",
        "charged",
        "reversed",
        "revenue",
    ];
    let mut table = Table::list("models", &columns);
    for model in models {
        table.row([
            text(model.model),
            Value::Count(model.requests),
            Value::Count(model.input_tokens),
            Value::Count(model.output_tokens),
            Value::Count(model.images),
            money(model.charged),
            money(model.reversed),
            money(model.revenue),
        ]);
    }
    table
}

fn revenue_totals(totals: Vec<RevenueTotal>) -> Table {
    let columns = [
        "charged",
        "reversed",
        "credit_notes",
        "sla_credits",
        "promotional_discounts",
        "net",
        "agrees",
    ];
    let mut table = Table::list("totals", &columns);
    for total in totals {
        table.row([
            money(total.charged),
            money(total.reversed),
            money(total.credit_notes),
            money(total.sla_credits),
            money(total.promotional_discounts),
            money(total.net),
            Value::Flag(total.agrees),
        ]);
    }
    table
}

fn margins(models: Vec<ModelRevenue>) -> Table {
    let columns = [
        "model",
        "requests",
        "revenue",
        "costed_requests",
        "costed_revenue",
        "cost",
        "margin",
        "margin_percent",
    ];
    let mut table = Table::list("models", &columns);
    for model in models {
        table.row([
            text(model.model),
            Value::Count(model.requests),
            money(model.revenue),
            Value::Count(model.costed_requests),
            money(model.costed_revenue),
            money(model.cost),
            money(model.margin),
            decimal(model.margin_percent),
        ]);
    }
    table
}

fn margin_totals(totals: Vec<RevenueTotal>) -> Table {
    let columns =
        ["costed_requests", "costed_revenue", "cost", "margin", "margin_percent", "posted_cost"];
    let mut table = Table::list("totals", &columns);
    for total in totals {
        table.row([
            Value::Count(total.costed_requests),
            money(total.costed_revenue),
            money(total.cost),
            money(total.margin),
            decimal(total.margin_percent),
            money(total.posted_cost),
        ]);
    }
    table
}

fn roll_forwards(credits: Vec<DeferredRevenue>) -> Table {
    let columns = [
        "credits",
        "opening",
        "added",
        "recognised",
        "applied_to_overdraft",
        "reversed",
        "returned",
        "service_level",
        "disputed",
        "closed",
        "closing",
    ];
    let mut table = Table::list("deferred_revenue", &columns);
    for roll in credits {
        table.row([
            word(roll.kind().as_str_name(), "DEFERRED_KIND_"),
            money(roll.opening),
            money(roll.added),
            money(roll.recognised),
            money(roll.applied_to_overdraft),
            money(roll.reversed),
            money(roll.returned),
            money(roll.service_level),
            money(roll.disputed),
            money(roll.closed),
            money(roll.closing),
        ]);
    }
    table
}

fn taxes(report: GetTaxSummaryResponse) -> [Table; 2] {
    let columns = ["jurisdiction", "category", "rate_percent", "documents", "taxable", "tax"];
    let mut sales = Table::list("taxed_sales", &columns);
    for one in report.sales {
        sales.row([
            text(one.jurisdiction),
            text(one.category),
            decimal(one.rate_percent),
            Value::Count(one.documents),
            money(one.taxable),
            money(one.tax),
        ]);
    }
    let columns =
        ["code", "opening", "charged", "taken_back", "relieved", "closing", "documented", "agrees"];
    let mut accounts = Table::list("tax_accounts", &columns);
    for one in report.accounts {
        accounts.row([
            text(one.code),
            money(one.opening),
            money(one.charged),
            money(one.taken_back),
            money(one.relieved),
            money(one.closing),
            money(one.documented),
            Value::Flag(one.agrees),
        ]);
    }
    [sales, accounts]
}

async fn sla(
    billing: &mut Billing,
    account: &str,
    period: &str,
    limit: &Limit,
    session: &Session,
) -> Result<(), CliError> {
    let (mut report, mut intervals) = (None, Vec::new());
    let mut pages = limit.pages();
    while let Some((page_size, page_token)) = pages.next_page() {
        let (account, period) = (account.to_owned(), period.to_owned());
        let request = GetSlaReportRequest { account, period, page_size, page_token };
        let page = billing.get_sla_report(request).await?.into_inner();
        pages.came(page.intervals.len(), page.next_page_token);
        intervals.extend(page.intervals);
        report = report.or(page.report);
    }
    let (record, outcomes) = service_level(required(report, "report")?);
    let intervals = bad_intervals(intervals);
    session.output.show_all(&[record, outcomes, intervals])?;
    session.tell_if_more(&pages)
}

fn service_level(report: SlaReport) -> (Table, Table) {
    let columns = ["outcome", "cache_hit", "counts_as", "requests"];
    let mut outcomes = Table::list("outcomes", &columns);
    for one in report.outcomes {
        outcomes.row([
            word(one.outcome().as_str_name(), "OUTCOME_"),
            Value::Flag(one.cache_hit),
            text(one.counts_as),
            Value::Count(one.requests),
        ]);
    }
    let fields = vec![
        ("account_id", text(report.account_id)),
        ("period", text(report.period)),
        ("availability_percent", decimal(report.availability_percent)),
        ("missed_percent", decimal(report.missed_percent)),
        ("credit_percent", decimal(report.credit_percent)),
        ("charges", money(report.charges)),
        ("credit", money(report.credit)),
        ("requests", Value::Count(report.requests)),
        ("failures", Value::Count(report.failures)),
        ("bad_intervals", Value::Count(report.bad_intervals)),
    ];
    (Table::record("report", fields), outcomes)
}

fn bad_intervals(intervals: Vec<SlaInterval>) -> Table {
    let mut table = Table::list("bad_intervals", &["begins_at", "requests", "failures"]);
    for interval in intervals {
        table.row([
            moment(interval.begins_at),
            Value::Count(interval.requests),
            Value::Count(interval.failures),
        ]);
    }
    table
}

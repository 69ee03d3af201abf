//! What `tollgate report` shows of what customers owe.

use super::{
    Session,
    args::Limit,
    client::Authorized,
    error::CliError,
    output::{Table, Value, moment, money, text},
};
use crate::proto::{
    AccountAging, GetAgingRequest, GetStatementResponse, ListDunningEventsRequest,
    billing_service_client::BillingServiceClient,
};

const BUCKETS: [&str; 7] =
    ["current", "1_to_30", "31_to_60", "61_to_90", "over_90", "unapplied", "total"];

pub(super) async fn aging(
    billing: &mut BillingServiceClient<Authorized>,
    account: String,
    as_of: String,
    limit: &Limit,
    session: &Session,
) -> Result<(), CliError> {
    let columns: Vec<_> = ["account"].into_iter().chain(BUCKETS).collect();
    let (mut accounts, mut sums) =
        (Table::list("accounts", &columns), Table::list("totals", &columns));
    let mut pages = limit.pages();
    let mut totals = Vec::new();
    while let Some((page_size, page_token)) = pages.next_page() {
        let (account, as_of) = (account.clone(), as_of.clone());
        let request = GetAgingRequest { account, as_of, page_size, page_token };
        let page = billing.get_aging(request).await?.into_inner();
        pages.came(page.accounts.len(), page.next_page_token);
        for aging in page.accounts {
            row(&mut accounts, aging);
        }
        totals = page.totals;
    }
    for aging in totals {
        row(&mut sums, aging);
    }
    session.output.show_all(&[accounts, sums])?;
    session.tell_if_more(&pages)
}

fn row(table: &mut Table, aging: AccountAging) {
    table.row([
        text(if aging.handle.is_empty() { "all".to_owned() } else { aging.handle }),
        money(aging.current),
        money(aging.days_1_to_30),
        money(aging.days_31_to_60),
        money(aging.days_61_to_90),
        money(aging.days_over_90),
        money(aging.unapplied),
        money(aging.total),
    ]);
}

/// The entries between the opening and the closing balance.
pub(super) fn statement(statement: GetStatementResponse) -> Table {
    let columns = ["date", "entry", "reference", "amount", "balance"];
    let mut table = Table::list("statement", &columns);
    let nothing = || text("");
    table.row([
        text(statement.from),
        text("opening"),
        nothing(),
        nothing(),
        money(statement.opening),
    ]);
    for entry in statement.entries {
        table.row([
            text(entry.date),
            text(entry.kind.replace('_', " ")),
            text(entry.reference),
            money(entry.amount),
            money(entry.balance),
        ]);
    }
    table.row([
        text(statement.until),
        text("closing"),
        nothing(),
        nothing(),
        money(statement.closing),
    ]);
    table
}

pub(super) async fn dunning(
    billing: &mut BillingServiceClient<Authorized>,
    account: String,
    limit: &Limit,
    session: &Session,
) -> Result<(), CliError> {
    let columns = ["number", "at", "account", "invoice", "event", "days", "open", "mail"];
    let mut table = Table::list("events", &columns);
    let mut pages = limit.pages();
    while let Some((page_size, page_token)) = pages.next_page() {
        let account = account.clone();
        let request = ListDunningEventsRequest { account, page_size, page_token };
        let page = billing.list_dunning_events(request).await?.into_inner();
        pages.came(page.events.len(), page.next_page_token);
        for event in page.events {
            table.row([
                Value::Number(event.number),
                moment(event.noted_at),
                text(event.handle),
                text(event.invoice),
                text(event.kind),
                Value::Number(event.days.into()),
                money(event.open),
                text(event.accounts_payable_email),
            ]);
        }
    }
    session.output.show(&table)?;
    session.tell_if_more(&pages)
}

//! The books in the database. A change is: [`lock`] the account's row, [`post`] under it, commit.
//! The lock makes balances, posting numbers and transfers move together, so that postings have no
//! gaps and every reader sees the transfers that a balance is made of.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{FromRow, PgConnection, Postgres, Transaction};

use crate::{
    accounts::change::{CHANNEL, Change},
    database::reports::ReportPool,
    ids::{AccountId, CauseId},
    ledger::{balances::Balances, error::LedgerError, posting::Posting},
    money::{Amount, Currency},
};

/// An account's funds, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Funds {
    /// Whose.
    pub account_id: AccountId,
    /// The account's handle.
    pub handle: String,
    /// Whether the account is closed.
    pub closed: bool,
    /// The currency of every amount here.
    pub currency: Currency,
    /// What the account has and owes.
    pub balances: Balances,
    /// Up to how much usage may accrue to an invoice.
    pub credit_limit: Amount,
    /// Held by servers for outstanding and coming requests.
    pub leased: Amount,
    /// What new requests can still reserve; below zero after a chargeback of what was reserved.
    pub available: Amount,
    /// The last posting's number.
    pub posting: i64,
    /// The billing period that a posting of now belongs to, unless it is about usage. The account's
    /// own month may be closed already, by a final invoice.
    pub period: NaiveDate,
    /// The first billing period that is still open: usage of an earlier one belongs to it.
    pub open_period: NaiveDate,
    /// By the database's clock.
    pub as_of: DateTime<Utc>,
}

impl Funds {
    /// How much of a balance nobody has used or reserved: what can leave without breaking a
    /// promise that a server has made.
    #[must_use]
    pub fn unreserved(&self, balance: Amount) -> Amount {
        balance.min(self.available.max(Amount::ZERO))
    }
}

#[derive(FromRow)]
struct FundsRow {
    account_id: AccountId,
    currency: String,
    promotional: Amount,
    credits: Amount,
    overdrawn: Amount,
    unbilled: Amount,
    receivable: Amount,
    unapplied: Amount,
    credit_limit: Amount,
    leased: Amount,
    available: Amount,
    posting: i64,
    period: NaiveDate,
    open_period: NaiveDate,
    as_of: DateTime<Utc>,
}

macro_rules! select_funds {
    ($lock:literal) => {
        concat!(
            "SELECT account_id, currency, promotional, credits, overdrawn, unbilled, receivable,
                    unapplied, credit_limit, leased, available, posting, open_period,
                    greatest((SELECT max(period) + interval '1 month' FROM billing_runs),
                             date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC'))::date
                        AS period,
                    clock_timestamp() AS as_of
             FROM account_funds
             WHERE account_id = $1 ",
            $lock
        )
    };
}

const READ_ACCOUNT: &str = "SELECT handle, status = 'closed' FROM accounts WHERE account_id = $1";

/// Locks an account's row and reads it: the first statement of whatever changes funds.
pub(crate) async fn lock(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<Funds, LedgerError> {
    read(connection, account, select_funds!("FOR UPDATE")).await
}

/// An account's funds without a lock, to look at.
pub async fn funds(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<Funds, LedgerError> {
    read(connection, account, select_funds!("")).await
}

async fn read(
    connection: &mut PgConnection,
    account: AccountId,
    statement: &'static str,
) -> Result<Funds, LedgerError> {
    let row: Option<FundsRow> =
        sqlx::query_as(statement).bind(account).fetch_optional(&mut *connection).await?;
    let row = row.ok_or(LedgerError::UnknownAccount(account))?;
    // A statement of its own: had the lock been waited for, a join would still show the account as
    // it was before the wait.
    let (handle, closed) = sqlx::query_as(READ_ACCOUNT).bind(account).fetch_one(connection).await?;
    Ok(Funds {
        account_id: row.account_id,
        handle,
        closed,
        currency: row.currency.parse().map_err(|_| LedgerError::Stored(row.currency))?,
        balances: Balances {
            promotional: row.promotional,
            credits: row.credits,
            overdrawn: row.overdrawn,
            unbilled: row.unbilled,
            receivable: row.receivable,
            unapplied: row.unapplied,
        },
        credit_limit: row.credit_limit,
        leased: row.leased,
        available: row.available,
        posting: row.posting,
        period: row.period,
        open_period: row.open_period,
        as_of: row.as_of,
    })
}

/// What a posting's transfers say about why they were made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cause<'a> {
    /// The payment, grant, refund, chargeback or reversed event.
    pub(crate) id: CauseId,
    /// The caller's key, or one made of the cause where the caller gave none.
    pub(crate) idempotency_key: &'a str,
    /// The caller's words.
    pub(crate) description: &'a str,
    /// The billing period.
    pub(crate) period: NaiveDate,
}

const INSERT_TRANSFERS: &str = "
    INSERT INTO transfers (account_id, posting, line, debit, credit, amount, currency, kind, period,
                           cause_id, idempotency_key, description)
    SELECT $1, $2, line, debit, credit, amount, $3, kind, $4, $5, $6, $7
    FROM unnest($8::text[], $9::text[], $10::numeric[], $11::text[]) WITH ORDINALITY
         AS transfer (debit, credit, amount, kind, line)";

const UPDATE_FUNDS: &str = "
    UPDATE account_funds
    SET promotional = $3, credits = $4, overdrawn = $5, unbilled = $6, receivable = $7,
        unapplied = $8, posting = $2
    WHERE account_id = $1 AND posting = $2 - 1
    RETURNING available";

/// Makes a posting on locked funds, which then show the balances after it, and cures an overdraft
/// where credits are added. Returns its number: the next one, or 0 where nothing moves.
pub(crate) async fn post(
    connection: &mut PgConnection,
    funds: &mut Funds,
    posting: Posting,
    cause: &Cause<'_>,
) -> Result<i64, LedgerError> {
    post_in(connection, funds, funds.currency, posting, cause).await
}

/// As [`post`], of transfers in another currency, which concern no balance of the account: our own
/// cost is in the currency that its provider asks for.
pub(crate) async fn post_in(
    connection: &mut PgConnection,
    funds: &mut Funds,
    currency: Currency,
    posting: Posting,
    cause: &Cause<'_>,
) -> Result<i64, LedgerError> {
    let (posting, after) = posting.on(funds.balances)?;
    if posting.is_empty() {
        return Ok(0);
    }
    let number = funds.posting.saturating_add(1);
    let transfers = posting.transfers();
    let debits: Vec<String> = transfers.iter().map(|one| one.debit.to_string()).collect();
    let credits: Vec<String> = transfers.iter().map(|one| one.credit.to_string()).collect();
    let amounts: Vec<Amount> = transfers.iter().map(|one| one.amount).collect();
    let kinds: Vec<&str> = transfers.iter().map(|one| one.kind.name()).collect();
    let cause_key = format!("cause:{}", cause.id);
    let key = if cause.idempotency_key.is_empty() { &cause_key } else { cause.idempotency_key };

    sqlx::query(INSERT_TRANSFERS)
        .bind(funds.account_id)
        .bind(number)
        .bind(currency.code())
        .bind(cause.period)
        .bind(cause.id)
        .bind(key)
        .bind(cause.description)
        .bind(debits)
        .bind(credits)
        .bind(amounts)
        .bind(kinds)
        .execute(&mut *connection)
        .await?;
    funds.available = sqlx::query_scalar(UPDATE_FUNDS)
        .bind(funds.account_id)
        .bind(number)
        .bind(after.promotional)
        .bind(after.credits)
        .bind(after.overdrawn)
        .bind(after.unbilled)
        .bind(after.receivable)
        .bind(after.unapplied)
        .fetch_one(connection)
        .await?;
    funds.balances = after;
    funds.posting = number;
    Ok(number)
}

/// The day in UTC, by the database's clock.
pub(crate) async fn today(connection: &mut PgConnection) -> Result<NaiveDate, LedgerError> {
    let statement = "SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date";
    Ok(sqlx::query_scalar(statement).fetch_one(connection).await?)
}

/// Tells every server, once this transaction commits, that the account's funds changed: a server
/// that had found nothing left to lease tries again at once.
pub(crate) async fn announce(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<(), LedgerError> {
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(Change::Account(account).to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// A read-only snapshot of the books, every statement of which is stopped after so many seconds.
pub(crate) async fn snapshot(
    reports: &ReportPool,
    limit_seconds: u32,
) -> Result<Transaction<'static, Postgres>, LedgerError> {
    let mut snapshot = reports.snapshot().await?;
    bound(&mut snapshot, limit_seconds).await?;
    Ok(snapshot)
}

/// Sets how long each further statement of this transaction may take.
pub(crate) async fn bound(connection: &mut PgConnection, seconds: u32) -> Result<(), LedgerError> {
    sqlx::query("SELECT set_config('statement_timeout', $1, true)")
        .bind(format!("{seconds}s"))
        .execute(connection)
        .await?;
    Ok(())
}

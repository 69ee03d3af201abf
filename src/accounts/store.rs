//! The rows of accounts. Whatever changes an account or its funds locks its row of `account_funds`
//! first, as posting does, so that all changes of one account follow each other.

use rust_decimal::Decimal;
use sqlx::{
    PgConnection, PgExecutor, Row as _,
    postgres::{PgListener, PgRow},
};

use crate::{
    accounts::{
        account::{Account, AccountStatus, NewAccount},
        change::{CHANNEL, Change},
        contract::{Address, Contract, DataProtection, PaymentTerms, TaxTreatment},
    },
    catalog::pattern::ModelDiscount,
    ids::AccountId,
    money::Amount,
};

/// The unique index that two accounts of one handle meet.
pub(super) const HANDLE_INDEX: &str = "accounts_handle_key";

/// An account with its discounts in order.
macro_rules! select_account {
    ($rest:literal) => {
        concat!(
            "SELECT account_id, handle, display_name, currency, status, status_reason, legal_name,
                    address_line_1, address_line_2, city, postal_code, subdivision, country_code,
                    registration_id, tax_id, tax_treatment, tax_rate_percent, purchase_order,
                    cost_centre, accounts_payable_email, payment_terms, credit_limit,
                    discount_percent, dpa_reference, dpa_signed_on, details_retention_days, version,
                    created_at, updated_at,
                    ARRAY(SELECT model
                            FROM account_model_discounts d
                           WHERE d.account_id = a.account_id
                           ORDER BY position) AS discount_models,
                    ARRAY(SELECT percent
                            FROM account_model_discounts d
                           WHERE d.account_id = a.account_id
                           ORDER BY position) AS discount_percents
               FROM accounts a ",
            $rest
        )
    };
}

/// The account with this id.
pub(super) async fn account(
    executor: impl PgExecutor<'_>,
    account: AccountId,
) -> sqlx::Result<Option<Account>> {
    sqlx::query(select_account!("WHERE account_id = $1"))
        .bind(account)
        .fetch_optional(executor)
        .await?
        .map(|row| account_of(&row))
        .transpose()
}

/// The id of the account with this handle.
pub(super) async fn account_of_handle(
    executor: impl PgExecutor<'_>,
    handle: &str,
) -> sqlx::Result<Option<AccountId>> {
    sqlx::query_scalar("SELECT account_id FROM accounts WHERE handle = $1")
        .bind(handle)
        .fetch_optional(executor)
        .await
}

/// Accounts in the order in which they were made, from after one of them.
pub(super) async fn accounts(
    executor: impl PgExecutor<'_>,
    status: Option<AccountStatus>,
    after: Option<AccountId>,
    limit: i64,
) -> sqlx::Result<Vec<Account>> {
    sqlx::query(select_account!(
        "WHERE ($1::text IS NULL OR status = $1)
           AND ($2::uuid IS NULL OR account_id > $2)
         ORDER BY account_id
         LIMIT $3"
    ))
    .bind(status.map(AccountStatus::as_str))
    .bind(after)
    .bind(limit)
    .fetch_all(executor)
    .await?
    .iter()
    .map(account_of)
    .collect()
}

/// Inserts an account without contract; [`write_contract`] follows in the same transaction.
pub(super) async fn insert(
    connection: &mut PgConnection,
    account: AccountId,
    new: &NewAccount,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO accounts (account_id, handle, display_name, currency, version)
         VALUES ($1, $2, $3, $4, 0)",
    )
    .bind(account)
    .bind(&new.handle)
    .bind(&new.display_name)
    .bind(new.currency.code())
    .execute(&mut *connection)
    .await?;
    sqlx::query("INSERT INTO account_funds (account_id, currency) VALUES ($1, $2)")
        .bind(account)
        .bind(new.currency.code())
        .execute(connection)
        .await?;
    Ok(())
}

/// The balances of an account that must be nothing before it is closed.
pub(super) struct Balances {
    pub(super) promotional: Amount,
    pub(super) credits: Amount,
    pub(super) overdrawn: Amount,
    pub(super) unbilled: Amount,
    pub(super) receivable: Amount,
    pub(super) unapplied: Amount,
    pub(super) leased: Amount,
}

/// Locks the account's row of funds until the transaction ends, and reads it.
pub(super) async fn lock_funds(
    connection: &mut PgConnection,
    account: AccountId,
) -> sqlx::Result<Balances> {
    let row = sqlx::query(
        "SELECT promotional, credits, overdrawn, unbilled, receivable, unapplied, leased
           FROM account_funds
          WHERE account_id = $1
            FOR UPDATE",
    )
    .bind(account)
    .fetch_one(connection)
    .await?;
    Ok(Balances {
        promotional: amount_of(&row, "promotional")?,
        credits: amount_of(&row, "credits")?,
        overdrawn: amount_of(&row, "overdrawn")?,
        unbilled: amount_of(&row, "unbilled")?,
        receivable: amount_of(&row, "receivable")?,
        unapplied: amount_of(&row, "unapplied")?,
        leased: amount_of(&row, "leased")?,
    })
}

/// What payers dispute (1250). Few accounts ever have any, so that it has no column of its own and
/// is summed when it matters.
pub(super) async fn disputed(
    connection: &mut PgConnection,
    account: AccountId,
) -> sqlx::Result<Amount> {
    let row = sqlx::query(
        "SELECT coalesce(sum(amount) FILTER (WHERE split_part(debit, '.', 1) = '1250'), 0)
                - coalesce(sum(amount) FILTER (WHERE split_part(credit, '.', 1) = '1250'), 0)
                AS disputed
           FROM transfers
          WHERE account_id = $1
            AND '1250' IN (split_part(debit, '.', 1), split_part(credit, '.', 1))",
    )
    .bind(account)
    .fetch_one(connection)
    .await?;
    amount_of(&row, "disputed")
}

/// Replaces the contract, and with it what funds are computed from. Raises the version.
pub(super) async fn write_contract(
    connection: &mut PgConnection,
    account: AccountId,
    display_name: &str,
    contract: &Contract,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE accounts
            SET display_name = $2, legal_name = $3, address_line_1 = $4, address_line_2 = $5,
                city = $6, postal_code = $7, subdivision = $8, country_code = $9,
                registration_id = $10, tax_id = $11, tax_treatment = $12, tax_rate_percent = $13,
                purchase_order = $14, cost_centre = $15, accounts_payable_email = $16,
                payment_terms = $17, credit_limit = $18, discount_percent = $19,
                dpa_reference = $20, dpa_signed_on = $21, details_retention_days = $22,
                version = version + 1, updated_at = now()
          WHERE account_id = $1",
    )
    .bind(account)
    .bind(display_name)
    .bind(&contract.legal_name)
    .bind(&contract.address.line_1)
    .bind(&contract.address.line_2)
    .bind(&contract.address.city)
    .bind(&contract.address.postal_code)
    .bind(&contract.address.subdivision)
    .bind(&contract.address.country_code)
    .bind(&contract.registration_id)
    .bind(&contract.tax_id)
    .bind(contract.tax_treatment.as_str())
    .bind(contract.tax_rate_percent)
    .bind(&contract.purchase_order)
    .bind(&contract.cost_centre)
    .bind(&contract.accounts_payable_email)
    .bind(contract.payment_terms.as_str())
    .bind(contract.credit_limit.decimal())
    .bind(contract.discount_percent)
    .bind(&contract.data_protection.dpa_reference)
    .bind(contract.data_protection.dpa_signed_on)
    .bind(contract.data_protection.details_retention_days.and_then(|days| i32::try_from(days).ok()))
    .execute(&mut *connection)
    .await?;
    write_funds(&mut *connection, account, contract).await?;
    write_discounts(connection, account, &contract.model_discounts).await
}

async fn write_funds(
    connection: &mut PgConnection,
    account: AccountId,
    contract: &Contract,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE account_funds SET net_30 = $2, credit_limit = $3, tax_rate = $4
          WHERE account_id = $1",
    )
    .bind(account)
    .bind(contract.payment_terms == PaymentTerms::Net30)
    .bind(contract.credit_limit.decimal())
    .bind(contract.tax_rate())
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_discounts(
    connection: &mut PgConnection,
    account: AccountId,
    discounts: &[ModelDiscount],
) -> sqlx::Result<()> {
    let models: Vec<&str> = discounts.iter().map(|discount| discount.pattern.as_str()).collect();
    let percents: Vec<Decimal> = discounts.iter().map(|discount| discount.percent).collect();
    sqlx::query("DELETE FROM account_model_discounts WHERE account_id = $1")
        .bind(account)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO account_model_discounts (account_id, position, model, percent)
         SELECT $1, position, model, percent
           FROM unnest($2::text[], $3::numeric[])
                WITH ORDINALITY AS discount (model, percent, position)",
    )
    .bind(account)
    .bind(models)
    .bind(percents)
    .execute(connection)
    .await?;
    Ok(())
}

/// Changes the status. Raises the version.
pub(super) async fn write_status(
    connection: &mut PgConnection,
    account: AccountId,
    status: AccountStatus,
    reason: &str,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE accounts
            SET status = $2, status_reason = $3, version = version + 1, updated_at = now()
          WHERE account_id = $1",
    )
    .bind(account)
    .bind(status.as_str())
    .bind(reason)
    .execute(connection)
    .await?;
    Ok(())
}

// A name cannot be empty. The reason of a suspension for overdue invoices is the server's own text, by
// which the suspension is taken back. Country and tax treatment are no person's.
const ERASE: &str = "
    UPDATE accounts
       SET display_name = '[erased]', accounts_payable_email = '',
           status_reason = CASE WHEN status_reason LIKE 'overdue: %' THEN status_reason ELSE '' END,
           legal_name = CASE WHEN $2 THEN '' ELSE legal_name END,
           address_line_1 = CASE WHEN $2 THEN '' ELSE address_line_1 END,
           address_line_2 = CASE WHEN $2 THEN '' ELSE address_line_2 END,
           city = CASE WHEN $2 THEN '' ELSE city END,
           postal_code = CASE WHEN $2 THEN '' ELSE postal_code END,
           subdivision = CASE WHEN $2 THEN '' ELSE subdivision END,
           registration_id = CASE WHEN $2 THEN '' ELSE registration_id END,
           tax_id = CASE WHEN $2 THEN '' ELSE tax_id END,
           purchase_order = CASE WHEN $2 THEN '' ELSE purchase_order END,
           cost_centre = CASE WHEN $2 THEN '' ELSE cost_centre END,
           version = version + 1, updated_at = now()
     WHERE account_id = $1
       AND (display_name <> '[erased]' OR accounts_payable_email <> ''
            OR status_reason <> '' AND status_reason NOT LIKE 'overdue: %'
            OR $2 AND concat(legal_name, address_line_1, address_line_2, city, postal_code,
                             subdivision, registration_id, tax_id, purchase_order, cost_centre) <> '')";

/// Erases what is personal; of a closed account what invoices needed, too. Returns whether there was
/// anything.
pub(super) async fn erase(
    connection: &mut PgConnection,
    account: AccountId,
    is_closed: bool,
) -> sqlx::Result<bool> {
    let done = sqlx::query(ERASE).bind(account).bind(is_closed).execute(connection).await?;
    Ok(done.rows_affected() > 0)
}

/// Takes the credit limit out of the funds of an account that is being closed, so that a server
/// which has not heard of it yet is granted no lease. The contract keeps it for the record.
pub(super) async fn withdraw_credit_limit(
    connection: &mut PgConnection,
    account: AccountId,
) -> sqlx::Result<()> {
    sqlx::query("UPDATE account_funds SET credit_limit = 0 WHERE account_id = $1")
        .bind(account)
        .execute(connection)
        .await?;
    Ok(())
}

/// Tells all servers of a change, once this transaction commits.
pub async fn announce(connection: &mut PgConnection, change: &Change) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(change.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

fn account_of(row: &PgRow) -> sqlx::Result<Account> {
    Ok(Account {
        account_id: row.try_get("account_id")?,
        handle: row.try_get("handle")?,
        display_name: row.try_get("display_name")?,
        currency: text_of(row, "currency")?.parse().map_err(decode)?,
        status: AccountStatus::from_stored(text_of(row, "status")?)
            .ok_or_else(|| decode("an account status of a newer version"))?,
        status_reason: row.try_get("status_reason")?,
        contract: contract_of(row)?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
    })
}

fn contract_of(row: &PgRow) -> sqlx::Result<Contract> {
    Ok(Contract {
        legal_name: row.try_get("legal_name")?,
        address: Address {
            line_1: row.try_get("address_line_1")?,
            line_2: row.try_get("address_line_2")?,
            city: row.try_get("city")?,
            postal_code: row.try_get("postal_code")?,
            subdivision: row.try_get("subdivision")?,
            country_code: row.try_get("country_code")?,
        },
        registration_id: row.try_get("registration_id")?,
        tax_id: row.try_get("tax_id")?,
        tax_treatment: TaxTreatment::from_stored(text_of(row, "tax_treatment")?)
            .ok_or_else(|| decode("a tax treatment of a newer version"))?,
        tax_rate_percent: percent_of(row, "tax_rate_percent")?,
        purchase_order: row.try_get("purchase_order")?,
        cost_centre: row.try_get("cost_centre")?,
        accounts_payable_email: row.try_get("accounts_payable_email")?,
        payment_terms: PaymentTerms::from_stored(text_of(row, "payment_terms")?)
            .ok_or_else(|| decode("payment terms of a newer version"))?,
        credit_limit: amount_of(row, "credit_limit")?,
        discount_percent: percent_of(row, "discount_percent")?,
        model_discounts: discounts_of(row)?,
        data_protection: data_protection_of(row)?,
    })
}

fn data_protection_of(row: &PgRow) -> sqlx::Result<DataProtection> {
    let days: Option<i32> = row.try_get("details_retention_days")?;
    Ok(DataProtection {
        dpa_reference: row.try_get("dpa_reference")?,
        dpa_signed_on: row.try_get("dpa_signed_on")?,
        details_retention_days: days.and_then(|days| u32::try_from(days).ok()),
    })
}

fn discounts_of(row: &PgRow) -> sqlx::Result<Vec<ModelDiscount>> {
    let models: Vec<String> = row.try_get("discount_models")?;
    let percents: Vec<Decimal> = row.try_get("discount_percents")?;
    models
        .iter()
        .zip(percents)
        .map(|(model, percent)| {
            let pattern = model.parse().map_err(decode)?;
            Ok(ModelDiscount { pattern, percent: percent.normalize() })
        })
        .collect()
}

fn text_of<'row>(row: &'row PgRow, column: &str) -> sqlx::Result<&'row str> {
    row.try_get(column)
}

fn percent_of(row: &PgRow, column: &str) -> sqlx::Result<Decimal> {
    Ok(row.try_get::<Decimal, _>(column)?.normalize())
}

pub(super) fn amount_of(row: &PgRow, column: &str) -> sqlx::Result<Amount> {
    Amount::new(row.try_get(column)?).map_err(decode)
}

pub(super) fn decode(
    error: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

/// Asks a listener's connection for nothing, to see whether it still answers.
pub(super) async fn ask(listener: &mut PgListener) -> sqlx::Result<()> {
    sqlx::query("SELECT").execute(listener).await.map(drop)
}

//! The SQL of aging and of statements.

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;

use super::{Aging, AgingFilter, Entry, end_of};
use crate::{billing::error::BillingError, ids::AccountId};

/// Sums of what was open at the end of a day, $1, which is the moment $2; only of account $3.
macro_rules! aged {
    ($select:literal, $rest:literal) => {
        concat!(
            "WITH owed AS (
                 SELECT account_id, currency, $1 - due_date AS days, due - moved.settled AS open,
                        0::numeric AS unapplied
                 FROM billing_documents AS invoice
                 CROSS JOIN LATERAL (
                     SELECT coalesce(sum(amount), 0) AS settled
                     FROM settlements
                     WHERE settlements.document_id = invoice.document_id AND kind <> 'recovery'
                       AND settled_at < $2
                 ) AS moved
                 WHERE kind = 'invoice' AND due > 0 AND frozen_at < $2
                   AND ($3::uuid IS NULL OR account_id = $3)
                 UNION ALL
                 SELECT account_id, currency, 0, 0, amount
                 FROM settlements
                 JOIN account_funds USING (account_id)
                 WHERE document_id IS NULL AND settled_at < $2
                   AND ($3::uuid IS NULL OR account_id = $3)
             )
             SELECT ",
            $select,
            ", owed.currency,
               coalesce(sum(open) FILTER (WHERE days <= 0), 0) AS current,
               coalesce(sum(open) FILTER (WHERE days BETWEEN 1 AND 30), 0) AS days_1_to_30,
               coalesce(sum(open) FILTER (WHERE days BETWEEN 31 AND 60), 0) AS days_31_to_60,
               coalesce(sum(open) FILTER (WHERE days BETWEEN 61 AND 90), 0) AS days_61_to_90,
               coalesce(sum(open) FILTER (WHERE days > 90), 0) AS days_over_90,
               sum(unapplied) AS unapplied, sum(open) - sum(unapplied) AS total
             FROM owed ",
            $rest
        )
    };
}

pub(super) async fn aging(
    connection: &mut PgConnection,
    as_of: NaiveDate,
    filter: &AgingFilter,
) -> Result<Vec<Aging>, BillingError> {
    let statement = aged!(
        "owed.account_id, handle",
        "JOIN accounts USING (account_id)
         WHERE $4::uuid IS NULL OR owed.account_id > $4
         GROUP BY owed.account_id, handle, owed.currency
         HAVING sum(open) <> 0 OR sum(unapplied) <> 0
         ORDER BY owed.account_id
         LIMIT $5"
    );
    let query = sqlx::query_as(statement)
        .persistent(false)
        .bind(as_of)
        .bind(end_of(as_of))
        .bind(filter.account)
        .bind(filter.after)
        .bind(filter.limit);
    Ok(query.fetch_all(connection).await?)
}

pub(super) async fn aging_totals(
    connection: &mut PgConnection,
    as_of: NaiveDate,
    account: Option<AccountId>,
) -> Result<Vec<Aging>, BillingError> {
    let statement = aged!(
        "NULL::uuid AS account_id, '' AS handle",
        "GROUP BY owed.currency ORDER BY owed.currency"
    );
    let query =
        sqlx::query_as(statement).persistent(false).bind(as_of).bind(end_of(as_of)).bind(account);
    Ok(query.fetch_all(connection).await?)
}

pub(super) async fn owed_before(
    connection: &mut PgConnection,
    account: AccountId,
    moment: DateTime<Utc>,
) -> Result<Decimal, BillingError> {
    let statement = "
        SELECT coalesce(sum(CASE WHEN left(debit, 4) IN ('1200', '2050') THEN amount ELSE 0 END)
                        - sum(CASE WHEN left(credit, 4) IN ('1200', '2050') THEN amount ELSE 0 END),
                        0)
        FROM transfers
        WHERE account_id = $1 AND posted_at < $2
          AND (left(debit, 4) IN ('1200', '2050') OR left(credit, 4) IN ('1200', '2050'))";
    Ok(sqlx::query_scalar(statement).bind(account).bind(moment).fetch_one(connection).await?)
}

// An allocation moves between the two lines, which changes nothing of what is owed.
const ENTRIES: &str = "
    SELECT moved.posted_at, moved.kind, moved.amount,
           coalesce(document.number, payment.external_reference,
                    payment_return.external_reference, given_up.number, '') AS reference
    FROM (
        SELECT posting, cause_id, min(posted_at) AS posted_at,
               CASE WHEN kind IN ('invoice', 'invoice_tax') THEN 'invoice'
                    WHEN kind IN ('payment', 'unapplied_receipt') THEN 'payment'
                    WHEN kind IN ('credit_note', 'credit_note_tax') THEN 'credit_note'
                    WHEN kind IN ('write_off', 'write_off_tax') THEN 'write_off'
                    ELSE kind END AS kind,
               sum(CASE WHEN left(debit, 4) IN ('1200', '2050') THEN amount ELSE 0 END)
               - sum(CASE WHEN left(credit, 4) IN ('1200', '2050') THEN amount ELSE 0 END) AS amount
        FROM transfers
        WHERE account_id = $1 AND posted_at >= $2 AND posted_at < $3
          AND (left(debit, 4) IN ('1200', '2050') OR left(credit, 4) IN ('1200', '2050'))
        GROUP BY 1, 2, 4
    ) AS moved
    LEFT JOIN billing_documents AS document ON document.document_id = moved.cause_id
    LEFT JOIN payments AS payment ON payment.payment_id = moved.cause_id
    LEFT JOIN payment_returns AS payment_return ON payment_return.return_id = moved.cause_id
    LEFT JOIN write_offs AS write_off ON write_off.write_off_id = moved.cause_id
    LEFT JOIN billing_documents AS given_up ON given_up.document_id = write_off.document_id
    WHERE moved.amount <> 0
    ORDER BY moved.posting, moved.kind DESC";

pub(super) async fn entries(
    connection: &mut PgConnection,
    account: AccountId,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<Entry>, BillingError> {
    let query = sqlx::query_as(ENTRIES).bind(account).bind(from).bind(until);
    Ok(query.fetch_all(connection).await?)
}

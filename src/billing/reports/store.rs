//! The statements behind finance's reports.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use sqlx::{FromRow, PgConnection, types::Json};

use crate::{billing::document::TaxCategory, ledger::chart::Line};

/// What moved between two codes by one kind of business: before a period, and in it.
#[derive(Debug, FromRow)]
pub(super) struct Moved {
    pub(super) currency: String,
    pub(super) kind: String,
    pub(super) debit: String,
    pub(super) credit: String,
    pub(super) before: Decimal,
    pub(super) within: Decimal,
}

const MOVED: &str = "
    SELECT currency, kind, debit, credit,
           coalesce(sum(amount) FILTER (WHERE period < $1), 0) AS before,
           coalesce(sum(amount) FILTER (WHERE period = $1), 0) AS within
    FROM transfers
    WHERE period <= $1 AND (left(debit, 4) = ANY($2) OR left(credit, 4) = ANY($2))
    GROUP BY 1, 2, 3, 4
    ORDER BY 1, 2, 3, 4";

/// What moved on these lines up to a period's end.
pub(super) async fn moved(
    connection: &mut PgConnection,
    period: NaiveDate,
    lines: &[Line],
) -> sqlx::Result<Vec<Moved>> {
    let query = sqlx::query_as(MOVED).persistent(false).bind(period).bind(codes(lines));
    query.fetch_all(connection).await
}

fn codes(lines: &[Line]) -> Vec<&'static str> {
    lines.iter().map(|line| line.code()).collect()
}

const MOVED_WITHIN: &str = "
    SELECT currency, kind, debit, credit, 0::numeric AS before, sum(amount) AS within
    FROM transfers
    WHERE period = $1 AND (left(debit, 4) = ANY($2) OR left(credit, 4) = ANY($2))
    GROUP BY 1, 2, 3, 4
    ORDER BY 1, 2, 3, 4";

/// What moved on these lines in a period, whatever there was before.
pub(super) async fn moved_within(
    connection: &mut PgConnection,
    period: NaiveDate,
    lines: &[Line],
) -> sqlx::Result<Vec<Moved>> {
    let query = sqlx::query_as(MOVED_WITHIN).persistent(false).bind(period).bind(codes(lines));
    query.fetch_all(connection).await
}

/// What one model earned.
#[derive(Debug, FromRow)]
pub(super) struct Earned {
    pub(super) model: String,
    pub(super) currency: String,
    pub(super) requests: i64,
    pub(super) input_tokens: i64,
    pub(super) output_tokens: i64,
    pub(super) images: i64,
    pub(super) charged: Decimal,
    pub(super) reversed: Decimal,
    pub(super) costed_requests: i64,
    pub(super) costed_revenue: Decimal,
    pub(super) cost: Option<Decimal>,
}

/// A charge is in its event's period; what was taken back in that of the reversal's posting, which
/// may be a later one. No event is recorded a day before its period, unless a final invoice closed the
/// account's month before early.
const EARNED: &str = "
    WITH earned AS (
        SELECT model_id, account_id, price_version, cache_hit, images > 0 AS has_images,
               count(*) AS requests, sum(input) AS input, sum(output) AS output,
               sum(cache_read) AS cache_read, sum(cache_write) AS cache_write,
               sum(reasoning) AS reasoning, sum(audio_input) AS audio_input,
               sum(audio_output) AS audio_output, sum(images) AS images,
               sum(charge) AS charged, 0::numeric AS reversed
        FROM usage_events
        WHERE period = $1
          AND recorded_at >= (SELECT least($1::timestamp AT TIME ZONE 'UTC' - interval '1 day',
                                           min(closed_at))
                              FROM closed_periods
                              WHERE period = ($1 - interval '1 month')::date)
        GROUP BY 1, 2, 3, 4, 5
        UNION ALL
        SELECT event.model_id, event.account_id, event.price_version, event.cache_hit,
               event.images > 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
               sum(to_promotional + to_credits + to_unbilled + to_overdrawn)
        FROM usage_reversals AS reversal
        JOIN usage_events AS event USING (account_id, event_id)
        WHERE EXISTS (SELECT FROM transfers AS transfer
                      WHERE transfer.account_id = reversal.account_id
                        AND transfer.posting = reversal.posting AND transfer.period = $1)
        GROUP BY 1, 2, 3, 4, 5
    ), costed AS (
        SELECT earned.*, account.currency,
               earned.cache_hit OR (NOT has_images
                                    AND price.cost_currency IS NOT DISTINCT FROM account.currency)
                   AS is_costed,
               CASE WHEN earned.cache_hit THEN 0
                    ELSE own_cost(price, earned.input, earned.output, earned.cache_read,
                                  earned.cache_write, earned.reasoning, earned.audio_input,
                                  earned.audio_output) END AS cost
        FROM earned
        JOIN accounts AS account USING (account_id)
        JOIN price_versions AS price ON price.price_version = earned.price_version
    )
    SELECT model.name AS model, currency, sum(requests)::bigint AS requests,
           sum(input + cache_read + cache_write + audio_input)::bigint AS input_tokens,
           sum(output + reasoning + audio_output)::bigint AS output_tokens,
           sum(images)::bigint AS images, sum(charged) AS charged, sum(reversed) AS reversed,
           coalesce(sum(requests) FILTER (WHERE is_costed), 0)::bigint AS costed_requests,
           coalesce(sum(charged - reversed) FILTER (WHERE is_costed), 0) AS costed_revenue,
           sum(cost) FILTER (WHERE is_costed) AS cost
    FROM costed
    JOIN models AS model USING (model_id)
    GROUP BY 1, 2
    ORDER BY 2, 1";

pub(super) async fn earned(
    connection: &mut PgConnection,
    period: NaiveDate,
) -> sqlx::Result<Vec<Earned>> {
    sqlx::query_as(EARNED).persistent(false).bind(period).fetch_all(connection).await
}

/// What documents sold under one sub-code, category and rate.
#[derive(Debug, FromRow)]
pub(super) struct Sold {
    /// The sub-code that the tax was posted to; `None` where none was.
    pub(super) code: Option<String>,
    pub(super) country: String,
    pub(super) currency: String,
    pub(super) category: Json<TaxCategory>,
    pub(super) documents: i64,
    pub(super) taxable: Decimal,
    pub(super) tax: Decimal,
}

/// A credit note's amounts are above zero, as every document's. A refund may correct several
/// prepayment invoices in one posting: their tax is where their payments' was.
const TAXED_SALES: &str = "
    SELECT coalesce(sold.tax_code, posted.code) AS code, sold.country, sold.currency,
           sold.category, count(*) AS documents,
           sum(sold.sign * sold.taxable) AS taxable, sum(sold.sign * sold.tax) AS tax
    FROM (
        SELECT document.account_id, document.posting, document.currency,
               CASE WHEN kind = 'credit_note' THEN -1 ELSE 1 END AS sign,
               coalesce(said -> 'buyer' -> 'address' ->> 'country_code', '') AS country,
               subtotal -> 'tax' AS category,
               (subtotal ->> 'taxable')::numeric AS taxable,
               (subtotal ->> 'amount')::numeric AS tax,
               CASE WHEN (subtotal ->> 'amount')::numeric <> 0 THEN payment.tax_code END AS tax_code
        FROM billing_documents AS document
        LEFT JOIN payments AS payment USING (payment_id)
        CROSS JOIN LATERAL (SELECT content::jsonb AS said) AS parsed
        CROSS JOIN LATERAL jsonb_array_elements(said -> 'taxes') AS subtotal
        WHERE document.period = $1 AND kind IN ('invoice', 'prepayment_invoice', 'credit_note')
    ) AS sold
    LEFT JOIN LATERAL (
        SELECT max(CASE WHEN left(credit, 4) = '2100' THEN credit ELSE debit END) AS code
        FROM transfers AS transfer
        WHERE transfer.account_id = sold.account_id AND transfer.posting = sold.posting
          AND sold.tax <> 0 AND '2100' IN (left(debit, 4), left(credit, 4))
    ) AS posted ON true
    GROUP BY 1, 2, 3, 4
    ORDER BY 1, 2, 3, 4";

pub(super) async fn taxed_sales(
    connection: &mut PgConnection,
    period: NaiveDate,
) -> sqlx::Result<Vec<Sold>> {
    sqlx::query_as(TAXED_SALES).persistent(false).bind(period).fetch_all(connection).await
}

//! What the business needs to go on, read from its own tables.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{FromRow, PgConnection};

use crate::{metering::limits::MONTHS_AHEAD, money::Amount};

/// A month without its partition.
#[derive(FromRow)]
pub(super) struct MissingPartition {
    pub(super) name: String,
    /// 0 is this month.
    pub(super) months_ahead: i32,
    /// What attaches it, where a table of its name is there.
    pub(super) attach: Option<String>,
}

// As ensure_usage_partitions makes them: it leaves a table of the name alone, attached or not.
const MISSING_PARTITIONS: &str = "
    SELECT name, months_ahead,
           CASE WHEN to_regclass(name) IS NOT NULL THEN
               format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name,
                      first_id_at(month AT TIME ZONE 'UTC'),
                      first_id_at((month + interval '1 month') AT TIME ZONE 'UTC'))
           END AS attach
    FROM (
        SELECT parent, months_ahead, month, parent || to_char(month, '_YYYY_MM') AS name
        FROM unnest('{usage_events,usage_details}'::text[]) AS parent
        CROSS JOIN generate_series(-2, $1) AS months_ahead
        CROSS JOIN LATERAL (
            SELECT date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC')
                   + make_interval(months => months_ahead) AS month
        ) AS at
    ) AS wanted
    WHERE NOT EXISTS (SELECT FROM pg_inherits
                      WHERE inhparent = parent::regclass AND inhrelid = to_regclass(name))
    ORDER BY abs(months_ahead), name";

pub(super) async fn missing_partitions(
    connection: &mut PgConnection,
) -> sqlx::Result<Vec<MissingPartition>> {
    sqlx::query_as(MISSING_PARTITIONS).bind(MONTHS_AHEAD).fetch_all(connection).await
}

/// Authorizations that expired of late and whose usage nobody recorded.
#[derive(FromRow)]
pub(super) struct Unsettled {
    pub(super) currency: String,
    pub(super) number: i64,
    pub(super) accounts: i64,
    pub(super) reserved: Amount,
}

const UNSETTLED: &str = "
    SELECT currency, count(*) AS number, count(DISTINCT account_id) AS accounts,
           sum(reserved) AS reserved
    FROM unsettled_authorizations AS left_over
    JOIN accounts USING (account_id)
    WHERE expired_at < clock_timestamp()
      AND expired_at > clock_timestamp() - make_interval(hours => $1)
      AND NOT EXISTS (SELECT FROM usage_events AS event
                      WHERE event.account_id = left_over.account_id
                        AND event.event_id = left_over.authorization_id)
    GROUP BY currency
    ORDER BY currency";

pub(super) async fn unsettled(
    connection: &mut PgConnection,
    within_hours: i32,
) -> sqlx::Result<Vec<Unsettled>> {
    sqlx::query_as(UNSETTLED).bind(within_hours).fetch_all(connection).await
}

#[derive(FromRow)]
pub(super) struct Quarantined {
    pub(super) number: i64,
    pub(super) oldest: Option<DateTime<Utc>>,
}

/// Usage that the database refused and that was not recorded since.
pub(super) async fn quarantined(connection: &mut PgConnection) -> sqlx::Result<Quarantined> {
    sqlx::query_as(
        "SELECT count(*) AS number, min(quarantined_at) AS oldest
         FROM quarantined_usage AS refused
         WHERE NOT EXISTS (SELECT FROM usage_events AS event
                           WHERE event.account_id = refused.account_id
                             AND event.event_id = refused.event_id)",
    )
    .fetch_one(connection)
    .await
}

/// A model that customers use or may use, and that they cannot be charged for, or not for long.
#[derive(FromRow)]
pub(super) struct Unpriced {
    pub(super) model: String,
    pub(super) currency: String,
    pub(super) accounts: i64,
    /// The handle of one of them.
    pub(super) account: String,
    /// Whether one of them used it of late; else it is on a key's allowlist.
    pub(super) is_used: bool,
    /// The model is unknown, or was made inactive.
    pub(super) is_unknown: bool,
    pub(super) is_inactive: bool,
    /// Where it has a price: when that ends.
    pub(super) ends: Option<DateTime<Utc>>,
}

// As the price book resolves them (catalog/book.rs): an account's contract price goes first; one that was
// withdrawn leaves the list price in force. A pattern of an allowlist names no model.
macro_rules! prices_of_models_in_use {
    ($select:literal) => {
        concat!(
            "WITH used AS (
                 SELECT DISTINCT account_id, model_id
                 FROM usage_rollups
                 WHERE day >= (clock_timestamp() AT TIME ZONE 'UTC')::date - $1
             ), allowed AS (
                 SELECT DISTINCT account_id, pattern AS name
                 FROM api_keys
                 CROSS JOIN unnest(allowed_models) AS pattern
                 WHERE revoked_at IS NULL AND right(pattern, 1) <> '*'
                   AND (expires_at IS NULL OR expires_at > clock_timestamp())
             ), in_use AS (
                 SELECT account_id, model_id, name, active, bool_or(is_used) AS is_used
                 FROM (
                     SELECT account_id, model_id, name, active, true AS is_used
                     FROM used JOIN models USING (model_id)
                     UNION ALL
                     SELECT account_id, model_id, name, active, false
                     FROM allowed LEFT JOIN models USING (name)
                 ) AS either
                 GROUP BY account_id, model_id, name, active
             ), priced AS (
                 SELECT in_use.*, account.handle, account.currency,
                        coalesce(NOT contract.withdrawn, false) AS has_contract,
                        coalesce(NOT list.withdrawn, false) AS has_list,
                        (SELECT min(effective_from) FROM price_versions AS later
                         WHERE later.model_id = in_use.model_id AND later.currency = account.currency
                           AND later.account_id IS NULL AND later.discounted_from IS NULL
                           AND later.withdrawn AND later.effective_from > clock_timestamp()) AS list_ends
                 FROM in_use
                 JOIN accounts AS account USING (account_id)
                 LEFT JOIN LATERAL (
                     SELECT withdrawn FROM price_versions AS version
                     WHERE version.model_id = in_use.model_id AND version.currency = account.currency
                       AND version.account_id = in_use.account_id AND version.discounted_from IS NULL
                       AND version.effective_from <= clock_timestamp()
                     ORDER BY version.effective_from DESC LIMIT 1
                 ) AS contract ON true
                 LEFT JOIN LATERAL (
                     SELECT withdrawn FROM price_versions AS version
                     WHERE version.model_id = in_use.model_id AND version.currency = account.currency
                       AND version.account_id IS NULL AND version.discounted_from IS NULL
                       AND version.effective_from <= clock_timestamp()
                     ORDER BY version.effective_from DESC LIMIT 1
                 ) AS list ON true
                 WHERE account.status = 'active'
             ) ",
            $select
        )
    };
}

const UNPRICED: &str = prices_of_models_in_use!(
    "SELECT name AS model, currency, count(DISTINCT account_id) AS accounts, min(handle) AS account,
            bool_or(is_used) AS is_used, bool_or(model_id IS NULL) AS is_unknown,
            coalesce(bool_or(NOT active), false) AS is_inactive, min(ends) AS ends
     FROM (
         SELECT *, CASE WHEN active AND has_list AND NOT has_contract THEN list_ends END AS ends,
                coalesce(active, false) AND (has_contract OR has_list) AS is_priced
         FROM priced
     ) AS judged
     WHERE NOT is_priced OR ends < clock_timestamp() + make_interval(days => $2)
     GROUP BY name, currency, is_priced
     ORDER BY is_priced, is_used DESC, accounts DESC, name, currency"
);

pub(super) async fn unpriced(
    connection: &mut PgConnection,
    used_within_days: i32,
    ends_within_days: i32,
) -> sqlx::Result<Vec<Unpriced>> {
    sqlx::query_as(UNPRICED)
        .bind(used_within_days)
        .bind(ends_within_days)
        .fetch_all(connection)
        .await
}

const IN_USE: &str = prices_of_models_in_use!("SELECT count(DISTINCT name) FROM in_use");

/// How many models are in use.
pub(super) async fn models_in_use(
    connection: &mut PgConnection,
    used_within_days: i32,
) -> sqlx::Result<i64> {
    sqlx::query_scalar(IN_USE).bind(used_within_days).fetch_one(connection).await
}

#[derive(FromRow)]
pub(super) struct OpenMonths {
    pub(super) accounts: i64,
    pub(super) oldest: Option<NaiveDate>,
    pub(super) has_seller: bool,
}

/// Accounts with usage in a month that is over and open, up to this one. Usage belongs to the month of
/// its day while that is open; who used nothing has nothing to be closed for.
pub(super) async fn open_months(
    connection: &mut PgConnection,
    last_over: NaiveDate,
) -> sqlx::Result<OpenMonths> {
    sqlx::query_as(
        "SELECT count(DISTINCT account_id) AS accounts,
                min(date_trunc('month', day::timestamp))::date AS oldest,
                EXISTS (SELECT FROM seller_versions) AS has_seller
         FROM account_funds
         JOIN usage_rollups USING (account_id)
         WHERE open_period <= $1 AND day >= open_period
           AND day < ($1 + interval '1 month')::date",
    )
    .bind(last_over)
    .fetch_one(connection)
    .await
}

/// How long ago what is not done yet begins, in seconds; NULL before the first turn.
#[derive(FromRow)]
pub(super) struct Lags {
    pub(super) seals: Option<i64>,
    pub(super) rollups: Option<i64>,
}

pub(super) async fn lags(connection: &mut PgConnection) -> sqlx::Result<Lags> {
    sqlx::query_as(
        "SELECT (SELECT extract(epoch FROM clock_timestamp() - recorded_before)::bigint
                 FROM seal_watermark) AS seals,
                (SELECT extract(epoch FROM clock_timestamp() - recorded_before)::bigint
                 FROM usage_rollup_watermark WHERE isfinite(recorded_before)) AS rollups",
    )
    .fetch_one(connection)
    .await
}

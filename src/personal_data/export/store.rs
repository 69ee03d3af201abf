//! The SQL of an export: each kind of line, in the order of an export.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row as _};

use crate::personal_data::erasure::Subject;

/// One kind of line. Each statement takes the account, the end user or NULL, the place of the last line
/// or NULL, and how many lines; it answers lines with their places, in their order.
pub(super) struct Section {
    statement: &'static str,
}

/// All rows of a table of an account, but for some columns; not for one end user.
macro_rules! rows {
    ($kind:literal, $table:literal, $key:literal, $type:literal, $without:literal) => {
        Section {
            statement: concat!(
                "SELECT ",
                $key,
                "::text AS place,
                        ('{\"kind\": \"",
                $kind,
                "\"}'::jsonb
                         || (to_jsonb(stored) - '",
                $without,
                "'::text[]))::text AS line
                 FROM ",
                $table,
                " AS stored
                 WHERE account_id = $1 AND $2::text IS NULL
                   AND ($3::text IS NULL OR ",
                $key,
                " > $3::",
                $type,
                ")
                 ORDER BY ",
                $key,
                "
                 LIMIT $4"
            ),
        }
    };
}

const USAGE: Section = Section {
    statement: "
        SELECT event.event_id::text AS place,
               jsonb_build_object(
                   'kind', 'usage', 'event_id', event.event_id, 'request_id', event.request_id,
                   'key_id', event.key_id, 'model', model.name, 'occurred_at', event.occurred_at,
                   'recorded_at', event.recorded_at, 'provider', event.provider,
                   'region', event.region, 'served_model', event.served_model,
                   'fallback_from', event.fallback_from, 'latency_ms', event.latency_ms,
                   'outcome', event.outcome, 'cache_hit', event.cache_hit,
                   'charge', event.charge::text, 'input', event.input, 'output', event.output,
                   'cache_read', event.cache_read, 'cache_write', event.cache_write,
                   'reasoning', event.reasoning, 'audio_input', event.audio_input,
                   'audio_output', event.audio_output, 'images', event.images,
                   'end_user', details.end_user, 'labels', details.labels,
                   'dialect', details.dialect, 'provider_usage', details.provider_usage)::text
                   AS line
        FROM usage_events AS event
        JOIN models AS model USING (model_id)
        LEFT JOIN usage_details AS details
               ON details.account_id = event.account_id AND details.event_id = event.event_id
        WHERE event.account_id = $1
          AND ($2::text IS NULL OR details.end_user = $2)
          AND ($3::text IS NULL OR event.event_id > $3::uuid)
        ORDER BY event.event_id
        LIMIT $4",
};

const QUARANTINED: Section = Section {
    statement: "
        SELECT quarantine_id::text AS place,
               ('{\"kind\": \"quarantined_usage\"}'::jsonb || to_jsonb(stored))::text AS line
        FROM quarantined_usage AS stored
        WHERE account_id = $1 AND ($2::text IS NULL OR event ->> 'end_user' = $2)
          AND ($3::text IS NULL OR quarantine_id > $3::uuid)
        ORDER BY quarantine_id
        LIMIT $4",
};

const DOCUMENTS: Section = Section {
    statement: "
        SELECT document_id::text AS place,
               (jsonb_build_object('kind', 'document', 'number', number,
                                   'issue_date', issue_date, 'document', content::jsonb))::text
                   AS line
        FROM billing_documents
        WHERE account_id = $1 AND $2::text IS NULL
          AND ($3::text IS NULL OR document_id > $3::uuid)
        ORDER BY document_id
        LIMIT $4",
};

const AUDIT: Section = Section {
    statement: "
        SELECT audit_entry::text AS place,
               (jsonb_build_object(
                    'kind', 'audit_entry', 'number', audit_entry, 'recorded_at', recorded_at,
                    'actor', actor, 'peer', peer, 'request_id', request_id, 'rpc', rpc,
                    'result', code, 'reason', reason, 'erased_at', erased_at,
                    'changes', coalesce((
                        SELECT jsonb_agg(change ORDER BY place)
                        FROM jsonb_array_elements(changes) WITH ORDINALITY AS noted (change, place)
                        WHERE coalesce(nullif(change -> 'after', 'null'), change -> 'before')
                              ->> 'account_id' = $1::uuid::text), '[]'))
                || CASE WHEN cardinality(account_ids) = 1
                        THEN jsonb_build_object('target', target, 'request', request,
                                                'answer', answer)
                        ELSE '{}' END)::text AS line
        FROM audit_entries
        WHERE account_ids @> ARRAY[$1::uuid] AND $2::text IS NULL
          AND ($3::text IS NULL OR audit_entry > $3::bigint)
        ORDER BY audit_entry
        LIMIT $4",
};

/// In the order of an export. Stored answers to repeated calls are copies of what is here, and leases
/// and sums are no person's.
pub(super) const SECTIONS: [Section; 18] = [
    rows!("account", "accounts", "account_id", "uuid", "{}"),
    rows!("key", "api_keys", "key_id", "uuid", "{key_hash}"),
    rows!("budget", "budgets", "budget_id", "uuid", "{}"),
    USAGE,
    QUARANTINED,
    rows!("unsettled", "unsettled_authorizations", "authorization_id", "uuid", "{}"),
    rows!("payment", "payments", "payment_id", "uuid", "{}"),
    rows!("payment_return", "payment_returns", "return_id", "uuid", "{}"),
    rows!("refund", "refunds", "refund_id", "uuid", "{}"),
    rows!(
        "chargeback",
        "(SELECT *, chargeback_id::text || ' ' || stage AS place FROM chargebacks)",
        "place",
        "text",
        "{place}"
    ),
    rows!("promotional_grant", "promotional_grants", "grant_id", "uuid", "{}"),
    rows!("promotional_withdrawal", "promotional_withdrawals", "withdrawal_id", "uuid", "{}"),
    rows!("usage_reversal", "usage_reversals", "event_id", "uuid", "{}"),
    rows!("write_off", "write_offs", "write_off_id", "uuid", "{}"),
    rows!("reminder", "dunning_events", "dunning_event", "bigint", "{}"),
    rows!(
        "transfer",
        "(SELECT *, lpad(posting::text, 20, '0') || ' ' || lpad(line::text, 5, '0') AS place
          FROM transfers WHERE description <> '' OR cause_id IS NOT NULL)",
        "place",
        "text",
        "{place}"
    ),
    DOCUMENTS,
    AUDIT,
];

/// A line of an export and where it stands in its section.
pub(super) struct Line {
    pub(super) place: String,
    pub(super) text: String,
}

/// The next lines of a section.
pub(super) async fn lines(
    connection: &mut PgConnection,
    section: &Section,
    subject: &Subject,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Line>> {
    let rows = sqlx::query(section.statement)
        .bind(subject.account)
        .bind(subject.end_user.as_deref())
        .bind(after)
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| Ok(Line { place: row.try_get("place")?, text: row.try_get("line")? }))
        .collect()
}

/// Bounds the statements of this transaction, and answers the moment that it sees.
pub(super) async fn begin(
    connection: &mut PgConnection,
    timeout: &'static str,
) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query("SELECT set_config('statement_timeout', $1, true)")
        .bind(timeout)
        .execute(&mut *connection)
        .await?;
    sqlx::query_scalar("SELECT now()").fetch_one(connection).await
}

//! What is stored about an account, or one of its end users, as lines of JSON.
//!
//! Everything is read in one snapshot, section by section and page by page, so that years of usage are
//! never in memory at once. The first line says what it is and of when, the last how many lines came
//! before it: an export that was cut off can be told from a whole one. Of entries of the audit trail
//! that concern several accounts, only the rows of this one are given out.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{Postgres, Transaction};

use super::{erasure::Subject, error::PersonalDataError, store};
use crate::database::reports::ReportPool;

/// How long a statement may take: a page of one end user may lie behind years of others' usage.
const STATEMENT_LIMIT: &str = "60s";
/// Lines read at once: some hundred kilobytes, unless documents are large.
const PAGE: i64 = 500;
/// Of the form of the lines.
const VERSION: u32 = 1;

/// One kind of line. Each statement takes the account, the end user or NULL, the place of the last line
/// or NULL, and how many lines; it answers lines with their places, in their order.
struct Section {
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
const SECTIONS: [Section; 18] = [
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

/// An export that is being read.
#[derive(Debug)]
pub struct Export {
    snapshot: Transaction<'static, Postgres>,
    subject: Subject,
    next: Next,
    lines: u64,
}

#[derive(Debug)]
enum Next {
    Head(DateTime<Utc>),
    /// The section, and the place of its last line.
    Section(usize, Option<String>),
    End,
}

impl Export {
    /// Begins to read.
    ///
    /// # Errors
    /// The database failed, or too many reports are being read.
    pub async fn open(reports: &ReportPool, subject: Subject) -> Result<Self, PersonalDataError> {
        let mut snapshot = reports.snapshot().await?;
        let moment = store::begin_export(&mut snapshot, STATEMENT_LIMIT).await?;
        Ok(Self { snapshot, subject, next: Next::Head(moment), lines: 0 })
    }

    /// The next lines; `None` after the last.
    ///
    /// # Errors
    /// The database failed or took too long.
    pub async fn piece(&mut self) -> Result<Option<String>, PersonalDataError> {
        loop {
            match std::mem::replace(&mut self.next, Next::End) {
                Next::End => return Ok(None),
                Next::Head(moment) => {
                    self.next = Next::Section(0, None);
                    self.lines = 1;
                    let head = json!({
                        "kind": "export",
                        "version": VERSION,
                        "account_id": self.subject.account,
                        "end_user": self.subject.end_user,
                        "exported_at": moment,
                    });
                    return Ok(Some(format!("{head}\n")));
                }
                Next::Section(number, after) => {
                    let Some(section) = SECTIONS.get(number) else {
                        let end = json!({ "kind": "end", "lines_before": self.lines });
                        return Ok(Some(format!("{end}\n")));
                    };
                    if let Some(text) = self.page(section, number, after.as_deref()).await? {
                        return Ok(Some(text));
                    }
                }
            }
        }
    }

    /// The next page of a section; `None` where it has no more.
    async fn page(
        &mut self,
        section: &Section,
        number: usize,
        after: Option<&str>,
    ) -> Result<Option<String>, PersonalDataError> {
        let subject = self.subject.clone();
        let found =
            store::lines(&mut self.snapshot, section.statement, &subject, after, PAGE).await?;
        let Some(last) = found.last() else {
            self.next = Next::Section(number.saturating_add(1), None);
            return Ok(None);
        };
        self.next = Next::Section(number, Some(last.place.clone()));
        let mut text = String::new();
        for line in &found {
            text.push_str(&line.text);
            text.push('\n');
            self.lines = self.lines.saturating_add(1);
        }
        Ok(Some(text))
    }
}

//! The checks that are one statement each. Every statement takes the account, or NULL for all, and
//! how many findings to show; it answers how many rows it examined, how many do not agree, and the
//! first of those in words.

use super::{SqlCheck, billing_store as billing};

/// All but [`TRANSFERS_FOLLOW_THE_CHART`], which takes the chart as well.
pub(in crate::ledger::verify) const ALL: &[SqlCheck] = &[
    BALANCES_EQUAL_TRANSFERS,
    POSTINGS_WITHOUT_GAPS,
    EVENTS_SUM_TO_POSTINGS,
    SOURCES_BURN_IN_ORDER,
    CAUSES_EQUAL_TRANSFERS,
    REVERSALS_EQUAL_CHARGES,
    ONE_CURRENCY,
    LEASES_EQUAL_LEASED,
    BUDGETS_EQUAL_EVENTS,
    FUNDS_FOLLOW_CONTRACT,
    EVENTS_REFER_TO_WHAT_EXISTS,
    EVENTS_KEEP_THEIR_RULES,
    EVENTS_IN_THEIR_PARTITION,
    ROLLUPS_EQUAL_EVENTS,
    APPEND_ONLY_GUARDS,
    TENANT_ISOLATION,
    billing::CLOSED_PERIODS_CLEAR,
    billing::NUMBERS_WITHOUT_GAPS,
    billing::DOCUMENTS_EQUAL_TRANSFERS,
    billing::DOCUMENTS_ADD_UP,
    billing::RECEIVABLE_EQUALS_OPEN,
    billing::SETTLEMENTS_EQUAL_TRANSFERS,
    billing::CREDITS_WITHIN_INVOICES,
    billing::COSTS_RECOMPUTE,
    billing::TAX_GIVEN_BACK,
    billing::TAX_DOCUMENTS_EQUAL_2100,
];

const BALANCES_EQUAL_TRANSFERS: SqlCheck = check!(
    "balances_equal_transfers",
    "each balance of an account is the sum of its transfers",
    examined: "SELECT count(*) FROM transfers WHERE $1::uuid IS NULL OR account_id = $1",
    bad: "
        SELECT format('account %s: %s is %s, and its transfers sum to %s', account_id, balance.name,
                      coalesce(trim_scale(balance.held)::text, 'missing'),
                      trim_scale(coalesce(balance.folded, 0))) AS finding
        FROM (
            SELECT account_id,
                   sum(entry.credited - entry.debited) FILTER (WHERE code = '2010') AS promotional,
                   sum(entry.credited - entry.debited) FILTER (WHERE code = '2000') AS credits,
                   sum(entry.debited - entry.credited) FILTER (WHERE code = '1150') AS overdrawn,
                   sum(entry.debited - entry.credited) FILTER (WHERE code = '1100') AS unbilled,
                   sum(entry.debited - entry.credited) FILTER (WHERE code = '1200') AS receivable,
                   sum(entry.credited - entry.debited) FILTER (WHERE code = '2050') AS unapplied
            FROM transfers
            CROSS JOIN LATERAL (VALUES (left(debit, 4), amount, 0), (left(credit, 4), 0, amount))
                       AS entry (code, debited, credited)
            WHERE $1::uuid IS NULL OR account_id = $1
            GROUP BY account_id
        ) AS folded
        FULL JOIN (SELECT * FROM account_funds WHERE $1::uuid IS NULL OR account_id = $1) AS funds
             USING (account_id)
        CROSS JOIN LATERAL (VALUES
            ('promotional (2010)', funds.promotional, folded.promotional),
            ('credits (2000)', funds.credits, folded.credits),
            ('overdrawn (1150)', funds.overdrawn, folded.overdrawn),
            ('unbilled (1100)', funds.unbilled, folded.unbilled),
            ('receivable (1200)', funds.receivable, folded.receivable),
            ('unapplied (2050)', funds.unapplied, folded.unapplied)
        ) AS balance (name, held, folded)
        WHERE balance.held IS DISTINCT FROM coalesce(balance.folded, 0)",
);

// The account's next number closes the row of numbers, so that a posting missing at the end shows.
const POSTINGS_WITHOUT_GAPS: SqlCheck = check!(
    "postings_without_gaps",
    "an account's postings are numbered from 1 to its last without gaps",
    examined: "
        SELECT count(*) FROM (SELECT DISTINCT account_id, posting FROM transfers
                              WHERE $1::uuid IS NULL OR account_id = $1) AS postings",
    bad: "
        SELECT CASE WHEN number.posting - number.before > 1
                    THEN format('account %s: postings %s to %s are missing', account_id,
                                number.before + 1, number.posting - 1)
                    ELSE format('account %s: posting %s is beyond the last, %s', account_id,
                                number.posting, funds.posting) END AS finding
        FROM (
            SELECT account_id, posting,
                   lag(posting, 1, 0) OVER (PARTITION BY account_id ORDER BY posting) AS before
            FROM (
                SELECT account_id, posting FROM transfers
                WHERE $1::uuid IS NULL OR account_id = $1
                UNION
                SELECT account_id, posting + 1 FROM account_funds
                WHERE $1::uuid IS NULL OR account_id = $1
            ) AS used
        ) AS number
        JOIN account_funds AS funds USING (account_id)
        WHERE number.posting - number.before > 1 OR number.posting > funds.posting + 1
           OR (number.posting = funds.posting + 1
               AND EXISTS (SELECT FROM transfers
                           WHERE transfers.account_id = number.account_id
                             AND transfers.posting = number.posting))",
);

const EVENTS_SUM_TO_POSTINGS: SqlCheck = check!(
    "events_sum_to_postings",
    "the charges of a posting's events sum to its transfers, in the same billing period",
    examined: "
        SELECT count(*) FROM usage_events WHERE posting > 0 AND ($1::uuid IS NULL OR account_id = $1)",
    bad: "
        SELECT format('account %s, posting %s: events of %s to %s sum to %s, transfers of %s to %s',
                      account_id, posting, coalesce(events.first_period::text, 'none'),
                      coalesce(events.last_period::text, 'none'),
                      trim_scale(coalesce(events.charged, 0)),
                      coalesce(moved.first_period::text, 'none'),
                      trim_scale(coalesce(moved.amount, 0))) AS finding
        FROM (
            SELECT account_id, posting, sum(charge) AS charged,
                   min(period) AS first_period, max(period) AS last_period
            FROM usage_events
            WHERE posting > 0 AND ($1::uuid IS NULL OR account_id = $1)
            GROUP BY account_id, posting
        ) AS events
        FULL JOIN (
            SELECT account_id, posting, sum(amount) AS amount,
                   min(period) AS first_period, max(period) AS last_period
            FROM transfers
            WHERE starts_with(kind, 'usage_') AND ($1::uuid IS NULL OR account_id = $1)
            GROUP BY account_id, posting
        ) AS moved USING (account_id, posting)
        WHERE (events.charged, events.first_period, events.last_period)
              IS DISTINCT FROM (moved.amount, moved.first_period, moved.last_period)",
);

// Balances after each posting, by folding the postings in order.
const SOURCES_BURN_IN_ORDER: SqlCheck = check!(
    "sources_burn_in_order",
    "no balance was ever negative, credits were never beside an overdraft, and usage took a source \
     only when the one before it was used up",
    examined: "
        SELECT count(*) FROM (SELECT DISTINCT account_id, posting FROM transfers
                              WHERE $1::uuid IS NULL OR account_id = $1) AS postings",
    bad: "
        SELECT format('account %s, posting %s: after it promotional is %s, credits %s, overdrawn %s, '
                      'unbilled %s, with usage from %s', account_id, posting,
                      trim_scale(promotional), trim_scale(credits), trim_scale(overdrawn),
                      trim_scale(unbilled), coalesce(array_to_string(kinds, ' and '), 'no source'))
               AS finding
        FROM (
            SELECT account_id, posting, kinds, usage_lines,
                   sum(promotional) OVER so_far AS promotional,
                   sum(credits) OVER so_far AS credits,
                   sum(overdrawn) OVER so_far AS overdrawn,
                   sum(unbilled) OVER so_far AS unbilled
            FROM (
                SELECT account_id, posting,
                       array_agg(DISTINCT kind) FILTER (WHERE starts_with(kind, 'usage_')) AS kinds,
                       count(*) FILTER (WHERE starts_with(kind, 'usage_')) AS usage_lines,
                       sum(CASE '2010' WHEN left(credit, 4) THEN amount WHEN left(debit, 4) THEN -amount
                           ELSE 0 END) AS promotional,
                       sum(CASE '2000' WHEN left(credit, 4) THEN amount WHEN left(debit, 4) THEN -amount
                           ELSE 0 END) AS credits,
                       sum(CASE '1150' WHEN left(debit, 4) THEN amount WHEN left(credit, 4) THEN -amount
                           ELSE 0 END) AS overdrawn,
                       sum(CASE '1100' WHEN left(debit, 4) THEN amount WHEN left(credit, 4) THEN -amount
                           ELSE 0 END) AS unbilled
                FROM transfers
                WHERE $1::uuid IS NULL OR account_id = $1
                GROUP BY account_id, posting
            ) AS moved
            WINDOW so_far AS (PARTITION BY account_id ORDER BY posting)
        ) AS after
        WHERE promotional < 0 OR credits < 0 OR overdrawn < 0 OR unbilled < 0
           OR (credits > 0 AND overdrawn > 0)
           OR (promotional > 0 AND kinds && '{usage_credits,usage_unbilled,usage_overdrawn}')
           OR (credits > 0 AND kinds && '{usage_unbilled,usage_overdrawn}')
           OR kinds @> '{usage_unbilled,usage_overdrawn}'
           OR usage_lines <> cardinality(kinds)",
);

// Nothing posts the rest of a closing account yet: such a transfer is without a record whatever it
// says. The tax of a refund is what its credit notes say.
const CAUSES_EQUAL_TRANSFERS: SqlCheck = check!(
    "causes_equal_transfers",
    "each payment, grant, withdrawal, refund, chargeback and reversal has exactly its transfers, and \
     no such transfer is without one",
    examined: "
        SELECT (SELECT count(*) FROM payments WHERE $1::uuid IS NULL OR account_id = $1)
             + (SELECT count(*) FROM promotional_grants WHERE $1::uuid IS NULL OR account_id = $1)
             + (SELECT count(*) FROM promotional_withdrawals WHERE $1::uuid IS NULL OR account_id = $1)
             + (SELECT count(*) FROM refunds WHERE $1::uuid IS NULL OR account_id = $1)
             + (SELECT count(*) FROM chargebacks WHERE $1::uuid IS NULL OR account_id = $1)
             + (SELECT count(*) FROM usage_reversals WHERE $1::uuid IS NULL OR account_id = $1)",
    bad: "
        SELECT format('account %s, posting %s: %s of %s from %s to %s %s', account_id, posting, kind,
                      trim_scale(amount), debit, credit,
                      CASE WHEN moved.found THEN 'has no record ' ELSE 'has no transfer, for ' END
                      || coalesce(cause_id::text, 'without a cause')) AS finding
        FROM (
            SELECT account_id, posting, payment_id AS cause_id, part.kind,
                   '1000.' || method AS debit, part.credit, part.amount, true AS found
            FROM payments
            CROSS JOIN LATERAL (VALUES ('top_up', '2000', payments.amount - tax),
                                       ('top_up_tax', tax_code, tax))
                       AS part (kind, credit, amount)
            WHERE part.amount > 0 AND purpose = 'top_up'
            UNION ALL
            SELECT account_id, posting, grant_id, 'promotional_grant', '1910', '2010', amount, true
            FROM promotional_grants
            UNION ALL
            SELECT account_id, posting, withdrawal_id, 'promotional_withdrawal', '2010', '1910',
                   amount, true
            FROM promotional_withdrawals
            UNION ALL
            SELECT account_id, posting, refund_id, 'refund', '2000', '1000.' || method, amount, true
            FROM refunds
            UNION ALL
            SELECT refunds.account_id, refunds.posting, refund_id, 'refund_tax',
                   prepayment_standings.tax_code, '1000.' || method, sum(note.tax), true
            FROM refunds
            JOIN credit_notes ON cause_id = refund_id
            JOIN billing_documents AS note ON note.document_id = credit_notes.document_id
            JOIN prepayment_standings ON prepayment_standings.document_id = invoice_id
            WHERE note.tax > 0
            GROUP BY 1, 2, 3, 5, 6
            UNION ALL
            SELECT step.account_id, step.posting, chargeback_id, part.kind, part.debit, part.credit,
                   part.amount, true
            FROM chargebacks AS step
            LEFT JOIN payments AS payment USING (payment_id)
            CROSS JOIN LATERAL (VALUES
                ('opened', 'chargeback_unspent', '2000', '1000.' || payment.method, step.unspent),
                ('opened', 'chargeback_spent', '1250', '1000.' || payment.method, step.spent),
                ('won', 'chargeback_won', '1000.' || payment.method, '2000', step.unspent),
                ('won', 'chargeback_won', '1000.' || payment.method, '1250', step.spent),
                ('lost', 'chargeback_lost', payment.tax_code, '1250', step.tax),
                ('lost', 'chargeback_lost', '5100', '1250', step.spent - step.tax)
            ) AS part (stage, kind, debit, credit, amount)
            WHERE part.stage = step.stage AND part.amount > 0
            UNION ALL
            SELECT account_id, posting, event_id, 'reversal', '4000', part.credit, part.amount, true
            FROM usage_reversals
            CROSS JOIN LATERAL (VALUES
                ('2010', to_promotional), ('2000', to_credits), ('1100', to_unbilled),
                ('1150', to_overdrawn)
            ) AS part (credit, amount)
            WHERE part.amount > 0
        ) AS cause
        FULL JOIN (
            SELECT account_id, posting, cause_id, kind, debit, credit, amount, true AS found
            FROM transfers
            WHERE kind = ANY ('{top_up,promotional_grant,promotional_withdrawal,refund,
                                chargeback_unspent,chargeback_spent,chargeback_won,chargeback_lost,
                                reversal,top_up_tax,refund_tax}')
        ) AS moved USING (account_id, posting, cause_id, kind, debit, credit, amount)
        WHERE (cause.found IS NULL OR moved.found IS NULL)
          AND ($1::uuid IS NULL OR account_id = $1)
        UNION ALL
        SELECT format('account %s, posting %s: gave up %s, and is %s', account_id, posting,
                      trim_scale(amount), accounts.status)
        FROM transfers
        JOIN accounts USING (account_id)
        WHERE kind = 'account_closing' AND (amount >= 1 OR accounts.status <> 'closed')
          AND ($1::uuid IS NULL OR account_id = $1)",
);

const REVERSALS_EQUAL_CHARGES: SqlCheck = check!(
    "reversals_equal_charges",
    "each reversal gives back what its event was charged",
    examined: "SELECT count(*) FROM usage_reversals WHERE $1::uuid IS NULL OR account_id = $1",
    bad: "
        SELECT format('account %s: event %s was charged %s, and its reversal gave back %s', account_id,
                      event_id, coalesce(trim_scale(event.charge)::text, 'nothing'),
                      trim_scale(to_promotional + to_credits + to_unbilled + to_overdrawn)) AS finding
        FROM usage_reversals
        LEFT JOIN usage_events AS event USING (account_id, event_id)
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND event.charge IS DISTINCT FROM
              to_promotional + to_credits + to_unbilled + to_overdrawn",
);

const ONE_CURRENCY: SqlCheck = check!(
    "one_currency",
    "every transfer but of our own cost, and every price that charged an event, is in the account's \
     currency",
    examined: "
        SELECT (SELECT count(*) FROM transfers WHERE $1::uuid IS NULL OR account_id = $1)
             + (SELECT count(*) FROM usage_events WHERE $1::uuid IS NULL OR account_id = $1)",
    bad: "
        SELECT format('account %s, posting %s, line %s: in %s, and the account is in %s', account_id,
                      transfers.posting, line, transfers.currency, accounts.currency) AS finding
        FROM transfers
        JOIN accounts USING (account_id)
        WHERE transfers.currency <> accounts.currency AND kind <> 'provider_cost'
          AND ($1::uuid IS NULL OR account_id = $1)
        UNION ALL
        SELECT format('account %s: event %s is priced in %s, and the account is in %s',
                      event.account_id, event_id, price.currency, accounts.currency)
        FROM usage_events AS event
        JOIN price_versions AS price USING (price_version)
        JOIN accounts ON accounts.account_id = event.account_id
        WHERE price.currency <> accounts.currency
          AND ($1::uuid IS NULL OR event.account_id = $1)",
);

const LEASES_EQUAL_LEASED: SqlCheck = check!(
    "leases_equal_leased",
    "what an account has leased is the sum of its leases",
    examined: "SELECT count(*) FROM account_funds WHERE $1::uuid IS NULL OR account_id = $1",
    bad: "
        SELECT format('account %s: leased is %s, and its leases sum to %s', account_id,
                      coalesce(trim_scale(funds.leased)::text, 'missing'),
                      trim_scale(coalesce(held.amount, 0))) AS finding
        FROM account_funds AS funds
        FULL JOIN (SELECT account_id, sum(amount) AS amount FROM leases
                   WHERE budget_id = '00000000-0000-0000-0000-000000000000'
                   GROUP BY account_id) AS held USING (account_id)
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND funds.leased IS DISTINCT FROM coalesce(held.amount, 0)",
);

const BUDGETS_EQUAL_EVENTS: SqlCheck = check!(
    "budgets_equal_events",
    "what is spent of a budget in a period is the charges of the events that name it and were not \
     reversed, and what is leased of it is the sum of its leases",
    examined: "SELECT count(*) FROM budget_periods WHERE $1::uuid IS NULL OR account_id = $1",
    bad: "
        SELECT format('account %s, budget %s from %s: spent %s and leased %s, and its events sum to '
                      '%s and its leases to %s', account_id, budget_id, period_start,
                      coalesce(trim_scale(kept.spent)::text, 'missing'),
                      coalesce(trim_scale(kept.leased)::text, 'missing'),
                      trim_scale(coalesce(events.charged, 0)),
                      trim_scale(coalesce(held.amount, 0))) AS finding
        FROM budget_periods AS kept
        FULL JOIN (SELECT event.account_id, charged.budget AS budget_id,
                          charged.start AS period_start, sum(event.charge) AS charged
                   FROM usage_events AS event
                   CROSS JOIN LATERAL unnest(event.budgets, event.budget_starts)
                                      AS charged (budget, start)
                   WHERE event.charge > 0
                     AND NOT EXISTS (SELECT FROM usage_reversals AS back
                                     WHERE back.account_id = event.account_id
                                       AND back.event_id = event.event_id)
                   GROUP BY 1, 2, 3) AS events USING (account_id, budget_id, period_start)
        FULL JOIN (SELECT account_id, budget_id, period_start, sum(amount) AS amount FROM leases
                   WHERE budget_id <> '00000000-0000-0000-0000-000000000000'
                   GROUP BY 1, 2, 3) AS held USING (account_id, budget_id, period_start)
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND (kept.spent IS DISTINCT FROM coalesce(events.charged, 0)
               OR kept.leased IS DISTINCT FROM coalesce(held.amount, 0))",
);

// A closed account keeps its contract, but nothing can accrue to it.
const FUNDS_FOLLOW_CONTRACT: SqlCheck = check!(
    "funds_follow_contract",
    "every account has funds, with the currency, terms, credit limit and tax rate of its contract",
    examined: "SELECT count(*) FROM accounts WHERE $1::uuid IS NULL OR account_id = $1",
    bad: "
        SELECT format('account %s: its funds (%s, net_30 %s, limit %s, tax %s) are not of its contract',
                      account_id, coalesce(funds.currency, 'missing'), funds.net_30,
                      trim_scale(funds.credit_limit), trim_scale(funds.tax_rate)) AS finding
        FROM accounts
        LEFT JOIN account_funds AS funds USING (account_id)
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND (funds.currency IS DISTINCT FROM accounts.currency
               OR (status <> 'closed'
                   AND (funds.net_30, funds.credit_limit, funds.tax_rate) IS DISTINCT FROM
                       (payment_terms = 'net_30', accounts.credit_limit, tax_rate_percent / 100)))",
);

// There are no foreign keys between hot tables; this is what they would say.
const EVENTS_REFER_TO_WHAT_EXISTS: SqlCheck = check!(
    "events_refer_to_what_exists",
    "every event's account, key, model and price version exist and belong together",
    examined: "SELECT count(*) FROM usage_events WHERE $1::uuid IS NULL OR account_id = $1",
    bad: "
        SELECT format('account %s: event %s names %s', event.account_id, event_id,
                      CASE WHEN funds.account_id IS NULL THEN 'an account without funds'
                           WHEN key.key_id IS NULL THEN 'key ' || event.key_id || ', not its own'
                           WHEN model.model_id IS NULL THEN 'an unknown model, ' || event.model_id
                           ELSE 'price version ' || event.price_version
                                || ', which is not for this model and account' END) AS finding
        FROM usage_events AS event
        LEFT JOIN account_funds AS funds ON funds.account_id = event.account_id
        LEFT JOIN api_keys AS key ON key.key_id = event.key_id AND key.account_id = event.account_id
        LEFT JOIN models AS model ON model.model_id = event.model_id
        LEFT JOIN price_versions AS price
               ON price.price_version = event.price_version AND price.model_id = event.model_id
              AND coalesce(price.account_id, event.account_id) = event.account_id
        WHERE ($1::uuid IS NULL OR event.account_id = $1)
          AND (funds.account_id IS NULL OR key.key_id IS NULL OR model.model_id IS NULL
               OR price.price_version IS NULL)",
);

// Which of the two an overrun is depends on when the database took the event, which it does not keep
// in full: the deadline is in the authorization's token.
const EVENTS_KEEP_THEIR_RULES: SqlCheck = check!(
    "events_keep_their_rules",
    "every event is billed in the month it occurred in or a later one, and its overrun is all of its \
     charge or what went beyond its authorization",
    examined: "SELECT count(*) FROM usage_events WHERE $1::uuid IS NULL OR account_id = $1",
    bad: "
        SELECT format('account %s: event %s of %s is billed in %s, with %s of %s authorized and an '
                      'overrun of %s', account_id, event_id,
                      (occurred_at AT TIME ZONE 'UTC')::date, period, trim_scale(authorized),
                      trim_scale(charge), trim_scale(overrun)) AS finding
        FROM usage_events
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND (period < date_trunc('month', occurred_at AT TIME ZONE 'UTC')::date
               OR overrun NOT IN (charge, greatest(0, charge - authorized)))",
);

const EVENTS_IN_THEIR_PARTITION: SqlCheck = check!(
    "events_in_their_partition",
    "every event is in the partition whose range holds its id",
    examined: "SELECT count(*) FROM usage_events WHERE $1::uuid IS NULL OR account_id = $1",
    bad: "
        -- Materialized, so that the bounds are read once for each partition and not for each event.
        WITH range AS MATERIALIZED (
            SELECT oid, regexp_match(pg_get_expr(relpartbound, oid),
                                     'FROM [(]''(.*)''[)] TO [(]''(.*)''[)]')::uuid[] AS bounds
            FROM pg_class
            WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'usage_events'::regclass)
        )
        SELECT format('account %s: event %s is in %s, which ranges from %s to %s', account_id,
                      event_id, partition::regclass, range.bounds[1], range.bounds[2]) AS finding
        -- OFFSET keeps the comparison out of the scan, which would prune the very partitions whose
        -- range cannot hold what is looked for.
        FROM (SELECT account_id, event_id, tableoid AS partition
              FROM usage_events
              WHERE $1::uuid IS NULL OR account_id = $1
              OFFSET 0) AS event
        JOIN range ON range.oid = event.partition
        WHERE event_id < range.bounds[1] OR event_id >= range.bounds[2]",
);

// The first column that differs stands for all that do: they differ together.
const ROLLUPS_EQUAL_EVENTS: SqlCheck = check!(
    "rollups_equal_events",
    "each daily sum of usage is the sum of the events recorded before the watermark",
    examined: "SELECT count(*) FROM usage_rollups WHERE $1::uuid IS NULL OR account_id = $1",
    bad: r#"
        SELECT format('account %s, %s, key %s, model %s: %s is %s in the rollup and %s by the events',
                      account_id, day, key_id, model_id, differing.name,
                      coalesce(differing.kept, 'missing'), coalesce(differing.summed, 'missing'))
               AS finding
        FROM (SELECT * FROM usage_rollups WHERE $1::uuid IS NULL OR account_id = $1) AS kept
        FULL JOIN (
            SELECT account_id, (occurred_at AT TIME ZONE 'UTC')::date AS day, key_id, model_id,
                   count(*) AS requests, sum(input) AS input, sum(output) AS output,
                   sum(cache_read) AS cache_read, sum(cache_write) AS cache_write,
                   sum(reasoning) AS reasoning, sum(audio_input) AS audio_input,
                   sum(audio_output) AS audio_output, sum(images) AS images, sum(charge) AS charge,
                   sum(overrun) AS overrun, sum(saving) AS saving,
                   min(occurred_at) AS first_occurred, max(occurred_at) AS last_occurred,
                   min(event_id::text COLLATE "C") AS first_event,
                   max(event_id::text COLLATE "C") AS last_event
            FROM usage_events
            WHERE ($1::uuid IS NULL OR account_id = $1)
              AND recorded_at < (SELECT recorded_before FROM usage_rollup_watermark)
            GROUP BY 1, 2, 3, 4
        ) AS summed USING (account_id, day, key_id, model_id)
        CROSS JOIN LATERAL (
            SELECT name, value.kept, value.summed
            FROM (VALUES
                (1, 'requests', kept.requests::text, summed.requests::text),
                (2, 'charge', trim_scale(kept.charge)::text, trim_scale(summed.charge)::text),
                (3, 'overrun', trim_scale(kept.overrun)::text, trim_scale(summed.overrun)::text),
                (4, 'saving', trim_scale(kept.saving)::text, trim_scale(summed.saving)::text),
                (5, 'input', kept.input::text, summed.input::text),
                (6, 'output', kept.output::text, summed.output::text),
                (7, 'cache_read', kept.cache_read::text, summed.cache_read::text),
                (8, 'cache_write', kept.cache_write::text, summed.cache_write::text),
                (9, 'reasoning', kept.reasoning::text, summed.reasoning::text),
                (10, 'audio_input', kept.audio_input::text, summed.audio_input::text),
                (11, 'audio_output', kept.audio_output::text, summed.audio_output::text),
                (12, 'images', kept.images::text, summed.images::text),
                (13, 'first_occurred', kept.first_occurred::text, summed.first_occurred::text),
                (14, 'last_occurred', kept.last_occurred::text, summed.last_occurred::text),
                (15, 'first_event', kept.first_event::text, summed.first_event),
                (16, 'last_event', kept.last_event::text, summed.last_event)
            ) AS value (place, name, kept, summed)
            WHERE value.kept IS DISTINCT FROM value.summed
            ORDER BY place
            LIMIT 1
        ) AS differing"#,
);

// An entry of the audit trail can lose what is personal in it and change in no other way.
//
// Of a trigger's type, bit 1 is before, bit 0 for each row; bits 3, 4 and 5 delete, update and
// truncate. A partition can be truncated by itself, so that it needs a guard of its own.
const APPEND_ONLY_GUARDS: SqlCheck = check!(
    "append_only_guards",
    "the database refuses to update, delete or truncate what is append-only, on every partition",
    examined: "
        SELECT count(*) FROM pg_trigger
        WHERE tgfoid = 'refuse_change'::regproc AND $1::uuid IS NOT DISTINCT FROM $1",
    bad: "
        SELECT format('table %s can be changed: no trigger refuses %s', tables.name, change.name)
               AS finding
        FROM (
            SELECT oid, oid::regclass::text AS name
            FROM unnest('{transfers,usage_events,usage_reversals,payments,promotional_grants,
                          promotional_withdrawals,refunds,chargebacks,price_versions,
                          price_tiers,seller_versions,tax_rates,billing_documents,
                          closed_periods,payment_returns,credit_notes,write_offs,audit_entries,
                          settlements,dunning_events,seals}'::regclass[]) AS oid
            UNION ALL
            SELECT inhrelid, inhrelid::regclass::text
            FROM pg_inherits
            WHERE inhparent = 'usage_events'::regclass
        ) AS tables
        CROSS JOIN (VALUES ('UPDATE', 16), ('DELETE', 8), ('TRUNCATE', 32)) AS change (name, bit)
        WHERE NOT EXISTS (
            SELECT FROM pg_trigger
            WHERE tgrelid = tables.oid
              AND tgfoid = CASE WHEN tables.name = 'audit_entries' AND change.name = 'UPDATE'
                                THEN 'refuse_all_but_erasure'::regproc
                                ELSE 'refuse_change'::regproc END
              AND tgenabled IN ('O', 'A') AND tgqual IS NULL
              AND tgtype & 2 <> 0 AND tgtype & change.bit <> 0)",
);

// What a policy says is compared with what it must say, word for word: an `OR` would open it. Without a
// role of that name, as after a restore elsewhere, nothing is readable and that is told.
const TENANT_ISOLATION: SqlCheck = check!(
    "tenant_isolation",
    "the tenants' role reads what belongs to one account or to none, and can do nothing else",
    examined: "
        SELECT count(*) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
          AND has_any_column_privilege(to_regrole('tollgate_tenant')::oid, oid, 'SELECT')
          AND $1::uuid IS NOT DISTINCT FROM $1",
    bad: "
        WITH relations AS (
            SELECT oid, relname, relkind, relrowsecurity, relispartition, reloptions
            FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
        )
        SELECT format('%s shows a tenant the rows of every account', relname) AS finding
        FROM relations
        WHERE has_any_column_privilege(to_regrole('tollgate_tenant')::oid, oid, 'SELECT')
          -- These belong to no account.
          AND relname <> ALL ('{billing_runs,ledger_accounts,models,seller_versions,tax_rates,
                                usage_rollup_watermark}')
          AND CASE relkind
              WHEN 'v' THEN NOT coalesce('security_invoker=true' = ANY (reloptions), false)
              ELSE NOT relrowsecurity OR relispartition
              END
        UNION ALL
        SELECT format('%s: policy %s shows a tenant the rows of every account', relname, polname)
        FROM relations
        JOIN pg_policy ON polrelid = relations.oid AND polpermissive
        WHERE polroles && ARRAY[0, to_regrole('tollgate_tenant')::oid]
          AND regexp_replace(pg_get_expr(polqual, polrelid), '\\s+', ' ', 'g') <> ALL (ARRAY[
              '(account_id = tenant_account())',
              '((account_id = tenant_account()) AND (kind <> ''provider_cost''::text))',
              '((account_id IS NULL) OR (account_id = tenant_account()))',
              '(EXISTS ( SELECT FROM price_versions WHERE (price_versions.price_version = '
                  'price_tiers.price_version)))',
              '(EXISTS ( SELECT FROM billing_documents WHERE (billing_documents.document_id = '
                  'credit_notes.document_id)))'])
        UNION ALL
        SELECT format('%s: a tenant''s read may %s', relname, privilege)
        FROM relations
        CROSS JOIN unnest('{INSERT,UPDATE,DELETE,TRUNCATE}'::text[]) AS privilege
        WHERE has_table_privilege(to_regrole('tollgate_tenant')::oid, oid, privilege)
        UNION ALL
        SELECT 'the role tollgate_tenant passes row-level security by'
        FROM pg_roles
        WHERE rolname = 'tollgate_tenant' AND (rolbypassrls OR rolsuper)
        UNION ALL
        SELECT 'there is no role tollgate_tenant: no tenant can read'
        WHERE to_regrole('tollgate_tenant') IS NULL",
);

/// Takes the routes of every kind of transfer: their kinds, debit lines and credit lines.
pub(in crate::ledger::verify) const TRANSFERS_FOLLOW_THE_CHART: SqlCheck = check!(
    "transfers_follow_the_chart",
    "every transfer moves money between lines of the chart, as its kind may",
    examined: "SELECT count(*) FROM transfers WHERE $1::uuid IS NULL OR account_id = $1",
    bad: "
        SELECT format('account %s, posting %s, line %s: %s from %s to %s', account_id, posting, line,
                      kind, debit, credit) AS finding
        FROM transfers
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND NOT (
              EXISTS (SELECT FROM unnest($3::text[], $4::text[], $5::text[])
                                  AS route (kind, debit, credit)
                      WHERE route.kind = transfers.kind AND route.debit = left(transfers.debit, 4)
                        AND route.credit = left(transfers.credit, 4))
              AND EXISTS (SELECT FROM ledger_accounts WHERE code = left(debit, 4))
              AND EXISTS (SELECT FROM ledger_accounts WHERE code = left(credit, 4)))",
);

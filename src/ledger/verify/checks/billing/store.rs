//! The checks of closed periods and frozen documents. That a document's lines follow from its events
//! is computed in Rust, beside these.

use super::SqlCheck;

pub(super) const CLOSED_PERIODS_CLEAR: SqlCheck = check!(
    "closed_periods_clear",
    "the unbilled receivable of every closed period is exactly zero",
    examined: "SELECT count(*) FROM closed_periods WHERE $1::uuid IS NULL OR account_id = $1",
    bad: "
        SELECT format('account %s: 1100 of %s, which is closed, is %s', account_id, month.period,
                      trim_scale(month.left_over)) AS finding
        FROM (
            SELECT account_id, period,
                   sum(CASE WHEN left(debit, 4) = '1100' THEN amount ELSE -amount END) AS left_over
            FROM transfers
            WHERE ($1::uuid IS NULL OR account_id = $1)
              AND '1100' IN (left(debit, 4), left(credit, 4))
            GROUP BY account_id, period
        ) AS month
        JOIN account_funds USING (account_id)
        WHERE month.period < open_period AND month.left_over <> 0
        UNION ALL
        SELECT format('account %s: %s is closed and not before the open period, %s', account_id,
                      period, open_period)
        FROM closed_periods
        JOIN account_funds USING (account_id)
        WHERE ($1::uuid IS NULL OR account_id = $1) AND period >= open_period",
);

pub(super) const COSTS_RECOMPUTE: SqlCheck = check!(
    "costs_recompute",
    "what a closed month's usage cost ourselves follows from its events, and is what was posted",
    examined: "
        SELECT count(*) FROM closed_periods
        WHERE costs_posted AND ($1::uuid IS NULL OR account_id = $1)",
    bad: "
        SELECT format('account %s, %s: its events cost %s %s and %s was posted', account_id, period,
                      trim_scale(coalesce(due.cost, 0)), currency,
                      trim_scale(coalesce(posted.cost, 0))) AS finding
        FROM (SELECT used.account_id, period, cost_currency AS currency,
                     round(sum(own_cost(price, used.input, used.output, used.cache_read,
                                        used.cache_write, used.reasoning, used.audio_input,
                                        used.audio_output)), 12) AS cost
              FROM (SELECT account_id, period, price_version, sum(input) AS input,
                           sum(output) AS output, sum(cache_read) AS cache_read,
                           sum(cache_write) AS cache_write, sum(reasoning) AS reasoning,
                           sum(audio_input) AS audio_input, sum(audio_output) AS audio_output
                    FROM usage_events
                    JOIN closed_periods USING (account_id, period)
                    WHERE costs_posted AND NOT cache_hit AND images = 0
                      AND ($1::uuid IS NULL OR account_id = $1)
                    GROUP BY 1, 2, 3) AS used
              JOIN price_versions AS price USING (price_version)
              WHERE cost_currency IS NOT NULL
              GROUP BY 1, 2, 3) AS due
        FULL JOIN (SELECT account_id, period, currency, sum(amount) AS cost
                   FROM transfers
                   WHERE kind = 'provider_cost' AND ($1::uuid IS NULL OR account_id = $1)
                   GROUP BY 1, 2, 3) AS posted USING (account_id, period, currency)
        WHERE coalesce(due.cost, 0) <> coalesce(posted.cost, 0)",
);

// Numbers are the company's: they are looked at whole, whichever account is asked for. With a unique
// number above zero for each document, as many documents as the last number leave no gap.
pub(super) const NUMBERS_WITHOUT_GAPS: SqlCheck = check!(
    "document_numbers_without_gaps",
    "the documents of a series and year are numbered from 1 to the counter without gaps",
    examined: "
        SELECT count(*) FROM billing_documents
        WHERE number IS NOT NULL AND $1::uuid IS NOT DISTINCT FROM $1",
    bad: "
        SELECT format('%s-%s: there are %s documents, the last number is %s and the counter is at %s',
                      series, year, coalesce(numbered.documents, 0), coalesce(numbered.last, 0),
                      coalesce(counter.last, 0)) AS finding
        FROM (SELECT series, year, count(*) AS documents, max(sequence) AS last,
                     min(sequence) AS first
              FROM billing_documents
              WHERE number IS NOT NULL
              GROUP BY series, year) AS numbered
        FULL JOIN document_counters AS counter USING (series, year)
        WHERE numbered.documents IS DISTINCT FROM counter.last
           OR numbered.last IS DISTINCT FROM counter.last OR numbered.first <> 1",
);

pub(super) const DOCUMENTS_EQUAL_TRANSFERS: SqlCheck = check!(
    "documents_equal_transfers",
    "what a document asks for is what its posting made receivable, and nothing else is",
    examined: "SELECT count(*) FROM billing_documents WHERE $1::uuid IS NULL OR account_id = $1",
    bad: "
        SELECT format('account %s, posting %s: the document %s asks for %s and %s tax, its transfers \
                       for %s and %s', account_id, posting,
                      coalesce(asked.number, asked.document_id::text, 'is missing and'),
                      trim_scale(coalesce(asked.net, 0)), trim_scale(coalesce(asked.tax, 0)),
                      trim_scale(coalesce(moved.net, 0)), trim_scale(coalesce(moved.tax, 0)))
               AS finding
        FROM (
            SELECT account_id, posting, document_id, number, net - paid AS net, tax
            FROM billing_documents
            WHERE kind IN ('invoice', 'usage_statement') AND due > 0
        ) AS asked
        FULL JOIN (
            SELECT account_id, posting, coalesce(sum(amount) FILTER (WHERE kind = 'invoice'), 0) AS net,
                   coalesce(sum(amount) FILTER (WHERE kind = 'invoice_tax'), 0) AS tax
            FROM transfers
            WHERE kind IN ('invoice', 'invoice_tax')
            GROUP BY account_id, posting
        ) AS moved USING (account_id, posting)
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND (asked.net IS DISTINCT FROM moved.net OR asked.tax IS DISTINCT FROM moved.tax)",
);

pub(super) const DOCUMENTS_ADD_UP: SqlCheck = check!(
    "documents_add_up",
    "a document's sums follow from its lines, allowances and taxes, and are those it is filed under",
    examined: "SELECT count(*) FROM billing_documents WHERE $1::uuid IS NULL OR account_id = $1",
    bad: "
        SELECT format('account %s: document %s: %s is %s and should be %s', account_id,
                      coalesce(number, document_id::text), sum.name, sum.has, sum.should) AS finding
        FROM (
            SELECT *, content::jsonb AS said FROM billing_documents
            WHERE $1::uuid IS NULL OR account_id = $1
        ) AS document
        CROSS JOIN LATERAL (
            SELECT (SELECT coalesce(sum((line->>'net')::numeric), 0)
                    FROM jsonb_array_elements(said->'lines') AS line) AS lines,
                   (SELECT coalesce(sum((one->>'amount')::numeric), 0)
                    FROM jsonb_array_elements(said->'allowances') AS one) AS allowances,
                   (SELECT coalesce(sum((one->>'amount')::numeric), 0)
                    FROM jsonb_array_elements(said->'taxes') AS one) AS taxes
        ) AS parts
        CROSS JOIN LATERAL (VALUES
            ('the sum of lines', (said#>>'{totals,lines}')::numeric, parts.lines),
            ('the sum of allowances', (said#>>'{totals,allowances}')::numeric, parts.allowances),
            ('net', (said#>>'{totals,net}')::numeric, parts.lines - parts.allowances),
            ('the filed net', net, parts.lines - parts.allowances),
            ('tax', (said#>>'{totals,tax}')::numeric, parts.taxes),
            ('the filed tax', tax, parts.taxes),
            ('gross', (said#>>'{totals,gross}')::numeric, net + tax),
            ('paid', (said#>>'{totals,paid}')::numeric, paid),
            ('due', (said#>>'{totals,due}')::numeric, net + tax - paid)
        ) AS sum (name, has, should)
        WHERE sum.has IS DISTINCT FROM sum.should
        UNION ALL
        SELECT format('account %s: document %s is filed as %s of %s and says %s of %s', account_id,
                      document_id, coalesce(number, 'nothing'), issue_date,
                      coalesce(content::jsonb->>'number', 'nothing'),
                      content::jsonb->>'issue_date')
        FROM billing_documents
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND (number IS DISTINCT FROM content::jsonb->>'number'
               OR issue_date::text IS DISTINCT FROM content::jsonb->>'issue_date'
               OR account_id::text IS DISTINCT FROM content::jsonb->>'account_id')",
);

pub(super) const RECEIVABLE_EQUALS_OPEN: SqlCheck = check!(
    "receivable_equals_open_invoices",
    "what is open of an account's invoices is its 1200, and what its receipts have left its 2050",
    examined: "SELECT count(*) FROM account_funds WHERE $1::uuid IS NULL OR account_id = $1",
    bad: "
        SELECT format('account %s: 1200 is %s and %s is open; 2050 is %s and %s is unapplied',
                      account_id, trim_scale(receivable), trim_scale(coalesce(owed.open, 0)),
                      trim_scale(unapplied), trim_scale(coalesce(held.unapplied_now, 0))) AS finding
        FROM account_funds
        LEFT JOIN (SELECT account_id, sum(open) AS open FROM invoice_standings GROUP BY account_id)
                  AS owed USING (account_id)
        LEFT JOIN (SELECT account_id, sum(amount) AS unapplied_now FROM settlements
                   WHERE document_id IS NULL GROUP BY account_id) AS held USING (account_id)
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND (receivable <> coalesce(owed.open, 0)
               OR unapplied <> coalesce(held.unapplied_now, 0))
        UNION ALL
        SELECT format('account %s: %s of %s is open of %s', account_id, trim_scale(open),
                      trim_scale(due), number)
        FROM invoice_standings
        WHERE ($1::uuid IS NULL OR account_id = $1) AND open NOT BETWEEN 0 AND due
        UNION ALL
        SELECT format('account %s: %s is left of payment or credit note %s', account_id,
                      trim_scale(sum(amount)), source_id)
        FROM settlements
        WHERE ($1::uuid IS NULL OR account_id = $1) AND document_id IS NULL
        GROUP BY account_id, source_id
        HAVING sum(amount) < 0",
);

// What settles is compared by posting, with what its transfers took of 1200 and gave 2050. Invoices
// make receivables and are compared with their documents.
pub(super) const SETTLEMENTS_EQUAL_TRANSFERS: SqlCheck = check!(
    "settlements_equal_transfers",
    "every payment, allocation, return, credit note and write-off moved what it settled",
    examined: "SELECT count(*) FROM settlements WHERE $1::uuid IS NULL OR account_id = $1",
    bad: "
        SELECT format('account %s, posting %s: settles %s, leaves %s unapplied and recovers %s; its \
                       transfers %s, %s and %s', account_id, posting,
                      trim_scale(coalesce(said.settled, 0)), trim_scale(coalesce(said.unapplied, 0)),
                      trim_scale(coalesce(said.recovered, 0)),
                      trim_scale(coalesce(moved.settled, 0)),
                      trim_scale(coalesce(moved.unapplied, 0)),
                      trim_scale(coalesce(moved.recovered, 0))) AS finding
        FROM (
            SELECT account_id, posting,
                   coalesce(sum(amount) FILTER (WHERE document_id IS NOT NULL
                                                  AND kind <> 'recovery'), 0) AS settled,
                   coalesce(sum(amount) FILTER (WHERE document_id IS NULL), 0) AS unapplied,
                   coalesce(sum(amount) FILTER (WHERE kind = 'recovery'), 0) AS recovered
            FROM settlements
            GROUP BY account_id, posting
        ) AS said
        FULL JOIN (
            SELECT account_id, posting,
                   coalesce(sum(amount) FILTER (WHERE left(credit, 4) = '1200'), 0)
                   - coalesce(sum(amount) FILTER (WHERE left(debit, 4) = '1200'), 0) AS settled,
                   coalesce(sum(amount) FILTER (WHERE left(credit, 4) = '2050'), 0)
                   - coalesce(sum(amount) FILTER (WHERE left(debit, 4) = '2050'), 0) AS unapplied,
                   coalesce(sum(amount) FILTER (WHERE kind = 'recovery'), 0)
                   - coalesce(sum(amount) FILTER (WHERE kind = 'payment_return'
                                                    AND left(debit, 4) IN ('5100', '2100')), 0)
                       AS recovered
            FROM transfers
            WHERE kind = ANY ('{payment,unapplied_receipt,allocation,payment_return,withholding,
                                credit_note,credit_note_tax,write_off,write_off_tax,recovery}')
            GROUP BY account_id, posting
        ) AS moved USING (account_id, posting)
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND (said.settled IS DISTINCT FROM moved.settled
               OR said.unapplied IS DISTINCT FROM moved.unapplied
               OR said.recovered IS DISTINCT FROM moved.recovered)",
);

pub(super) const CREDITS_WITHIN_INVOICES: SqlCheck = check!(
    "credit_notes_within_invoices",
    "credit notes never exceed their invoice, and what replaces a void one has its lines",
    examined: "
        SELECT count(*) FROM credit_notes
        JOIN billing_documents USING (document_id)
        WHERE $1::uuid IS NULL OR account_id = $1",
    bad: "
        SELECT format('account %s: %s of %s is credited for %s', account_id, number,
                      trim_scale(gross), trim_scale(credited)) AS finding
        FROM invoice_standings
        WHERE ($1::uuid IS NULL OR account_id = $1) AND credited > gross
        UNION ALL
        SELECT format('account %s: %s sold %s with %s tax, and %s with %s tax is credited, %s disputed',
                      account_id, number, trim_scale(sold), trim_scale(tax), trim_scale(credited),
                      trim_scale(credited_tax), trim_scale(disputed))
        FROM prepayment_standings
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND (credited + disputed > sold OR credited_tax > tax
               OR (credited = sold AND credited_tax <> tax))
        UNION ALL
        SELECT format('account %s: %s has not the lines and sums of %s, which it replaces',
                      replacement.account_id, replacement.number, invoice.number)
        FROM credit_notes
        JOIN billing_documents AS invoice ON invoice.document_id = invoice_id
        JOIN billing_documents AS replacement ON replacement.document_id = replacement_id
        WHERE ($1::uuid IS NULL OR replacement.account_id = $1)
          AND (replacement.net <> invoice.net OR replacement.paid <> invoice.paid
               OR (SELECT jsonb_agg(line - 'tax') FROM jsonb_array_elements(
                       replacement.content::jsonb->'lines') AS line)
                  IS DISTINCT FROM
                  (SELECT jsonb_agg(line - 'tax') FROM jsonb_array_elements(
                       invoice.content::jsonb->'lines') AS line))",
);

// What is taxed is taken by usage, credit notes and open disputes; together never more than was sold.
pub(super) const TAX_GIVEN_BACK: SqlCheck = check!(
    "tax_given_back",
    "taxed credits are never negative, and what refunds and lost disputes gave back of them is what \
     their credit notes say",
    examined: "
        SELECT (SELECT count(*) FROM prepayment_standings WHERE $1::uuid IS NULL OR account_id = $1)
             + (SELECT count(*) FROM refunds WHERE $1::uuid IS NULL OR account_id = $1)
             + (SELECT count(*) FROM chargebacks WHERE $1::uuid IS NULL OR account_id = $1)",
    bad: "
        SELECT format('account %s: documents sold taxed credits of %s and took %s, and open disputes \
                       hold %s', account_id, trim_scale(sold), trim_scale(used),
                      trim_scale(coalesce(disputed, 0))) AS finding
        FROM (SELECT account_id, sum(taxed_credits_sold) AS sold, sum(taxed_credits_used) AS used
              FROM billing_documents GROUP BY account_id) AS filed
        LEFT JOIN (SELECT account_id, sum(disputed) AS disputed
                   FROM prepayment_standings GROUP BY account_id) AS held USING (account_id)
        WHERE ($1::uuid IS NULL OR account_id = $1) AND sold - used - coalesce(disputed, 0) < 0
        UNION ALL
        SELECT format('account %s: %s %s gave back %s and %s tax, its credit notes say %s and %s',
                      account_id, cause.what, cause.id,
                      coalesce(trim_scale(cause.net)::text, 'credits'), trim_scale(cause.tax),
                      trim_scale(said.net), trim_scale(said.tax))
        FROM (
            SELECT account_id, 'refund' AS what, refund_id AS id, NULL::numeric AS net, tax
            FROM refunds
            UNION ALL
            SELECT account_id, 'dispute', chargeback_id, taxed, tax
            FROM chargebacks
            WHERE stage = 'lost'
        ) AS cause
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(note.net), 0) AS net, coalesce(sum(note.tax), 0) AS tax
            FROM credit_notes
            JOIN billing_documents AS note USING (document_id)
            WHERE cause_id = cause.id
        ) AS said
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND (said.tax <> cause.tax OR said.net <> coalesce(cause.net, said.net))
        UNION ALL
        SELECT format('account %s: credit note %s of %s takes taxed credits of %s', account_id, number,
                      trim_scale(net), trim_scale(taxed_credits_used))
        FROM credit_notes
        JOIN billing_documents AS note USING (document_id)
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND taxed_credits_used <> CASE WHEN cause_id IS NULL THEN 0 ELSE net END",
);

// A write-off's relief, its recovery and a returned payment move tax that no document charges.
pub(super) const TAX_DOCUMENTS_EQUAL_2100: SqlCheck = check!(
    "tax_documents_equal_2100",
    "the tax of each month's documents, less that of its credit notes, is what 2100 moved",
    examined: "SELECT count(*) FROM billing_documents WHERE $1::uuid IS NULL OR account_id = $1",
    bad: "
        SELECT format('account %s: documents of %s charge tax of %s, and 2100 moved by %s', account_id,
                      period, trim_scale(coalesce(said.tax, 0)), trim_scale(coalesce(moved.tax, 0)))
               AS finding
        FROM (
            SELECT account_id, period,
                   sum(CASE WHEN kind = 'credit_note' THEN -tax ELSE tax END) AS tax
            FROM billing_documents
            GROUP BY account_id, period
        ) AS said
        FULL JOIN (
            SELECT account_id, period,
                   sum(CASE WHEN left(credit, 4) = '2100' THEN amount ELSE -amount END) AS tax
            FROM transfers
            WHERE '2100' IN (left(debit, 4), left(credit, 4))
              AND kind NOT IN ('write_off_tax', 'recovery', 'payment_return')
            GROUP BY account_id, period
        ) AS moved USING (account_id, period)
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND coalesce(said.tax, 0) <> coalesce(moved.tax, 0)",
);

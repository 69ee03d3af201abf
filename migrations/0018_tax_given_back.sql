-- Tax that goes back with credits that were bought taxed and never used: what a refund and a lost
-- dispute give back, and the credit notes on prepayment invoices that say so.

ALTER TABLE refunds
    -- Beside `amount`, which is the credits that went back.
    ADD COLUMN tax numeric(28, 12) NOT NULL DEFAULT 0 CHECK (tax >= 0);

-- Of a dispute that was opened before this migration nothing counts as taxed: it ends as it began.
ALTER TABLE chargebacks
    -- Of `unspent`, what was bought taxed, in whole minor units. While the dispute is open it counts
    -- neither as used nor as there; where it is lost, a credit note takes it back.
    ADD COLUMN taxed numeric(28, 12) NOT NULL DEFAULT 0,
    -- Of `spent`, the tax of that; known when the dispute is lost.
    ADD COLUMN tax   numeric(28, 12) NOT NULL DEFAULT 0,
    ADD CONSTRAINT chargebacks_taxed_check CHECK (taxed >= 0 AND taxed <= unspent),
    ADD CONSTRAINT chargebacks_tax_check
        CHECK (tax >= 0 AND tax <= spent AND (tax = 0 OR stage = 'lost'));

ALTER TABLE credit_notes
    DROP CONSTRAINT credit_notes_purpose_check,
    ADD CONSTRAINT credit_notes_purpose_check
        CHECK (purpose IN ('correction', 'service_level', 'void', 'refund', 'chargeback')),
    -- The refund or the lost dispute that gave back what the note corrects.
    ADD COLUMN cause_id uuid,
    ADD CONSTRAINT credit_notes_cause_check
        CHECK ((purpose IN ('refund', 'chargeback')) = (cause_id IS NOT NULL));

CREATE INDEX credit_notes_by_cause ON credit_notes (cause_id) WHERE cause_id IS NOT NULL;

-- Each prepayment invoice with what has become of the credits it sold; the one place that says how
-- much of it can still be given back: sold − credited − disputed, where it is not used.
CREATE VIEW prepayment_standings AS
SELECT invoice.document_id, invoice.account_id, number, payment_id, payments.tax_code,
       taxed_credits_sold AS sold, invoice.tax, note.credited, note.credited_tax, held.disputed
FROM billing_documents AS invoice
JOIN payments USING (payment_id)
CROSS JOIN LATERAL (
    SELECT coalesce(sum(issued.net), 0) AS credited, coalesce(sum(issued.tax), 0) AS credited_tax
    FROM credit_notes
    JOIN billing_documents AS issued ON issued.document_id = credit_notes.document_id
    WHERE credit_notes.invoice_id = invoice.document_id
) AS note
CROSS JOIN LATERAL (
    SELECT coalesce(sum(taxed), 0) AS disputed
    FROM chargebacks AS opened
    WHERE opened.payment_id = invoice.payment_id AND stage = 'opened'
      AND NOT EXISTS (SELECT FROM chargebacks AS outcome
                      WHERE outcome.chargeback_id = opened.chargeback_id
                        AND outcome.stage <> 'opened')
) AS held
WHERE invoice.kind = 'prepayment_invoice';

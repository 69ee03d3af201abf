-- What settles an invoice or takes it back: payments, credit notes, write-offs. All append-only: what
-- is open of an invoice, and its status, follow from these rows.

-- A payment buys credits or is for invoices; its reference is unique among both.
ALTER TABLE payments
    ADD COLUMN purpose text NOT NULL DEFAULT 'top_up' CHECK (purpose IN ('top_up', 'invoices')),
    -- What a bank or processor kept of it; it counts in full for the customer.
    ADD COLUMN fee numeric(28, 12) NOT NULL DEFAULT 0,
    -- When it reached us, where that was said.
    ADD COLUMN received_on date,
    ADD CONSTRAINT payments_fee_check CHECK (fee >= 0 AND fee <= amount),
    ADD CONSTRAINT payments_received_on_check CHECK ((purpose = 'invoices') = (received_on IS NOT NULL));

-- A payment for invoices that went back, in whole or in part: bounced, recalled, or paid back; or what
-- a credit note gave beyond what was open, paid out.
CREATE TABLE payment_returns (
    return_id          uuid PRIMARY KEY,
    account_id         uuid NOT NULL REFERENCES accounts,
    posting            bigint NOT NULL CHECK (posting > 0),
    -- The payment, or the credit note's document.
    source_id          uuid NOT NULL,
    external_reference text NOT NULL CHECK (length(external_reference) BETWEEN 1 AND 200),
    amount             numeric(28, 12) NOT NULL CHECK (amount > 0),
    reason             text NOT NULL,
    returned_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (source_id, external_reference)
);

-- What a credit note corrects.
CREATE TABLE credit_notes (
    document_id    uuid PRIMARY KEY REFERENCES billing_documents,
    invoice_id     uuid NOT NULL REFERENCES billing_documents,
    purpose        text NOT NULL CHECK (purpose IN ('correction', 'service_level', 'void')),
    -- The invoice that bills a void one's usage again.
    replacement_id uuid UNIQUE REFERENCES billing_documents,
    CHECK ((purpose = 'void') = (replacement_id IS NOT NULL))
);

CREATE INDEX credit_notes_by_invoice ON credit_notes (invoice_id);
CREATE UNIQUE INDEX credit_notes_void_once ON credit_notes (invoice_id) WHERE purpose = 'void';

-- What will not be paid of an invoice.
CREATE TABLE write_offs (
    write_off_id  uuid PRIMARY KEY,
    account_id    uuid NOT NULL REFERENCES accounts,
    posting       bigint NOT NULL CHECK (posting > 0),
    document_id   uuid NOT NULL REFERENCES billing_documents,
    -- With its tax.
    amount        numeric(28, 12) NOT NULL CHECK (amount > 0),
    -- The part that is not owed to the tax office any more.
    tax           numeric(28, 12) NOT NULL CHECK (tax >= 0 AND tax <= amount),
    reason        text NOT NULL,
    written_off_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX write_offs_by_document ON write_offs (document_id);

-- What is open of an invoice falls by each row above zero and rises by each below, but for a
-- recovery, which pays what was written off. Rows without a document are the receipts that belong to
-- none: above zero where some came, below where it went to an invoice or back.
CREATE TABLE settlements (
    settlement_id uuid PRIMARY KEY,
    account_id    uuid NOT NULL REFERENCES accounts,
    posting       bigint NOT NULL CHECK (posting > 0),
    kind          text NOT NULL CHECK (kind IN ('payment', 'withholding', 'unapplied_receipt',
                                                'allocation', 'payment_return', 'credit_note',
                                                'write_off', 'recovery')),
    -- The payment, the credit note's document or the write-off that it is a part of.
    source_id     uuid NOT NULL,
    document_id   uuid REFERENCES billing_documents,
    amount        numeric(28, 12) NOT NULL CHECK (amount <> 0),
    -- Of a recovery, the part that is owed to the tax office again.
    tax           numeric(28, 12) NOT NULL DEFAULT 0,
    settled_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (document_id IS NOT NULL
           OR kind IN ('unapplied_receipt', 'allocation', 'payment_return', 'credit_note')),
    CHECK (tax = 0 OR kind = 'recovery')
);

CREATE INDEX settlements_by_document ON settlements (document_id);
CREATE INDEX settlements_by_source ON settlements (source_id);
CREATE INDEX settlements_by_account ON settlements (account_id, settlement_id);

CREATE TRIGGER payment_returns_append_only BEFORE UPDATE OR DELETE ON payment_returns
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER credit_notes_append_only BEFORE UPDATE OR DELETE ON credit_notes
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER write_offs_append_only BEFORE UPDATE OR DELETE ON write_offs
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER settlements_append_only BEFORE UPDATE OR DELETE ON settlements
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER payment_returns_no_truncate BEFORE TRUNCATE ON payment_returns
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER credit_notes_no_truncate BEFORE TRUNCATE ON credit_notes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER write_offs_no_truncate BEFORE TRUNCATE ON write_offs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER settlements_no_truncate BEFORE TRUNCATE ON settlements
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- An unapplied receipt lessens what is owed and is never spendable: it adds nothing to the limit.
ALTER TABLE account_funds DROP COLUMN available;
ALTER TABLE account_funds ADD COLUMN available numeric(28, 12) GENERATED ALWAYS AS (
    promotional + credits - overdrawn
    + greatest(0, trunc(least(credit_limit, credit_limit - receivable + unapplied)
                        / (1 + tax_rate), 12) - unbilled)
    - leased
) STORED;

-- Each invoice with what has become of it; the one place that says what is open.
CREATE VIEW invoice_standings AS
SELECT document_id, account_id, number, currency, issue_date, due_date, gross, tax, due,
       due - moved.settled AS open, moved.settled, note.credited, moved.written_off,
       given_up.relieved, moved.recovered, moved.recovered_tax
FROM billing_documents AS invoice
CROSS JOIN LATERAL (
    SELECT coalesce(sum(amount) FILTER (WHERE kind <> 'recovery'), 0) AS settled,
           coalesce(sum(amount) FILTER (WHERE kind = 'write_off'), 0) AS written_off,
           coalesce(sum(amount) FILTER (WHERE kind = 'recovery'), 0) AS recovered,
           coalesce(sum(settlements.tax), 0) AS recovered_tax
    FROM settlements
    WHERE settlements.document_id = invoice.document_id
) AS moved
CROSS JOIN LATERAL (
    SELECT coalesce(sum(issued.gross), 0) AS credited
    FROM credit_notes
    JOIN billing_documents AS issued ON issued.document_id = credit_notes.document_id
    WHERE credit_notes.invoice_id = invoice.document_id
) AS note
CROSS JOIN LATERAL (
    SELECT coalesce(sum(write_offs.tax), 0) AS relieved
    FROM write_offs
    WHERE write_offs.document_id = invoice.document_id
) AS given_up
WHERE kind = 'invoice';

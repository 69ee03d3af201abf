-- From usage to invoices: who we are on paper, tax rates, closed periods and frozen documents.

-- The kinds of transfers that documents and their settlement need. Usage is still recognised by the
-- first comparisons.
CREATE OR REPLACE FUNCTION is_sound_transfer(p_debit text, p_credit text, p_currency text, p_kind text)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN p_debit <> p_credit
       -- The codes that usage is posted under, before the pattern of all.
       AND (p_debit IN ('2000', '2010', '1100', '1150')
            OR p_debit ~ '^[0-9]{4}(\.[A-Z0-9_-]{1,30})?$')
       AND (p_credit = '4000' OR p_credit ~ '^[0-9]{4}(\.[A-Z0-9_-]{1,30})?$')
       AND p_currency ~ '^[A-Z]{3}$'
       AND p_kind IN (
            'usage_promotional', 'usage_credits', 'usage_unbilled', 'usage_overdrawn',
            'top_up', 'top_up_tax', 'promotional_grant', 'promotional_withdrawal',
            'overdraft_cure', 'reversal', 'refund', 'refund_tax',
            'chargeback_unspent', 'chargeback_spent', 'chargeback_won', 'chargeback_lost',
            'account_closing',
            'invoice', 'invoice_tax', 'invoice_rounding', 'promotional_use', 'sla_credit',
            'payment', 'unapplied_receipt', 'allocation', 'payment_return', 'withholding',
            'payment_fee', 'credit_note', 'credit_note_tax', 'write_off', 'write_off_tax',
            'recovery');
END $$;

-- We, as documents name us: the newest version counts, and a frozen document has its own copy.
CREATE TABLE seller_versions (
    seller_version bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- A party and how to pay it, as documents hold them; no amount is in it.
    seller         jsonb NOT NULL CHECK (jsonb_typeof(seller) = 'object'),
    set_at         timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Of two entries for one day the newer counts: a mistake is corrected by entering it again.
CREATE TABLE tax_rates (
    tax_rate_version bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- A country, or a part of it as ISO 3166-2 names it: DE, US-CA.
    jurisdiction     text NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    effective_from   date NOT NULL,
    rate_percent     numeric(7, 4) NOT NULL CHECK (rate_percent BETWEEN 0 AND 100),
    label            text NOT NULL CHECK (length(label) BETWEEN 1 AND 40),
    -- Whether the tax falls due when credits are paid for, and not when they are used.
    due_on_payment   boolean NOT NULL,
    set_at           timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX tax_rates_by_jurisdiction
    ON tax_rates (jurisdiction, effective_from DESC, tax_rate_version DESC);

-- Where tax fell due on a payment, so much of it is tax and the rest became credits.
ALTER TABLE payments
    ADD COLUMN tax numeric(28, 12) NOT NULL DEFAULT 0,
    ADD COLUMN tax_code text NOT NULL DEFAULT '2100' CHECK (tax_code ~ '^2100(\.[A-Z0-9-]{2,6})?$'),
    ADD CONSTRAINT payments_tax_check CHECK (tax >= 0 AND tax < amount);

-- A closing of one month, and how far it has come: an interrupted one goes on from here.
CREATE TABLE billing_runs (
    period      date PRIMARY KEY CHECK (extract(day FROM period) = 1),
    -- Of every document of the run, however long it takes.
    issue_date  date NOT NULL,
    -- The last account that was closed; accounts are taken in the order of their ids.
    after       uuid,
    accounts    bigint NOT NULL DEFAULT 0,
    documents   bigint NOT NULL DEFAULT 0,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
);

-- The last number of each series and year. Its row is locked last and for the shortest time.
CREATE TABLE document_counters (
    series text NOT NULL CHECK (series IN ('INV', 'PRE', 'CN', 'REC')),
    year   integer NOT NULL CHECK (year BETWEEN 2000 AND 9999),
    last   bigint NOT NULL CHECK (last > 0),
    PRIMARY KEY (series, year)
);

CREATE TABLE billing_documents (
    document_id uuid PRIMARY KEY,
    account_id  uuid NOT NULL REFERENCES accounts,
    kind        text NOT NULL CHECK (kind IN ('invoice', 'prepayment_invoice', 'credit_note',
                                              'receipt', 'usage_statement')),
    -- A usage statement has no number.
    series      text,
    year        integer,
    sequence    bigint,
    number      text UNIQUE,
    -- The month whose usage it is about; of a receipt, that of its payment.
    period      date NOT NULL CHECK (extract(day FROM period) = 1),
    currency    text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    net         numeric(28, 12) NOT NULL CHECK (net >= 0),
    tax         numeric(28, 12) NOT NULL CHECK (tax >= 0),
    gross       numeric(28, 12) NOT NULL CHECK (gross = net + tax),
    paid        numeric(28, 12) NOT NULL CHECK (paid >= 0),
    due         numeric(28, 12) NOT NULL CHECK (due = gross - paid AND due >= 0),
    -- Of credits whose tax was charged when they were paid for: what this document adds to them
    -- (a prepayment invoice), and what it takes from them (an allowance), at full precision.
    taxed_credits_sold numeric(28, 12) NOT NULL DEFAULT 0 CHECK (taxed_credits_sold >= 0),
    taxed_credits_used numeric(28, 12) NOT NULL DEFAULT 0 CHECK (taxed_credits_used >= 0),
    issue_date  date NOT NULL,
    due_date    date,
    -- The posting that goes with it; 0 where nothing moved.
    posting     bigint NOT NULL CHECK (posting >= 0),
    payment_id  uuid REFERENCES payments,
    -- The document itself, as JSON. These bytes are what was issued.
    content     text NOT NULL,
    frozen_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((number IS NULL) = (kind = 'usage_statement')),
    CHECK ((number IS NULL) = (sequence IS NULL) AND (number IS NULL) = (series IS NULL)
           AND (number IS NULL) = (year IS NULL)),
    UNIQUE (series, year, sequence)
);

CREATE INDEX billing_documents_by_account ON billing_documents (account_id, document_id);

-- An account's month that is closed. Which events its document holds follows from it: those of the
-- period that were not reversed up to `closed_at_posting`.
CREATE TABLE closed_periods (
    account_id        uuid NOT NULL REFERENCES accounts,
    period            date NOT NULL CHECK (extract(day FROM period) = 1),
    -- NULL where nothing was used.
    document_id       uuid REFERENCES billing_documents,
    -- The account's last posting before the closing's own.
    closed_at_posting bigint NOT NULL CHECK (closed_at_posting >= 0),
    closed_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, period)
);

CREATE TRIGGER seller_versions_append_only BEFORE UPDATE OR DELETE ON seller_versions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER tax_rates_append_only BEFORE UPDATE OR DELETE ON tax_rates
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER billing_documents_append_only BEFORE UPDATE OR DELETE ON billing_documents
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER closed_periods_append_only BEFORE UPDATE OR DELETE ON closed_periods
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER seller_versions_no_truncate BEFORE TRUNCATE ON seller_versions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER tax_rates_no_truncate BEFORE TRUNCATE ON tax_rates
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER billing_documents_no_truncate BEFORE TRUNCATE ON billing_documents
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER closed_periods_no_truncate BEFORE TRUNCATE ON closed_periods
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

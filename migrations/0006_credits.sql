-- Money in and out of credits: what caused each transfer that is not usage. Append-only like the
-- books themselves; each row names the posting it made.

CREATE TABLE payments (
    payment_id         uuid PRIMARY KEY,
    account_id         uuid NOT NULL REFERENCES accounts,
    posting            bigint NOT NULL CHECK (posting > 0),
    method             text NOT NULL CHECK (method IN ('VISA', 'MASTERCARD', 'PAYPAL', 'WIRE', 'MANUAL')),
    external_reference text NOT NULL CHECK (length(external_reference) BETWEEN 1 AND 200),
    amount             numeric(28, 12) NOT NULL CHECK (amount > 0),
    currency           text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    note               text NOT NULL DEFAULT '',
    paid_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The same payment can never be credited twice, whatever the account.
    UNIQUE (method, external_reference)
);

CREATE INDEX payments_by_account ON payments (account_id, payment_id);

CREATE TABLE promotional_grants (
    grant_id   uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts,
    posting    bigint NOT NULL CHECK (posting > 0),
    amount     numeric(28, 12) NOT NULL CHECK (amount > 0),
    currency   text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    reason     text NOT NULL DEFAULT '',
    granted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX promotional_grants_by_account ON promotional_grants (account_id, grant_id);

CREATE TABLE promotional_withdrawals (
    withdrawal_id uuid PRIMARY KEY,
    account_id    uuid NOT NULL REFERENCES accounts,
    posting       bigint NOT NULL CHECK (posting > 0),
    amount        numeric(28, 12) NOT NULL CHECK (amount > 0),
    currency      text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    reason        text NOT NULL DEFAULT '',
    withdrawn_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX promotional_withdrawals_by_account ON promotional_withdrawals (account_id, withdrawal_id);

CREATE TABLE refunds (
    refund_id          uuid PRIMARY KEY,
    account_id         uuid NOT NULL REFERENCES accounts,
    posting            bigint NOT NULL CHECK (posting > 0),
    method             text NOT NULL CHECK (method IN ('VISA', 'MASTERCARD', 'PAYPAL', 'WIRE', 'MANUAL')),
    external_reference text NOT NULL CHECK (length(external_reference) BETWEEN 1 AND 200),
    amount             numeric(28, 12) NOT NULL CHECK (amount > 0),
    currency           text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    reason             text NOT NULL DEFAULT '',
    refunded_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (method, external_reference)
);

CREATE INDEX refunds_by_account ON refunds (account_id, refund_id);

-- A disputed payment: one row when the dispute is opened and one for how it ended. A dispute that
-- was won can be opened again by the bank, as a dispute of its own.
CREATE TABLE chargebacks (
    chargeback_id      uuid NOT NULL,
    stage              text NOT NULL CHECK (stage IN ('opened', 'won', 'lost')),
    account_id         uuid NOT NULL REFERENCES accounts,
    payment_id         uuid NOT NULL REFERENCES payments,
    external_reference text NOT NULL CHECK (length(external_reference) BETWEEN 1 AND 200),
    -- 0 where nothing was left to post: a dispute lost whose payment had not been spent.
    posting            bigint NOT NULL CHECK (posting >= 0),
    unspent            numeric(28, 12) NOT NULL CHECK (unspent >= 0),
    spent              numeric(28, 12) NOT NULL CHECK (spent >= 0),
    currency           text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    reason             text NOT NULL DEFAULT '',
    recorded_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (chargeback_id, stage),
    UNIQUE (payment_id, external_reference, stage)
);

CREATE UNIQUE INDEX chargebacks_end_once ON chargebacks (chargeback_id) WHERE stage <> 'opened';
CREATE INDEX chargebacks_by_account ON chargebacks (account_id, chargeback_id);

CREATE TRIGGER payments_append_only BEFORE UPDATE OR DELETE ON payments
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER promotional_grants_append_only BEFORE UPDATE OR DELETE ON promotional_grants
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER promotional_withdrawals_append_only BEFORE UPDATE OR DELETE ON promotional_withdrawals
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER refunds_append_only BEFORE UPDATE OR DELETE ON refunds
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER chargebacks_append_only BEFORE UPDATE OR DELETE ON chargebacks
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER payments_no_truncate BEFORE TRUNCATE ON payments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER promotional_grants_no_truncate BEFORE TRUNCATE ON promotional_grants
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER promotional_withdrawals_no_truncate BEFORE TRUNCATE ON promotional_withdrawals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER refunds_no_truncate BEFORE TRUNCATE ON refunds
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER chargebacks_no_truncate BEFORE TRUNCATE ON chargebacks
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER usage_reversals_no_truncate BEFORE TRUNCATE ON usage_reversals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER price_versions_no_truncate BEFORE TRUNCATE ON price_versions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER price_tiers_no_truncate BEFORE TRUNCATE ON price_tiers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Finds the events of one posting without an index that every event would pay for: they were
-- recorded in one moment, and events lie in the table in the order in which they were recorded.
CREATE INDEX usage_events_by_recorded_at ON usage_events USING brin (recorded_at)
    WITH (pages_per_range = 16, autosummarize = on);

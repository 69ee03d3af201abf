-- The books. Money moves only as a transfer, one row with one debit and one credit account, so that
-- no insert can unbalance them; no transfer is ever updated or deleted.

CREATE TABLE ledger_accounts (
    code text PRIMARY KEY CHECK (code ~ '^[0-9]{4}$'),
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('asset', 'contra-liability', 'liability', 'income',
                                       'contra-income', 'expense'))
);

INSERT INTO ledger_accounts (code, name, kind) VALUES
    ('1000', 'Cash',                      'asset'),
    ('1100', 'Unbilled receivable',       'asset'),
    ('1150', 'Overdrawn',                 'asset'),
    ('1200', 'Accounts receivable',       'asset'),
    ('1250', 'Disputed payments',         'asset'),
    ('1300', 'Tax withheld by payers',    'asset'),
    ('1910', 'Unused promotional grants', 'contra-liability'),
    ('2000', 'Customer credits',          'liability'),
    ('2010', 'Promotional credits',       'liability'),
    ('2050', 'Unapplied receipts',        'liability'),
    ('2100', 'Tax payable',               'liability'),
    ('2200', 'Payable to providers',      'liability'),
    ('4000', 'Usage revenue',             'income'),
    ('4900', 'SLA credits',               'contra-income'),
    ('4910', 'Promotional discount',      'contra-income'),
    ('5100', 'Bad debt',                  'expense'),
    ('5200', 'Cost of revenue',           'expense'),
    ('5300', 'Payment fees',              'expense'),
    ('5900', 'Rounding',                  'expense');

-- One row per account: everything that funds are computed from, so that one row lock is enough.
-- Each balance equals the sum of the account's transfers of its code; `ledger verify` proves it.
CREATE TABLE account_funds (
    account_id   uuid PRIMARY KEY REFERENCES accounts,
    currency     text NOT NULL,
    promotional  numeric(28, 12) NOT NULL DEFAULT 0 CHECK (promotional >= 0),  -- 2010
    credits      numeric(28, 12) NOT NULL DEFAULT 0 CHECK (credits >= 0),      -- 2000
    overdrawn    numeric(28, 12) NOT NULL DEFAULT 0 CHECK (overdrawn >= 0),    -- 1150
    unbilled     numeric(28, 12) NOT NULL DEFAULT 0 CHECK (unbilled >= 0),     -- 1100
    receivable   numeric(28, 12) NOT NULL DEFAULT 0 CHECK (receivable >= 0),   -- 1200
    unapplied    numeric(28, 12) NOT NULL DEFAULT 0 CHECK (unapplied >= 0),    -- 2050
    -- Of the contract: whether usage beyond credits accrues to an invoice, and up to how much.
    net_30       boolean NOT NULL DEFAULT false,
    credit_limit numeric(28, 12) NOT NULL DEFAULT 0 CHECK (credit_limit >= 0),
    tax_rate     numeric(9, 6) NOT NULL DEFAULT 0 CHECK (tax_rate BETWEEN 0 AND 1),
    -- The sum of the account's leases.
    leased       numeric(28, 12) NOT NULL DEFAULT 0 CHECK (leased >= 0),
    -- The number of the last posting; the next one takes the next, without gaps.
    posting      bigint NOT NULL DEFAULT 0 CHECK (posting >= 0),
    -- The first billing period that is still open; usage of an earlier one is billed in this.
    open_period  date NOT NULL DEFAULT DATE '2000-01-01' CHECK (extract(day FROM open_period) = 1),
    -- Cut, not rounded: what is available must never be a fraction more than there is.
    available    numeric(28, 12) GENERATED ALWAYS AS (
                     promotional + credits - overdrawn
                     + greatest(0, trunc((credit_limit - receivable + unapplied) / (1 + tax_rate), 12)
                                   - unbilled)
                     - leased
                 ) STORED,
    CHECK (overdrawn = 0 OR credits = 0)
) WITH (fillfactor = 50);

CREATE TABLE transfers (
    account_id      uuid NOT NULL,
    posting         bigint NOT NULL CHECK (posting > 0),
    line            smallint NOT NULL CHECK (line > 0),
    debit           text NOT NULL CHECK (debit ~ '^[0-9]{4}(\.[A-Z0-9_-]{1,30})?$'),
    credit          text NOT NULL CHECK (credit ~ '^[0-9]{4}(\.[A-Z0-9_-]{1,30})?$'),
    amount          numeric(28, 12) NOT NULL CHECK (amount > 0),
    currency        text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    kind            text NOT NULL CHECK (kind IN (
                        'top_up', 'top_up_tax', 'promotional_grant', 'promotional_withdrawal',
                        'usage_promotional', 'usage_credits', 'usage_unbilled', 'usage_overdrawn',
                        'overdraft_cure', 'reversal', 'refund', 'refund_tax',
                        'chargeback_unspent', 'chargeback_spent', 'chargeback_won', 'chargeback_lost',
                        'account_closing')),
    period          date NOT NULL CHECK (extract(day FROM period) = 1),
    posted_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- What caused it: a payment, grant, refund, chargeback or reversal; NULL for usage, whose
    -- events name the posting.
    cause_id        uuid,
    idempotency_key text NOT NULL,
    description     text NOT NULL DEFAULT '',
    PRIMARY KEY (account_id, posting, line),
    CHECK (debit <> credit)
);

CREATE TRIGGER transfers_append_only BEFORE UPDATE OR DELETE ON transfers
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER transfers_no_truncate BEFORE TRUNCATE ON transfers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

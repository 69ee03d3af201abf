-- Customers, their contracts and their keys.

CREATE TABLE accounts (
    account_id             uuid PRIMARY KEY,
    handle                 text NOT NULL UNIQUE CHECK (handle ~ '^[a-z][a-z0-9-]{1,39}$'),
    display_name           text NOT NULL CHECK (length(display_name) BETWEEN 1 AND 200),
    currency               text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    status                 text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'closed')),
    status_reason          text NOT NULL DEFAULT '',
    legal_name             text NOT NULL DEFAULT '',
    address_line_1         text NOT NULL DEFAULT '',
    address_line_2         text NOT NULL DEFAULT '',
    city                   text NOT NULL DEFAULT '',
    postal_code            text NOT NULL DEFAULT '',
    subdivision            text NOT NULL DEFAULT '',
    country_code           text NOT NULL DEFAULT '' CHECK (country_code ~ '^([A-Z]{2})?$'),
    registration_id        text NOT NULL DEFAULT '',
    tax_id                 text NOT NULL DEFAULT '',
    tax_treatment          text NOT NULL DEFAULT 'standard'
                           CHECK (tax_treatment IN ('standard', 'exempt', 'reverse_charge')),
    tax_rate_percent       numeric(7, 4) NOT NULL DEFAULT 0 CHECK (tax_rate_percent BETWEEN 0 AND 100),
    purchase_order         text NOT NULL DEFAULT '',
    cost_centre            text NOT NULL DEFAULT '',
    accounts_payable_email text NOT NULL DEFAULT '',
    payment_terms          text NOT NULL DEFAULT 'prepaid' CHECK (payment_terms IN ('prepaid', 'net_30')),
    credit_limit           numeric(28, 12) NOT NULL DEFAULT 0 CHECK (credit_limit >= 0),
    discount_percent       numeric(7, 4) NOT NULL DEFAULT 0 CHECK (discount_percent BETWEEN 0 AND 100),
    version                bigint NOT NULL DEFAULT 1,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now(),
    CHECK (tax_treatment = 'standard' OR tax_rate_percent = 0),
    CHECK (payment_terms = 'net_30' OR credit_limit = 0)
);

-- Discounts that apply to some models instead of the account's own, first match first.
CREATE TABLE account_model_discounts (
    account_id uuid NOT NULL REFERENCES accounts,
    position   smallint NOT NULL,
    model      text NOT NULL CHECK (length(model) BETWEEN 1 AND 200),
    percent    numeric(7, 4) NOT NULL CHECK (percent BETWEEN 0 AND 100),
    PRIMARY KEY (account_id, position)
);

-- A key is kept as its SHA-256 and what may be shown of it; the key itself nowhere.
CREATE TABLE api_keys (
    key_id                 uuid PRIMARY KEY,
    account_id             uuid NOT NULL REFERENCES accounts,
    name                   text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    tier                   text NOT NULL CHECK (tier IN ('standard', 'pro')),
    key_hash               bytea NOT NULL UNIQUE CHECK (octet_length(key_hash) = 32),
    hint                   text NOT NULL,
    allowed_models         text[] NOT NULL DEFAULT '{}',
    max_tokens_per_request bigint CHECK (max_tokens_per_request > 0),
    max_cost_per_request   numeric(28, 12) CHECK (max_cost_per_request > 0),
    created_at             timestamptz NOT NULL DEFAULT now(),
    expires_at             timestamptz,
    revoked_at             timestamptz,
    revoked_reason         text NOT NULL DEFAULT '',
    rotated_from           uuid REFERENCES api_keys
);

CREATE INDEX api_keys_by_account ON api_keys (account_id, key_id);

-- Every changing call outside the hot path leaves its answer here, in its own transaction, so that
-- the same call again gets the same answer instead of a second effect.
CREATE TABLE idempotency_keys (
    rpc             text NOT NULL,
    idempotency_key text NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 128),
    request_hash    bytea NOT NULL CHECK (octet_length(request_hash) = 32),
    response        bytea NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (rpc, idempotency_key)
);

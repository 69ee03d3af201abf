-- Leases: slices of an account's funds that one server may reserve from without asking.

CREATE TABLE instances (
    instance_id  uuid PRIMARY KEY,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- A clean shutdown, after which only what was outstanding stays leased.
    stopped_at   timestamptz,
    description  text NOT NULL DEFAULT '',
    -- For how long after its last beat something that it promised can be outstanding: whoever
    -- removes it waits for that, whatever the remover's own grants last.
    promises_for interval NOT NULL CHECK (promises_for > interval '0')
);

CREATE TABLE leases (
    account_id  uuid NOT NULL,
    -- Which pool of the account: its funds, and later its budgets.
    pool        text NOT NULL DEFAULT 'funds',
    instance_id uuid NOT NULL,
    amount      numeric(28, 12) NOT NULL CHECK (amount >= 0),
    -- Rises with every renewal; an older number that arrives late is ignored.
    sequence    bigint NOT NULL,
    renewed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, pool, instance_id)
) WITH (fillfactor = 50);

CREATE INDEX leases_by_instance ON leases (instance_id);

-- A batch that settles a grant which another server issued says so here; the issuer reads it at its
-- next renewal and lets the reservation go.
CREATE TABLE foreign_settlements (
    issuer           uuid NOT NULL,
    account_id       uuid NOT NULL,
    authorization_id uuid NOT NULL,
    charge           numeric(28, 12) NOT NULL,
    PRIMARY KEY (issuer, account_id, authorization_id)
);

-- Authorizations that expired and whose usage nobody has recorded.
CREATE TABLE unsettled_authorizations (
    account_id       uuid NOT NULL,
    authorization_id uuid NOT NULL,
    key_id           uuid NOT NULL,
    model            text NOT NULL,
    reserved         numeric(28, 12) NOT NULL,
    authorized_at    timestamptz NOT NULL,
    expired_at       timestamptz NOT NULL,
    request_id       text NOT NULL DEFAULT '',
    PRIMARY KEY (account_id, authorization_id)
);

-- Secrets that all servers of one database share, such as the key that signs grants.
CREATE TABLE signing_keys (
    purpose    text NOT NULL CHECK (purpose IN ('grant')),
    key_id     text NOT NULL,
    secret     bytea NOT NULL CHECK (octet_length(secret) >= 32),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Signs nothing new from here on; verifies for 35 days more.
    retired_at timestamptz,
    PRIMARY KEY (purpose, key_id)
);

-- What a key belongs to and what it may do in a minute.
--
-- A key and those that succeed it by rotation are one lineage, named by the first of them: they
-- share budgets, rates and norms, so that a rotation resets none of them.
ALTER TABLE api_keys
    -- Which of the customer's projects it belongs to; empty for none.
    ADD COLUMN project             text NOT NULL DEFAULT '' CHECK (project ~ '^([a-z][a-z0-9-]{1,39})?$'),
    ADD COLUMN lineage             uuid,
    ADD COLUMN requests_per_minute bigint CHECK (requests_per_minute BETWEEN 1 AND 4294967295),
    ADD COLUMN tokens_per_minute   bigint CHECK (tokens_per_minute BETWEEN 1 AND 4294967295),
    -- Whether what costs a multiple of the lineage's recent norm is refused or flagged.
    ADD COLUMN spike_mode          text CHECK (spike_mode IN ('refuse', 'flag')),
    ADD COLUMN spike_multiple      numeric(12, 4) CHECK (spike_multiple > 1),
    ADD COLUMN spike_floor         numeric(28, 12) CHECK (spike_floor >= 0),
    ADD CHECK ((spike_mode IS NULL) = (spike_multiple IS NULL)),
    ADD CHECK ((spike_mode IS NULL) = (spike_floor IS NULL));

WITH RECURSIVE chains (key_id, lineage) AS (
    SELECT key_id, key_id FROM api_keys WHERE rotated_from IS NULL
    UNION ALL
    SELECT successor.key_id, chains.lineage
    FROM api_keys AS successor JOIN chains ON successor.rotated_from = chains.key_id
)
UPDATE api_keys SET lineage = chains.lineage FROM chains WHERE api_keys.key_id = chains.key_id;

ALTER TABLE api_keys ALTER COLUMN lineage SET NOT NULL;

-- What requests of a lineage cost of late, for its spike guard after a restart.
CREATE TABLE key_norms (
    account_id      uuid NOT NULL,
    lineage         uuid NOT NULL,
    request_norm    numeric(28, 12) NOT NULL CHECK (request_norm >= 0),
    request_samples integer NOT NULL CHECK (request_samples >= 0),
    minute_norm     numeric(28, 12) NOT NULL CHECK (minute_norm >= 0),
    minute_samples  integer NOT NULL CHECK (minute_samples >= 0),
    updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, lineage)
);

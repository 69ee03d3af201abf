-- Usage events, the ledger's sub-ledger: each names the posting that charged it. Partitioned by
-- month through ranges of the UUIDv7 that identifies it.

CREATE TABLE usage_events (
    account_id    uuid NOT NULL,
    -- The authorization's id: recording the same usage again meets this key.
    event_id      uuid NOT NULL,
    key_id        uuid NOT NULL,
    occurred_at   timestamptz NOT NULL,
    recorded_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    posting       bigint NOT NULL CHECK (posting >= 0),
    price_version bigint NOT NULL,
    input         bigint NOT NULL CHECK (input >= 0),
    output        bigint NOT NULL CHECK (output >= 0),
    cache_read    bigint NOT NULL CHECK (cache_read >= 0),
    cache_write   bigint NOT NULL CHECK (cache_write >= 0),
    reasoning     bigint NOT NULL CHECK (reasoning >= 0),
    audio_input   bigint NOT NULL CHECK (audio_input >= 0),
    audio_output  bigint NOT NULL CHECK (audio_output >= 0),
    images        bigint NOT NULL CHECK (images >= 0),
    -- The context tier that priced it; 0 is the base price.
    tier_above    bigint NOT NULL DEFAULT 0,
    latency_ms    integer,
    model_id      integer NOT NULL,
    period        date NOT NULL,
    outcome       smallint NOT NULL CHECK (outcome BETWEEN 1 AND 6),
    cache_hit     boolean NOT NULL,
    charge        numeric(28, 12) NOT NULL CHECK (charge >= 0),
    saving        numeric(28, 12) NOT NULL DEFAULT 0 CHECK (saving >= 0),
    -- What the authorization held, and how far the charge went beyond it.
    authorized    numeric(28, 12) NOT NULL CHECK (authorized >= 0),
    overrun       numeric(28, 12) NOT NULL DEFAULT 0 CHECK (overrun >= 0 AND overrun <= charge),
    provider      text NOT NULL DEFAULT '',
    served_model  text NOT NULL DEFAULT '',
    region        text NOT NULL DEFAULT '',
    fallback_from text NOT NULL DEFAULT '',
    PRIMARY KEY (account_id, event_id),
    -- What cost nothing moved nothing: posting 0.
    CHECK ((charge = 0) = (posting = 0))
) PARTITION BY RANGE (event_id);

-- What can be erased for a person, or is only evidence; apart from what the books rest on.
CREATE TABLE usage_details (
    account_id     uuid NOT NULL,
    event_id       uuid NOT NULL,
    request_id     text NOT NULL DEFAULT '',
    end_user       text NOT NULL DEFAULT '',
    labels         jsonb,
    -- The provider's own usage object and whose dialect it is.
    dialect        smallint,
    provider_usage jsonb,
    PRIMARY KEY (account_id, event_id)
) PARTITION BY RANGE (event_id);

CREATE TRIGGER usage_events_append_only BEFORE UPDATE OR DELETE ON usage_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER usage_events_no_truncate BEFORE TRUNCATE ON usage_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE usage_reversals (
    account_id     uuid NOT NULL,
    event_id       uuid NOT NULL,
    posting        bigint NOT NULL,
    reason         text NOT NULL,
    reversed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    to_promotional numeric(28, 12) NOT NULL CHECK (to_promotional >= 0),
    to_credits     numeric(28, 12) NOT NULL CHECK (to_credits >= 0),
    to_unbilled    numeric(28, 12) NOT NULL CHECK (to_unbilled >= 0),
    to_overdrawn   numeric(28, 12) NOT NULL CHECK (to_overdrawn >= 0),
    PRIMARY KEY (account_id, event_id)
);

CREATE TRIGGER usage_reversals_append_only BEFORE UPDATE OR DELETE ON usage_reversals
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Usage that the database refuses for good, whatever it is batched with: kept whole, never dropped.
CREATE TABLE quarantined_usage (
    quarantine_id  uuid PRIMARY KEY,
    account_id     uuid NOT NULL,
    event_id       uuid NOT NULL,
    event          jsonb NOT NULL,
    error          text NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

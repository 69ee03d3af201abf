-- Models and their dated prices. A price version is never edited or deleted: what was charged by it
-- must be computable years later.

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: correct a mistake with a reversal', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TABLE models (
    model_id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name              text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 200),
    provider          text NOT NULL DEFAULT '',
    route             text NOT NULL DEFAULT 'standard' CHECK (route IN ('standard', 'dedicated')),
    active            boolean NOT NULL DEFAULT true,
    context_tokens    bigint CHECK (context_tokens > 0),
    max_output_tokens bigint CHECK (max_output_tokens > 0),
    CHECK (name NOT LIKE 'Pro/%' OR route = 'dedicated')
);

-- Rates are per million tokens with at most 6 decimals, so that a charge is exact at 12.
CREATE TABLE price_versions (
    price_version     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_id          integer NOT NULL REFERENCES models,
    -- A contract price of one account; NULL is the list price.
    account_id        uuid REFERENCES accounts,
    currency          text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    effective_from    timestamptz NOT NULL,
    -- From this moment the model has no price, and requests for it are denied.
    withdrawn         boolean NOT NULL DEFAULT false,
    input             numeric(18, 6) NOT NULL CHECK (input >= 0),
    output            numeric(18, 6) NOT NULL CHECK (output >= 0),
    cache_read        numeric(18, 6) CHECK (cache_read >= 0),
    cache_write       numeric(18, 6) CHECK (cache_write >= 0),
    reasoning         numeric(18, 6) CHECK (reasoning >= 0),
    audio_input       numeric(18, 6) CHECK (audio_input >= 0),
    audio_output      numeric(18, 6) CHECK (audio_output >= 0),
    image             numeric(18, 6) NOT NULL DEFAULT 0 CHECK (image >= 0),
    request           numeric(18, 6) NOT NULL DEFAULT 0 CHECK (request >= 0),
    cached_response   numeric(18, 6) NOT NULL DEFAULT 0 CHECK (cached_response >= 0),
    cost_currency     text CHECK (cost_currency ~ '^[A-Z]{3}$'),
    cost_input        numeric(18, 6) CHECK (cost_input >= 0),
    cost_output       numeric(18, 6) CHECK (cost_output >= 0),
    cost_cache_read   numeric(18, 6) CHECK (cost_cache_read >= 0),
    cost_cache_write  numeric(18, 6) CHECK (cost_cache_write >= 0),
    cost_reasoning    numeric(18, 6) CHECK (cost_reasoning >= 0),
    cost_audio_input  numeric(18, 6) CHECK (cost_audio_input >= 0),
    cost_audio_output numeric(18, 6) CHECK (cost_audio_output >= 0),
    source            text NOT NULL DEFAULT '',
    source_date       text NOT NULL DEFAULT '',
    -- A discounted price is a version of its own, made when an account with that discount first
    -- meets the price.
    discounted_from   bigint REFERENCES price_versions,
    discount_percent  numeric(7, 4) CHECK (discount_percent > 0 AND discount_percent <= 100),
    published_at      timestamptz NOT NULL DEFAULT now(),
    CHECK ((discounted_from IS NULL) = (discount_percent IS NULL)),
    CHECK ((cost_currency IS NULL) = (cost_input IS NULL)),
    CHECK ((cost_input IS NULL) = (cost_output IS NULL)),
    UNIQUE (discounted_from, discount_percent)
);

CREATE UNIQUE INDEX price_versions_list ON price_versions (model_id, currency, effective_from)
    WHERE account_id IS NULL AND discounted_from IS NULL;
CREATE UNIQUE INDEX price_versions_contract
    ON price_versions (model_id, currency, account_id, effective_from)
    WHERE account_id IS NOT NULL AND discounted_from IS NULL;

-- Above this many prompt tokens, cached ones included, these rates price the whole request.
CREATE TABLE price_tiers (
    price_version bigint NOT NULL REFERENCES price_versions,
    above         bigint NOT NULL CHECK (above > 0),
    input         numeric(18, 6) NOT NULL CHECK (input >= 0),
    output        numeric(18, 6) NOT NULL CHECK (output >= 0),
    cache_read    numeric(18, 6) CHECK (cache_read >= 0),
    cache_write   numeric(18, 6) CHECK (cache_write >= 0),
    reasoning     numeric(18, 6) CHECK (reasoning >= 0),
    audio_input   numeric(18, 6) CHECK (audio_input >= 0),
    audio_output  numeric(18, 6) CHECK (audio_output >= 0),
    PRIMARY KEY (price_version, above)
);

CREATE TRIGGER price_versions_append_only BEFORE UPDATE OR DELETE ON price_versions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER price_tiers_append_only BEFORE UPDATE OR DELETE ON price_tiers
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Posting costs less: the same rows and the same rules, with fewer steps.

-- The gateway's id of a request is no person's, and nearly every event has one: it moves to the
-- event, so that most events need no row of details.
ALTER TABLE usage_events ADD COLUMN request_id text NOT NULL DEFAULT '';

-- A statement reads and prepares the constraints of its tables anew each time it runs, which for a
-- small batch cost more than the rows: one for all counts and balances instead of one for each, and
-- long lists and patterns in a function, which a session prepares once.
CREATE FUNCTION is_sound_transfer(p_debit text, p_credit text, p_currency text, p_kind text)
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
            'account_closing');
END $$;
ALTER TABLE transfers
    DROP CONSTRAINT transfers_debit_check,
    DROP CONSTRAINT transfers_credit_check,
    DROP CONSTRAINT transfers_currency_check,
    DROP CONSTRAINT transfers_kind_check,
    DROP CONSTRAINT transfers_check,
    ADD CONSTRAINT transfers_sound_check
        CHECK (is_sound_transfer(debit, credit, currency, kind));
ALTER TABLE account_funds
    DROP CONSTRAINT account_funds_promotional_check,
    DROP CONSTRAINT account_funds_credits_check,
    DROP CONSTRAINT account_funds_overdrawn_check,
    DROP CONSTRAINT account_funds_unbilled_check,
    DROP CONSTRAINT account_funds_receivable_check,
    DROP CONSTRAINT account_funds_unapplied_check,
    DROP CONSTRAINT account_funds_credit_limit_check,
    DROP CONSTRAINT account_funds_leased_check,
    ADD CONSTRAINT account_funds_amounts_check
        CHECK (least(promotional, credits, overdrawn, unbilled, receivable, unapplied,
                     credit_limit, leased) >= 0);
ALTER TABLE usage_events
    DROP CONSTRAINT usage_events_input_check,
    DROP CONSTRAINT usage_events_output_check,
    DROP CONSTRAINT usage_events_cache_read_check,
    DROP CONSTRAINT usage_events_cache_write_check,
    DROP CONSTRAINT usage_events_reasoning_check,
    DROP CONSTRAINT usage_events_audio_input_check,
    DROP CONSTRAINT usage_events_audio_output_check,
    DROP CONSTRAINT usage_events_images_check,
    DROP CONSTRAINT usage_events_charge_check,
    DROP CONSTRAINT usage_events_saving_check,
    DROP CONSTRAINT usage_events_authorized_check,
    ADD CONSTRAINT usage_events_counts_check
        CHECK (least(input, output, cache_read, cache_write, reasoning, audio_input, audio_output,
                     images) >= 0),
    ADD CONSTRAINT usage_events_amounts_check CHECK (least(charge, saving, authorized) >= 0);

DROP FUNCTION post_new_usage;
DROP FUNCTION post_usage;

-- Posts a batch of usage: inserts the events, charges each account with one posting, settles what
-- other servers authorized. One statement, so that a process frozen in the middle holds no lock.
--
-- p_accounts are the batch's accounts in their order; p_slots says (from 1) which of them an event
-- is of. Events are in the order of account and id. p_request_ids to p_fallbacks have one element
-- for each event; p_budget_firsts says where an event's budgets begin in p_budgets, p_budget_counts
-- how many there are. p_budget_events and p_detail_events say which event (from 1) an element is of.
--
-- With p_skip_locked, accounts that somebody else holds are left out and come back as `busy`.
-- `inserted` are the events that had not been recorded before.
CREATE FUNCTION post_usage(
    p_instance          uuid,
    p_skip_locked       boolean,
    p_accounts          uuid[],
    p_slots             integer[],
    p_event_ids         uuid[],
    p_key_ids           uuid[],
    p_occurred_at       timestamptz[],
    p_price_versions    bigint[],
    p_model_ids         integer[],
    p_input             bigint[],
    p_output            bigint[],
    p_cache_read        bigint[],
    p_cache_write       bigint[],
    p_reasoning         bigint[],
    p_audio_input       bigint[],
    p_audio_output      bigint[],
    p_images            bigint[],
    p_tiers             bigint[],
    p_latencies         integer[],
    p_outcomes          smallint[],
    p_cache_hits        boolean[],
    p_charges           numeric[],
    p_savings           numeric[],
    p_authorized        numeric[],
    p_settle_by         timestamptz[],
    p_issuers           uuid[],
    p_request_ids       text[],
    p_providers         text[],
    p_served_models     text[],
    p_regions           text[],
    p_fallbacks         text[],
    p_budget_firsts     integer[],
    p_budget_counts     integer[],
    p_budget_events     integer[],
    p_budgets           uuid[],
    p_budget_starts     date[],
    p_detail_events     integer[],
    p_detail_end_users  text[],
    p_detail_labels     jsonb[],
    p_detail_dialects   smallint[],
    p_detail_usages     jsonb[],
    OUT busy            uuid[],
    OUT inserted        uuid[],
    OUT overrun_events  uuid[],
    OUT overruns        numeric[]
)
LANGUAGE plpgsql
-- A plan for each batch would cost more than the batch.
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    -- Per account, in the order of p_accounts: the last posting's number, -1 where it is busy, the
    -- first open period, and what usage is charged to.
    v_postings    bigint[];
    v_opens       date[];
    v_promotional numeric[];
    v_credits     numeric[];
    v_net_30      boolean[];
    v_currencies  text[];
    v_now         timestamptz;
    v_mixed       boolean;
BEGIN
    IF p_skip_locked THEN
        SELECT array_agg(coalesce(locked.posting, -1) ORDER BY wanted.slot),
               array_agg(coalesce(locked.open_period, '-infinity') ORDER BY wanted.slot),
               array_agg(locked.promotional ORDER BY wanted.slot),
               array_agg(locked.credits ORDER BY wanted.slot),
               array_agg(locked.net_30 ORDER BY wanted.slot),
               array_agg(locked.currency ORDER BY wanted.slot),
               array_agg(wanted.account_id) FILTER (WHERE locked.posting IS NULL)
        INTO v_postings, v_opens, v_promotional, v_credits, v_net_30, v_currencies, busy
        FROM unnest(p_accounts) WITH ORDINALITY AS wanted (account_id, slot)
        LEFT JOIN (
            SELECT account_id, posting, open_period, promotional, credits, net_30, currency
            FROM account_funds
            WHERE account_id = ANY (p_accounts)
            ORDER BY account_id
            FOR UPDATE SKIP LOCKED
        ) AS locked USING (account_id);
    ELSE
        SELECT array_agg(posting), array_agg(open_period), array_agg(promotional),
               array_agg(credits), array_agg(net_30), array_agg(currency)
        INTO v_postings, v_opens, v_promotional, v_credits, v_net_30, v_currencies
        FROM (
            SELECT posting, open_period, promotional, credits, net_30, currency
            FROM account_funds
            WHERE account_id = ANY (p_accounts)
            ORDER BY account_id
            FOR UPDATE
        ) AS locked;
        IF cardinality(v_postings) IS DISTINCT FROM cardinality(p_accounts) THEN
            RAISE EXCEPTION 'the batch names an account that has no funds'
                USING ERRCODE = 'foreign_key_violation';
        END IF;
    END IF;
    v_now := clock_timestamp();

    -- What was read under the locks holds until this commits: nobody else can change it.
    WITH recorded AS (
        INSERT INTO usage_events (
            account_id, event_id, key_id, occurred_at, recorded_at, posting, price_version,
            input, output, cache_read, cache_write, reasoning, audio_input, audio_output, images,
            tier_above, latency_ms, model_id, period, outcome, cache_hit, charge, saving,
            authorized, overrun, request_id, provider, served_model, region, fallback_from,
            budgets, budget_starts)
        SELECT p_accounts[slot], event_id, key_id, occurred_at, v_now,
               CASE WHEN charge > 0 THEN v_postings[slot] + 1 ELSE 0 END, price_version,
               input, output, cache_read, cache_write, reasoning, audio_input, audio_output, images,
               tier_above, latency_ms, model_id,
               greatest(date_trunc('month', occurred_at AT TIME ZONE 'UTC')::date, v_opens[slot]),
               outcome, cache_hit, charge, saving, authorized,
               CASE WHEN settle_by >= v_now THEN greatest(0, charge - authorized) ELSE charge END,
               request_id, provider, served_model, region, fallback_from,
               CASE WHEN budget_count > 0
                    THEN p_budgets[budget_first : budget_first + budget_count - 1] END,
               CASE WHEN budget_count > 0
                    THEN p_budget_starts[budget_first : budget_first + budget_count - 1] END
        FROM unnest(p_slots, p_event_ids, p_key_ids, p_occurred_at, p_price_versions, p_model_ids,
                    p_input, p_output, p_cache_read, p_cache_write, p_reasoning, p_audio_input,
                    p_audio_output, p_images, p_tiers, p_latencies, p_outcomes, p_cache_hits,
                    p_charges, p_savings, p_authorized, p_settle_by, p_request_ids, p_providers,
                    p_served_models, p_regions, p_fallbacks, p_budget_firsts, p_budget_counts)
             AS event (slot, event_id, key_id, occurred_at, price_version, model_id,
                       input, output, cache_read, cache_write, reasoning, audio_input,
                       audio_output, images, tier_above, latency_ms, outcome, cache_hit,
                       charge, saving, authorized, settle_by, request_id, provider,
                       served_model, region, fallback_from, budget_first, budget_count)
        WHERE v_postings[slot] >= 0
        ON CONFLICT DO NOTHING RETURNING event_id
    ), kept AS (
        SELECT slot, event_id, charge,
               date_trunc('month', occurred_at AT TIME ZONE 'UTC')::date AS month,
               CASE WHEN settle_by >= v_now THEN greatest(0, charge - authorized) ELSE charge END
                   AS overrun
        FROM unnest(p_slots, p_event_ids, p_occurred_at, p_charges, p_authorized, p_settle_by)
             AS event (slot, event_id, occurred_at, charge, authorized, settle_by)
        JOIN recorded USING (event_id)
        WHERE v_postings[slot] >= 0
    ), totals AS (
        SELECT slot, greatest(max(month), v_opens[slot]) AS period,
               greatest(min(month), v_opens[slot]) < max(month) AS mixed, sum(charge) AS charged
        FROM kept
        WHERE charge > 0
        GROUP BY slot
    ), from_promotional AS (
        SELECT slot, period, charged, v_credits[slot] AS credits,
               least(charged, v_promotional[slot]) AS promotional
        FROM totals
    ), split AS (
        SELECT p_accounts[slot] AS account_id, v_postings[slot] + 1 AS posting,
               v_currencies[slot] AS currency, v_net_30[slot] AS net_30, period, promotional,
               least(charged - promotional, credits) AS credits,
               greatest(0, charged - promotional - credits) AS rest
        FROM from_promotional
    ), transferred AS (
        INSERT INTO transfers (account_id, posting, line, debit, credit, amount, currency, kind,
                               period, posted_at, idempotency_key)
        SELECT split.account_id, split.posting, source.line, source.debit, '4000', source.amount,
               split.currency, source.kind, split.period, v_now, 'usage:' || split.posting
        FROM split
        CROSS JOIN LATERAL (VALUES
            (1::smallint, '2010', 'usage_promotional', split.promotional),
            (2::smallint, '2000', 'usage_credits', split.credits),
            (3::smallint, '1100', 'usage_unbilled', CASE WHEN split.net_30 THEN split.rest ELSE 0 END),
            (4::smallint, '1150', 'usage_overdrawn', CASE WHEN split.net_30 THEN 0 ELSE split.rest END)
        ) AS source (line, debit, kind, amount)
        WHERE source.amount > 0
    ), charged AS (
        UPDATE account_funds AS funds
        SET promotional = funds.promotional - split.promotional,
            credits     = funds.credits - split.credits,
            unbilled    = funds.unbilled + CASE WHEN split.net_30 THEN split.rest ELSE 0 END,
            overdrawn   = funds.overdrawn + CASE WHEN split.net_30 THEN 0 ELSE split.rest END,
            posting     = split.posting
        FROM split
        WHERE funds.account_id = split.account_id
    )
    SELECT array_agg(event_id),
           array_agg(event_id) FILTER (WHERE overrun > 0),
           array_agg(overrun) FILTER (WHERE overrun > 0),
           (SELECT bool_or(mixed) FROM totals)
    INTO inserted, overrun_events, overruns, v_mixed
    FROM kept;
    IF v_mixed THEN
        RAISE EXCEPTION 'the batch mixes billing periods of one account'
            USING ERRCODE = 'check_violation';
    END IF;

    -- What many batches have nothing of.
    IF p_budget_events <> '{}' THEN
        INSERT INTO budget_periods AS spending (account_id, budget_id, period_start, spent)
        SELECT p_accounts[slot], charged.budget, charged.start, sum(charge)
        FROM unnest(p_budget_events, p_budgets, p_budget_starts) AS charged (ordinal, budget, start)
        JOIN unnest(p_slots, p_event_ids, p_charges)
             WITH ORDINALITY AS event (slot, event_id, charge, ordinal) USING (ordinal)
        JOIN unnest(inserted) AS kept (event_id) USING (event_id)
        WHERE charge > 0
        GROUP BY 1, 2, 3
        ON CONFLICT (account_id, budget_id, period_start) DO UPDATE
           SET spent = spending.spent + excluded.spent;
    END IF;
    IF p_detail_events <> '{}' THEN
        INSERT INTO usage_details (account_id, event_id, end_user, labels, dialect, provider_usage)
        SELECT p_accounts[slot], event_id, detail.end_user, detail.labels, detail.dialect,
               detail.provider_usage
        FROM unnest(p_detail_events, p_detail_end_users, p_detail_labels, p_detail_dialects,
                    p_detail_usages)
             AS detail (ordinal, end_user, labels, dialect, provider_usage)
        JOIN unnest(p_slots, p_event_ids)
             WITH ORDINALITY AS event (slot, event_id, ordinal) USING (ordinal)
        JOIN unnest(inserted) AS kept (event_id) USING (event_id);
    END IF;
    -- Usage that nobody authorized has no issuer.
    IF array_remove(array_remove(p_issuers, p_instance), NULL) <> '{}' THEN
        INSERT INTO foreign_settlements (issuer, account_id, authorization_id, charge)
        SELECT issuer, p_accounts[slot], event_id, charge
        FROM unnest(p_slots, p_event_ids, p_charges, p_issuers)
             AS event (slot, event_id, charge, issuer)
        JOIN unnest(inserted) AS kept (event_id) USING (event_id)
        WHERE issuer <> p_instance;
    END IF;
END $$;

-- The same for batches without duplicates, which is cheaper: a duplicate fails it whole with a
-- unique violation, and the caller turns to post_usage. Made from the same text, so that the two
-- never differ in anything else.
DO $$
BEGIN
    EXECUTE replace(
        replace(
            regexp_replace(pg_get_functiondef('post_usage'::regproc),
                           'FUNCTION \S+\.post_usage\(', 'FUNCTION post_new_usage('),
            'ON CONFLICT DO NOTHING RETURNING event_id', ''),
        'JOIN recorded USING (event_id)', '');
END $$;

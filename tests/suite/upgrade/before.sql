SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE FUNCTION public.ensure_usage_partitions(p_months_ahead integer) RETURNS integer
    LANGUAGE plpgsql
    SET lock_timeout TO '2s'
    AS $$
DECLARE
    v_this_month timestamp := date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC');
    v_month      timestamp;
    v_parent     text;
    v_partition  text;
    v_made       integer := 0;
BEGIN
    -- One server at a time.
    PERFORM pg_advisory_xact_lock(hashtextextended('tollgate.ensure_usage_partitions', 0));
    FOR v_month IN
        SELECT generate_series(v_this_month - interval '2 months',
                               v_this_month + make_interval(months => p_months_ahead),
                               interval '1 month')
    LOOP
        FOREACH v_parent IN ARRAY ARRAY['usage_events', 'usage_details'] LOOP
            v_partition := v_parent || to_char(v_month, '_YYYY_MM');
            CONTINUE WHEN to_regclass(v_partition) IS NOT NULL;
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', v_partition, v_parent);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           v_parent, v_partition,
                           first_id_at(v_month AT TIME ZONE 'UTC'),
                           first_id_at((v_month + interval '1 month') AT TIME ZONE 'UTC'));
            -- Attaching brings the parent's row triggers along, but not those of a statement.
            IF v_parent = 'usage_events' THEN
                EXECUTE format('CREATE TRIGGER usage_events_no_truncate BEFORE TRUNCATE ON %I '
                               'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', v_partition);
            END IF;
            v_made := v_made + 1;
        END LOOP;
    END LOOP;
    RETURN v_made;
END $$;
CREATE FUNCTION public.first_id_at(p_moment timestamp with time zone) RETURNS uuid
    LANGUAGE sql STABLE STRICT
    AS $$
    SELECT (lpad(to_hex((extract(epoch FROM p_moment) * 1000)::bigint), 12, '0')
            || repeat('0', 20))::uuid
$$;
CREATE FUNCTION public.heartbeat(p_instance uuid, p_heard bigint, p_ttl interval) RETURNS TABLE(beat_at timestamp with time zone, barrier bigint, live_servers bigint)
    LANGUAGE sql
    AS $$
    UPDATE instances SET heartbeat_at = clock_timestamp(), heard = greatest(heard, p_heard)
     WHERE instance_id = p_instance AND stopped_at IS NULL
    RETURNING heartbeat_at,
              last_barrier(),
              1 + (SELECT count(*) FROM instances AS other
                    WHERE other.instance_id <> p_instance AND other.stopped_at IS NULL
                      AND other.heartbeat_at + p_ttl > clock_timestamp())
$$;
CREATE FUNCTION public.is_sound_transfer(p_debit text, p_credit text, p_currency text, p_kind text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $_$
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
END $_$;
CREATE FUNCTION public.last_barrier() RETURNS bigint
    LANGUAGE sql
    AS $$
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM barriers
$$;
CREATE FUNCTION public.post_new_usage(p_instance uuid, p_skip_locked boolean, p_accounts uuid[], p_slots integer[], p_event_ids uuid[], p_key_ids uuid[], p_occurred_at timestamp with time zone[], p_price_versions bigint[], p_model_ids integer[], p_input bigint[], p_output bigint[], p_cache_read bigint[], p_cache_write bigint[], p_reasoning bigint[], p_audio_input bigint[], p_audio_output bigint[], p_images bigint[], p_tiers bigint[], p_latencies integer[], p_outcomes smallint[], p_cache_hits boolean[], p_charges numeric[], p_savings numeric[], p_authorized numeric[], p_settle_by timestamp with time zone[], p_issuers uuid[], p_request_ids text[], p_providers text[], p_served_models text[], p_regions text[], p_fallbacks text[], p_budget_firsts integer[], p_budget_counts integer[], p_budget_events integer[], p_budgets uuid[], p_budget_starts date[], p_detail_events integer[], p_detail_end_users text[], p_detail_labels jsonb[], p_detail_dialects smallint[], p_detail_usages jsonb[], OUT busy uuid[], OUT inserted uuid[], OUT overrun_events uuid[], OUT overruns numeric[]) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
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
        
    ), kept AS (
        SELECT slot, event_id, charge,
               date_trunc('month', occurred_at AT TIME ZONE 'UTC')::date AS month,
               CASE WHEN settle_by >= v_now THEN greatest(0, charge - authorized) ELSE charge END
                   AS overrun
        FROM unnest(p_slots, p_event_ids, p_occurred_at, p_charges, p_authorized, p_settle_by)
             AS event (slot, event_id, occurred_at, charge, authorized, settle_by)
        
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
CREATE FUNCTION public.post_usage(p_instance uuid, p_skip_locked boolean, p_accounts uuid[], p_slots integer[], p_event_ids uuid[], p_key_ids uuid[], p_occurred_at timestamp with time zone[], p_price_versions bigint[], p_model_ids integer[], p_input bigint[], p_output bigint[], p_cache_read bigint[], p_cache_write bigint[], p_reasoning bigint[], p_audio_input bigint[], p_audio_output bigint[], p_images bigint[], p_tiers bigint[], p_latencies integer[], p_outcomes smallint[], p_cache_hits boolean[], p_charges numeric[], p_savings numeric[], p_authorized numeric[], p_settle_by timestamp with time zone[], p_issuers uuid[], p_request_ids text[], p_providers text[], p_served_models text[], p_regions text[], p_fallbacks text[], p_budget_firsts integer[], p_budget_counts integer[], p_budget_events integer[], p_budgets uuid[], p_budget_starts date[], p_detail_events integer[], p_detail_end_users text[], p_detail_labels jsonb[], p_detail_dialects smallint[], p_detail_usages jsonb[], OUT busy uuid[], OUT inserted uuid[], OUT overrun_events uuid[], OUT overruns numeric[]) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
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
CREATE FUNCTION public.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: correct a mistake with a reversal', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE FUNCTION public.remove_dead_instances(p_silence interval, p_leases integer) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    dead    uuid;
    lease   record;
    freed   numeric;
    removed bigint := 0;
BEGIN
    SELECT instance_id INTO dead FROM instances
     WHERE greatest(heartbeat_at, stopped_at) + promises_for + p_silence < clock_timestamp()
     ORDER BY instance_id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        -- Usage that came later than its issuer's removal: nobody reads of it any more.
        DELETE FROM foreign_settlements AS settled
         WHERE NOT EXISTS (SELECT FROM instances WHERE instance_id = settled.issuer);
        RETURN 0;
    END IF;
    FOR lease IN
        SELECT l.account_id, l.budget_id, l.period_start FROM leases l
         WHERE l.instance_id = dead ORDER BY 1, 2, 3 LIMIT p_leases
    LOOP
        PERFORM 1 FROM account_funds f WHERE f.account_id = lease.account_id FOR UPDATE;
        DELETE FROM leases l
         WHERE l.account_id = lease.account_id AND l.budget_id = lease.budget_id
           AND l.period_start = lease.period_start AND l.instance_id = dead
        RETURNING l.amount INTO freed;
        IF lease.budget_id = '00000000-0000-0000-0000-000000000000' THEN
            UPDATE account_funds f SET leased = f.leased - freed
             WHERE f.account_id = lease.account_id;
        ELSE
            UPDATE budget_periods p SET leased = p.leased - freed
             WHERE p.account_id = lease.account_id AND p.budget_id = lease.budget_id
               AND p.period_start = lease.period_start;
        END IF;
        removed := removed + 1;
    END LOOP;
    IF removed < p_leases THEN
        DELETE FROM instances WHERE instance_id = dead;
        removed := removed + 1;
    END IF;
    RETURN removed;
END $$;
CREATE FUNCTION public.renew_leases(p_instance uuid, p_account uuid[], p_budget uuid[], p_start date[], p_sequence bigint[], p_kept numeric[], p_need numeric[], p_floor numeric[], p_want numeric[], p_not_before timestamp with time zone[], p_recall boolean[]) RETURNS TABLE(account_id uuid, budget_id uuid, period_start date, lost boolean, base numeric, granted numeric, recalled boolean, reached boolean, promotional numeric, credits numeric, overdrawn numeric, unbilled numeric, receivable numeric, unapplied numeric, net_30 boolean, credit_limit numeric, hard boolean, limit_amount numeric, spent numeric, leased numeric, available numeric)
    LANGUAGE plpgsql
    AS $$
DECLARE
    c_funds  CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    asked    record;
    funds    account_funds%ROWTYPE;
    spending record;
    lease    leases%ROWTYPE;
    old      numeric;
    room     numeric;
BEGIN
    -- A server that was removed for dead must not lease again under its old id; the lock keeps the
    -- removal away until we are done.
    PERFORM 1 FROM instances i
      WHERE i.instance_id = p_instance AND i.stopped_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'instance % has been removed', p_instance USING ERRCODE = 'TG001';
    END IF;
    FOR asked IN
        SELECT * FROM unnest(p_account, p_budget, p_start, p_sequence, p_kept, p_need, p_floor,
                             p_want, p_not_before, p_recall)
            AS t(account, budget, start, sequence, kept, need, floor, want, not_before, recall)
        ORDER BY account, budget, start
    LOOP
        -- The account's funds come first, so that one lock serves all its pools.
        IF funds.account_id IS DISTINCT FROM asked.account THEN
            SELECT * INTO funds FROM account_funds f WHERE f.account_id = asked.account FOR UPDATE;
            CONTINUE WHEN NOT FOUND;
        END IF;
        IF asked.budget = c_funds THEN
            available := funds.available;
            leased := funds.leased;
            hard := true;
            limit_amount := NULL;
            spent := NULL;
        ELSE
            INSERT INTO budget_periods (account_id, budget_id, period_start)
            SELECT b.account_id, b.budget_id, asked.start FROM budgets b
             WHERE b.account_id = asked.account AND b.budget_id = asked.budget
            ON CONFLICT ON CONSTRAINT budget_periods_pkey DO NOTHING;
            SELECT b.hard AND b.deleted_at IS NULL AS hard, b.limit_amount, p.spent, p.leased,
                   p.reached_at, b.deleted_at
              INTO spending
              FROM budget_periods p JOIN budgets b USING (account_id, budget_id)
             WHERE p.account_id = asked.account AND p.budget_id = asked.budget
               AND p.period_start = asked.start;
            CONTINUE WHEN NOT FOUND;
            hard := spending.hard;
            limit_amount := spending.limit_amount;
            spent := spending.spent;
            leased := spending.leased;
            available := limit_amount - spent - leased;
        END IF;
        SELECT * INTO lease FROM leases l
         WHERE l.account_id = asked.account AND l.budget_id = asked.budget
           AND l.period_start = asked.start AND l.instance_id = p_instance;
        old := coalesce(lease.amount, 0);
        account_id := asked.account;
        budget_id := asked.budget;
        period_start := asked.start;
        lost := asked.kept > old OR asked.sequence <= coalesce(lease.sequence, 0);
        base := old;
        granted := 0;
        recalled := false;
        reached := false;
        IF NOT lost THEN
            -- A lapsed reservation may still be settled until its cover has ended by this clock.
            IF asked.not_before IS NULL OR clock_timestamp() > asked.not_before THEN
                base := asked.kept;
            END IF;
            room := greatest(0, available + old - base);
            granted := CASE
                WHEN NOT hard
                    THEN greatest(asked.need, asked.want)
                WHEN asked.need <= room
                    THEN greatest(asked.need, least(asked.want, trunc(room / 2, 12)))
                WHEN asked.floor <= room THEN room
                ELSE 0
            END;
            IF base + granted = 0 AND asked.budget <> c_funds THEN
                -- Periods end, and their leases with them. An older renewal that arrives now finds
                -- nothing that it could keep, and what it were granted would only lie idle.
                DELETE FROM leases l
                 WHERE l.account_id = asked.account AND l.budget_id = asked.budget
                   AND l.period_start = asked.start AND l.instance_id = p_instance;
            ELSE
                INSERT INTO leases AS l (account_id, budget_id, period_start, instance_id, amount,
                                         sequence)
                VALUES (asked.account, asked.budget, asked.start, p_instance, base + granted,
                        asked.sequence)
                ON CONFLICT ON CONSTRAINT leases_pkey DO UPDATE
                   SET amount = excluded.amount, sequence = excluded.sequence,
                       renewed_at = clock_timestamp();
            END IF;
            -- What the others have leased of it.
            IF granted < asked.need AND asked.recall AND leased > old THEN
                recalled := true;
                PERFORM pg_notify('tollgate_changed',
                                  format('recall:%s:%s', asked.account, p_instance));
            END IF;
            IF asked.budget = c_funds THEN
                UPDATE account_funds f SET leased = f.leased - old + base + granted
                 WHERE f.account_id = asked.account
                RETURNING f.* INTO funds;
                leased := funds.leased;
                available := funds.available;
            ELSE
                reached := spending.reached_at IS NULL AND spending.deleted_at IS NULL
                           AND (spent >= limit_amount
                                OR granted < asked.need AND leased = old
                                   AND asked.need <= limit_amount);
                UPDATE budget_periods p
                   SET leased = p.leased - old + base + granted,
                       reached_at = CASE WHEN reached THEN clock_timestamp() ELSE p.reached_at END
                 WHERE p.account_id = asked.account AND p.budget_id = asked.budget
                   AND p.period_start = asked.start
                RETURNING p.leased INTO leased;
                available := limit_amount - spent - leased;
                IF reached THEN
                    PERFORM pg_notify('tollgate_budget', json_build_object(
                        'account_id', asked.account, 'budget_id', asked.budget,
                        'period_start', asked.start, 'limit', limit_amount::text,
                        'spent', spent::text, 'hard', hard)::text);
                END IF;
            END IF;
        END IF;
        promotional  := funds.promotional;
        credits      := funds.credits;
        overdrawn    := funds.overdrawn;
        unbilled     := funds.unbilled;
        receivable   := funds.receivable;
        unapplied    := funds.unapplied;
        net_30       := funds.net_30;
        credit_limit := funds.credit_limit;
        RETURN NEXT;
    END LOOP;
END $$;
CREATE FUNCTION public.roll_up_usage(p_margin interval, p_events integer, OUT taken bigint, OUT behind boolean, OUT lag double precision) RETURNS record
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
DECLARE
    -- One millisecond: a load in one transaction may give more than p_events one moment.
    c_least CONSTANT double precision := 0.001;
    v_mark  usage_rollup_watermark;
    v_own   xid8;
    v_next  timestamptz;
BEGIN
    SELECT * INTO v_mark FROM usage_rollup_watermark FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        SELECT extract(epoch FROM clock_timestamp() - recorded_before) INTO lag
        FROM usage_rollup_watermark WHERE isfinite(recorded_before);
        RETURN;
    END IF;
    -- Lost together with what it wrote, if at all: the step is then taken again.
    PERFORM set_config('synchronous_commit', 'off', true);
    v_own := pg_current_xact_id();
    IF pg_snapshot_xmin(pg_current_snapshot()) >= v_mark.candidate_xid
       OR v_mark.candidate_xid > v_own
    THEN
        v_mark.settled := greatest(v_mark.settled, v_mark.candidate);
        v_mark.candidate := now() - p_margin;
        v_mark.candidate_xid := v_own;
    END IF;
    taken := 0;
    v_next := v_mark.settled;
    IF v_mark.recorded_before = '-infinity' THEN
        -- The time before the oldest partition has no events to bound.
        v_next := least(v_next, (SELECT opens FROM usage_window()));
        SELECT count(*) INTO taken FROM usage_events WHERE recorded_at < v_next;
    ELSE
        LOOP
            EXIT WHEN v_next <= v_mark.recorded_before;
            v_next := least(v_mark.settled,
                            v_mark.recorded_before + make_interval(secs => v_mark.slice));
            SELECT count(*) INTO taken
            FROM (SELECT FROM usage_events
                  WHERE recorded_at >= v_mark.recorded_before AND recorded_at < v_next
                  LIMIT p_events + 1) AS bounded;
            EXIT WHEN taken <= p_events OR v_mark.slice <= c_least;
            v_mark.slice := greatest(
                c_least, extract(epoch FROM v_next - v_mark.recorded_before) / 2);
        END LOOP;
        IF taken < p_events / 4 AND v_next < v_mark.settled THEN
            v_mark.slice := v_mark.slice * 2;
        END IF;
    END IF;
    v_next := greatest(v_next, v_mark.recorded_before);
    IF taken > 0 THEN
        -- In the order of the primary key, whose pages it then visits once. Postgres before 18 has no
        -- smallest uuid; as text they have the same order.
        INSERT INTO usage_rollups AS rollup (
            account_id, day, key_id, model_id, requests, input, output, cache_read, cache_write,
            reasoning, audio_input, audio_output, images, charge, overrun, saving,
            first_occurred, last_occurred, first_event, last_event)
        SELECT account_id, (occurred_at AT TIME ZONE 'UTC')::date, key_id, model_id, count(*),
               sum(input), sum(output), sum(cache_read), sum(cache_write), sum(reasoning),
               sum(audio_input), sum(audio_output), sum(images), sum(charge), sum(overrun),
               sum(saving), min(occurred_at), max(occurred_at),
               min(event_id::text COLLATE "C")::uuid, max(event_id::text COLLATE "C")::uuid
        FROM usage_events
        WHERE recorded_at >= v_mark.recorded_before AND recorded_at < v_next
        GROUP BY 1, 2, 3, 4
        ORDER BY 1, 2, 3, 4
        ON CONFLICT (account_id, day, key_id, model_id) DO UPDATE
        SET requests       = rollup.requests + excluded.requests,
            input          = rollup.input + excluded.input,
            output         = rollup.output + excluded.output,
            cache_read     = rollup.cache_read + excluded.cache_read,
            cache_write    = rollup.cache_write + excluded.cache_write,
            reasoning      = rollup.reasoning + excluded.reasoning,
            audio_input    = rollup.audio_input + excluded.audio_input,
            audio_output   = rollup.audio_output + excluded.audio_output,
            images         = rollup.images + excluded.images,
            charge         = rollup.charge + excluded.charge,
            overrun        = rollup.overrun + excluded.overrun,
            saving         = rollup.saving + excluded.saving,
            first_occurred = least(rollup.first_occurred, excluded.first_occurred),
            last_occurred  = greatest(rollup.last_occurred, excluded.last_occurred),
            first_event    = least(rollup.first_event, excluded.first_event),
            last_event     = greatest(rollup.last_event, excluded.last_event);
    END IF;
    UPDATE usage_rollup_watermark
    SET recorded_before = v_next, settled = v_mark.settled, candidate = v_mark.candidate,
        candidate_xid = v_mark.candidate_xid, slice = v_mark.slice;
    behind := v_next < v_mark.settled;
    lag := CASE WHEN isfinite(v_next) THEN extract(epoch FROM clock_timestamp() - v_next) END;
END $$;
CREATE FUNCTION public.usage_window(OUT opens timestamp with time zone, OUT closes timestamp with time zone) RETURNS record
    LANGUAGE sql STABLE
    AS $$
    SELECT min(month) AT TIME ZONE 'UTC', (max(month) + interval '1 month') AT TIME ZONE 'UTC'
    FROM (
        SELECT to_date(right(partition.relname, 7), 'YYYY_MM')::timestamp AS month
        FROM pg_inherits
        JOIN pg_class AS partition ON partition.oid = inhrelid
        WHERE inhparent = 'usage_events'::regclass
    ) AS attached
$$;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public._sqlx_migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);
CREATE TABLE public.account_funds (
    account_id uuid NOT NULL,
    currency text NOT NULL,
    promotional numeric(28,12) DEFAULT 0 NOT NULL,
    credits numeric(28,12) DEFAULT 0 NOT NULL,
    overdrawn numeric(28,12) DEFAULT 0 NOT NULL,
    unbilled numeric(28,12) DEFAULT 0 NOT NULL,
    receivable numeric(28,12) DEFAULT 0 NOT NULL,
    unapplied numeric(28,12) DEFAULT 0 NOT NULL,
    net_30 boolean DEFAULT false NOT NULL,
    credit_limit numeric(28,12) DEFAULT 0 NOT NULL,
    tax_rate numeric(9,6) DEFAULT 0 NOT NULL,
    leased numeric(28,12) DEFAULT 0 NOT NULL,
    posting bigint DEFAULT 0 NOT NULL,
    open_period date DEFAULT '2000-01-01'::date NOT NULL,
    available numeric(28,12) GENERATED ALWAYS AS (((((promotional + credits) - overdrawn) + GREATEST((0)::numeric, (trunc((LEAST(credit_limit, ((credit_limit - receivable) + unapplied)) / ((1)::numeric + tax_rate)), 12) - unbilled))) - leased)) STORED,
    CONSTRAINT account_funds_amounts_check CHECK ((LEAST(promotional, credits, overdrawn, unbilled, receivable, unapplied, credit_limit, leased) >= (0)::numeric)),
    CONSTRAINT account_funds_check CHECK (((overdrawn = (0)::numeric) OR (credits = (0)::numeric))),
    CONSTRAINT account_funds_open_period_check CHECK ((EXTRACT(day FROM open_period) = (1)::numeric)),
    CONSTRAINT account_funds_posting_check CHECK ((posting >= 0)),
    CONSTRAINT account_funds_tax_rate_check CHECK (((tax_rate >= (0)::numeric) AND (tax_rate <= (1)::numeric)))
)
WITH (fillfactor='50');
CREATE TABLE public.account_model_discounts (
    account_id uuid NOT NULL,
    "position" smallint NOT NULL,
    model text NOT NULL,
    percent numeric(7,4) NOT NULL,
    CONSTRAINT account_model_discounts_model_check CHECK (((length(model) >= 1) AND (length(model) <= 200))),
    CONSTRAINT account_model_discounts_percent_check CHECK (((percent >= (0)::numeric) AND (percent <= (100)::numeric)))
);
CREATE TABLE public.accounts (
    account_id uuid NOT NULL,
    handle text NOT NULL,
    display_name text NOT NULL,
    currency text NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    status_reason text DEFAULT ''::text NOT NULL,
    legal_name text DEFAULT ''::text NOT NULL,
    address_line_1 text DEFAULT ''::text NOT NULL,
    address_line_2 text DEFAULT ''::text NOT NULL,
    city text DEFAULT ''::text NOT NULL,
    postal_code text DEFAULT ''::text NOT NULL,
    subdivision text DEFAULT ''::text NOT NULL,
    country_code text DEFAULT ''::text NOT NULL,
    registration_id text DEFAULT ''::text NOT NULL,
    tax_id text DEFAULT ''::text NOT NULL,
    tax_treatment text DEFAULT 'standard'::text NOT NULL,
    tax_rate_percent numeric(7,4) DEFAULT 0 NOT NULL,
    purchase_order text DEFAULT ''::text NOT NULL,
    cost_centre text DEFAULT ''::text NOT NULL,
    accounts_payable_email text DEFAULT ''::text NOT NULL,
    payment_terms text DEFAULT 'prepaid'::text NOT NULL,
    credit_limit numeric(28,12) DEFAULT 0 NOT NULL,
    discount_percent numeric(7,4) DEFAULT 0 NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT accounts_check CHECK (((tax_treatment = 'standard'::text) OR (tax_rate_percent = (0)::numeric))),
    CONSTRAINT accounts_check1 CHECK (((payment_terms = 'net_30'::text) OR (credit_limit = (0)::numeric))),
    CONSTRAINT accounts_country_code_check CHECK ((country_code ~ '^([A-Z]{2})?$'::text)),
    CONSTRAINT accounts_credit_limit_check CHECK ((credit_limit >= (0)::numeric)),
    CONSTRAINT accounts_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT accounts_discount_percent_check CHECK (((discount_percent >= (0)::numeric) AND (discount_percent <= (100)::numeric))),
    CONSTRAINT accounts_display_name_check CHECK (((length(display_name) >= 1) AND (length(display_name) <= 200))),
    CONSTRAINT accounts_handle_check CHECK ((handle ~ '^[a-z][a-z0-9-]{1,39}$'::text)),
    CONSTRAINT accounts_payment_terms_check CHECK ((payment_terms = ANY (ARRAY['prepaid'::text, 'net_30'::text]))),
    CONSTRAINT accounts_status_check CHECK ((status = ANY (ARRAY['active'::text, 'suspended'::text, 'closed'::text]))),
    CONSTRAINT accounts_tax_rate_percent_check CHECK (((tax_rate_percent >= (0)::numeric) AND (tax_rate_percent <= (100)::numeric))),
    CONSTRAINT accounts_tax_treatment_check CHECK ((tax_treatment = ANY (ARRAY['standard'::text, 'exempt'::text, 'reverse_charge'::text])))
);
CREATE TABLE public.api_keys (
    key_id uuid NOT NULL,
    account_id uuid NOT NULL,
    name text NOT NULL,
    tier text NOT NULL,
    key_hash bytea NOT NULL,
    hint text NOT NULL,
    allowed_models text[] DEFAULT '{}'::text[] NOT NULL,
    max_tokens_per_request bigint,
    max_cost_per_request numeric(28,12),
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    revoked_reason text DEFAULT ''::text NOT NULL,
    rotated_from uuid,
    project text DEFAULT ''::text NOT NULL,
    lineage uuid NOT NULL,
    requests_per_minute bigint,
    tokens_per_minute bigint,
    spike_mode text,
    spike_multiple numeric(12,4),
    spike_floor numeric(28,12),
    CONSTRAINT api_keys_check CHECK (((spike_mode IS NULL) = (spike_multiple IS NULL))),
    CONSTRAINT api_keys_check1 CHECK (((spike_mode IS NULL) = (spike_floor IS NULL))),
    CONSTRAINT api_keys_key_hash_check CHECK ((octet_length(key_hash) = 32)),
    CONSTRAINT api_keys_max_cost_per_request_check CHECK ((max_cost_per_request > (0)::numeric)),
    CONSTRAINT api_keys_max_tokens_per_request_check CHECK ((max_tokens_per_request > 0)),
    CONSTRAINT api_keys_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200))),
    CONSTRAINT api_keys_project_check CHECK ((project ~ '^([a-z][a-z0-9-]{1,39})?$'::text)),
    CONSTRAINT api_keys_requests_per_minute_check CHECK (((requests_per_minute >= 1) AND (requests_per_minute <= '4294967295'::bigint))),
    CONSTRAINT api_keys_spike_floor_check CHECK ((spike_floor >= (0)::numeric)),
    CONSTRAINT api_keys_spike_mode_check CHECK ((spike_mode = ANY (ARRAY['refuse'::text, 'flag'::text]))),
    CONSTRAINT api_keys_spike_multiple_check CHECK ((spike_multiple > (1)::numeric)),
    CONSTRAINT api_keys_tier_check CHECK ((tier = ANY (ARRAY['standard'::text, 'pro'::text]))),
    CONSTRAINT api_keys_tokens_per_minute_check CHECK (((tokens_per_minute >= 1) AND (tokens_per_minute <= '4294967295'::bigint)))
);
CREATE SEQUENCE public.barriers
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
CREATE TABLE public.billing_documents (
    document_id uuid NOT NULL,
    account_id uuid NOT NULL,
    kind text NOT NULL,
    series text,
    year integer,
    sequence bigint,
    number text,
    period date NOT NULL,
    currency text NOT NULL,
    net numeric(28,12) NOT NULL,
    tax numeric(28,12) NOT NULL,
    gross numeric(28,12) NOT NULL,
    paid numeric(28,12) NOT NULL,
    due numeric(28,12) NOT NULL,
    taxed_credits_sold numeric(28,12) DEFAULT 0 NOT NULL,
    taxed_credits_used numeric(28,12) DEFAULT 0 NOT NULL,
    issue_date date NOT NULL,
    due_date date,
    posting bigint NOT NULL,
    payment_id uuid,
    content text NOT NULL,
    frozen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT billing_documents_check CHECK ((gross = (net + tax))),
    CONSTRAINT billing_documents_check1 CHECK (((due = (gross - paid)) AND (due >= (0)::numeric))),
    CONSTRAINT billing_documents_check2 CHECK (((number IS NULL) = (kind = 'usage_statement'::text))),
    CONSTRAINT billing_documents_check3 CHECK ((((number IS NULL) = (sequence IS NULL)) AND ((number IS NULL) = (series IS NULL)) AND ((number IS NULL) = (year IS NULL)))),
    CONSTRAINT billing_documents_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT billing_documents_kind_check CHECK ((kind = ANY (ARRAY['invoice'::text, 'prepayment_invoice'::text, 'credit_note'::text, 'receipt'::text, 'usage_statement'::text]))),
    CONSTRAINT billing_documents_net_check CHECK ((net >= (0)::numeric)),
    CONSTRAINT billing_documents_paid_check CHECK ((paid >= (0)::numeric)),
    CONSTRAINT billing_documents_period_check CHECK ((EXTRACT(day FROM period) = (1)::numeric)),
    CONSTRAINT billing_documents_posting_check CHECK ((posting >= 0)),
    CONSTRAINT billing_documents_tax_check CHECK ((tax >= (0)::numeric)),
    CONSTRAINT billing_documents_taxed_credits_sold_check CHECK ((taxed_credits_sold >= (0)::numeric)),
    CONSTRAINT billing_documents_taxed_credits_used_check CHECK ((taxed_credits_used >= (0)::numeric))
);
CREATE TABLE public.billing_runs (
    period date NOT NULL,
    issue_date date NOT NULL,
    after uuid,
    accounts bigint DEFAULT 0 NOT NULL,
    documents bigint DEFAULT 0 NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT billing_runs_period_check CHECK ((EXTRACT(day FROM period) = (1)::numeric))
);
CREATE TABLE public.budget_periods (
    account_id uuid NOT NULL,
    budget_id uuid NOT NULL,
    period_start date NOT NULL,
    spent numeric(28,12) DEFAULT 0 NOT NULL,
    leased numeric(28,12) DEFAULT 0 NOT NULL,
    reached_at timestamp with time zone,
    CONSTRAINT budget_periods_leased_check CHECK ((leased >= (0)::numeric)),
    CONSTRAINT budget_periods_spent_check CHECK ((spent >= (0)::numeric))
)
WITH (fillfactor='50');
CREATE TABLE public.budgets (
    account_id uuid NOT NULL,
    budget_id uuid NOT NULL,
    scope text NOT NULL,
    project text DEFAULT ''::text NOT NULL,
    lineage uuid,
    period text NOT NULL,
    hard boolean NOT NULL,
    limit_amount numeric(28,12) NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    deleted_at timestamp with time zone,
    CONSTRAINT budgets_check CHECK (((scope = 'project'::text) = (project <> ''::text))),
    CONSTRAINT budgets_check1 CHECK (((scope = 'key'::text) = (lineage IS NOT NULL))),
    CONSTRAINT budgets_limit_amount_check CHECK ((limit_amount >= (0)::numeric)),
    CONSTRAINT budgets_period_check CHECK ((period = ANY (ARRAY['day'::text, 'week'::text, 'month'::text, 'total'::text]))),
    CONSTRAINT budgets_scope_check CHECK ((scope = ANY (ARRAY['account'::text, 'project'::text, 'key'::text])))
);
CREATE TABLE public.chargebacks (
    chargeback_id uuid NOT NULL,
    stage text NOT NULL,
    account_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    external_reference text NOT NULL,
    posting bigint NOT NULL,
    unspent numeric(28,12) NOT NULL,
    spent numeric(28,12) NOT NULL,
    currency text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT chargebacks_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT chargebacks_external_reference_check CHECK (((length(external_reference) >= 1) AND (length(external_reference) <= 200))),
    CONSTRAINT chargebacks_posting_check CHECK ((posting >= 0)),
    CONSTRAINT chargebacks_spent_check CHECK ((spent >= (0)::numeric)),
    CONSTRAINT chargebacks_stage_check CHECK ((stage = ANY (ARRAY['opened'::text, 'won'::text, 'lost'::text]))),
    CONSTRAINT chargebacks_unspent_check CHECK ((unspent >= (0)::numeric))
);
CREATE TABLE public.closed_periods (
    account_id uuid NOT NULL,
    period date NOT NULL,
    document_id uuid,
    closed_at_posting bigint NOT NULL,
    closed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT closed_periods_closed_at_posting_check CHECK ((closed_at_posting >= 0)),
    CONSTRAINT closed_periods_period_check CHECK ((EXTRACT(day FROM period) = (1)::numeric))
);
CREATE TABLE public.credit_notes (
    document_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    purpose text NOT NULL,
    replacement_id uuid,
    CONSTRAINT credit_notes_check CHECK (((purpose = 'void'::text) = (replacement_id IS NOT NULL))),
    CONSTRAINT credit_notes_purpose_check CHECK ((purpose = ANY (ARRAY['correction'::text, 'service_level'::text, 'void'::text])))
);
CREATE TABLE public.document_counters (
    series text NOT NULL,
    year integer NOT NULL,
    last bigint NOT NULL,
    CONSTRAINT document_counters_last_check CHECK ((last > 0)),
    CONSTRAINT document_counters_series_check CHECK ((series = ANY (ARRAY['INV'::text, 'PRE'::text, 'CN'::text, 'REC'::text]))),
    CONSTRAINT document_counters_year_check CHECK (((year >= 2000) AND (year <= 9999)))
);
CREATE TABLE public.foreign_settlements (
    issuer uuid NOT NULL,
    account_id uuid NOT NULL,
    authorization_id uuid NOT NULL,
    charge numeric(28,12) NOT NULL
);
CREATE TABLE public.idempotency_keys (
    rpc text NOT NULL,
    idempotency_key text NOT NULL,
    request_hash bytea NOT NULL,
    response bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT idempotency_keys_idempotency_key_check CHECK (((length(idempotency_key) >= 1) AND (length(idempotency_key) <= 128))),
    CONSTRAINT idempotency_keys_request_hash_check CHECK ((octet_length(request_hash) = 32))
);
CREATE TABLE public.instances (
    instance_id uuid NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    heartbeat_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    stopped_at timestamp with time zone,
    description text DEFAULT ''::text NOT NULL,
    promises_for interval NOT NULL,
    heard bigint DEFAULT 0 NOT NULL,
    CONSTRAINT instances_promises_for_check CHECK ((promises_for > '00:00:00'::interval))
);
CREATE TABLE public.settlements (
    settlement_id uuid NOT NULL,
    account_id uuid NOT NULL,
    posting bigint NOT NULL,
    kind text NOT NULL,
    source_id uuid NOT NULL,
    document_id uuid,
    amount numeric(28,12) NOT NULL,
    tax numeric(28,12) DEFAULT 0 NOT NULL,
    settled_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT settlements_amount_check CHECK ((amount <> (0)::numeric)),
    CONSTRAINT settlements_check CHECK (((document_id IS NOT NULL) OR (kind = ANY (ARRAY['unapplied_receipt'::text, 'allocation'::text, 'payment_return'::text, 'credit_note'::text])))),
    CONSTRAINT settlements_check1 CHECK (((tax = (0)::numeric) OR (kind = 'recovery'::text))),
    CONSTRAINT settlements_kind_check CHECK ((kind = ANY (ARRAY['payment'::text, 'withholding'::text, 'unapplied_receipt'::text, 'allocation'::text, 'payment_return'::text, 'credit_note'::text, 'write_off'::text, 'recovery'::text]))),
    CONSTRAINT settlements_posting_check CHECK ((posting > 0))
);
CREATE TABLE public.write_offs (
    write_off_id uuid NOT NULL,
    account_id uuid NOT NULL,
    posting bigint NOT NULL,
    document_id uuid NOT NULL,
    amount numeric(28,12) NOT NULL,
    tax numeric(28,12) NOT NULL,
    reason text NOT NULL,
    written_off_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT write_offs_amount_check CHECK ((amount > (0)::numeric)),
    CONSTRAINT write_offs_check CHECK (((tax >= (0)::numeric) AND (tax <= amount))),
    CONSTRAINT write_offs_posting_check CHECK ((posting > 0))
);
CREATE VIEW public.invoice_standings AS
 SELECT invoice.document_id,
    invoice.account_id,
    invoice.number,
    invoice.currency,
    invoice.issue_date,
    invoice.due_date,
    invoice.gross,
    invoice.tax,
    invoice.due,
    (invoice.due - moved.settled) AS open,
    moved.settled,
    note.credited,
    moved.written_off,
    given_up.relieved,
    moved.recovered,
    moved.recovered_tax
   FROM (((public.billing_documents invoice
     CROSS JOIN LATERAL ( SELECT COALESCE(sum(settlements.amount) FILTER (WHERE (settlements.kind <> 'recovery'::text)), (0)::numeric) AS settled,
            COALESCE(sum(settlements.amount) FILTER (WHERE (settlements.kind = 'write_off'::text)), (0)::numeric) AS written_off,
            COALESCE(sum(settlements.amount) FILTER (WHERE (settlements.kind = 'recovery'::text)), (0)::numeric) AS recovered,
            COALESCE(sum(settlements.tax), (0)::numeric) AS recovered_tax
           FROM public.settlements
          WHERE (settlements.document_id = invoice.document_id)) moved)
     CROSS JOIN LATERAL ( SELECT COALESCE(sum(issued.gross), (0)::numeric) AS credited
           FROM (public.credit_notes
             JOIN public.billing_documents issued ON ((issued.document_id = credit_notes.document_id)))
          WHERE (credit_notes.invoice_id = invoice.document_id)) note)
     CROSS JOIN LATERAL ( SELECT COALESCE(sum(write_offs.tax), (0)::numeric) AS relieved
           FROM public.write_offs
          WHERE (write_offs.document_id = invoice.document_id)) given_up)
  WHERE (invoice.kind = 'invoice'::text);
CREATE TABLE public.key_norms (
    account_id uuid NOT NULL,
    lineage uuid NOT NULL,
    request_norm numeric(28,12) NOT NULL,
    request_samples integer NOT NULL,
    minute_norm numeric(28,12) NOT NULL,
    minute_samples integer NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT key_norms_minute_norm_check CHECK ((minute_norm >= (0)::numeric)),
    CONSTRAINT key_norms_minute_samples_check CHECK ((minute_samples >= 0)),
    CONSTRAINT key_norms_request_norm_check CHECK ((request_norm >= (0)::numeric)),
    CONSTRAINT key_norms_request_samples_check CHECK ((request_samples >= 0))
);
CREATE TABLE public.leases (
    account_id uuid NOT NULL,
    instance_id uuid NOT NULL,
    amount numeric(28,12) NOT NULL,
    sequence bigint NOT NULL,
    renewed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    budget_id uuid DEFAULT '00000000-0000-0000-0000-000000000000'::uuid NOT NULL,
    period_start date DEFAULT '2000-01-01'::date NOT NULL,
    CONSTRAINT leases_amount_check CHECK ((amount >= (0)::numeric))
)
WITH (fillfactor='50');
CREATE TABLE public.ledger_accounts (
    code text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    CONSTRAINT ledger_accounts_code_check CHECK ((code ~ '^[0-9]{4}$'::text)),
    CONSTRAINT ledger_accounts_kind_check CHECK ((kind = ANY (ARRAY['asset'::text, 'contra-liability'::text, 'liability'::text, 'income'::text, 'contra-income'::text, 'expense'::text])))
);
CREATE TABLE public.models (
    model_id integer NOT NULL,
    name text NOT NULL,
    provider text DEFAULT ''::text NOT NULL,
    route text DEFAULT 'standard'::text NOT NULL,
    active boolean DEFAULT true NOT NULL,
    context_tokens bigint,
    max_output_tokens bigint,
    CONSTRAINT models_check CHECK (((name !~~ 'Pro/%'::text) OR (route = 'dedicated'::text))),
    CONSTRAINT models_context_tokens_check CHECK ((context_tokens > 0)),
    CONSTRAINT models_max_output_tokens_check CHECK ((max_output_tokens > 0)),
    CONSTRAINT models_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200))),
    CONSTRAINT models_route_check CHECK ((route = ANY (ARRAY['standard'::text, 'dedicated'::text])))
);
ALTER TABLE public.models ALTER COLUMN model_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.models_model_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.payment_returns (
    return_id uuid NOT NULL,
    account_id uuid NOT NULL,
    posting bigint NOT NULL,
    source_id uuid NOT NULL,
    external_reference text NOT NULL,
    amount numeric(28,12) NOT NULL,
    reason text NOT NULL,
    returned_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT payment_returns_amount_check CHECK ((amount > (0)::numeric)),
    CONSTRAINT payment_returns_external_reference_check CHECK (((length(external_reference) >= 1) AND (length(external_reference) <= 200))),
    CONSTRAINT payment_returns_posting_check CHECK ((posting > 0))
);
CREATE TABLE public.payments (
    payment_id uuid NOT NULL,
    account_id uuid NOT NULL,
    posting bigint NOT NULL,
    method text NOT NULL,
    external_reference text NOT NULL,
    amount numeric(28,12) NOT NULL,
    currency text NOT NULL,
    note text DEFAULT ''::text NOT NULL,
    paid_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    tax numeric(28,12) DEFAULT 0 NOT NULL,
    tax_code text DEFAULT '2100'::text NOT NULL,
    purpose text DEFAULT 'top_up'::text NOT NULL,
    fee numeric(28,12) DEFAULT 0 NOT NULL,
    received_on date,
    CONSTRAINT payments_amount_check CHECK ((amount > (0)::numeric)),
    CONSTRAINT payments_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT payments_external_reference_check CHECK (((length(external_reference) >= 1) AND (length(external_reference) <= 200))),
    CONSTRAINT payments_fee_check CHECK (((fee >= (0)::numeric) AND (fee <= amount))),
    CONSTRAINT payments_method_check CHECK ((method = ANY (ARRAY['VISA'::text, 'MASTERCARD'::text, 'PAYPAL'::text, 'WIRE'::text, 'MANUAL'::text]))),
    CONSTRAINT payments_posting_check CHECK ((posting > 0)),
    CONSTRAINT payments_purpose_check CHECK ((purpose = ANY (ARRAY['top_up'::text, 'invoices'::text]))),
    CONSTRAINT payments_received_on_check CHECK (((purpose = 'invoices'::text) = (received_on IS NOT NULL))),
    CONSTRAINT payments_tax_check CHECK (((tax >= (0)::numeric) AND (tax < amount))),
    CONSTRAINT payments_tax_code_check CHECK ((tax_code ~ '^2100(\.[A-Z0-9-]{2,6})?$'::text))
);
CREATE TABLE public.price_tiers (
    price_version bigint NOT NULL,
    above bigint NOT NULL,
    input numeric(18,6) NOT NULL,
    output numeric(18,6) NOT NULL,
    cache_read numeric(18,6),
    cache_write numeric(18,6),
    reasoning numeric(18,6),
    audio_input numeric(18,6),
    audio_output numeric(18,6),
    CONSTRAINT price_tiers_above_check CHECK ((above > 0)),
    CONSTRAINT price_tiers_audio_input_check CHECK ((audio_input >= (0)::numeric)),
    CONSTRAINT price_tiers_audio_output_check CHECK ((audio_output >= (0)::numeric)),
    CONSTRAINT price_tiers_cache_read_check CHECK ((cache_read >= (0)::numeric)),
    CONSTRAINT price_tiers_cache_write_check CHECK ((cache_write >= (0)::numeric)),
    CONSTRAINT price_tiers_input_check CHECK ((input >= (0)::numeric)),
    CONSTRAINT price_tiers_output_check CHECK ((output >= (0)::numeric)),
    CONSTRAINT price_tiers_reasoning_check CHECK ((reasoning >= (0)::numeric))
);
CREATE TABLE public.price_versions (
    price_version bigint NOT NULL,
    model_id integer NOT NULL,
    account_id uuid,
    currency text NOT NULL,
    effective_from timestamp with time zone NOT NULL,
    withdrawn boolean DEFAULT false NOT NULL,
    input numeric(18,6) NOT NULL,
    output numeric(18,6) NOT NULL,
    cache_read numeric(18,6),
    cache_write numeric(18,6),
    reasoning numeric(18,6),
    audio_input numeric(18,6),
    audio_output numeric(18,6),
    image numeric(18,6) DEFAULT 0 NOT NULL,
    request numeric(18,6) DEFAULT 0 NOT NULL,
    cached_response numeric(18,6) DEFAULT 0 NOT NULL,
    cost_currency text,
    cost_input numeric(18,6),
    cost_output numeric(18,6),
    cost_cache_read numeric(18,6),
    cost_cache_write numeric(18,6),
    cost_reasoning numeric(18,6),
    cost_audio_input numeric(18,6),
    cost_audio_output numeric(18,6),
    source text DEFAULT ''::text NOT NULL,
    source_date text DEFAULT ''::text NOT NULL,
    discounted_from bigint,
    discount_percent numeric(7,4),
    published_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT price_versions_audio_input_check CHECK ((audio_input >= (0)::numeric)),
    CONSTRAINT price_versions_audio_output_check CHECK ((audio_output >= (0)::numeric)),
    CONSTRAINT price_versions_cache_read_check CHECK ((cache_read >= (0)::numeric)),
    CONSTRAINT price_versions_cache_write_check CHECK ((cache_write >= (0)::numeric)),
    CONSTRAINT price_versions_cached_response_check CHECK ((cached_response >= (0)::numeric)),
    CONSTRAINT price_versions_check CHECK (((discounted_from IS NULL) = (discount_percent IS NULL))),
    CONSTRAINT price_versions_check1 CHECK (((cost_currency IS NULL) = (cost_input IS NULL))),
    CONSTRAINT price_versions_check2 CHECK (((cost_input IS NULL) = (cost_output IS NULL))),
    CONSTRAINT price_versions_cost_audio_input_check CHECK ((cost_audio_input >= (0)::numeric)),
    CONSTRAINT price_versions_cost_audio_output_check CHECK ((cost_audio_output >= (0)::numeric)),
    CONSTRAINT price_versions_cost_cache_read_check CHECK ((cost_cache_read >= (0)::numeric)),
    CONSTRAINT price_versions_cost_cache_write_check CHECK ((cost_cache_write >= (0)::numeric)),
    CONSTRAINT price_versions_cost_currency_check CHECK ((cost_currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT price_versions_cost_input_check CHECK ((cost_input >= (0)::numeric)),
    CONSTRAINT price_versions_cost_output_check CHECK ((cost_output >= (0)::numeric)),
    CONSTRAINT price_versions_cost_reasoning_check CHECK ((cost_reasoning >= (0)::numeric)),
    CONSTRAINT price_versions_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT price_versions_discount_percent_check CHECK (((discount_percent > (0)::numeric) AND (discount_percent <= (100)::numeric))),
    CONSTRAINT price_versions_image_check CHECK ((image >= (0)::numeric)),
    CONSTRAINT price_versions_input_check CHECK ((input >= (0)::numeric)),
    CONSTRAINT price_versions_output_check CHECK ((output >= (0)::numeric)),
    CONSTRAINT price_versions_reasoning_check CHECK ((reasoning >= (0)::numeric)),
    CONSTRAINT price_versions_request_check CHECK ((request >= (0)::numeric))
);
ALTER TABLE public.price_versions ALTER COLUMN price_version ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.price_versions_price_version_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.promotional_grants (
    grant_id uuid NOT NULL,
    account_id uuid NOT NULL,
    posting bigint NOT NULL,
    amount numeric(28,12) NOT NULL,
    currency text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    granted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT promotional_grants_amount_check CHECK ((amount > (0)::numeric)),
    CONSTRAINT promotional_grants_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT promotional_grants_posting_check CHECK ((posting > 0))
);
CREATE TABLE public.promotional_withdrawals (
    withdrawal_id uuid NOT NULL,
    account_id uuid NOT NULL,
    posting bigint NOT NULL,
    amount numeric(28,12) NOT NULL,
    currency text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    withdrawn_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT promotional_withdrawals_amount_check CHECK ((amount > (0)::numeric)),
    CONSTRAINT promotional_withdrawals_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT promotional_withdrawals_posting_check CHECK ((posting > 0))
);
CREATE TABLE public.quarantined_usage (
    quarantine_id uuid NOT NULL,
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    event jsonb NOT NULL,
    error text NOT NULL,
    quarantined_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE public.refunds (
    refund_id uuid NOT NULL,
    account_id uuid NOT NULL,
    posting bigint NOT NULL,
    method text NOT NULL,
    external_reference text NOT NULL,
    amount numeric(28,12) NOT NULL,
    currency text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    refunded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT refunds_amount_check CHECK ((amount > (0)::numeric)),
    CONSTRAINT refunds_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT refunds_external_reference_check CHECK (((length(external_reference) >= 1) AND (length(external_reference) <= 200))),
    CONSTRAINT refunds_method_check CHECK ((method = ANY (ARRAY['VISA'::text, 'MASTERCARD'::text, 'PAYPAL'::text, 'WIRE'::text, 'MANUAL'::text]))),
    CONSTRAINT refunds_posting_check CHECK ((posting > 0))
);
CREATE UNLOGGED TABLE public.reservation_answers (
    question uuid NOT NULL,
    instance_id uuid NOT NULL,
    reservations jsonb NOT NULL,
    answered_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE public.seller_versions (
    seller_version bigint NOT NULL,
    seller jsonb NOT NULL,
    set_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT seller_versions_seller_check CHECK ((jsonb_typeof(seller) = 'object'::text))
);
ALTER TABLE public.seller_versions ALTER COLUMN seller_version ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.seller_versions_seller_version_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.signing_keys (
    purpose text NOT NULL,
    key_id text NOT NULL,
    secret bytea NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    retired_at timestamp with time zone,
    CONSTRAINT signing_keys_purpose_check CHECK ((purpose = 'grant'::text)),
    CONSTRAINT signing_keys_secret_check CHECK ((octet_length(secret) >= 32))
);
CREATE TABLE public.tax_rates (
    tax_rate_version bigint NOT NULL,
    jurisdiction text NOT NULL,
    effective_from date NOT NULL,
    rate_percent numeric(7,4) NOT NULL,
    label text NOT NULL,
    due_on_payment boolean NOT NULL,
    set_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT tax_rates_jurisdiction_check CHECK ((jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'::text)),
    CONSTRAINT tax_rates_label_check CHECK (((length(label) >= 1) AND (length(label) <= 40))),
    CONSTRAINT tax_rates_rate_percent_check CHECK (((rate_percent >= (0)::numeric) AND (rate_percent <= (100)::numeric)))
);
ALTER TABLE public.tax_rates ALTER COLUMN tax_rate_version ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.tax_rates_tax_rate_version_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.transfers (
    account_id uuid NOT NULL,
    posting bigint NOT NULL,
    line smallint NOT NULL,
    debit text NOT NULL,
    credit text NOT NULL,
    amount numeric(28,12) NOT NULL,
    currency text NOT NULL,
    kind text NOT NULL,
    period date NOT NULL,
    posted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    cause_id uuid,
    idempotency_key text NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    CONSTRAINT transfers_amount_check CHECK ((amount > (0)::numeric)),
    CONSTRAINT transfers_line_check CHECK ((line > 0)),
    CONSTRAINT transfers_period_check CHECK ((EXTRACT(day FROM period) = (1)::numeric)),
    CONSTRAINT transfers_posting_check CHECK ((posting > 0)),
    CONSTRAINT transfers_sound_check CHECK (public.is_sound_transfer(debit, credit, currency, kind))
);
CREATE TABLE public.unsettled_authorizations (
    account_id uuid NOT NULL,
    authorization_id uuid NOT NULL,
    key_id uuid NOT NULL,
    model text NOT NULL,
    reserved numeric(28,12) NOT NULL,
    authorized_at timestamp with time zone NOT NULL,
    expired_at timestamp with time zone NOT NULL,
    request_id text DEFAULT ''::text NOT NULL
);
CREATE TABLE public.usage_details (
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    request_id text DEFAULT ''::text NOT NULL,
    end_user text DEFAULT ''::text NOT NULL,
    labels jsonb,
    dialect smallint,
    provider_usage jsonb
)
PARTITION BY RANGE (event_id);
CREATE TABLE public.usage_details_2026_09 (
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    request_id text DEFAULT ''::text NOT NULL,
    end_user text DEFAULT ''::text NOT NULL,
    labels jsonb,
    dialect smallint,
    provider_usage jsonb
);
CREATE TABLE public.usage_details_2026_10 (
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    request_id text DEFAULT ''::text NOT NULL,
    end_user text DEFAULT ''::text NOT NULL,
    labels jsonb,
    dialect smallint,
    provider_usage jsonb
);
CREATE TABLE public.usage_details_2026_11 (
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    request_id text DEFAULT ''::text NOT NULL,
    end_user text DEFAULT ''::text NOT NULL,
    labels jsonb,
    dialect smallint,
    provider_usage jsonb
);
CREATE TABLE public.usage_details_2026_12 (
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    request_id text DEFAULT ''::text NOT NULL,
    end_user text DEFAULT ''::text NOT NULL,
    labels jsonb,
    dialect smallint,
    provider_usage jsonb
);
CREATE TABLE public.usage_details_2027_01 (
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    request_id text DEFAULT ''::text NOT NULL,
    end_user text DEFAULT ''::text NOT NULL,
    labels jsonb,
    dialect smallint,
    provider_usage jsonb
);
CREATE TABLE public.usage_details_2027_02 (
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    request_id text DEFAULT ''::text NOT NULL,
    end_user text DEFAULT ''::text NOT NULL,
    labels jsonb,
    dialect smallint,
    provider_usage jsonb
);
CREATE TABLE public.usage_events (
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    key_id uuid NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    posting bigint NOT NULL,
    price_version bigint NOT NULL,
    input bigint NOT NULL,
    output bigint NOT NULL,
    cache_read bigint NOT NULL,
    cache_write bigint NOT NULL,
    reasoning bigint NOT NULL,
    audio_input bigint NOT NULL,
    audio_output bigint NOT NULL,
    images bigint NOT NULL,
    tier_above bigint DEFAULT 0 NOT NULL,
    latency_ms integer,
    model_id integer NOT NULL,
    period date NOT NULL,
    outcome smallint NOT NULL,
    cache_hit boolean NOT NULL,
    charge numeric(28,12) NOT NULL,
    saving numeric(28,12) DEFAULT 0 NOT NULL,
    authorized numeric(28,12) NOT NULL,
    overrun numeric(28,12) DEFAULT 0 NOT NULL,
    provider text DEFAULT ''::text NOT NULL,
    served_model text DEFAULT ''::text NOT NULL,
    region text DEFAULT ''::text NOT NULL,
    fallback_from text DEFAULT ''::text NOT NULL,
    budgets uuid[],
    budget_starts date[],
    request_id text DEFAULT ''::text NOT NULL,
    CONSTRAINT usage_events_amounts_check CHECK ((LEAST(charge, saving, authorized) >= (0)::numeric)),
    CONSTRAINT usage_events_check CHECK (((overrun >= (0)::numeric) AND (overrun <= charge))),
    CONSTRAINT usage_events_check1 CHECK (((charge = (0)::numeric) = (posting = 0))),
    CONSTRAINT usage_events_check2 CHECK ((NOT (cardinality(budgets) IS DISTINCT FROM cardinality(budget_starts)))),
    CONSTRAINT usage_events_counts_check CHECK ((LEAST(input, output, cache_read, cache_write, reasoning, audio_input, audio_output, images) >= 0)),
    CONSTRAINT usage_events_outcome_check CHECK (((outcome >= 1) AND (outcome <= 6))),
    CONSTRAINT usage_events_posting_check CHECK ((posting >= 0))
)
PARTITION BY RANGE (event_id);
CREATE TABLE public.usage_events_2026_09 (
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    key_id uuid NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    posting bigint NOT NULL,
    price_version bigint NOT NULL,
    input bigint NOT NULL,
    output bigint NOT NULL,
    cache_read bigint NOT NULL,
    cache_write bigint NOT NULL,
    reasoning bigint NOT NULL,
    audio_input bigint NOT NULL,
    audio_output bigint NOT NULL,
    images bigint NOT NULL,
    tier_above bigint DEFAULT 0 NOT NULL,
    latency_ms integer,
    model_id integer NOT NULL,
    period date NOT NULL,
    outcome smallint NOT NULL,
    cache_hit boolean NOT NULL,
    charge numeric(28,12) NOT NULL,
    saving numeric(28,12) DEFAULT 0 NOT NULL,
    authorized numeric(28,12) NOT NULL,
    overrun numeric(28,12) DEFAULT 0 NOT NULL,
    provider text DEFAULT ''::text NOT NULL,
    served_model text DEFAULT ''::text NOT NULL,
    region text DEFAULT ''::text NOT NULL,
    fallback_from text DEFAULT ''::text NOT NULL,
    budgets uuid[],
    budget_starts date[],
    request_id text DEFAULT ''::text NOT NULL,
    CONSTRAINT usage_events_amounts_check CHECK ((LEAST(charge, saving, authorized) >= (0)::numeric)),
    CONSTRAINT usage_events_check CHECK (((overrun >= (0)::numeric) AND (overrun <= charge))),
    CONSTRAINT usage_events_check1 CHECK (((charge = (0)::numeric) = (posting = 0))),
    CONSTRAINT usage_events_check2 CHECK ((NOT (cardinality(budgets) IS DISTINCT FROM cardinality(budget_starts)))),
    CONSTRAINT usage_events_counts_check CHECK ((LEAST(input, output, cache_read, cache_write, reasoning, audio_input, audio_output, images) >= 0)),
    CONSTRAINT usage_events_outcome_check CHECK (((outcome >= 1) AND (outcome <= 6))),
    CONSTRAINT usage_events_posting_check CHECK ((posting >= 0))
);
CREATE TABLE public.usage_events_2026_10 (
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    key_id uuid NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    posting bigint NOT NULL,
    price_version bigint NOT NULL,
    input bigint NOT NULL,
    output bigint NOT NULL,
    cache_read bigint NOT NULL,
    cache_write bigint NOT NULL,
    reasoning bigint NOT NULL,
    audio_input bigint NOT NULL,
    audio_output bigint NOT NULL,
    images bigint NOT NULL,
    tier_above bigint DEFAULT 0 NOT NULL,
    latency_ms integer,
    model_id integer NOT NULL,
    period date NOT NULL,
    outcome smallint NOT NULL,
    cache_hit boolean NOT NULL,
    charge numeric(28,12) NOT NULL,
    saving numeric(28,12) DEFAULT 0 NOT NULL,
    authorized numeric(28,12) NOT NULL,
    overrun numeric(28,12) DEFAULT 0 NOT NULL,
    provider text DEFAULT ''::text NOT NULL,
    served_model text DEFAULT ''::text NOT NULL,
    region text DEFAULT ''::text NOT NULL,
    fallback_from text DEFAULT ''::text NOT NULL,
    budgets uuid[],
    budget_starts date[],
    request_id text DEFAULT ''::text NOT NULL,
    CONSTRAINT usage_events_amounts_check CHECK ((LEAST(charge, saving, authorized) >= (0)::numeric)),
    CONSTRAINT usage_events_check CHECK (((overrun >= (0)::numeric) AND (overrun <= charge))),
    CONSTRAINT usage_events_check1 CHECK (((charge = (0)::numeric) = (posting = 0))),
    CONSTRAINT usage_events_check2 CHECK ((NOT (cardinality(budgets) IS DISTINCT FROM cardinality(budget_starts)))),
    CONSTRAINT usage_events_counts_check CHECK ((LEAST(input, output, cache_read, cache_write, reasoning, audio_input, audio_output, images) >= 0)),
    CONSTRAINT usage_events_outcome_check CHECK (((outcome >= 1) AND (outcome <= 6))),
    CONSTRAINT usage_events_posting_check CHECK ((posting >= 0))
);
CREATE TABLE public.usage_events_2026_11 (
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    key_id uuid NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    posting bigint NOT NULL,
    price_version bigint NOT NULL,
    input bigint NOT NULL,
    output bigint NOT NULL,
    cache_read bigint NOT NULL,
    cache_write bigint NOT NULL,
    reasoning bigint NOT NULL,
    audio_input bigint NOT NULL,
    audio_output bigint NOT NULL,
    images bigint NOT NULL,
    tier_above bigint DEFAULT 0 NOT NULL,
    latency_ms integer,
    model_id integer NOT NULL,
    period date NOT NULL,
    outcome smallint NOT NULL,
    cache_hit boolean NOT NULL,
    charge numeric(28,12) NOT NULL,
    saving numeric(28,12) DEFAULT 0 NOT NULL,
    authorized numeric(28,12) NOT NULL,
    overrun numeric(28,12) DEFAULT 0 NOT NULL,
    provider text DEFAULT ''::text NOT NULL,
    served_model text DEFAULT ''::text NOT NULL,
    region text DEFAULT ''::text NOT NULL,
    fallback_from text DEFAULT ''::text NOT NULL,
    budgets uuid[],
    budget_starts date[],
    request_id text DEFAULT ''::text NOT NULL,
    CONSTRAINT usage_events_amounts_check CHECK ((LEAST(charge, saving, authorized) >= (0)::numeric)),
    CONSTRAINT usage_events_check CHECK (((overrun >= (0)::numeric) AND (overrun <= charge))),
    CONSTRAINT usage_events_check1 CHECK (((charge = (0)::numeric) = (posting = 0))),
    CONSTRAINT usage_events_check2 CHECK ((NOT (cardinality(budgets) IS DISTINCT FROM cardinality(budget_starts)))),
    CONSTRAINT usage_events_counts_check CHECK ((LEAST(input, output, cache_read, cache_write, reasoning, audio_input, audio_output, images) >= 0)),
    CONSTRAINT usage_events_outcome_check CHECK (((outcome >= 1) AND (outcome <= 6))),
    CONSTRAINT usage_events_posting_check CHECK ((posting >= 0))
);
CREATE TABLE public.usage_events_2026_12 (
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    key_id uuid NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    posting bigint NOT NULL,
    price_version bigint NOT NULL,
    input bigint NOT NULL,
    output bigint NOT NULL,
    cache_read bigint NOT NULL,
    cache_write bigint NOT NULL,
    reasoning bigint NOT NULL,
    audio_input bigint NOT NULL,
    audio_output bigint NOT NULL,
    images bigint NOT NULL,
    tier_above bigint DEFAULT 0 NOT NULL,
    latency_ms integer,
    model_id integer NOT NULL,
    period date NOT NULL,
    outcome smallint NOT NULL,
    cache_hit boolean NOT NULL,
    charge numeric(28,12) NOT NULL,
    saving numeric(28,12) DEFAULT 0 NOT NULL,
    authorized numeric(28,12) NOT NULL,
    overrun numeric(28,12) DEFAULT 0 NOT NULL,
    provider text DEFAULT ''::text NOT NULL,
    served_model text DEFAULT ''::text NOT NULL,
    region text DEFAULT ''::text NOT NULL,
    fallback_from text DEFAULT ''::text NOT NULL,
    budgets uuid[],
    budget_starts date[],
    request_id text DEFAULT ''::text NOT NULL,
    CONSTRAINT usage_events_amounts_check CHECK ((LEAST(charge, saving, authorized) >= (0)::numeric)),
    CONSTRAINT usage_events_check CHECK (((overrun >= (0)::numeric) AND (overrun <= charge))),
    CONSTRAINT usage_events_check1 CHECK (((charge = (0)::numeric) = (posting = 0))),
    CONSTRAINT usage_events_check2 CHECK ((NOT (cardinality(budgets) IS DISTINCT FROM cardinality(budget_starts)))),
    CONSTRAINT usage_events_counts_check CHECK ((LEAST(input, output, cache_read, cache_write, reasoning, audio_input, audio_output, images) >= 0)),
    CONSTRAINT usage_events_outcome_check CHECK (((outcome >= 1) AND (outcome <= 6))),
    CONSTRAINT usage_events_posting_check CHECK ((posting >= 0))
);
CREATE TABLE public.usage_events_2027_01 (
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    key_id uuid NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    posting bigint NOT NULL,
    price_version bigint NOT NULL,
    input bigint NOT NULL,
    output bigint NOT NULL,
    cache_read bigint NOT NULL,
    cache_write bigint NOT NULL,
    reasoning bigint NOT NULL,
    audio_input bigint NOT NULL,
    audio_output bigint NOT NULL,
    images bigint NOT NULL,
    tier_above bigint DEFAULT 0 NOT NULL,
    latency_ms integer,
    model_id integer NOT NULL,
    period date NOT NULL,
    outcome smallint NOT NULL,
    cache_hit boolean NOT NULL,
    charge numeric(28,12) NOT NULL,
    saving numeric(28,12) DEFAULT 0 NOT NULL,
    authorized numeric(28,12) NOT NULL,
    overrun numeric(28,12) DEFAULT 0 NOT NULL,
    provider text DEFAULT ''::text NOT NULL,
    served_model text DEFAULT ''::text NOT NULL,
    region text DEFAULT ''::text NOT NULL,
    fallback_from text DEFAULT ''::text NOT NULL,
    budgets uuid[],
    budget_starts date[],
    request_id text DEFAULT ''::text NOT NULL,
    CONSTRAINT usage_events_amounts_check CHECK ((LEAST(charge, saving, authorized) >= (0)::numeric)),
    CONSTRAINT usage_events_check CHECK (((overrun >= (0)::numeric) AND (overrun <= charge))),
    CONSTRAINT usage_events_check1 CHECK (((charge = (0)::numeric) = (posting = 0))),
    CONSTRAINT usage_events_check2 CHECK ((NOT (cardinality(budgets) IS DISTINCT FROM cardinality(budget_starts)))),
    CONSTRAINT usage_events_counts_check CHECK ((LEAST(input, output, cache_read, cache_write, reasoning, audio_input, audio_output, images) >= 0)),
    CONSTRAINT usage_events_outcome_check CHECK (((outcome >= 1) AND (outcome <= 6))),
    CONSTRAINT usage_events_posting_check CHECK ((posting >= 0))
);
CREATE TABLE public.usage_events_2027_02 (
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    key_id uuid NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    posting bigint NOT NULL,
    price_version bigint NOT NULL,
    input bigint NOT NULL,
    output bigint NOT NULL,
    cache_read bigint NOT NULL,
    cache_write bigint NOT NULL,
    reasoning bigint NOT NULL,
    audio_input bigint NOT NULL,
    audio_output bigint NOT NULL,
    images bigint NOT NULL,
    tier_above bigint DEFAULT 0 NOT NULL,
    latency_ms integer,
    model_id integer NOT NULL,
    period date NOT NULL,
    outcome smallint NOT NULL,
    cache_hit boolean NOT NULL,
    charge numeric(28,12) NOT NULL,
    saving numeric(28,12) DEFAULT 0 NOT NULL,
    authorized numeric(28,12) NOT NULL,
    overrun numeric(28,12) DEFAULT 0 NOT NULL,
    provider text DEFAULT ''::text NOT NULL,
    served_model text DEFAULT ''::text NOT NULL,
    region text DEFAULT ''::text NOT NULL,
    fallback_from text DEFAULT ''::text NOT NULL,
    budgets uuid[],
    budget_starts date[],
    request_id text DEFAULT ''::text NOT NULL,
    CONSTRAINT usage_events_amounts_check CHECK ((LEAST(charge, saving, authorized) >= (0)::numeric)),
    CONSTRAINT usage_events_check CHECK (((overrun >= (0)::numeric) AND (overrun <= charge))),
    CONSTRAINT usage_events_check1 CHECK (((charge = (0)::numeric) = (posting = 0))),
    CONSTRAINT usage_events_check2 CHECK ((NOT (cardinality(budgets) IS DISTINCT FROM cardinality(budget_starts)))),
    CONSTRAINT usage_events_counts_check CHECK ((LEAST(input, output, cache_read, cache_write, reasoning, audio_input, audio_output, images) >= 0)),
    CONSTRAINT usage_events_outcome_check CHECK (((outcome >= 1) AND (outcome <= 6))),
    CONSTRAINT usage_events_posting_check CHECK ((posting >= 0))
);
CREATE TABLE public.usage_reversals (
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    posting bigint NOT NULL,
    reason text NOT NULL,
    reversed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    to_promotional numeric(28,12) NOT NULL,
    to_credits numeric(28,12) NOT NULL,
    to_unbilled numeric(28,12) NOT NULL,
    to_overdrawn numeric(28,12) NOT NULL,
    CONSTRAINT usage_reversals_to_credits_check CHECK ((to_credits >= (0)::numeric)),
    CONSTRAINT usage_reversals_to_overdrawn_check CHECK ((to_overdrawn >= (0)::numeric)),
    CONSTRAINT usage_reversals_to_promotional_check CHECK ((to_promotional >= (0)::numeric)),
    CONSTRAINT usage_reversals_to_unbilled_check CHECK ((to_unbilled >= (0)::numeric))
);
CREATE TABLE public.usage_rollup_watermark (
    only_one boolean DEFAULT true NOT NULL,
    recorded_before timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    settled timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    candidate timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    candidate_xid xid8 DEFAULT '0'::xid8 NOT NULL,
    slice double precision DEFAULT 60 NOT NULL,
    CONSTRAINT usage_rollup_watermark_only_one_check CHECK (only_one)
);
CREATE TABLE public.usage_rollups (
    account_id uuid NOT NULL,
    day date NOT NULL,
    key_id uuid NOT NULL,
    model_id integer NOT NULL,
    requests bigint NOT NULL,
    input bigint NOT NULL,
    output bigint NOT NULL,
    cache_read bigint NOT NULL,
    cache_write bigint NOT NULL,
    reasoning bigint NOT NULL,
    audio_input bigint NOT NULL,
    audio_output bigint NOT NULL,
    images bigint NOT NULL,
    charge numeric NOT NULL,
    overrun numeric NOT NULL,
    saving numeric NOT NULL,
    first_occurred timestamp with time zone NOT NULL,
    last_occurred timestamp with time zone NOT NULL,
    first_event uuid NOT NULL,
    last_event uuid NOT NULL
)
WITH (fillfactor='70');
ALTER TABLE ONLY public.usage_details ATTACH PARTITION public.usage_details_2026_09 FOR VALUES FROM ('01a05a43-fc00-0000-0000-000000000000') TO ('01a0f4c2-c400-0000-0000-000000000000');
ALTER TABLE ONLY public.usage_details ATTACH PARTITION public.usage_details_2026_10 FOR VALUES FROM ('01a0f4c2-c400-0000-0000-000000000000') TO ('01a19467-e800-0000-0000-000000000000');
ALTER TABLE ONLY public.usage_details ATTACH PARTITION public.usage_details_2026_11 FOR VALUES FROM ('01a19467-e800-0000-0000-000000000000') TO ('01a22ee6-b000-0000-0000-000000000000');
ALTER TABLE ONLY public.usage_details ATTACH PARTITION public.usage_details_2026_12 FOR VALUES FROM ('01a22ee6-b000-0000-0000-000000000000') TO ('01a2ce8b-d400-0000-0000-000000000000');
ALTER TABLE ONLY public.usage_details ATTACH PARTITION public.usage_details_2027_01 FOR VALUES FROM ('01a2ce8b-d400-0000-0000-000000000000') TO ('01a36e30-f800-0000-0000-000000000000');
ALTER TABLE ONLY public.usage_details ATTACH PARTITION public.usage_details_2027_02 FOR VALUES FROM ('01a36e30-f800-0000-0000-000000000000') TO ('01a3fe63-0800-0000-0000-000000000000');
ALTER TABLE ONLY public.usage_events ATTACH PARTITION public.usage_events_2026_09 FOR VALUES FROM ('01a05a43-fc00-0000-0000-000000000000') TO ('01a0f4c2-c400-0000-0000-000000000000');
ALTER TABLE ONLY public.usage_events ATTACH PARTITION public.usage_events_2026_10 FOR VALUES FROM ('01a0f4c2-c400-0000-0000-000000000000') TO ('01a19467-e800-0000-0000-000000000000');
ALTER TABLE ONLY public.usage_events ATTACH PARTITION public.usage_events_2026_11 FOR VALUES FROM ('01a19467-e800-0000-0000-000000000000') TO ('01a22ee6-b000-0000-0000-000000000000');
ALTER TABLE ONLY public.usage_events ATTACH PARTITION public.usage_events_2026_12 FOR VALUES FROM ('01a22ee6-b000-0000-0000-000000000000') TO ('01a2ce8b-d400-0000-0000-000000000000');
ALTER TABLE ONLY public.usage_events ATTACH PARTITION public.usage_events_2027_01 FOR VALUES FROM ('01a2ce8b-d400-0000-0000-000000000000') TO ('01a36e30-f800-0000-0000-000000000000');
ALTER TABLE ONLY public.usage_events ATTACH PARTITION public.usage_events_2027_02 FOR VALUES FROM ('01a36e30-f800-0000-0000-000000000000') TO ('01a3fe63-0800-0000-0000-000000000000');
INSERT INTO public._sqlx_migrations VALUES
	(1, 'accounts', '2026-11-27 03:34:32.945409+00', true, '\x630a5ae9407a012083e26b88a8b94d394c7fa0f352a6f40a99fef720db0545708fc4d1da745b46ab3bed884a46a81396', 44398371),
	(2, 'price book', '2026-11-27 03:34:32.991349+00', true, '\xd822e04d7799c9b024b7860e571b877f69b173cf212b2b0f138629ca363c207573e441ef3db8c27dc419ffaaaa06f44d', 46312042),
	(3, 'ledger', '2026-11-27 03:34:33.039065+00', true, '\xe1f3ede1a2b5ae107a6a3de63aa9ff8af4ff50d23cf44a05a34d62c548af5e5595f098318c9bc54ed518432a1a838882', 68169549),
	(4, 'usage', '2026-11-27 03:34:33.113807+00', true, '\xe17c47c7b0f6578816278c26d15dd21b7b676fe185f33198f21300b251ee1da15683612b60465a7f66ee702daaef08a0', 31809504),
	(5, 'leases', '2026-11-27 03:34:33.14988+00', true, '\xb805214e715a154c35a84e64ca4faa646aed56f5e4232451eeeece859ef1f0a8cb67526dbefab8542cdd0593c2576bfd', 39877536),
	(6, 'credits', '2026-11-27 03:34:33.191639+00', true, '\x2982b3ec377f200ca1c7011bd9f26534f01fe0a9dd9a1369d7ede8c3ef3c18d260b8926c32ced866ba05db7933c51036', 80363617),
	(7, 'post usage', '2026-11-27 03:34:33.273749+00', true, '\x9a121e3df3d82984b5b667be55808201c6d476a2415575ca36c8f94376075370fa5334d0d247281e749dd7db37666dd0', 200448247),
	(8, 'lease functions', '2026-11-27 03:34:33.47783+00', true, '\xd95bca764a8535acdc6bf183bdf2edf61e65ac6a54bcf00e9ace71f71ae65587291b8ce1e3e6f01b5ba25a36a2a5b7d5', 3908619),
	(9, 'key limits', '2026-11-27 03:34:33.489835+00', true, '\xb8f1bcf0d919073aae27cd076d6c57e0f9073098dc931cc55ade354f6ac12f3b5627cd03080727c85d0d282882d5bfc5', 11116653),
	(10, 'acknowledgements', '2026-11-27 03:34:33.502499+00', true, '\x82b6a4dbd180bbc68233cbf22b731f74c56ceba4e044d711aecdd2d3ee6cfea257136e1cd52b1d5d8b9cd789be454160', 23316180),
	(11, 'budgets', '2026-11-27 03:34:33.529803+00', true, '\x5618e9ebe045faab4f4d81dd1473c4c497e088b8d3b2a5b2c2fc6dde7294f7f9fb748f5360f2fb61bb681be112128a82', 43457760),
	(12, 'usage rollups', '2026-11-27 03:34:33.574818+00', true, '\x43e84c29db7b54e2548dddcb977f8e54f87d5abe7e78c5d72a6891c6d8ee6c9c60e12aeaa4df35fe36c7ba4a3175ea04', 21492292),
	(13, 'leaner posting', '2026-11-27 03:34:33.599024+00', true, '\xe9e8a552b717a8d621da0931235058cd5f3ef9cdd1c560a1f28b9f00aca692c9dcce3d2854796978c8545696bdf33112', 18051856),
	(14, 'billing', '2026-11-27 03:34:33.620504+00', true, '\xb8cedaf1dbb81536b338ac5037c1ebddaeda0267b892b52f2fa1662929b854054de20904c02d5e98cc54f74df248ad71', 105618426),
	(15, 'settlement', '2026-11-27 03:34:33.731103+00', true, '\x2a6b6fc9d1fdd3155f829bf83afd29b47eac906bb7b1a6fb9ed4a331bae478836db0560940bcde00700c3b690ed310ae', 140304993);
INSERT INTO public.account_funds VALUES
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 'USD', 0.000000000000, 0.000000000000, 0.000000000000, 12.602700000000, 9.600000000000, 0.000000000000, true, 500.000000000000, 0.000000, 0.000000000000, 10, '2026-10-01', DEFAULT),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', 'USD', 0.000000000000, 0.000000000000, 0.000000000000, 79.110000000000, 68.110000000000, 0.000000000000, true, 10000.000000000000, 0.000000, 0.000000000000, 13, '2026-10-01', DEFAULT),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', 'USD', 0.000000000000, 49.646580000000, 0.000000000000, 0.000000000000, 0.000000000000, 0.000000000000, false, 0.000000000000, 0.000000, 0.000000000000, 11, '2026-10-01', DEFAULT);
INSERT INTO public.accounts VALUES
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', 'startup', 'Startup', 'USD', 'active', '', '', '', '', '', '', '', '', '', '', 'standard', 0.0000, '', '', '', 'prepaid', 0.000000000000, 0.0000, 1, '2026-11-27 03:34:34.151469+00', '2026-11-27 03:34:34.151469+00'),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', 'enterprise', 'Enterprise AG', 'USD', 'active', '', 'Enterprise AG', 'Ring 1', '', 'Berlin', '10115', '', 'DE', '', 'DE123456789', 'reverse_charge', 0.0000, '', '', 'ap@enterprise.example', 'net_30', 10000.000000000000, 0.0000, 1, '2026-11-27 03:34:34.195224+00', '2026-11-27 03:34:34.195224+00'),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 'hybrid', 'Hybrid', 'USD', 'active', '', '', '', '', '', '', '', '', '', '', 'standard', 0.0000, '', '', '', 'net_30', 500.000000000000, 10.0000, 1, '2026-11-27 03:34:34.227675+00', '2026-11-27 03:34:34.227675+00');
INSERT INTO public.api_keys VALUES
	('01a21b11-b306-7570-91e5-9cc54e5f16bc', '01a21b11-b1ab-77c0-8cfb-7903fa789ede', 'production', 'standard', '\x4cd342152f6436fa810f802b2188037b61cce966571d502ce210e6c34a784406', 'ga_sk_…O32a', '{}', NULL, NULL, '2026-11-27 03:34:34.50193+00', NULL, NULL, '', NULL, '', '01a21b11-b306-7570-91e5-9cc54e5f16bc', NULL, NULL, NULL, NULL, NULL),
	('01a21b11-b328-7790-8c80-67e4d5794a6c', '01a21b11-b1d3-776c-8d3d-32f6058e919a', 'production', 'pro', '\x130d070a109ac2c1cc95c352843c29da477211b982ef9b400780c4359e918df5', 'ga_pro_…26g8', '{}', NULL, NULL, '2026-11-27 03:34:34.535918+00', NULL, NULL, '', NULL, '', '01a21b11-b328-7790-8c80-67e4d5794a6c', NULL, NULL, NULL, NULL, NULL),
	('01a21b11-b35a-755d-9d82-fa69b6631593', '01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 'production', 'standard', '\x31db7a826095bd1abb6dd0915f57ae856e72b80ff1a37426444ec0bd5d8faeba', 'ga_sk_…v6mL', '{}', NULL, NULL, '2026-11-27 03:34:34.578099+00', NULL, NULL, '', NULL, '', '01a21b11-b35a-755d-9d82-fa69b6631593', NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.billing_documents VALUES
	('01a21b11-b243-7259-a47a-91cc86387deb', '01a21b11-b1ab-77c0-8cfb-7903fa789ede', 'receipt', 'REC', 2026, 1, 'REC-2026-000001', '2026-11-01', 'USD', 50.000000000000, 0.000000000000, 50.000000000000, 50.000000000000, 0.000000000000, 0.000000000000, 0.000000000000, '2026-11-27', NULL, 1, '01a21b11-b235-7331-802f-af76d30d2109', '{"kind":"receipt","number":"REC-2026-000001","account_id":"01a21b11-b1ab-77c0-8cfb-7903fa789ede","account_handle":"startup","currency":"USD","issue_date":"2026-11-27","due_date":null,"service_period":null,"seller":{"legal_name":"Example Gateway Ltd","trading_name":"","address":{"line_1":"1 Quay Street","line_2":"","city":"Dublin","postal_code":"","subdivision":"","country_code":"IE"},"registration_id":"","tax_id":"IE1234567T","electronic_address":null,"email":"","telephone":"","contact":""},"buyer":{"legal_name":"Startup","trading_name":"","address":{"line_1":"","line_2":"","city":"","postal_code":"","subdivision":"","country_code":""},"registration_id":"","tax_id":"","electronic_address":null,"email":"","telephone":"","contact":""},"purchase_order":"","buyer_reference":"startup","cost_centre":"","preceding":[],"reason":"","lines":[{"position":1,"description":"Prepaid credits","model":"","model_id":null,"class":"credits","tier_above":0,"price_version":null,"service_days":null,"quantity":"1","price":"50","list_price":null,"discount_percent":null,"net":"50","tax":{"category":"outside_scope"}}],"allowances":[],"taxes":[{"tax":{"category":"outside_scope"},"taxable":"50","amount":"0","exemption_reason":"No tax falls due on this payment.","exemption_code":"VATEX-EU-O"}],"totals":{"lines":"50","allowances":"0","net":"50","tax":"0","gross":"50","paid":"50","due":"0"},"remittance":null,"notes":["Received with thanks by Example Gateway Ltd."]}', '2026-11-27 03:34:34.325267+00'),
	('01a21b11-b282-735c-bc6c-208fd9e5e217', '01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 'receipt', 'REC', 2026, 2, 'REC-2026-000002', '2026-11-01', 'USD', 3.000000000000, 0.000000000000, 3.000000000000, 3.000000000000, 0.000000000000, 0.000000000000, 0.000000000000, '2026-11-27', NULL, 1, '01a21b11-b27e-77da-aeb0-117baf39c8dd', '{"kind":"receipt","number":"REC-2026-000002","account_id":"01a21b11-b1f4-7698-9ba2-8bc20bcacb93","account_handle":"hybrid","currency":"USD","issue_date":"2026-11-27","due_date":null,"service_period":null,"seller":{"legal_name":"Example Gateway Ltd","trading_name":"","address":{"line_1":"1 Quay Street","line_2":"","city":"Dublin","postal_code":"","subdivision":"","country_code":"IE"},"registration_id":"","tax_id":"IE1234567T","electronic_address":null,"email":"","telephone":"","contact":""},"buyer":{"legal_name":"Hybrid","trading_name":"","address":{"line_1":"","line_2":"","city":"","postal_code":"","subdivision":"","country_code":""},"registration_id":"","tax_id":"","electronic_address":null,"email":"","telephone":"","contact":""},"purchase_order":"","buyer_reference":"hybrid","cost_centre":"","preceding":[],"reason":"","lines":[{"position":1,"description":"Prepaid credits","model":"","model_id":null,"class":"credits","tier_above":0,"price_version":null,"service_days":null,"quantity":"1","price":"3","list_price":null,"discount_percent":null,"net":"3","tax":{"category":"outside_scope"}}],"allowances":[],"taxes":[{"tax":{"category":"outside_scope"},"taxable":"3","amount":"0","exemption_reason":"No tax falls due on this payment.","exemption_code":"VATEX-EU-O"}],"totals":{"lines":"3","allowances":"0","net":"3","tax":"0","gross":"3","paid":"3","due":"0"},"remittance":null,"notes":["Received with thanks by Example Gateway Ltd."]}', '2026-11-27 03:34:34.371694+00'),
	('01a21b11-b78e-7103-9865-10158738b1f3', '01a21b11-b1ab-77c0-8cfb-7903fa789ede', 'usage_statement', NULL, NULL, NULL, NULL, '2026-09-01', 'USD', 0.000000000000, 0.000000000000, 0.000000000000, 0.000000000000, 0.000000000000, 0.000000000000, 0.000000000000, '2026-11-27', NULL, 7, NULL, '{"kind":"usage_statement","number":null,"account_id":"01a21b11-b1ab-77c0-8cfb-7903fa789ede","account_handle":"startup","currency":"USD","issue_date":"2026-11-27","due_date":null,"service_period":{"first":"2026-09-01","last":"2026-09-30"},"seller":{"legal_name":"Example Gateway Ltd","trading_name":"","address":{"line_1":"1 Quay Street","line_2":"","city":"Dublin","postal_code":"","subdivision":"","country_code":"IE"},"registration_id":"","tax_id":"IE1234567T","electronic_address":null,"email":"","telephone":"","contact":""},"buyer":{"legal_name":"Startup","trading_name":"","address":{"line_1":"","line_2":"","city":"","postal_code":"","subdivision":"","country_code":""},"registration_id":"","tax_id":"","electronic_address":null,"email":"","telephone":"","contact":""},"purchase_order":"","buyer_reference":"startup","cost_centre":"","preceding":[],"reason":"","lines":[{"position":1,"description":"acme/parrot – input tokens","model":"acme/parrot","model_id":1,"class":"input","tier_above":0,"price_version":1,"service_days":{"first":"2026-09-03","last":"2026-09-17"},"quantity":"200000","price":"1.25","list_price":null,"discount_percent":null,"net":"0.25","tax":{"category":"outside_scope"}},{"position":2,"description":"acme/parrot – output tokens","model":"acme/parrot","model_id":1,"class":"output","tier_above":0,"price_version":1,"service_days":{"first":"2026-09-03","last":"2026-09-17"},"quantity":"40000","price":"10","list_price":null,"discount_percent":null,"net":"0.4","tax":{"category":"outside_scope"}},{"position":3,"description":"acme/parrot – cache read tokens","model":"acme/parrot","model_id":1,"class":"cache_read","tier_above":0,"price_version":1,"service_days":{"first":"2026-09-03","last":"2026-09-17"},"quantity":"6000","price":"0.125","list_price":null,"discount_percent":null,"net":"0","tax":{"category":"outside_scope"}},{"position":4,"description":"acme/parrot – cache write tokens","model":"acme/parrot","model_id":1,"class":"cache_write","tier_above":0,"price_version":1,"service_days":{"first":"2026-09-03","last":"2026-09-17"},"quantity":"4000","price":"1.5625","list_price":null,"discount_percent":null,"net":"0.01","tax":{"category":"outside_scope"}},{"position":5,"description":"acme/parrot – reasoning tokens","model":"acme/parrot","model_id":1,"class":"reasoning","tier_above":0,"price_version":1,"service_days":{"first":"2026-09-03","last":"2026-09-17"},"quantity":"1000","price":"12","list_price":null,"discount_percent":null,"net":"0.01","tax":{"category":"outside_scope"}},{"position":6,"description":"acme/parrot – requests","model":"acme/parrot","model_id":1,"class":"request","tier_above":0,"price_version":1,"service_days":{"first":"2026-09-03","last":"2026-09-17"},"quantity":"2","price":"0.001","list_price":null,"discount_percent":null,"net":"0","tax":{"category":"outside_scope"}}],"allowances":[{"kind":"promotional_credits","reason":"Paid with promotional credits","amount":"0.67","tax":{"category":"outside_scope"}}],"taxes":[{"tax":{"category":"outside_scope"},"taxable":"0","amount":"0","exemption_reason":"Not subject to tax.","exemption_code":"VATEX-EU-O"}],"totals":{"lines":"0.67","allowances":"0.67","net":"0","tax":"0","gross":"0","paid":"0","due":"0"},"remittance":null,"notes":[]}', '2026-11-27 03:34:35.665885+00'),
	('01a21b11-b7a2-718f-8a24-38c376042659', '01a21b11-b1d3-776c-8d3d-32f6058e919a', 'invoice', 'INV', 2026, 1, 'INV-2026-000001', '2026-09-01', 'USD', 79.110000000000, 0.000000000000, 79.110000000000, 0.000000000000, 79.110000000000, 0.000000000000, 0.000000000000, '2026-11-27', '2026-12-27', 11, NULL, '{"kind":"invoice","number":"INV-2026-000001","account_id":"01a21b11-b1d3-776c-8d3d-32f6058e919a","account_handle":"enterprise","currency":"USD","issue_date":"2026-11-27","due_date":"2026-12-27","service_period":{"first":"2026-09-01","last":"2026-09-30"},"seller":{"legal_name":"Example Gateway Ltd","trading_name":"","address":{"line_1":"1 Quay Street","line_2":"","city":"Dublin","postal_code":"","subdivision":"","country_code":"IE"},"registration_id":"","tax_id":"IE1234567T","electronic_address":null,"email":"","telephone":"","contact":""},"buyer":{"legal_name":"Enterprise AG","trading_name":"","address":{"line_1":"Ring 1","line_2":"","city":"Berlin","postal_code":"10115","subdivision":"","country_code":"DE"},"registration_id":"","tax_id":"DE123456789","electronic_address":{"scheme":"EM","address":"ap@enterprise.example"},"email":"ap@enterprise.example","telephone":"","contact":""},"purchase_order":"","buyer_reference":"enterprise","cost_centre":"","preceding":[],"reason":"","lines":[{"position":1,"description":"Pro/acme/parrot – input tokens","model":"Pro/acme/parrot","model_id":2,"class":"input","tier_above":0,"price_version":2,"service_days":{"first":"2026-09-03","last":"2026-09-20"},"quantity":"18001000","price":"3","list_price":null,"discount_percent":null,"net":"54","tax":{"category":"reverse_charge"}},{"position":2,"description":"Pro/acme/parrot – output tokens","model":"Pro/acme/parrot","model_id":2,"class":"output","tier_above":0,"price_version":2,"service_days":{"first":"2026-09-03","last":"2026-09-20"},"quantity":"1600000","price":"15","list_price":null,"discount_percent":null,"net":"24","tax":{"category":"reverse_charge"}},{"position":3,"description":"acme/parrot – input tokens, prompts above 128000 tokens","model":"acme/parrot","model_id":1,"class":"input","tier_above":128000,"price_version":1,"service_days":{"first":"2026-09-03","last":"2026-09-17"},"quantity":"300000","price":"2.5","list_price":null,"discount_percent":null,"net":"0.75","tax":{"category":"reverse_charge"}},{"position":4,"description":"acme/parrot – output tokens, prompts above 128000 tokens","model":"acme/parrot","model_id":1,"class":"output","tier_above":128000,"price_version":1,"service_days":{"first":"2026-09-03","last":"2026-09-17"},"quantity":"8000","price":"20","list_price":null,"discount_percent":null,"net":"0.16","tax":{"category":"reverse_charge"}},{"position":5,"description":"acme/parrot – audio input tokens, prompts above 128000 tokens","model":"acme/parrot","model_id":1,"class":"audio_input","tier_above":128000,"price_version":1,"service_days":{"first":"2026-09-03","last":"2026-09-17"},"quantity":"14000","price":"2.5","list_price":null,"discount_percent":null,"net":"0.04","tax":{"category":"reverse_charge"}},{"position":6,"description":"acme/parrot – audio output tokens, prompts above 128000 tokens","model":"acme/parrot","model_id":1,"class":"audio_output","tier_above":128000,"price_version":1,"service_days":{"first":"2026-09-03","last":"2026-09-17"},"quantity":"6000","price":"20","list_price":null,"discount_percent":null,"net":"0.12","tax":{"category":"reverse_charge"}},{"position":7,"description":"acme/parrot – images, prompts above 128000 tokens","model":"acme/parrot","model_id":1,"class":"image","tier_above":128000,"price_version":1,"service_days":{"first":"2026-09-03","last":"2026-09-17"},"quantity":"4","price":"0.01","list_price":null,"discount_percent":null,"net":"0.04","tax":{"category":"reverse_charge"}},{"position":8,"description":"acme/parrot – requests, prompts above 128000 tokens","model":"acme/parrot","model_id":1,"class":"request","tier_above":128000,"price_version":1,"service_days":{"first":"2026-09-03","last":"2026-09-17"},"quantity":"2","price":"0.001","list_price":null,"discount_percent":null,"net":"0","tax":{"category":"reverse_charge"}}],"allowances":[],"taxes":[{"tax":{"category":"reverse_charge"},"taxable":"79.11","amount":"0","exemption_reason":"Reverse charge: the customer accounts for VAT (directive 2006/112/EC, article 196).","exemption_code":"VATEX-EU-AE"}],"totals":{"lines":"79.11","allowances":"0","net":"79.11","tax":"0","gross":"79.11","paid":"0","due":"79.11"},"remittance":{"terms":"Net 30 days","account_name":"","account_number":"IE12BOFI90000112345678","bank_code":"","bank_name":"","payment_reference":"INV-2026-000001"},"notes":[]}', '2026-11-27 03:34:35.685192+00'),
	('01a21b11-b7b7-71f8-a57d-a3519dcdc920', '01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 'invoice', 'INV', 2026, 2, 'INV-2026-000002', '2026-09-01', 'USD', 9.600000000000, 0.000000000000, 9.600000000000, 0.000000000000, 9.600000000000, 0.000000000000, 0.000000000000, '2026-11-27', '2026-12-27', 10, NULL, '{"kind":"invoice","number":"INV-2026-000002","account_id":"01a21b11-b1f4-7698-9ba2-8bc20bcacb93","account_handle":"hybrid","currency":"USD","issue_date":"2026-11-27","due_date":"2026-12-27","service_period":{"first":"2026-09-01","last":"2026-09-30"},"seller":{"legal_name":"Example Gateway Ltd","trading_name":"","address":{"line_1":"1 Quay Street","line_2":"","city":"Dublin","postal_code":"","subdivision":"","country_code":"IE"},"registration_id":"","tax_id":"IE1234567T","electronic_address":null,"email":"","telephone":"","contact":""},"buyer":{"legal_name":"Hybrid","trading_name":"","address":{"line_1":"","line_2":"","city":"","postal_code":"","subdivision":"","country_code":""},"registration_id":"","tax_id":"","electronic_address":null,"email":"","telephone":"","contact":""},"purchase_order":"","buyer_reference":"hybrid","cost_centre":"","preceding":[],"reason":"","lines":[{"position":1,"description":"acme/parrot – cached responses","model":"acme/parrot","model_id":1,"class":"cached_response","tier_above":0,"price_version":3,"service_days":{"first":"2026-09-03","last":"2026-09-17"},"quantity":"2","price":"0.00045","list_price":"0.0005","discount_percent":"10","net":"0","tax":{"category":"outside_scope"}},{"position":2,"description":"acme/parrot – input tokens, prompts above 128000 tokens","model":"acme/parrot","model_id":1,"class":"input","tier_above":128000,"price_version":3,"service_days":{"first":"2026-09-03","last":"2026-09-17"},"quantity":"4000000","price":"2.25","list_price":"2.5","discount_percent":"10","net":"9","tax":{"category":"outside_scope"}},{"position":3,"description":"acme/parrot – output tokens, prompts above 128000 tokens","model":"acme/parrot","model_id":1,"class":"output","tier_above":128000,"price_version":3,"service_days":{"first":"2026-09-03","last":"2026-09-17"},"quantity":"200000","price":"18","list_price":"20","discount_percent":"10","net":"3.6","tax":{"category":"outside_scope"}},{"position":4,"description":"acme/parrot – requests, prompts above 128000 tokens","model":"acme/parrot","model_id":1,"class":"request","tier_above":128000,"price_version":3,"service_days":{"first":"2026-09-03","last":"2026-09-17"},"quantity":"2","price":"0.0009","list_price":"0.001","discount_percent":"10","net":"0","tax":{"category":"outside_scope"}}],"allowances":[{"kind":"prepaid_credits","reason":"Paid with prepaid credits","amount":"3","tax":{"category":"outside_scope"}}],"taxes":[{"tax":{"category":"outside_scope"},"taxable":"9.6","amount":"0","exemption_reason":"Not subject to tax.","exemption_code":"VATEX-EU-O"}],"totals":{"lines":"12.6","allowances":"3","net":"9.6","tax":"0","gross":"9.6","paid":"0","due":"9.6"},"remittance":{"terms":"Net 30 days","account_name":"","account_number":"IE12BOFI90000112345678","bank_code":"","bank_name":"","payment_reference":"INV-2026-000002"},"notes":[]}', '2026-11-27 03:34:35.705287+00'),
	('01a21b11-b83d-776b-a3ae-a1c10522e132', '01a21b11-b1d3-776c-8d3d-32f6058e919a', 'credit_note', 'CN', 2026, 1, 'CN-2026-000001', '2026-11-01', 'USD', 1.000000000000, 0.000000000000, 1.000000000000, 0.000000000000, 1.000000000000, 0.000000000000, 0.000000000000, '2026-11-27', NULL, 13, NULL, '{"kind":"credit_note","number":"CN-2026-000001","account_id":"01a21b11-b1d3-776c-8d3d-32f6058e919a","account_handle":"enterprise","currency":"USD","issue_date":"2026-11-27","due_date":null,"service_period":{"first":"2026-09-01","last":"2026-09-30"},"seller":{"legal_name":"Example Gateway Ltd","trading_name":"","address":{"line_1":"1 Quay Street","line_2":"","city":"Dublin","postal_code":"","subdivision":"","country_code":"IE"},"registration_id":"","tax_id":"IE1234567T","electronic_address":null,"email":"","telephone":"","contact":""},"buyer":{"legal_name":"Enterprise AG","trading_name":"","address":{"line_1":"Ring 1","line_2":"","city":"Berlin","postal_code":"10115","subdivision":"","country_code":"DE"},"registration_id":"","tax_id":"DE123456789","electronic_address":{"scheme":"EM","address":"ap@enterprise.example"},"email":"ap@enterprise.example","telephone":"","contact":""},"purchase_order":"","buyer_reference":"enterprise","cost_centre":"","preceding":[{"number":"INV-2026-000001","issue_date":"2026-11-27"}],"reason":"goodwill","lines":[{"position":1,"description":"goodwill","model":"","model_id":null,"class":"other","tier_above":0,"price_version":null,"service_days":null,"quantity":"1","price":"1","list_price":null,"discount_percent":null,"net":"1","tax":{"category":"reverse_charge"}}],"allowances":[],"taxes":[{"tax":{"category":"reverse_charge"},"taxable":"1","amount":"0","exemption_reason":"Reverse charge: the customer accounts for VAT (directive 2006/112/EC, article 196).","exemption_code":"VATEX-EU-AE"}],"totals":{"lines":"1","allowances":"0","net":"1","tax":"0","gross":"1","paid":"0","due":"1"},"remittance":null,"notes":["Corrects invoice INV-2026-000001 of 2026-11-27."]}', '2026-11-27 03:34:35.840471+00');
INSERT INTO public.billing_runs VALUES
	('2026-09-01', '2026-11-27', '01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 3, 3, '2026-11-27 03:34:35.642893+00', '2026-11-27 03:34:35.714914+00');
INSERT INTO public.budget_periods VALUES
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', '01a21b11-b3e8-7194-b117-6a2bd4f3bb9a', '2026-09-01', 79.110000000000, 0.000000000000, NULL),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', '01a21b11-b3e8-7194-b117-6a2bd4f3bb9a', '2026-10-01', 79.110000000000, 0.000000000000, NULL),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', '01a21b11-b3d3-7767-a15b-9438310eabea', '2000-01-01', 1.353420000000, 0.000000000000, NULL);
INSERT INTO public.budgets VALUES
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', '01a21b11-b3d3-7767-a15b-9438310eabea', 'account', '', NULL, 'total', true, 40.000000000000, '2026-11-27 03:34:34.707172+00', '2026-11-27 03:34:34.707429+00', NULL),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', '01a21b11-b3e8-7194-b117-6a2bd4f3bb9a', 'account', '', NULL, 'month', true, 2000.000000000000, '2026-11-27 03:34:34.72894+00', '2026-11-27 03:34:34.729215+00', NULL);
INSERT INTO public.closed_periods VALUES
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', '2026-09-01', '01a21b11-b78e-7103-9865-10158738b1f3', 6, '2026-11-27 03:34:35.668051+00'),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', '2026-09-01', '01a21b11-b7a2-718f-8a24-38c376042659', 10, '2026-11-27 03:34:35.685549+00'),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', '2026-09-01', '01a21b11-b7b7-71f8-a57d-a3519dcdc920', 9, '2026-11-27 03:34:35.705645+00');
INSERT INTO public.credit_notes VALUES
	('01a21b11-b83d-776b-a3ae-a1c10522e132', '01a21b11-b7a2-718f-8a24-38c376042659', 'correction', NULL);
INSERT INTO public.document_counters VALUES
	('REC', 2026, 2),
	('INV', 2026, 2),
	('CN', 2026, 1);
INSERT INTO public.idempotency_keys VALUES
	('PublishPrices', '01a21b11-b132-76ad-8c97-75b46f3cefb0', '\x797dee5210fb5345382914b2c6cda30f98576bd906f8575fba504e71a59f42f2', '\x08021802', '2026-11-27 03:34:34.053632+00'),
	('SetSeller', '01a21b11-b16d-7106-b4df-415e5dd87eee', '\x791ecb70454475b71921b7fd5af93bfa748b30b9108391d61a04f68ac84bb0dc', '\x0a650a134578616d706c652047617465776179204c74641a1b0a0d312051756179205374726565741a064475626c696e320249452a0a494531323334353637545218121649453132424f464939303030303131323334353637385a0b08caf4a3d80610b0b39b35', '2026-11-27 03:34:34.109865+00'),
	('CreateAccount', '01a21b11-b1a2-70bb-8307-4e81fe5693fb', '\xc190d42b4eb6682dcbd547e437b38afc4dd0f9f00db32717d51f2e4b9c8d25b6', '\x0a730a2430316132316231312d623161622d373763302d386366622d3739303366613738396564651207737461727475701a0753746172747570220355534428013a161200280132013050015a080a03555344120130620130420b08caf4a3d80610c8f79c484a0b08caf4a3d80610c8f79c485001', '2026-11-27 03:34:34.151469+00'),
	('CreateAccount', '01a21b11-b1ce-774d-9923-3d67ef52ed6d', '\xe376c69b046d52e319915ae0e9002ad5d8c088a76393929e8c1ec2019aad8e7d', '\x0ace010a2430316132316231312d623164332d373736632d386433642d333266363035386539313961120a656e74657270726973651a0d456e7465727072697365204147220355534428013a680a0d456e7465727072697365204147121b0a0652696e6720311a064265726c696e2205313031313532024445220b444531323334353637383928033201304a15617040656e74657270726973652e6578616d706c6550025a0c0a0355534412053130303030620130420b08caf4a3d80610c0c38b5d4a0b08caf4a3d80610c0c38b5d5001', '2026-11-27 03:34:34.195224+00'),
	('CreateAccount', '01a21b11-b1f1-759c-aff4-b9b98f57a3d2', '\xbf91aeebac0c44d89acc027e403f92f70012c43e6fd197691534ad6cd1465401', '\x0a740a2430316132316231312d623166342d373639382d396261322d38626332306263616362393312066879627269641a06487962726964220355534428013a191200280132013050025a0a0a03555344120335303062023130420b08caf4a3d80610f896c86c4a0b08caf4a3d80610f896c86c5001', '2026-11-27 03:34:34.227675+00'),
	('TopUp', '01a21b11-b220-707e-8118-834c9f078660', '\xf34a75409959feec89676c91e9b5f76549fffd93a5a2373a885029e215475244', '\x0a2430316132316231312d623233352d373333312d383032662d6166373664333064323130391299010a2430316132316231312d623161622d373763302d386366622d3739303366613738396564651207737461727475701a080a0355534412013022090a03555344120235302a080a0355534412013032080a035553441201303a080a0355534412013042080a035553441201304a080a0355534412013052080a035553441201305a090a0355534412023530620c08caf4a3d80610b099f28a01', '2026-11-27 03:34:34.274484+00'),
	('TopUp', '01a21b11-b271-7439-8a81-235d67be0235', '\x414fbebe63a31f5689700f94ada1e0de474386dcc387bf8384f9693aa1a4fad5', '\x0a2430316132316231312d623237652d373764612d616562302d313137626166333963386464129a010a2430316132316231312d623166342d373639382d396261322d38626332306263616362393312066879627269641a080a0355534412013022080a035553441201332a080a0355534412013032080a035553441201303a080a0355534412013042080a035553441201304a0a0a03555344120335303052080a035553441201305a0a0a035553441203353033620c08caf4a3d80610e0b1ccae01', '2026-11-27 03:34:34.355241+00'),
	('GrantCredit', '01a21b11-b2bb-76dc-83a8-0efd29199c72', '\xb358f779c95b9b2837af8f9440b7fbe7323de89ccbc12d2d50ffd4a82c9a2cfc', '\x0a2430316132316231312d623264302d373266622d393738632d3432303965653138333635631299010a2430316132316231312d623161622d373763302d386366622d3739303366613738396564651207737461727475701a080a0355534412013122090a03555344120235302a080a0355534412013032080a035553441201303a080a0355534412013042080a035553441201304a080a0355534412013052080a035553441201305a090a0355534412023531620c08caf4a3d80610c0ff86d501', '2026-11-27 03:34:34.43509+00'),
	('IssueKey', '01a21b11-b2eb-7549-855b-ba8ce622dafe', '\x3ef0fc575f4d9a5f2f1ad705c4084a8a0e73ee944f0919cf86032b2138d34bb5', '\x0a7b0a2430316132316231312d623330362d373537302d393165352d396363353465356631366263122430316132316231312d623161622d373763302d386366622d3739303366613738396564651a0a70726f64756374696f6e20012a0d67615f736b5fe280a64f33326130013a00420c08caf4a3d8061090b0abef01', '2026-11-27 03:34:34.500387+00'),
	('IssueKey', '01a21b11-b322-7736-8923-96e220aebad7', '\xc3d3384caba07bf316f83b53059a064e7680e384430b320fe1af32874db72e89', '\x0a7c0a2430316132316231312d623332382d373739302d386338302d363765346435373934613663122430316132316231312d623164332d373736632d386433642d3332663630353865393139611a0a70726f64756374696f6e20022a0e67615f70726f5fe280a63236673830013a00420c08caf4a3d80610b0ebc5ff01', '2026-11-27 03:34:34.535663+00'),
	('IssueKey', '01a21b11-b33c-7588-9edf-763fc8d9fb44', '\xf4f1e3d2f11f7be77540423f3f9b3d16a78e894ee07a6643e60f08272c641aac', '\x0a7b0a2430316132316231312d623335612d373535642d396438322d666136396236363331353933122430316132316231312d623166342d373639382d396261322d3862633230626361636239331a0a70726f64756374696f6e20012a0d67615f736b5fe280a676366d4c30013a00420c08caf4a3d80610b8aed49302', '2026-11-27 03:34:34.569647+00'),
	('SetBudget', '01a21b11-b3c6-7222-bd68-34e10d39c2d3', '\x35ad2aa76a64d71645d1ac403ce4344729b2c9b84eb7d8372437b47185730e93', '\x0a96010a2430316132316231312d623364332d373736372d613135622d393433383331306561626561122430316132316231312d623161622d373763302d386366622d373930336661373839656465280430013a090a035553441202343042080a035553441201304a080a0355534412013052090a03555344120234305a0c08caf4a3d80610a0ad9ad102720c08caf4a3d80610a0ad9ad102', '2026-11-27 03:34:34.704925+00'),
	('SetBudget', '01a21b11-b3e5-77be-b444-893a85902635', '\x976e5602dee0a04286ce78456d1a44497b49f028fbb4e3637c6e4838d3232f8b', '\x0a9c010a2430316132316231312d623365382d373139342d623131372d366132626434663362623961122430316132316231312d623164332d373736632d386433642d333266363035386539313961280330013a0b0a0355534412043230303042080a035553441201304a080a03555344120130520b0a035553441204323030305a060880829ad706620608809cb8d806720c08caf4a3d80610e0fbcadb02', '2026-11-27 03:34:34.727334+00'),
	('RecordPayment', '01a21b11-b804-7235-b989-a880c8104770', '\x3c9b6e1490a1cb55dd64e69297e6de922d6cd800455ae79797e165a10e595e74', '\x0ace010a2430316132316231312d623830362d373430362d613137352d333038646664313165386164122430316132316231312d623164332d373736632d386433642d3332663630353865393139611a090a035553441202313020042a06776972655f32320a323032362d31312d32373a080a035553441201304a080a0355534412013052080a035553441201305a0c08cbf4a3d80610f8d4b0f50262330a077061796d656e74120f494e562d323032362d3030303030311a090a0355534412023130220c08cbf4a3d80610c0ac83f802', '2026-11-27 03:34:35.781953+00'),
	('IssueCreditNote', '01a21b11-b832-734f-8d15-cee9b1707384', '\x5522c305c04da4eac51c9bd0480a8943646cd4a886de7e3673b379da538ec0cc', '\x0aa1100aa5010a2430316132316231312d623833642d373736622d613361652d613163313035323265313332120e434e2d323032362d3030303030311803222430316132316231312d623164332d373736632d386433642d3332663630353865393139612a07323032362d3131320a323032362d31312d323742080a035553441201314a080a0355534412013052080a035553441201315a080a0355534412013062080a03555344120131122508011208676f6f6477696c6c22056f746865724a0131520131580172080a0355534412013122700a0241451201301a080a0355534412013122080a035553441201302a5352657665727365206368617267653a2074686520637573746f6d6572206163636f756e747320666f7220564154202864697265637469766520323030362f3131322f45432c2061727469636c6520313936292e2a2f436f72726563747320696e766f69636520494e562d323032362d303030303031206f6620323032362d31312d32372e32ac0d7b226b696e64223a226372656469745f6e6f7465222c226e756d626572223a22434e2d323032362d303030303031222c226163636f756e745f6964223a2230316132316231312d623164332d373736632d386433642d333266363035386539313961222c226163636f756e745f68616e646c65223a22656e7465727072697365222c2263757272656e6379223a22555344222c2269737375655f64617465223a22323032362d31312d3237222c226475655f64617465223a6e756c6c2c22736572766963655f706572696f64223a7b226669727374223a22323032362d30392d3031222c226c617374223a22323032362d30392d3330227d2c2273656c6c6572223a7b226c6567616c5f6e616d65223a224578616d706c652047617465776179204c7464222c2274726164696e675f6e616d65223a22222c2261646472657373223a7b226c696e655f31223a2231205175617920537472656574222c226c696e655f32223a22222c2263697479223a224475626c696e222c22706f7374616c5f636f6465223a22222c227375626469766973696f6e223a22222c22636f756e7472795f636f6465223a224945227d2c22726567697374726174696f6e5f6964223a22222c227461785f6964223a2249453132333435363754222c22656c656374726f6e69635f61646472657373223a6e756c6c2c22656d61696c223a22222c2274656c6570686f6e65223a22222c22636f6e74616374223a22227d2c226275796572223a7b226c6567616c5f6e616d65223a22456e7465727072697365204147222c2274726164696e675f6e616d65223a22222c2261646472657373223a7b226c696e655f31223a2252696e672031222c226c696e655f32223a22222c2263697479223a224265726c696e222c22706f7374616c5f636f6465223a223130313135222c227375626469766973696f6e223a22222c22636f756e7472795f636f6465223a224445227d2c22726567697374726174696f6e5f6964223a22222c227461785f6964223a224445313233343536373839222c22656c656374726f6e69635f61646472657373223a7b22736368656d65223a22454d222c2261646472657373223a22617040656e74657270726973652e6578616d706c65227d2c22656d61696c223a22617040656e74657270726973652e6578616d706c65222c2274656c6570686f6e65223a22222c22636f6e74616374223a22227d2c2270757263686173655f6f72646572223a22222c2262757965725f7265666572656e6365223a22656e7465727072697365222c22636f73745f63656e747265223a22222c22707265636564696e67223a5b7b226e756d626572223a22494e562d323032362d303030303031222c2269737375655f64617465223a22323032362d31312d3237227d5d2c22726561736f6e223a22676f6f6477696c6c222c226c696e6573223a5b7b22706f736974696f6e223a312c226465736372697074696f6e223a22676f6f6477696c6c222c226d6f64656c223a22222c226d6f64656c5f6964223a6e756c6c2c22636c617373223a226f74686572222c22746965725f61626f7665223a302c2270726963655f76657273696f6e223a6e756c6c2c22736572766963655f64617973223a6e756c6c2c227175616e74697479223a2231222c227072696365223a2231222c226c6973745f7072696365223a6e756c6c2c22646973636f756e745f70657263656e74223a6e756c6c2c226e6574223a2231222c22746178223a7b2263617465676f7279223a22726576657273655f636861726765227d7d5d2c22616c6c6f77616e636573223a5b5d2c227461786573223a5b7b22746178223a7b2263617465676f7279223a22726576657273655f636861726765227d2c2274617861626c65223a2231222c22616d6f756e74223a2230222c226578656d7074696f6e5f726561736f6e223a2252657665727365206368617267653a2074686520637573746f6d6572206163636f756e747320666f7220564154202864697265637469766520323030362f3131322f45432c2061727469636c6520313936292e222c226578656d7074696f6e5f636f6465223a2256415445582d45552d4145227d5d2c22746f74616c73223a7b226c696e6573223a2231222c22616c6c6f77616e636573223a2230222c226e6574223a2231222c22746178223a2230222c2267726f7373223a2231222c2270616964223a2230222c22647565223a2231227d2c2272656d697474616e6365223a6e756c6c2c226e6f746573223a5b22436f72726563747320696e766f69636520494e562d323032362d303030303031206f6620323032362d31312d32372e225d7d12080a03555344120130', '2026-11-27 03:34:35.828747+00'),
	('ReverseUsage', '01a21b11-b9c6-7224-a615-a38b152f2081', '\x2ee74d674756972a99829115bda299327bcd9486e4b3a026080d7b047e1d8b44', '\x0a2430316132316231312d623935622d373033302d626430352d323864383961353335366331120e0a035553441207302e30303537311a080a03555344120130220e0a035553441207302e30303537312a080a0355534412013032080a03555344120130', '2026-11-27 03:34:36.233089+00');
INSERT INTO public.instances VALUES
	('01a21b11-b0b7-742e-9fed-e087b0035bd0', '2026-11-27 03:34:33.935447+00', '2026-11-27 03:34:38.447863+00', '2026-11-27 03:34:38.893782+00', 'tollgate 0.1.0 pid 32018', '00:15:30', 0),
	('01a21b11-c95a-768b-afbb-8554f4c8b38f', '2026-11-27 03:34:40.220939+00', '2026-11-27 03:34:40.23936+00', NULL, 'tollgate 0.1.0 pid 32489', '00:15:30', 0);
INSERT INTO public.leases VALUES
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', '01a21b11-b0b7-742e-9fed-e087b0035bd0', 0.000000000000, 8, '2026-11-27 03:34:38.881257+00', '00000000-0000-0000-0000-000000000000', '2000-01-01');
INSERT INTO public.ledger_accounts VALUES
	('1000', 'Cash', 'asset'),
	('1100', 'Unbilled receivable', 'asset'),
	('1150', 'Overdrawn', 'asset'),
	('1200', 'Accounts receivable', 'asset'),
	('1250', 'Disputed payments', 'asset'),
	('1300', 'Tax withheld by payers', 'asset'),
	('1910', 'Unused promotional grants', 'contra-liability'),
	('2000', 'Customer credits', 'liability'),
	('2010', 'Promotional credits', 'liability'),
	('2050', 'Unapplied receipts', 'liability'),
	('2100', 'Tax payable', 'liability'),
	('2200', 'Payable to providers', 'liability'),
	('4000', 'Usage revenue', 'income'),
	('4900', 'SLA credits', 'contra-income'),
	('4910', 'Promotional discount', 'contra-income'),
	('5100', 'Bad debt', 'expense'),
	('5200', 'Cost of revenue', 'expense'),
	('5300', 'Payment fees', 'expense'),
	('5900', 'Rounding', 'expense');
INSERT INTO public.models OVERRIDING SYSTEM VALUE VALUES
	(1, 'acme/parrot', 'acme', 'standard', true, 200000, 4096),
	(2, 'Pro/acme/parrot', 'acme', 'dedicated', true, 200000, 4096);
INSERT INTO public.payments VALUES
	('01a21b11-b235-7331-802f-af76d30d2109', '01a21b11-b1ab-77c0-8cfb-7903fa789ede', 1, 'VISA', 'ch_1', 50.000000000000, 'USD', '', '2026-11-27 03:34:34.294956+00', 0.000000000000, '2100', 'top_up', 0.000000000000, NULL),
	('01a21b11-b27e-77da-aeb0-117baf39c8dd', '01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 1, 'WIRE', 'wire_1', 3.000000000000, 'USD', '', '2026-11-27 03:34:34.367015+00', 0.000000000000, '2100', 'top_up', 0.000000000000, NULL),
	('01a21b11-b806-7406-a175-308dfd11e8ad', '01a21b11-b1d3-776c-8d3d-32f6058e919a', 12, 'WIRE', 'wire_2', 10.000000000000, 'USD', '', '2026-11-27 03:34:35.783035+00', 0.000000000000, '2100', 'invoices', 0.000000000000, '2026-11-27');
INSERT INTO public.price_tiers VALUES
	(1, 128000, 2.500000, 20.000000, NULL, NULL, NULL, NULL, NULL),
	(3, 128000, 2.250000, 18.000000, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.price_versions OVERRIDING SYSTEM VALUE VALUES
	(1, 1, NULL, 'USD', '2026-01-01 00:00:00+00', false, 1.250000, 10.000000, 0.125000, 1.562500, 12.000000, 40.000000, 80.000000, 0.010000, 0.001000, 0.000500, 'USD', 1.000000, 8.000000, NULL, NULL, NULL, NULL, NULL, 'the upgrade test', '2026-01-01', NULL, NULL, '2026-11-27 03:34:34.053632+00'),
	(2, 2, NULL, 'USD', '2026-01-01 00:00:00+00', false, 3.000000, 15.000000, NULL, NULL, NULL, NULL, NULL, 0.000000, 0.000000, 0.000000, 'USD', 2.000000, 9.000000, NULL, NULL, NULL, NULL, NULL, 'the upgrade test', '2026-01-01', NULL, NULL, '2026-11-27 03:34:34.053632+00'),
	(3, 1, NULL, 'USD', '2026-01-01 00:00:00+00', false, 1.125000, 9.000000, 0.112500, 1.406250, 10.800000, 36.000000, 72.000000, 0.009000, 0.000900, 0.000450, 'USD', 1.000000, 8.000000, NULL, NULL, NULL, NULL, NULL, 'the upgrade test', '2026-01-01', 1, 10.0000, '2026-11-27 03:34:34.884332+00');
INSERT INTO public.promotional_grants VALUES
	('01a21b11-b2d0-72fb-978c-4209ee18365c', '01a21b11-b1ab-77c0-8cfb-7903fa789ede', 2, 1.000000000000, 'USD', 'welcome', '2026-11-27 03:34:34.450394+00');
INSERT INTO public.seller_versions OVERRIDING SYSTEM VALUE VALUES
	(1, '{"party": {"email": "", "tax_id": "IE1234567T", "address": {"city": "Dublin", "line_1": "1 Quay Street", "line_2": "", "postal_code": "", "subdivision": "", "country_code": "IE"}, "contact": "", "telephone": "", "legal_name": "Example Gateway Ltd", "trading_name": "", "registration_id": "", "electronic_address": null}, "remittance": {"terms": "", "bank_code": "", "bank_name": "", "account_name": "", "account_number": "IE12BOFI90000112345678", "payment_reference": ""}}', '2026-11-27 03:34:34.111598+00');
INSERT INTO public.settlements VALUES
	('01a21b11-b80b-70dd-8de0-3bc01c8caa6c', '01a21b11-b1d3-776c-8d3d-32f6058e919a', 12, 'payment', '01a21b11-b806-7406-a175-308dfd11e8ad', '01a21b11-b7a2-718f-8a24-38c376042659', 10.000000000000, 0.000000000000, '2026-11-27 03:34:35.788584+00'),
	('01a21b11-b83e-7083-9bc8-3e808ef435c8', '01a21b11-b1d3-776c-8d3d-32f6058e919a', 13, 'credit_note', '01a21b11-b83d-776b-a3ae-a1c10522e132', '01a21b11-b7a2-718f-8a24-38c376042659', 1.000000000000, 0.000000000000, '2026-11-27 03:34:35.839552+00');
INSERT INTO public.signing_keys VALUES
	('grant', '01a21b11-b0b7-742e-9fed-e088741a593f', '\x0347ae57336a5bf3d820500d813cd308c15fd9699314141b1608191fb581da4e', '2026-11-27 03:34:33.925511+00', NULL);
INSERT INTO public.transfers VALUES
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', 1, 1, '1000.VISA', '2000', 50.000000000000, 'USD', 'top_up', '2026-11-01', '2026-11-27 03:34:34.301389+00', '01a21b11-b235-7331-802f-af76d30d2109', '01a21b11-b220-707e-8118-834c9f078660', ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 1, 1, '1000.WIRE', '2000', 3.000000000000, 'USD', 'top_up', '2026-11-01', '2026-11-27 03:34:34.367889+00', '01a21b11-b27e-77da-aeb0-117baf39c8dd', '01a21b11-b271-7439-8a81-235d67be0235', ''),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', 2, 1, '1910', '2010', 1.000000000000, 'USD', 'promotional_grant', '2026-11-01', '2026-11-27 03:34:34.448615+00', '01a21b11-b2d0-72fb-978c-4209ee18365c', '01a21b11-b2bb-76dc-83a8-0efd29199c72', 'welcome'),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', 3, 1, '2010', '4000', 0.335500000000, 'USD', 'usage_promotional', '2026-09-01', '2026-11-27 03:34:34.772549+00', NULL, 'usage:3', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', 1, 3, '1100', '4000', 39.000000000000, 'USD', 'usage_unbilled', '2026-09-01', '2026-11-27 03:34:34.804692+00', NULL, 'usage:1', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', 2, 3, '1100', '4000', 0.553500000000, 'USD', 'usage_unbilled', '2026-09-01', '2026-11-27 03:34:34.839415+00', NULL, 'usage:2', ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 2, 2, '2000', '4000', 3.000000000000, 'USD', 'usage_credits', '2026-09-01', '2026-11-27 03:34:34.899607+00', NULL, 'usage:2', ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 2, 3, '1100', '4000', 3.300900000000, 'USD', 'usage_unbilled', '2026-09-01', '2026-11-27 03:34:34.899607+00', NULL, 'usage:2', ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 3, 3, '1100', '4000', 0.000450000000, 'USD', 'usage_unbilled', '2026-09-01', '2026-11-27 03:34:34.938663+00', NULL, 'usage:3', ''),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', 4, 1, '2010', '4000', 0.335500000000, 'USD', 'usage_promotional', '2026-09-01', '2026-11-27 03:34:34.97542+00', NULL, 'usage:4', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', 3, 3, '1100', '4000', 39.000000000000, 'USD', 'usage_unbilled', '2026-09-01', '2026-11-27 03:34:35.017692+00', NULL, 'usage:3', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', 4, 3, '1100', '4000', 0.553500000000, 'USD', 'usage_unbilled', '2026-09-01', '2026-11-27 03:34:35.070993+00', NULL, 'usage:4', ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 4, 3, '1100', '4000', 6.300900000000, 'USD', 'usage_unbilled', '2026-09-01', '2026-11-27 03:34:35.11515+00', NULL, 'usage:4', ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 5, 3, '1100', '4000', 0.000450000000, 'USD', 'usage_unbilled', '2026-09-01', '2026-11-27 03:34:35.166236+00', NULL, 'usage:5', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', 5, 3, '1100', '4000', 0.003000000000, 'USD', 'usage_unbilled', '2026-09-01', '2026-11-27 03:34:35.218949+00', NULL, 'usage:5', ''),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', 5, 1, '2010', '4000', 0.329000000000, 'USD', 'usage_promotional', '2026-10-01', '2026-11-27 03:34:35.259137+00', NULL, 'usage:5', ''),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', 5, 2, '2000', '4000', 0.006500000000, 'USD', 'usage_credits', '2026-10-01', '2026-11-27 03:34:35.259137+00', NULL, 'usage:5', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', 6, 3, '1100', '4000', 39.000000000000, 'USD', 'usage_unbilled', '2026-10-01', '2026-11-27 03:34:35.287247+00', NULL, 'usage:6', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', 7, 3, '1100', '4000', 0.553500000000, 'USD', 'usage_unbilled', '2026-10-01', '2026-11-27 03:34:35.328922+00', NULL, 'usage:7', ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 6, 3, '1100', '4000', 6.300900000000, 'USD', 'usage_unbilled', '2026-10-01', '2026-11-27 03:34:35.371171+00', NULL, 'usage:6', ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 7, 3, '1100', '4000', 0.000450000000, 'USD', 'usage_unbilled', '2026-10-01', '2026-11-27 03:34:35.41026+00', NULL, 'usage:7', ''),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', 6, 2, '2000', '4000', 0.335500000000, 'USD', 'usage_credits', '2026-10-01', '2026-11-27 03:34:35.438191+00', NULL, 'usage:6', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', 8, 3, '1100', '4000', 39.000000000000, 'USD', 'usage_unbilled', '2026-10-01', '2026-11-27 03:34:35.469522+00', NULL, 'usage:8', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', 9, 3, '1100', '4000', 0.553500000000, 'USD', 'usage_unbilled', '2026-10-01', '2026-11-27 03:34:35.503488+00', NULL, 'usage:9', ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 8, 3, '1100', '4000', 6.300900000000, 'USD', 'usage_unbilled', '2026-10-01', '2026-11-27 03:34:35.542891+00', NULL, 'usage:8', ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 9, 3, '1100', '4000', 0.000450000000, 'USD', 'usage_unbilled', '2026-10-01', '2026-11-27 03:34:35.578246+00', NULL, 'usage:9', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', 10, 3, '1100', '4000', 0.003000000000, 'USD', 'usage_unbilled', '2026-10-01', '2026-11-27 03:34:35.610301+00', NULL, 'usage:10', ''),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', 7, 1, '4910', '1910', 0.671000000000, 'USD', 'promotional_use', '2026-09-01', '2026-11-27 03:34:35.663363+00', '01a21b11-b78e-7103-9865-10158738b1f3', 'cause:01a21b11-b78e-7103-9865-10158738b1f3', 'closing'),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', 11, 1, '1200', '1100', 79.110000000000, 'USD', 'invoice', '2026-09-01', '2026-11-27 03:34:35.683708+00', '01a21b11-b7a2-718f-8a24-38c376042659', 'cause:01a21b11-b7a2-718f-8a24-38c376042659', 'closing'),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 10, 1, '1200', '1100', 9.600000000000, 'USD', 'invoice', '2026-09-01', '2026-11-27 03:34:35.703757+00', '01a21b11-b7b7-71f8-a57d-a3519dcdc920', 'cause:01a21b11-b7b7-71f8-a57d-a3519dcdc920', 'closing'),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', 10, 2, '5900', '1100', 0.002700000000, 'USD', 'invoice_rounding', '2026-09-01', '2026-11-27 03:34:35.703822+00', '01a21b11-b7b7-71f8-a57d-a3519dcdc920', 'cause:01a21b11-b7b7-71f8-a57d-a3519dcdc920', 'closing'),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', 12, 1, '1000.WIRE', '1200', 10.000000000000, 'USD', 'payment', '2026-11-01', '2026-11-27 03:34:35.787333+00', '01a21b11-b806-7406-a175-308dfd11e8ad', '01a21b11-b804-7235-b989-a880c8104770', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', 13, 1, '1100', '1200', 1.000000000000, 'USD', 'credit_note', '2026-11-01', '2026-11-27 03:34:35.838438+00', '01a21b11-b83d-776b-a3ae-a1c10522e132', '01a21b11-b832-734f-8d15-cee9b1707384', 'goodwill'),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', 13, 2, '4000', '1100', 1.000000000000, 'USD', 'credit_note', '2026-11-01', '2026-11-27 03:34:35.838505+00', '01a21b11-b83d-776b-a3ae-a1c10522e132', '01a21b11-b832-734f-8d15-cee9b1707384', 'goodwill'),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', 8, 2, '2000', '4000', 0.005710000000, 'USD', 'usage_credits', '2026-11-01', '2026-11-27 03:34:35.977908+00', NULL, 'usage:8', ''),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', 9, 2, '2000', '4000', 0.005710000000, 'USD', 'usage_credits', '2026-11-01', '2026-11-27 03:34:36.07054+00', NULL, 'usage:9', ''),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', 10, 2, '2000', '4000', 0.005710000000, 'USD', 'usage_credits', '2026-11-01', '2026-11-27 03:34:36.176681+00', NULL, 'usage:10', ''),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', 11, 1, '4000', '2000', 0.005710000000, 'USD', 'reversal', '2026-11-01', '2026-11-27 03:34:36.253279+00', '01a21b11-b95b-7030-bd05-28d89a5356c1', '01a21b11-b9c6-7224-a615-a38b152f2081', 'charged for a test');
INSERT INTO public.usage_events_2026_09 VALUES
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', '01a06723-e201-7001-8001-000000000001', '01a21b11-b306-7570-91e5-9cc54e5f16bc', '2026-09-03 12:00:00+00', '2026-11-27 03:34:34.772549+00', 3, 1, 100000, 20000, 3000, 2000, 500, 0, 0, 0, 0, NULL, 1, '2026-09-01', 1, false, 0.335500000000, 0.000000000000, 0.000000000000, 0.335500000000, '', '', '', '', '{01a21b11-b3d3-7767-a15b-9438310eabea}', '{2000-01-01}', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', '01a06723-e202-7002-8002-000000000002', '01a21b11-b328-7790-8c80-67e4d5794a6c', '2026-09-03 12:00:00+00', '2026-11-27 03:34:34.804692+00', 1, 2, 9000000, 800000, 0, 0, 0, 0, 0, 0, 0, NULL, 2, '2026-09-01', 1, false, 39.000000000000, 0.000000000000, 0.000000000000, 39.000000000000, '', '', '', '', '{01a21b11-b3e8-7194-b117-6a2bd4f3bb9a}', '{2026-09-01}', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', '01a06723-e203-7003-8003-000000000003', '01a21b11-b328-7790-8c80-67e4d5794a6c', '2026-09-03 12:00:00+00', '2026-11-27 03:34:34.839415+00', 2, 1, 150000, 4000, 0, 0, 0, 7000, 3000, 2, 128000, NULL, 1, '2026-09-01', 1, false, 0.553500000000, 0.000000000000, 0.000000000000, 0.553500000000, '', '', '', '', '{01a21b11-b3e8-7194-b117-6a2bd4f3bb9a}', '{2026-09-01}', ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', '01a06723-e204-7004-8004-000000000004', '01a21b11-b35a-755d-9d82-fa69b6631593', '2026-09-03 12:00:00+00', '2026-11-27 03:34:34.899607+00', 2, 3, 2000000, 100000, 0, 0, 0, 0, 0, 0, 128000, NULL, 1, '2026-09-01', 1, false, 6.300900000000, 0.000000000000, 0.000000000000, 6.300900000000, '', '', '', '', NULL, NULL, ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', '01a06723-e205-7005-8005-000000000005', '01a21b11-b35a-755d-9d82-fa69b6631593', '2026-09-03 12:00:00+00', '2026-11-27 03:34:34.938663+00', 3, 3, 1000, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 1, '2026-09-01', 1, true, 0.000450000000, 0.001575000000, 0.000000000000, 0.000450000000, '', '', '', '', NULL, NULL, ''),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', '01a0af3c-ea06-7006-8006-000000000006', '01a21b11-b306-7570-91e5-9cc54e5f16bc', '2026-09-17 12:00:00+00', '2026-11-27 03:34:34.97542+00', 4, 1, 100000, 20000, 3000, 2000, 500, 0, 0, 0, 0, NULL, 1, '2026-09-01', 1, false, 0.335500000000, 0.000000000000, 0.000000000000, 0.335500000000, '', '', '', '', '{01a21b11-b3d3-7767-a15b-9438310eabea}', '{2000-01-01}', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', '01a0af3c-ea07-7007-8007-000000000007', '01a21b11-b328-7790-8c80-67e4d5794a6c', '2026-09-17 12:00:00+00', '2026-11-27 03:34:35.017692+00', 3, 2, 9000000, 800000, 0, 0, 0, 0, 0, 0, 0, NULL, 2, '2026-09-01', 1, false, 39.000000000000, 0.000000000000, 0.000000000000, 39.000000000000, '', '', '', '', '{01a21b11-b3e8-7194-b117-6a2bd4f3bb9a}', '{2026-09-01}', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', '01a0af3c-ea08-7008-8008-000000000008', '01a21b11-b328-7790-8c80-67e4d5794a6c', '2026-09-17 12:00:00+00', '2026-11-27 03:34:35.070993+00', 4, 1, 150000, 4000, 0, 0, 0, 7000, 3000, 2, 128000, NULL, 1, '2026-09-01', 1, false, 0.553500000000, 0.000000000000, 0.000000000000, 0.553500000000, '', '', '', '', '{01a21b11-b3e8-7194-b117-6a2bd4f3bb9a}', '{2026-09-01}', ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', '01a0af3c-ea09-7009-8009-000000000009', '01a21b11-b35a-755d-9d82-fa69b6631593', '2026-09-17 12:00:00+00', '2026-11-27 03:34:35.11515+00', 4, 3, 2000000, 100000, 0, 0, 0, 0, 0, 0, 128000, NULL, 1, '2026-09-01', 1, false, 6.300900000000, 0.000000000000, 0.000000000000, 6.300900000000, '', '', '', '', NULL, NULL, ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', '01a0af3c-ea0a-700a-800a-00000000000a', '01a21b11-b35a-755d-9d82-fa69b6631593', '2026-09-17 12:00:00+00', '2026-11-27 03:34:35.166236+00', 5, 3, 1000, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 1, '2026-09-01', 1, true, 0.000450000000, 0.001575000000, 0.000000000000, 0.000450000000, '', '', '', '', NULL, NULL, ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', '01a0beaf-fe0b-700b-800b-00000000000b', '01a21b11-b328-7790-8c80-67e4d5794a6c', '2026-09-20 12:00:00+00', '2026-11-27 03:34:35.218949+00', 5, 2, 1000, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 2, '2026-09-01', 3, false, 0.003000000000, 0.000000000000, 0.000000000000, 0.003000000000, '', '', '', '', '{01a21b11-b3e8-7194-b117-6a2bd4f3bb9a}', '{2026-09-01}', '');
INSERT INTO public.usage_events_2026_10 VALUES
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', '01a101a2-aa0c-700c-800c-00000000000c', '01a21b11-b306-7570-91e5-9cc54e5f16bc', '2026-10-03 12:00:00+00', '2026-11-27 03:34:35.259137+00', 5, 1, 100000, 20000, 3000, 2000, 500, 0, 0, 0, 0, NULL, 1, '2026-10-01', 1, false, 0.335500000000, 0.000000000000, 0.000000000000, 0.335500000000, '', '', '', '', '{01a21b11-b3d3-7767-a15b-9438310eabea}', '{2000-01-01}', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', '01a101a2-aa0d-700d-800d-00000000000d', '01a21b11-b328-7790-8c80-67e4d5794a6c', '2026-10-03 12:00:00+00', '2026-11-27 03:34:35.287247+00', 6, 2, 9000000, 800000, 0, 0, 0, 0, 0, 0, 0, NULL, 2, '2026-10-01', 1, false, 39.000000000000, 0.000000000000, 0.000000000000, 39.000000000000, '', '', '', '', '{01a21b11-b3e8-7194-b117-6a2bd4f3bb9a}', '{2026-10-01}', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', '01a101a2-aa0e-700e-800e-00000000000e', '01a21b11-b328-7790-8c80-67e4d5794a6c', '2026-10-03 12:00:00+00', '2026-11-27 03:34:35.328922+00', 7, 1, 150000, 4000, 0, 0, 0, 7000, 3000, 2, 128000, NULL, 1, '2026-10-01', 1, false, 0.553500000000, 0.000000000000, 0.000000000000, 0.553500000000, '', '', '', '', '{01a21b11-b3e8-7194-b117-6a2bd4f3bb9a}', '{2026-10-01}', ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', '01a101a2-aa0f-700f-800f-00000000000f', '01a21b11-b35a-755d-9d82-fa69b6631593', '2026-10-03 12:00:00+00', '2026-11-27 03:34:35.371171+00', 6, 3, 2000000, 100000, 0, 0, 0, 0, 0, 0, 128000, NULL, 1, '2026-10-01', 1, false, 6.300900000000, 0.000000000000, 0.000000000000, 6.300900000000, '', '', '', '', NULL, NULL, ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', '01a101a2-aa10-7010-8010-000000000010', '01a21b11-b35a-755d-9d82-fa69b6631593', '2026-10-03 12:00:00+00', '2026-11-27 03:34:35.41026+00', 7, 3, 1000, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 1, '2026-10-01', 1, true, 0.000450000000, 0.001575000000, 0.000000000000, 0.000450000000, '', '', '', '', NULL, NULL, ''),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', '01a149bb-b211-7011-8011-000000000011', '01a21b11-b306-7570-91e5-9cc54e5f16bc', '2026-10-17 12:00:00+00', '2026-11-27 03:34:35.438191+00', 6, 1, 100000, 20000, 3000, 2000, 500, 0, 0, 0, 0, NULL, 1, '2026-10-01', 1, false, 0.335500000000, 0.000000000000, 0.000000000000, 0.335500000000, '', '', '', '', '{01a21b11-b3d3-7767-a15b-9438310eabea}', '{2000-01-01}', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', '01a149bb-b212-7012-8012-000000000012', '01a21b11-b328-7790-8c80-67e4d5794a6c', '2026-10-17 12:00:00+00', '2026-11-27 03:34:35.469522+00', 8, 2, 9000000, 800000, 0, 0, 0, 0, 0, 0, 0, NULL, 2, '2026-10-01', 1, false, 39.000000000000, 0.000000000000, 0.000000000000, 39.000000000000, '', '', '', '', '{01a21b11-b3e8-7194-b117-6a2bd4f3bb9a}', '{2026-10-01}', ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', '01a149bb-b213-7013-8013-000000000013', '01a21b11-b328-7790-8c80-67e4d5794a6c', '2026-10-17 12:00:00+00', '2026-11-27 03:34:35.503488+00', 9, 1, 150000, 4000, 0, 0, 0, 7000, 3000, 2, 128000, NULL, 1, '2026-10-01', 1, false, 0.553500000000, 0.000000000000, 0.000000000000, 0.553500000000, '', '', '', '', '{01a21b11-b3e8-7194-b117-6a2bd4f3bb9a}', '{2026-10-01}', ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', '01a149bb-b214-7014-8014-000000000014', '01a21b11-b35a-755d-9d82-fa69b6631593', '2026-10-17 12:00:00+00', '2026-11-27 03:34:35.542891+00', 8, 3, 2000000, 100000, 0, 0, 0, 0, 0, 0, 128000, NULL, 1, '2026-10-01', 1, false, 6.300900000000, 0.000000000000, 0.000000000000, 6.300900000000, '', '', '', '', NULL, NULL, ''),
	('01a21b11-b1f4-7698-9ba2-8bc20bcacb93', '01a149bb-b215-7015-8015-000000000015', '01a21b11-b35a-755d-9d82-fa69b6631593', '2026-10-17 12:00:00+00', '2026-11-27 03:34:35.578246+00', 9, 3, 1000, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 1, '2026-10-01', 1, true, 0.000450000000, 0.001575000000, 0.000000000000, 0.000450000000, '', '', '', '', NULL, NULL, ''),
	('01a21b11-b1d3-776c-8d3d-32f6058e919a', '01a1592e-c616-7016-8016-000000000016', '01a21b11-b328-7790-8c80-67e4d5794a6c', '2026-10-20 12:00:00+00', '2026-11-27 03:34:35.610301+00', 10, 2, 1000, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 2, '2026-10-01', 3, false, 0.003000000000, 0.000000000000, 0.000000000000, 0.003000000000, '', '', '', '', '{01a21b11-b3e8-7194-b117-6a2bd4f3bb9a}', '{2026-10-01}', '');
INSERT INTO public.usage_events_2026_11 VALUES
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', '01a21b11-b88f-7316-8151-8ba50adf33f8', '01a21b11-b306-7570-91e5-9cc54e5f16bc', '2026-11-27 03:34:35.919+00', '2026-11-27 03:34:35.977908+00', 8, 1, 1200, 321, 0, 0, 0, 0, 0, 0, 0, NULL, 1, '2026-11-01', 1, false, 0.005710000000, 0.000000000000, 0.085800000000, 0.000000000000, '', '', '', '', '{01a21b11-b3d3-7767-a15b-9438310eabea}', '{2000-01-01}', ''),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', '01a21b11-b8f5-74b8-bec9-d9bd2c6d95e8', '01a21b11-b306-7570-91e5-9cc54e5f16bc', '2026-11-27 03:34:36.021+00', '2026-11-27 03:34:36.07054+00', 9, 1, 1200, 321, 0, 0, 0, 0, 0, 0, 0, NULL, 1, '2026-11-01', 1, false, 0.005710000000, 0.000000000000, 0.085800000000, 0.000000000000, '', '', '', '', '{01a21b11-b3d3-7767-a15b-9438310eabea}', '{2000-01-01}', ''),
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', '01a21b11-b95b-7030-bd05-28d89a5356c1', '01a21b11-b306-7570-91e5-9cc54e5f16bc', '2026-11-27 03:34:36.123+00', '2026-11-27 03:34:36.176681+00', 10, 1, 1200, 321, 0, 0, 0, 0, 0, 0, 0, NULL, 1, '2026-11-01', 1, false, 0.005710000000, 0.000000000000, 0.085800000000, 0.000000000000, '', '', '', '', '{01a21b11-b3d3-7767-a15b-9438310eabea}', '{2000-01-01}', '');
INSERT INTO public.usage_reversals VALUES
	('01a21b11-b1ab-77c0-8cfb-7903fa789ede', '01a21b11-b95b-7030-bd05-28d89a5356c1', 11, 'charged for a test', '2026-11-27 03:34:36.254026+00', 0.000000000000, 0.005710000000, 0.000000000000, 0.000000000000);
INSERT INTO public.usage_rollup_watermark VALUES
	(true, '2026-11-27 03:34:33.185821+00', '2026-11-27 03:34:33.185821+00', '2026-11-27 03:34:35.266305+00', '844', 3932160);
SELECT pg_catalog.setval('public.barriers', 1, false);
SELECT pg_catalog.setval('public.models_model_id_seq', 2, true);
SELECT pg_catalog.setval('public.price_versions_price_version_seq', 3, true);
SELECT pg_catalog.setval('public.seller_versions_seller_version_seq', 1, true);
SELECT pg_catalog.setval('public.tax_rates_tax_rate_version_seq', 1, false);
ALTER TABLE ONLY public._sqlx_migrations
    ADD CONSTRAINT _sqlx_migrations_pkey PRIMARY KEY (version);
ALTER TABLE ONLY public.account_funds
    ADD CONSTRAINT account_funds_pkey PRIMARY KEY (account_id);
ALTER TABLE ONLY public.account_model_discounts
    ADD CONSTRAINT account_model_discounts_pkey PRIMARY KEY (account_id, "position");
ALTER TABLE ONLY public.accounts
    ADD CONSTRAINT accounts_handle_key UNIQUE (handle);
ALTER TABLE ONLY public.accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (account_id);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_key_hash_key UNIQUE (key_hash);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (key_id);
ALTER TABLE ONLY public.billing_documents
    ADD CONSTRAINT billing_documents_number_key UNIQUE (number);
ALTER TABLE ONLY public.billing_documents
    ADD CONSTRAINT billing_documents_pkey PRIMARY KEY (document_id);
ALTER TABLE ONLY public.billing_documents
    ADD CONSTRAINT billing_documents_series_year_sequence_key UNIQUE (series, year, sequence);
ALTER TABLE ONLY public.billing_runs
    ADD CONSTRAINT billing_runs_pkey PRIMARY KEY (period);
ALTER TABLE ONLY public.budget_periods
    ADD CONSTRAINT budget_periods_pkey PRIMARY KEY (account_id, budget_id, period_start);
ALTER TABLE ONLY public.budgets
    ADD CONSTRAINT budgets_pkey PRIMARY KEY (account_id, budget_id);
ALTER TABLE ONLY public.chargebacks
    ADD CONSTRAINT chargebacks_payment_id_external_reference_stage_key UNIQUE (payment_id, external_reference, stage);
ALTER TABLE ONLY public.chargebacks
    ADD CONSTRAINT chargebacks_pkey PRIMARY KEY (chargeback_id, stage);
ALTER TABLE ONLY public.closed_periods
    ADD CONSTRAINT closed_periods_pkey PRIMARY KEY (account_id, period);
ALTER TABLE ONLY public.credit_notes
    ADD CONSTRAINT credit_notes_pkey PRIMARY KEY (document_id);
ALTER TABLE ONLY public.credit_notes
    ADD CONSTRAINT credit_notes_replacement_id_key UNIQUE (replacement_id);
ALTER TABLE ONLY public.document_counters
    ADD CONSTRAINT document_counters_pkey PRIMARY KEY (series, year);
ALTER TABLE ONLY public.foreign_settlements
    ADD CONSTRAINT foreign_settlements_pkey PRIMARY KEY (issuer, account_id, authorization_id);
ALTER TABLE ONLY public.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (rpc, idempotency_key);
ALTER TABLE ONLY public.instances
    ADD CONSTRAINT instances_pkey PRIMARY KEY (instance_id);
ALTER TABLE ONLY public.key_norms
    ADD CONSTRAINT key_norms_pkey PRIMARY KEY (account_id, lineage);
ALTER TABLE ONLY public.leases
    ADD CONSTRAINT leases_pkey PRIMARY KEY (account_id, budget_id, period_start, instance_id);
ALTER TABLE ONLY public.ledger_accounts
    ADD CONSTRAINT ledger_accounts_pkey PRIMARY KEY (code);
ALTER TABLE ONLY public.models
    ADD CONSTRAINT models_name_key UNIQUE (name);
ALTER TABLE ONLY public.models
    ADD CONSTRAINT models_pkey PRIMARY KEY (model_id);
ALTER TABLE ONLY public.payment_returns
    ADD CONSTRAINT payment_returns_pkey PRIMARY KEY (return_id);
ALTER TABLE ONLY public.payment_returns
    ADD CONSTRAINT payment_returns_source_id_external_reference_key UNIQUE (source_id, external_reference);
ALTER TABLE ONLY public.payments
    ADD CONSTRAINT payments_method_external_reference_key UNIQUE (method, external_reference);
ALTER TABLE ONLY public.payments
    ADD CONSTRAINT payments_pkey PRIMARY KEY (payment_id);
ALTER TABLE ONLY public.price_tiers
    ADD CONSTRAINT price_tiers_pkey PRIMARY KEY (price_version, above);
ALTER TABLE ONLY public.price_versions
    ADD CONSTRAINT price_versions_discounted_from_discount_percent_key UNIQUE (discounted_from, discount_percent);
ALTER TABLE ONLY public.price_versions
    ADD CONSTRAINT price_versions_pkey PRIMARY KEY (price_version);
ALTER TABLE ONLY public.promotional_grants
    ADD CONSTRAINT promotional_grants_pkey PRIMARY KEY (grant_id);
ALTER TABLE ONLY public.promotional_withdrawals
    ADD CONSTRAINT promotional_withdrawals_pkey PRIMARY KEY (withdrawal_id);
ALTER TABLE ONLY public.quarantined_usage
    ADD CONSTRAINT quarantined_usage_pkey PRIMARY KEY (quarantine_id);
ALTER TABLE ONLY public.refunds
    ADD CONSTRAINT refunds_method_external_reference_key UNIQUE (method, external_reference);
ALTER TABLE ONLY public.refunds
    ADD CONSTRAINT refunds_pkey PRIMARY KEY (refund_id);
ALTER TABLE ONLY public.reservation_answers
    ADD CONSTRAINT reservation_answers_pkey PRIMARY KEY (question, instance_id);
ALTER TABLE ONLY public.seller_versions
    ADD CONSTRAINT seller_versions_pkey PRIMARY KEY (seller_version);
ALTER TABLE ONLY public.settlements
    ADD CONSTRAINT settlements_pkey PRIMARY KEY (settlement_id);
ALTER TABLE ONLY public.signing_keys
    ADD CONSTRAINT signing_keys_pkey PRIMARY KEY (purpose, key_id);
ALTER TABLE ONLY public.tax_rates
    ADD CONSTRAINT tax_rates_pkey PRIMARY KEY (tax_rate_version);
ALTER TABLE ONLY public.transfers
    ADD CONSTRAINT transfers_pkey PRIMARY KEY (account_id, posting, line);
ALTER TABLE ONLY public.unsettled_authorizations
    ADD CONSTRAINT unsettled_authorizations_pkey PRIMARY KEY (account_id, authorization_id);
ALTER TABLE ONLY public.usage_details
    ADD CONSTRAINT usage_details_pkey PRIMARY KEY (account_id, event_id);
ALTER TABLE ONLY public.usage_details_2026_09
    ADD CONSTRAINT usage_details_2026_09_pkey PRIMARY KEY (account_id, event_id);
ALTER TABLE ONLY public.usage_details_2026_10
    ADD CONSTRAINT usage_details_2026_10_pkey PRIMARY KEY (account_id, event_id);
ALTER TABLE ONLY public.usage_details_2026_11
    ADD CONSTRAINT usage_details_2026_11_pkey PRIMARY KEY (account_id, event_id);
ALTER TABLE ONLY public.usage_details_2026_12
    ADD CONSTRAINT usage_details_2026_12_pkey PRIMARY KEY (account_id, event_id);
ALTER TABLE ONLY public.usage_details_2027_01
    ADD CONSTRAINT usage_details_2027_01_pkey PRIMARY KEY (account_id, event_id);
ALTER TABLE ONLY public.usage_details_2027_02
    ADD CONSTRAINT usage_details_2027_02_pkey PRIMARY KEY (account_id, event_id);
ALTER TABLE ONLY public.usage_events
    ADD CONSTRAINT usage_events_pkey PRIMARY KEY (account_id, event_id);
ALTER TABLE ONLY public.usage_events_2026_09
    ADD CONSTRAINT usage_events_2026_09_pkey PRIMARY KEY (account_id, event_id);
ALTER TABLE ONLY public.usage_events_2026_10
    ADD CONSTRAINT usage_events_2026_10_pkey PRIMARY KEY (account_id, event_id);
ALTER TABLE ONLY public.usage_events_2026_11
    ADD CONSTRAINT usage_events_2026_11_pkey PRIMARY KEY (account_id, event_id);
ALTER TABLE ONLY public.usage_events_2026_12
    ADD CONSTRAINT usage_events_2026_12_pkey PRIMARY KEY (account_id, event_id);
ALTER TABLE ONLY public.usage_events_2027_01
    ADD CONSTRAINT usage_events_2027_01_pkey PRIMARY KEY (account_id, event_id);
ALTER TABLE ONLY public.usage_events_2027_02
    ADD CONSTRAINT usage_events_2027_02_pkey PRIMARY KEY (account_id, event_id);
ALTER TABLE ONLY public.usage_reversals
    ADD CONSTRAINT usage_reversals_pkey PRIMARY KEY (account_id, event_id);
ALTER TABLE ONLY public.usage_rollup_watermark
    ADD CONSTRAINT usage_rollup_watermark_pkey PRIMARY KEY (only_one);
ALTER TABLE ONLY public.usage_rollups
    ADD CONSTRAINT usage_rollups_pkey PRIMARY KEY (account_id, day, key_id, model_id);
ALTER TABLE ONLY public.write_offs
    ADD CONSTRAINT write_offs_pkey PRIMARY KEY (write_off_id);
CREATE INDEX api_keys_by_account ON public.api_keys USING btree (account_id, key_id);
CREATE INDEX billing_documents_by_account ON public.billing_documents USING btree (account_id, document_id);
CREATE UNIQUE INDEX budgets_one_for_each_target ON public.budgets USING btree (account_id, scope, project, lineage, period, hard) NULLS NOT DISTINCT WHERE (deleted_at IS NULL);
CREATE INDEX chargebacks_by_account ON public.chargebacks USING btree (account_id, chargeback_id);
CREATE UNIQUE INDEX chargebacks_end_once ON public.chargebacks USING btree (chargeback_id) WHERE (stage <> 'opened'::text);
CREATE INDEX credit_notes_by_invoice ON public.credit_notes USING btree (invoice_id);
CREATE UNIQUE INDEX credit_notes_void_once ON public.credit_notes USING btree (invoice_id) WHERE (purpose = 'void'::text);
CREATE INDEX leases_by_instance ON public.leases USING btree (instance_id);
CREATE INDEX payments_by_account ON public.payments USING btree (account_id, payment_id);
CREATE UNIQUE INDEX price_versions_contract ON public.price_versions USING btree (model_id, currency, account_id, effective_from) WHERE ((account_id IS NOT NULL) AND (discounted_from IS NULL));
CREATE UNIQUE INDEX price_versions_list ON public.price_versions USING btree (model_id, currency, effective_from) WHERE ((account_id IS NULL) AND (discounted_from IS NULL));
CREATE INDEX promotional_grants_by_account ON public.promotional_grants USING btree (account_id, grant_id);
CREATE INDEX promotional_withdrawals_by_account ON public.promotional_withdrawals USING btree (account_id, withdrawal_id);
CREATE UNIQUE INDEX quarantined_usage_by_event ON public.quarantined_usage USING btree (account_id, event_id);
CREATE INDEX refunds_by_account ON public.refunds USING btree (account_id, refund_id);
CREATE INDEX settlements_by_account ON public.settlements USING btree (account_id, settlement_id);
CREATE INDEX settlements_by_document ON public.settlements USING btree (document_id);
CREATE INDEX settlements_by_source ON public.settlements USING btree (source_id);
CREATE INDEX tax_rates_by_jurisdiction ON public.tax_rates USING btree (jurisdiction, effective_from DESC, tax_rate_version DESC);
CREATE INDEX usage_events_by_recorded_at ON ONLY public.usage_events USING brin (recorded_at) WITH (pages_per_range='16', autosummarize='on');
CREATE INDEX usage_events_2026_09_recorded_at_idx ON public.usage_events_2026_09 USING brin (recorded_at) WITH (pages_per_range='16', autosummarize='on');
CREATE INDEX usage_events_2026_10_recorded_at_idx ON public.usage_events_2026_10 USING brin (recorded_at) WITH (pages_per_range='16', autosummarize='on');
CREATE INDEX usage_events_2026_11_recorded_at_idx ON public.usage_events_2026_11 USING brin (recorded_at) WITH (pages_per_range='16', autosummarize='on');
CREATE INDEX usage_events_2026_12_recorded_at_idx ON public.usage_events_2026_12 USING brin (recorded_at) WITH (pages_per_range='16', autosummarize='on');
CREATE INDEX usage_events_2027_01_recorded_at_idx ON public.usage_events_2027_01 USING brin (recorded_at) WITH (pages_per_range='16', autosummarize='on');
CREATE INDEX usage_events_2027_02_recorded_at_idx ON public.usage_events_2027_02 USING brin (recorded_at) WITH (pages_per_range='16', autosummarize='on');
CREATE INDEX usage_rollups_by_day ON public.usage_rollups USING brin (day) WITH (pages_per_range='16', autosummarize='on');
CREATE INDEX write_offs_by_document ON public.write_offs USING btree (document_id);
ALTER INDEX public.usage_details_pkey ATTACH PARTITION public.usage_details_2026_09_pkey;
ALTER INDEX public.usage_details_pkey ATTACH PARTITION public.usage_details_2026_10_pkey;
ALTER INDEX public.usage_details_pkey ATTACH PARTITION public.usage_details_2026_11_pkey;
ALTER INDEX public.usage_details_pkey ATTACH PARTITION public.usage_details_2026_12_pkey;
ALTER INDEX public.usage_details_pkey ATTACH PARTITION public.usage_details_2027_01_pkey;
ALTER INDEX public.usage_details_pkey ATTACH PARTITION public.usage_details_2027_02_pkey;
ALTER INDEX public.usage_events_pkey ATTACH PARTITION public.usage_events_2026_09_pkey;
ALTER INDEX public.usage_events_by_recorded_at ATTACH PARTITION public.usage_events_2026_09_recorded_at_idx;
ALTER INDEX public.usage_events_pkey ATTACH PARTITION public.usage_events_2026_10_pkey;
ALTER INDEX public.usage_events_by_recorded_at ATTACH PARTITION public.usage_events_2026_10_recorded_at_idx;
ALTER INDEX public.usage_events_pkey ATTACH PARTITION public.usage_events_2026_11_pkey;
ALTER INDEX public.usage_events_by_recorded_at ATTACH PARTITION public.usage_events_2026_11_recorded_at_idx;
ALTER INDEX public.usage_events_pkey ATTACH PARTITION public.usage_events_2026_12_pkey;
ALTER INDEX public.usage_events_by_recorded_at ATTACH PARTITION public.usage_events_2026_12_recorded_at_idx;
ALTER INDEX public.usage_events_pkey ATTACH PARTITION public.usage_events_2027_01_pkey;
ALTER INDEX public.usage_events_by_recorded_at ATTACH PARTITION public.usage_events_2027_01_recorded_at_idx;
ALTER INDEX public.usage_events_pkey ATTACH PARTITION public.usage_events_2027_02_pkey;
ALTER INDEX public.usage_events_by_recorded_at ATTACH PARTITION public.usage_events_2027_02_recorded_at_idx;
CREATE TRIGGER billing_documents_append_only BEFORE DELETE OR UPDATE ON public.billing_documents FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER billing_documents_no_truncate BEFORE TRUNCATE ON public.billing_documents FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER chargebacks_append_only BEFORE DELETE OR UPDATE ON public.chargebacks FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER chargebacks_no_truncate BEFORE TRUNCATE ON public.chargebacks FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER closed_periods_append_only BEFORE DELETE OR UPDATE ON public.closed_periods FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER closed_periods_no_truncate BEFORE TRUNCATE ON public.closed_periods FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER credit_notes_append_only BEFORE DELETE OR UPDATE ON public.credit_notes FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER credit_notes_no_truncate BEFORE TRUNCATE ON public.credit_notes FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER payment_returns_append_only BEFORE DELETE OR UPDATE ON public.payment_returns FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER payment_returns_no_truncate BEFORE TRUNCATE ON public.payment_returns FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER payments_append_only BEFORE DELETE OR UPDATE ON public.payments FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER payments_no_truncate BEFORE TRUNCATE ON public.payments FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER price_tiers_append_only BEFORE DELETE OR UPDATE ON public.price_tiers FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER price_tiers_no_truncate BEFORE TRUNCATE ON public.price_tiers FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER price_versions_append_only BEFORE DELETE OR UPDATE ON public.price_versions FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER price_versions_no_truncate BEFORE TRUNCATE ON public.price_versions FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER promotional_grants_append_only BEFORE DELETE OR UPDATE ON public.promotional_grants FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER promotional_grants_no_truncate BEFORE TRUNCATE ON public.promotional_grants FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER promotional_withdrawals_append_only BEFORE DELETE OR UPDATE ON public.promotional_withdrawals FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER promotional_withdrawals_no_truncate BEFORE TRUNCATE ON public.promotional_withdrawals FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER refunds_append_only BEFORE DELETE OR UPDATE ON public.refunds FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER refunds_no_truncate BEFORE TRUNCATE ON public.refunds FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER seller_versions_append_only BEFORE DELETE OR UPDATE ON public.seller_versions FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER seller_versions_no_truncate BEFORE TRUNCATE ON public.seller_versions FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER settlements_append_only BEFORE DELETE OR UPDATE ON public.settlements FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER settlements_no_truncate BEFORE TRUNCATE ON public.settlements FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER tax_rates_append_only BEFORE DELETE OR UPDATE ON public.tax_rates FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER tax_rates_no_truncate BEFORE TRUNCATE ON public.tax_rates FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER transfers_append_only BEFORE DELETE OR UPDATE ON public.transfers FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER transfers_no_truncate BEFORE TRUNCATE ON public.transfers FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER usage_events_append_only BEFORE DELETE OR UPDATE ON public.usage_events FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER usage_events_no_truncate BEFORE TRUNCATE ON public.usage_events FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER usage_events_no_truncate BEFORE TRUNCATE ON public.usage_events_2026_09 FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER usage_events_no_truncate BEFORE TRUNCATE ON public.usage_events_2026_10 FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER usage_events_no_truncate BEFORE TRUNCATE ON public.usage_events_2026_11 FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER usage_events_no_truncate BEFORE TRUNCATE ON public.usage_events_2026_12 FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER usage_events_no_truncate BEFORE TRUNCATE ON public.usage_events_2027_01 FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER usage_events_no_truncate BEFORE TRUNCATE ON public.usage_events_2027_02 FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER usage_reversals_append_only BEFORE DELETE OR UPDATE ON public.usage_reversals FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER usage_reversals_no_truncate BEFORE TRUNCATE ON public.usage_reversals FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER write_offs_append_only BEFORE DELETE OR UPDATE ON public.write_offs FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
CREATE TRIGGER write_offs_no_truncate BEFORE TRUNCATE ON public.write_offs FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
ALTER TABLE ONLY public.account_funds
    ADD CONSTRAINT account_funds_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(account_id);
ALTER TABLE ONLY public.account_model_discounts
    ADD CONSTRAINT account_model_discounts_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(account_id);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(account_id);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_rotated_from_fkey FOREIGN KEY (rotated_from) REFERENCES public.api_keys(key_id);
ALTER TABLE ONLY public.billing_documents
    ADD CONSTRAINT billing_documents_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(account_id);
ALTER TABLE ONLY public.billing_documents
    ADD CONSTRAINT billing_documents_payment_id_fkey FOREIGN KEY (payment_id) REFERENCES public.payments(payment_id);
ALTER TABLE ONLY public.budgets
    ADD CONSTRAINT budgets_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(account_id);
ALTER TABLE ONLY public.chargebacks
    ADD CONSTRAINT chargebacks_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(account_id);
ALTER TABLE ONLY public.chargebacks
    ADD CONSTRAINT chargebacks_payment_id_fkey FOREIGN KEY (payment_id) REFERENCES public.payments(payment_id);
ALTER TABLE ONLY public.closed_periods
    ADD CONSTRAINT closed_periods_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(account_id);
ALTER TABLE ONLY public.closed_periods
    ADD CONSTRAINT closed_periods_document_id_fkey FOREIGN KEY (document_id) REFERENCES public.billing_documents(document_id);
ALTER TABLE ONLY public.credit_notes
    ADD CONSTRAINT credit_notes_document_id_fkey FOREIGN KEY (document_id) REFERENCES public.billing_documents(document_id);
ALTER TABLE ONLY public.credit_notes
    ADD CONSTRAINT credit_notes_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES public.billing_documents(document_id);
ALTER TABLE ONLY public.credit_notes
    ADD CONSTRAINT credit_notes_replacement_id_fkey FOREIGN KEY (replacement_id) REFERENCES public.billing_documents(document_id);
ALTER TABLE ONLY public.payment_returns
    ADD CONSTRAINT payment_returns_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(account_id);
ALTER TABLE ONLY public.payments
    ADD CONSTRAINT payments_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(account_id);
ALTER TABLE ONLY public.price_tiers
    ADD CONSTRAINT price_tiers_price_version_fkey FOREIGN KEY (price_version) REFERENCES public.price_versions(price_version);
ALTER TABLE ONLY public.price_versions
    ADD CONSTRAINT price_versions_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(account_id);
ALTER TABLE ONLY public.price_versions
    ADD CONSTRAINT price_versions_discounted_from_fkey FOREIGN KEY (discounted_from) REFERENCES public.price_versions(price_version);
ALTER TABLE ONLY public.price_versions
    ADD CONSTRAINT price_versions_model_id_fkey FOREIGN KEY (model_id) REFERENCES public.models(model_id);
ALTER TABLE ONLY public.promotional_grants
    ADD CONSTRAINT promotional_grants_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(account_id);
ALTER TABLE ONLY public.promotional_withdrawals
    ADD CONSTRAINT promotional_withdrawals_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(account_id);
ALTER TABLE ONLY public.refunds
    ADD CONSTRAINT refunds_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(account_id);
ALTER TABLE ONLY public.settlements
    ADD CONSTRAINT settlements_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(account_id);
ALTER TABLE ONLY public.settlements
    ADD CONSTRAINT settlements_document_id_fkey FOREIGN KEY (document_id) REFERENCES public.billing_documents(document_id);
ALTER TABLE ONLY public.write_offs
    ADD CONSTRAINT write_offs_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(account_id);
ALTER TABLE ONLY public.write_offs
    ADD CONSTRAINT write_offs_document_id_fkey FOREIGN KEY (document_id) REFERENCES public.billing_documents(document_id);

-- Recording usage: the partitions it goes into, and the one statement that posts a batch of it.

-- The smallest UUIDv7 of a moment: where a month's partition begins.
CREATE FUNCTION first_id_at(p_moment timestamptz) RETURNS uuid
LANGUAGE sql STABLE STRICT AS $$
    SELECT (lpad(to_hex((extract(epoch FROM p_moment) * 1000)::bigint), 12, '0')
            || repeat('0', 20))::uuid
$$;

-- Makes the monthly partitions of usage, from two months ago to so many months ahead, that are not
-- there yet. Two months back, because usage is taken up to 35 days after its authorization expired.
-- Each table is made first and attached then, which does not hold up those who record meanwhile;
-- whoever cannot get its lock in time gives up, and the next call tries again. There is no default
-- partition: attaching to one would have to read it.
CREATE FUNCTION ensure_usage_partitions(p_months_ahead integer) RETURNS integer
LANGUAGE plpgsql
SET lock_timeout = '2s'
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

-- From when to when usage can be recorded: the months whose partitions are attached.
CREATE FUNCTION usage_window(OUT opens timestamptz, OUT closes timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT min(month) AT TIME ZONE 'UTC', (max(month) + interval '1 month') AT TIME ZONE 'UTC'
    FROM (
        SELECT to_date(right(partition.relname, 7), 'YYYY_MM')::timestamp AS month
        FROM pg_inherits
        JOIN pg_class AS partition ON partition.oid = inhrelid
        WHERE inhparent = 'usage_events'::regclass
    ) AS attached
$$;

SELECT ensure_usage_partitions(3);

-- A refused event that is sent again is still the same one.
CREATE UNIQUE INDEX quarantined_usage_by_event ON quarantined_usage (account_id, event_id);

-- Posts a batch of usage: events, transfers and balances, all in the one statement that calls it, so
-- that it commits in one round trip and a server frozen in the middle holds no lock.
--
-- What each array holds, one element per event unless said otherwise:
--   p_accounts   one per account of the batch, ascending, each once
--   p_slots      which of p_accounts the event belongs to, from 1; events come in the order of
--                (account, event), in which the sources of funds burn
--   p_occurred_at  within one month for each account: a posting belongs to one billing period
--   p_authorized what the authorization held, zero without one
--   p_settle_by  until when its authorization covers it: expiry and grace, judged by the database's
--                clock under the account's lock, as shrinking a lease judges it; what comes later
--                is wholly an overrun
--   p_issuers    the server that issued the authorization, NULL without one
--   p_detail_…   only for events that have details: which event, from 1, and what they are
--
-- Every writer locks the accounts' rows before it inserts. So nobody else can record an event of
-- these accounts between this statement's view of them and its commit, posting numbers have no
-- gaps, and two writers that take their locks in the same order never wait for each other in a ring.
-- With p_skip_locked, accounts that somebody else holds are left out and named in `busy`.
--
-- Returns what the caller cannot know: the accounts left out, the events that were inserted (the
-- others of accounts not left out were recorded before), and the overruns among them. An event's id
-- must be in a batch once, whatever the account.
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
    p_providers         text[],
    p_served_models     text[],
    p_regions           text[],
    p_fallbacks         text[],
    p_detail_events     integer[],
    p_detail_requests   text[],
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
    -- Per account, in the order of p_accounts: the last posting's number, -1 where it is busy, and
    -- the first open period.
    v_postings bigint[];
    v_opens    date[];
    v_now      timestamptz;
    v_mixed    boolean;
BEGIN
    IF p_skip_locked THEN
        SELECT array_agg(coalesce(locked.posting, -1) ORDER BY wanted.slot),
               array_agg(coalesce(locked.open_period, '-infinity') ORDER BY wanted.slot),
               array_agg(wanted.account_id) FILTER (WHERE locked.posting IS NULL)
        INTO v_postings, v_opens, busy
        FROM unnest(p_accounts) WITH ORDINALITY AS wanted (account_id, slot)
        LEFT JOIN (
            SELECT account_id, posting, open_period
            FROM account_funds
            WHERE account_id = ANY (p_accounts)
            ORDER BY account_id
            FOR UPDATE SKIP LOCKED
        ) AS locked USING (account_id);
    ELSE
        SELECT array_agg(locked.posting), array_agg(locked.open_period)
        INTO v_postings, v_opens
        FROM (
            SELECT posting, open_period
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

    -- The view of this statement begins after the locks: it sees all that was committed for these
    -- accounts, and its single UPDATE per account computes from columns nobody else can change.
    WITH batch AS MATERIALIZED (
        SELECT p_accounts[event.slot] AS account_id,
               CASE WHEN event.charge > 0 THEN v_postings[event.slot] + 1 ELSE 0 END AS posting,
               greatest(date_trunc('month', event.occurred_at AT TIME ZONE 'UTC')::date,
                        v_opens[event.slot]) AS period,
               CASE WHEN event.settle_by >= v_now THEN greatest(0, event.charge - event.authorized)
                    ELSE event.charge END AS overrun,
               event.*
        FROM unnest(p_slots, p_event_ids, p_key_ids, p_occurred_at, p_price_versions, p_model_ids,
                    p_input, p_output, p_cache_read, p_cache_write, p_reasoning, p_audio_input,
                    p_audio_output, p_images, p_tiers, p_latencies, p_outcomes, p_cache_hits,
                    p_charges, p_savings, p_authorized, p_settle_by, p_issuers, p_providers,
                    p_served_models, p_regions, p_fallbacks)
             WITH ORDINALITY
             AS event (slot, event_id, key_id, occurred_at, price_version, model_id,
                       input, output, cache_read, cache_write, reasoning, audio_input,
                       audio_output, images, tier_above, latency_ms, outcome, cache_hit,
                       charge, saving, authorized, settle_by, issuer, provider,
                       served_model, region, fallback_from, ordinal)
        WHERE v_postings[event.slot] >= 0
    ), recorded AS (
        INSERT INTO usage_events (
            account_id, event_id, key_id, occurred_at, recorded_at, posting, price_version,
            input, output, cache_read, cache_write, reasoning, audio_input, audio_output, images,
            tier_above, latency_ms, model_id, period, outcome, cache_hit, charge, saving,
            authorized, overrun, provider, served_model, region, fallback_from)
        SELECT account_id, event_id, key_id, occurred_at, v_now, posting, price_version,
               input, output, cache_read, cache_write, reasoning, audio_input, audio_output, images,
               tier_above, latency_ms, model_id, period, outcome, cache_hit, charge, saving,
               authorized, overrun, provider, served_model, region, fallback_from
        FROM batch
        ON CONFLICT DO NOTHING
        RETURNING account_id, event_id, posting, period, charge, overrun
    ), totals AS (
        SELECT account_id, posting, max(period) AS period, min(period) < max(period) AS mixed,
               sum(charge) AS charged
        FROM recorded
        WHERE posting > 0
        GROUP BY account_id, posting
    ), from_promotional AS (
        SELECT totals.*, funds.currency, funds.net_30, funds.credits,
               least(charged, funds.promotional) AS promotional
        FROM totals
        JOIN account_funds AS funds USING (account_id)
    ), split AS (
        SELECT account_id, posting, period, currency, net_30, charged, promotional,
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
    ), detailed AS (
        INSERT INTO usage_details (account_id, event_id, request_id, end_user, labels, dialect,
                                   provider_usage)
        SELECT batch.account_id, batch.event_id, detail.request_id, detail.end_user, detail.labels,
               detail.dialect, detail.provider_usage
        FROM unnest(p_detail_events, p_detail_requests, p_detail_end_users, p_detail_labels,
                    p_detail_dialects, p_detail_usages)
             AS detail (ordinal, request_id, end_user, labels, dialect, provider_usage)
        JOIN batch USING (ordinal)
        JOIN recorded USING (account_id, event_id)
    ), settled AS (
        INSERT INTO foreign_settlements (issuer, account_id, authorization_id, charge)
        SELECT batch.issuer, batch.account_id, batch.event_id, batch.charge
        FROM batch
        JOIN recorded USING (account_id, event_id)
        WHERE batch.issuer <> p_instance
    )
    SELECT array_agg(event_id),
           array_agg(event_id) FILTER (WHERE overrun > 0),
           array_agg(overrun) FILTER (WHERE overrun > 0),
           (SELECT bool_or(mixed) FROM totals)
    INTO inserted, overrun_events, overruns, v_mixed
    FROM recorded;
    IF v_mixed THEN
        RAISE EXCEPTION 'the batch mixes billing periods of one account'
            USING ERRCODE = 'check_violation';
    END IF;
END $$;

-- The same for batches without duplicates, which is a fifth cheaper: a duplicate fails it whole with
-- a unique violation, and the caller turns to post_usage. Made from the same text, so that the two
-- never differ in anything else.
DO $$
BEGIN
    EXECUTE replace(regexp_replace(pg_get_functiondef('post_usage'::regproc),
                                   'FUNCTION \S+\.post_usage\(', 'FUNCTION post_new_usage('),
                    'ON CONFLICT DO NOTHING', '');
END $$;

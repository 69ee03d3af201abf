-- Budgets: what an account, one of its projects or one of its keys may spend in a day, a week, a
-- month or in all. A budget has a row for each of its periods, which is a pool like the account's
-- funds: servers lease from it, and what was used is charged to it in the transaction that posts it.
--
-- Every row of an account's budgets and their periods is changed only by who holds the lock on the
-- account's row of account_funds. One lock for all pools of an account: no order to keep.

CREATE TABLE budgets (
    account_id   uuid NOT NULL REFERENCES accounts,
    budget_id    uuid NOT NULL,
    scope        text NOT NULL CHECK (scope IN ('account', 'project', 'key')),
    project      text NOT NULL DEFAULT '',
    -- The first key of a rotation: whoever succeeds it has the same budget.
    lineage      uuid,
    period       text NOT NULL CHECK (period IN ('day', 'week', 'month', 'total')),
    hard         boolean NOT NULL,
    limit_amount numeric(28, 12) NOT NULL CHECK (limit_amount >= 0),
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- A deleted budget stays for the events that name it, and limits nothing.
    deleted_at   timestamptz,
    PRIMARY KEY (account_id, budget_id),
    CHECK ((scope = 'project') = (project <> '')),
    CHECK ((scope = 'key') = (lineage IS NOT NULL))
);

-- Setting the budget of a target again changes its limit and keeps what was spent.
CREATE UNIQUE INDEX budgets_one_for_each_target
    ON budgets (account_id, scope, project, lineage, period, hard) NULLS NOT DISTINCT
    WHERE deleted_at IS NULL;

CREATE TABLE budget_periods (
    account_id   uuid NOT NULL,
    budget_id    uuid NOT NULL,
    -- The day, the Monday (ISO 8601), the first of the month, in UTC; for a total 2000-01-01.
    period_start date NOT NULL,
    -- The charges of the events that name it, less what was reversed; `ledger verify` proves it.
    spent        numeric(28, 12) NOT NULL DEFAULT 0 CHECK (spent >= 0),
    -- The sum of its leases.
    leased       numeric(28, 12) NOT NULL DEFAULT 0 CHECK (leased >= 0),
    -- When a server first met its end and announced it.
    reached_at   timestamptz,
    PRIMARY KEY (account_id, budget_id, period_start)
) WITH (fillfactor = 50);

-- Which budgets an event was charged to, and in which of their periods.
ALTER TABLE usage_events ADD COLUMN budgets uuid[], ADD COLUMN budget_starts date[],
    ADD CHECK (cardinality(budgets) IS NOT DISTINCT FROM cardinality(budget_starts));

-- A lease is on the account's funds (no budget: all zeros) or on one period of a budget.
ALTER TABLE leases
    DROP CONSTRAINT leases_pkey,
    DROP COLUMN pool,
    ADD COLUMN budget_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    ADD COLUMN period_start date NOT NULL DEFAULT '2000-01-01',
    ADD PRIMARY KEY (account_id, budget_id, period_start, instance_id);

DROP FUNCTION renew_leases(uuid, uuid[], bigint[], numeric[], numeric[], numeric[], numeric[],
                           timestamptz[]);

-- Renews many leases in one round trip. A lease becomes what it must go on covering (`kept`) plus
-- what is granted: all that waiting requests need if there is room; else whatever room there is if
-- that helps at least one of them (`floor`); beyond the need at most half of the room, so that no
-- server starves the others. Room and grant are computed under the account's row lock.
--
-- The room of a soft budget, or of a deleted one, has no end: it is leased like the others, so that
-- what is reserved of it can be seen, and refuses nothing.
--
-- Where the room does not do and other servers hold leases on the pool, they are asked to give back
-- what they do not use (p_recall; an announcement when this commits).
CREATE FUNCTION renew_leases(
    p_instance   uuid,
    p_account    uuid[],
    p_budget     uuid[],
    p_start      date[],
    p_sequence   bigint[],
    p_kept       numeric[],
    p_need       numeric[],
    p_floor      numeric[],
    p_want       numeric[],
    p_not_before timestamptz[],
    p_recall     boolean[]
) RETURNS TABLE (
    account_id uuid, budget_id uuid, period_start date,
    lost boolean, base numeric, granted numeric, recalled boolean, reached boolean,
    promotional numeric, credits numeric, overdrawn numeric, unbilled numeric, receivable numeric,
    unapplied numeric, net_30 boolean, credit_limit numeric,
    hard boolean, limit_amount numeric, spent numeric,
    leased numeric, available numeric
) LANGUAGE plpgsql AS $$
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

-- As before, with the leases on budgets.
CREATE OR REPLACE FUNCTION remove_dead_instances(p_silence interval, p_leases integer)
RETURNS bigint
LANGUAGE plpgsql AS $$
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

DROP FUNCTION post_new_usage;
DROP FUNCTION post_usage;

-- As before, with budgets: p_budget_… say which event (from 1) is charged to which budget and in
-- which of its periods. A period that no server has leased from is made here, for usage that nobody
-- authorized.
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
    p_budget_events     integer[],
    p_budgets           uuid[],
    p_budget_starts     date[],
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
               event.*, charged.budgets, charged.starts
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
        LEFT JOIN (
            SELECT ordinal, array_agg(budget) AS budgets, array_agg(start) AS starts
            FROM unnest(p_budget_events, p_budgets, p_budget_starts)
                 AS budgeted (ordinal, budget, start)
            GROUP BY ordinal
        ) AS charged USING (ordinal)
        WHERE v_postings[event.slot] >= 0
    ), recorded AS (
        INSERT INTO usage_events (
            account_id, event_id, key_id, occurred_at, recorded_at, posting, price_version,
            input, output, cache_read, cache_write, reasoning, audio_input, audio_output, images,
            tier_above, latency_ms, model_id, period, outcome, cache_hit, charge, saving,
            authorized, overrun, provider, served_model, region, fallback_from,
            budgets, budget_starts)
        SELECT account_id, event_id, key_id, occurred_at, v_now, posting, price_version,
               input, output, cache_read, cache_write, reasoning, audio_input, audio_output, images,
               tier_above, latency_ms, model_id, period, outcome, cache_hit, charge, saving,
               authorized, overrun, provider, served_model, region, fallback_from,
               budgets, starts
        FROM batch
        ON CONFLICT DO NOTHING
        RETURNING account_id, event_id, posting, period, charge, overrun, budgets, budget_starts
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
    ), budgeted AS (
        INSERT INTO budget_periods AS spending (account_id, budget_id, period_start, spent)
        SELECT recorded.account_id, charged.budget, charged.start, sum(recorded.charge)
        FROM recorded
        CROSS JOIN LATERAL unnest(recorded.budgets, recorded.budget_starts)
                           AS charged (budget, start)
        WHERE recorded.charge > 0
        GROUP BY 1, 2, 3
        ON CONFLICT (account_id, budget_id, period_start) DO UPDATE
           SET spent = spending.spent + excluded.spent
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

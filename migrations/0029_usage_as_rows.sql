-- Posting reads a batch as rows instead of columns: a statement over thirty arrays keeps each of them in
-- a store of its own and puts every row together from them, which was a third of its time.

DROP FUNCTION post_new_usage;
DROP FUNCTION post_usage;

-- A usage event as it is posted. `slot` says (from 1) which of the batch's accounts it is of; `issuer` is
-- the server that authorized it, `settle_by` until when that covers it, both NULL where nobody did.
-- The last four are kept apart, of the events that have any of them.
CREATE TYPE usage_to_post AS (
    slot           integer,
    event_id       uuid,
    key_id         uuid,
    occurred_at    timestamptz,
    price_version  bigint,
    model_id       integer,
    input          bigint,
    output         bigint,
    cache_read     bigint,
    cache_write    bigint,
    reasoning      bigint,
    audio_input    bigint,
    audio_output   bigint,
    images         bigint,
    tier_above     bigint,
    latency_ms     integer,
    outcome        smallint,
    cache_hit      boolean,
    charge         numeric,
    saving         numeric,
    authorized     numeric,
    settle_by      timestamptz,
    issuer         uuid,
    request_id     text,
    provider       text,
    served_model   text,
    region         text,
    fallback_from  text,
    budgets        uuid[],
    budget_starts  date[],
    end_user       text,
    labels         text,
    dialect        smallint,
    provider_usage text
);

-- Posts a batch of usage: inserts the events, charges each account with one posting, settles what
-- other servers authorized. One statement, so that a process frozen in the middle holds no lock.
--
-- p_accounts are the batch's accounts in their order; events are in the order of account and id.
--
-- With p_skip_locked, accounts that somebody else holds are left out and come back as `busy`.
-- `inserted` are the events that had not been recorded before.
CREATE FUNCTION post_usage(
    p_instance         uuid,
    p_skip_locked      boolean,
    p_accounts         uuid[],
    p_events           usage_to_post[],
    OUT busy           uuid[],
    OUT inserted       uuid[],
    OUT overrun_events uuid[],
    OUT overruns       numeric[]
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
    v_budgeted    boolean;
    v_detailed    boolean;
    v_foreign     boolean;
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
               request_id, provider, served_model, region, fallback_from, budgets, budget_starts
        FROM unnest(p_events)
        WHERE v_postings[slot] >= 0
        ON CONFLICT DO NOTHING RETURNING event_id
    ), kept AS (
        SELECT slot, event_id, charge,
               date_trunc('month', occurred_at AT TIME ZONE 'UTC')::date AS month,
               CASE WHEN settle_by >= v_now THEN greatest(0, charge - authorized) ELSE charge END
                   AS overrun,
               budgets IS NOT NULL AS budgeted,
               end_user <> '' OR labels IS NOT NULL OR dialect IS NOT NULL AS detailed,
               -- Usage that nobody authorized has no issuer.
               issuer <> p_instance AS is_foreign
        FROM unnest(p_events)
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
           (SELECT bool_or(mixed) FROM totals),
           bool_or(budgeted), bool_or(detailed), bool_or(is_foreign)
    INTO inserted, overrun_events, overruns, v_mixed, v_budgeted, v_detailed, v_foreign
    FROM kept;
    IF v_mixed THEN
        RAISE EXCEPTION 'the batch mixes billing periods of one account'
            USING ERRCODE = 'check_violation';
    END IF;

    -- What many batches have nothing of.
    IF v_budgeted THEN
        INSERT INTO budget_periods AS spending (account_id, budget_id, period_start, spent)
        SELECT p_accounts[slot], charged.budget, charged.start, sum(charge)
        FROM unnest(p_events) AS event
        JOIN unnest(inserted) AS kept (event_id) USING (event_id)
        CROSS JOIN LATERAL unnest(budgets, budget_starts) AS charged (budget, start)
        WHERE charge > 0
        GROUP BY 1, 2, 3
        ON CONFLICT (account_id, budget_id, period_start) DO UPDATE
           SET spent = spending.spent + excluded.spent;
    END IF;
    IF v_detailed THEN
        INSERT INTO usage_details (account_id, event_id, end_user, labels, dialect, provider_usage)
        SELECT p_accounts[slot], event_id, end_user, labels::jsonb, dialect, provider_usage::jsonb
        FROM unnest(p_events) AS event
        JOIN unnest(inserted) AS kept (event_id) USING (event_id)
        WHERE end_user <> '' OR labels IS NOT NULL OR dialect IS NOT NULL;
    END IF;
    IF v_foreign THEN
        INSERT INTO foreign_settlements (issuer, account_id, authorization_id, charge)
        SELECT issuer, p_accounts[slot], event_id, charge
        FROM unnest(p_events) AS event
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

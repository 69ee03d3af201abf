-- Daily sums of usage, which a summary reads instead of the events. A cache: all of it follows from
-- usage_events and can be made anew (docs/operations.md), and `ledger verify` compares the two.

CREATE TABLE usage_rollups (
    account_id     uuid NOT NULL,
    -- The day on which the events occurred, in UTC.
    day            date NOT NULL,
    key_id         uuid NOT NULL,
    model_id       integer NOT NULL,
    requests       bigint NOT NULL,
    input          bigint NOT NULL,
    output         bigint NOT NULL,
    cache_read     bigint NOT NULL,
    cache_write    bigint NOT NULL,
    reasoning      bigint NOT NULL,
    audio_input    bigint NOT NULL,
    audio_output   bigint NOT NULL,
    images         bigint NOT NULL,
    -- Sums may exceed what one amount can hold.
    charge         numeric NOT NULL,
    overrun        numeric NOT NULL,
    saving         numeric NOT NULL,
    -- From when to when its events occurred: a span that begins or ends within a day takes what lies
    -- in it as a whole, and reads the events of the rest alone, between the smallest and the largest
    -- id. A client's own ids need not follow the time at which the work was done.
    first_occurred timestamptz NOT NULL,
    last_occurred  timestamptz NOT NULL,
    first_event    uuid NOT NULL,
    last_event     uuid NOT NULL,
    PRIMARY KEY (account_id, day, key_id, model_id)
) WITH (fillfactor = 70); -- A day's row is updated all day long, on its own page.

-- For summaries of all accounts. Rows of a day lie together, and no update moves one to another day.
CREATE INDEX usage_rollups_by_day ON usage_rollups USING brin (day)
    WITH (pages_per_range = 16, autosummarize = on);

-- One row. Every event recorded before recorded_before is in the rollups, and no other is.
CREATE TABLE usage_rollup_watermark (
    only_one        boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    recorded_before timestamptz NOT NULL DEFAULT '-infinity',
    -- Up to where nothing can appear any more.
    settled         timestamptz NOT NULL DEFAULT '-infinity',
    -- Up to where nothing can appear once all transactions older than candidate_xid have ended.
    candidate       timestamptz NOT NULL DEFAULT '-infinity',
    candidate_xid   xid8 NOT NULL DEFAULT '0',
    -- How much time the next step looks at, in seconds.
    slice           double precision NOT NULL DEFAULT 60
);
INSERT INTO usage_rollup_watermark DEFAULT VALUES;

-- Takes the next p_events events or fewer, in the order in which they were recorded, into the
-- rollups, and moves the watermark past them: one step, in the caller's transaction.
--
-- It must not pass an event that is not committed yet, which nobody can see. post_usage locks its
-- accounts' rows first, which gives its transaction an id, and reads the clock for recorded_at after
-- that. So whatever is recorded before a moment has an id from before that moment. A step notes the
-- moment at which it began, less p_margin, and after that takes an id of its own: whatever is recorded
-- before the moment has a smaller one. A later step that finds every transaction with a smaller id
-- ended, prepared ones included, sees all that was ever recorded before that moment. This asks nothing
-- of pg_stat_activity, which shows a role only its own sessions. A transaction that writes for hours,
-- in any database of the cluster, holds the watermark back and nothing else.
--
-- p_margin is how far the clock may step back: an event recorded then may bear a moment before the
-- watermark's, and must still be settled by the rule above.
--
-- Ids start anew where the database was restored from a dump into another cluster. What was not
-- committed when it was dumped is not in it, so the candidate of the old cluster is settled there.
CREATE FUNCTION roll_up_usage(
    p_margin   interval,
    p_events   integer,
    -- NULL where another server is at it.
    OUT taken  bigint,
    -- Whether there is more to take already.
    OUT behind boolean,
    -- How long ago what is not rolled up yet begins, in seconds; NULL before the first step.
    OUT lag    double precision
)
LANGUAGE plpgsql
-- The index on recorded_at finds a slice in every partition, whatever statistics say of the newest.
SET enable_seqscan = off
SET plan_cache_mode = force_custom_plan
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

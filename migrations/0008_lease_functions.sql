-- The lease protocol's side in the database. Each function locks what it computes from first.

-- A beat, and the database's clock with it. Answers nothing for a server that was removed for dead:
-- it must begin anew under another id.
CREATE FUNCTION heartbeat(p_instance uuid) RETURNS TABLE (beat_at timestamptz)
LANGUAGE sql AS $$
    UPDATE instances SET heartbeat_at = clock_timestamp()
     WHERE instance_id = p_instance AND stopped_at IS NULL
    RETURNING heartbeat_at
$$;

-- Renews many leases in one round trip. A lease becomes what it must go on covering (`kept`) plus
-- what is granted: all that waiting requests need if there is room; else whatever room there is if
-- that helps at least one of them (`floor`); beyond the need at most half of the room, so that no
-- server starves the others. Room and grant are computed under the account's row lock.
CREATE FUNCTION renew_leases(
    p_instance   uuid,
    p_account    uuid[],
    p_sequence   bigint[],
    p_kept       numeric[],
    p_need       numeric[],
    p_floor      numeric[],
    p_want       numeric[],
    p_not_before timestamptz[]
) RETURNS TABLE (
    account_id uuid, lost boolean, base numeric, granted numeric,
    promotional numeric, credits numeric, overdrawn numeric, unbilled numeric, receivable numeric,
    unapplied numeric, net_30 boolean, credit_limit numeric, leased numeric, available numeric
) LANGUAGE plpgsql AS $$
DECLARE
    asked  record;
    funds  account_funds%ROWTYPE;
    lease  leases%ROWTYPE;
    old    numeric;
    room   numeric;
BEGIN
    -- A server that was removed for dead must not lease again under its old id; the lock keeps the
    -- removal away until we are done.
    PERFORM 1 FROM instances i
      WHERE i.instance_id = p_instance AND i.stopped_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'instance % has been removed', p_instance USING ERRCODE = 'TG001';
    END IF;

    FOR asked IN
        SELECT * FROM unnest(p_account, p_sequence, p_kept, p_need, p_floor, p_want, p_not_before)
            AS t(account, sequence, kept, need, floor, want, not_before)
        ORDER BY 1
    LOOP
        SELECT * INTO funds FROM account_funds f WHERE f.account_id = asked.account FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        SELECT * INTO lease FROM leases l
         WHERE l.account_id = asked.account AND l.pool = 'funds' AND l.instance_id = p_instance;
        old := coalesce(lease.amount, 0);
        account_id := asked.account;
        lost := asked.kept > old OR asked.sequence <= coalesce(lease.sequence, 0);
        base := old;
        granted := 0;

        IF NOT lost THEN
            -- A lapsed reservation may still be settled until its cover has ended by this clock.
            IF asked.not_before IS NULL OR clock_timestamp() > asked.not_before THEN
                base := asked.kept;
            END IF;
            room := greatest(0, funds.available + old - base);
            granted := CASE
                WHEN asked.need <= room
                    THEN greatest(asked.need, least(asked.want, trunc(room / 2, 12)))
                WHEN asked.floor <= room THEN room
                ELSE 0
            END;
            INSERT INTO leases AS l (account_id, pool, instance_id, amount, sequence)
            VALUES (asked.account, 'funds', p_instance, base + granted, asked.sequence)
            ON CONFLICT ON CONSTRAINT leases_pkey DO UPDATE
               SET amount = excluded.amount, sequence = excluded.sequence,
                   renewed_at = clock_timestamp();
            UPDATE account_funds f SET leased = f.leased - old + base + granted
             WHERE f.account_id = asked.account
            RETURNING f.* INTO funds;
        END IF;

        promotional  := funds.promotional;
        credits      := funds.credits;
        overdrawn    := funds.overdrawn;
        unbilled     := funds.unbilled;
        receivable   := funds.receivable;
        unapplied    := funds.unapplied;
        net_30       := funds.net_30;
        credit_limit := funds.credit_limit;
        leased       := funds.leased;
        available    := funds.available;
        RETURN NEXT;
    END LOOP;
END $$;

-- Removes a server not heard of for so long beyond its longest promise that nothing of it can be
-- outstanding any more, and gives its leases back, so many in one transaction. Returns how much it
-- found to do; the caller asks again until that is nothing. Anyone may call it; two callers never
-- meet.
CREATE FUNCTION remove_dead_instances(p_silence interval, p_leases integer) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    dead    uuid;
    lease   record;
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
        SELECT l.account_id, l.pool FROM leases l
         WHERE l.instance_id = dead ORDER BY 1, 2 LIMIT p_leases
    LOOP
        PERFORM 1 FROM account_funds f WHERE f.account_id = lease.account_id FOR UPDATE;
        WITH gone AS (
            DELETE FROM leases l
             WHERE l.account_id = lease.account_id AND l.pool = lease.pool
               AND l.instance_id = dead
            RETURNING l.amount
        )
        UPDATE account_funds f SET leased = f.leased - gone.amount
          FROM gone WHERE f.account_id = lease.account_id;
        removed := removed + 1;
    END LOOP;
    IF removed < p_leases THEN
        DELETE FROM instances WHERE instance_id = dead;
        removed := removed + 1;
    END IF;
    RETURN removed;
END $$;

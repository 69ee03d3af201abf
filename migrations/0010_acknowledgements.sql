-- What the servers of one database know of each other: which barrier each has heard, and what each
-- holds when one of them is asked for all.

-- The number of the last barrier. A barrier's number is taken after the change that it stands for
-- was committed; whoever reads a number here, in a transaction or not, reads that change from then
-- on.
CREATE SEQUENCE barriers;

-- The last barrier that a server has heard, and with it every change committed before that.
ALTER TABLE instances ADD COLUMN heard bigint NOT NULL DEFAULT 0;

CREATE FUNCTION last_barrier() RETURNS bigint
LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM barriers
$$;

-- A beat: says which barrier was heard, and brings the database's clock, the last barrier and the
-- number of servers that live, this one included. Answers nothing for a server that was removed for
-- dead: it must begin anew under another id.
DROP FUNCTION heartbeat(uuid);
CREATE FUNCTION heartbeat(p_instance uuid, p_heard bigint, p_ttl interval)
RETURNS TABLE (beat_at timestamptz, barrier bigint, live_servers bigint)
LANGUAGE sql AS $$
    UPDATE instances SET heartbeat_at = clock_timestamp(), heard = greatest(heard, p_heard)
     WHERE instance_id = p_instance AND stopped_at IS NULL
    RETURNING heartbeat_at,
              last_barrier(),
              1 + (SELECT count(*) FROM instances AS other
                    WHERE other.instance_id <> p_instance AND other.stopped_at IS NULL
                      AND other.heartbeat_at + p_ttl > clock_timestamp())
$$;

-- What servers answer to one of them that was asked for the reservations of all. Rows live for a
-- second; nothing is lost with them.
CREATE UNLOGGED TABLE reservation_answers (
    question     uuid NOT NULL,
    instance_id  uuid NOT NULL,
    reservations jsonb NOT NULL,
    answered_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (question, instance_id)
);

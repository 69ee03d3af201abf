-- Postgres notes from when to when the rows of a range of blocks were recorded only once a worker of
-- autovacuum comes by, which looks about every fifteen seconds and remembers no more than 256 ranges.
-- Until then whoever looks for a moment reads all of the newest rows: at 10,000 events a second more than
-- a hundred thousand, for each step of rollups and seals and for each summary.

-- Notes it for the newest ranges of a table, partitioned or not, back to the last one that has a note;
-- returns for how many.
--
-- Not for those that rows may still be written to: each would move the note's end, which costs them more
-- than reading a few blocks does. The lock is that of VACUUM. While one is at the table this gives way,
-- and so early that Postgres does not end the VACUUM for its sake (deadlock_timeout).
CREATE FUNCTION summarize_newest_ranges(p_table regclass) RETURNS integer
LANGUAGE plpgsql
SET lock_timeout = '20ms'
AS $$
DECLARE
    -- A table grows by several blocks at a time while several sessions write to it.
    c_still_written CONSTANT bigint := 64;
    v_index   regclass;
    v_blocks  bigint;
    v_range   bigint;
    v_block   bigint;
    v_noted   integer := 0;
BEGIN
    FOR v_index, v_blocks, v_range IN
        SELECT index.indexrelid,
               pg_relation_size(index.indrelid) / current_setting('block_size')::bigint,
               (SELECT option_value::bigint FROM pg_options_to_table(class.reloptions)
                WHERE option_name = 'pages_per_range')
        FROM pg_partition_tree(p_table) AS part
        JOIN pg_index AS index ON index.indrelid = part.relid
        JOIN pg_class AS class ON class.oid = index.indexrelid
        JOIN pg_am AS method ON method.oid = class.relam
        WHERE part.isleaf AND method.amname = 'brin'
    LOOP
        v_block := (v_blocks - c_still_written) / v_range * v_range - v_range;
        WHILE v_block >= 0 LOOP
            EXIT WHEN brin_summarize_range(v_index, v_block) = 0;
            v_noted := v_noted + 1;
            v_block := v_block - v_range;
        END LOOP;
    END LOOP;
    RETURN v_noted;
EXCEPTION
    WHEN lock_not_available THEN RETURN v_noted;
END $$;

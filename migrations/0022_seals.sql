-- Seals: a chain of hashes for each account over what was committed, so that a change behind the
-- program's back is found and named. docs/architecture.md says what is hashed, byte by byte.

-- One block holds what became settled of one account in one turn. Its hash covers the account, its
-- number, the moment, the count, the hash of the block before it and the entries.
CREATE TABLE seals (
    account_id     uuid NOT NULL,
    -- From 1, without gaps.
    block          bigint NOT NULL CHECK (block > 0),
    -- Of the encoding.
    version        smallint NOT NULL,
    -- Everything in it was recorded before this moment, and after that of the block before.
    recorded_until timestamptz NOT NULL,
    -- Entries of the chain up to this block's last.
    entries_total  bigint NOT NULL CHECK (entries_total > 0),
    -- One for each row: its kind, its key and its digest; 49 bytes each, in ascending order.
    entries        bytea NOT NULL CHECK (octet_length(entries) > 0 AND octet_length(entries) % 49 = 0),
    -- The hash of the block before; 32 zero bytes for the first.
    previous       bytea NOT NULL CHECK (octet_length(previous) = 32),
    hash           bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (account_id, block)
);
-- Digests do not compress.
ALTER TABLE seals ALTER COLUMN entries SET STORAGE EXTERNAL;

-- Blocks of a turn lie together.
CREATE INDEX seals_by_recorded_until ON seals USING brin (recorded_until)
    WITH (pages_per_range = 16, autosummarize = on);

CREATE TRIGGER seals_append_only BEFORE UPDATE OR DELETE ON seals
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER seals_no_truncate BEFORE TRUNCATE ON seals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- One row. Everything recorded before recorded_before is sealed, and nothing else is.
CREATE TABLE seal_watermark (
    only_one        boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    -- NULL before the first turn.
    recorded_before timestamptz,
    -- How much time the next turn looks at, in seconds.
    slice           double precision NOT NULL DEFAULT 60
);
INSERT INTO seal_watermark DEFAULT VALUES;

-- Finds what was posted or issued in a span of time. Rows lie in the order in which they came, so that
-- a few bytes for each 16 pages are enough and an insert pays next to nothing.
CREATE INDEX transfers_by_posted_at ON transfers USING brin (posted_at)
    WITH (pages_per_range = 16, autosummarize = on);
CREATE INDEX billing_documents_by_frozen_at ON billing_documents USING brin (frozen_at)
    WITH (pages_per_range = 16, autosummarize = on);

-- What a person's details are hashed with. It goes when they are erased, and nobody can find out any
-- more by trying whose digest it was. Details from before this migration have none and are not sealed.
ALTER TABLE usage_details ADD COLUMN salt uuid;
ALTER TABLE usage_details ALTER COLUMN salt SET DEFAULT gen_random_uuid();

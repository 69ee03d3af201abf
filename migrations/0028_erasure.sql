-- Erasing what is personal and leaving the books, and the trail of who did what, as they are.

-- A stored answer may hold an account's names. Where it was erased, the call under the same key is
-- refused and not made again.
ALTER TABLE idempotency_keys ADD COLUMN answer_erased boolean NOT NULL DEFAULT false;

-- The fields of messages and the columns of noted rows in which people write what may be about a
-- person. Everything else in an entry of the audit trail is an id, an amount, a time or a choice, or is
-- part of the books.
CREATE FUNCTION erasable_fields() RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY['display_name', 'name', 'legal_name', 'trading_name', 'line_1', 'line_2',
             'address_line_1', 'address_line_2', 'city', 'postal_code', 'subdivision',
             'registration_id', 'tax_id', 'purchase_order', 'cost_centre', 'accounts_payable_email',
             'email', 'telephone', 'contact', 'status_reason', 'revoked_reason', 'reason', 'note',
             'notes', 'description', 'end_user', 'labels'];

-- A value with the texts of those fields replaced, at any depth. No digest of them stays: whose name
-- it was could be found out by trying.
CREATE FUNCTION erase_fields(p_value jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    CASE jsonb_typeof(p_value)
    WHEN 'object' THEN
        RETURN (SELECT coalesce(jsonb_object_agg(key, CASE
                    WHEN key <> ALL (erasable_fields()) THEN erase_fields(value)
                    WHEN jsonb_typeof(value) IN ('null', 'number', 'boolean')
                         OR value IN ('""', '{}', '[]') THEN value
                    ELSE '"[erased]"' END), '{}')
                FROM jsonb_each(p_value));
    WHEN 'array' THEN
        RETURN (SELECT coalesce(jsonb_agg(erase_fields(value) ORDER BY place), '[]')
                FROM jsonb_array_elements(p_value) WITH ORDINALITY AS item (value, place));
    ELSE
        RETURN p_value;
    END CASE;
END $$;

-- The rows that an entry noted, with those of one account erased.
CREATE FUNCTION erase_changes(p_changes jsonb, p_account uuid) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (SELECT coalesce(jsonb_agg(CASE
            WHEN coalesce(nullif(change -> 'after', 'null'), change -> 'before') ->> 'account_id'
                 = p_account::text THEN erase_fields(change) ELSE change END ORDER BY place), '[]')
        FROM jsonb_array_elements(p_changes) WITH ORDINALITY AS noted (change, place));

ALTER TABLE audit_entries
    -- When texts in it were last replaced.
    ADD COLUMN erased_at timestamptz;

-- The one change that an entry can undergo: texts of erasable fields become `[erased]`. Who did it,
-- when, from where, which RPC, which account, and every other value stay; whoever tries anything else
-- is refused, this program's own function included.
CREATE FUNCTION refuse_all_but_erasure() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    v_texts CONSTANT text[] := '{request,answer,changes,erased_at}';
BEGIN
    IF to_jsonb(NEW) - v_texts IS DISTINCT FROM to_jsonb(OLD) - v_texts
       OR (NEW.request, NEW.answer, NEW.changes)
          IS NOT DISTINCT FROM (OLD.request, OLD.answer, OLD.changes)
       OR NEW.request IS DISTINCT FROM OLD.request
          AND NEW.request IS DISTINCT FROM erase_fields(OLD.request)
       OR NEW.answer IS DISTINCT FROM OLD.answer
          AND NEW.answer IS DISTINCT FROM erase_fields(OLD.answer)
       OR EXISTS (SELECT
                  FROM jsonb_array_elements(OLD.changes) WITH ORDINALITY AS was (change, place)
                  FULL JOIN jsonb_array_elements(NEW.changes) WITH ORDINALITY AS now (change, place)
                       USING (place)
                  WHERE now.change IS DISTINCT FROM was.change
                    AND now.change IS DISTINCT FROM erase_fields(was.change))
    THEN
        RAISE EXCEPTION 'audit_entries is append-only: what is personal in it can be erased, no more'
            USING ERRCODE = 'restrict_violation';
    END IF;
    NEW.erased_at := clock_timestamp();
    RETURN NEW;
END $$;

DROP TRIGGER audit_entries_append_only ON audit_entries;
CREATE TRIGGER audit_entries_append_only BEFORE DELETE ON audit_entries
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_entries_only_erased BEFORE UPDATE ON audit_entries
    FOR EACH ROW EXECUTE FUNCTION refuse_all_but_erasure();

-- Erases an account's texts in the next p_limit entries that concern it, and answers how many it
-- changed and which it came to; that is NULL at the end. Entries of erasures say why they were made
-- and stay whole. It runs as its owner, so that nobody else needs to be able to update the trail.
CREATE FUNCTION erase_audit_entries(
    p_account uuid, p_after bigint, p_limit integer, OUT erased bigint, OUT last bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    WITH page AS MATERIALIZED (
        SELECT audit_entry, rpc, request, answer, changes
        FROM audit_entries
        WHERE account_ids @> ARRAY[p_account] AND audit_entry > p_after
        ORDER BY audit_entry
        LIMIT p_limit
    ), wanted AS MATERIALIZED (
        SELECT audit_entry, erase_fields(request) AS request, erase_fields(answer) AS answer,
               erase_changes(changes, p_account) AS changes
        FROM page
        WHERE rpc <> '/tollgate.v1.AccountService/ErasePersonalData'
          AND (request IS DISTINCT FROM erase_fields(request)
               OR answer IS DISTINCT FROM erase_fields(answer)
               OR changes IS DISTINCT FROM erase_changes(changes, p_account))
    ), done AS (
        UPDATE audit_entries AS entry
        SET request = wanted.request, answer = wanted.answer, changes = wanted.changes
        FROM wanted
        WHERE entry.audit_entry = wanted.audit_entry
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM done), (SELECT max(audit_entry) FROM page)
$$;
REVOKE EXECUTE ON FUNCTION erase_audit_entries FROM PUBLIC;

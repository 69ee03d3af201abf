-- The audit trail: one row for each change by a person or a tool, in the change's own transaction, and
-- one for each attempt at one that was denied or failed.

CREATE TABLE audit_entries (
    audit_entry     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recorded_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Who: the token's subject, or `tollgate` for what the server does by itself. Empty where no token
    -- was believed.
    actor           text   NOT NULL,
    -- The token's `jti`, never the token.
    token_id        text   NOT NULL,
    roles           text[] NOT NULL,
    -- From where: the address and port that the connection came from.
    peer            text   NOT NULL,
    request_id      text   NOT NULL,
    rpc             text   NOT NULL,
    -- What the request names, as `field=value` with blanks between.
    target          text   NOT NULL,
    -- All accounts that it concerns.
    account_ids     uuid[] NOT NULL,
    idempotency_key text   NOT NULL,
    -- The gRPC code: `OK` says that the change was committed with this row.
    code            text   NOT NULL,
    reason          text   NOT NULL,
    request         jsonb,
    answer          jsonb,
    -- The rows that were changed, as they were before and after: `note_change`.
    changes         jsonb  NOT NULL,
    -- How many more attempts by the same caller in the same minute were not written.
    suppressed      bigint NOT NULL DEFAULT 0 CHECK (suppressed >= 0)
);

CREATE INDEX audit_entries_by_account ON audit_entries USING gin (account_ids);
CREATE INDEX audit_entries_by_actor ON audit_entries (actor, audit_entry);
CREATE INDEX audit_entries_by_rpc ON audit_entries (rpc, audit_entry);
CREATE INDEX audit_entries_by_time ON audit_entries (recorded_at);

CREATE TRIGGER audit_entries_append_only BEFORE UPDATE OR DELETE ON audit_entries
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_entries_no_truncate BEFORE TRUNCATE ON audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Notes a changed row for the audit entry of its transaction, as the database itself sees it: what a
-- service reads beforehand could be changed by another meanwhile. The notes live in a setting of the
-- transaction and end with it. The arguments are columns that are left out. Beyond 64 KiB rows are
-- only counted, so that a call that changes thousands stays within bounds.
CREATE FUNCTION note_change() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    v_noted  text   := coalesce(current_setting('tollgate.changes', true), '');
    v_hidden text[] := coalesce(TG_ARGV, '{}');
    v_change jsonb;
BEGIN
    IF octet_length(v_noted) > 65536 THEN
        PERFORM set_config('tollgate.changes_omitted', (coalesce(
            nullif(current_setting('tollgate.changes_omitted', true), ''), '0')::bigint + 1)::text, true);
        RETURN NULL;
    END IF;
    v_change := jsonb_build_object(
        'table', TG_TABLE_NAME,
        'before', CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - v_hidden END,
        'after', CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) - v_hidden END);
    PERFORM set_config('tollgate.changes', concat_ws(',', nullif(v_noted, ''), v_change::text), true);
    RETURN NULL;
END $$;

-- What a transaction has changed, for its audit entry. API keys and tokens that somebody wrote into a
-- field, such as a reason, are struck out as in logs (`telemetry/scrub.rs`).
CREATE FUNCTION noted_changes() RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT ('[' || regexp_replace(coalesce(current_setting('tollgate.changes', true), ''),
                                  '(ga_sk_|ga_pro_|eyJ)[A-Za-z0-9_.-]{12,}', '[secret]', 'g') || ']')::jsonb
           || CASE WHEN nullif(current_setting('tollgate.changes_omitted', true), '') IS NULL THEN '[]'
                   ELSE jsonb_build_array(jsonb_build_object(
                            'omitted', current_setting('tollgate.changes_omitted', true)::bigint)) END
$$;

-- None of these is written by Authorize or RecordUsage.
CREATE TRIGGER accounts_noted AFTER INSERT OR UPDATE OR DELETE ON accounts
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER account_model_discounts_noted AFTER INSERT OR UPDATE OR DELETE ON account_model_discounts
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER api_keys_noted AFTER INSERT OR UPDATE OR DELETE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION note_change('key_hash');
CREATE TRIGGER budgets_noted AFTER INSERT OR UPDATE OR DELETE ON budgets
    FOR EACH ROW EXECUTE FUNCTION note_change();
-- New models come with their prices, thousands at a time, and stay: what is noted is what changes.
CREATE TRIGGER models_noted AFTER UPDATE OR DELETE ON models
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER seller_versions_noted AFTER INSERT ON seller_versions
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER tax_rates_noted AFTER INSERT ON tax_rates
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER revoked_tokens_noted AFTER INSERT OR UPDATE OR DELETE ON revoked_tokens
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER payments_noted AFTER INSERT ON payments
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER payment_returns_noted AFTER INSERT ON payment_returns
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER promotional_grants_noted AFTER INSERT ON promotional_grants
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER promotional_withdrawals_noted AFTER INSERT ON promotional_withdrawals
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER refunds_noted AFTER INSERT ON refunds
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER chargebacks_noted AFTER INSERT ON chargebacks
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER usage_reversals_noted AFTER INSERT ON usage_reversals
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER settlements_noted AFTER INSERT ON settlements
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER credit_notes_noted AFTER INSERT ON credit_notes
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER write_offs_noted AFTER INSERT ON write_offs
    FOR EACH ROW EXECUTE FUNCTION note_change();
-- The frozen document itself is in its own table for good.
CREATE TRIGGER billing_documents_noted AFTER INSERT ON billing_documents
    FOR EACH ROW EXECUTE FUNCTION note_change('content');

-- Tenants are told apart a second time: what they read is read as a role that sees one account's rows.
--
-- The account is set for a transaction (`tollgate.account_id`); where it is not set there are no rows.
-- Row-level security does not concern the tables' owner, so that nothing else changes or gets slower.

-- Roles belong to the cluster, not to the database: another database, or its administrator, may have
-- made this one.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tollgate_tenant') THEN
        BEGIN
            CREATE ROLE tollgate_tenant NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            -- Somebody else has made it at this moment.
            NULL;
        END;
    END IF;
    -- From Postgres 16 on, who makes a role is a member of it that may not take it.
    IF NOT pg_has_role(current_user, 'tollgate_tenant',
                       CASE WHEN current_setting('server_version_num')::integer >= 160000
                            THEN 'SET' ELSE 'MEMBER' END)
    THEN
        BEGIN
            GRANT tollgate_tenant TO CURRENT_USER;
        EXCEPTION WHEN unique_violation THEN
            NULL;
        END;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION '% may not make the role that tenants'' reads run as; an administrator of the '
                        'database server does it once: CREATE ROLE tollgate_tenant NOLOGIN; GRANT '
                        'tollgate_tenant TO %;', current_user, quote_ident(current_user)
            USING ERRCODE = 'insufficient_privilege';
END $$;

-- The account whose rows this transaction may see; NULL for none.
CREATE FUNCTION tenant_account() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT nullif(current_setting('tollgate.account_id', true), '')::uuid
$$;

-- What belongs to one account.
DO $$
DECLARE
    v_table text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY[
        'accounts', 'account_model_discounts', 'account_funds', 'api_keys', 'budgets',
        'budget_periods', 'usage_events', 'usage_details', 'usage_reversals', 'usage_rollups',
        'payments', 'payment_returns', 'promotional_grants', 'promotional_withdrawals', 'refunds',
        'chargebacks', 'billing_documents', 'closed_periods', 'settlements', 'write_offs']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', v_table);
        EXECUTE format('CREATE POLICY own_account ON %I FOR SELECT TO tollgate_tenant '
                       'USING (account_id = tenant_account())', v_table);
        EXECUTE format('GRANT SELECT ON %I TO tollgate_tenant', v_table);
    END LOOP;
END $$;

-- But for what its usage cost ourselves.
ALTER TABLE transfers ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_account ON transfers FOR SELECT TO tollgate_tenant
    USING (account_id = tenant_account() AND kind <> 'provider_cost');
GRANT SELECT ON transfers TO tollgate_tenant;

-- List prices are everybody's, a contract's are its account's, and costs are nobody's.
ALTER TABLE price_versions ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_or_listed ON price_versions FOR SELECT TO tollgate_tenant
    USING (account_id IS NULL OR account_id = tenant_account());
GRANT SELECT (price_version, model_id, account_id, currency, effective_from, withdrawn, input, output,
              cache_read, cache_write, reasoning, audio_input, audio_output, image, request,
              cached_response, source, source_date, discounted_from, discount_percent, published_at)
    ON price_versions TO tollgate_tenant;
ALTER TABLE price_tiers ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_or_listed ON price_tiers FOR SELECT TO tollgate_tenant
    USING (EXISTS (SELECT FROM price_versions
                   WHERE price_versions.price_version = price_tiers.price_version));
GRANT SELECT ON price_tiers TO tollgate_tenant;

ALTER TABLE credit_notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_account ON credit_notes FOR SELECT TO tollgate_tenant
    USING (EXISTS (SELECT FROM billing_documents
                   WHERE billing_documents.document_id = credit_notes.document_id));
GRANT SELECT ON credit_notes TO tollgate_tenant;

-- What is of no account: names, the seller, its taxes, and how far sums have come.
GRANT SELECT ON models, ledger_accounts, seller_versions, tax_rates, usage_rollup_watermark
    TO tollgate_tenant;
-- Which months have been closed, not whose turn it is.
GRANT SELECT (period) ON billing_runs TO tollgate_tenant;

-- As whoever asks, not as their owner.
ALTER VIEW invoice_standings SET (security_invoker = true);
ALTER VIEW prepayment_standings SET (security_invoker = true);
GRANT SELECT ON invoice_standings, prepayment_standings TO tollgate_tenant;

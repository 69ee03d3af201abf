-- What usage cost ourselves, posted when its month is closed.

CREATE OR REPLACE FUNCTION is_sound_transfer(p_debit text, p_credit text, p_currency text, p_kind text)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN p_debit <> p_credit
       -- The codes that usage is posted under, before the pattern of all.
       AND (p_debit IN ('2000', '2010', '1100', '1150')
            OR p_debit ~ '^[0-9]{4}(\.[A-Z0-9_-]{1,30})?$')
       AND (p_credit = '4000' OR p_credit ~ '^[0-9]{4}(\.[A-Z0-9_-]{1,30})?$')
       AND p_currency ~ '^[A-Z]{3}$'
       AND p_kind IN (
            'usage_promotional', 'usage_credits', 'usage_unbilled', 'usage_overdrawn',
            'top_up', 'top_up_tax', 'promotional_grant', 'promotional_withdrawal',
            'overdraft_cure', 'reversal', 'refund', 'refund_tax',
            'chargeback_unspent', 'chargeback_spent', 'chargeback_won', 'chargeback_lost',
            'account_closing',
            'invoice', 'invoice_tax', 'invoice_rounding', 'promotional_use', 'sla_credit',
            'payment', 'unapplied_receipt', 'allocation', 'payment_return', 'withholding',
            'payment_fee', 'credit_note', 'credit_note_tax', 'write_off', 'write_off_tax',
            'recovery', 'provider_cost');
END $$;

-- False of months that were closed before costs were posted: `ledger verify` expects none of them.
ALTER TABLE closed_periods ADD COLUMN costs_posted boolean NOT NULL DEFAULT false;

-- What so many tokens cost ourselves at a price version that says so; a class without a cost of its own
-- costs as much as its side.
CREATE FUNCTION own_cost(
    price price_versions, input numeric, output numeric, cache_read numeric, cache_write numeric,
    reasoning numeric, audio_input numeric, audio_output numeric
) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 0.000001 * (
    input * (price).cost_input + output * (price).cost_output
    + cache_read * coalesce((price).cost_cache_read, (price).cost_input)
    + cache_write * coalesce((price).cost_cache_write, (price).cost_input)
    + reasoning * coalesce((price).cost_reasoning, (price).cost_output)
    + audio_input * coalesce((price).cost_audio_input, (price).cost_input)
    + audio_output * coalesce((price).cost_audio_output, (price).cost_output));

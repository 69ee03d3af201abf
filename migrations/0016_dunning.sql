-- What overdue invoices led to: reminders, which a mailer reads from here, and suspensions.
CREATE TABLE dunning_events (
    dunning_event bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id    uuid NOT NULL REFERENCES accounts,
    -- The invoice that is overdue, or that was the longest.
    document_id   uuid NOT NULL REFERENCES billing_documents,
    kind          text NOT NULL CHECK (kind IN ('reminder', 'suspension', 'release')),
    -- Of a reminder, the step of so many days past due; else how long it was overdue.
    days          integer NOT NULL CHECK (days >= 0),
    -- What was open of the invoice.
    open          numeric(28, 12) NOT NULL CHECK (open >= 0),
    noted_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE UNIQUE INDEX dunning_events_remind_once ON dunning_events (document_id, days)
    WHERE kind = 'reminder';
CREATE INDEX dunning_events_by_account ON dunning_events (account_id, dunning_event);

CREATE TRIGGER dunning_events_append_only BEFORE UPDATE OR DELETE ON dunning_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER dunning_events_no_truncate BEFORE TRUNCATE ON dunning_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What is agreed with a customer about personal data.

ALTER TABLE accounts
    -- The data processing agreement (GDPR Art. 28): its number or where it is kept, and its date.
    ADD COLUMN dpa_reference text NOT NULL DEFAULT '' CHECK (length(dpa_reference) <= 200),
    ADD COLUMN dpa_signed_on date,
    -- For how many days details of usage are kept; NULL is what the server says.
    ADD COLUMN details_retention_days integer CHECK (details_retention_days BETWEEN 1 AND 3650),
    ADD CONSTRAINT accounts_dpa_check CHECK ((dpa_reference = '') = (dpa_signed_on IS NULL));

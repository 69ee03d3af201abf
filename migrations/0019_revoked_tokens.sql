-- Callers' tokens that are refused before their end.

CREATE TABLE revoked_tokens (
    -- The token's `jti`. Compared byte by byte: an id is no word of a language.
    token_id   text COLLATE "C" PRIMARY KEY CHECK (length(token_id) BETWEEN 1 AND 200),
    reason     text        NOT NULL CHECK (length(reason) <= 500),
    revoked_by text        NOT NULL,
    revoked_at timestamptz NOT NULL DEFAULT now(),
    -- The token's own end, where whoever revoked it knew; it need not be remembered after that.
    expires_at timestamptz
);

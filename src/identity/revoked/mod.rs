//! Tokens that were taken back before their time.
//!
//! The table `revoked_tokens` has them; every server holds their fingerprints in memory, where each
//! call looks. Whoever revokes a token announces it in the same transaction, so that all servers
//! know within milliseconds; one whose listener was cut reads the table again as soon as it listens
//! again. A fingerprint is never taken out again while the server runs: 32 bytes for each
//! token that somebody revoked by hand.

pub mod store;

use papaya::HashSet;
use sqlx::PgPool;
use thiserror::Error;

use super::token::Fingerprint;
use crate::problem::{Problem, ProblemKind};

/// The most characters of a `jti`; ours have 36.
pub const TOKEN_ID_LENGTH: usize = 200;
/// The most characters of a reason.
pub const REASON_LENGTH: usize = 500;
/// Revoked tokens that have not expired. All of them are in the memory of every server; whoever
/// has to revoke so many replaces the secret.
pub const MOST_REVOKED: i64 = 100_000;

/// Why a token is not revoked.
#[derive(Debug, Error)]
pub enum RevocationError {
    /// What was given is no `jti`.
    #[error(
        "a token's id has 1 to {TOKEN_ID_LENGTH} characters; give its `jti`, which `tollgate token \
         mint --output json` shows as token_id"
    )]
    BadId,
    /// Too much was written.
    #[error("a reason has at most {REASON_LENGTH} characters")]
    LongReason,
    /// The list is full.
    #[error(
        "{MOST_REVOKED} unexpired tokens are revoked already; replace the secret or the public key \
         that signed them, which revokes all of its tokens"
    )]
    TooMany,
}

impl Problem for RevocationError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::BadId | Self::LongReason => ProblemKind::InvalidArgument,
            Self::TooMany => ProblemKind::FailedPrecondition,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::BadId => "TOKEN_ID_INVALID",
            Self::LongReason => "REASON_TOO_LONG",
            Self::TooMany => "TOO_MANY_REVOKED",
        }
    }

    fn field(&self) -> Option<String> {
        match self {
            Self::BadId => Some("token_id".to_owned()),
            Self::LongReason => Some("reason".to_owned()),
            Self::TooMany => None,
        }
    }
}

/// The fingerprints of all revoked tokens. One per server.
#[derive(Debug, Default)]
pub struct RevokedTokens(HashSet<Fingerprint>);

impl RevokedTokens {
    /// Refuses this token from now on.
    pub fn add(&self, token: Fingerprint) {
        self.0.pin().insert(token);
    }

    /// Whether it was revoked.
    #[must_use]
    pub fn contains(&self, token: Fingerprint) -> bool {
        self.0.pin().contains(&token)
    }

    /// Adds all that the database knows and that are not over.
    ///
    /// # Errors
    /// When the database failed; what was known before is still refused.
    pub async fn load(&self, pool: &PgPool) -> sqlx::Result<()> {
        for token_id in store::unexpired(pool).await? {
            self.add(Fingerprint::of(&token_id));
        }
        Ok(())
    }
}

/// Checks what a caller wants revoked before it is stored.
pub fn check(token_id: &str, reason: &str) -> Result<(), RevocationError> {
    let is_id = (1..=TOKEN_ID_LENGTH).contains(&token_id.chars().count())
        && !token_id.chars().any(char::is_control);
    if !is_id {
        return Err(RevocationError::BadId);
    }
    if reason.chars().count() > REASON_LENGTH || reason.contains('\0') {
        return Err(RevocationError::LongReason);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_token_id_is_refused_before_it_is_stored() {
        assert!(check(&"i".repeat(TOKEN_ID_LENGTH), "").is_ok());
        for wrong in [String::new(), "i".repeat(TOKEN_ID_LENGTH + 1), "a\0b".to_owned()] {
            assert!(matches!(check(&wrong, ""), Err(RevocationError::BadId)), "{wrong:?}");
        }
        let long = "r".repeat(REASON_LENGTH + 1);
        assert!(matches!(check("an-id", &long), Err(RevocationError::LongReason)));
    }
}

//! Making and reading the JSON Web Tokens of callers: HS256 with the server's own secret.
//!
//! A token names who it is for (`sub`), its roles, for a tenant the account, and when it ends.
//! Issuer and audience are both `tollgate`, so that a token made for something else with the same
//! secret is refused. Nothing but HS256 is accepted, whatever the token's header says.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    errors::{Error as JwtError, ErrorKind},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{IdentityError, Role, Roles, secret::Secret};
use crate::{clock, ids::AccountId};

/// Issuer and audience of every token.
pub const PARTY: &str = "tollgate";
/// By how much the clocks of whoever minted a token and of this server may differ.
pub const CLOCK_LEEWAY: Duration = Duration::from_secs(5);
/// The most characters of a token. Ours have about 350.
pub const TOKEN_LENGTH_LIMIT: usize = 4096;

/// What a token is to say.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// Who will use it, as the audit trail shows it.
    pub subject: String,
    /// What they may be.
    pub roles: Vec<Role>,
    /// The account of a tenant, and of nobody else.
    pub account: Option<AccountId>,
    /// How long it is valid from now.
    pub lifetime: Duration,
}

/// A token whose signature, parties, times and shape were found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    /// Whom it was made for.
    pub subject: Arc<str>,
    /// What they may be.
    pub roles: Roles,
    /// The account of a tenant.
    pub account: Option<AccountId>,
    /// When it ends, before leeway.
    pub expires_at: DateTime<Utc>,
}

impl VerifiedToken {
    /// Whether its time is over, with leeway.
    #[must_use]
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at + CLOCK_LEEWAY <= now
    }
}

/// Signs and verifies with one secret.
pub struct TokenAuthority {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
}

#[derive(Serialize)]
struct IssuedClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    jti: String,
    iat: i64,
    exp: i64,
    roles: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<AccountId>,
}

#[derive(Deserialize)]
struct ReadClaims {
    sub: String,
    exp: i64,
    /// A single role may be written so.
    role: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
    account: Option<AccountId>,
}

#[derive(Deserialize)]
struct ReadHeader {
    alg: String,
    crit: Option<serde_json::Value>,
}

impl TokenAuthority {
    /// The authority that holds `secret`.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = CLOCK_LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[PARTY]);
        validation.set_audience(&[PARTY]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Self {
            signing: EncodingKey::from_secret(secret.bytes()),
            verifying: DecodingKey::from_secret(secret.bytes()),
            validation,
        }
    }

    /// Makes a token.
    pub fn mint(&self, request: &TokenRequest) -> Result<String, IdentityError> {
        let roles = Roles::of(&request.roles);
        check_account(roles, request.account)?;
        let now = clock::now();
        let expires_at = chrono::Duration::from_std(request.lifetime)
            .ok()
            .and_then(|lifetime| now.checked_add_signed(lifetime))
            .ok_or(IdentityError::Malformed("it would end beyond the end of time"))?;
        let claims = IssuedClaims {
            iss: PARTY,
            aud: PARTY,
            sub: &request.subject,
            jti: Uuid::now_v7().to_string(),
            iat: now.timestamp(),
            exp: expires_at.timestamp(),
            roles: roles.iter().map(Role::name).collect(),
            account: request.account,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .map_err(|_| IdentityError::Malformed("it could not be signed"))
    }

    /// Reads a token, trusting nothing in it before its signature is verified.
    pub fn verify(&self, token: &str) -> Result<VerifiedToken, IdentityError> {
        if token.len() > TOKEN_LENGTH_LIMIT {
            return Err(IdentityError::TooLong(TOKEN_LENGTH_LIMIT));
        }
        check_header(token)?;
        let claims: ReadClaims =
            jsonwebtoken::decode(token, &self.verifying, &self.validation).map_err(refusal)?.claims;

        let mut roles = Vec::new();
        for name in claims.role.iter().chain(&claims.roles) {
            roles.push(name.parse::<Role>()?);
        }
        let roles = Roles::of(&roles);
        check_account(roles, claims.account)?;
        let expires_at = DateTime::from_timestamp(claims.exp, 0)
            .ok_or(IdentityError::Malformed("its end is not a time"))?;
        Ok(VerifiedToken { subject: claims.sub.into(), roles, account: claims.account, expires_at })
    }
}

impl fmt::Debug for TokenAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TokenAuthority").finish_non_exhaustive()
    }
}

/// The header decides nothing: it must say what is expected anyway.
fn check_header(token: &str) -> Result<(), IdentityError> {
    let not_a_token = || IdentityError::Malformed("it has no readable header");
    let header = token.split('.').next().ok_or_else(not_a_token)?;
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| not_a_token())?;
    let header: ReadHeader = serde_json::from_slice(&header).map_err(|_| not_a_token())?;
    if header.alg != "HS256" {
        return Err(IdentityError::WrongAlgorithm);
    }
    if header.crit.is_some() {
        return Err(IdentityError::Malformed("it demands extensions"));
    }
    Ok(())
}

/// A tenant has one account and no other role; nobody else has an account.
fn check_account(roles: Roles, account: Option<AccountId>) -> Result<(), IdentityError> {
    if roles.is_empty() {
        return Err(IdentityError::Malformed("it names no role"));
    }
    let only_tenant = roles == Roles::of(&[Role::Tenant]);
    if roles.has(Role::Tenant) != account.is_some() || (roles.has(Role::Tenant) && !only_tenant) {
        return Err(IdentityError::AccountMismatch);
    }
    Ok(())
}

fn refusal(error: JwtError) -> IdentityError {
    match error.into_kind() {
        ErrorKind::InvalidSignature => IdentityError::WrongSignature,
        ErrorKind::ExpiredSignature => IdentityError::Expired,
        ErrorKind::ImmatureSignature => IdentityError::NotYetValid,
        ErrorKind::InvalidIssuer => IdentityError::WrongParty("issuer"),
        ErrorKind::InvalidAudience => IdentityError::WrongParty("audience"),
        ErrorKind::InvalidAlgorithm => IdentityError::WrongAlgorithm,
        ErrorKind::MissingRequiredClaim(_) => {
            IdentityError::Malformed("it lacks one of exp, iss, aud and sub")
        }
        _ => IdentityError::Malformed("its parts or claims are of a wrong shape"),
    }
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;

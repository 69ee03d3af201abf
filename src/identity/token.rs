//! What the JSON Web Tokens of callers say, and making them with the server's own secret.
//!
//! A token names who it is for (`sub`), its roles, for a tenant the account, when it ends, and
//! itself (`jti`), so that it can be revoked. Tokens made here have `tollgate` as issuer and as
//! audience, so that one made for something else with the same secret is refused. Whether a token
//! is believed is for [`super::keyring`] to say.

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{IdentityError, Role, Roles, secret::Secret};
use crate::{clock, ids::AccountId};

/// Issuer and audience of every token that is made here.
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
    /// Its `jti`.
    pub token_id: Option<Arc<str>>,
    /// Of its `jti`; a token without one cannot be revoked.
    pub fingerprint: Option<Fingerprint>,
}

/// A token's `jti`, hashed: of one length, and no use to whoever reads an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of a token's `jti`.
    #[must_use]
    pub fn of(token_id: &str) -> Self {
        Self(Sha256::digest(token_id.as_bytes()).into())
    }
}

impl VerifiedToken {
    /// Whether its time is over, with leeway.
    #[must_use]
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at + CLOCK_LEEWAY <= now
    }
}

/// Signs with one secret.
pub struct TokenAuthority {
    signing: EncodingKey,
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
pub(super) struct ReadClaims {
    sub: String,
    jti: Option<String>,
    exp: i64,
    /// A single role may be written so.
    role: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
    account: Option<AccountId>,
}

impl TryFrom<ReadClaims> for VerifiedToken {
    type Error = IdentityError;

    fn try_from(claims: ReadClaims) -> Result<Self, IdentityError> {
        let mut roles = Vec::new();
        for name in claims.role.iter().chain(&claims.roles) {
            roles.push(name.parse::<Role>()?);
        }
        let roles = Roles::of(&roles);
        check_account(roles, claims.account)?;
        let expires_at = DateTime::from_timestamp(claims.exp, 0)
            .ok_or(IdentityError::Malformed("its end is not a time"))?;
        let fingerprint = claims.jti.as_deref().map(Fingerprint::of);
        Ok(Self {
            subject: claims.sub.into(),
            roles,
            account: claims.account,
            expires_at,
            token_id: claims.jti.map(Into::into),
            fingerprint,
        })
    }
}

impl TokenAuthority {
    /// The authority that holds `secret`.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self { signing: EncodingKey::from_secret(secret.bytes()) }
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
}

impl fmt::Debug for TokenAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TokenAuthority").finish_non_exhaustive()
    }
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

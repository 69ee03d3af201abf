//! The keys that may sign callers' tokens, and the verification of a token against them.
//!
//! What a token must be is fixed by the key: its algorithm, its issuer and its audience. The
//! token's header says no more than which keys are worth a try, so that nothing it claims can turn
//! a public key into a secret (`alg` confusion) or a signature into none.

use std::{collections::BTreeSet, fmt};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    errors::{Error as JwtError, ErrorKind},
};
use serde::Deserialize;

use super::{
    IdentityError,
    secret::Secret,
    token::{CLOCK_LEEWAY, PARTY, ReadClaims, TOKEN_LENGTH_LIMIT, VerifiedToken},
};

/// One key, and what a token that it signed must be.
pub struct TrustedKey {
    /// Its `kid`; a token that names another is not tried with it.
    id: Option<String>,
    algorithm: Algorithm,
    verifying: DecodingKey,
    validation: Validation,
}

/// For whom tokens are made, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parties {
    /// The `iss` of a token.
    pub issuer: String,
    /// What must be in its `aud`.
    pub audience: String,
}

impl Default for Parties {
    /// What `tollgate token mint` writes.
    fn default() -> Self {
        Self { issuer: PARTY.to_owned(), audience: PARTY.to_owned() }
    }
}

impl TrustedKey {
    /// A key that verifies tokens of these parties, with this algorithm and no other.
    #[must_use]
    pub(super) fn new(
        id: Option<String>,
        algorithm: Algorithm,
        verifying: DecodingKey,
        parties: &Parties,
    ) -> Self {
        let mut validation = Validation::new(algorithm);
        validation.leeway = CLOCK_LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&parties.issuer]);
        validation.set_audience(&[&parties.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Self { id, algorithm, verifying, validation }
    }

    /// The server's own secret: HS256, and tokens of `tollgate token mint`.
    #[must_use]
    pub fn of_secret(secret: &Secret) -> Self {
        let verifying = DecodingKey::from_secret(secret.bytes());
        Self::new(None, Algorithm::HS256, verifying, &Parties::default())
    }

    fn may_have_signed(&self, header: &ReadHeader) -> bool {
        self.id.is_none() || header.kid.is_none() || self.id == header.kid
    }
}

impl fmt::Debug for TrustedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TrustedKey")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// All keys that a server believes at a time.
#[derive(Debug)]
pub struct KeyRing(Vec<TrustedKey>);

#[derive(Deserialize)]
struct ReadHeader {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

impl KeyRing {
    /// The ring of these.
    #[must_use]
    pub const fn new(keys: Vec<TrustedKey>) -> Self {
        Self(keys)
    }

    /// Reads a token, trusting nothing in it before its signature is verified.
    pub fn verify(&self, token: &str) -> Result<VerifiedToken, IdentityError> {
        if token.len() > TOKEN_LENGTH_LIMIT {
            return Err(IdentityError::TooLong(TOKEN_LENGTH_LIMIT));
        }
        let header = read_header(token)?;
        let mut of_algorithm =
            self.0.iter().filter(|key| name(key.algorithm) == header.alg).peekable();
        if of_algorithm.peek().is_none() {
            return Err(IdentityError::WrongAlgorithm(self.algorithms()));
        }
        let mut refused = IdentityError::UnknownKey;
        for key in of_algorithm.filter(|key| key.may_have_signed(&header)) {
            // The signature is looked at first: any other error is about a token of this key.
            match jsonwebtoken::decode::<ReadClaims>(token, &key.verifying, &key.validation) {
                Ok(read) => return read.claims.try_into(),
                Err(error) => match refusal(error, &key.validation) {
                    IdentityError::WrongSignature => refused = IdentityError::WrongSignature,
                    other => return Err(other),
                },
            }
        }
        Err(refused)
    }

    /// The algorithms of its keys, as a sentence has them.
    fn algorithms(&self) -> String {
        let names: BTreeSet<&str> = self.0.iter().map(|key| name(key.algorithm)).collect();
        names.into_iter().collect::<Vec<_>>().join(" or ")
    }
}

/// As a token's header spells it. `TrustedKey`s are made with these four alone.
const fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HS256 => "HS256",
        Algorithm::RS256 => "RS256",
        Algorithm::ES256 => "ES256",
        Algorithm::EdDSA => "EdDSA",
        _ => "",
    }
}

fn read_header(token: &str) -> Result<ReadHeader, IdentityError> {
    let not_a_token = || IdentityError::Malformed("it has no readable header");
    let header = token.split('.').next().ok_or_else(not_a_token)?;
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| not_a_token())?;
    let header: ReadHeader = serde_json::from_slice(&header).map_err(|_| not_a_token())?;
    if header.crit.is_some() {
        return Err(IdentityError::Malformed("it demands extensions"));
    }
    Ok(header)
}

fn refusal(error: JwtError, expected: &Validation) -> IdentityError {
    let only = |values: &Option<std::collections::HashSet<String>>| {
        values.iter().flatten().next().cloned().unwrap_or_default()
    };
    match error.into_kind() {
        ErrorKind::InvalidSignature => IdentityError::WrongSignature,
        ErrorKind::ExpiredSignature => IdentityError::Expired,
        ErrorKind::ImmatureSignature => IdentityError::NotYetValid,
        ErrorKind::InvalidIssuer => IdentityError::WrongParty("issuer", only(&expected.iss)),
        ErrorKind::InvalidAudience => IdentityError::WrongParty("audience", only(&expected.aud)),
        ErrorKind::MissingRequiredClaim(_) => {
            IdentityError::Malformed("it lacks one of exp, iss, aud and sub")
        }
        _ => IdentityError::Malformed("its parts or claims are of a wrong shape"),
    }
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;

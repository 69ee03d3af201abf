//! The signed token of a grant: everything `RecordUsage` needs on any instance, so that settling
//! asks nobody.
//!
//! Grant tokens are JWTs (RFC 7519, HS256) under keys of their own, apart from the callers' keys,
//! shared by all servers of one database and named by the header's `kid`. A retired key verifies
//! as long as usage under its grants is accepted.

use std::{collections::BTreeMap, collections::HashMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Duration, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, crypto};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{limits, pool::PoolKey};
use crate::{
    accounts::{budgets::period::BudgetPeriod, key::Tier},
    ids::{AccountId, AuthorizationId, InstanceId, KeyId, ModelId, PriceVersionId},
    money::{Amount, Currency},
    problem::{Problem, ProblemKind},
};

/// Longer than any grant we sign; what is longer is not read.
const MAX_TOKEN_LENGTH: usize = 16 * 1024;

/// Bytes of the claims, a multiple of three, in which the account and the authorization are named.
const PLACE_LENGTH: usize = 159;
const UUID_LENGTH: usize = 36;

/// Why a grant token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GrantError {
    /// Not a token at all, or changed on its way.
    #[error("the grant token is not valid; send the token of the Grant exactly as it was returned")]
    Invalid,
    /// Signed by a key this database does not have.
    #[error(
        "the grant token was signed by another Tollgate; record the usage where it was authorized"
    )]
    UnknownKey,
}

impl Problem for GrantError {
    fn kind(&self) -> ProblemKind {
        ProblemKind::InvalidArgument
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid => "GRANT_TOKEN_INVALID",
            Self::UnknownKey => "GRANT_TOKEN_FOREIGN",
        }
    }

    fn field(&self) -> Option<String> {
        Some("token".to_owned())
    }
}

/// What a grant promises, as its token carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "aud", rename = "tollgate-usage")]
pub struct GrantClaims {
    /// Also the id of the usage event that will settle it.
    #[serde(rename = "jti")]
    pub authorization_id: AuthorizationId,
    /// The server that holds the reservation.
    #[serde(rename = "ins")]
    pub issuer: InstanceId,
    /// Who pays.
    #[serde(rename = "acc")]
    pub account_id: AccountId,
    /// Whose key it was.
    #[serde(rename = "key")]
    pub key_id: KeyId,
    /// The key's tier.
    #[serde(rename = "tir")]
    pub tier: Tier,
    /// What is charged, whatever was served.
    #[serde(rename = "mid")]
    pub model_id: ModelId,
    /// Its name.
    #[serde(rename = "mod")]
    pub model: String,
    /// The account's currency.
    #[serde(rename = "cur", with = "text")]
    pub currency: Currency,
    /// The price in force when it was authorized.
    #[serde(rename = "prv")]
    pub price_version: PriceVersionId,
    /// What is held for it.
    #[serde(rename = "amt", with = "text")]
    pub reserved: Amount,
    /// The budgets it is held in beside the account's funds, and in which of their periods.
    #[serde(rename = "bud", default, skip_serializing_if = "Vec::is_empty", with = "texts")]
    pub budgets: Vec<BudgetPeriod>,
    /// Prompt tokens as the gateway counted them.
    #[serde(rename = "inp")]
    pub input_tokens: u64,
    /// What the model may generate.
    #[serde(rename = "out")]
    pub max_output_tokens: u64,
    /// When it was authorized: the usage's moment.
    #[serde(rename = "at", with = "chrono::serde::ts_milliseconds")]
    pub authorized_at: DateTime<Utc>,
    /// When the reservation lapses.
    #[serde(rename = "until", with = "chrono::serde::ts_milliseconds")]
    pub expires_at: DateTime<Utc>,
    /// Until how many milliseconds after that the reservation covers its usage.
    #[serde(rename = "grc", default = "usual_grace", skip_serializing_if = "is_usual_grace")]
    pub grace_ms: u32,
    /// The gateway's id of the request, or empty.
    #[serde(rename = "req", default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// The customer's own user, or empty.
    #[serde(rename = "usr", default, skip_serializing_if = "String::is_empty")]
    pub end_user: String,
    /// The customer's labels.
    #[serde(rename = "lbl", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl GrantClaims {
    /// Until when the reservation covers the usage; what is posted later is an overrun. Judged by
    /// the database's clock under the account's row lock.
    #[must_use]
    pub fn covered_until(&self) -> DateTime<Utc> {
        after(self.expires_at, std::time::Duration::from_millis(self.grace_ms.into()))
    }

    /// Every pool it is held in.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolKey> {
        let budgets = self.budgets.iter().copied().map(PoolKey::Budget);
        budgets.chain([PoolKey::Funds]).collect()
    }

    /// Until when usage is recorded at all.
    #[must_use]
    pub fn accepted_until(&self) -> DateTime<Utc> {
        after(self.expires_at, limits::LATE_USAGE)
    }
}

/// The grace that a token without one has: nearly all, so that they stay short.
fn usual_grace() -> u32 {
    milliseconds(limits::SETTLEMENT_GRACE)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_usual_grace(grace_ms: &u32) -> bool {
    *grace_ms == usual_grace()
}

/// A grace as a token carries it.
pub(super) fn milliseconds(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// A moment plus a duration, held at the calendar's end.
pub(super) fn after(moment: DateTime<Utc>, duration: std::time::Duration) -> DateTime<Utc> {
    Duration::from_std(duration)
        .ok()
        .and_then(|duration| moment.checked_add_signed(duration))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

mod text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

mod texts {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::accounts::budgets::period::BudgetPeriod;

    pub(super) fn serialize<S: Serializer>(
        values: &[BudgetPeriod],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<BudgetPeriod>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

/// A key that signs or verifies grants.
#[derive(Clone)]
pub struct SigningKey {
    /// What the token's header calls it.
    pub key_id: String,
    /// At least 32 random bytes.
    pub secret: Vec<u8>,
    /// Whether it only verifies.
    pub retired: bool,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SigningKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// A token's header is the same for all that one key signs, and says which key it was.
type EncodedHeader = String;

struct KeyRing {
    header: EncodedHeader,
    signing: EncodingKey,
    verifying: HashMap<EncodedHeader, DecodingKey>,
}

/// Signs and verifies grant tokens. Cheap to clone.
///
/// The parts of the JWT are put together and taken apart here, and only signed and verified by
/// `jsonwebtoken`: its `encode` and `decode` write and read the header anew and read the claims
/// twice for each token.
#[derive(Clone)]
pub struct GrantSigner {
    ring: Arc<ArcSwap<KeyRing>>,
}

impl fmt::Debug for GrantSigner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("GrantSigner").finish_non_exhaustive()
    }
}

impl GrantSigner {
    /// A signer that signs with the first key that is not retired; `None` without one.
    #[must_use]
    pub fn new(keys: &[SigningKey]) -> Option<Self> {
        Some(Self { ring: Arc::new(ArcSwap::from_pointee(KeyRing::new(keys)?)) })
    }

    /// Takes up the database's keys after a rotation; ignored without a signing key.
    pub fn replace(&self, keys: &[SigningKey]) {
        if let Some(ring) = KeyRing::new(keys) {
            self.ring.store(Arc::new(ring));
        }
    }

    /// Signs a grant.
    pub fn sign(&self, claims: &GrantClaims) -> Result<String, GrantError> {
        let ring = self.ring.load();
        let json = serde_json::to_vec(claims).map_err(|_| GrantError::Invalid)?;
        let mut token = String::with_capacity(ring.header.len() + json.len() * 4 / 3 + 48);
        token.push_str(&ring.header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(json, &mut token);
        let signature = crypto::sign(token.as_bytes(), &ring.signing, Algorithm::HS256);
        token.push('.');
        token.push_str(&signature.map_err(|_| GrantError::Invalid)?);
        Ok(token)
    }

    /// Reads a grant's token and checks its signature. A late report of usage is an overrun, not an
    /// invalid token: whether it is too late is not judged here. Nor is its audience: its key signs
    /// grants alone.
    pub fn verify(&self, token: &str) -> Result<GrantClaims, GrantError> {
        if token.len() > MAX_TOKEN_LENGTH {
            return Err(GrantError::Invalid);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(GrantError::Invalid)?;
        let (header, json) = message.split_once('.').ok_or(GrantError::Invalid)?;
        let ring = self.ring.load();
        let Some(key) = ring.verifying.get(header) else {
            return Err(strange(token));
        };
        let is_ours = crypto::verify(signature, message.as_bytes(), key, Algorithm::HS256);
        if !matches!(is_ours, Ok(true)) {
            return Err(GrantError::Invalid);
        }
        let json = URL_SAFE_NO_PAD.decode(json).map_err(|_| GrantError::Invalid)?;
        serde_json::from_slice(&json).map_err(|_| GrantError::Invalid)
    }
}

/// Whose grant a token says that it is, and which. Nothing is verified; `None` for a token that is not
/// put together as ours are.
pub(super) fn place_in(token: &str) -> Option<(AccountId, AuthorizationId)> {
    let json = token.split('.').nth(1)?.get(..PLACE_LENGTH / 3 * 4)?;
    let mut decoded = [0; PLACE_LENGTH];
    URL_SAFE_NO_PAD.decode_slice(json, &mut decoded).ok()?;
    let text = std::str::from_utf8(&decoded).ok()?;
    let id = |name: &str| text.split_once(name)?.1.get(..UUID_LENGTH);
    Some((id("\"acc\":\"")?.parse().ok()?, id("\"jti\":\"")?.parse().ok()?))
}

/// What a token without one of our headers is.
fn strange(token: &str) -> GrantError {
    match jsonwebtoken::decode_header(token) {
        Ok(Header { alg: Algorithm::HS256, .. }) => GrantError::UnknownKey,
        _ => GrantError::Invalid,
    }
}

impl KeyRing {
    fn new(keys: &[SigningKey]) -> Option<Self> {
        let current = keys.iter().find(|key| !key.retired)?;
        let verifying = keys
            .iter()
            .map(|key| Some((encoded_header(&key.key_id)?, DecodingKey::from_secret(&key.secret))))
            .collect::<Option<_>>()?;
        Some(Self {
            header: encoded_header(&current.key_id)?,
            signing: EncodingKey::from_secret(&current.secret),
            verifying,
        })
    }
}

fn encoded_header(key_id: &str) -> Option<EncodedHeader> {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(key_id.to_owned());
    serde_json::to_vec(&header).ok().map(|json| URL_SAFE_NO_PAD.encode(json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BudgetId;

    fn key(name: &str, byte: u8, retired: bool) -> SigningKey {
        SigningKey { key_id: name.to_owned(), secret: vec![byte; 32], retired }
    }

    fn claims() -> GrantClaims {
        let now = DateTime::from_timestamp_millis(1_790_000_000_123).unwrap();
        GrantClaims {
            authorization_id: AuthorizationId::generate(),
            issuer: InstanceId::generate(),
            account_id: AccountId::generate(),
            key_id: KeyId::generate(),
            tier: Tier::Pro,
            model_id: ModelId(7),
            model: "deepseek-ai/DeepSeek-R1".to_owned(),
            currency: Currency::USD,
            price_version: PriceVersionId(9_007_199_254_740_993),
            reserved: "0.000000000001".parse().unwrap(),
            budgets: vec![BudgetPeriod {
                budget: BudgetId::generate(),
                start: "2026-11-23".parse().unwrap(),
            }],
            input_tokens: 10,
            max_output_tokens: u64::MAX,
            authorized_at: now,
            expires_at: now,
            grace_ms: 1_000,
            request_id: "r-1".to_owned(),
            end_user: String::new(),
            labels: BTreeMap::from([("team".to_owned(), "søk".to_owned())]),
        }
    }

    #[test]
    fn a_token_brings_back_exactly_what_was_granted() {
        let signer = GrantSigner::new(&[key("a", 1, false)]).unwrap();
        let token = signer.sign(&claims()).unwrap();
        let read = signer.verify(&token).unwrap();
        let again = GrantClaims { ..read.clone() };
        assert_eq!(signer.verify(&signer.sign(&again).unwrap()).unwrap(), read);
        assert_eq!(read.reserved.to_string(), "0.000000000001");
        assert_eq!(read.price_version.0, 9_007_199_254_740_993);
        assert_eq!(read.max_output_tokens, u64::MAX);
        assert_eq!(read.budgets.len(), 1);
        assert_eq!(read.pools().last(), Some(&PoolKey::Funds));
    }

    #[test]
    fn a_token_says_whose_it_is_before_it_is_verified() {
        let signer = GrantSigner::new(&[key("a", 1, false)]).unwrap();
        let (mut bare, full) = (claims(), claims());
        (bare.budgets, bare.labels) = (Vec::new(), BTreeMap::new());
        (bare.model, bare.request_id) = (String::new(), String::new());
        for claims in [bare, full] {
            let token = signer.sign(&claims).unwrap();
            assert_eq!(place_in(&token), Some((claims.account_id, claims.authorization_id)));
        }
        for garbage in ["", "a.b.c", &"é".repeat(400), &format!("a.{}.c", "A".repeat(400))] {
            assert_eq!(place_in(garbage), None);
        }
    }

    #[test]
    fn a_token_covers_its_usage_for_the_grace_of_whoever_signed_it() {
        let signer = GrantSigner::new(&[key("a", 1, false)]).unwrap();
        for grace_ms in [1_000, usual_grace(), 600_000] {
            let grant = GrantClaims { grace_ms, ..claims() };
            let read = signer.verify(&signer.sign(&grant).unwrap()).unwrap();
            let covered = read.covered_until() - read.expires_at;
            assert_eq!(covered.num_milliseconds(), i64::from(grace_ms));
        }
    }

    #[test]
    fn a_changed_token_is_refused_wherever_it_was_changed() {
        let signer = GrantSigner::new(&[key("a", 1, false)]).unwrap();
        let token = signer.sign(&claims()).unwrap();
        for position in (0..token.len()).step_by(7) {
            let mut bytes = token.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(signer.verify(&changed).is_err(), "changed at {position}");
        }
    }

    #[test]
    fn another_servers_token_is_told_apart_from_garbage() {
        let ours = GrantSigner::new(&[key("a", 1, false)]).unwrap();
        let theirs = GrantSigner::new(&[key("b", 2, false)]).unwrap();
        let token = theirs.sign(&claims()).unwrap();
        assert_eq!(ours.verify(&token), Err(GrantError::UnknownKey));
        assert_eq!(ours.verify("garbage"), Err(GrantError::Invalid));
        assert_eq!(ours.verify(""), Err(GrantError::Invalid));
    }

    #[test]
    fn a_retired_key_still_verifies_and_signs_no_more() {
        let before = GrantSigner::new(&[key("a", 1, false)]).unwrap();
        let token = before.sign(&claims()).unwrap();
        let after = GrantSigner::new(&[key("a", 1, true), key("b", 2, false)]).unwrap();
        assert!(after.verify(&token).is_ok());
        assert_eq!(before.verify(&after.sign(&claims()).unwrap()), Err(GrantError::UnknownKey));
    }

    #[test]
    fn a_token_without_a_signature_is_refused() {
        let signer = GrantSigner::new(&[key("a", 1, false)]).unwrap();
        let token = signer.sign(&claims()).unwrap();
        let mut parts = token.split('.');
        let (_, body) = (parts.next().unwrap(), parts.next().unwrap());
        // {"typ":"JWT","alg":"none","kid":"a"}
        let header = "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIiwia2lkIjoiYSJ9";
        assert_eq!(signer.verify(&format!("{header}.{body}.")), Err(GrantError::Invalid));
    }
}

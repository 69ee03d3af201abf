//! What a token must be to be believed.

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::{
    clock,
    identity::{
        Role, Roles,
        token::{Fingerprint, TokenAuthority, TokenRequest},
    },
    ids::AccountId,
};

const SECRET: &str = "a secret that only these tests know, 0123456789";

fn secret(text: &str) -> Secret {
    Secret::new(text, "the test").unwrap()
}

fn authority() -> TokenAuthority {
    TokenAuthority::new(&secret(SECRET))
}

fn ring() -> KeyRing {
    KeyRing::new(vec![TrustedKey::of_secret(&secret(SECRET))])
}

fn gateway() -> TokenRequest {
    TokenRequest {
        subject: "edge-1".to_owned(),
        roles: vec![Role::Gateway],
        account: None,
        lifetime: Duration::from_mins(1),
    }
}

/// A token with any header and claims, signed with our own secret.
fn signed(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

fn good_claims() -> Value {
    let now = clock::now().timestamp();
    json!({ "iss": "tollgate", "aud": "tollgate", "sub": "edge-1", "exp": now + 60, "role": "gateway" })
}

/// The good claims with one of them changed, or removed where `value` is null.
fn with(claim: &str, value: Value) -> String {
    let mut claims = good_claims();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(claim);
    } else {
        claims[claim] = value;
    }
    signed(&claims)
}

#[test]
fn a_minted_token_is_believed() {
    let token = authority().mint(&gateway()).unwrap();
    let verified = ring().verify(&token).unwrap();
    assert_eq!(&*verified.subject, "edge-1");
    assert_eq!(verified.roles, Roles::of(&[Role::Gateway]));
    assert_eq!(verified.account, None);
    assert!(verified.fingerprint.is_some(), "a minted token can be revoked");
    assert!(!verified.is_expired(clock::now()));
    assert!(verified.is_expired(clock::now() + chrono::Duration::seconds(66)));
}

#[test]
fn a_tenant_token_carries_its_account() {
    let account = AccountId::generate();
    let request = TokenRequest { roles: vec![Role::Tenant], account: Some(account), ..gateway() };
    let token = authority().mint(&request).unwrap();
    assert_eq!(ring().verify(&token).unwrap().account, Some(account));
}

#[test]
fn a_tenant_without_an_account_or_with_another_role_is_refused() {
    let account = Some(AccountId::generate());
    for (roles, account) in [
        (vec![Role::Tenant], None),
        (vec![Role::Tenant, Role::Operator], account),
        (vec![Role::Operator], account),
    ] {
        let request = TokenRequest { roles, account, ..gateway() };
        assert_eq!(authority().mint(&request), Err(IdentityError::AccountMismatch));
    }
    assert_eq!(ring().verify(&with("role", json!("tenant"))), Err(IdentityError::AccountMismatch));
}

#[test]
fn the_token_of_another_server_is_refused() {
    let other = secret("the secret of quite another server 0123");
    let token = TokenAuthority::new(&other).mint(&gateway()).unwrap();
    assert_eq!(ring().verify(&token), Err(IdentityError::WrongSignature));
}

#[test]
fn while_a_secret_is_replaced_both_are_believed() {
    let (new, old) = (secret("the secret from now on, 0123456789ab"), secret(SECRET));
    let both = KeyRing::new(vec![TrustedKey::of_secret(&new), TrustedKey::of_secret(&old)]);
    for signing in [&new, &old] {
        let token = TokenAuthority::new(signing).mint(&gateway()).unwrap();
        assert!(both.verify(&token).is_ok());
    }
    // What is wrong with a token of the second key is told, and not that it is not the first's.
    assert_eq!(both.verify(&with("exp", json!(1))), Err(IdentityError::Expired));
    let other = TokenAuthority::new(&secret("somebody else's secret, 0123456789ab"));
    let token = other.mint(&gateway()).unwrap();
    assert_eq!(both.verify(&token), Err(IdentityError::WrongSignature));
}

#[test]
fn a_fingerprint_is_of_the_tokens_id_alone() {
    let token = with("jti", json!("an-id"));
    assert_eq!(ring().verify(&token).unwrap().fingerprint, Some(Fingerprint::of("an-id")));
    assert_eq!(ring().verify(&with("jti", Value::Null)).unwrap().fingerprint, None);
}

#[test]
fn a_changed_claim_breaks_the_signature() {
    let token = authority().mint(&gateway()).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let claims = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
    let claims = String::from_utf8(claims).unwrap().replace("gateway", "auditor");
    let forged = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims), parts[2]);
    assert_eq!(ring().verify(&forged), Err(IdentityError::WrongSignature));
}

#[test]
fn no_other_algorithm_is_believed() {
    let claims = URL_SAFE_NO_PAD.encode(good_claims().to_string());
    for algorithm in ["none", "None", "", "RS256", "ES256", "EdDSA", "hs256"] {
        let header = json!({ "typ": "JWT", "alg": algorithm }).to_string();
        for signature in ["", "c2ln"] {
            let token = format!("{}.{claims}.{signature}", URL_SAFE_NO_PAD.encode(&header));
            assert_eq!(
                ring().verify(&token),
                Err(IdentityError::WrongAlgorithm("HS256".to_owned())),
                "{header}"
            );
        }
    }
    // The right secret with a sibling algorithm.
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&Header::new(algorithm), &good_claims(), &key).unwrap();
        assert_eq!(ring().verify(&token), Err(IdentityError::WrongAlgorithm("HS256".to_owned())));
    }
}

#[test]
fn times_and_parties_are_checked() {
    let now = clock::now().timestamp();
    let wrong = |what| IdentityError::WrongParty(what, "tollgate".to_owned());
    let cases = [
        (with("exp", json!(now - 6)), IdentityError::Expired),
        (with("nbf", json!(now + 30)), IdentityError::NotYetValid),
        (with("iss", json!("elsewhere")), wrong("issuer")),
        (with("aud", json!("elsewhere")), wrong("audience")),
        (with("role", json!("root")), IdentityError::UnknownRole("root".to_owned())),
    ];
    for (token, expected) in cases {
        assert_eq!(ring().verify(&token), Err(expected));
    }
}

#[test]
fn what_is_missing_or_misshapen_is_refused() {
    let broken = [
        with("exp", Value::Null),
        with("iss", Value::Null),
        with("aud", Value::Null),
        with("sub", Value::Null),
        with("role", Value::Null),
        with("exp", json!("soon")),
        with("exp", json!(u64::MAX)),
        with("account", json!("acme")),
        with("roles", json!("gateway")),
        String::new(),
        "not a token".to_owned(),
        "..".to_owned(),
        "a.b.c.d".to_owned(),
        format!("{}.x", signed(&good_claims())),
    ];
    for token in broken {
        let outcome = ring().verify(&token);
        assert!(matches!(outcome, Err(IdentityError::Malformed(_))), "{token}: {outcome:?}");
    }
    let long = "a".repeat(TOKEN_LENGTH_LIMIT + 1);
    assert_eq!(ring().verify(&long), Err(IdentityError::TooLong(TOKEN_LENGTH_LIMIT)));
}

#[test]
fn a_token_that_demands_extensions_is_refused() {
    let header = json!({ "alg": "HS256", "crit": ["exp"] }).to_string();
    let token = format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(header));
    assert!(matches!(ring().verify(&token), Err(IdentityError::Malformed(_))));
}

#[test]
fn no_refusal_repeats_the_token() {
    let token = with("exp", json!(1));
    let text = ring().verify(&token).unwrap_err().to_string();
    assert!(!text.contains(&token[..10]));
}

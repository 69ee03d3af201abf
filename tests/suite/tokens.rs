//! Callers' tokens over time: rotation of secrets, public keys that change, tokens taken back.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use tollgate::{
    cli::client::Client,
    clock,
    config::{SecretSource, TokenConfig},
    identity::{
        Role,
        keyring::Parties,
        secret::Secret,
        token::{TokenAuthority, TokenRequest},
    },
    proto::{ListAccountsRequest, ListRevokedTokensRequest, RevokeTokenRequest},
};
use tonic::{Code, Status};

use crate::harness::{
    postgres::fresh_database,
    server::{TestServer, refusal, secret, token},
};

/// How soon a revocation, or a file that changed, must have its effect.
const SOON: Duration = Duration::from_secs(5);

async fn list_accounts(client: &Client) -> Result<(), Status> {
    client.accounts().list_accounts(ListAccountsRequest::default()).await.map(|_| ())
}

fn reason(outcome: Result<(), Status>) -> String {
    outcome.map_or_else(|status| refusal(&status).1, |()| "OK".to_owned())
}

/// What a token says, past its signature.
fn claims(token: &str) -> serde_json::Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn revocation_of(token: &str) -> RevokeTokenRequest {
    RevokeTokenRequest {
        token_id: claims(token)["jti"].as_str().unwrap().to_owned(),
        reason: "found in a log".to_owned(),
        expires_at: None,
    }
}

async fn until(client: &Client, wanted: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let now = reason(list_accounts(client).await);
        if now == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "it stays {now}, and does not become {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_revoked_token_is_refused_on_every_server_when_the_call_returns() {
    let database = fresh_database().await;
    let one = TestServer::start_on(database.clone()).await;
    let other = TestServer::start_on(database.clone()).await;
    let stolen = token(&[Role::Operator], None);
    for server in [&one, &other] {
        list_accounts(&server.with_token(&stolen).await).await.unwrap();
    }
    let operator = one.operator().await;
    operator.tokens().revoke_token(revocation_of(&stolen)).await.unwrap();
    for server in [&one, &other] {
        let outcome = list_accounts(&server.with_token(&stolen).await).await;
        assert_eq!(refusal(&outcome.unwrap_err()).0, Code::Unauthenticated);
        assert_eq!(reason(list_accounts(&server.with_token(&stolen).await).await), "TOKEN_REVOKED");
        list_accounts(&server.operator().await).await.unwrap();
    }
    // A server that starts later reads the list.
    let later = TestServer::start_on(database).await;
    assert_eq!(reason(list_accounts(&later.with_token(&stolen).await).await), "TOKEN_REVOKED");
}

#[tokio::test]
async fn a_revocation_is_kept_as_it_was_first_made_and_listed_for_auditors() {
    let server = TestServer::start().await;
    let operator = server.operator().await;
    let stolen = token(&[Role::Gateway], None);
    let first = revocation_of(&stolen);
    let again = RevokeTokenRequest { reason: "another reason".to_owned(), ..first.clone() };
    for request in [first.clone(), again] {
        let answer = operator.tokens().revoke_token(request).await.unwrap().into_inner();
        let kept = answer.token.unwrap();
        assert_eq!((kept.token_id, kept.reason), (first.token_id.clone(), first.reason.clone()));
        assert_eq!(kept.revoked_by, "a test");
    }
    let list = ListRevokedTokensRequest::default();
    let page = server.auditor().await.tokens().list_revoked_tokens(list).await.unwrap();
    assert_eq!(page.into_inner().tokens.len(), 1);

    let empty = RevokeTokenRequest::default();
    let outcome = operator.tokens().revoke_token(empty).await.unwrap_err();
    let (code, reason, field) = refusal(&outcome);
    assert_eq!((code, &*reason), (Code::InvalidArgument, "TOKEN_ID_INVALID"));
    assert_eq!(field, "token_id");
}

#[tokio::test]
async fn a_revocation_that_was_made_while_the_listener_was_cut_is_learned_of() {
    let server = TestServer::start().await;
    let stolen = token(&[Role::Operator], None);
    let caller = server.with_token(&stolen).await;
    list_accounts(&caller).await.unwrap();
    let pool = server.pool();
    // As another server would, with nobody there who hears of it.
    sqlx::query("INSERT INTO revoked_tokens (token_id, reason, revoked_by) VALUES ($1, '', 'x')")
        .bind(claims(&stolen)["jti"].as_str().unwrap())
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = current_database() AND application_name = 'tollgate listener'",
    )
    .execute(&pool)
    .await
    .unwrap();
    until(&caller, "TOKEN_REVOKED").await;
}

#[tokio::test]
async fn while_a_secret_is_replaced_tokens_of_both_are_believed() {
    let new = Secret::new(&"n".repeat(40), "the test").unwrap();
    let request = TokenRequest {
        subject: "a test".to_owned(),
        roles: vec![Role::Operator],
        account: None,
        lifetime: Duration::from_mins(1),
    };
    let of_new = TokenAuthority::new(&new).mint(&request).unwrap();
    let of_old = token(&[Role::Operator], None);
    for (previous, old_is) in [(Some(secret()), "OK"), (None, "TOKEN_SIGNATURE")] {
        let server = TestServer::start_changed(|config| {
            config.tokens = TokenConfig {
                previous_secret: previous,
                ..TokenConfig::of_secret(SecretSource::Given(new.clone()))
            };
        })
        .await;
        list_accounts(&server.with_token(&of_new).await).await.unwrap();
        assert_eq!(reason(list_accounts(&server.with_token(&of_old).await).await), old_is);
    }
}

/// Somebody else who makes tokens for the server.
struct Issuer(Ed25519KeyPair);

impl Issuer {
    fn new() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    fn jwk(&self, kid: &str) -> serde_json::Value {
        let point = URL_SAFE_NO_PAD.encode(self.0.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": point })
    }

    fn token(&self, kid: &str) -> String {
        let header = json!({ "alg": "EdDSA", "kid": kid });
        let claims = json!({
            "iss": "https://id.example", "aud": "tollgate", "sub": "someone",
            "exp": clock::now().timestamp() + 60, "roles": ["operator"], "jti": "their-own-id",
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }
}

fn write_set(path: &Path, keys: &[serde_json::Value]) {
    std::fs::write(path, json!({ "keys": keys }).to_string()).unwrap();
}

#[tokio::test]
async fn an_issuers_keys_are_followed_as_their_file_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let (first, second) = (Issuer::new(), Issuer::new());
    write_set(&path, &[first.jwk("one")]);
    let server = TestServer::start_changed(|config| {
        config.tokens.jwks = Some(path.clone());
        config.tokens.parties =
            Parties { issuer: "https://id.example".to_owned(), ..Parties::default() };
    })
    .await;
    let of_first = server.with_token(&first.token("one")).await;
    let of_second = server.with_token(&second.token("two")).await;
    assert_eq!(reason(list_accounts(&of_first).await), "OK");
    assert_eq!(reason(list_accounts(&of_second).await), "TOKEN_KEY_UNKNOWN");

    write_set(&path, &[first.jwk("one"), second.jwk("two")]);
    until(&of_second, "OK").await;
    assert_eq!(reason(list_accounts(&of_first).await), "OK");

    // What cannot be read changes nothing.
    std::fs::write(&path, "{").unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(reason(list_accounts(&of_second).await), "OK");

    // A key that was withdrawn is not believed, though its token was remembered.
    write_set(&path, &[second.jwk("two")]);
    until(&of_first, "TOKEN_KEY_UNKNOWN").await;
    assert_eq!(reason(list_accounts(&of_second).await), "OK");

    // The server's own tokens, and revocation, are as ever.
    let operator = server.operator().await;
    operator.tokens().revoke_token(revocation_of(&second.token("two"))).await.unwrap();
    assert_eq!(reason(list_accounts(&of_second).await), "TOKEN_REVOKED");
}

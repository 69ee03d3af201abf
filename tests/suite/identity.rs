//! Who is let in: tokens, roles and the permission table, over the wire.

use std::time::Duration;

use serde_json::json;
use tollgate::{
    cli::client::Client,
    clock,
    identity::{
        Role,
        secret::Secret,
        token::{TokenAuthority, TokenRequest},
    },
    ids::AccountId,
    proto::{GetAccountRequest, ListAccountsRequest},
};
use tonic::{
    Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel,
};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use crate::harness::server::{SECRET, TestServer, token};

async fn list_accounts(client: &Client) -> Result<(), Status> {
    client.accounts().list_accounts(ListAccountsRequest::default()).await.map(|_| ())
}

async fn reason_with(server: &TestServer, token: &str) -> String {
    let refusal = list_accounts(&server.with_token(token).await).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated, "{refusal}");
    let details = refusal.get_error_details();
    details.error_info().unwrap().reason.clone()
}

/// Calls any path with an empty message and any metadata.
pub(crate) async fn call(
    channel: Channel,
    path: &str,
    authorization: &[&str],
) -> Result<(), Status> {
    let mut request = Request::new(());
    for value in authorization {
        request.metadata_mut().append("authorization", value.parse().unwrap());
    }
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec = ProstCodec::<(), ()>::default();
    grpc.unary(request, PathAndQuery::try_from(path).unwrap(), codec).await.map(|_| ())
}

fn claims(changes: &serde_json::Value) -> serde_json::Value {
    let now = clock::now().timestamp();
    let mut claims = json!({
        "iss": "tollgate", "aud": "tollgate", "sub": "a test", "exp": now + 60, "role": "operator"
    });
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims
}

fn signed(algorithm: jsonwebtoken::Algorithm, claims: &serde_json::Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::new(algorithm), claims, &key).unwrap()
}

#[tokio::test]
async fn a_token_that_is_broken_expired_or_of_another_server_is_refused_with_its_reason() {
    use jsonwebtoken::Algorithm::{HS256, HS512};
    let server = TestServer::start().await;
    let now = clock::now().timestamp();

    assert!(list_accounts(&server.operator().await).await.is_ok());
    let good = token(&[Role::Operator], None);
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    let other = TokenAuthority::new(&Secret::new(&"o".repeat(40), "another server").unwrap())
        .mint(&TokenRequest {
            subject: "a test".to_owned(),
            roles: vec![Role::Operator],
            account: None,
            lifetime: Duration::from_mins(1),
        })
        .unwrap();
    // {"alg":"none"}, with the claims of a good token and no signature.
    let none = format!("eyJhbGciOiJub25lIn0.{}.", good.split('.').nth(1).unwrap());

    for (token, reason) in [
        ("nonsense".to_owned(), "TOKEN_MALFORMED"),
        (unsigned.to_owned(), "TOKEN_MALFORMED"),
        (format!("{unsigned}.AAAA"), "TOKEN_SIGNATURE"),
        (other, "TOKEN_SIGNATURE"),
        (none, "TOKEN_ALGORITHM"),
        (signed(HS512, &claims(&json!({}))), "TOKEN_ALGORITHM"),
        (signed(HS256, &claims(&json!({ "exp": now - 60 }))), "TOKEN_EXPIRED"),
        (signed(HS256, &claims(&json!({ "nbf": now + 60 }))), "TOKEN_NOT_YET_VALID"),
        (signed(HS256, &claims(&json!({ "aud": "elsewhere" }))), "TOKEN_WRONG_PARTY"),
        (signed(HS256, &claims(&json!({ "role": "root" }))), "ROLE_UNKNOWN"),
        (signed(HS256, &claims(&json!({ "role": "tenant" }))), "TOKEN_ACCOUNT"),
    ] {
        assert_eq!(reason_with(&server, &token).await, reason, "{token}");
    }
}

#[tokio::test]
async fn a_call_without_exactly_one_bearer_token_is_refused() {
    let server = TestServer::start().await;
    let channel = server.channel().await;
    let path = "/tollgate.v1.AccountService/ListAccounts";
    let good = format!("Bearer {}", token(&[Role::Operator], None));
    assert!(call(channel.clone(), path, &[&good]).await.is_ok());
    for headers in [vec![], vec!["Basic YTpi"], vec!["Bearer"], vec![&*good, &*good]] {
        let refusal = call(channel.clone(), path, &headers).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unauthenticated);
        assert!(refusal.message().contains("Bearer <token>"), "{refusal}");
    }
}

#[tokio::test]
async fn an_rpc_that_is_not_in_the_table_is_refused_to_everybody() {
    let server = TestServer::start().await;
    let channel = server.channel().await;
    let bearer = format!(
        "Bearer {}",
        token(&[Role::Gateway, Role::Operator, Role::Finance, Role::Auditor], None)
    );
    for path in ["/tollgate.v1.AccountService/DropAll", "/elsewhere.Service/Call"] {
        let refusal = call(channel.clone(), path, &[]).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unauthenticated);
        let refusal = call(channel.clone(), path, &[&bearer]).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unimplemented, "{refusal}");
        assert_eq!(refusal.get_error_details().error_info().unwrap().reason, "RPC_UNKNOWN");
    }
}

#[tokio::test]
async fn a_tenant_cannot_tell_anothers_account_from_one_that_does_not_exist() {
    let server = TestServer::start().await;
    let other = acme(&server).await;
    let tenant = server.tenant(AccountId::generate()).await;
    let ask = async |account: String| {
        tenant.accounts().get_account(GetAccountRequest { account }).await.unwrap_err()
    };
    let theirs = ask(other.to_string()).await;
    let by_handle = ask("acme".to_owned()).await;
    let nobodys = ask(AccountId::generate().to_string()).await;
    for refusal in [&theirs, &by_handle, &nobodys] {
        assert_eq!(refusal.code(), Code::NotFound);
        let reason = refusal.get_error_details().error_info().unwrap().reason.clone();
        assert_eq!(reason, nobodys.get_error_details().error_info().unwrap().reason);
    }
}

/// An account `acme`, made by an operator.
async fn acme(server: &TestServer) -> AccountId {
    let request = tollgate::proto::CreateAccountRequest {
        handle: "acme".to_owned(),
        display_name: "Acme Inc.".to_owned(),
        idempotency_key: AccountId::generate().to_string(),
        ..Default::default()
    };
    let answer = server.operator().await.accounts().create_account(request).await.unwrap();
    answer.into_inner().account.unwrap().account_id.parse().unwrap()
}

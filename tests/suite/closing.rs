//! Closing an account: only when nothing is left, and for good.

use tollgate::proto::{self, ResumeAccountRequest, UpdateAccountRequest};
use tonic::Code;

use crate::{
    accounts::{close, create, enterprise, funds, new_account},
    harness::server::{TestServer, refusal},
};

#[tokio::test]
async fn an_account_is_closed_only_when_nothing_is_left_and_each_rest_is_named() {
    let server = TestServer::start().await;
    let mut accounts = server.operator().await.accounts();
    create(&mut accounts, new_account("umbrella", Some(enterprise()))).await.unwrap();
    for (balance, statement) in [
        ("credits", "UPDATE account_funds SET credits = 1"),
        ("promotional", "UPDATE account_funds SET promotional = 2"),
        ("overdrawn", "UPDATE account_funds SET overdrawn = 3, credits = 0"),
        ("unbilled", "UPDATE account_funds SET unbilled = 4"),
        ("receivable", "UPDATE account_funds SET receivable = 5"),
        ("unapplied", "UPDATE account_funds SET unapplied = 6"),
        ("leased", "UPDATE account_funds SET leased = 7"),
    ] {
        sqlx::query(statement).execute(&server.pool()).await.unwrap();
        let status = close(&mut accounts, "umbrella").await.unwrap_err();
        assert_eq!(refusal(&status).0, Code::FailedPrecondition);
        assert_eq!(refusal(&status).1, "ACCOUNT_NOT_SETTLED");
        assert!(status.message().contains(&format!("{balance} is ")), "{}", status.message());
    }
    let everything = close(&mut accounts, "umbrella").await.unwrap_err();
    for rest in ["promotional is 2 ", "overdrawn is 3 ", "unbilled is 4 ", "leased is 7 "] {
        assert!(everything.message().contains(rest), "{}", everything.message());
    }
}

#[tokio::test]
async fn a_disputed_payment_keeps_an_account_open() {
    let server = TestServer::start().await;
    let mut accounts = server.operator().await.accounts();
    create(&mut accounts, new_account("acme", None)).await.unwrap();
    sqlx::query(
        "INSERT INTO transfers (account_id, posting, line, debit, credit, amount, currency, kind,
                                period, idempotency_key)
         SELECT account_id, 1, 1, '1250', '1000.VISA', 12.5, 'USD', 'chargeback_spent',
                '2026-01-01', '' FROM accounts",
    )
    .execute(&server.pool())
    .await
    .unwrap();
    let status = close(&mut accounts, "acme").await.unwrap_err();
    assert!(status.message().contains("disputed is 12.5 "), "{}", status.message());
}

#[tokio::test]
async fn a_closed_account_has_no_keys_no_limit_and_no_way_back() {
    let server = TestServer::start().await;
    let mut accounts = server.operator().await.accounts();
    let mut keys = server.operator().await.keys();
    create(&mut accounts, new_account("umbrella", Some(enterprise()))).await.unwrap();
    let issue = proto::IssueKeyRequest {
        account: "umbrella".to_owned(),
        name: "production".to_owned(),
        tier: proto::Tier::Pro.into(),
        ..Default::default()
    };
    keys.issue_key(issue.clone()).await.unwrap();

    let closed = close(&mut accounts, "umbrella").await.unwrap();
    assert_eq!(closed.status(), proto::AccountStatus::Closed);
    assert_eq!(close(&mut accounts, "umbrella").await.unwrap(), closed, "closing again");
    assert_eq!(funds(&server, "umbrella").await.1, "0");
    let list = proto::ListKeysRequest { account: "umbrella".to_owned(), ..Default::default() };
    let left = keys.list_keys(list).await.unwrap().into_inner().keys;
    assert_eq!(left[0].status(), proto::KeyStatus::Revoked);

    let update = UpdateAccountRequest {
        account: "umbrella".to_owned(),
        contract: Some(enterprise()),
        version: closed.version,
        ..Default::default()
    };
    let resume = ResumeAccountRequest { account: "umbrella".to_owned(), ..Default::default() };
    for status in [
        accounts.update_account(update).await.unwrap_err(),
        accounts.resume_account(resume).await.unwrap_err(),
        keys.issue_key(issue).await.unwrap_err(),
    ] {
        assert_eq!(refusal(&status).0, Code::FailedPrecondition);
        assert_eq!(refusal(&status).1, "ACCOUNT_CLOSED");
    }
}

//! A superuser of the database changes the books behind the program's back: the verification finds it
//! and says where.

use std::time::Duration;

use sqlx::PgPool;
use tollgate::{
    ledger::{
        seals,
        verify::{Verification, Verifier},
    },
    metering::rollups::{self, Bounds},
    proto::VerifyLedgerRequest,
};
use uuid::Uuid;

use super::{Customer, close, customer, documents, month, net_30, noon, work, world};
use crate::{
    cli::Shell,
    harness::{
        books::{Books, Terms, seal},
        world::World,
    },
};

/// Runs statements as a superuser who has switched the triggers off.
async fn tamper(pool: &PgPool, statements: &str) {
    let all = format!("BEGIN; SET LOCAL session_replication_role = replica; {statements}; COMMIT");
    sqlx::raw_sql(sqlx::AssertSqlSafe(all)).execute(pool).await.unwrap();
}

/// What a check found of one account.
async fn findings(world: &World, account: &str, check: &str) -> Vec<String> {
    let request = VerifyLedgerRequest { account: account.to_owned() };
    let verified = world.client.ledger().verify_ledger(request).await.unwrap().into_inner();
    verified.checks.into_iter().find(|found| found.name == check).unwrap().findings
}

async fn text(pool: &PgPool, query: &'static str, account: Uuid) -> String {
    sqlx::query_scalar(query).bind(account).fetch_one(pool).await.unwrap()
}

const EVENT: &str =
    "SELECT event_id::text FROM usage_events WHERE account_id = $1 ORDER BY event_id";
const INVOICE: &str = "SELECT document_id::text FROM billing_documents WHERE account_id = $1";

/// What is changed, the check that finds it, and what the finding must say; `ACCOUNT`, `EVENT` and
/// `INVOICE` stand for the account's.
const CASES: [(&str, &str, &str); 8] = [
    (
        "UPDATE usage_events SET region = 'mars' WHERE event_id = 'EVENT'",
        "chains_recompute",
        "account ACCOUNT: usage_events EVENT: is not what was sealed",
    ),
    (
        "DELETE FROM usage_events WHERE event_id = 'EVENT'",
        "chains_recompute",
        "account ACCOUNT: usage_events EVENT: is missing",
    ),
    (
        "UPDATE transfers SET description = 'gift' WHERE account_id = 'ACCOUNT' AND posting = 1",
        "chains_recompute",
        "account ACCOUNT: transfers posting 1 line 3: is not what was sealed",
    ),
    (
        "DELETE FROM transfers WHERE account_id = 'ACCOUNT' AND posting = 2",
        "chains_recompute",
        "account ACCOUNT: transfers posting 2 line 3: is missing",
    ),
    (
        "UPDATE account_funds SET receivable = receivable - 1 WHERE account_id = 'ACCOUNT'",
        "balances_equal_transfers",
        "account ACCOUNT: receivable (1200) is ",
    ),
    (
        "DELETE FROM account_funds WHERE account_id = 'ACCOUNT'",
        "balances_equal_transfers",
        "account ACCOUNT: receivable (1200) is missing",
    ),
    (
        "UPDATE billing_documents SET due_date = due_date + 90 WHERE document_id = 'INVOICE'",
        "chains_recompute",
        "account ACCOUNT: billing_documents INVOICE: is not what was sealed",
    ),
    (
        "DELETE FROM billing_documents WHERE document_id = 'INVOICE'",
        "chains_recompute",
        "account ACCOUNT: billing_documents INVOICE: is missing",
    ),
];

/// A customer with two events, each of its own posting, and an invoice for them.
async fn invoiced(world: &World, handle: &str) -> Customer {
    let customer = customer(&world.client, handle, net_30()).await;
    for day in [3, 4] {
        work(&world.client, &customer, noon(month(1), day), 1_000_000, 0).await.unwrap();
    }
    customer
}

#[tokio::test]
async fn whatever_a_superuser_changes_or_deletes_is_found_and_named() {
    let world = world().await;
    let pool = world.server.pool();
    let mut customers = Vec::new();
    for number in 0..CASES.len() {
        customers.push(invoiced(&world, &format!("customer-{number}")).await);
    }
    close(&world.client, month(1)).await;
    seal(&pool).await;
    world.verify().await;

    for (customer, (change, check, finding)) in customers.iter().zip(CASES) {
        let account: Uuid = customer_id(&pool, &customer.account).await;
        let event = text(&pool, EVENT, account).await;
        let invoice = text(&pool, INVOICE, account).await;
        let filled = |text: &str| {
            let text = text.replace("ACCOUNT", &account.to_string());
            text.replace("EVENT", &event).replace("INVOICE", &invoice)
        };
        assert_eq!(findings(&world, &customer.account, check).await, [""; 0]);
        tamper(&pool, &filled(change)).await;
        let found = findings(&world, &customer.account, check).await;
        assert!(
            found.iter().any(|found| found.starts_with(&filled(finding))),
            "{change}: {found:?}"
        );
    }
    // All of them at once, over all accounts: each chain once.
    let request = VerifyLedgerRequest::default();
    let verified = world.client.ledger().verify_ledger(request).await.unwrap().into_inner();
    let chains = verified.checks.iter().find(|check| check.name == "chains_recompute").unwrap();
    assert_eq!((verified.clean, chains.violations), (false, 6), "{chains:#?}");
}

async fn customer_id(pool: &PgPool, account: &str) -> Uuid {
    sqlx::query_scalar("SELECT account_id FROM accounts WHERE $1 IN (account_id::text, handle)")
        .bind(account)
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn whoever_rewrites_rows_and_chain_cannot_have_the_heads_that_were_written_down() {
    let world = world().await;
    let pool = world.server.pool();
    let acme = invoiced(&world, "acme").await;
    seal(&pool).await;
    let shell = Shell::of(&world.server);
    let exported = shell.run(&["ledger", "heads"]).await;
    assert_eq!(exported.code, 0, "{exported:?}");
    let kept = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(kept.path(), &exported.out).unwrap();
    let verify = ["ledger", "verify", "--heads", kept.path().to_str().unwrap()];
    // More comes, and the old head stays in the chain.
    work(&world.client, &acme, noon(month(0), 1), 1_000, 0).await.unwrap();
    seal(&pool).await;
    let ran = shell.run(&verify).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(documents(&world.client, "acme").await.is_empty());

    // Sealed anew from the beginning, over a changed row: the chains prove right by themselves.
    tamper(
        &pool,
        "UPDATE usage_events SET region = 'mars'; DELETE FROM seals;
         UPDATE seal_watermark SET recorded_before = NULL",
    )
    .await;
    seal(&pool).await;
    world.verify().await;
    let ran = shell.run(&verify).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("heads_in_chains"), "{ran:?}");

    std::fs::write(kept.path(), exported.out.replace("\ndigest", "\n\ndigest")).unwrap();
    let ran = shell.run(&verify).await;
    assert!(ran.code != 0 && ran.err.contains("cannot be used"), "{ran:?}");
}

async fn chains(books: &Books) -> (u64, Vec<String>) {
    let verified: Verification = Verifier::new(books.reports.clone()).verify(None).await.unwrap();
    let check = verified.checks.into_iter().find(|check| check.name == "chains_recompute").unwrap();
    (check.examined, check.findings)
}

#[tokio::test]
async fn what_commits_late_is_sealed_once() {
    let books = Books::open().await;
    let account = books.account("acme", Terms::Invoiced(1_000)).await;
    let other = books.account("umbrella", Terms::Invoiced(1_000)).await;
    books.record(account, &["1", "2"]).await;

    // A posting that has read the clock and has not committed yet.
    let mut late = books.pool.begin().await.unwrap();
    for statement in [
        "SELECT 1 FROM account_funds WHERE account_id = $1 FOR UPDATE",
        "INSERT INTO transfers (account_id, posting, line, debit, credit, amount, currency, kind,
                                period, idempotency_key)
         VALUES ($1, 1, 1, '1100', '4000', 1, 'USD', 'usage_unbilled', '2026-01-01', 'late')",
    ] {
        sqlx::query(statement).bind(other).execute(&mut *late).await.unwrap();
    }
    let bounds = Bounds { margin: Duration::ZERO, events: 100 };
    for _ in 0..20 {
        books.record(account, &["1"]).await;
        rollups::step(&books.pool, bounds).await.unwrap();
        seals::turn(&books.pool, 3).await.unwrap();
    }
    let sealed = "SELECT count(*) FROM seals, transfers
                  WHERE transfers.account_id = seals.account_id AND idempotency_key = 'late'";
    late.commit().await.unwrap();
    assert_eq!(books.count(sealed).await, 0);
    seal(&books.pool).await;
    assert_eq!(books.count(sealed).await, 1);

    // 22 events, 21 postings, and the late one.
    assert_eq!(chains(&books).await, (22 + 21 + 1, vec![]));
    let total = "SELECT sum(octet_length(entries) / 49)::bigint FROM seals";
    assert_eq!(books.count(total).await, 44);

    // What is slipped in afterwards under an old time is in no block.
    books
        .run(
            "INSERT INTO transfers (account_id, posting, line, debit, credit, amount, currency, kind,
                                    period, posted_at, idempotency_key)
             SELECT account_id, 99, 1, '1100', '4000', 1, 'USD', 'usage_unbilled', '2026-01-01',
                    posted_at, 'forged'
             FROM transfers WHERE idempotency_key = 'late'",
        )
        .await;
    let expected = format!(
        "account {other}: transfers posting 99 line 1: is in no block, though its time is sealed"
    );
    assert_eq!(chains(&books).await.1, [expected]);
}

//! The audit trail: each change leaves one entry with it, each denied attempt one behind it, no entry
//! has a secret, and none can be changed.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use chrono::Utc;
use serde_json::{Value, json};
use sqlx::{PgPool, Row as _, postgres::PgRow};
use tollgate::{
    audit::attempts::PER_CALLER,
    identity::{
        Role,
        permissions::{TABLE, is_audited},
        token::{TokenAuthority, TokenRequest},
    },
    proto::*,
};
use tonic::Code;

use crate::{
    billing::{
        a_seller, close, customer, documents, month, name, net_30, noon, work, world as with_seller,
    },
    harness::{
        server::{TestServer, refusal, secret},
        world::{World, issue, usd},
    },
    permissions::ask,
};

/// How soon an attempt is written.
const SOON: Duration = Duration::from_secs(10);

fn audited() -> BTreeSet<&'static str> {
    TABLE.iter().map(|(rpc, _)| *rpc).filter(|rpc| is_audited(rpc)).collect()
}

async fn entries(pool: &PgPool, after: i64) -> Vec<PgRow> {
    sqlx::query("SELECT * FROM audit_entries WHERE audit_entry > $1 ORDER BY audit_entry")
        .bind(after)
        .fetch_all(pool)
        .await
        .unwrap()
}

async fn last(pool: &PgPool) -> i64 {
    let sql = "SELECT coalesce(max(audit_entry), 0) FROM audit_entries";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// Makes each change twice: the first leaves one entry, the second none, or one where there is no
/// key by which it could be told to be the same.
struct Probe {
    pool: PgPool,
    seen: BTreeSet<&'static str>,
}

impl Probe {
    async fn first(&mut self, rpc: &'static str, before: i64) -> PgRow {
        let mut rows = entries(&self.pool, before).await;
        assert_eq!(rows.len(), 1, "{rpc} left {} entries", rows.len());
        let row = rows.remove(0);
        let text = |column| row.get::<String, _>(column);
        assert!(text("rpc").ends_with(rpc), "{} is not {rpc}", text("rpc"));
        assert_eq!((&*text("code"), &*text("actor")), ("OK", "a test"), "{rpc}");
        assert!(text("peer").starts_with("127.0.0.1:"), "{rpc} came from {:?}", text("peer"));
        assert!(!text("token_id").is_empty() && !text("request_id").is_empty(), "{rpc}");
        assert!(row.get::<Vec<String>, _>("roles").contains(&"operator".to_owned()), "{rpc}");
        assert!(row.get::<Option<Value>, _>("request").is_some(), "{rpc} has no request");
        assert!(row.get::<Option<Value>, _>("answer").is_some(), "{rpc} has no answer");
        let known = audited().into_iter().find(|path| path.ends_with(rpc));
        self.seen.insert(known.unwrap_or_else(|| panic!("{rpc} is not audited")));
        row
    }
}

/// The answer to the first of two calls.
macro_rules! twice {
    ($probe:ident, $rpc:literal, $service:expr, $method:ident, $request:expr) => {{
        let (request, before) = ($request, last(&$probe.pool).await);
        let answer = $service.$method(request.clone()).await.unwrap().into_inner();
        let row = $probe.first(concat!("/", $rpc), before).await;
        let between = last(&$probe.pool).await;
        let again = $service.$method(request).await;
        if row.get::<String, _>("idempotency_key").is_empty() {
            let rows = entries(&$probe.pool, between).await.len();
            assert!(again.is_ok() && rows <= 1, "{} again: {rows} entries", $rpc);
        } else {
            assert!(again.is_ok(), "{} again: {again:?}", $rpc);
            assert_eq!(last(&$probe.pool).await, between, "{} again left an entry", $rpc);
        }
        (answer, row)
    }};
}

fn changes(row: &PgRow) -> Vec<Value> {
    serde_json::from_value(row.get("changes")).unwrap()
}

fn account_of(row: &PgRow) -> Vec<String> {
    row.get::<Vec<uuid::Uuid>, _>("account_ids").iter().map(ToString::to_string).collect()
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one call of each RPC that changes something")]
async fn every_changing_rpc_of_the_contract_leaves_exactly_one_entry_with_its_change() {
    let world = with_seller().await;
    let (client, pool) = (&world.client, world.server.pool());
    let mut probe = Probe { pool: pool.clone(), seen: BTreeSet::new() };
    let key = |name: &str| format!("key of {name}");

    // Accounts and their contracts.
    let request = CreateAccountRequest {
        handle: "acme".to_owned(),
        contract: Some(net_30()),
        idempotency_key: key("create"),
        ..Default::default()
    };
    let (made, row) = twice!(probe, "CreateAccount", client.accounts(), create_account, request);
    let made = made.account.unwrap();
    assert_eq!(account_of(&row), [&*made.account_id]);
    let request = UpdateAccountRequest {
        account: "acme".to_owned(),
        display_name: "Acme, renamed".to_owned(),
        contract: made.contract.clone(),
        version: made.version,
        idempotency_key: key("update"),
    };
    let (_, row) = twice!(probe, "UpdateAccount", client.accounts(), update_account, request);
    let noted = changes(&row);
    let change = noted.iter().find(|change| change["table"] == "accounts").unwrap();
    assert_eq!(change["before"]["display_name"], "acme");
    assert_eq!(change["after"]["display_name"], "Acme, renamed");
    assert_eq!(row.get::<String, _>("target"), "account=acme");
    let (account, reason) = ("acme".to_owned(), "to see".to_owned());
    let request = SuspendAccountRequest {
        account: account.clone(),
        reason: reason.clone(),
        idempotency_key: key("suspend"),
    };
    twice!(probe, "SuspendAccount", client.accounts(), suspend_account, request);
    let request = ResumeAccountRequest {
        account: account.clone(),
        reason: reason.clone(),
        idempotency_key: key("resume"),
    };
    twice!(probe, "ResumeAccount", client.accounts(), resume_account, request);

    // Keys. The second call's answer has no secret any more, and no entry ever had it.
    let request = IssueKeyRequest {
        account: account.clone(),
        name: "one".to_owned(),
        tier: Tier::Standard.into(),
        idempotency_key: key("issue"),
        ..Default::default()
    };
    let (issued, row) = twice!(probe, "IssueKey", client.keys(), issue_key, request);
    assert_eq!(account_of(&row), [&*made.account_id]);
    let key_id = issued.key.unwrap().key_id;
    let request = UpdateKeyRequest {
        key_id: key_id.clone(),
        name: "two".to_owned(),
        idempotency_key: key("update"),
        ..Default::default()
    };
    let (_, row) = twice!(probe, "UpdateKey", client.keys(), update_key, request);
    let noted = &changes(&row)[0];
    assert_eq!((&noted["before"]["name"], &noted["after"]["name"]), (&json!("one"), &json!("two")));
    let request = RotateKeyRequest { key_id, idempotency_key: key("rotate"), ..Default::default() };
    let (rotated, _) = twice!(probe, "RotateKey", client.keys(), rotate_key, request);
    let request = RevokeKeyRequest {
        key_id: rotated.key.unwrap().key_id,
        // Somebody pastes what should be nowhere.
        reason: format!("{} was in a log", rotated.api_key),
        idempotency_key: key("revoke"),
    };
    // The key's own row keeps the reason as it was given; the trail does not.
    let (_, row) = twice!(probe, "RevokeKey", client.keys(), revoke_key, request);
    let request: Value = row.get("request");
    assert_eq!(request["reason"], "[secret] was in a log");
    let request = RevokeLeakedKeysRequest {
        key_hashes: vec![vec![7; 32]],
        reason: reason.clone(),
        idempotency_key: key("leaked"),
    };
    twice!(probe, "RevokeLeakedKeys", client.keys(), revoke_leaked_keys, request);

    // Budgets.
    let request = SetBudgetRequest {
        account: account.clone(),
        period: BudgetPeriod::Day.into(),
        enforcement: BudgetEnforcement::Hard.into(),
        limit: usd("5"),
        idempotency_key: key("budget"),
        ..Default::default()
    };
    let (set, _) = twice!(probe, "SetBudget", client.budgets(), set_budget, request);
    let request = DeleteBudgetRequest {
        account: account.clone(),
        budget_id: set.budget.unwrap().budget_id,
        idempotency_key: key("delete"),
    };
    twice!(probe, "DeleteBudget", client.budgets(), delete_budget, request);

    // Money.
    let top_up = |reference: &str| TopUpRequest {
        account: "acme".to_owned(),
        amount: usd("50"),
        method: PaymentMethod::Visa.into(),
        external_reference: reference.to_owned(),
        idempotency_key: format!("key of {reference}"),
        ..Default::default()
    };
    let (topped, row) = twice!(probe, "TopUp", client.credits(), top_up, top_up("ch_1"));
    assert!(changes(&row).iter().any(|change| change["table"] == "payments"), "{row:?}");
    let request = GrantCreditRequest {
        account: account.clone(),
        amount: usd("3"),
        reason: reason.clone(),
        idempotency_key: key("grant"),
    };
    twice!(probe, "GrantCredit", client.credits(), grant_credit, request);
    let request = WithdrawGrantRequest {
        account: account.clone(),
        amount: usd("3"),
        reason: reason.clone(),
        idempotency_key: key("withdraw"),
    };
    twice!(probe, "WithdrawGrant", client.credits(), withdraw_grant, request);
    let request = RefundRequest {
        account: account.clone(),
        amount: usd("10"),
        method: PaymentMethod::Visa.into(),
        external_reference: "re_1".to_owned(),
        reason: reason.clone(),
        idempotency_key: key("refund"),
    };
    twice!(probe, "Refund", client.credits(), refund, request);
    let request = RecordChargebackRequest {
        account: account.clone(),
        payment_id: topped.payment_id,
        stage: ChargebackStage::Opened.into(),
        external_reference: "dp_1".to_owned(),
        reason: reason.clone(),
        idempotency_key: key("chargeback"),
    };
    let (_, row) = twice!(probe, "RecordChargeback", client.credits(), record_chargeback, request);
    let noted = changes(&row);
    let status = noted.iter().find(|change| change["table"] == "accounts").unwrap();
    assert_eq!(status["after"]["status"], "suspended", "an opened dispute suspends");

    // Invoices.
    let kunde = customer(client, "kunde", net_30()).await;
    let other = customer(client, "other", net_30()).await;
    work(client, &other, noon(month(1), 3), 1_000_000, 0).await.unwrap();
    for (back, day) in [(2, 3), (1, 3), (1, 5)] {
        work(client, &kunde, noon(month(back), day), 1_000_000, 0).await.unwrap();
    }
    let event: uuid::Uuid = sqlx::query_scalar(
        "SELECT event_id FROM usage_events WHERE account_id::text = $1 ORDER BY 1 DESC LIMIT 1",
    )
    .bind(&kunde.account)
    .fetch_one(&pool)
    .await
    .unwrap();
    let request = ReverseUsageRequest {
        account: "kunde".to_owned(),
        event_id: event.to_string(),
        reason: reason.clone(),
        idempotency_key: key("reverse"),
    };
    twice!(probe, "ReverseUsage", client.usage(), reverse_usage, request);
    let request = ClosePeriodRequest { period: name(month(1)), max_accounts: 0 };
    let (_, row) = twice!(probe, "ClosePeriod", client.billing(), close_period, request);
    assert_eq!(row.get::<String, _>("target"), format!("period={}", name(month(1))));
    close(client, month(1)).await;
    let mut invoices = documents(client, "kunde").await;
    invoices.extend(documents(client, "other").await);
    let number = |index: usize| invoices[index].number.clone();
    let request = RecordPaymentRequest {
        account: "kunde".to_owned(),
        amount: usd("4"),
        method: PaymentMethod::Wire.into(),
        external_reference: "wire 1".to_owned(),
        idempotency_key: key("payment"),
        ..Default::default()
    };
    let (paid, _) = twice!(probe, "RecordPayment", client.billing(), record_payment, request);
    let payment = paid.payment.unwrap().payment_id;
    let request = AllocatePaymentRequest {
        payment: payment.clone(),
        allocations: vec![PaymentAllocation {
            invoice: number(0),
            amount: usd("4"),
            withheld: None,
        }],
        idempotency_key: key("allocate"),
        ..Default::default()
    };
    let (_, row) = twice!(probe, "AllocatePayment", client.billing(), allocate_payment, request);
    assert_eq!(account_of(&row), [&*kunde.account], "though neither message names it");
    let request = ReversePaymentRequest {
        payment_id: payment,
        external_reference: "returned".to_owned(),
        reason: reason.clone(),
        idempotency_key: key("return"),
        ..Default::default()
    };
    twice!(probe, "ReversePayment", client.billing(), reverse_payment, request);
    let request = IssueCreditNoteRequest {
        invoice: number(0),
        net: usd("1"),
        reason: reason.clone(),
        idempotency_key: key("note"),
        ..Default::default()
    };
    twice!(probe, "IssueCreditNote", client.billing(), issue_credit_note, request);
    let request = VoidInvoiceRequest {
        invoice: number(1),
        reason: reason.clone(),
        idempotency_key: key("void"),
    };
    twice!(probe, "VoidInvoice", client.billing(), void_invoice, request);
    let request = WriteOffRequest {
        invoice: number(2),
        tax_relief: false,
        reason: reason.clone(),
        idempotency_key: key("write off"),
    };
    twice!(probe, "WriteOff", client.billing(), write_off, request);

    // Leaving.
    let leaving = customer(client, "leaving", net_30()).await;
    work(client, &leaving, Utc::now(), 1_000_000, 0).await.unwrap();
    world.startup("empty", "0").await;
    for account in ["leaving", "empty"] {
        let request = SuspendAccountRequest {
            account: account.to_owned(),
            reason: reason.clone(),
            ..Default::default()
        };
        client.accounts().suspend_account(request).await.unwrap();
    }
    let request =
        IssueFinalInvoiceRequest { account: "leaving".to_owned(), idempotency_key: key("final") };
    twice!(probe, "IssueFinalInvoice", client.billing(), issue_final_invoice, request);
    let request =
        CloseAccountRequest { account: "empty".to_owned(), reason, idempotency_key: key("close") };
    twice!(probe, "CloseAccount", client.accounts(), close_account, request);
    let request = ErasePersonalDataRequest {
        account: "empty".to_owned(),
        reason: "ticket 1".to_owned(),
        idempotency_key: key("erase"),
        ..Default::default()
    };
    twice!(probe, "ErasePersonalData", client.accounts(), erase_personal_data, request);

    // Ourselves, prices, tokens.
    let request = SetSellerRequest { seller: Some(a_seller()), idempotency_key: key("seller") };
    twice!(probe, "SetSeller", client.seller(), set_seller, request);
    let tax_rate = TaxRate {
        jurisdiction: "DE".to_owned(),
        effective_from: "2020-01-01".to_owned(),
        rate_percent: "19".to_owned(),
        label: "VAT".to_owned(),
        due_on_payment: false,
    };
    let request = SetTaxRateRequest { tax_rate: Some(tax_rate), idempotency_key: key("tax rate") };
    twice!(probe, "SetTaxRate", client.seller(), set_tax_rate, request);
    let request = PublishPricesRequest {
        models: vec![Model { name: "test/new".to_owned(), ..Model::default() }],
        idempotency_key: key("prices"),
        ..Default::default()
    };
    twice!(probe, "PublishPrices", client.catalog(), publish_prices, request);
    let request =
        RevokeTokenRequest { token_id: "another".to_owned(), ..RevokeTokenRequest::default() };
    twice!(probe, "RevokeToken", client.tokens(), revoke_token, request);

    assert_eq!(probe.seen, audited(), "an RPC that changes something has no probe here");
    for api_key in [issued.api_key, rotated.api_key] {
        let found: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM audit_entries AS entry WHERE entry::text LIKE '%' || $1 || '%'",
        )
        .bind(&api_key)
        .fetch_one(&pool)
        .await
        .unwrap();
        assert!(found == 0 && api_key.starts_with("ga_sk_"), "a key is in {found} entries");
    }
}

fn token_of(subject: &str, role: Role) -> String {
    let request = TokenRequest {
        subject: subject.to_owned(),
        roles: vec![role],
        account: None,
        lifetime: Duration::from_mins(10),
    };
    TokenAuthority::new(&secret()).mint(&request).unwrap()
}

/// The entries of somebody, once there are so many.
async fn of_actor(pool: &PgPool, actor: &str, wanted: usize) -> Vec<PgRow> {
    let deadline = Instant::now() + SOON;
    loop {
        let rows = sqlx::query("SELECT * FROM audit_entries WHERE actor = $1 ORDER BY 1")
            .bind(actor)
            .fetch_all(pool)
            .await
            .unwrap();
        if rows.len() >= wanted || Instant::now() > deadline {
            assert_eq!(rows.len(), wanted, "entries of {actor:?}");
            return rows;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn every_denied_attempt_at_a_change_leaves_one_entry_and_a_read_none() {
    let server = TestServer::start().await;
    let pool = server.pool();
    for (rpc, roles) in TABLE {
        if roles.contains(&Role::Auditor) {
            continue;
        }
        ask(&server, rpc, &token_of(rpc, Role::Auditor)).await.unwrap_err();
        if is_audited(rpc) {
            let row = &of_actor(&pool, rpc, 1).await[0];
            let text = |column| row.get::<String, _>(column);
            assert_eq!((&*text("rpc"), &*text("code")), (*rpc, "PERMISSION_DENIED"));
            assert_eq!(text("reason"), "ROLE_NOT_ALLOWED");
            assert_eq!(row.get::<Vec<String>, _>("roles"), ["auditor"]);
        }
    }
    // A stranger, of whom nothing is known but the address; and reads, of which nothing is kept.
    ask(&server, "/tollgate.v1.CreditService/TopUp", "no.token.atall").await.unwrap_err();
    let row = &of_actor(&pool, "", 1).await[0];
    assert_eq!(row.get::<String, _>("code"), "UNAUTHENTICATED");
    server.auditor().await.accounts().list_accounts(ListAccountsRequest::default()).await.unwrap();
    server.drain().await.unwrap();
    let written: i64 =
        sqlx::query_scalar("SELECT count(*) FROM audit_entries").fetch_one(&pool).await.unwrap();
    assert_eq!(written, i64::try_from(audited().len()).unwrap() + 1);
}

#[tokio::test]
async fn a_failed_attempt_says_what_was_tried_and_why_it_failed_and_a_flood_is_counted() {
    let world = World::start().await;
    world.startup("acme", "0").await;
    let pool = world.server.pool();
    let operator = world.server.with_token(&token_of("bob", Role::Operator)).await;
    let request = UpdateAccountRequest {
        account: "acme".to_owned(),
        display_name: "ga_sk_0123456789abcdefXYZ".to_owned(),
        idempotency_key: "once".to_owned(),
        ..UpdateAccountRequest::default()
    };
    let refused = operator.accounts().update_account(request.clone()).await.unwrap_err();
    let row = &of_actor(&pool, "bob", 1).await[0];
    let text = |column| row.get::<String, _>(column);
    let (code, reason, _) = refusal(&refused);
    assert_eq!(
        (code, &*text("code"), text("reason")),
        (Code::InvalidArgument, "INVALID_ARGUMENT", reason)
    );
    assert_eq!((&*text("target"), &*text("idempotency_key")), ("account=acme", "once"));
    assert_eq!(row.get::<Value, _>("request")["display_name"], "[secret]");
    assert_eq!(account_of(row).len(), 1, "the handle was looked up");
    assert_eq!(changes(row), Vec::<Value>::new());

    let written = usize::try_from(PER_CALLER).unwrap();
    for _ in 0..2 * written {
        operator.accounts().update_account(request.clone()).await.unwrap_err();
    }
    of_actor(&pool, "bob", written).await;
    // What was suppressed is told at the end of the minute, or of the server.
    world.server.drain().await.unwrap();
    let rows = of_actor(&pool, "bob", written + 1).await;
    let suppressed: i64 = rows.iter().map(|row| row.get::<i64, _>("suppressed")).sum();
    assert_eq!(suppressed, PER_CALLER + 1);
}

#[tokio::test]
async fn the_trail_is_append_only_and_listed_by_filters_page_by_page() {
    let world = World::start().await;
    world.startup("acme", "10").await;
    world.startup("other", "0").await;
    issue(&world.client, "acme", Tier::Standard, KeyLimits::default()).await;
    let pool = world.server.pool();
    for change in [
        "UPDATE audit_entries SET actor = 'nobody'",
        "DELETE FROM audit_entries",
        "TRUNCATE audit_entries",
    ] {
        assert!(sqlx::query(change).execute(&pool).await.is_err(), "{change} was done");
    }
    let auditor = world.server.auditor().await;
    let list = |request: ListAuditEntriesRequest| {
        let auditor = &auditor;
        async move { auditor.audit().list_audit_entries(request).await.unwrap().into_inner() }
    };
    let methods = |page: &ListAuditEntriesResponse| -> Vec<String> {
        let method = |entry: &AuditEntry| entry.rpc.rsplit('/').next().unwrap().to_owned();
        page.entries.iter().map(method).collect()
    };
    let of_acme = || ListAuditEntriesRequest { account: "acme".to_owned(), ..Default::default() };
    assert_eq!(methods(&list(of_acme()).await), ["IssueKey", "TopUp", "CreateAccount"]);
    let first = list(ListAuditEntriesRequest { page_size: 2, ..of_acme() }).await;
    assert_eq!(methods(&first), ["IssueKey", "TopUp"]);
    let page_token = first.next_page_token;
    let rest = list(ListAuditEntriesRequest { page_size: 2, page_token, ..of_acme() }).await;
    assert_eq!((methods(&rest), &*rest.next_page_token), (vec!["CreateAccount".to_owned()], ""));

    let everything = list(ListAuditEntriesRequest::default()).await.entries;
    assert_eq!(everything.len(), 5);
    let moment = everything[2].recorded_at;
    let all = ListAuditEntriesRequest::default;
    for (request, expected) in [
        (ListAuditEntriesRequest { rpc: "CreateAccount".to_owned(), ..all() }, 2),
        (ListAuditEntriesRequest { rpc: everything[0].rpc.clone(), ..all() }, 1),
        (ListAuditEntriesRequest { actor: "a test".to_owned(), ..all() }, 5),
        (ListAuditEntriesRequest { actor: "nobody".to_owned(), ..all() }, 0),
        (ListAuditEntriesRequest { result: "OK".to_owned(), ..all() }, 5),
        (ListAuditEntriesRequest { result: "ABORTED".to_owned(), ..all() }, 0),
        (ListAuditEntriesRequest { from: moment, ..all() }, 3),
        (ListAuditEntriesRequest { until: moment, ..all() }, 2),
    ] {
        let found = list(request.clone()).await.entries.len();
        assert_eq!(found, expected, "{request:?}");
    }
    let unknown = ListAuditEntriesRequest { account: "nobody".to_owned(), ..all() };
    let refused = auditor.audit().list_audit_entries(unknown).await.unwrap_err();
    assert_eq!(refusal(&refused).1, "ACCOUNT_NOT_FOUND");
}

//! Personal data: what is stored about somebody can be given out whole and erased, everywhere in the
//! database, and the books stay as they were.

use std::{collections::BTreeSet, time::Duration};

use sqlx::{PgPool, Row as _};
use tollgate::{
    ids::AccountId,
    personal_data::{
        erasure::{self, Progress, Subject},
        retention,
    },
    proto::{
        Address, AuthorizeRequest, Contract, Dialect, ErasePersonalDataRequest,
        ErasePersonalDataResponse, ExportFormat, ExportPersonalDataRequest, IssueKeyRequest,
        ProviderUsage, RecordUsageRequest, Tier,
        record_usage_request::{Source, Usage},
    },
};
use tonic::Code;

use crate::{
    billing::{close, customer, documents, export, month, net_30, noon, work, world},
    harness::{
        books::{roll_up, seal},
        server::refusal,
        world::{World, create, request},
    },
};

/// In every free text; nothing else in the database has it.
const MARK: &str = "zzmarkzz";

/// Every column of texts, JSON or bytes in which a mark is, as `table.column`.
async fn places(pool: &PgPool, mark: &str) -> BTreeSet<String> {
    let columns = sqlx::query(
        "SELECT class.relname AS name, attname::text AS field
         FROM pg_attribute
         JOIN pg_class AS class ON class.oid = attrelid
         JOIN pg_type ON pg_type.oid = atttypid
         WHERE class.relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
           AND NOT relispartition AND attnum > 0 AND NOT attisdropped
           AND typname IN ('text', 'varchar', 'json', 'jsonb', 'bytea', '_text')",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(columns.len() > 50, "only {} columns", columns.len());
    let mut found = BTreeSet::new();
    for column in columns {
        let (table, field): (String, String) = (column.get("name"), column.get("field"));
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {table}
                            WHERE {field}::text LIKE '%{mark}%'
                               OR {field}::text LIKE '%' || encode('{mark}', 'hex') || '%')"
        );
        if sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap() {
            found.insert(format!("{table}.{field}"));
        }
    }
    found
}

fn marked(what: &str) -> String {
    format!("{what} {MARK}")
}

/// Usage with an end user, a label and the provider's own object.
async fn use_as(world: &World, key: &str, end_user: &str, mark: &str) {
    let asked = AuthorizeRequest {
        end_user: end_user.to_owned(),
        labels: [("team".to_owned(), format!("label {mark}"))].into(),
        request_id: format!("request-{mark}"),
        ..request(key, 10)
    };
    let grant = world.granted(&asked).await;
    let usage = ProviderUsage {
        dialect: Dialect::Openai.into(),
        json: format!(r#"{{"prompt_tokens": 10, "completion_tokens": 5, "id": "{mark}"}}"#),
    };
    let record = RecordUsageRequest {
        source: Some(Source::Token(grant.token)),
        usage: Some(Usage::ProviderUsage(usage)),
        region: "eu-central-1".to_owned(),
        provider: "openai".to_owned(),
        ..RecordUsageRequest::default()
    };
    world.client.usage().record_usage(record).await.unwrap();
}

async fn erase(world: &World, end_user: &str) -> ErasePersonalDataResponse {
    let request = ErasePersonalDataRequest {
        account: "acme".to_owned(),
        end_user: end_user.to_owned(),
        reason: "ticket 1".to_owned(),
        ..Default::default()
    };
    world.client.accounts().erase_personal_data(request).await.unwrap().into_inner()
}

async fn export(world: &World, end_user: &str) -> String {
    let request =
        ExportPersonalDataRequest { account: "acme".to_owned(), end_user: end_user.to_owned() };
    let mut pieces =
        world.client.accounts().export_personal_data(request).await.unwrap().into_inner();
    let mut text = String::new();
    while let Some(piece) = pieces.message().await.unwrap() {
        text.push_str(&piece.text);
    }
    for line in text.lines() {
        let _: serde_json::Value = serde_json::from_str(line).unwrap();
    }
    assert!(text.lines().last().unwrap().contains(r#""kind":"end""#), "{text}");
    text
}

/// All that must stay; what servers lease comes and goes.
async fn books(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT transfers::text FROM transfers UNION ALL
         SELECT (promotional, credits, overdrawn, unbilled, receivable, unapplied, posting)::text
         FROM account_funds
         UNION ALL SELECT usage_events::text FROM usage_events
         UNION ALL SELECT billing_documents::text FROM billing_documents
         UNION ALL SELECT seals::text FROM seals ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

async fn details(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM usage_details").fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn what_is_erased_is_nowhere_in_the_database_and_the_books_are_as_they_were() {
    let world = world().await;
    let (client, pool) = (&world.client, world.server.pool());
    let contract = Contract {
        legal_name: marked("Acme"),
        address: Some(Address {
            line_1: marked("Street"),
            line_2: marked("Floor"),
            city: marked("City"),
            postal_code: MARK.to_owned(),
            subdivision: marked("State"),
            country_code: "DE".to_owned(),
        }),
        registration_id: marked("HRA"),
        tax_id: marked("DE"),
        purchase_order: marked("PO"),
        cost_centre: marked("CC"),
        accounts_payable_email: format!("{MARK}@example.com"),
        ..net_30()
    };
    let acme = customer(client, "acme", contract).await;
    let issue = IssueKeyRequest {
        account: "acme".to_owned(),
        name: marked("key of Jane"),
        tier: Tier::Standard.into(),
        idempotency_key: "issue".to_owned(),
        ..Default::default()
    };
    let issued = client.keys().issue_key(issue.clone()).await.unwrap().into_inner();
    work(client, &acme, noon(month(1), 3), 1_000_000, 0).await.unwrap();
    close(client, month(1)).await;
    let [invoice] = &documents(client, "acme").await[..] else { panic!("not one invoice") };
    let printed = pages(&world, &invoice.number).await;
    use_as(&world, &issued.api_key, &marked("jane"), MARK).await;
    use_as(&world, &issued.api_key, "bob", "plain").await;
    sqlx::query(
        "INSERT INTO quarantined_usage (quarantine_id, account_id, event_id, event, error)
         SELECT gen_random_uuid(), account_id, gen_random_uuid(),
                jsonb_build_object('end_user', 'jane zzmarkzz', 'labels', '{\"a\": \"zzmarkzz\"}'::jsonb,
                                   'charge', '1'), 'bad value zzmarkzz'
         FROM accounts WHERE handle = 'acme'",
    )
    .execute(&pool)
    .await
    .unwrap();
    roll_up(&pool).await;
    seal(&pool).await;
    world.verify().await;
    let before = books(&pool).await;
    assert_eq!(details(&pool).await, 2);

    // All of it is given out.
    let all = export(&world, "").await;
    for what in [
        "Acme ",
        "Street ",
        "Floor ",
        "City ",
        "State ",
        "HRA ",
        "PO ",
        "CC ",
        "key of Jane ",
        "jane ",
        "label ",
        "bad value ",
    ] {
        assert!(all.contains(&format!("{what}{MARK}")), "{what} is not in {all}");
    }
    assert!(all.contains("eu-central-1") && all.contains("audit_entry"), "{all}");
    assert!(export(&world, "bob").await.lines().all(|line| !line.contains(MARK)));

    // One person first: the other stays, and the trail does not say who it was.
    let one = erase(&world, &marked("jane")).await;
    assert!(one.done && one.erased.iter().any(|sum| sum.place == "usage_details"), "{one:?}");
    assert_eq!(details(&pool).await, 1);
    assert!(export(&world, "bob").await.contains(r#""end_user": "bob""#));
    let left = places(&pool, &marked("jane")).await;
    assert!(left.is_empty(), "{left:?}");

    // Then all of an account that is open: what its invoices need stays on its row, and nowhere else.
    let answer = erase(&world, "").await;
    assert!(answer.done && !answer.kept.is_empty(), "{answer:?}");
    assert_eq!(details(&pool).await, 0);
    let row: BTreeSet<String> = [
        "legal_name",
        "address_line_1",
        "address_line_2",
        "city",
        "postal_code",
        "subdivision",
        "registration_id",
        "tax_id",
        "purchase_order",
        "cost_centre",
    ]
    .iter()
    .map(|column| format!("accounts.{column}"))
    .collect();
    let documents_alone =
        BTreeSet::from(["billing_documents.content", "usage_events.request_id"].map(str::to_owned));
    let kept: BTreeSet<String> = row.union(&documents_alone).cloned().collect();
    assert_eq!(places(&pool, MARK).await, kept);

    // Once it is closed, only what was issued is left, and the gateway's ids of requests.
    sqlx::query("UPDATE accounts SET status = 'closed' WHERE handle = 'acme'")
        .execute(&pool)
        .await
        .unwrap();
    erase(&world, "").await;
    assert_eq!(places(&pool, MARK).await, documents_alone);
    assert_eq!(books(&pool).await, before);
    assert!(pages(&world, &invoice.number).await == printed, "an issued invoice looks different");
    world.verify().await;
    let again = erase(&world, "").await;
    assert!(again.done && again.erased.is_empty(), "{again:?}");

    // A repeated call is told that it was made.
    let repeated = client.keys().issue_key(issue).await.unwrap_err();
    let expected =
        (Code::AlreadyExists, "IDEMPOTENCY_ANSWER_ERASED".to_owned(), "idempotency_key".to_owned());
    assert_eq!(refusal(&repeated), expected);
}

/// An issued invoice as it is sent, in every format.
async fn pages(world: &World, number: &str) -> Vec<Vec<u8>> {
    let mut pages = Vec::new();
    for format in [ExportFormat::Pdf, ExportFormat::Csv, ExportFormat::Json] {
        pages.push(
            export::export(&world.client, export::invoice(number), format).await.unwrap().bytes,
        );
    }
    pages
}

#[tokio::test]
async fn an_erasure_that_is_cut_short_goes_on_where_it_came_to() {
    let world = World::start().await;
    world.startup("acme", "10").await;
    let key = world.key("acme").await;
    for person in ["jane", "bob", "jane"] {
        use_as(&world, &key, person, "plain").await;
    }
    let pool = world.server.pool();
    let id: AccountId = sqlx::query_scalar("SELECT account_id FROM accounts WHERE handle = 'acme'")
        .fetch_one(&pool)
        .await
        .unwrap();
    for (end_user, erased, left) in [("jane", 2, 1), ("", 1, 0)] {
        let subject = Subject::new(id, end_user.to_owned()).unwrap();
        let (mut next, mut steps, mut rows) = (Some(Progress::BEGINNING), 0, 0);
        while let Some(from) = next {
            let swept = erasure::sweep(&pool, &subject, from, Duration::ZERO).await.unwrap();
            let of_details = swept.erased.iter().filter(|sum| sum.place == "usage_details");
            rows += of_details.map(|sum| sum.rows).sum::<u64>();
            (next, steps) = (swept.next, steps + 1);
        }
        assert!(steps > 2, "{steps} steps");
        assert_eq!((rows, details(&pool).await), (erased, left));
    }
    world.verify().await;
}

#[tokio::test]
async fn an_entry_of_the_trail_can_lose_its_texts_and_nothing_else() {
    let world = World::start().await;
    create(&world.client, "acme", Contract::default()).await;
    let pool = world.server.pool();
    for change in [
        "actor = 'nobody'",
        "request = NULL",
        "changes = '[]'",
        "request = request || '{\"handle\": \"[erased]\"}'",
        "erased_at = now()",
        "request = erase_fields(request), code = 'NOT_FOUND'",
    ] {
        let sql = format!("UPDATE audit_entries SET {change} WHERE rpc LIKE '%CreateAccount'");
        let refused = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "23001", "{change}");
    }
    let sql =
        "UPDATE audit_entries SET request = erase_fields(request) WHERE rpc LIKE '%CreateAccount'";
    assert_eq!(sqlx::query(sql).execute(&pool).await.unwrap().rows_affected(), 1);
}

#[tokio::test]
async fn details_go_when_their_time_is_over_and_the_chains_hold() {
    let world = world().await;
    let (client, pool) = (&world.client, world.server.pool());
    let acme = customer(client, "acme", net_30()).await;
    let other = customer(client, "other", net_30()).await;
    for customer in [&acme, &other] {
        work(client, customer, noon(month(1), 3), 1_000, 0).await.unwrap();
    }
    sqlx::query(
        "INSERT INTO usage_details (account_id, event_id, end_user)
         SELECT account_id, event_id, 'jane' FROM usage_events",
    )
    .execute(&pool)
    .await
    .unwrap();
    seal(&pool).await;
    // Neither server nor account says anything.
    assert_eq!(retention::step(&pool, None, None).await.unwrap().erased, 0);
    assert_eq!(retention::step(&pool, None, Some(3650)).await.unwrap().erased, 0);
    sqlx::query("UPDATE accounts SET details_retention_days = 1 WHERE handle = 'acme'")
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(retention::step(&pool, None, Some(3650)).await.unwrap().erased, 1);
    assert_eq!(details(&pool).await, 1);
    let last = retention::step(&pool, None, Some(1)).await.unwrap();
    assert_eq!(last.erased, 1);
    assert_eq!(retention::step(&pool, last.next, Some(1)).await.unwrap().next, None);
    world.verify().await;
}

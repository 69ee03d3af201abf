//! A database that the first release made and filled, with the current program on it: everything is as it
//! was, the books prove right, and business goes on. `upgrade/README.md` says how it was made.

use std::fmt::Write as _;

use rust_decimal::Decimal;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, postgres::PgConnectOptions};
use tollgate::{
    cli::client::Client,
    database::migrate::newest_known,
    proto::{AuthorizeRequest, ExportFormat, authorize_response::Decision},
};

use crate::{
    billing::{
        close, documents,
        export::{export, invoice},
    },
    cli::Shell,
    harness::{
        books::{roll_up, seal},
        postgres::shared_cluster,
        server::TestServer,
        world::{all_roles, authorize, decimal, record, verify},
    },
};

const DUMP: &str = include_str!("upgrade/before.sql");
const FACTS: &str = include_str!("upgrade/before.json");

/// A database with the dump in it, as the first release left it.
async fn restored() -> PgConnectOptions {
    let cluster = shared_cluster();
    let name = format!("upgrade_{}", uuid::Uuid::now_v7().simple());
    let mut server = cluster.connect_options("postgres").connect().await.unwrap();
    let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::raw_sql(create).execute(&mut server).await.unwrap();
    let database = cluster.connect_options(&name);
    let mut session = database.connect().await.unwrap();
    sqlx::raw_sql(DUMP).execute(&mut session).await.unwrap();
    let newest: i64 = sqlx::query_scalar("SELECT max(version) FROM public._sqlx_migrations")
        .fetch_one(&mut session)
        .await
        .unwrap();
    assert!(newest < newest_known(), "nothing is left to migrate from {newest} on");
    session.close().await.unwrap();
    database
}

/// Whether all that the first release said of a row is still said of it; of what it said nothing, the
/// current one may.
fn is_within(before: &Value, after: &Value) -> bool {
    let before = before.as_object().unwrap();
    before.iter().all(|(name, value)| value.is_null() || after.get(name) == Some(value))
}

#[track_caller]
fn assert_all_within(before: &Value, after: &Value) {
    let (before, after) = (before.as_array().unwrap(), after.as_array().unwrap());
    assert!(!before.is_empty());
    assert_eq!(before.len(), after.len());
    for row in before {
        assert!(after.iter().any(|other| is_within(row, other)), "{row:#} is not in {after:#?}");
    }
}

/// What servers hold of an account is not a fact of its books.
fn balances(mut shown: Value) -> Value {
    for balance in shown.as_array_mut().unwrap() {
        let leased = balance.as_object_mut().unwrap();
        leased.remove("leased");
        leased.remove("available");
    }
    shown
}

/// A request of the key that the first release issued, served and charged.
async fn one_request(client: &Client, api_key: &str) -> Decimal {
    let request = AuthorizeRequest {
        api_key: api_key.to_owned(),
        model: "acme/parrot".to_owned(),
        input_tokens: 1_000,
        max_output_tokens: Some(100),
        ..AuthorizeRequest::default()
    };
    let Decision::Grant(grant) = authorize(client, &request).await.unwrap() else {
        panic!("the key of the first release is denied");
    };
    let recorded = record(client, &grant.token, 1_000, 100).await.unwrap();
    decimal(recorded.charged.as_ref())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_first_release_is_migrated_with_everything_as_it_was() {
    let facts: Value = serde_json::from_str(FACTS).unwrap();
    let server = TestServer::start_on(restored().await).await;
    let (client, shell) = (all_roles(&server).await, Shell::of(&server));
    let accounts = ["startup", "enterprise", "hybrid"];

    let shown = shell.json(&[&["balance"][..], &accounts].concat()).await;
    assert_all_within(&balances(facts["balances"].clone()), &balances(shown));
    let mut usage = Vec::new();
    for account in accounts {
        let listed = shell.json(&["usage", "list", account, "--all"]).await;
        usage.extend(listed.as_array().unwrap().clone());
    }
    assert_all_within(&facts["usage"], &Value::Array(usage));
    let listed = shell.json(&["invoice", "list", "--all"]).await;
    assert_all_within(&facts["documents"], &listed);
    let exports = facts["exports"].as_array().unwrap();
    assert!(exports.len() > 10, "{exports:?}");
    for before in exports {
        let format = match before["format"].as_str().unwrap() {
            "json" => ExportFormat::Json,
            "csv" => ExportFormat::Csv,
            "ubl" => ExportFormat::Ubl,
            "cii" => ExportFormat::Cii,
            _ => ExportFormat::Pdf,
        };
        let document = invoice(before["document"].as_str().unwrap());
        let bytes = export(&client, document, format).await.unwrap().bytes;
        let digest = Sha256::digest(&bytes).iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        assert_eq!(before["sha256"], digest, "{before} has other bytes now");
    }
    verify(&client).await;

    let charged = one_request(&client, facts["api_key"].as_str().unwrap()).await;
    assert_eq!(charged, "0.00325".parse().unwrap(), "1.25 and 10 a million, 0.001 a request");
    let before = documents(&client, "enterprise").await.len();
    close(&client, format!("{}-01", facts["open"].as_str().unwrap()).parse().unwrap()).await;
    let after = documents(&client, "enterprise").await;
    assert_eq!(after.len(), before + 1, "the next month is invoiced");
    let pool = server.pool();
    roll_up(&pool).await;
    seal(&pool).await;
    verify(&client).await;
    server.drain().await.unwrap();
}

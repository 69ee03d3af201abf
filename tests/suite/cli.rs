//! The command line, as the real program: what it prints, what it says when something is wrong,
//! and the exit codes that scripts rely on.

mod replay;

use std::{
    io::Write as _,
    path::Path,
    process::{Output, Stdio},
};

use serde_json::Value;
use tokio::process::Command;
use tollgate::{accounts::key::ApiKey, identity::Role};

use crate::harness::{
    postgres::TOLLGATE,
    server::{TestServer, token},
};

/// The local operator, who has every role but the tenant's.
const OPERATOR: [Role; 4] = [Role::Operator, Role::Gateway, Role::Finance, Role::Auditor];

/// Commands against one server.
pub(crate) struct Shell {
    endpoint: String,
    token: String,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// What it printed, if it succeeded.
    #[track_caller]
    fn succeeded(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.out
    }

    /// What it said, if it failed with this code.
    #[track_caller]
    fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:#?}");
        self.err
    }
}

impl Shell {
    /// As the operator of this server.
    pub(crate) fn of(server: &TestServer) -> Self {
        Self::at(&server.endpoint(), &token(&OPERATOR, None))
    }

    pub(crate) fn at(endpoint: &str, token: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), token: token.to_owned() }
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, Stdio::null()).await
    }

    /// What it wrote, byte for byte.
    pub(crate) async fn bytes(&self, args: &[&str]) -> Vec<u8> {
        self.output(args, Stdio::null()).await.stdout
    }

    async fn run_with(&self, args: &[&str], input: Stdio) -> Ran {
        let output = self.output(args, input).await;
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    async fn output(&self, args: &[&str], input: Stdio) -> Output {
        let mut command = Command::new(TOLLGATE);
        command.args(args).stdin(input).kill_on_drop(true);
        for name in ["TOLLGATE_DATA_DIR", "TOLLGATE_API_KEY", "COLUMNS"] {
            command.env_remove(name);
        }
        command.env("TOLLGATE_ENDPOINT", &self.endpoint).env("TOLLGATE_TOKEN", &self.token);
        command.output().await.unwrap()
    }

    /// The answer as JSON.
    pub(crate) async fn json(&self, args: &[&str]) -> Value {
        let args = [args, &["--output", "json"]].concat();
        serde_json::from_str(&self.run(&args).await.succeeded()).unwrap()
    }

    /// A prepaid account with a key and funds, and the shipped prices; returns the key.
    pub(crate) async fn customer(&self, handle: &str, funds: &str) -> String {
        self.run(&["model", "import", "--shipped"]).await.succeeded();
        self.run(&["account", "create", handle]).await.succeeded();
        let reference = format!("ch_{handle}");
        let top_up = ["credit", "top-up", handle, funds, "--method", "visa", "--reference"];
        self.run(&[&top_up[..], &[&reference]].concat()).await.succeeded();
        let key = self.json(&["key", "issue", handle, "--name", "production"]).await;
        key["api_key"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_printed_for_people_programs_and_spreadsheets() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    shell.run(&["account", "create", "acme", "--name", "Acme Inc."]).await.succeeded();
    let formula = ["account", "create", "zeta", "--name", "=HYPERLINK(\"x\")", "--currency", "EUR"];
    shell.run(&formula).await.succeeded();

    let people = shell.run(&["account", "list"]).await.succeeded();
    assert!(people.starts_with("HANDLE"), "{people}");
    assert!(people.contains("Acme Inc.") && !people.contains('\u{1b}'), "{people}");

    let json = shell.json(&["account", "list"]).await;
    assert_eq!(json[0]["handle"], "acme");
    assert_eq!(json[1]["name"], "=HYPERLINK(\"x\")");
    assert_eq!(json[1]["currency"], "EUR");

    let csv = shell.run(&["account", "list", "--output", "csv"]).await.succeeded();
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().starts_with("handle,name,status,terms,currency,"), "{csv}");
    assert!(lines.next().unwrap().starts_with("acme,Acme Inc.,active,prepaid,USD,"), "{csv}");
    assert!(lines.next().unwrap().starts_with("zeta,\"'=HYPERLINK(\"\"x\"\")\","), "{csv}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amount_keeps_its_currency_and_every_decimal_in_each_format() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    shell.customer("acme", "1234.000001").await;

    let people = shell.run(&["balance", "acme"]).await.succeeded();
    assert!(people.contains("$1,234.000001"), "{people}");
    let json = shell.json(&["balance", "acme"]).await;
    assert_eq!(json["credits"]["currency_code"], "USD");
    let credits: rust_decimal::Decimal =
        json["credits"]["amount"].as_str().unwrap().parse().unwrap();
    assert_eq!(credits, "1234.000001".parse().unwrap());
    let csv = shell.run(&["balance", "acme", "--output", "csv"]).await.succeeded();
    assert!(csv.contains(",credits,credits_currency,"), "{csv}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_says_what_is_wrong_where_and_what_to_do() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);

    let unknown = shell.run(&["account", "show", "nobody"]).await.failed(1);
    assert!(unknown.starts_with("error: "), "{unknown}");
    assert!(unknown.contains("field:  account"), "{unknown}");
    assert!(unknown.contains("reason: ACCOUNT_NOT_FOUND"), "{unknown}");

    let malformed = shell.run(&["account", "create", "7up"]).await.failed(64);
    assert!(malformed.contains("field:  handle"), "{malformed}");

    shell.run(&["account", "create", "acme"]).await.succeeded();
    let taken = shell.run(&["account", "create", "acme"]).await.failed(1);
    assert!(taken.contains("acme"), "{taken}");

    // What is wrong on its face is told before anything is sent.
    let amount = ["credit", "top-up", "acme", "1e3", "--method", "visa", "--reference", "x"];
    let amount = shell.run(&amount).await.failed(64);
    assert!(amount.contains("write it like 12.50"), "{amount}");
    shell.run(&["acount"]).await.failed(64);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_so_and_who_finds_nobody_is_told_how_to_start() {
    let server = TestServer::start().await;

    let gateway = Shell::at(&server.endpoint(), &token(&[Role::Gateway], None));
    let refused = gateway.run(&["account", "list"]).await.failed(77);
    assert!(refused.contains("tollgate token"), "{refused}");

    let stranger = Shell::at(&server.endpoint(), "not.a.token");
    let refused = stranger.run(&["account", "list"]).await.failed(77);
    assert!(refused.contains("--token"), "{refused}");

    let nowhere = Shell::at("http://127.0.0.1:9", "x");
    let refused = nowhere.run(&["account", "list"]).await.failed(69);
    assert!(refused.contains("tollgate serve") && refused.contains("--endpoint"), "{refused}");

    let in_vain = ["account", "list", "--tls-authority", "/nowhere.pem"];
    let refused = nowhere.run(&in_vain).await.failed(64);
    assert!(refused.contains("https://"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_is_listed_and_let_in_no_more() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    let leaked = token(&[Role::Operator], None);
    let thief = Shell::at(&server.endpoint(), &leaked);
    thief.run(&["account", "list"]).await.succeeded();

    let revoked = shell.json(&["token", "revoke", &leaked, "--reason", "found in a log"]).await;
    let refused = thief.run(&["account", "list"]).await.failed(77);
    assert!(refused.contains("was revoked"), "{refused}");
    let listed = shell.json(&["token", "list-revoked"]).await;
    assert_eq!(listed[0]["token_id"], revoked["token_id"]);
    assert_eq!(listed[0]["reason"], "found in a log");
    assert_ne!(listed[0]["expires_at"], serde_json::Value::Null);

    let refused = shell.run(&["token", "revoke", "nonsense"]).await.failed(64);
    assert!(refused.contains("--id"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_trail_is_short_for_people_and_whole_for_programs() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    shell.run(&["account", "create", "acme"]).await.succeeded();
    let listed =
        shell.json(&["audit", "list", "--account", "acme", "--rpc", "CreateAccount"]).await;
    assert_eq!(listed[0]["rpc"], "/tollgate.v1.AccountService/CreateAccount");
    assert_eq!(listed[0]["result"], "OK");
    assert_eq!(listed[0]["request"]["handle"], "acme");
    let changes = listed[0]["changes"].as_array().unwrap();
    assert!(changes.iter().any(|change| change["after"]["handle"] == "acme"), "{changes:?}");
    let shown = shell.run(&["audit", "list", "--from", "1h"]).await.succeeded();
    assert!(shown.contains("CreateAccount") && shown.contains("handle=acme"), "{shown}");
    assert!(!shown.contains("display_name"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_found_in_a_file_are_dead_at_once_and_are_not_sent() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    let leaked = shell.customer("acme", "5").await;
    let issue = ["key", "issue", "acme", "--name"];
    let also = shell.json(&[&issue[..], &["also", "--tier", "pro"]].concat()).await;
    let kept = shell.json(&[&issue[..], &["kept"]].concat()).await;
    let foreign = ApiKey::generate(tollgate::accounts::key::Tier::Standard).unwrap();

    let mut file = tempfile::NamedTempFile::new().unwrap();
    let cut = &kept["api_key"].as_str().unwrap()[..40];
    write!(file, "KEY={leaked};{leaked}\n{{\"x\":\"{}\"}}", also["api_key"].as_str().unwrap())
        .unwrap();
    write!(file, "{cut}, {}", foreign.reveal()).unwrap();
    file.write_all(b"\xff\xfe").unwrap();
    let path = file.path().to_str().unwrap();
    let revoke = ["key", "revoke-leaked", path, "--reason", "in public"];
    let ran = shell.run(&revoke).await;
    assert!(ran.err.contains("of 3 well-formed keys") && ran.err.contains(" 1 were"), "{ran:?}");
    assert!(!ran.succeeded().contains(&leaked));

    let listed = shell.json(&["key", "list", "acme"]).await;
    let statuses: Vec<_> = listed.as_array().unwrap().iter().map(|key| &key["status"]).collect();
    assert_eq!(statuses, ["revoked", "revoked", "active"]);
    let again = shell.json(&revoke).await;
    assert!(again.as_array().unwrap().iter().all(|key| key["revoked_before"] == true), "{again}");
    let gateway = Shell::at(&server.endpoint(), &token(&[Role::Gateway], None));
    gateway.run(&revoke).await.failed(77);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_and_an_update_changes_only_what_is_named() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    let key = shell.customer("acme", "5").await;
    shell.run(&["key", "check", &key]).await.succeeded();
    let cut = shell.run(&["key", "check", key.get(..20).unwrap()]).await.failed(1);
    assert!(cut.contains("characters"), "{cut}");
    assert!(!cut.contains(key.get(..20).unwrap()), "a key is never repeated: {cut}");

    let listed = shell.json(&["key", "list", "acme"]).await;
    let id = listed[0]["key_id"].as_str().unwrap();
    assert!(!listed.to_string().contains(&key));

    let limits = ["--allow-model", "gpt-*", "--max-tokens", "20K", "--max-cost", "0.5"];
    shell.run(&[&["key", "update", "acme", id][..], &limits].concat()).await.succeeded();
    shell.run(&["key", "update", "acme", id, "--name", "batch"]).await.succeeded();
    let updated = shell.json(&["key", "update", "acme", id, "--clear", "max-cost"]).await;
    assert_eq!(updated["name"], "batch");
    assert_eq!(updated["allowed_models"][0], "gpt-*");
    assert_eq!(updated["max_tokens_per_request"], 20_000);
    assert!(updated["max_cost_per_request"].is_null());

    let rotated = shell.json(&["key", "rotate", id, "--overlap", "1h"]).await;
    assert_eq!(rotated["rotated_from"], id);
    let revoked = shell.json(&["key", "revoke", id, "--reason", "leaked"]).await;
    assert_eq!(revoked["status"], "revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_is_changed_field_by_field() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    let create = "account create globex --name Globex --currency EUR --payment-terms net-30 \
                  --credit-limit 5000 --legal-name Globex --address-line-1 Ring --city Berlin \
                  --postal-code 10115 --country DE --tax-id DE123456789 \
                  --tax-treatment reverse-charge --purchase-order 4711 \
                  --accounts-payable-email ap@globex.example --discount 5 \
                  --model-discount gpt-*=10";
    let created = shell.json(&create.split_whitespace().collect::<Vec<_>>()).await;
    assert_eq!(created["payment_terms"], "net-30");
    assert_eq!(created["tax_treatment"], "reverse-charge");

    let update = ["account", "update", "globex", "--credit-limit", "10000", "--purchase-order", ""];
    let updated = shell.json(&update).await;
    let limit = &updated["credit_limit"];
    assert_eq!(
        (limit["amount"].as_str(), limit["currency_code"].as_str()),
        (Some("10000"), Some("EUR"))
    );
    assert!(updated["purchase_order"].is_null());
    assert_eq!(updated["city"], "Berlin");
    assert_eq!(updated["model_discounts"][0], "gpt-*=10");

    let suspended = shell.json(&["account", "suspend", "globex", "--reason", "overdue"]).await;
    assert_eq!(suspended["status"], "suspended");
    let resumed = shell.json(&["account", "resume", "globex", "--reason", "paid"]).await;
    assert_eq!(resumed["status"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_payment_is_credited_once() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    shell.customer("acme", "5").await;
    let again = ["credit", "top-up", "acme", "5", "--method", "visa", "--reference", "ch_acme"];
    let again = shell.json(&again).await;
    assert_eq!(again["duplicate"], true);
    assert_eq!(again["credits"]["amount"], "5");

    shell.run(&["credit", "grant", "acme", "2", "--reason", "welcome"]).await.succeeded();
    let withdrawn = shell.json(&["credit", "withdraw", "acme", "1.5", "--reason", "slip"]).await;
    assert_eq!(withdrawn["promotional"]["amount"], "0.5");
    let refund = ["credit", "refund", "acme", "6", "--method", "visa", "--reference", "re_1"];
    let refused = shell.run(&[&refund[..], &["--reason", "asked"]].concat()).await.failed(1);
    assert!(refused.contains("reason: "), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_launch_articles_table_comes_from_the_shipped_catalogue() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    let imported = shell.json(&["model", "import", "--shipped"]).await;
    assert_eq!(imported["import"]["models_added"], 184);
    let again = shell.json(&["model", "import", "--shipped"]).await;
    assert_eq!(again["import"]["prices_unchanged"], 184);

    let compare = ["model", "compare", "--tokens", "5M", "deepseek-ai/DeepSeek-V4-Flash", "gpt-4o"];
    let table = shell.run(&compare).await.succeeded();
    let rows: Vec<Vec<&str>> =
        table.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
    let expected = [
        ["5,000,000", "$1.25", "$50.00", "97.5"],
        ["50,000,000", "$12.50", "$500.00", "97.5"],
        ["500,000,000", "$125.00", "$5,000.00", "97.5"],
        ["5,000,000,000", "$1,250.00", "$50,000.00", "97.5"],
    ];
    assert_eq!(rows, expected, "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_file_that_is_broken_half_way_is_not_imported() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prices.csv");
    std::fs::write(&path, "model,input,output\nacme/parrot,1,2\nacme/owl,cheap,2\n").unwrap();
    let path = path.to_str().unwrap();
    let said = shell.run(&["model", "import", path]).await.failed(1);
    assert!(said.contains("was not imported"), "{said}");
    assert_eq!(shell.json(&["model", "list", "--unavailable"]).await, serde_json::json!([]));
    let missing = shell.run(&["model", "import", "/nowhere/prices.csv"]).await.failed(1);
    assert!(missing.contains("/nowhere/prices.csv"), "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn books_that_do_not_agree_end_with_one() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    shell.customer("acme", "5").await;
    shell.run(&["ledger", "verify"]).await.succeeded();
    let trial = shell.json(&["ledger", "trial-balance"]).await;
    assert_eq!(trial["totals"][0]["balanced"], true);
    let transfers = shell.json(&["ledger", "transfers", "acme"]).await;
    assert_eq!(transfers[0]["credit"], "2000");

    let pool = sqlx::PgPool::connect_with(server.database.clone()).await.unwrap();
    sqlx::raw_sql("UPDATE account_funds SET credits = credits + 1").execute(&pool).await.unwrap();
    let ran = shell.run(&["ledger", "verify"]).await;
    assert!(ran.out.contains("FINDING"), "{ran:#?}");
    let said = ran.failed(1);
    assert!(said.contains("do not agree"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_seen_enough_ends_a_command_quietly() {
    let script = "set -o pipefail; \"$TOLLGATE\" completions bash | head -n 1";
    let mut bash = Command::new("bash");
    let output = bash.args(["-c", script]).env("TOLLGATE", TOLLGATE).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_exits_with_zero_and_a_denial_with_one() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    let key = shell.customer("acme", "5").await;
    let ask = |model: &'static str| {
        let ask = ["authorization", "authorize", "--key", &key, "--model", model, "--input", "1K"];
        [&ask[..], &["--max-output", "500", "--output", "json"]].concat()
    };
    let granted = shell.run(&ask("gpt-4o")).await.succeeded();
    let granted: Value = serde_json::from_str(&granted).unwrap();
    assert_eq!(granted["decision"], "granted");
    let reserved = shell.json(&["authorization", "reservations"]).await;
    assert_eq!(reserved[0]["authorization_id"], granted["authorization_id"]);
    let token = granted["token"].as_str().unwrap();
    let cancelled = shell.json(&["authorization", "cancel", token]).await;
    assert_eq!(cancelled["released"], granted["reserved"]);

    let denied = shell.run(&ask("Pro/deepseek-ai/DeepSeek-V3.2")).await;
    let answer: Value = serde_json::from_str(&denied.out).unwrap();
    assert_eq!(answer["reason"], "PRO_KEY_REQUIRED");
    denied.failed(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_tells_its_story_again_on_the_same_data() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    let first = shell.run(&["demo", "--next"]).await.succeeded();
    for part in ["CREDIT_LIMIT_EXCEEDED", "INSUFFICIENT_CREDITS", "reduced", "grpcurl", "Clean"] {
        assert!(first.contains(part), "{part} is missing in\n{first}");
    }
    let second = shell.run(&["demo"]).await.succeeded();
    assert!(second.contains("enterprise-2"), "{second}");
    shell.run(&["ledger", "verify"]).await.succeeded();
}

/// A file of the test's own folder, as text.
pub(crate) fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

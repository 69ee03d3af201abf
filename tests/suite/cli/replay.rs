//! `tollgate replay`: totals that agree with the books, on a trace of our own and on recorded ones.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use rust_decimal::Decimal;
use serde_json::Value;

use super::{Shell, text_of};
use crate::harness::{process::ServerProcess, server::TestServer, shared_data};

const MODELS: [&str; 4] = ["--model", "deepseek-ai/DeepSeek-V4-Flash=3", "--model", "gpt-4o=1"];

/// A trace of so many requests, ten milliseconds apart.
fn trace(folder: &Path, requests: u64) -> PathBuf {
    let mut text = "TIMESTAMP,ContextTokens,GeneratedTokens\n".to_owned();
    for row in 0..requests {
        let (seconds, hundredths) = (row / 100 % 60, row % 100);
        let (context, generated) = (row * 37 % 4000, row * 13 % 700);
        writeln!(text, "2026-11-01 10:00:{seconds:02}.{hundredths:02}00000,{context},{generated}")
            .unwrap();
    }
    let path = folder.join("trace.csv");
    std::fs::write(&path, text).unwrap();
    path
}

fn replay<'a>(trace: &'a Path, key: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let command = ["replay", trace.to_str().unwrap(), "--key", key, "--as-fast-as-possible"];
    [&command[..], &MODELS, more].concat()
}

fn charged(totals: &Value) -> Decimal {
    totals["charged"]["amount"].as_str().unwrap().parse().unwrap()
}

/// By event id, what was acknowledged; an id that is there twice fails.
fn acknowledged(path: &Path) -> BTreeMap<String, Decimal> {
    let mut events = BTreeMap::new();
    for line in text_of(path).lines() {
        let (id, rest) = line.split_once(',').unwrap();
        let (amount, currency) = rest.split_once(',').unwrap();
        assert_eq!(currency, "USD");
        assert!(events.insert(id.to_owned(), amount.parse().unwrap()).is_none(), "{id} twice");
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_ends_with_totals_that_the_books_confirm() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    let key = shell.customer("acme", "1000").await;
    let folder = tempfile::tempdir().unwrap();
    let trace = trace(folder.path(), 400);
    let acks = folder.path().join("acks");

    let result =
        shell.json(&replay(&trace, &key, &["--acknowledged", acks.to_str().unwrap()])).await;
    let totals = &result["totals"];
    assert_eq!(totals["requests"], 400);
    assert_eq!(totals["granted"], 400);
    let rows = (0..400_u64).map(|row| (row * 37 % 4000, row * 13 % 700));
    assert_eq!(totals["input_tokens"], rows.clone().map(|row| row.0).sum::<u64>());
    assert_eq!(totals["output_tokens"], rows.map(|row| row.1).sum::<u64>());
    for line in result["comparison"].as_array().unwrap() {
        assert_eq!(line["agrees"], true, "{result:#}");
    }
    let events = acknowledged(&acks);
    assert_eq!(events.len(), 400);
    assert_eq!(events.values().sum::<Decimal>(), charged(totals));

    let balance = shell.json(&["balance", "acme"]).await;
    let left: Decimal = balance["credits"]["amount"].as_str().unwrap().parse().unwrap();
    assert_eq!(Decimal::from(1000) - left, charged(totals));
    shell.run(&["ledger", "verify"]).await.succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_beyond_the_funds_counts_its_denials_and_still_agrees() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    let key = shell.customer("acme", "0.10").await;
    let folder = tempfile::tempdir().unwrap();
    let trace = trace(folder.path(), 200);
    let result = shell.json(&replay(&trace, &key, &[])).await;
    assert_eq!(result["denied"][0]["reason"], "INSUFFICIENT_CREDITS");
    let denied = result["totals"]["denied"].as_u64().unwrap();
    assert!(denied > 0);
    assert_eq!(result["totals"]["granted"].as_u64().unwrap() + denied, 200);
    assert!(charged(&result["totals"]) <= "0.10".parse().unwrap());
    let balance = shell.json(&["balance", "acme"]).await;
    assert_eq!(balance["overdrawn"]["amount"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_row_is_named_by_its_line_and_the_rest_goes_on() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    let key = shell.customer("acme", "10").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.csv");
    let rows = "2026-11-01 10:00:00,10,5\n2026-11-01 10:00:01,ten,5\n2026-11-01 10:00:02,10,5\n";
    std::fs::write(&path, format!("TIMESTAMP,ContextTokens,GeneratedTokens\n{rows}")).unwrap();
    let ran = shell.run(&replay(&path, &key, &["--output", "json"])).await;
    assert!(ran.err.contains("line 3 is left out"), "{ran:#?}");
    let result: Value = serde_json::from_str(&ran.succeeded()).unwrap();
    assert_eq!(result["totals"]["granted"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_done_already_charges_nothing_more() {
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    let key = shell.customer("acme", "100").await;
    let folder = tempfile::tempdir().unwrap();
    let trace = trace(folder.path(), 60);
    let state = folder.path().join("state");
    let resume = ["--resume-file", state.to_str().unwrap()];
    let half = [&resume[..], &["--limit", "30"]].concat();
    shell.run(&replay(&trace, &key, &half)).await.succeeded();
    let whole = shell.json(&replay(&trace, &key, &resume)).await;
    let again = shell.json(&replay(&trace, &key, &resume)).await;
    assert_eq!(whole["totals"]["granted"], 60);
    assert_eq!(whole["totals"]["charged"], again["totals"]["charged"]);
    let usage = shell.json(&["usage", "list", "acme", "--all"]).await;
    assert_eq!(usage.as_array().unwrap().len(), 60);
    let other = [&["--model", "Qwen/Qwen3-32B"][..], &resume].concat();
    let refused = shell.run(&replay(&trace, &key, &other)).await.failed(64);
    assert!(refused.contains("belongs to a replay of trace.csv"), "{refused}");
}

/// Whatever was acknowledged before the server was killed is there once, and whatever was on its
/// way is charged once.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_on_after_kill_nine_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let trace = trace(folder.path(), 3000);
    let (state, acks) = (folder.path().join("state"), folder.path().join("acks"));
    let files = [
        "--resume-file",
        state.to_str().unwrap(),
        "--acknowledged",
        acks.to_str().unwrap(),
        "--patience",
        "0s",
    ];
    let mut server = ServerProcess::start(&data);
    let operator = || text_of(&data.join("operator.jwt"));
    let shell = Shell::at(&server.endpoint(), &operator());
    let key = shell.customer("acme", "1000").await;

    let command = replay(&trace, &key, &files);
    let (ran, ()) = tokio::join!(shell.run(&command), async {
        while !acks.exists() || text_of(&acks).lines().count() < 300 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        server.kill();
    });
    assert_ne!(ran.code, 0, "the server was killed in its middle: {ran:#?}");
    let before = acknowledged(&acks);
    assert!((300..3000).contains(&before.len()), "{}", before.len());
    drop(server);

    let server = ServerProcess::start(&data);
    let shell = Shell::at(&server.endpoint(), &operator());
    let result = shell.json(&replay(&trace, &key, &files)).await;
    assert_eq!(result["totals"]["granted"], 3000, "{result:#}");
    let events = acknowledged(&acks);
    assert_eq!(events.len(), 3000);
    let listed = shell.json(&["usage", "list", "acme", "--all"]).await;
    let listed: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["event_id"].as_str().unwrap())
        .collect();
    assert_eq!(listed.len(), 3000, "an event that nobody was told of was charged");
    assert!(listed.iter().all(|id| events.contains_key(*id)));
    shell.run(&["ledger", "verify"]).await.succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_conversation_trace_agrees_with_the_books() {
    recorded("azure-llm-2023-conversation.csv").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_code_trace_agrees_with_the_books() {
    recorded("azure-llm-2023-code.csv").await;
}

async fn recorded(name: &str) {
    let Some(text) = shared_data::read(name) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let server = TestServer::start().await;
    let shell = Shell::of(&server);
    let key = shell.customer("acme", "10000").await;
    let result = shell.json(&replay(&path, &key, &["--limit", "2000"])).await;
    assert_eq!(result["totals"]["granted"], 2000, "{result:#}");
    assert!(charged(&result["totals"]) > Decimal::ZERO);
}

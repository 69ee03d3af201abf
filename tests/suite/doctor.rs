//! `tollgate doctor`: whatever can be wrong with an installation is made wrong for real, found, mended,
//! and found no more.

mod business;
mod given_database;

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use tokio::process::Command;
use tollgate::{
    cli::client::Client,
    proto::{CheckInstallationRequest, InstallationCheck, InstallationFinding, Severity},
};

use crate::harness::{
    postgres::TOLLGATE,
    process::{ServerProcess, reachable_directory},
    server::TestServer,
};

/// How long something that mends itself may take.
const PATIENCE: Duration = Duration::from_secs(20);

async fn checks(client: &Client) -> Vec<InstallationCheck> {
    let request = CheckInstallationRequest {};
    client.installation().check_installation(request).await.unwrap().into_inner().checks
}

/// The findings of a check as `severity: problem → remedy`.
async fn found(client: &Client, name: &str) -> Vec<String> {
    let checks = checks(client).await;
    let check = checks.iter().find(|check| check.name == name);
    let check = check.unwrap_or_else(|| panic!("there is no check {name}"));
    let told = check.findings.iter().map(|finding| {
        for sentence in [&finding.problem, &finding.remedy] {
            assert!(sentence.len() > 20 && sentence.ends_with('.'), "{sentence:?} is no sentence");
        }
        let severity = finding.severity().as_str_name().replace("SEVERITY_", "").to_lowercase();
        format!("{severity}: {} → {}", finding.problem, finding.remedy)
    });
    told.collect()
}

/// One finding, which begins and goes on like this. Returns it.
#[track_caller]
fn one(found: &[String], begins: &str) -> String {
    assert!(
        found.len() == 1 && found[0].starts_with(begins),
        "{begins:?} is not alone in {found:#?}"
    );
    found[0].clone()
}

/// Waits until a check has no finding any more.
async fn gone(client: &Client, name: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = found(client, name).await;
        if found.is_empty() {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{name} still finds {found:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// `tollgate doctor` with these flags: its status, its output, and what it says.
async fn doctor(flags: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(TOLLGATE);
    command.arg("doctor").args(flags).stdin(Stdio::null()).kill_on_drop(true);
    for name in ["TOLLGATE_DATA_DIR", "TOLLGATE_ENDPOINT", "TOLLGATE_TOKEN"] {
        command.env_remove(name);
    }
    let output = command.output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_installation_is_healthy_and_says_what_was_looked_at() {
    let directory = reachable_directory();
    let data_dir = directory.path().join("data");
    let server = ServerProcess::start(&data_dir);
    let endpoint = server.endpoint();
    let flags = ["--endpoint", &endpoint, "--data-dir", data_dir.to_str().unwrap()];
    let (code, out, err) = doctor(&flags).await;
    // The disk of whoever runs the tests is theirs.
    if !out.contains("the disk of") {
        assert_eq!(code, 0, "{out}{err}");
        assert!(err.starts_with("healthy: 20 checks"), "{err}");
    }
    assert!(out.contains("fsync on, full_page_writes on, synchronous_commit on"), "{out}");
    assert!(out.contains("1 server alive (tollgate "), "{out}");
    let (_, json, _) = doctor(&[&flags[..], &["--output", "json"]].concat()).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["checks"].as_array().unwrap().len(), 20);
    let archive = json["findings"].as_array().unwrap().iter().find(|one| one["check"] == "archive");
    assert_eq!(archive.unwrap()["severity"], "notice");
    assert!(server.stop().await.success());

    let (code, json, err) = doctor(&[&flags[..], &["--output", "json"]].concat()).await;
    assert_eq!(code, 69, "{err}");
    assert!(err.contains("no server answers at") && err.contains("tollgate serve"), "{err}");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["findings"][0]["severity"], "critical");
    assert_eq!(json["findings"][0]["check"], "answer");
}

#[tokio::test]
async fn only_operators_and_auditors_are_told() {
    let server = TestServer::start().await;
    for client in [server.operator().await, server.auditor().await] {
        assert_eq!(checks(&client).await.len(), 19);
    }
    let request = CheckInstallationRequest {};
    let refused = server.gateway().await.installation().check_installation(request).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::PermissionDenied);
    let answer = server.operator().await.installation().check_installation(request).await;
    let answer = answer.unwrap().into_inner();
    let worst = answer.checks.iter().flat_map(|check| &check.findings);
    let worst = worst.map(InstallationFinding::severity).max();
    assert_eq!(answer.healthy, worst.is_none_or(|worst| worst <= Severity::Notice));
}

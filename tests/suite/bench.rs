//! The benchmark, as the real program: every scene runs, the books are right after it, and nothing
//! of it is left. What it measures is not judged here.

use std::process::Command;

use serde_json::Value;

use crate::harness::postgres::TOLLGATE;

#[tokio::test]
async fn every_scene_is_measured_beside_its_limit_and_the_books_are_right_after_it() {
    let result = bench(&[]).await;

    let measurements = result["measurements"].as_array().unwrap();
    // Five kinds of calls at three loads, and seven kinds of streams and batches, over one, a
    // hundred and a thousand accounts.
    assert_eq!(measurements.len(), 3 * (5 * 3 + 7));
    for row in measurements {
        assert!(row["per_second"].as_u64().unwrap() > 0, "{row}");
        let is_limit = row["scene"].as_str().unwrap().starts_with("echo")
            || ["rows inserted alone", "batch transaction, one writer"]
                .contains(&row["scene"].as_str().unwrap());
        assert_eq!(row["limit"].is_null(), is_limit, "{row}");
    }
    let targets = result["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 3 * 7 + 3);
    assert!(targets.iter().all(|target| target["met"].is_boolean()));
}

#[tokio::test]
async fn a_history_is_compared_with_an_empty_database_and_drawn() {
    let drawn = tempfile::tempdir().unwrap();
    let chart = drawn.path().join("history.svg");
    let result = bench(&["--history", "20000", "--chart", chart.to_str().unwrap()]).await;
    let grown = result["posted_as_it_grew"].as_array().unwrap();
    assert_eq!(grown.len(), 20);
    assert_eq!(grown[19]["events"], 20_000);
    assert_eq!(result["compared"].as_array().unwrap().len(), 4);
    assert_eq!(result["reads"].as_array().unwrap().len(), 3 * 2);
    let read = result["read_beside"].as_array().unwrap();
    assert_eq!(read.len(), 6, "{read:?}");
    let targets = result["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 4 + 4 + 6 + 1 + 4);
    assert!(targets.iter().all(|target| target["met"].is_boolean()));
    let chart = std::fs::read_to_string(chart).unwrap();
    assert!(chart.starts_with("<svg") && chart.contains("batch transaction"), "{chart}");
}

#[tokio::test]
async fn more_than_can_be_served_is_refused_and_the_others_are_served() {
    let result = bench(&["--overload", "1"]).await;
    let phases = result["overload"].as_array().unwrap();
    assert_eq!(phases.len(), 6);
    for phase in phases {
        assert!(phase["served_per_second"].as_u64().unwrap() > 0, "{phase}");
    }
    let targets = result["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 7);
    assert!(targets.iter().all(|target| target["met"].is_boolean()));
}

/// A run of a few calls, after which the books are right and nothing is left.
async fn bench(arguments: &[&str]) -> Value {
    let scratch = tempfile::tempdir().unwrap();
    let mut bench = Command::new(TOLLGATE);
    bench.args(["bench", "--smoke", "--output", "json", "--scratch"]).arg(scratch.path());
    bench.args(arguments);
    let ran = tokio::task::spawn_blocking(move || bench.output().unwrap()).await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let result: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(result["run"]["books_are_right"], true, "{}", result["run"]);
    assert_eq!(scratch.path().read_dir().unwrap().count(), 0);
    result
}

//! The benchmark, as the real program: every scene runs, the books are right after it, and nothing
//! of it is left. What it measures is not judged here.

use std::process::Command;

use serde_json::Value;

use crate::harness::postgres::TOLLGATE;

#[tokio::test]
async fn every_scene_is_measured_beside_its_limit_and_the_books_are_right_after_it() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        let mut bench = Command::new(TOLLGATE);
        bench.args(["bench", "--smoke", "--output", "json", "--scratch"]).arg(directory);
        bench.output().unwrap()
    });
    let ran = ran.await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let result: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(result["run"]["books_are_right"], true, "{}", result["run"]);

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
    assert_eq!(scratch.path().read_dir().unwrap().count(), 0);
}

//! Real data for tests, wherever it is at hand; it is not part of the repository.

use std::path::PathBuf;

/// The text of a file in `$TOLLGATE_SHARED_DATA`, or else beside the repository in `shared/data`.
/// Says in one line that a test is skipped where there is none.
pub(crate) fn read(name: &str) -> Option<String> {
    let folder = std::env::var_os("TOLLGATE_SHARED_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data")),
        PathBuf::from,
    );
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        eprintln!("skipped: {} is not there", path.display());
    }
    text
}

//! A trace of requests, for `tollgate replay`.

use tollgate::cli::replay::trace::Trace;

/// Each row is a request or named as broken, in the file's order, and a limit takes the same rows.
///
/// # Panics
/// When that does not hold.
pub fn holds(input: &[u8]) -> bool {
    let Ok(trace) = Trace::read(input, None) else { return false };
    assert!(trace.requests.windows(2).all(|pair| pair[0].row < pair[1].row));
    let rows = u64::try_from(trace.requests.len() + trace.broken.len()).expect("it fits");
    assert!(trace.requests.last().is_none_or(|last| last.row <= rows));
    let _ = trace.complaints();
    let half = Trace::read(input, Some(rows / 2)).expect("the same file is a trace");
    assert!(trace.requests.starts_with(&half.requests));
    assert!(trace.broken.starts_with(&half.broken));
    !trace.requests.is_empty()
}

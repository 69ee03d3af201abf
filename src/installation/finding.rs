//! What a check says.

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// To be known; nothing has to be done now.
    Notice,
    /// Something will go wrong, or goes wrong for some.
    Warning,
    /// A promise is broken, or money is being lost.
    Critical,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, with the figure; one sentence.
    pub problem: String,
    /// What to do; one sentence.
    pub remedy: String,
}

impl Finding {
    pub(super) fn notice(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Notice, problem: problem.into(), remedy: remedy.into() }
    }

    pub(super) fn warning(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::notice(problem, remedy) }
    }

    pub(super) fn critical(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Critical, ..Self::notice(problem, remedy) }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Such as `durability`; stable across releases.
    pub name: &'static str,
    /// What was looked at, with its figures.
    pub looked_at: String,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

impl Check {
    pub(super) fn new(
        name: &'static str,
        looked_at: impl Into<String>,
        findings: impl IntoIterator<Item = Finding>,
    ) -> Self {
        Self { name, looked_at: looked_at.into(), findings: findings.into_iter().collect() }
    }
}

/// A span of time as people say it: the two largest units at most.
pub(super) fn span(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        seconds => format!("{} days {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A size as people say it, rounded down.
pub(super) fn size(bytes: i64) -> String {
    match bytes.max(0) {
        bytes @ 0..10_240 => format!("{bytes} bytes"),
        bytes @ 10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        bytes @ 10_485_760..10_737_418_240 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} GiB", bytes >> 30),
    }
}

/// `1 server`, `2 servers`.
pub(super) fn count(number: i64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_sizes_and_counts_read_as_people_say_them() {
        assert_eq!([span(-5), span(119), span(120)], ["0 s", "119 s", "2 min"]);
        assert_eq!([span(7_260), span(200_000)], ["2 h 1 min", "2 days 7 h"]);
        assert_eq!([size(10), size(20_480), size(20 << 20)], ["10 bytes", "20 KiB", "20 MiB"]);
        assert_eq!(size(64 << 30), "64 GiB");
        assert_eq!([count(1, "server"), count(0, "server")], ["1 server", "0 servers"]);
    }
}

//! A request trace: `TIMESTAMP,ContextTokens,GeneratedTokens`, as cloud providers publish them.

use std::{io::Read, path::Path};

use chrono::NaiveDateTime;

use crate::cli::error::CliError;

/// The columns a trace has.
const COLUMNS: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];
/// Broken rows that are named before the rest is only counted.
const NAMED_ROWS: usize = 10;

/// One request of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Its number in the trace, from 1; a broken row has a number, too.
    pub row: u64,
    /// Since the first request.
    pub offset: std::time::Duration,
    /// Prompt tokens.
    pub context_tokens: u64,
    /// Answer tokens.
    pub generated_tokens: u64,
}

/// A trace that was read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// In the order of the file.
    pub requests: Vec<Request>,
    /// Rows that are no requests: the line, and what is wrong there.
    pub broken: Vec<(u64, String)>,
}

impl Trace {
    /// Reads a file; at most so many rows.
    pub fn open(path: &Path, limit: Option<u64>) -> Result<Self, CliError> {
        let file = std::fs::File::open(path).map_err(|cause| CliError::file(path, cause))?;
        let trace = Self::read(file, limit).map_err(|problem| {
            CliError::failed(format!("{} is not a trace: {problem}", path.display()))
        })?;
        if trace.requests.is_empty() {
            return Err(CliError::failed(format!("{} has no requests", path.display())));
        }
        Ok(trace)
    }

    /// Reads a trace; at most so many rows.
    ///
    /// # Errors
    /// A sentence, if it is of another shape. A row that is no request is no error.
    pub fn read(input: impl Read, limit: Option<u64>) -> Result<Self, String> {
        // With the reader's own handling of CRLF, the line of a record is that of the one before;
        // this way the carriage return is trimmed away.
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .terminator(csv::Terminator::Any(b'\n'))
            .flexible(true)
            .from_reader(input);
        let header = reader.headers().map_err(|error| error.to_string())?;
        if header != &csv::StringRecord::from(COLUMNS.to_vec()) {
            return Err(format!("its first line is not {}", COLUMNS.join(",")));
        }
        let mut trace = Self { requests: Vec::new(), broken: Vec::new() };
        let mut start = None;
        let wanted = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        for (row, record) in (1..).zip(reader.records()).take(wanted) {
            let read = record.map_err(|error| (line_of(&error), error.to_string()));
            let parsed = read.and_then(|record| {
                let line = record.position().map_or(0, csv::Position::line);
                parse(&record).map_err(|problem| (line, problem))
            });
            match parsed {
                Ok((time, context_tokens, generated_tokens)) => {
                    let start = *start.get_or_insert(time);
                    // A request that is noted late comes at once.
                    let offset = (time - start).to_std().unwrap_or_default();
                    trace.requests.push(Request { row, offset, context_tokens, generated_tokens });
                }
                Err(broken) => trace.broken.push(broken),
            }
        }
        Ok(trace)
    }

    /// What is wrong with its rows, line by line, for people.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let named = self.broken.iter().take(NAMED_ROWS);
        let mut lines: Vec<String> =
            named.map(|(line, problem)| format!("line {line} is left out: {problem}")).collect();
        if let Some(more @ 1..) = self.broken.len().checked_sub(NAMED_ROWS) {
            lines.push(format!("and {more} more lines"));
        }
        lines
    }
}

fn line_of(error: &csv::Error) -> u64 {
    error.position().map_or(0, csv::Position::line)
}

fn parse(record: &csv::StringRecord) -> Result<(NaiveDateTime, u64, u64), String> {
    let mut fields = record.iter();
    let (Some(time), Some(context), Some(generated), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(format!("it has {} fields instead of {}", record.len(), COLUMNS.len()));
    };
    let time = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(time.trim_end_matches('Z'), format).ok())
        .ok_or_else(|| format!("{time:?} is not a time like 2023-11-16 18:17:03.9799600"))?;
    let tokens = |column: &str, text: &str| -> Result<u64, String> {
        text.parse().map_err(|_| format!("{column} {text:?} is not a count of tokens"))
    };
    Ok((time, tokens("ContextTokens", context)?, tokens("GeneratedTokens", generated)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\r
2023-11-16 18:15:46.6805900,374,44\r
2023-11-16 18:15:50.9951690,396,109\r
yesterday,1,2\r
2023-11-16 18:15:51.2224670,-3,55\r
2023-11-16 18:15:51.3910170,91\r
2023-11-16 18:15:45.0000000,91,16\r
";

    #[test]
    fn requests_keep_their_pace_and_broken_rows_are_named_by_line() {
        let trace = Trace::read(TRACE.as_bytes(), None).unwrap();
        let rows: Vec<u64> = trace.requests.iter().map(|request| request.row).collect();
        assert_eq!(rows, [1, 2, 6]);
        let offsets: Vec<u128> =
            trace.requests.iter().map(|request| request.offset.as_micros()).collect();
        assert_eq!(offsets, [0, 4_314_579, 0]);
        let lines: Vec<u64> = trace.broken.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [4, 5, 6]);
        assert_eq!(trace.complaints().len(), 3);
    }

    #[test]
    fn a_limit_counts_rows_so_that_a_continued_replay_sees_the_same_ones() {
        let trace = Trace::read(TRACE.as_bytes(), Some(3)).unwrap();
        assert_eq!((trace.requests.len(), trace.broken.len()), (2, 1));
    }

    #[test]
    fn a_file_of_something_else_is_no_trace() {
        for text in ["", "a,b,c\n1,2,3\n", "TIMESTAMP,ContextTokens\n"] {
            assert!(Trace::read(text.as_bytes(), None).is_err(), "{text:?}");
        }
        assert!(
            Trace::read(&b"TIMESTAMP,ContextTokens,GeneratedTokens\n\xff,1,2\n"[..], None)
                .is_ok_and(|trace| trace.broken.len() == 1)
        );
    }
}
